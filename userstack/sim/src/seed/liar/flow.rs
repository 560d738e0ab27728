//! What a liar knows of one flow, and what an honest host would say on it.

use super::segment::{self, ACK, Heard, SYN, Said};

pub(super) const MSS: u16 = 1_400;
const SCALE: u8 = 7;
const WINDOW: u16 = 2_000;

/// What it knows of one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// SND.NXT, as far as it keeps to it.
    pub next: u32,
    /// RCV.NXT
    pub expected: u32,
    /// The highest number that was heard.
    pub highest: u32,
    pub timestamp: Option<u32>,
    pub clock: u32,
    pub sack: bool,
    pub established: bool,
    pub said: u32,
}

impl Flow {
    pub fn note(&mut self, heard: &Heard) {
        if heard.has(SYN) {
            (self.expected, self.highest) = (heard.seq.wrapping_add(1), heard.seq.wrapping_add(1));
            self.sack = heard.sack_permitted;
            self.timestamp = heard.timestamp;
            self.next = self.next.wrapping_add(u32::from(heard.has(ACK)));
            self.established |= heard.has(ACK);
            return;
        }
        self.timestamp = heard.timestamp.or(self.timestamp);
        let end = heard.seq.wrapping_add(heard.len());
        if heard.seq == self.expected {
            self.expected = end;
        }
        if end.wrapping_sub(self.highest) as i32 > 0 {
            self.highest = end;
        }
    }

    pub fn syn(&mut self, flags: u8) -> Said {
        let timestamp = self.timestamp.map(|echo| (self.tick(), echo));
        Said {
            seq: self.next,
            ack: self.expected,
            flags,
            window: u16::MAX,
            options: segment::syn_options(MSS, SCALE, timestamp, self.sack),
            ..Said::default()
        }
    }

    /// What an honest host would say, with these flags.
    pub fn plain(&mut self, flags: u8) -> Said {
        let options = self.timestamp_option();
        Said { seq: self.next, ack: self.expected, flags, window: WINDOW, options, ..Said::default() }
    }

    /// Text where it belongs.
    pub fn text(&mut self, text: &[u8]) -> Said {
        let said = Said { text: text.to_vec(), ..self.plain(ACK | segment::PSH) };
        self.next = self.next.wrapping_add(text.len() as u32);
        said
    }

    pub fn timestamp_option(&mut self) -> Vec<u8> {
        match self.timestamp {
            Some(echo) => segment::timestamps(self.tick(), echo),
            None => Vec::new(),
        }
    }

    pub fn tick(&mut self) -> u32 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }
}
