//! The module graph inside a crate has no cycle.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::module::{Module, ModulePath, edges};
use super::violation::Violation;

pub fn check(member: &str, modules: &BTreeMap<ModulePath, Module>) -> Vec<Violation> {
    let edges = edges(modules);
    let mut reported: BTreeSet<&ModulePath> = BTreeSet::new();
    let mut violations = Vec::new();
    for start in modules.keys() {
        if reported.contains(start) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(start, &edges) {
            reported.extend(&cycle);
            let names: Vec<String> = cycle.iter().chain([&start]).map(|path| display(path)).collect();
            violations
                .push(Violation::new(member, format!("modules name each other: {}", names.join(" -> "))));
        }
    }
    violations
}

/// The shortest way from `start` back to itself, breadth first.
fn shortest_cycle<'a>(
    start: &'a ModulePath,
    edges: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
) -> Option<Vec<&'a ModulePath>> {
    let mut came_from: BTreeMap<&ModulePath, &ModulePath> = BTreeMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut next = Vec::new();
        for at in front {
            for target in edges.get(at).into_iter().flatten() {
                if *target == start {
                    return Some(way_back(at, start, &came_from));
                }
                // The first way to a module is the shortest; a later one would bend the way back into a loop.
                if let Entry::Vacant(unseen) = came_from.entry(target) {
                    unseen.insert(at);
                    next.push(*target);
                }
            }
        }
        front = next;
    }
    None
}

fn way_back<'a>(
    last: &'a ModulePath,
    start: &'a ModulePath,
    came_from: &BTreeMap<&'a ModulePath, &'a ModulePath>,
) -> Vec<&'a ModulePath> {
    let mut way = vec![last];
    while way.last() != Some(&start) {
        let at = way.last().expect("the way has at least its last step");
        way.push(came_from[at]);
    }
    way.reverse();
    way
}

fn display(path: &[String]) -> String {
    if path.is_empty() { "crate".to_owned() } else { path.join("::") }
}

#[cfg(test)]
mod tests {
    use super::super::module::modules;
    use super::super::source::{Member, parse};
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| parse(path, text)).collect();
        let member = Member { name: "x".into(), folder: "x".into(), dependencies: Vec::new(), files };
        check("x", &modules(&member)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_modules_that_name_each_other_are_found() {
        let found = cycles(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B; pub struct A(B);"),
            ("src/b.rs", "pub struct B; fn f(_: super::a::A) {}"),
        ]);
        assert_eq!(found, ["x: modules name each other: a -> b -> a"]);
    }

    #[test]
    fn a_cycle_by_way_of_a_re_export_is_found() {
        let found = cycles(&[
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("src/a.rs", "use crate::B; pub struct A(B);"),
            ("src/b.rs", "use crate::{A}; pub struct B(A);"),
        ]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_child_that_names_what_its_user_defines_is_found() {
        let found = cycles(&[
            ("src/lib.rs", "mod tcp;"),
            ("src/tcp/mod.rs", "mod flow; pub struct Key; fn f() { flow::open() }"),
            ("src/tcp/flow.rs", "pub fn open(_: super::Key) {}"),
        ]);
        assert_eq!(found, ["x: modules name each other: tcp -> tcp::flow -> tcp"]);
    }

    #[test]
    fn a_cycle_behind_another_cycle_is_found_and_ends() {
        let found = cycles(&[
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use crate::b;"),
            ("src/b.rs", "use crate::c;"),
            ("src/c.rs", "use crate::{a, b};"),
        ]);
        assert_eq!(found, ["x: modules name each other: a -> b -> c -> a"]);
    }

    #[test]
    fn a_path_inside_a_macro_counts() {
        let found = cycles(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "fn f() { assert!(crate::b::g()); }"),
            ("src/b.rs", "use crate::a;"),
        ]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn facades_tests_and_visibility_make_no_cycle() {
        let found = cycles(&[
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B; pub struct Root;"),
            (
                "src/a.rs",
                "use crate::Root; pub(in crate::b) struct A; #[cfg(test)] mod tests { use crate::b::B; }",
            ),
            ("src/b.rs", "use crate::A; pub struct B(A); pub(crate) fn f() {}"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
