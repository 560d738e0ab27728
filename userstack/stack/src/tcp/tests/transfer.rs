//! Two engines and a link that loses, reorders and duplicates by seed: what was written is what is read.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use super::link::{Host, Packet};
use crate::tcp::{Congestion, FlowKey, ListenSpec, ListenerKey, TcpError, TcpOptions};
use crate::{Instant, Prefix};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What the link does to packets.
#[derive(Clone, Copy, Debug)]
struct Faults {
    delay: Duration,
    loss_percent: u64,
    reorder_percent: u64,
    duplicate_percent: u64,
    /// Longer packets vanish without a word (IP bytes).
    carries: usize,
}

#[derive(Debug)]
struct World {
    now: Instant,
    hosts: [Host; 2],
    flying: BTreeMap<(Instant, u64), (usize, Packet)>,
    sent: u64,
    faults: Faults,
    random: Random,
}

/// One direction of one connection.
#[derive(Debug)]
struct Stream {
    host: usize,
    key: FlowKey,
    to_write: Vec<u8>,
    written: usize,
    shut: bool,
    read: Vec<u8>,
    ended: bool,
}

impl World {
    fn new(seed: u64, addresses: [&str; 2], mtu: u16, faults: Faults) -> Self {
        let hosts = addresses.map(|address| Host::new(address, mtu, 1 << 30));
        Self {
            now: Instant::from_nanos(1),
            hosts,
            flying: BTreeMap::new(),
            sent: 0,
            faults,
            random: Random(seed),
        }
    }

    fn listen(&mut self, options: TcpOptions) -> ListenerKey {
        let address = self.hosts[1].address;
        let len = if address.is_ipv6() { 128 } else { 32 };
        let spec = ListenSpec { addresses: Prefix { address, len }, port: Some(80), interface: None };
        self.hosts[1].tcp.listen(spec, options).unwrap()
    }

    fn connect(&mut self, options: TcpOptions) -> FlowKey {
        let remote = SocketAddr::new(self.hosts[1].address, 80);
        let local = self.hosts[0].address;
        self.hosts[0].tcp.connect(remote, local, options, &mut |_, _| true, self.now).unwrap()
    }

    /// Everything that happens now, then time goes on to the next event. False when nothing will ever happen.
    fn step(&mut self) -> bool {
        for host in 0..2 {
            while self.hosts[host].tcp.handle_timers(64, self.now) {}
            for packet in self.hosts[host].transmit(self.now) {
                self.put(1 - host, packet);
            }
        }
        let timers = self.hosts.iter().filter_map(|host| host.tcp.next_timeout());
        let next = self.flying.keys().next().map(|(at, _)| *at).into_iter().chain(timers).min();
        let Some(next) = next else { return false };
        self.now = next.max(self.now + Duration::from_nanos(1));
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, packet) = entry.remove();
            let chunk = [16, 700, 2048, 4096][self.random.below(4) as usize];
            self.hosts[to].receive(&packet, chunk, self.now);
        }
        true
    }

    fn put(&mut self, to: usize, packet: Packet) {
        let Faults { delay, loss_percent, reorder_percent, duplicate_percent, carries } = self.faults;
        if packet.bytes.len() + if packet.source.is_ipv6() { 40 } else { 20 } > carries {
            return;
        }
        let copies = 1 + u64::from(self.random.below(100) < duplicate_percent);
        for _ in 0..copies {
            if self.random.below(100) < loss_percent {
                continue;
            }
            let late = self.random.below(100) < reorder_percent;
            let extra = if late { Duration::from_micros(self.random.below(5_000)) } else { Duration::ZERO };
            self.sent += 1;
            self.flying.insert((self.now + delay + extra, self.sent), (to, packet.clone()));
        }
    }

    fn serve(&mut self, stream: &mut Stream) {
        let tcp = &mut self.hosts[stream.host].tcp;
        if stream.written < stream.to_write.len() {
            let most = 1 + self.random.below(20_000) as usize;
            let rest = &stream.to_write[stream.written..];
            let rest = &rest[..rest.len().min(most)];
            let (one, two) = rest.split_at(rest.len() / 2);
            match tcp.write(stream.key, &[one, two], self.now) {
                Poll::Ready(Ok(taken)) => stream.written += taken,
                Poll::Ready(Err(error)) => panic!("write: {error:?}"),
                Poll::Pending => {}
            }
        } else if !std::mem::replace(&mut stream.shut, true) {
            tcp.shutdown(stream.key, self.now);
        }
        while !stream.ended {
            let mut into = [0; 3000];
            match tcp.read(stream.key, &mut into, self.now) {
                Poll::Ready(Ok(0)) => stream.ended = true,
                Poll::Ready(Ok(taken)) => stream.read.extend_from_slice(&into[..taken]),
                Poll::Ready(Err(error)) => panic!("read: {error:?} after {}", stream.read.len()),
                Poll::Pending => break,
            }
        }
    }
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

#[derive(Clone, Debug)]
struct Case {
    addresses: [&'static str; 2],
    mtu: u16,
    faults: Faults,
    len: usize,
    options: TcpOptions,
    connections: usize,
}

/// Both sides write, read all and end; afterwards nothing is left. Gives the virtual time that it took.
fn transfer(seed: u64, case: &Case) -> Duration {
    let mut world = World::new(seed, case.addresses, case.mtu, case.faults);
    let listener = world.listen(case.options.clone());
    let start = world.now;
    let clients: Vec<_> = (0..case.connections).map(|_| world.connect(case.options.clone())).collect();
    let mut streams: Vec<Stream> = Vec::new();
    let mut texts: HashMap<SocketAddr, (Vec<u8>, Vec<u8>)> = HashMap::new();
    let stream = |host, key, to_write| Stream {
        host,
        key,
        to_write,
        written: 0,
        shut: false,
        read: Vec::new(),
        ended: false,
    };
    for key in clients {
        let local = world.hosts[0].tcp.info(key).unwrap().local;
        let text = (bytes(&mut world.random, case.len), bytes(&mut world.random, case.len));
        streams.push(stream(0, key, text.0.clone()));
        texts.insert(local, text);
    }
    let mut steps = 0u64;
    while !(streams.len() == 2 * case.connections && streams.iter().all(|stream| stream.shut && stream.ended))
    {
        assert!(world.step(), "seed {seed}: nothing happens any more");
        steps += 1;
        assert!(
            steps < 3_000_000 && world.now.since(start).as_secs() < 3_600,
            "seed {seed}: it does not end"
        );
        while let Poll::Ready(Ok(key)) = world.hosts[1].tcp.accept(listener) {
            let remote = world.hosts[1].tcp.info(key).unwrap().remote;
            streams.push(stream(1, key, texts[&remote].1.clone()));
        }
        for stream in &mut streams {
            let connected = world.hosts[stream.host].tcp.connected(stream.key);
            if connected == Poll::Ready(Ok(())) {
                world.serve(stream);
            }
        }
        while world.hosts.iter_mut().any(|host| host.tcp.poll_event().is_some()) {}
    }
    let took = world.now.since(start);
    for stream in &streams {
        let info = world.hosts[stream.host].tcp.info(stream.key).expect("the key is still held");
        let text = &texts[if stream.host == 0 { &info.local } else { &info.remote }];
        let expected = if stream.host == 0 { &text.1 } else { &text.0 };
        assert!(stream.read == *expected, "seed {seed}: not what was written");
        world.hosts[stream.host].tcp.close(stream.key, world.now);
    }
    let ended = world.now;
    while world.now.since(ended).as_secs() < 300 && world.step() {}
    for host in &world.hosts {
        assert_eq!(host.tcp.connections(), 0, "seed {seed}: {:?}", host.tcp.states().collect::<Vec<_>>());
        assert_eq!(host.tcp.lent_bytes(), 0, "seed {seed}: buffers are given back");
        assert_eq!(host.tcp.next_timeout(), None, "seed {seed}: no timer is left");
    }
    took
}

fn calm() -> Case {
    let delay = Duration::from_millis(5);
    Case {
        addresses: ["10.0.0.1", "10.0.0.2"],
        mtu: 1500,
        faults: Faults {
            delay,
            loss_percent: 0,
            reorder_percent: 0,
            duplicate_percent: 0,
            carries: usize::MAX,
        },
        len: 300_000,
        options: TcpOptions { keepalive: None, ..TcpOptions::default() },
        connections: 1,
    }
}

fn rough(seed: u64) -> Case {
    let mut random = Random(seed ^ 0x5eed);
    let mut case = calm();
    case.faults.delay = Duration::from_micros(50 + random.below(30_000));
    case.faults.loss_percent = random.below(8);
    case.faults.reorder_percent = random.below(20);
    case.faults.duplicate_percent = random.below(10);
    case.mtu = [1280, 1500, 9000, 65_535][random.below(4) as usize];
    case.options.congestion = [Congestion::Cubic, Congestion::NewReno][random.below(2) as usize];
    case.options.receive_buffer_bytes = 1 << (13 + random.below(8));
    case.options.send_buffer_bytes = 1 << (13 + random.below(8));
    case.options.no_delay = random.below(2) == 0;
    case.options.connect_timeout = Duration::from_secs(60);
    case.len = random.below(150_000) as usize;
    case.connections = 1 + random.below(4) as usize;
    if random.below(2) == 0 {
        case.addresses = ["2001:db8::1", "2001:db8::2"];
    }
    case
}

#[test]
fn a_calm_link_carries_both_streams_without_a_timeout() {
    let took = transfer(1, &calm());
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_packet_of_65535_bytes_is_used_whole() {
    transfer(2, &Case { mtu: u16::MAX, len: 2_000_000, ..calm() });
}

/// RFC 4821: nobody says that long packets do not arrive.
#[test]
fn a_path_that_swallows_long_packets_carries_both_streams_all_the_same() {
    for (mtu, carries) in [(1500, 1400), (9000, 1500), (65_535, 1500)] {
        for addresses in [["10.0.0.1", "10.0.0.2"], ["2001:db8::1", "2001:db8::2"]] {
            let mut case = Case { mtu, addresses, len: 400_000, ..calm() };
            case.faults.carries = carries;
            let took = transfer(4, &case);
            // Three timeouts of a side that has measured no round trip yet, and whose SYN was lost (RFC 6298, 5.7): 3, 6
            // and 12 seconds.
            assert!(took < Duration::from_secs(25), "{mtu} over {carries}: {took:?}");
        }
    }
}

/// Window scale, tuning of both buffers and congestion control together: a long fat path is filled.
#[test]
fn buffers_grow_to_what_a_long_path_needs() {
    let mut case = Case { len: 12_000_000, ..calm() };
    case.faults.delay = Duration::from_millis(50);
    let took = transfer(5, &case);
    // Slow start doubles from 14,600 bytes each 100 ms; with windows of 64 KiB it would be 18 s.
    assert!(took < Duration::from_millis(2_500), "{took:?}");
}

fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// `SEED=7 SEEDS=1` in the environment replays one.
#[test]
fn rough_links_carry_every_byte_in_order_for_many_seeds() {
    let (first, count) = (number_in("SEED", 0), number_in("SEEDS", 150));
    for seed in first..first + count {
        transfer(seed, &rough(seed));
    }
}

#[test]
fn a_connect_to_nobody_is_refused() {
    let mut world = World::new(3, ["10.0.0.1", "10.0.0.2"], 1500, calm().faults);
    let key = world.connect(TcpOptions::default());
    while world.hosts[0].tcp.connected(key).is_pending() {
        assert!(world.step());
    }
    assert_eq!(world.hosts[0].tcp.connected(key), Poll::Ready(Err(TcpError::Refused)));
}

/// Mathis et al. (1997): MSS / RTT * 1.22 / sqrt(loss), which no loss-based control beats by much. Far below it means
/// that recovery stalls somewhere.
#[test]
fn goodput_under_loss_is_what_the_loss_allows() {
    for control in [Congestion::Cubic, Congestion::NewReno] {
        for loss_percent in [1, 5] {
            let mut case = Case { len: 1_000_000, ..calm() };
            case.options.congestion = control;
            case.faults.loss_percent = loss_percent;
            let round_trip = 2.0 * case.faults.delay.as_secs_f64();
            let allowed = 1448.0 / round_trip * 1.22 / (loss_percent as f64 / 100.0).sqrt();
            let mut rates: Vec<_> =
                (0..5).map(|seed| case.len as f64 / transfer(seed, &case).as_secs_f64()).collect();
            rates.sort_by(f64::total_cmp);
            assert!(rates[2] > 0.6 * allowed, "{control:?} at {loss_percent}%: {rates:?} of {allowed} B/s");
        }
    }
}
