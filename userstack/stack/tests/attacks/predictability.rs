//! Predictable numbers: an attacker who knows its own connections must not know others' initial sequence numbers
//! (RFC 6528) or source ports (RFC 6056). Statistics over what the stack really sends; each has a control, which is the
//! naive choice, and fails it.
//!
//! Figures: of 4,096 initial sequences each byte's chi-square over 256 values is below 350 (255 is even, 1 in 10,000 is
//! above 345); a guess at the next port is right in at most one of four tries at one destination, and in none of 1,000
//! at another; identifications of 4,096 destinations are as even; and a burst of ICMP errors is of no certain length, so
//! that whoever empties the limit does not learn what others took of it (CVE-2020-25705).

use std::net::SocketAddr;
use std::time::Duration;

use stack::{TcpOptions, Verdict};

use crate::network::packets::Spec;
use crate::target::{Heard, OURS, Target};

const SAMPLES: usize = 4_096;
/// Chi-square of 255 degrees of freedom: beyond this by chance once in more than 10,000.
const EVEN_AT_MOST: f64 = 350.0;

fn chi_square(bytes: impl Iterator<Item = u8>) -> f64 {
    let (mut bins, mut count) = ([0u32; 256], 0.0);
    for byte in bytes {
        bins[usize::from(byte)] += 1;
        count += 1.0;
    }
    let expected = count / 256.0;
    bins.iter().map(|bin| (f64::from(*bin) - expected).powi(2) / expected).sum()
}

/// The worst chi-square of the four bytes of `words`, and of those of their differences.
fn unevenness(words: &[u32]) -> f64 {
    let differences: Vec<u32> = words.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let all = [words, &differences];
    let columns = all
        .iter()
        .flat_map(|words| (0..4).map(|byte| words.iter().map(move |word| word.to_be_bytes()[byte])));
    columns.map(chi_square).fold(0.0, f64::max)
}

/// The SYN of a new connection to `remote`.
fn syn(target: &mut Target, remote: &str) -> Heard {
    let remote: SocketAddr = remote.parse().unwrap();
    let key = target.stack.tcp_connect(remote, None, TcpOptions::default(), target.now).unwrap();
    let sent = target.segments().remove(0);
    target.stack.tcp_abort(key, target.now);
    target.flush();
    sent
}

#[test]
fn initial_sequences_of_different_connections_are_even() {
    let mut target = Target::new();
    let seen: Vec<u32> = (0..SAMPLES)
        .map(|number| {
            // Microseconds apart, as in a flood: a clock alone would hardly move.
            target.now = target.now + Duration::from_micros(10);
            syn(&mut target, &format!("198.51.{}.{}:443", number / 256, number % 256)).seq
        })
        .collect();
    assert!(unevenness(&seen) < EVEN_AT_MOST, "{}", unevenness(&seen));
    // Control: RFC 793's clock of 4 us without the keyed hash.
    let clock: Vec<u32> = (0..SAMPLES as u32).map(|number| 900_000_000 + number * 10 / 4).collect();
    assert!(unevenness(&clock) > EVEN_AT_MOST);
}

#[test]
fn initial_sequences_of_two_stacks_have_nothing_in_common() {
    let sequences = |secret| {
        let config = stack::Config { secret: [secret; 32], ..stack::Config::default() };
        let mut target = Target::with(config);
        (0..SAMPLES)
            .map(|number| syn(&mut target, &format!("198.51.{}.{}:443", number / 256, number % 256)).seq)
            .collect::<Vec<u32>>()
    };
    let (one, other) = (sequences(1), sequences(2));
    let between: Vec<u32> = one.iter().zip(&other).map(|(one, other)| one.wrapping_sub(*other)).collect();
    assert!(unevenness(&between) < EVEN_AT_MOST);
    // Control: with the same secret they are the same.
    assert_eq!(sequences(1), one);
}

/// Of 1,000 connections, how often the next port was the one that `guess` says after the last.
fn right_guesses(ports: &[u16], guess: impl Fn(u16) -> u16) -> usize {
    ports.windows(2).filter(|pair| guess(pair[0]) == pair[1]).count()
}

#[test]
fn the_next_port_to_a_destination_is_not_known_from_the_last() {
    let mut target = Target::new();
    let ports: Vec<u16> = (0..1_001).map(|_| syn(&mut target, "198.51.100.1:443").from.port()).collect();
    let best = (1..64).map(|step| right_guesses(&ports, |last| last + step)).max().unwrap();
    assert!(best <= 250, "{best} of 1,000");
    // Control: a counter is guessed every time.
    let counter: Vec<u16> = (40_000..41_001).collect();
    assert_eq!(right_guesses(&counter, |last| last + 1), 1_000);
}

#[test]
fn ports_to_one_destination_say_nothing_of_those_to_another() {
    let mut target = Target::new();
    let (mut own, mut others) = (vec![], vec![]);
    for _ in 0..1_000 {
        own.push(syn(&mut target, "198.51.100.66:443").from.port());
        others.push(syn(&mut target, "198.51.100.1:443").from.port());
    }
    // The attacker sees its own, and guesses the victim's by any fixed distance learned from the first pair.
    let distance = others[0].wrapping_sub(own[0]);
    let right =
        own.iter().zip(&others).skip(1).filter(|(own, other)| own.wrapping_add(distance) == **other).count();
    assert!(right < 100, "{right} of 999");
    // Control: with one counter for all (RFC 6056, algorithm 3) the distance stays the same.
    let shared = |number: u16| (40_000 + 2 * number, 50_000 + 2 * number + 1);
    let (own, other) = shared(0);
    assert!((1..1_000).map(shared).all(|(mine, theirs)| theirs - mine == other - own));
}

#[test]
fn ports_of_many_destinations_cover_the_range_evenly() {
    let mut target = Target::new();
    let ports: Vec<u16> = (0..SAMPLES)
        .map(|number| syn(&mut target, &format!("198.51.{}.{}:443", number / 256, number % 256)).from.port())
        .collect();
    let low = chi_square(ports.iter().map(|port| *port as u8));
    assert!(low < EVEN_AT_MOST, "{low}");
    assert!(ports.iter().all(|port| (32_768..=60_999).contains(port)));
}

/// The identification of a datagram that is sent in fragments.
fn identification(target: &mut Target, socket: stack::UdpKey, remote: &str) -> u16 {
    let sent = target.stack.udp_send(socket, &[0; 2_000], remote.parse().unwrap(), target.now);
    assert_eq!(sent, std::task::Poll::Ready(Ok(())));
    let frame = target.frames().remove(0);
    u16::from_be_bytes([frame[18], frame[19]])
}

#[test]
fn identifications_of_one_destination_say_nothing_of_anothers() {
    let mut target = Target::new();
    let socket = target.stack.udp_bind("10.0.0.1:53".parse().unwrap(), None).unwrap();
    let seen: Vec<u16> = (0..SAMPLES)
        .map(|number| {
            identification(&mut target, socket, &format!("198.51.{}.{}:53", number / 256, number % 256))
        })
        .collect();
    let column = |byte: usize| chi_square(seen.iter().map(|id| id.to_be_bytes()[byte]));
    assert!(column(0) < EVEN_AT_MOST && column(1) < EVEN_AT_MOST, "{} {}", column(0), column(1));
    // To one destination they follow each other: none comes again soon.
    let follow: Vec<u16> = (0..10).map(|_| identification(&mut target, socket, "198.51.100.1:53")).collect();
    assert!(follow.windows(2).all(|pair| pair[0] != pair[1]));
    // Control: one counter for all is uneven in its high byte.
    assert!(chi_square((0..SAMPLES).map(|number| (number >> 8) as u8)) > EVEN_AT_MOST);
}

#[test]
fn a_burst_of_icmp_errors_is_of_no_certain_length() {
    let mut target = Target::new();
    let mut burst = || {
        target.now = target.now + Duration::from_secs(1);
        let probe = Spec::new("192.0.2.1", "10.0.0.1", OURS);
        (1..=100).for_each(|port| {
            target.hear(probe.udp((53, port), b""));
        });
        target.frames().len()
    };
    let bursts: Vec<usize> = (0..16).map(|_| burst()).collect();
    assert!(bursts.iter().all(|burst| (30..=50).contains(burst)), "{bursts:?}");
    assert!(bursts.iter().any(|burst| *burst != bursts[0]), "{bursts:?}");
    // Control: the limit of echo replies, which nobody can use so, is certain.
    let mut echoes = || {
        target.now = target.now + Duration::from_secs(1);
        let echo = Spec::new("192.0.2.1", "10.0.0.1", OURS).icmp(&[8, 0, 0, 0, 0, 1, 0, 2]);
        (0..1_100).filter(|_| matches!(target.hear(echo.clone()), Verdict::Forward(_))).count()
    };
    assert_eq!([echoes(), echoes()], [1_000, 1_000]);
}

/// Source ports that 200 new datagram sockets choose, one after the other.
fn socket_ports(secret: u8) -> Vec<u16> {
    let mut target = Target::with(stack::Config { secret: [secret; 32], ..stack::Config::default() });
    (0..200)
        .map(|_| {
            let socket = target.stack.udp_bind("10.0.0.1:0".parse().unwrap(), None).unwrap();
            let sent =
                target.stack.udp_send(socket, b"query", "198.51.100.1:53".parse().unwrap(), target.now);
            assert_eq!(sent, std::task::Poll::Ready(Ok(())));
            let frame = target.frames().remove(0);
            target.stack.udp_close(socket);
            u16::from_be_bytes([frame[34], frame[35]])
        })
        .collect()
}

#[test]
fn ports_of_datagram_sockets_are_known_to_the_secret_alone() {
    let (one, other) = (socket_ports(1), socket_ports(2));
    assert!(one.iter().zip(&other).filter(|(one, other)| one == other).count() <= 2);
    let best = (1..64).map(|step| right_guesses(&one, |last| last.wrapping_add(step))).max().unwrap();
    assert!(best <= 2, "{best} of 199");
    // Control: with the same secret they are the same.
    assert_eq!(socket_ports(1), one);
}
