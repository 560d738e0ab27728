//! The compiled table as xDS resources, and back.
//!
//! Envoy's own types say whatever they can; `ringway.mesh` metadata says the rest. A table that [`encode_table`] took
//! comes back equal from [`Assembly::table`] but for what has no meaning: an explicitly empty list of endpoints, the
//! order of filters of different kinds, backends of weight 0 of streams and datagrams, a slash at the end of a prefix.

mod assembly;
mod audience;
mod cluster;
mod endpoints;
mod error;
mod listener;
mod publication;
mod rewrite;
mod route_action;
mod routes;
mod source_classes;
mod tcp;
mod wire;

#[cfg(test)]
mod tests;

pub use assembly::{Assembly, Missing};
pub use audience::{Audience, USER_AGENT};
pub use error::{ConvertError, Problem};
pub use listener::encode_api_listener;
pub use publication::encode_table;
