//! A path rewrite as Envoy says it.
//!
//! Envoy replaces the matched bytes, Gateway API whole path elements; the two differ where either side is `/`, and there
//! a regular expression says it (`/a/b` with `/a` -> `/` is `/b`, not `//b`).

use model::table::{PathMatch, PathRewrite};

use super::error::FieldError;
use super::wire::encode_regex;
use crate::envoy::string_matcher::RegexMatchAndSubstitute;

/// The whole path; Envoy keeps the query out of it.
const WHOLE_PATH: &str = "^/.*$";
/// What a replacement of the prefix `/` removes: one slash, for a path may begin with two.
const ROOT: &str = "^/";
/// Ends the expression of a prefix that is replaced by nothing: the one slash behind it goes too, if there is one.
const SLASH: &str = "/?";

/// What goes into `prefix_rewrite` or `regex_rewrite` of a route or redirect.
#[derive(Debug, PartialEq)]
pub(super) enum EnvoyRewrite {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

pub(super) fn encode(rewrite: &PathRewrite, path: &PathMatch) -> Result<EnvoyRewrite, FieldError> {
    let replacement = match rewrite {
        PathRewrite::Full(path) => return Ok(substitute(WHOLE_PATH, path)),
        PathRewrite::Prefix(replacement) => replacement.trim_end_matches('/'),
    };
    let PathMatch::Prefix(prefix) = path else {
        return Err(FieldError::unsupported("path", "replacing the prefix of a match that is none"));
    };
    let prefix = prefix.trim_end_matches('/');
    Ok(match (prefix, replacement) {
        ("", "") => EnvoyRewrite::Prefix("/".to_owned()),
        ("", replacement) => substitute(ROOT, &format!("{replacement}/")),
        (prefix, "") => substitute(&format!("^{}{SLASH}", quote(prefix)), "/"),
        (_, replacement) => EnvoyRewrite::Prefix(replacement.to_owned()),
    })
}

pub(super) fn decode_prefix(replacement: &str) -> PathRewrite {
    PathRewrite::Prefix(replacement.to_owned())
}

pub(super) fn decode_regex(message: &RegexMatchAndSubstitute) -> Result<PathRewrite, FieldError> {
    let pattern = message.pattern.as_ref().map_or("", |pattern| pattern.regex.as_str());
    let replacement = unescape(&message.substitution);
    match pattern {
        WHOLE_PATH => Ok(PathRewrite::Full(replacement)),
        ROOT => Ok(PathRewrite::Prefix(replacement.trim_end_matches('/').to_owned())),
        _ if pattern.starts_with('^') && pattern.ends_with(SLASH) && replacement == "/" => {
            Ok(PathRewrite::Prefix("/".to_owned()))
        }
        _ => Err(FieldError::unsupported("regex_rewrite", "a rewrite by any regular expression")),
    }
}

fn substitute(pattern: &str, replacement: &str) -> EnvoyRewrite {
    EnvoyRewrite::Regex(RegexMatchAndSubstitute {
        pattern: Some(encode_regex(pattern)),
        // RE2 reads a backslash as the start of a group's number.
        substitution: replacement.replace('\\', "\\\\"),
    })
}

fn unescape(substitution: &str) -> String {
    substitution.replace("\\\\", "\\")
}

/// Every byte that RE2 could read as syntax, escaped.
fn quote(literal: &str) -> String {
    let mut quoted = String::with_capacity(literal.len());
    for letter in literal.chars() {
        if letter.is_ascii_punctuation() && !matches!(letter, '/' | '_' | '-') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(prefix: &str, replacement: &str) -> EnvoyRewrite {
        let path = PathMatch::Prefix(prefix.to_owned());
        encode(&PathRewrite::Prefix(replacement.to_owned()), &path).unwrap()
    }

    fn regex(pattern: &str, substitution: &str) -> EnvoyRewrite {
        substitute(pattern, substitution)
    }

    #[test]
    fn a_prefix_replaced_by_a_prefix_is_envoys_own_rewrite() {
        assert_eq!(rewritten("/a", "/b"), EnvoyRewrite::Prefix("/b".to_owned()));
        assert_eq!(rewritten("/a/", "/b/"), EnvoyRewrite::Prefix("/b".to_owned()));
    }

    #[test]
    fn a_prefix_replaced_by_the_root_takes_one_slash_with_it() {
        assert_eq!(rewritten("/a.b", "/"), regex("^/a\\.b/?", "/"));
    }

    #[test]
    fn the_root_replaced_by_a_prefix_keeps_every_slash_behind_the_first() {
        assert_eq!(rewritten("/", "/b"), regex("^/", "/b/"));
    }

    #[test]
    fn a_prefix_rewrite_without_prefix_match_is_refused() {
        let exact = PathMatch::Exact("/a".to_owned());
        assert!(encode(&PathRewrite::Prefix("/b".to_owned()), &exact).is_err());
    }
}
