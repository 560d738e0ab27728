//! HTTP/1.1 on the wire (RFC 9112): a buffered connection, the heads of messages, and how their bodies are framed. Both
//! sides of the proxy stand on it: `http::serve_http1` towards clients, `upstream::h1` towards backends.
//!
//! Grammar is httparse's, header maps are `http`'s; buffering, framing and refusal are ours (`docs/decisions/009`).

mod decoder;
mod framing;
mod head;
mod intake;
mod wire;

pub(crate) use decoder::{Decoder, Step};
pub(crate) use framing::Framing;
pub(crate) use head::{
    HeadFinder, Refusal, RequestHead, may_have_body, put_request, put_response, take_request, take_response,
};
pub(crate) use intake::{Conn, Intake};
pub(crate) use wire::{Wire, put_frame};
