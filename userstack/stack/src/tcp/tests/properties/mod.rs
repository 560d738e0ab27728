//! Properties of the parts against naive models, and of a whole connection against a peer that is one.

mod parts;
mod peer;
mod receiving;
mod sending;
mod ways;

/// The byte at a place of a stream.
fn pattern(place: u32) -> u8 {
    (place % 251) as u8
}
