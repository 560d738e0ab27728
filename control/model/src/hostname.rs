//! Host names with wildcards: which covers which, and what two of them have in common.
//!
//! A name is exact (`a.example`), a suffix (`*.example`: one label or more before it) or [`ANY`].

use std::cmp::Reverse;

/// Every host.
pub(crate) const ANY: &str = "*";

/// Sorts names by the Gateway API's precedence: exact before suffix before any, then the longer before the shorter.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence {
    form: u8,
    length: Reverse<usize>,
}

pub(crate) fn precedence(name: &str) -> Precedence {
    let form = match name {
        ANY => 2,
        _ if name.starts_with("*.") => 1,
        _ => 0,
    };
    Precedence { form, length: Reverse(name.len()) }
}

/// Whether every host of `inner` is one of `outer`.
pub(crate) fn covers(outer: &str, inner: &str) -> bool {
    if outer == ANY || outer == inner {
        return true;
    }
    // `*.example` covers `a.example` and `*.a.example`: both end with `.example` and have more before it.
    outer.strip_prefix('*').is_some_and(|suffix| inner.len() > outer.len() - 1 && inner.ends_with(suffix))
}

/// The hosts that both names have, if any: always the narrower of the two.
pub(crate) fn intersection<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if covers(one, other) {
        Some(other)
    } else if covers(other, one) {
        Some(one)
    } else {
        None
    }
}

/// What a listener's name leaves of a route's names; empty: they have nothing in common.
pub(crate) fn attached(listener: Option<&str>, route: &[String]) -> Vec<String> {
    let listener = listener.unwrap_or(ANY);
    if route.is_empty() {
        return vec![listener.to_owned()];
    }
    let mut names: Vec<String> =
        route.iter().filter_map(|name| intersection(listener, name)).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_covers_one_or_more_labels_and_never_the_bare_name() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(covers("*.example.com", "a.b.example.com"));
        assert!(covers("*.example.com", "*.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "aexample.com"));
        assert!(!covers("*.b.example.com", "*.example.com"));
        assert!(covers(ANY, "*.example.com") && !covers("*.example.com", ANY));
    }

    #[test]
    fn the_gateway_apis_own_examples_of_intersection_hold() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let route = names(&["test.example.com", "*.example.com"]);
        assert_eq!(attached(Some("test.example.com"), &route), names(&["test.example.com"]));
        let route = names(&[
            "*.example.com",
            "test.example.com",
            "foo.test.example.com",
            "example.com",
            "test.example.net",
        ]);
        assert_eq!(
            attached(Some("*.example.com"), &route),
            names(&["*.example.com", "foo.test.example.com", "test.example.com"])
        );
        assert_eq!(attached(None, &[]), names(&["*"]));
        assert!(attached(Some("a.example"), &names(&["b.example"])).is_empty());
    }

    #[test]
    fn exact_names_go_before_suffixes_and_long_suffixes_before_short_ones() {
        let mut names = ["*", "*.example.com", "a.io", "*.b.example.com", "b.example.com"];
        names.sort_by_key(|name| precedence(name));
        assert_eq!(names, ["b.example.com", "a.io", "*.b.example.com", "*.example.com", "*"]);
    }
}
