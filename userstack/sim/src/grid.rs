//! The grid: how much of what a link allows a connection gets, by round-trip time, loss, buffers and congestion control;
//! and how two connections share one. The same numbers on every machine: it is virtual time that is measured.

use std::cell::Cell;
use std::fmt::Write;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use socket::{ListenSpec, Prefix, TcpListener, TcpOptions, TcpStream, sleep, spawn};
use stack::tcp::Congestion;

use crate::{Address, HostPair, LinkConfig, LinkFaults};

/// The narrowest link of the path.
const BITS_PER_SECOND: u64 = 100_000_000;
const ROUND_TRIPS_US: [u32; 6] = [100, 1_000, 10_000, 50_000, 100_000, 300_000];
const LOSSES_PPM: [u32; 4] = [0, 1_000, 10_000, 50_000];
const BUFFERS_KIB: [u32; 3] = [64, 512, 8_192];
/// Every algorithm, and how the table names it.
const CONTROLS: &[(Congestion, &str)] =
    &[(Congestion::NewReno, "NewReno"), (Congestion::Cubic, "CUBIC"), (Congestion::Bbr, "BBR")];
/// What is measured begins after the first part of it: in round trips and in time, whichever is longer.
const WARM_ROUND_TRIPS: u32 = 20;
const MEASURED_ROUND_TRIPS: u32 = 40;
/// Where packets are lost by chance: enough of them, so that the number says something of the algorithm.
const LOSSY_ROUND_TRIPS: u32 = 300;
const LEAST_TIME: Duration = Duration::from_secs(2);
/// Two flows need longer to find to each other.
const SHARED_TIME: Duration = Duration::from_secs(40);
const SHARED_ROUND_TRIP_US: u32 = 20_000;
/// Queue of the narrow link: what is in flight in a round trip, and this at least.
const LEAST_QUEUE_BYTES: usize = 64 * 1024;
/// Text of a full segment, and what the wire carries for it: Ethernet, IPv4 and TCP with timestamps.
const SEGMENT_TEXT: u64 = 1_448;
const SEGMENT_WIRE: u64 = 1_514;
const PORT: u16 = 9;
const SEED: u64 = 1;

/// What is measured by itself: threads may share the work, and the table is the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// One connection, with the `control`th algorithm.
    Alone { round_trip_us: u32, loss_ppm: u32, buffer_kib: u32, control: usize },
    /// Two connections on one link, each with its algorithm.
    Shared { controls: [usize; 2] },
}

/// Bytes that each connection of a case carried in its measured time, and that time.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub bytes: [u64; 2],
    pub nanos: u64,
}

/// Every case, in the table's order.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for control in 0..CONTROLS.len() {
        for round_trip_us in ROUND_TRIPS_US {
            for buffer_kib in BUFFERS_KIB {
                let alone = |loss_ppm| Case::Alone { round_trip_us, loss_ppm, buffer_kib, control };
                cases.extend(LOSSES_PPM.map(alone));
            }
        }
    }
    for one in 0..CONTROLS.len() {
        cases.extend((one..CONTROLS.len()).map(|other| Case::Shared { controls: [one, other] }));
    }
    cases
}

/// Plays one case.
pub fn measure(case: Case) -> Carried {
    match case {
        Case::Alone { round_trip_us, loss_ppm, buffer_kib, control } => {
            let round_trip = Duration::from_micros(u64::from(round_trip_us));
            let warm = (round_trip * WARM_ROUND_TRIPS).max(LEAST_TIME);
            let round_trips = if loss_ppm == 0 { MEASURED_ROUND_TRIPS } else { LOSSY_ROUND_TRIPS };
            let measured = (round_trip * round_trips).max(LEAST_TIME);
            transfer(round_trip_us, loss_ppm, buffer_kib, &[control], (warm, measured))
        }
        Case::Shared { controls } => {
            let halves = (SHARED_TIME / 2, SHARED_TIME / 2);
            transfer(SHARED_ROUND_TRIP_US, 0, BUFFERS_KIB[BUFFERS_KIB.len() - 1], &controls, halves)
        }
    }
}

/// Bulk connections side by side from the client to the server: what arrives after the warm part.
fn transfer(
    round_trip_us: u32,
    loss_ppm: u32,
    buffer_kib: u32,
    controls: &[usize],
    (warm, measured): (Duration, Duration),
) -> Carried {
    let mut pair = HostPair::new(SEED, LinkConfig::default());
    let in_flight = BITS_PER_SECOND as usize / 8 * round_trip_us as usize / 1_000_000;
    let faults = LinkFaults { loss_ppm, ..LinkFaults::NONE };
    let narrow = LinkConfig {
        bits_per_second: BITS_PER_SECOND,
        delay: Duration::from_micros(u64::from(round_trip_us)) / 4,
        queue_bytes: in_flight.max(LEAST_QUEUE_BYTES),
        faults,
        ..LinkConfig::default()
    };
    pair.network.set_link("client", &narrow);
    pair.network.set_link("server", &LinkConfig { delay: narrow.delay, ..LinkConfig::default() });

    let options = |control: usize| TcpOptions {
        receive_buffer_bytes: buffer_kib as usize * 1024,
        send_buffer_bytes: buffer_kib as usize * 1024,
        connect_timeout: Duration::from_secs(60),
        congestion: CONTROLS[control].0,
        ..TcpOptions::default()
    };
    let read: Vec<Rc<Cell<u64>>> = controls.iter().map(|_| Rc::default()).collect();
    for (index, control) in controls.iter().enumerate() {
        let port = PORT + index as u16;
        let listening = listen(port, options(*control), Rc::clone(&read[index]));
        pair.server.borrow_mut().spawn(listening);
        let remote = pair.server_socket(Address::V4, port);
        pair.client.borrow_mut().spawn(flood(remote, options(*control)));
    }
    pair.network.run_for(warm);
    let before: Vec<u64> = read.iter().map(|bytes| bytes.get()).collect();
    pair.network.run_for(measured);
    let mut carried = Carried { nanos: measured.as_nanos() as u64, ..Carried::default() };
    for (index, bytes) in read.iter().enumerate() {
        carried.bytes[index] = bytes.get() - before[index];
    }
    carried
}

async fn listen(port: u16, options: TcpOptions, read: Rc<Cell<u64>>) {
    let spec = ListenSpec { addresses: Prefix::ANY_V4, port: Some(port), interface: None };
    let listener = TcpListener::bind(spec, options).expect("the port is free");
    let stream = listener.accept().await.expect("the listener lives");
    spawn(async move {
        let _ends_with_the_play = pending::<()>().await;
        drop(listener);
    });
    let take = |bytes: &[u8]| read.set(read.get() + bytes.len() as u64);
    while poll_fn(|context| stream.poll_read_chunks(context, usize::MAX, take))
        .await
        .is_ok_and(|read| read > 0)
    {}
}

async fn flood(remote: std::net::SocketAddr, options: TcpOptions) {
    // The listener is there after its host's first turn.
    sleep(Duration::from_millis(1)).await;
    let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
    let chunk = vec![0x67; 64 * 1024];
    while stream.write_all(&chunk).await.is_ok() {}
}

/// The table as it stands in the tree; `carried` belongs to [`cases`], in that order.
pub fn table(carried: &[Carried]) -> String {
    let mut text = String::from(HEAD);
    let mut results = cases().into_iter().zip(carried);
    for (_, name) in CONTROLS {
        let _written =
            write!(text, "\n## {name}, goodput in percent of what is allowed\n\n| RTT | buffers | allowed |");
        for loss in LOSSES_PPM {
            let _written = write!(text, " {}% |", percent_of(loss));
        }
        text.push_str("\n|---:|---:|---:|---:|---:|---:|---:|\n");
        for round_trip_us in ROUND_TRIPS_US {
            for buffer_kib in BUFFERS_KIB {
                let allowed = allowed_bits(round_trip_us, buffer_kib);
                let _written = write!(
                    text,
                    "| {} ms | {buffer_kib} KiB | {:.1} Mb/s |",
                    f64::from(round_trip_us) / 1_000.0,
                    allowed as f64 / 1e6
                );
                for _ in LOSSES_PPM {
                    let Some((_, carried)) = results.next() else { break };
                    let _written = write!(text, " {} |", percent(bits_of(carried, 0), allowed));
                }
                text.push('\n');
            }
        }
    }
    text.push_str(SHARED_HEAD);
    for (case, carried) in results {
        if let Case::Shared { controls: [one, other] } = case {
            text.push_str(&shared(one, other, carried));
        }
    }
    text
}

fn shared(one: usize, other: usize, carried: &Carried) -> String {
    let [first, second] = [bits_of(carried, 0), bits_of(carried, 1)];
    format!(
        "| {} | {} | {} | {} | {:.3} |\n",
        CONTROLS[one].1,
        CONTROLS[other].1,
        percent(first, payload_bits()),
        percent(second, payload_bits()),
        jain(first as f64, second as f64),
    )
}

/// Jain, Chiu and Hawe: A Quantitative Measure of Fairness, 1984.
fn jain(one: f64, other: f64) -> f64 {
    (one + other).powi(2) / (2.0 * (one * one + other * other)).max(1.0)
}

fn bits_of(carried: &Carried, index: usize) -> u64 {
    (u128::from(carried.bytes[index]) * 8_000_000_000 / u128::from(carried.nanos.max(1))) as u64
}

/// What of the link's bandwidth is text.
fn payload_bits() -> u64 {
    BITS_PER_SECOND * SEGMENT_TEXT / SEGMENT_WIRE
}

/// The link's, or a buffer a round trip, whichever is less.
fn allowed_bits(round_trip_us: u32, buffer_kib: u32) -> u64 {
    let by_buffer = u64::from(buffer_kib) * 1024 * 8 * 1_000_000 / u64::from(round_trip_us);
    payload_bits().min(by_buffer)
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2) / whole.max(1)
}

fn percent_of(ppm: u32) -> f64 {
    f64::from(ppm) / 10_000.0
}

const HEAD: &str = "\
# The grid

How much of what a path allows one connection gets. Made by `scripts/sim --grid`, in virtual time: every machine gets the
same numbers, and a change of this file is a change of behaviour. The nightly run compares it.

The path: two hosts and a router; the narrow link has 100 Mb/s and a queue of one bandwidth-delay product (64 KiB at
least); segments of 1,448 bytes. Loss is random, on the narrow link, both ways. \"Allowed\" is the link's bandwidth for text,
or one buffer a round trip where that is less. After 20 round trips (2 s at least) 40 round trips (2 s at least) are
measured, and 300 where packets are lost by chance.
";

const SHARED_HEAD: &str = "
## Two connections on one link

100 Mb/s, a round trip of 20 ms, no loss but the queue's; both begin together, the second half of 40 s is measured. Shares in
percent of the link's bandwidth for text; Jain's index is 1 where both have the same.

| one | other | share of the one | share of the other | Jain |
|---|---|---:|---:|---:|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_short_path_is_filled_and_the_same_twice() {
        let case = Case::Alone { round_trip_us: 1_000, loss_ppm: 0, buffer_kib: 512, control: 1 };
        let carried = measure(case);
        assert_eq!(carried, measure(case));
        assert!(percent(bits_of(&carried, 0), payload_bits()) >= 90, "{carried:?}");
    }

    #[test]
    fn the_table_has_a_row_for_every_path_and_pair() {
        let carried = vec![Carried { bytes: [1_000_000, 1_000_000], nanos: 1_000_000_000 }; cases().len()];
        let text = table(&carried);
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("ms |")).count();
        assert_eq!(rows, CONTROLS.len() * ROUND_TRIPS_US.len() * BUFFERS_KIB.len());
        assert!(text.trim_end().ends_with("| 1.000 |"));
    }

    #[test]
    fn jains_index_is_one_for_equals_and_a_half_for_one_alone() {
        assert_eq!((jain(5.0, 5.0), jain(5.0, 0.0)), (1.0, 0.5));
    }
}
