//! Tests of the whole engine: hosts and a link in memory, on virtual time.

mod link;
mod script;
mod transfer;
