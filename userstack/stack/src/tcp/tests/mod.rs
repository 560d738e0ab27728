//! Tests of the whole engine: hosts and a link in memory, on virtual time.

mod buffers;
mod cost;
mod document;
mod engine;
mod link;
mod properties;
mod scale;
mod script;
mod splice;
mod transfer;
