//! All cases, by name.

use crate::count::Sums;
use crate::stack::Deed;
use crate::stack::Family::{V4, V6};
use crate::{nic, relay, stack};

/// What is looked at in a case.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Instructions and allocations a unit.
    Work,
    /// These, and what of the instructions is copying and summing text.
    WorkAndText,
    /// Instructions and allocations, and the misses of a simulated cache.
    WorkAndCache,
    /// Heap bytes held a unit.
    Heap,
}

/// One scene and how much of it is counted.
#[derive(Copy, Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// What the counts are divided by.
    pub unit: &'static str,
    pub look: Look,
    pub run: fn() -> Sums,
}

const fn work(name: &'static str, unit: &'static str, run: fn() -> Sums) -> Case {
    Case { name, unit, look: Look::Work, run }
}

const fn text(name: &'static str, unit: &'static str, run: fn() -> Sums) -> Case {
    Case { name, unit, look: Look::WorkAndText, run }
}

const fn cached(name: &'static str, unit: &'static str, run: fn() -> Sums) -> Case {
    Case { name, unit, look: Look::WorkAndCache, run }
}

const fn heap(name: &'static str, run: fn() -> Sums) -> Case {
    Case { name, unit: "connection", look: Look::Heap, run }
}

pub const CASES: &[Case] = &[
    text("tcp_receive_v4", "segment", || stack::received(V4, 10_000)),
    text("tcp_receive_v6", "segment", || stack::received(V6, 10_000)),
    text("tcp_burst_1", "segment", || stack::received_in_bursts(1, 10_000)),
    text("tcp_burst_8", "segment", || stack::received_in_bursts(8, 10_000)),
    text("tcp_burst_32", "segment", || stack::received_in_bursts(32, 10_000)),
    text("tcp_send_v4", "segment", || stack::sent(V4, 10_000)),
    text("tcp_send_v6", "segment", || stack::sent(V6, 10_000)),
    text("tcp_send_uncut", "segment", || stack::sent_uncut(V4, 10_000)),
    text("tcp_ack_v4", "ack", || stack::acknowledged(V4, 5_000)),
    text("tcp_ack_v6", "ack", || stack::acknowledged(V6, 5_000)),
    work("udp_rewrite_v4", "datagram", || stack::forwarded(V4, 10_000)),
    work("udp_rewrite_v6", "datagram", || stack::forwarded(V6, 10_000)),
    cached("flows_1", "segment", || stack::drawn_evenly(1, 100_000)),
    cached("flows_1000", "segment", || stack::drawn_evenly(1_000, 100_000)),
    cached("flows_100000", "segment", || stack::drawn_evenly(100_000, 100_000)),
    cached("flows_1000000", "segment", || stack::drawn_evenly(1_000_000, 100_000)),
    heap("connections_1000", || stack::held_when_idle(1_000)),
    heap("connections_1000000", || stack::held_when_idle(1_000_000)),
    heap("resting_1000000", || stack::held_at_rest(1_000_000)),
    work("new_connections", "connection", || stack::one_request_each(5_000)),
    work("timer_insert_1000", "timer", || stack::timed(Deed::Insert, 1_000, 100_000)),
    work("timer_insert_1000000", "timer", || stack::timed(Deed::Insert, 1_000_000, 100_000)),
    work("timer_cancel_1000", "timer", || stack::timed(Deed::Cancel, 1_000, 100_000)),
    work("timer_cancel_1000000", "timer", || stack::timed(Deed::Cancel, 1_000_000, 100_000)),
    work("timer_expire_1000", "timer", || stack::timed(Deed::Expire, 1_000, 100_000)),
    work("timer_expire_1000000", "timer", || stack::timed(Deed::Expire, 1_000_000, 100_000)),
    work("worker_udp", "datagram", || nic::between_two(10_000)),
    work("interfaces_1", "datagram", || nic::one_busy_of(1, 10_000)),
    work("interfaces_16", "datagram", || nic::one_busy_of(16, 10_000)),
    work("interfaces_256", "datagram", || nic::one_busy_of(256, 10_000)),
    work("http1_request", "request", || relay::http1(5_000)),
    work("http1_connection", "request", || relay::http1_connections(5_000)),
    work("http2_request", "request", || relay::http2(5_000)),
    work("tcp_relay", "MiB", || relay::relayed(64)),
    heap("idle_unused", || relay::before_the_first_byte(10_000)),
    heap("idle_served", || relay::after_one_request(10_000)),
];
