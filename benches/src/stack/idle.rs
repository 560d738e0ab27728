//! What open connections hold while nothing happens, and four numbers at rest after one.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use super::streams::{Opened, Template, establish, hand_over, listen_with};
use super::{BURST, Family, INTERFACE, PEER_MAC, Tape, scene};
use crate::count::{Meter, Sums};
use stack::{Instant, ListenerKey, Stack, TcpOptions};

/// Connections that one address of a neighbour opens.
pub(super) const PER_NEIGHBOUR: usize = 50_000;

/// The remote end of the `number`th connection.
pub(super) fn remote(family: Family, number: usize) -> SocketAddr {
    let neighbour = u16::try_from(number / PER_NEIGHBOUR).expect("a few addresses are enough");
    let port = u16::try_from(1024 + number % PER_NEIGHBOUR).expect("within the port range");
    SocketAddr::new(family.neighbour(neighbour), port)
}

/// A stack that knows the neighbours that `open` connections come from.
pub(super) fn stack_for(family: Family, open: usize) -> (Stack, Instant) {
    scene(family, u16::try_from(open.div_ceil(PER_NEIGHBOUR)).expect("a few addresses are enough"))
}

/// So many connections, opened, asked one request each and answered, with the options that an operator gets: all that
/// the stack's heap grew by, divided by them.
pub fn held_when_idle(open: usize) -> Sums {
    let family = Family::V4;
    let (mut stack, now) = stack_for(family, open);
    let listener = listen_with(&mut stack, family, TcpOptions::default());
    let mut tape = Tape::new();
    let mut meter = Meter::default();
    meter.start();
    meter.run(&mut || {
        for number in 0..open {
            let mut opened = establish(&mut stack, listener, remote(family, number), &mut tape, now);
            ask_once(&mut stack, &mut opened, &mut tape, now);
        }
    });
    assert_eq!(stack.tcp_connections(), open);
    assert_eq!(stack.tcp_holdings().buffer_bytes, 0, "an idle connection holds no buffer");
    meter.finish(open as u64)
}

/// A request, read, answered, and the answer acknowledged: the acknowledgement takes the last of its timers' reasons.
fn ask_once(stack: &mut Stack, opened: &mut Opened, tape: &mut Tape, now: Instant) {
    let Opened { flow, peer } = opened;
    hand_over(stack, &mut peer.segment(&[7; 100]), now);
    let _read = stack.tcp_read(*flow, &mut [0; 128], now);
    let _taken = stack.tcp_write(*flow, &[&[7; 100]], now);
    stack.poll_transmit(tape, BURST, now);
    peer.ack = peer.ack.wrapping_add(100);
    hand_over(stack, &mut peer.segment(&[]), now);
    stack.poll_transmit(tape, BURST, now);
    while stack.poll_event().is_some() {}
}

/// So many connections that came and went, and that we closed first: what their rests hold, in the flow table too.
pub fn held_at_rest(resting: usize) -> Sums {
    let family = Family::V4;
    let (mut stack, now) = stack_for(family, resting);
    let listener = listen_with(&mut stack, family, TcpOptions::default());
    let mut tape = Tape::new();
    let mut meter = Meter::default();
    meter.start();
    meter.run(&mut || {
        for number in 0..resting {
            let mut opened = establish(&mut stack, listener, remote(family, number), &mut tape, now);
            end(&mut stack, &mut opened, &mut tape, now);
        }
    });
    let held = stack.tcp_holdings();
    assert_eq!((held.connections, held.time_waits), (0, resting));
    meter.finish(resting as u64)
}

/// We close, and so does the peer.
fn end(stack: &mut Stack, opened: &mut Opened, tape: &mut Tape, now: Instant) {
    let Opened { flow, peer } = opened;
    stack.tcp_close(*flow, now);
    stack.poll_transmit(tape, BURST, now);
    peer.ack = peer.ack.wrapping_add(1);
    hand_over(stack, &mut peer.fin(), now);
    stack.poll_transmit(tape, BURST, now);
    while stack.poll_event().is_some() {}
}

/// Requests of one connection each, as a server without keepalive has them.
const REQUEST_BYTES: usize = 100;
const ANSWER_BYTES: usize = 1000;
/// Time between two of them: a thousand rest at any moment, and as many come to the end of their rest as begin it.
const BETWEEN: Duration = Duration::from_millis(60);
/// Connections before counting begins: the first rests are over.
const WARM_UP: u64 = 2_000;

/// A connection each: opened, accepted, a request read, an answer written and closed, down to the end of an earlier one's
/// TIME-WAIT. The peer's own work is none of it.
pub fn one_request_each(connections: u64) -> Sums {
    let family = Family::V4;
    let (mut stack, mut now) = scene(family, 1);
    let listener = listen_with(&mut stack, family, TcpOptions::default());
    let mut tape = Tape::new();
    let mut meter = Meter::default();
    let answer = [7; ANSWER_BYTES];
    for number in 0..WARM_UP + connections {
        if number == WARM_UP {
            meter.start();
        }
        now = now + BETWEEN;
        // As the kernel does that knows the neighbour: no question is due.
        stack.set_neighbour(INTERFACE, family.neighbour(0), Some(PEER_MAC), now);
        let mut peer = Template::new(remote(family, number as usize % PER_NEIGHBOUR));
        let mut syn = peer.syn();
        meter.run(&mut || {
            stack.handle_timers(BURST, now);
            hand_over(&mut stack, &mut syn, now);
            stack.poll_transmit(&mut tape, BURST, now);
        });
        peer.hear(tape.last());
        let mut request = [peer.segment(&[]), peer.segment(&[7; REQUEST_BYTES])];
        meter.run(&mut || {
            request.iter_mut().for_each(|packet| hand_over(&mut stack, packet, now));
            serve(&mut stack, listener, &answer, now);
            stack.poll_transmit(&mut tape, BURST, now);
        });
        peer.ack = peer.ack.wrapping_add(ANSWER_BYTES as u32 + 1);
        let mut fin = peer.fin();
        meter.run(&mut || {
            hand_over(&mut stack, &mut fin, now);
            while stack.poll_event().is_some() {}
            stack.poll_transmit(&mut tape, BURST, now);
        });
    }
    let held = stack.tcp_holdings();
    assert_eq!((held.connections, held.buffer_bytes), (0, 0), "every connection is over");
    assert!(held.time_waits > 900, "we closed first, and the numbers rest");
    meter.finish(connections)
}

fn serve(stack: &mut Stack, listener: ListenerKey, answer: &[u8], now: Instant) {
    let mut into = [0; 2 * REQUEST_BYTES];
    while stack.poll_event().is_some() {}
    let Poll::Ready(Ok(flow)) = stack.tcp_accept(listener) else { panic!("the handshake is complete") };
    assert_eq!(stack.tcp_read(flow, &mut into, now), Poll::Ready(Ok(REQUEST_BYTES)));
    assert_eq!(stack.tcp_write(flow, &[answer], now), Poll::Ready(Ok(answer.len())));
    stack.tcp_close(flow, now);
}
