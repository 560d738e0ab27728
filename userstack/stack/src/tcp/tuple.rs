//! The four numbers that name a connection, and the keyed hashes over them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::sequence::Seq;
use crate::Instant;

/// Local and remote address and port, packed: 40 bytes, compared as words.
#[derive(Copy, Clone, Debug, Eq)]
pub(crate) struct Tuple {
    local: [u64; 2],
    remote: [u64; 2],
    local_port: u16,
    remote_port: u16,
    v6: bool,
}

impl PartialEq for Tuple {
    /// Word by word: each segment is compared with its connection.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ends = (self.local[0] ^ other.local[0])
            | (self.local[1] ^ other.local[1])
            | (self.remote[0] ^ other.remote[0])
            | (self.remote[1] ^ other.remote[1]);
        ends == 0
            && self.local_port == other.local_port
            && self.remote_port == other.remote_port
            && self.v6 == other.v6
    }
}

impl Tuple {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local: words(local.ip()),
            remote: words(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
            v6: local.is_ipv6(),
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address(self.local), self.local_port)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address(self.remote), self.remote_port)
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.local_port
    }

    pub(crate) fn remote_port(&self) -> u16 {
        self.remote_port
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.v6
    }

    fn address(&self, [high, low]: [u64; 2]) -> IpAddr {
        if self.v6 {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(low as u32))
        }
    }

    fn ports(&self) -> u64 {
        u64::from(self.local_port) << 32 | u64::from(self.remote_port) << 8 | u64::from(self.v6)
    }
}

/// The same in 36 bytes that need no alignment, for entries of which there are many. IPv4 is IPv4-mapped IPv6, which is
/// never accepted from the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedTuple {
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
}

impl Tuple {
    pub(crate) fn pack(&self) -> PackedTuple {
        let mapped = if self.v6 { 0 } else { 0xffff << 32 };
        let octets =
            |[high, low]: [u64; 2]| (u128::from(high) << 64 | u128::from(low | mapped)).to_be_bytes();
        PackedTuple {
            addresses: [octets(self.local), octets(self.remote)],
            ports: [self.local_port, self.remote_port],
        }
    }
}

impl PackedTuple {
    #[inline]
    pub(crate) fn unpack(&self) -> Tuple {
        let bits = self.addresses.map(u128::from_be_bytes);
        let v6 = bits.iter().any(|bits| bits >> 32 != 0xffff);
        let [local, remote] = bits
            .map(|bits| if v6 { [(bits >> 64) as u64, bits as u64] } else { [0, u64::from(bits as u32)] });
        let [local_port, remote_port] = self.ports;
        Tuple { local, remote, local_port, remote_port, v6 }
    }
}

fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [0, u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

/// Keys derived from the stack's secret, one a purpose.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    flow: [u64; 4],
    /// Of where sequence and timestamp clock start.
    start: [u64; 2],
    port: [u64; 2],
    cookie: [u64; 2],
    port_counter: [u64; 2],
    port_noise: [u64; 2],
}

impl Secrets {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(secret.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let derive = |purpose: u64| siphash([words[0], words[1]], &[purpose, words[2], words[3]]);
        let pair = |purpose: u64| [derive(2 * purpose), derive(2 * purpose + 1)];
        let [a, b] = pair(0);
        let [c, d] = pair(1);
        Self {
            flow: [a, b, c, d],
            start: pair(2),
            port: pair(4),
            cookie: pair(5),
            port_counter: pair(6),
            port_noise: pair(7),
        }
    }

    /// The flow table's hash: keyed, and a few multiplications because every segment pays for it.
    pub(crate) fn flow_hash(&self, tuple: &Tuple) -> u32 {
        let [a, b, c, d] = self.flow;
        let local = fold(tuple.local[0] ^ a, tuple.local[1] ^ b);
        let both = fold(tuple.remote[0] ^ local, tuple.remote[1] ^ c);
        fold(both ^ tuple.ports(), d) as u32
    }

    /// Where a connection's sequence and its timestamp clock start: the two halves of one keyed hash, neither of which
    /// says anything of the other.
    pub(crate) fn starts(&self, tuple: &Tuple, now: Instant) -> (Seq, u32) {
        let hash = keyed(self.start, tuple, 0);
        // RFC 6528, section 3: a clock of 4 us steps plus a keyed hash of the connection.
        let clock = (now.as_nanos() / 4_000) as u32;
        (Seq(clock.wrapping_add(hash as u32)), (hash >> 32) as u32)
    }

    #[cfg(test)]
    pub(crate) fn initial_sequence(&self, tuple: &Tuple, now: Instant) -> Seq {
        self.starts(tuple, now).0
    }

    /// Where the timestamp clock of a connection starts (RFC 7323, section 5.4): the same for each connection of these
    /// four numbers, so that a later one's timestamps are greater (RFC 6191).
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        self.starts(tuple, Instant::ZERO).1
    }

    /// RFC 6056, section 3.3.4: a destination's place in the port range (F). The local port must be zero.
    pub(crate) fn port_offset(&self, tuple: &Tuple) -> u32 {
        keyed(self.port, tuple, 0) as u32
    }

    /// RFC 6056, section 3.3.4: which counter a destination has (G). The local port must be zero.
    pub(crate) fn port_counter(&self, tuple: &Tuple) -> u32 {
        keyed(self.port_counter, tuple, 0) as u32
    }

    /// What only the secret knows of `word`.
    pub(crate) fn port_noise(&self, word: u64) -> u32 {
        siphash(self.port_noise, &[word]) as u32
    }

    pub(crate) fn cookie_hash(&self, tuple: &Tuple, extra: u64) -> u32 {
        keyed(self.cookie, tuple, extra) as u32
    }
}

fn keyed(key: [u64; 2], tuple: &Tuple, extra: u64) -> u64 {
    let Tuple { local, remote, .. } = tuple;
    // Two words fewer for IPv4: the length is part of the hash.
    if !tuple.v6 {
        return siphash(key, &[local[1] << 32 | remote[1], tuple.ports(), extra]);
    }
    siphash(key, &[local[0], local[1], remote[0], remote[1], tuple.ports(), extra])
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) over whole words.
fn siphash(key: [u64; 2], words: &[u64]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let length = (words.len() as u64 * 8) << 56;
    for word in words.iter().copied().chain([length]) {
        v[3] ^= word;
        sip_round(&mut v);
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_gives_the_published_vector() {
        // The reference implementation's test: key 00..0f, message 00..07.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash(key, &[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn addresses_come_back_as_they_went_in() {
        for (local, remote) in [("10.0.0.1:80", "192.0.2.7:40000"), ("[2001:db8::1]:80", "[fe80::2]:1")] {
            let tuple = Tuple::new(local.parse().unwrap(), remote.parse().unwrap());
            assert_eq!(
                (tuple.local().to_string(), tuple.remote().to_string()),
                (local.into(), remote.into())
            );
            assert_eq!(tuple.pack().unpack(), tuple);
        }
    }

    #[test]
    fn initial_sequences_of_one_connection_rise_with_the_clock_and_differ_between_connections() {
        let secrets = Secrets::new(&[7; 32]);
        let tuple = |port| Tuple::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into());
        let first = secrets.initial_sequence(&tuple(1), Instant::ZERO);
        let later = secrets.initial_sequence(&tuple(1), Instant::from_nanos(4_000_000_000));
        assert_eq!(later.since(first), 1_000_000);
        assert_ne!(secrets.initial_sequence(&tuple(2), Instant::ZERO), first);
        assert_ne!(Secrets::new(&[8; 32]).initial_sequence(&tuple(1), Instant::ZERO), first);
    }
}
