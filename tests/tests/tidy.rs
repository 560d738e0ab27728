//! The rules of the house (DESIGN, section 3), checked by `cargo test`; `scripts/tidy` runs this alone.

#[test]
fn the_house_is_as_the_design_draws_it() {
    let violations = tests::tidy::check(&tests::repository());
    for violation in &violations {
        eprintln!("tidy: {violation}");
    }
    assert!(violations.is_empty(), "{} rules are broken, listed above", violations.len());
}
