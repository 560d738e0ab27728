//! HTTP from clients: a connection is served until it ends; each request is an [`exchange`].

mod answer;
mod body;
mod exchange;
mod flight;
mod linger;
mod message;
mod serve;

pub(crate) use serve::serve;
