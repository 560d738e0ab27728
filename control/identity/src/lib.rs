//! X.509-SVIDs: what a certificate must be for its holder to be believed, and TLS that asks for it. No socket, no task,
//! no clock: time is an argument, except within a TLS handshake.
//!
//! - [`svid`]: one certificate, read and held against the X.509-SVID specification.
//! - [`trust`]: the roots of each trust domain, what is revoked, and chains verified against both.
//! - [`request`]: keys and signing requests, at the holder's end and at the signer's.
//! - [`tls`]: configurations for rustls; TLS 1.3 only, no resumption.
//! - [`pin`]: the SHA-256 of a root, by which a stranger knows it.
//!
//! SPIFFE IDs themselves are in `model::spiffe`.
#![forbid(unsafe_code)]

pub mod encode;
mod error;
pub mod pin;
pub mod request;
pub mod svid;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod trust;

pub use error::SvidError;
pub use pin::Pin;
pub use request::{Key, SigningRequest};
pub use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
pub use rustls::sign::CertifiedKey;
pub use rustls::{ClientConfig, ServerConfig};
pub use svid::Svid;
pub use trust::{Trust, TrustStore};
