//! A host (one engine), and the wire that its segments are written to.

use std::net::{IpAddr, SocketAddr};

use crate::run::{Pieces, Run};
use crate::tcp::boundary::{Arrival, Outgoing, Path, Refused, SegmentSink};
use crate::tcp::engine::{Tcp, TcpConfig};
use crate::tcp::header::Flags;
use crate::wire::protocol;
use crate::{Chain, Discard, Instant, InterfaceId, ipv4, ipv6};

pub(super) const INTERFACE: InterfaceId = InterfaceId(1);

/// A segment on its way: TCP header and text.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub bytes: Vec<u8>,
    /// The two ECN bits of its IP header.
    pub ecn: u8,
}

/// Takes segments until it is full.
#[derive(Debug)]
pub(super) struct Wire {
    pub mtu: u16,
    pub room: usize,
    pub sent: Vec<Packet>,
    pub refuse: Option<Refused>,
    /// It cuts long packets into segments.
    pub cuts: bool,
    /// Segments that it cut.
    pub cut: usize,
    /// Between whom it was opened last.
    ends: Option<(SocketAddr, SocketAddr)>,
}

impl Wire {
    pub fn new(mtu: u16) -> Self {
        Self { mtu, room: usize::MAX, sent: Vec::new(), refuse: None, cuts: false, cut: 0, ends: None }
    }
}

impl SegmentSink for Wire {
    fn open(&mut self, local: SocketAddr, remote: SocketAddr, path: &mut Path) -> Result<u16, Refused> {
        self.ends = Some((local, remote));
        path.interface = Some(INTERFACE);
        match self.refuse {
            Some(Refused::NoRoute) => Err(Refused::NoRoute),
            _ => Ok(self.mtu),
        }
    }

    fn cuts(&mut self) -> bool {
        self.cuts
    }

    fn send(&mut self, segment: &Outgoing<'_>) -> Result<(), Refused> {
        if let Some(refused) = self.refuse {
            return Err(refused);
        }
        let text = segment.payload.concat();
        let each = segment.segment_bytes.map_or(text.len(), |bytes| bytes.get().into());
        if self.sent.len() + text.len().div_ceil(each.max(1)).max(1) > self.room {
            return Err(Refused::Full);
        }
        if segment.segment_bytes.is_none() {
            self.put(segment.header, &text, segment.ecn);
            return Ok(());
        }
        for (index, part) in text.chunks(each).enumerate() {
            let mut header = segment.header.to_vec();
            let seq = u32::from_be_bytes(header[4..8].try_into().unwrap());
            header[4..8].copy_from_slice(&seq.wrapping_add((index * each) as u32).to_be_bytes());
            let last = (index + 1) * each >= text.len();
            header[13] &= if last { 0xff } else { !(Flags::FIN.0 | Flags::PSH.0) };
            header[13] &= if index == 0 { 0xff } else { !Flags::CWR.0 };
            self.put(&header, part, segment.ecn);
            self.cut += 1;
        }
        Ok(())
    }
}

impl Wire {
    fn put(&mut self, header: &[u8], text: &[u8], ecn: u8) {
        let (source, destination) = self.ends.expect("it was opened");
        let ip_header = if source.is_ipv6() { 40 } else { 20 };
        let bytes = [header, text].concat();
        assert!(
            bytes.len() + ip_header <= usize::from(self.mtu),
            "{} bytes do not fit the path",
            bytes.len()
        );
        self.sent.push(Packet { source, destination, bytes, ecn });
    }
}

/// A packet as it may lie in memory: cut into chunks.
#[derive(Debug)]
pub(super) struct Chunks(pub Vec<Vec<u8>>);

impl Chunks {
    /// The header whole, the text cut every `chunk` bytes.
    pub fn cut(bytes: &[u8], chunk: usize) -> Self {
        let header = bytes.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4).min(bytes.len());
        let first = bytes.len().min(header.max(chunk));
        let rest = bytes[first..].chunks(chunk.max(1)).map(<[u8]>::to_vec);
        Self(std::iter::once(bytes[..first].to_vec()).chain(rest).collect())
    }
}

impl Chain for Chunks {
    fn total_len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    fn chunks(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], Vec::as_slice)
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.get_mut(index).map_or(&mut [], Vec::as_mut_slice)
    }

    fn grow_front(&mut self, _bytes: usize) -> bool {
        false
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.0[0].drain(..bytes);
    }

    fn truncate(&mut self, mut len: usize) {
        for chunk in &mut self.0 {
            chunk.truncate(len);
            len -= chunk.len();
        }
    }
}

/// One engine and its address.
#[derive(Debug)]
pub(super) struct Host {
    pub tcp: Tcp,
    pub wire: Wire,
    pub address: IpAddr,
    pub discards: Vec<Discard>,
    /// Segments that were taken as one with others.
    pub merged: usize,
}

impl Host {
    pub fn new(address: &str, mtu: u16, memory_budget_bytes: usize) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let mut secret = [0; 32];
        secret[0] = address.is_ipv6().into();
        let config = TcpConfig { secret, ports: (40_000, 40_099), max_flows: 4096, memory_budget_bytes };
        Self {
            tcp: Tcp::new(config, Instant::ZERO),
            wire: Wire::new(mtu),
            address,
            discards: Vec::new(),
            merged: 0,
        }
    }

    pub fn receive(&mut self, packet: &Packet, chunk: usize, now: Instant) {
        let (local, remote) = (packet.destination.ip(), packet.source.ip());
        let arrival = Arrival { interface: INTERFACE, local, remote, ecn: packet.ecn };
        if let Err(reason) = self.tcp.handle_segment(arrival, &Chunks::cut(&packet.bytes, chunk), 0, now) {
            self.discards.push(reason);
        }
    }

    /// A burst, as a queue pair hands it over.
    pub fn receive_together(&mut self, packets: &[Packet], now: Instant) {
        let frames = Frames(packets.iter().map(framed).collect());
        let mut rest = packets;
        while let Some(packet) = rest.first() {
            let burst = Rest(&frames, packets.len() - rest.len());
            let run = Run::at_front_of(&burst);
            let (together, left) = rest.split_at(run.map_or(1, |run| run.packets()));
            let (local, remote) = (packet.destination.ip(), packet.source.ip());
            let arrival = Arrival { interface: INTERFACE, local, remote, ecn: packet.ecn };
            let taken =
                run.is_some_and(|run| self.tcp.handle_run(arrival, (&run, &burst), &mut || true, now));
            if taken {
                self.merged += together.len();
            } else {
                together.iter().for_each(|packet| self.receive(packet, usize::MAX, now));
            }
            rest = left;
        }
    }

    /// What is sent now.
    pub fn transmit(&mut self, now: Instant) -> Vec<Packet> {
        for _ in 0..1_000 {
            if !self.tcp.poll_transmit(&mut self.wire, 64, now) {
                return std::mem::take(&mut self.wire.sent);
            }
            if self.wire.sent.len() >= self.wire.room {
                return std::mem::take(&mut self.wire.sent);
            }
        }
        panic!("an engine that never has sent all");
    }
}

/// Packets from Ethernet onwards.
struct Frames(Vec<Vec<u8>>);

/// Those from a place on.
struct Rest<'a>(&'a Frames, usize);

impl Pieces for Rest<'_> {
    fn count(&self) -> usize {
        self.0.0.len() - self.1
    }

    fn piece(&self, index: usize) -> &[u8] {
        &self.0.0[self.1 + index]
    }
}

fn framed(packet: &Packet) -> Vec<u8> {
    let (payload_len, ecn) = (packet.bytes.len(), packet.ecn);
    let (protocol, hops) = (protocol::TCP, 64);
    let (mut header, kind) = match (packet.source.ip(), packet.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (identification, dont_fragment) = (0, true);
            let mut header = vec![0; 34];
            let fields = ipv4::Fields {
                source,
                destination,
                protocol,
                hops,
                ecn,
                identification,
                dont_fragment,
                payload_len,
            };
            ipv4::write(&mut header[14..], fields);
            (header, [0x08, 0x00])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0; 54];
            ipv6::write(
                &mut header[14..],
                ipv6::Fields { source, destination, protocol, hops, ecn, payload_len },
            );
            (header, [0x86, 0xdd])
        }
        other => panic!("{other:?} are no two ends"),
    };
    header[12..14].copy_from_slice(&kind);
    [header, packet.bytes.clone()].concat()
}
