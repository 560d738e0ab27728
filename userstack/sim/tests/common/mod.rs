//! What the tests on two simulated hosts share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::Cell;
use std::env;
use std::fs::File;
use std::io::BufWriter;
use std::rc::Rc;
use std::time::Duration;

use sim::{Address, HostPair, LinkConfig, Random};
use socket::{ListenSpec, Prefix, TcpListener, TcpOptions};

/// Names one seed to run instead of all, and keeps its packets: `RINGWAY_SEED=17 cargo test -p ringway-sim`.
const SEED_VARIABLE: &str = "RINGWAY_SEED";

/// Packets that a replayed seed keeps for its pcapng file.
const KEPT_PACKETS: usize = 100_000;
const KEPT_BYTES: u32 = 128;

/// Seeds to run: `0..count`, or the one that `RINGWAY_SEED` names.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match env::var(SEED_VARIABLE) {
        Ok(seed) => {
            let seed = seed.parse().expect("RINGWAY_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

/// Runs `server` and `client` on their hosts until the client has ended.
///
/// # Panics
/// When it has not within `limit` of virtual time. A replayed seed leaves its packets beside the test's binary.
pub fn converse(
    pair: &mut HostPair,
    limit: Duration,
    server: impl Future<Output = ()> + 'static,
    client: impl Future<Output = ()> + 'static,
) {
    let replayed = env::var(SEED_VARIABLE).ok();
    if replayed.is_some() {
        pair.network.trace_mut().keep(KEPT_PACKETS, KEPT_BYTES);
    }
    let done = Rc::new(Cell::new(false));
    pair.server.borrow_mut().spawn(server);
    let flag = Rc::clone(&done);
    pair.client.borrow_mut().spawn(async move {
        client.await;
        flag.set(true);
    });
    let ended = pair.network.run_until(limit, || done.get());
    if let Some(seed) = replayed {
        write_capture(pair, &seed);
    }
    assert!(ended, "the client did not end within {limit:?}: {:?}", pair.network);
}

fn write_capture(pair: &HostPair, seed: &str) {
    let path = env::temp_dir().join(format!("ringway-sim-{seed}.pcapng"));
    let mut file = BufWriter::new(File::create(&path).expect("the temporary directory can be written"));
    pair.network.write_pcapng(&mut file).expect("the temporary directory can be written");
    eprintln!("seed {seed}: packets are in {}", path.display());
}

/// Every frame that a host received has a verdict.
pub fn assert_accounts_balance(pair: &HostPair) {
    for host in [&pair.client, &pair.server] {
        let counters = host.borrow().counters();
        assert_eq!(
            counters.received,
            counters.consumed + counters.forwarded + counters.discarded,
            "{counters:?}"
        );
        let reasons = host.borrow_mut().core().stack().discards().total();
        assert!(reasons >= counters.discarded, "{} verdicts, {reasons} reasons", counters.discarded);
    }
}

/// A listener on a port of every address of one family; call it in a task.
pub fn listen(family: Address, port: u16) -> TcpListener {
    let addresses = match family {
        Address::V4 => Prefix::ANY_V4,
        Address::V6 => Prefix::ANY_V6,
    };
    let spec = ListenSpec { addresses, port: Some(port), interface: None };
    // A handshake of which three acknowledgements are lost takes seven seconds.
    let options = TcpOptions { connect_timeout: Duration::from_secs(120), ..TcpOptions::default() };
    TcpListener::bind(spec, options).expect("the port is free")
}

/// A link over which ten megabytes take a while, with faults as given.
pub fn slow_link(faults: sim::LinkFaults) -> LinkConfig {
    LinkConfig {
        bits_per_second: 1_000_000_000,
        delay: Duration::from_micros(200),
        queue_bytes: 256 * 1024,
        faults,
        ..LinkConfig::default()
    }
}

/// A stream of bytes in which every misplaced one shows: random, with a period that is prime.
#[derive(Clone, Debug)]
pub struct Pattern {
    bytes: Rc<[u8]>,
    offset: usize,
}

const PERIOD: usize = 65_521;

impl Pattern {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::for_stream(seed, 0x7061);
        let once: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
        Self { bytes: [&once[..], &once[..]].concat().into(), offset: 0 }
    }

    /// Up to `len` bytes from where the stream is.
    pub fn peek(&self, len: usize) -> &[u8] {
        let start = self.offset % PERIOD;
        &self.bytes[start..start + len.min(PERIOD)]
    }

    pub fn advance(&mut self, len: usize) {
        self.offset += len;
    }

    /// Bytes so far.
    pub fn position(&self) -> usize {
        self.offset
    }

    /// Compares what was received, and moves on.
    pub fn expect(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let here = self.peek(received.len());
            let len = here.len();
            assert!(here == &received[..len], "the bytes differ near offset {}", self.offset);
            self.advance(len);
            received = &received[len..];
        }
    }
}
