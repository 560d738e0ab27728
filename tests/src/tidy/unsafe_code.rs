//! `#![forbid(unsafe_code)]` stands where DESIGN, section 3, says so; unsafe lives in `bindings/`.

use syn::{AttrStyle, Meta};

use super::source::{File, Member};
use super::violation::Violation;

/// Folders whose crates hold unsafe code, or may (a benchmark counts allocations with an allocator of its own).
const MAY_HOLD_UNSAFE: [&str; 2] = ["bindings/", "benches"];

pub fn check(member: &Member) -> Vec<Violation> {
    if MAY_HOLD_UNSAFE.iter().any(|folder| member.folder.starts_with(folder)) {
        return Vec::new();
    }
    member
        .files
        .iter()
        .filter(|file| is_root(file) && !forbids_unsafe(file))
        .map(|file| {
            Violation::new(
                format!("{}/{}", member.folder, file.path),
                "lacks #![forbid(unsafe_code)] at its top",
            )
        })
        .collect()
}

fn is_root(file: &File) -> bool {
    file.path == "src/lib.rs" || file.path == "src/main.rs" || file.path.starts_with("src/bin/")
}

fn forbids_unsafe(file: &File) -> bool {
    file.syntax.attrs.iter().any(|attribute| match (&attribute.style, &attribute.meta) {
        (AttrStyle::Inner(_), Meta::List(list)) => {
            list.path.is_ident("forbid")
                && list.tokens.to_string().split(',').any(|lint| lint.trim() == "unsafe_code")
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::parse;
    use super::*;

    fn member(folder: &str, text: &str) -> Member {
        let files = vec![parse("src/lib.rs", text), parse("src/other.rs", "")];
        Member { name: "x".into(), folder: folder.into(), dependencies: Vec::new(), files }
    }

    #[test]
    fn a_library_that_does_not_forbid_unsafe_is_found() {
        assert_eq!(check(&member("userstack/x", "#![warn(unsafe_code)]")).len(), 1);
    }

    #[test]
    fn bindings_may_hold_unsafe() {
        assert_eq!(check(&member("bindings/x", "")), Vec::new());
        assert_eq!(check(&member("userstack/x", "#![forbid(unsafe_code)]")), Vec::new());
    }
}
