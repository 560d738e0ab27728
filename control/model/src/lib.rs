//! Ringway's resources, their validation, and the table that they compile to. No tonic, no async.
#![forbid(unsafe_code)]

pub mod table;
