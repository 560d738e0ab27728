//! Every discard reason, and every defence, has a test that names it: as `Discard::Variant` or `Defence::Variant`, or by
//! its counter's name.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Item, ItemFn, ItemMacro, ItemMod};

use super::module::is_test;
use super::source::{File, Member};
use super::violation::Violation;

/// The macros in whose invocations reasons are listed, `Variant = "name",`, and the enums that they make.
const LISTS: [(&str, &str); 2] = [("discards", "Discard"), ("defences", "Defence")];

pub fn check(members: &[Member], scripts: &[String]) -> Vec<Violation> {
    let mut tests = Named::default();
    for member in members {
        for file in &member.files {
            tests.read(member, file);
        }
    }
    let mut violations = Vec::new();
    for member in members {
        for file in &member.files {
            for (list, variant, name) in reasons(file) {
                let scripted = || scripts.iter().any(|text| has_word(text, &name));
                if !tests.variants.contains(&variant)
                    && !tests.texts.iter().any(|text| has_word(text, &name))
                    && !scripted()
                {
                    let place = format!("{}/{}", member.folder, file.path);
                    violations
                        .push(Violation::new(place, format!("no test names {name} ({list}::{variant})")));
                }
            }
        }
    }
    violations
}

/// `(Enum, Variant, name)` of every reason that a file lists.
fn reasons(file: &File) -> Vec<(&'static str, String, String)> {
    let lists = file.syntax.items.iter().filter_map(|item| {
        let Item::Macro(ItemMacro { ident: None, mac, .. }) = item else { return None };
        let (_, list) = LISTS.iter().find(|(name, _)| mac.path.is_ident(name))?;
        Some((*list, mac.tokens.clone()))
    });
    let mut reasons = Vec::new();
    for (list, tokens) in lists {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for window in tokens.windows(3) {
            if let [TokenTree::Ident(variant), TokenTree::Punct(equals), TokenTree::Literal(name)] = window
                && equals.as_char() == '='
            {
                reasons.push((list, variant.to_string(), name.to_string().trim_matches('"').to_owned()));
            }
        }
    }
    reasons
}

/// What test code names.
#[derive(Default)]
struct Named {
    /// `V` of every `Discard::V` and `Defence::V`.
    variants: BTreeSet<String>,
    /// String literals.
    texts: Vec<String>,
}

impl Named {
    fn read(&mut self, member: &Member, file: &File) {
        let all_of_it =
            member.folder == "tests" || file.path.starts_with("tests/") || is_test_module(member, file);
        if all_of_it {
            self.take(file.syntax.to_token_stream());
        } else {
            self.visit_file(&file.syntax);
        }
    }

    fn take(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.take(group.stream()),
                TokenTree::Literal(literal) => self.texts.push(literal.to_string()),
                TokenTree::Ident(ident) if LISTS.iter().any(|(_, list)| ident == list) => {
                    if let Some(TokenTree::Ident(variant)) = tokens.get(at + 3) {
                        self.variants.insert(variant.to_string());
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test(&item.attrs) {
            self.take(item.to_token_stream())
        } else {
            visit::visit_item_mod(self, item)
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if is_test(&item.attrs) {
            self.take(item.to_token_stream());
        }
    }
}

/// Whether the file is a module that its parent declares with `#[cfg(test)]`, or lies below one.
fn is_test_module(member: &Member, file: &File) -> bool {
    let trimmed = file.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    let parts: Vec<&str> = trimmed.split('/').collect();
    (2..=parts.len()).any(|depth| {
        let (name, parent) = (parts[depth - 1], parts[..depth - 1].join("/"));
        let parents = ["/mod.rs", "/lib.rs", "/main.rs", ".rs"].map(|end| format!("{parent}{end}"));
        member.files.iter().filter(|file| parents.contains(&file.path)).any(|file| {
            file.syntax.items.iter().any(|item| match item {
                Item::Mod(declared) => declared.ident == name && is_test(&declared.attrs),
                _ => false,
            })
        })
    })
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].ends_with(joins) && !text[at + word.len()..].starts_with(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::parse;
    use super::*;

    const REASONS: &str = "discards! { /// A. \n Short = \"short\", /// B. \n TooLong = \"too_long\", }";

    fn found(files: &[(&str, &str)], scripts: &[&str]) -> Vec<String> {
        let mut files: Vec<File> = files.iter().map(|(path, text)| parse(path, text)).collect();
        files.push(parse("src/discard.rs", REASONS));
        let stack = Member {
            name: "stack".into(),
            folder: "userstack/stack".into(),
            dependencies: Vec::new(),
            files,
        };
        let scripts: Vec<String> = scripts.iter().map(|text| (*text).to_owned()).collect();
        check(&[stack], &scripts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_reason_that_no_test_names_is_found() {
        let code = "fn f() -> Discard { Discard::TooLong }";
        let tests = "#[cfg(test)] mod tests { #[test] fn t() { assert_eq!(f(), Discard::Short); } }";
        let found = found(&[("src/a.rs", &format!("{code} {tests}"))], &[]);
        assert_eq!(found, ["userstack/stack/src/discard.rs: no test names too_long (Discard::TooLong)"]);
    }

    #[test]
    fn a_defence_that_no_test_names_is_found() {
        let list = "defences! { /// A. \n Walled = \"walled\", /// B. \n Moated = \"moated\", }";
        let tests =
            "#[cfg(test)] mod tests { fn t() { (Discard::Short, Discard::TooLong, Defence::Walled); } }";
        let found = found(&[("src/defence.rs", list), ("src/a.rs", tests)], &[]);
        assert_eq!(found, ["userstack/stack/src/defence.rs: no test names moated (Defence::Moated)"]);
    }

    #[test]
    fn a_script_a_counters_name_or_a_test_file_count() {
        let named = "#[cfg(test)] mod tests { fn t() { metric(\"reason=too_long\"); } }";
        assert_eq!(found(&[("src/a.rs", named)], &["expect discard short\n"]), Vec::<String>::new());
        let apart = [
            ("src/lib.rs", "#[cfg(test)] mod cases;"),
            ("src/cases.rs", "fn t() { (Discard::Short, Discard::TooLong); }"),
        ];
        assert_eq!(found(&apart, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_longer_word_does_not_name_a_shorter_reason() {
        assert!(!has_word("too_short_by_far", "short"));
        assert!(has_word("reason=\"short\"", "short"));
    }
}
