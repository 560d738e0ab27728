//! What `/capture` asks for: a bounded recording of the packets that pass the queue pairs, where tcpdump is blind.

use std::net::IpAddr;
use std::time::Duration;

use nic::{CaptureFilter, CaptureLimits, pcapng};

use crate::node::Node;

/// Blocks that may wait for us; what a worker brings beyond them is counted as missed.
const CHANNEL_BLOCKS: usize = 8_192;
/// How often what was recorded is fetched.
const FETCH_INTERVAL: Duration = Duration::from_millis(20);

/// Packets recorded when the request does not say.
const DEFAULT_PACKETS: usize = 1_000;
/// No capture is longer, whatever is asked: it is held in memory until it is answered.
const MAX_PACKETS: usize = 100_000;
/// Nor is its file larger: 1,000 whole packets of a workload's bulk, at 64 KiB each.
const MAX_FILE_BYTES: usize = 64 << 20;
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
    let limits = CaptureLimits {
        packets: request.packets as u64,
        bytes: MAX_FILE_BYTES as u64,
        ..CaptureLimits::default()
    };
    let filter = CaptureFilter { address: request.address, port: request.port };
    let mut file = Vec::new();
    pcapng::push_section_header(&mut file);
    for device in &node.devices() {
        pcapng::push_interface(&mut file, device, limits.snap_bytes);
    }
    // Dropping the reader ends what still runs: each queue pair's capture finds that nobody listens.
    let reader = node.start_captures(filter, limits, CHANNEL_BLOCKS);
    let deadline = tokio::time::Instant::now() + request.duration;
    let (mut packets, mut full) = (0, false);
    while packets < request.packets && !full && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(FETCH_INTERVAL).await;
        while packets < request.packets
            && let Some(block) = reader.poll()
        {
            full = file.len() + block.len() > MAX_FILE_BYTES;
            if full {
                break;
            }
            packets += 1;
            file.extend(block);
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
    use std::path::Path;

    use nic::{Burst, Frame, MemoryLink, MemoryQueuePair, Packet, QueuePair};
    use proxy::{Proxy, ProxyConfig};
    use socket::{Core, Instant};
    use worker::{Doorbell, Port, Stack, StackConfig, Worker, mailbox};

    use super::*;
    use crate::config::NodeConfig;
    use crate::node::Handle;

    /// A worker with two queues of device 3, and the far ends of both.
    fn worker_with_two_queues() -> (Worker<Proxy>, [MemoryQueuePair; 2], Handle) {
        let now = Instant::from_nanos(1);
        let (mailbox, commands) = mailbox(Doorbell::new().unwrap());
        let core = Core::new(Stack::new(StackConfig::default(), now), 1);
        let mut worker =
            Worker::new(core, Proxy::new(ProxyConfig::default()), commands, worker::Place::alone());
        let far = [0, 1].map(|_| {
            let (near, far) = MemoryQueuePair::pair(MemoryLink::default());
            worker.add_port(Port::new("card".into(), 3, Box::new(near)));
            far
        });
        (worker, far, Handle { cpu: 0, mailbox })
    }

    #[test]
    fn every_queue_of_a_device_is_recorded_on_every_worker() {
        let yaml = "node: n\nworkers: [0, 1]\nstate: /nowhere\nresources: /nowhere\n\
                    interfaces: [{ name: card, role: uplink, addresses: [10.0.0.1/24] }]\n";
        let config = NodeConfig::parse(yaml, Path::new("node.yaml")).unwrap();
        let (mut workers, handles): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| worker_with_two_queues())
            .map(|(worker, far, handle)| ((worker, far), handle))
            .unzip();
        let node = Node::new(config, None, handles, Vec::new(), Vec::new());
        let reader = node.start_captures(CaptureFilter::default(), CaptureLimits::default(), 64);
        for (number, (worker, far)) in workers.iter_mut().enumerate() {
            worker.turn(Instant::from_nanos(2), &mut || false);
            for (queue, end) in far.iter_mut().enumerate() {
                let mut frame = Frame::heap(60);
                frame.append(&[(10 * number + queue) as u8; 60]);
                let mut burst = Burst::new();
                burst.push(Packet::new(frame)).unwrap();
                end.transmit(&mut burst);
            }
            worker.turn(Instant::from_nanos(3), &mut || false);
        }
        let blocks: Vec<Vec<u8>> = std::iter::from_fn(|| reader.poll()).collect();
        // An enhanced packet block: interface at 8, the packet from 28 on (draft-ietf-opsawg-pcapng, section 4.3).
        assert_eq!(blocks.iter().map(|block| block[28]).collect::<Vec<_>>(), [0, 1, 10, 11]);
        assert!(blocks.iter().all(|block| block[8..12] == 3u32.to_le_bytes()));
    }

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
