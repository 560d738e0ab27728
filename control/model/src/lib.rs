//! Ringway's resources, their validation, and the table that they compile to. No tonic, no async.
//!
//! The way of a configuration, with the module that owns each step:
//!
//! ```text
//! text --read--> Resource --validate--> Resources --attach--> Compiled { Table, Status of each resource }
//! ```
//!
//! `control` stores [`Resource`]s as JSON, and asks [`Compiled`] for each node's table and for the statuses; `ringwayd`
//! does the same from a directory when it serves without a control plane.
#![forbid(unsafe_code)]

pub mod allocate;
mod answers;
mod attach;
mod backend;
pub mod compile;
pub mod compiled;
mod conditions;
pub mod defaults;
pub mod duration;
pub mod field;
pub mod gateway;
pub mod grant;
mod hostname;
mod instances;
pub mod kind;
pub mod mesh;
pub mod metadata;
pub mod pattern;
pub mod prefix;
pub mod read;
mod reason;
pub mod resource;
pub mod resources;
pub mod route;
pub mod service;
pub mod spiffe;
pub mod status;
pub mod table;
pub mod tcp;
#[cfg(test)]
mod testing;
mod unsupported;
pub mod validate;

pub use allocate::{AllocateError, ServicePrefixes, allocate, assign};
pub use answers::{Answers, NodeAnswer, Refused};
pub use compile::HealthView;
pub use compiled::{Compiled, compile, compile_client, conditions};
pub use field::FieldError;
pub use kind::{Key, Kind};
pub use metadata::Metadata;
pub use prefix::Prefix;
pub use read::{ReadError, read_documents};
pub use resource::{Resource, Spec};
pub use resources::Resources;
pub use status::{Condition, Status, Truth};
pub use validate::validate;
