//! smoltcp is named in one file of the stack and nowhere else: it can be replaced there.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::source::Member;
use super::violation::Violation;

pub fn check(members: &[Member]) -> Vec<Violation> {
    let mut naming: Vec<String> = Vec::new();
    for member in members {
        for file in &member.files {
            if names(file.syntax.to_token_stream(), "smoltcp") {
                naming.push(format!("{}/{}", member.folder, file.path));
            }
        }
    }
    let inside = naming.iter().filter(|path| path.starts_with("userstack/stack/src/")).count();
    let mut violations: Vec<Violation> = naming
        .iter()
        .filter(|path| !path.starts_with("userstack/stack/src/"))
        .map(|path| Violation::new(path, "names smoltcp; only the stack may, in one file"))
        .collect();
    if inside > 1 {
        violations.push(Violation::new(
            "userstack/stack",
            format!("{inside} files name smoltcp: {}", naming.join(", ")),
        ));
    }
    violations
}

fn names(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => names(group.stream(), word),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::parse;
    use super::*;

    fn member(folder: &str, texts: &[&str]) -> Member {
        let files = texts.iter().enumerate().map(|(n, text)| parse(&format!("src/{n}.rs"), text)).collect();
        Member { name: "x".into(), folder: folder.into(), dependencies: Vec::new(), files }
    }

    #[test]
    fn a_second_file_or_another_crate_is_found() {
        let wire = "use smoltcp::wire::Ipv4Packet;";
        assert_eq!(check(&[member("userstack/stack", &[wire, wire])]).len(), 1);
        assert_eq!(check(&[member("dataplane/worker", &["fn f() { smoltcp::x() }"])]).len(), 1);
        assert_eq!(
            check(&[member("userstack/stack", &[wire, "// smoltcp is fine in a comment"])]),
            Vec::new()
        );
    }
}
