//! A seed: two hosts that hold many conversations over a bad network, and a reference model beside them.
//!
//! ```text
//!   seed ──▶ Plan ──▶ play ──▶ Outcome { failure, trace hash, Reached }
//!             ▲         │  talk: the tasks on both hosts ──▶ Model: what was written must be what is read
//!             └ shrink ─┘  (fewer conversations, faults and bytes while it still fails)
//! ```
//!
//! A plan is plain numbers: it prints as the Rust that makes it again, and so a seed that failed once becomes a test that
//! does not depend on how plans are drawn later.

mod liar;
mod model;
mod plan;
mod play;
mod reached;
mod shrink;
mod talk;

pub use plan::{Control, Conversation, Family, Fault, Manner, Path, Plan, Side};
pub use play::{Capture, Outcome, attempt, play};
pub use reached::{Reached, UNREACHABLE};
pub use shrink::shrink;
