//! HTTP from clients: a connection is served until it ends; each request is an [`exchange`].

mod answer;
mod body;
mod exchange;
mod flight;
mod message;
mod serve;
mod serve_http1;
mod watch;

pub(crate) use serve::serve;
