//! The lies, each a few segments.

use super::flow::{Flow, MSS};
use super::segment::{self, ACK, FIN, Forged, PSH, RST, SYN, Said, URG};
use crate::Random;

/// What a caller's first bytes name: a conversation that no plan has (see `talk`).
pub(super) const NAME: &[u8] = &[0xff, 0xff, 0xff, 0xff, b'!'];

macro_rules! lies {
    ($($(#[doc = $doc:literal])* $lie:ident,)*) => {
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(super) enum Lie { $($(#[doc = $doc])* $lie,)* }

        const ALL: &[Lie] = &[$(Lie::$lie,)*];
    };
}

lies! {
    /// Acknowledges a segment that is under way (Savage and others: TCP Congestion Control with a Misbehaving
    /// Receiver, 1999).
    OptimisticAck,
    /// Acknowledges what was never sent.
    FutureAck,
    /// Acknowledges what is long over.
    OldAck,
    /// A byte at a time.
    SplitAcks,
    DuplicateAcks,
    /// SACKs what was never sent, and backwards.
    SackOfNothing,
    /// SACKs what it will deny.
    SackAndForget,
    /// Says that something arrived twice.
    DsackOfAnything,
    ZeroWindow,
    TinyWindow,
    HugeWindow,
    ResetExact,
    ResetInWindow,
    ResetElsewhere,
    Syn,
    SynAck,
    NoFlags,
    AllFlags,
    NoAcknowledgement,
    NoTimestamp,
    OldTimestamp,
    FutureTimestamp,
    Text,
    /// More text at once than the window has.
    Flood,
    TextBeyondWindow,
    /// Other bytes where some were before.
    OtherBytesAgain,
    /// Many islands, no land between them.
    Islands,
    Fin,
    FinAhead,
    TextAfterFin,
    Urgent,
    /// One byte before what is expected.
    Probe,
    SameAgain,
    BadOffset,
    BadChecksum,
    Short,
    PortZero,
}

impl Lie {
    pub(super) fn draw(random: &mut Random) -> Self {
        ALL[random.below(ALL.len() as u64) as usize]
    }

    /// What it says.
    pub(super) fn tell(self, flow: &mut Flow, random: &mut Random) -> Vec<Said> {
        let ahead = 1 + random.below(20 * u64::from(MSS)) as u32;
        let far = 1 << 29 | random.next() as u32 >> 4;
        let mut plain = flow.plain(ACK);
        match self {
            Self::OptimisticAck => plain.ack = flow.highest.wrapping_add(ahead / 4),
            Self::FutureAck => plain.ack = flow.highest.wrapping_add(far),
            Self::OldAck => plain.ack = flow.expected.wrapping_sub(far),
            Self::SplitAcks => return split(flow, &plain),
            Self::DuplicateAcks => return vec![plain; 5],
            Self::SackOfNothing => sack(&mut plain, flow, &[(ahead, 2 * ahead), (3 * ahead, ahead)]),
            Self::SackAndForget => {
                let unread = flow.highest.wrapping_sub(flow.expected);
                sack(&mut plain, flow, &[(unread / 2, unread)]);
            }
            Self::DsackOfAnything => sack(&mut plain, flow, &[(0u32.wrapping_sub(ahead), 0), (1, ahead)]),
            Self::ZeroWindow => plain.window = 0,
            Self::TinyWindow => plain.window = 1,
            Self::HugeWindow => plain.window = u16::MAX,
            Self::ResetExact => plain.flags = RST | ACK,
            Self::ResetInWindow => (plain.flags, plain.seq) = (RST, plain.seq.wrapping_add(ahead % 500 + 1)),
            Self::ResetElsewhere => (plain.flags, plain.seq) = (RST, plain.seq.wrapping_add(far)),
            Self::Syn => plain.flags = SYN,
            Self::SynAck => plain.flags = SYN | ACK,
            Self::NoFlags => plain.flags = 0,
            Self::AllFlags => plain.flags = !RST,
            Self::NoAcknowledgement => {
                (plain.flags, plain.text) = (PSH, vec![b'n'; 10]);
            }
            Self::NoTimestamp => (plain.options, plain.text) = (Vec::new(), vec![b't'; 10]),
            Self::OldTimestamp => {
                plain.options =
                    segment::timestamps(flow.clock.wrapping_sub(far), flow.timestamp.unwrap_or(0));
            }
            Self::FutureTimestamp => {
                plain.options =
                    segment::timestamps(flow.clock.wrapping_add(far), flow.timestamp.unwrap_or(0));
            }
            Self::Text => return vec![flow.text(&vec![b'x'; 1 + random.below(1_400) as usize])],
            Self::Flood => return (0..20).map(|_| flow.text(&[b'f'; MSS as usize])).collect(),
            Self::TextBeyondWindow => {
                (plain.seq, plain.text) = (plain.seq.wrapping_add(far / 4), vec![b'b'; 100]);
            }
            Self::OtherBytesAgain => {
                let back = random.below(3_000) as u32;
                (plain.seq, plain.text) = (plain.seq.wrapping_sub(back), vec![b'o'; back as usize / 2 + 100]);
            }
            Self::Islands => return islands(&plain, 2 + random.below(100) as u32),
            Self::Fin => {
                plain.flags |= FIN;
                flow.next = flow.next.wrapping_add(1);
            }
            Self::FinAhead => (plain.flags, plain.seq) = (FIN | ACK, plain.seq.wrapping_add(ahead)),
            Self::TextAfterFin => {
                let mut fin = plain.clone();
                fin.flags |= FIN;
                (plain.seq, plain.text) = (plain.seq.wrapping_add(1), vec![b'a'; 50]);
                return vec![fin, plain];
            }
            Self::Urgent => {
                let mut urgent = flow.text(b"urgent");
                urgent.flags |= URG;
                return vec![urgent];
            }
            Self::Probe => plain.seq = plain.seq.wrapping_sub(1),
            Self::SameAgain => {
                plain.text = b"same".to_vec();
                return vec![flow.text(b"same"), plain];
            }
            Self::BadOffset => plain.forged = Some(Forged::Offset),
            Self::BadChecksum => plain.forged = Some(Forged::Checksum),
            Self::Short => plain.forged = Some(Forged::Short),
            Self::PortZero => plain.forged = Some(Forged::PortZero),
        }
        vec![plain]
    }
}

/// What answers a SYN: mostly a SYN with its acknowledgement, sometimes anything else.
pub(super) fn to_syn(flow: &mut Flow, random: &mut Random) -> Vec<Said> {
    let mut syn_ack = flow.syn(SYN | ACK);
    match random.below(10) {
        // A SYN that crosses ours (RFC 9293, figure 8), and its acknowledgement.
        0 => {
            let (mut syn, mut ack) = (flow.syn(SYN), syn_ack);
            (syn.ack, ack.flags) = (0, SYN | ACK);
            flow.next = flow.next.wrapping_add(1);
            vec![syn, ack]
        }
        1 => {
            syn_ack.ack = syn_ack.ack.wrapping_add(1 + random.below(1 << 30) as u32);
            vec![syn_ack]
        }
        2 => {
            let mut reset = syn_ack.clone();
            reset.flags = RST;
            flow.next = flow.next.wrapping_add(1);
            vec![reset, syn_ack]
        }
        3 => {
            let (mut ack, mut wrong) = (syn_ack.clone(), syn_ack.clone());
            ack.flags = ACK;
            (wrong.flags, wrong.ack) = (RST | ACK, wrong.ack.wrapping_add(7));
            flow.next = flow.next.wrapping_add(1);
            vec![ack, wrong, syn_ack]
        }
        4 => {
            syn_ack.flags = RST | ACK;
            vec![syn_ack]
        }
        5 => {
            syn_ack.text = vec![b's'; 100];
            flow.next = flow.next.wrapping_add(101);
            vec![syn_ack]
        }
        _ => {
            flow.next = flow.next.wrapping_add(1);
            vec![syn_ack]
        }
    }
}

fn sack(said: &mut Said, flow: &Flow, blocks: &[(u32, u32)]) {
    let at = |offset: u32| flow.expected.wrapping_add(offset);
    let blocks: Vec<(u32, u32)> = blocks.iter().map(|(left, right)| (at(*left), at(*right))).collect();
    said.options.extend(segment::sack(&blocks));
}

fn split(flow: &Flow, plain: &Said) -> Vec<Said> {
    let unread = flow.highest.wrapping_sub(flow.expected).min(10);
    (0..=unread).map(|byte| Said { ack: flow.expected.wrapping_add(byte), ..plain.clone() }).collect()
}

/// Every other byte.
fn islands(plain: &Said, count: u32) -> Vec<Said> {
    let island =
        |index: u32| Said { seq: plain.seq.wrapping_add(2 * index + 1), text: vec![b'i'], ..plain.clone() };
    (0..count).map(island).collect()
}
