//! Ringway's resources, their validation, and the table that they compile to. No tonic, no async.
//!
//! The way of a configuration, with the module that owns each step:
//!
//! ```text
//! text --read--> Resource --validate--> Resources --attach--> Compiled { Table, Status of each resource }
//! ```
//!
//! `control` stores [`Resource`]s as JSON and calls [`compile::compile`] for each node and [`compile::conditions`]
//! for the statuses; `ringwayd` does the same from a directory when it serves without a control plane.
#![forbid(unsafe_code)]

pub mod allocate;
mod attach;
mod backend;
pub mod compile;
mod conditions;
pub mod defaults;
pub mod duration;
pub mod gateway;
pub mod grant;
mod hostname;
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
pub mod status;
pub mod table;
mod unsupported;
pub mod validate;

pub use allocate::{AllocateError, ServicePrefixes, allocate};
pub use compile::{HealthView, compile, compile_client};
pub use conditions::{Answers, NodeAnswer, conditions};
pub use kind::{Key, Kind};
pub use metadata::Metadata;
pub use prefix::Prefix;
pub use read::{ReadError, read_documents};
pub use resource::{FieldError, Resource, Spec};
pub use resources::Resources;
pub use status::{Condition, Status, Truth};
pub use validate::validate;
