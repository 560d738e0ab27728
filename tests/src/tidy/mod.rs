//! `scripts/tidy`: the house's rules that a compiler does not know (DESIGN, section 3), checked on the sources.
//!
//! Each check takes what it looks at as a value, so that its own test can show it failing.

mod arrows;
mod cycles;
mod discards;
mod module;
mod source;
mod stack_wire;
mod unsafe_code;
mod violation;

pub use violation::Violation;

use std::path::Path;

/// Everything that is wrong with the workspace at `root`; empty is tidy.
pub fn check(root: &Path) -> Vec<Violation> {
    let members = source::members(root);
    let mut violations = arrows::check(&members);
    for member in &members {
        let modules = module::modules(member);
        violations.extend(cycles::check(&member.name, &modules));
        violations.extend(unsafe_code::check(member));
    }
    violations.extend(stack_wire::check(&members));
    violations.extend(discards::check(&members, &source::packet_scripts(root)));
    violations
}
