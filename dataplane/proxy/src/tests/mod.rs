//! The proxy on in-memory pipes and a paused clock: clients and backends speak bytes or hyper, nothing waits for real.

mod answers;
mod datagrams;
mod drains;
mod early;
mod fuzz;
mod hop;
mod limits;
mod pool;
mod relays;
mod smuggling;
mod versions;
mod world;
