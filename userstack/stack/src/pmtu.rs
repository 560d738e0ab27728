//! What paths turned out to carry: IP bytes a destination, learned from ICMP (RFC 1191, RFC 8201).

use std::net::IpAddr;
use std::time::Duration;

use crate::Instant;
use crate::hash::{Key, Map, bits};

/// Destinations remembered at most; another one takes the place of an expired one, or is not remembered.
const MAX_PATHS: usize = 4096;
/// How long a smaller MTU is believed (RFC 1191, section 6.3, and RFC 8201, section 5.3: about 10 minutes).
const LIFETIME: Duration = Duration::from_secs(600);
/// No link of IPv6 carries less (RFC 8200, section 5).
pub(crate) const MIN_MTU_V6: u16 = 1280;
/// Less is refused: nobody's link needs it, and an attacker would make us send tiny packets (Linux: min_pmtu).
const MIN_MTU_V4: u16 = 552;

/// Who vouches for what an ICMP error says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// It quoted a sequence number that is in flight: whoever sent it saw our packet (RFC 5927, section 4.1).
    Sequence,
    /// It quoted addresses and ports, which anybody can guess.
    Ports,
}

/// What was learned on either word. Streams believe the first only: else an error that quotes some datagram would shorten
/// all segments to that destination, past every check of theirs.
#[derive(Debug)]
pub(crate) struct PathMtus {
    proven: Paths,
    claimed: Paths,
}

impl PathMtus {
    pub fn new(key: Key) -> Self {
        Self { proven: Paths::new(key), claimed: Paths::new(key) }
    }

    /// A router says that `destination` is reached with `mtu` at most. Returns what is believed of it; `None`: no
    /// news. A larger value than known is none either: paths widen by expiry only.
    pub fn learn(&mut self, destination: IpAddr, mtu: u16, witness: Witness, now: Instant) -> Option<u16> {
        match witness {
            Witness::Sequence => self.proven.learn(destination, mtu, now),
            Witness::Ports => self.claimed.learn(destination, mtu, now),
        }
    }

    /// IP bytes of a stream's packet that reach `destination` when the interface carries `mtu`.
    pub fn stream_limit(&self, destination: IpAddr, mtu: u16, now: Instant) -> u16 {
        self.proven.limit(destination, mtu, now)
    }

    /// The same of any other packet.
    pub fn limit(&self, destination: IpAddr, mtu: u16, now: Instant) -> u16 {
        self.claimed.limit(destination, self.proven.limit(destination, mtu, now), now)
    }
}

#[derive(Debug)]
struct Paths {
    paths: Map<u128, Path>,
    /// No entry expires before it.
    first_expiry: Instant,
}

#[derive(Debug)]
struct Path {
    mtu: u16,
    until: Instant,
}

impl Paths {
    fn new(key: Key) -> Self {
        Self { paths: Map::with_hasher(key), first_expiry: Instant::ZERO }
    }

    fn learn(&mut self, destination: IpAddr, mtu: u16, now: Instant) -> Option<u16> {
        let mtu = mtu.max(if destination.is_ipv4() { MIN_MTU_V4 } else { MIN_MTU_V6 });
        let key = bits(destination);
        if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(&key) && !self.expire(now) {
            return None;
        }
        let path = self.paths.entry(key).or_insert(Path { mtu: u16::MAX, until: now });
        let known = if path.until > now { path.mtu } else { u16::MAX };
        (mtu < known).then(|| {
            *path = Path { mtu, until: now + LIFETIME };
            mtu
        })
    }

    /// Forgets what has expired; false when nothing has. A flood of errors does not make each one look at all entries.
    fn expire(&mut self, now: Instant) -> bool {
        if now < self.first_expiry {
            return false;
        }
        self.paths.retain(|_, path| path.until > now);
        self.first_expiry = self.paths.values().map(|path| path.until).min().unwrap_or(now);
        self.paths.len() < MAX_PATHS
    }

    fn limit(&self, destination: IpAddr, mtu: u16, now: Instant) -> u16 {
        if self.paths.is_empty() {
            return mtu;
        }
        self.paths
            .get(&bits(destination))
            .filter(|path| path.until > now)
            .map_or(mtu, |path| path.mtu.min(mtu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVEN: Witness = Witness::Sequence;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_smaller_mtu_is_believed_until_it_expires() {
        let mut paths = PathMtus::new(Key::new(&[0; 32], 0));
        let now = Instant::ZERO;
        assert_eq!(paths.learn(host(1), 1400, PROVEN, now), Some(1400));
        assert_eq!(paths.learn(host(1), 1450, PROVEN, now), None);
        assert_eq!(paths.limit(host(1), 1500, now), 1400);
        assert_eq!(paths.limit(host(2), 1500, now), 1500);
        assert_eq!(paths.limit(host(1), 1500, now + LIFETIME), 1500);
    }

    #[test]
    fn absurd_values_are_raised_to_the_least_allowed() {
        let mut paths = PathMtus::new(Key::new(&[0; 32], 0));
        assert_eq!(paths.learn(host(1), 0, PROVEN, Instant::ZERO), Some(MIN_MTU_V4));
        assert_eq!(paths.learn("2001:db8::1".parse().unwrap(), 68, PROVEN, Instant::ZERO), Some(MIN_MTU_V6));
    }

    #[test]
    fn a_full_cache_learns_no_more_until_something_expires() {
        let mut paths = PathMtus::new(Key::new(&[0; 32], 0));
        for number in 0..MAX_PATHS as u32 {
            paths.learn(host(number), 1400, PROVEN, Instant::ZERO);
        }
        assert_eq!(paths.learn(host(1 << 20), 1400, PROVEN, Instant::ZERO), None);
        assert_eq!(paths.learn(host(1 << 20), 1400, PROVEN, Instant::ZERO + LIFETIME), Some(1400));
    }

    #[test]
    fn a_datagrams_error_says_nothing_to_streams() {
        let mut paths = PathMtus::new(Key::new(&[0; 32], 0));
        let now = Instant::ZERO;
        paths.learn(host(1), 600, Witness::Ports, now);
        assert_eq!((paths.limit(host(1), 1500, now), paths.stream_limit(host(1), 1500, now)), (600, 1500));
        paths.learn(host(1), 1400, PROVEN, now);
        assert_eq!((paths.limit(host(1), 1500, now), paths.stream_limit(host(1), 1500, now)), (600, 1400));
    }
}
