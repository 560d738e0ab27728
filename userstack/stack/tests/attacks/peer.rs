//! A peer made of bytes: it says what a test wants it to say, right or wrong.

use std::net::SocketAddr;

use stack::{FlowKey, ListenerKey, Verdict};

use crate::network::packets::{Spec, pseudo_header, sum};
use crate::target::{ACK, Heard, OURS, PORT, SYN, Target};

/// Options of a SYN or of any segment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    pub sack: Vec<(u32, u32)>,
}

impl Options {
    /// What every system sends today.
    pub fn usual() -> Self {
        let (mss, scale, timestamps) = (Some(1460), Some(7), Some((1000, 0)));
        Self { mss, scale, sack_permitted: true, timestamps, sack: vec![] }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        if let Some(mss) = self.mss {
            bytes.extend_from_slice(&[2, 4, (mss >> 8) as u8, mss as u8]);
        }
        if self.sack_permitted {
            bytes.extend_from_slice(&[1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.timestamps {
            bytes.extend_from_slice(&[1, 1, 8, 10]);
            bytes.extend_from_slice(&value.to_be_bytes());
            bytes.extend_from_slice(&echo.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            bytes.extend_from_slice(&[1, 3, 3, scale]);
        }
        if !self.sack.is_empty() {
            bytes.extend_from_slice(&[1, 1, 5, (2 + 8 * self.sack.len()) as u8]);
            for (left, right) in &self.sack {
                bytes.extend_from_slice(&left.to_be_bytes());
                bytes.extend_from_slice(&right.to_be_bytes());
            }
        }
        bytes
    }
}

#[derive(Clone)]
pub struct Peer {
    pub spec: Spec,
    pub port: u16,
    /// To which port of the target.
    pub to: u16,
    pub options: Options,
    /// Next sequence number of ours, and the next that is expected of the target.
    pub seq: u32,
    pub ack: u32,
    /// As the field has it, not scaled.
    pub window: u16,
}

impl Peer {
    /// At an address beyond the gateway, of whichever version.
    pub fn new(address: &str, port: u16) -> Self {
        let ours = if address.contains(':') { "2001:db8::1" } else { "10.0.0.1" };
        Self {
            spec: Spec { protocol: 6, ..Spec::new(address, ours, OURS) },
            port,
            to: PORT,
            options: Options::usual(),
            seq: 1_000_000,
            ack: 0,
            window: u16::MAX,
        }
    }

    /// The `number`th of many.
    pub fn numbered(number: u32) -> Self {
        let [_, _, high, low] = number.to_be_bytes();
        Self::new(&format!("198.18.{high}.{low}"), 40_000)
    }

    /// A segment of exactly these numbers, with the options that the connection has on every segment.
    pub fn segment(&self, flags: u8, seq: u32, ack: u32, text: &[u8]) -> Vec<u8> {
        let options = if flags & SYN != 0 {
            self.options.clone()
        } else {
            Options {
                timestamps: self.options.timestamps,
                sack: self.options.sack.clone(),
                ..Options::default()
            }
        };
        let options = options.bytes();
        let mut body = [self.port.to_be_bytes(), self.to.to_be_bytes()].concat();
        body.extend_from_slice(&seq.to_be_bytes());
        body.extend_from_slice(&ack.to_be_bytes());
        body.extend_from_slice(&[((20 + options.len()) as u8 / 4) << 4, flags]);
        body.extend_from_slice(&self.window.to_be_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&options);
        body.extend_from_slice(text);
        let pseudo = pseudo_header(self.spec.source, self.spec.destination, 6, body.len());
        let checksum = !sum(&[pseudo, body.clone()].concat());
        body[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.spec.frame(&body)
    }

    /// The next segment, as an honest peer would send it.
    pub fn next(&self, flags: u8, text: &[u8]) -> Vec<u8> {
        self.segment(flags, self.seq, self.ack, text)
    }

    pub fn syn(&self) -> Vec<u8> {
        self.segment(SYN, self.seq, 0, &[])
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.spec.source, self.port)
    }

    /// Of `segments`, those to this peer.
    pub fn mine(&self, segments: Vec<Heard>) -> Vec<Heard> {
        segments.into_iter().filter(|segment| segment.to == self.address()).collect()
    }

    /// Sends a SYN and gives what answers it.
    pub fn knock(&mut self, target: &mut Target) -> Option<Heard> {
        target.hear(self.syn());
        let answer = self.mine(target.segments()).into_iter().find(|answer| answer.has(SYN | ACK))?;
        self.seq = self.seq.wrapping_add(1);
        self.ack = answer.seq.wrapping_add(1);
        self.options.timestamps = match (self.options.timestamps, answer.timestamp()) {
            (Some((value, _)), Some(theirs)) => Some((value, theirs)),
            _ => None,
        };
        Some(answer)
    }

    /// A whole handshake; the target's end of the connection.
    #[track_caller]
    pub fn open(&mut self, target: &mut Target, listener: ListenerKey) -> FlowKey {
        assert!(self.knock(target).is_some(), "the SYN was answered");
        assert_eq!(target.hear(self.next(ACK, &[])), Verdict::Consumed);
        target.segments();
        target.accept(listener).expect("the handshake is complete")
    }

    /// Acknowledges what came in order; true when that was anything.
    pub fn take(&mut self, segments: &[Heard]) -> bool {
        let (before, address) = (self.ack, self.address());
        for segment in segments.iter().filter(|segment| segment.to == address) {
            if segment.seq == self.ack {
                self.ack = self.ack.wrapping_add(segment.text_bytes as u32);
            }
            if let (Some((value, _)), Some(theirs)) = (self.options.timestamps, segment.timestamp()) {
                self.options.timestamps = Some((value, theirs));
            }
        }
        self.ack != before
    }
}
