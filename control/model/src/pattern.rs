//! Regular expressions of routes: what validation admits is what the data plane compiles.

use regex::{Regex, RegexBuilder};

/// The compiled size of one expression. The `regex` crate's own default is 10 MiB; a table may hold thousands.
pub const MOST_COMPILED_BYTES: usize = 256 * 1024;

/// `pattern`, to be matched against the whole of a path or value.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    check_alone(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

/// A pattern must stand by itself: `a)(b` would be valid only inside the group that [`whole`] puts around it.
fn check_alone(pattern: &str) -> Result<(), String> {
    build(pattern).map(drop)
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MOST_COMPILED_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("{pattern:?} needs more than {MOST_COMPILED_BYTES} bytes when compiled; make it simpler")
        }
        error => {
            let last = error.to_string();
            let reason = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("{pattern:?} is not a regular expression of the regex crate: {reason}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_value_only() {
        let pattern = whole("a|bc").unwrap();
        assert!(pattern.is_match("a") && pattern.is_match("bc"));
        assert!(!pattern.is_match("abc") && !pattern.is_match("xa"));
    }

    #[test]
    fn patterns_that_are_wrong_or_too_large_are_refused_with_the_reason() {
        assert!(whole("a)(b").unwrap_err().contains("unopened group"));
        assert!(whole("(?:[0-9a-z]{200}){200}").unwrap_err().contains("bytes when compiled"));
        assert!(whole("(?!a)").unwrap_err().contains("look-around"));
    }
}
