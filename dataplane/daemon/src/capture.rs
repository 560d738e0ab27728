//! What `/capture` asks for: a bounded recording of the packets that pass the queue pairs, where tcpdump is blind.

use std::net::IpAddr;
use std::time::Duration;

use nic::{CaptureFilter, CaptureLimits, CaptureReader, pcapng};

use crate::node::Node;

/// Blocks that may wait for us; what a worker brings beyond them is counted as missed.
const CHANNEL_BLOCKS: usize = 8_192;
/// How often what was recorded is fetched.
const FETCH_INTERVAL: Duration = Duration::from_millis(20);

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

/// Runs one capture over all queue pairs of the node, and gives it as one file.
pub async fn record(node: &Node, request: Request) -> Vec<u8> {
    let limits = CaptureLimits { packets: request.packets as u64, ..CaptureLimits::default() };
    let filter = CaptureFilter { address: request.address, port: request.port };
    let mut file = Vec::new();
    pcapng::push_section_header(&mut file);
    for device in &node.devices() {
        pcapng::push_interface(&mut file, device, limits.snap_bytes);
    }
    // Dropping the readers ends what still runs: each capture finds that nobody listens.
    let readers: Vec<CaptureReader> = node.start_captures(filter, limits, CHANNEL_BLOCKS);
    let deadline = tokio::time::Instant::now() + request.duration;
    let mut packets = 0;
    while packets < request.packets && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(FETCH_INTERVAL).await;
        for block in readers.iter().flat_map(|reader| std::iter::from_fn(|| reader.poll())) {
            if packets < request.packets {
                packets += 1;
                file.extend(block);
            }
        }
    }
    file
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
                _ => {
                    return Err(format!(
                        "{name}: no such parameter; there are packets, seconds, address, port"
                    ));
                }
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
        for (query, named) in [
            ("packets=0", "packets=0"),
            ("seconds=900", "seconds"),
            ("address=x", "address=x"),
            ("ports=1", "ports"),
        ] {
            assert!(Request::parse(query).unwrap_err().contains(named), "{query}");
        }
    }
}
