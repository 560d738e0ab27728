//! Aggregated discovery (ADS), both ends, as state machines: a message comes in by `handle_*`, what to do about it comes
//! out by `poll_*`. No clock, no task, no transport; tonic is the shell, and the simulator another.
//!
//! The order of a publication is make before break: clusters, endpoints, listeners, routes; then what is no longer
//! named; then our own [`SourceClasses`](crate::snapshot::ResourceType::SourceClasses), which tells our data plane that the publication is complete.

mod client;
mod delta;
mod state_of_the_world;
mod stream;

#[cfg(test)]
mod tests;

pub use client::AdsClient;
pub use delta::DeltaStream;
pub use state_of_the_world::StateOfTheWorldStream;
pub use stream::{
    Acknowledgement, MAX_DETAIL_BYTES, MAX_NAME_BYTES, MAX_NAMES, RESPONSE_BYTES, ServerStream, StreamError,
};
