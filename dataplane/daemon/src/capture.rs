//! What `/capture` asks for: a bounded recording of the packets that pass the queue pairs, where tcpdump is blind.

use std::net::IpAddr;
use std::time::Duration;

/// Packets recorded when the request does not say.
const DEFAULT_PACKETS: usize = 1_000;
/// No capture is longer, whatever is asked: it is held in memory until it is answered.
const MAX_PACKETS: usize = 100_000;
const DEFAULT_SECONDS: u64 = 10;
const MAX_SECONDS: u64 = 300;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub packets: usize,
    pub duration: Duration,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
}

impl Request {
    /// Reads a query string; a refusal names the parameter.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut request = Self {
            packets: DEFAULT_PACKETS,
            duration: Duration::from_secs(DEFAULT_SECONDS),
            address: None,
            port: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // An address in a query may come with its colons escaped.
            let value = value.replace("%3A", ":").replace("%3a", ":");
            if value.is_empty() {
                continue;
            }
            let wrong = |right: &str| format!("{name}={value}: {right}");
            match name {
                "packets" => {
                    let packets = value.parse().ok().filter(|count| (1..=MAX_PACKETS).contains(count));
                    request.packets = packets.ok_or_else(|| wrong("wants 1 to 100000"))?;
                }
                "seconds" => {
                    let seconds = value.parse().ok().filter(|count| (1..=MAX_SECONDS).contains(count));
                    request.duration = Duration::from_secs(seconds.ok_or_else(|| wrong("wants 1 to 300"))?);
                }
                "address" => request.address = Some(value.parse().map_err(|_| wrong("wants an IP address"))?),
                "port" => request.port = Some(value.parse().map_err(|_| wrong("wants a port number"))?),
                _ => return Err(format!("{name}: no such parameter; there are packets, seconds, address, port")),
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_bounded() {
        let request = Request::parse("packets=5&address=fd77%3A%3A80&port=80&seconds=").unwrap();
        assert_eq!((request.packets, request.port), (5, Some(80)));
        assert_eq!(request.address, Some("fd77::80".parse().unwrap()));
        assert_eq!(request.duration, Duration::from_secs(DEFAULT_SECONDS));
        for (query, named) in [("packets=0", "packets=0"), ("seconds=900", "seconds"), ("address=x", "address=x"), ("ports=1", "ports")] {
            assert!(Request::parse(query).unwrap_err().contains(named), "{query}");
        }
    }
}
