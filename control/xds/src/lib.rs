//! What control plane and data plane say to each other, and operators to the control plane.
//!
//! - [`convert`]: the compiled table as Envoy's resources, and back.
//! - [`ads`]: both ends of ADS as state machines; no clock, no socket, no task.
//! - [`snapshot`]: what the one makes and the other sends.
//! - [`target`]: a control plane that can be connected to, plain or by TLS.
//! - [`node`], [`identity`], [`operator`]: thin async clients around tonic, for `ringwayd` and `ringway`.
//! - [`proto`]: our own messages and services.
#![forbid(unsafe_code)]

pub mod ads;
pub mod convert;
pub mod endpoint;
pub mod envoy;
pub mod identity;
pub mod node;
pub mod operator;
pub mod proto;
pub mod snapshot;
pub mod target;
