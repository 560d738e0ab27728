//! Who is who: what is issued, to whom, for how long, and what is no longer believed.
//!
//! ```text
//! serve::identity ──join──▶ tokens ──┐                    ┌─▶ ca (built-in, files, plug-in)
//!                 ──renew, sign──────┴─▶ issuer ──order───┘
//! serve::administration ──revoke─────────▶ issuer ──▶ records (store) ──▶ trust ──▶ nodes, handshakes
//! ```

pub mod issuer;
mod operators;
mod records;
pub mod rotation;
mod tokens;

pub use issuer::{IssueError, Issuer, Options, Started};
pub use operators::{OperatorRecord, Operators, Role};
pub use records::{Issued, NodeRecord, Records, unix};
pub use tokens::{NodeTokens, TokenError};
