//! The reference model: what TCP promises, kept beside the system in the plainest way. What was written is what is read,
//! in order and once; an end is heard only of what was ended; both sides agree on how it ended.

use std::fmt;
use std::io::ErrorKind;
use std::sync::LazyLock;

use super::plan::{Conversation, Fault, Plan, Side};
use crate::Random;

/// Which of a connection's two streams.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// From the caller to the listener.
    Up,
    Down,
}

/// Names a stream of a plan.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the conversation in the plan.
    pub conversation: usize,
    pub stream: Stream,
}

/// Random bytes with a period that is prime: a byte that is misplaced, or of another stream, shows.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(u64::from_be_bytes(*b"pattern\0"));
    let once: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
    [&once[..], &once[..]].concat()
});
const PERIOD: usize = 65_521;

#[derive(Copy, Clone, Debug, Default)]
struct Flow {
    /// Where in the pattern it begins.
    phase: usize,
    written: u64,
    read: u64,
    /// The writer has said that it is all.
    shut: bool,
    /// The reader has heard so.
    ended: bool,
}

/// How a side of a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    /// By this side's own decision.
    BrokenOff,
    Failed(ErrorKind),
}

impl End {
    /// A host whose memory is short cuts off who holds most of it, and the other side hears a reset.
    fn may_be_cut(&self) -> bool {
        matches!(self, Self::Failed(ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset))
    }
}

#[derive(Clone, Debug)]
struct Talk {
    plan: Conversation,
    flows: [Flow; 2],
    /// By [`Side`] of the caller's and the listener's: index 0 is the caller.
    ends: [Option<End>; 2],
    started: bool,
    accepted: bool,
    /// A host of it restarted meanwhile: it may end in any way that loses no byte's order.
    excused: bool,
}

/// All conversations of a plan, as they should be.
#[derive(Debug)]
pub(super) struct Model {
    talks: Vec<Talk>,
    /// A host has little memory.
    scarce: bool,
    failure: Option<String>,
}

impl Model {
    pub(super) fn new(plan: &Plan) -> Self {
        let talks = plan.conversations.iter().map(|conversation| {
            let mut random = Random::for_stream(plan.seed, 0x6d6f_0000 + u64::from(conversation.number));
            let mut flow = || Flow { phase: random.below(PERIOD as u64) as usize, ..Flow::default() };
            Talk {
                plan: *conversation,
                flows: [flow(), flow()],
                ends: [None, None],
                started: false,
                accepted: false,
                excused: false,
            }
        });
        let scarce = plan.faults.iter().any(|fault| matches!(fault, Fault::Scarce { .. }));
        Self { talks: talks.collect(), scarce, failure: None }
    }

    /// The first thing that went wrong.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn fail(&mut self, sentence: impl fmt::Display) {
        self.failure.get_or_insert_with(|| sentence.to_string());
    }

    fn fail_at(&mut self, place: Place, sentence: impl fmt::Display) {
        let number = self.talks[place.conversation].plan.number;
        self.fail(format!("conversation {number}, {:?}: {sentence}", place.stream));
    }

    fn flow(&mut self, place: Place) -> &mut Flow {
        &mut self.talks[place.conversation].flows[place.stream as usize]
    }

    // ---- what the tasks say ----

    pub(super) fn start(&mut self, conversation: usize) {
        self.talks[conversation].started = true;
    }

    pub(super) fn is_started(&self, conversation: usize) -> bool {
        self.talks[conversation].started
    }

    /// A listener heard the name of a conversation on a connection: which it is.
    pub(super) fn accept(&mut self, number: u32, listener: Side) -> Option<usize> {
        let found = self.talks.iter().position(|talk| talk.plan.number == number);
        let Some(index) = found.filter(|index| self.talks[*index].plan.caller == listener.other()) else {
            self.fail(format!("a connection says that it is conversation {number}, which nobody holds"));
            return None;
        };
        let talk = &mut self.talks[index];
        if std::mem::replace(&mut talk.accepted, true) && !talk.excused {
            self.fail(format!("conversation {number} was accepted twice"));
        }
        Some(index)
    }

    /// What the writer of a stream writes next, at most `limit` bytes.
    pub(super) fn next_bytes(&mut self, place: Place, limit: usize) -> &'static [u8] {
        let flow = self.flow(place);
        let start = (flow.phase + flow.written as usize) % PERIOD;
        &PATTERN[start..start + limit.min(PERIOD)]
    }

    pub(super) fn wrote(&mut self, place: Place, bytes: usize) {
        self.flow(place).written += bytes as u64;
    }

    pub(super) fn written(&mut self, place: Place) -> u64 {
        self.flow(place).written
    }

    pub(super) fn shut(&mut self, place: Place) {
        self.flow(place).shut = true;
    }

    pub(super) fn read(&mut self, place: Place, mut bytes: &[u8]) {
        let flow = *self.flow(place);
        if flow.ended {
            return self.fail_at(place, "bytes after the end");
        }
        if flow.read + bytes.len() as u64 > flow.written {
            return self.fail_at(place, format!("{} bytes more than were written", bytes.len()));
        }
        while !bytes.is_empty() {
            let flow = self.flow(place);
            let start = (flow.phase + flow.read as usize) % PERIOD;
            let len = bytes.len().min(PERIOD);
            if PATTERN[start..start + len] != bytes[..len] {
                let at = flow.read;
                return self.fail_at(place, format!("other bytes than were written, near offset {at}"));
            }
            flow.read += len as u64;
            bytes = &bytes[len..];
        }
    }

    pub(super) fn read_so_far(&mut self, place: Place) -> u64 {
        self.flow(place).read
    }

    /// The reader heard the end of the stream.
    pub(super) fn ended(&mut self, place: Place) {
        let flow = *self.flow(place);
        self.flow(place).ended = true;
        if !flow.shut {
            self.fail_at(place, "an end that nobody said");
        } else if flow.read != flow.written {
            self.fail_at(place, format!("it ended after {} of {} bytes", flow.read, flow.written));
        }
    }

    /// The task of one side is over.
    pub(super) fn over(&mut self, conversation: usize, caller: bool, end: End) {
        self.talks[conversation].ends[usize::from(!caller)].get_or_insert(end);
    }

    // ---- what the play says ----

    /// `side` lost all that it knew. Conversations of its own that had not begun will begin as planned.
    pub(super) fn restart(&mut self, side: Side) {
        for talk in self.talks.iter_mut().filter(|talk| talk.started) {
            let role = usize::from(talk.plan.caller != side);
            if talk.ends.iter().any(Option::is_none) {
                talk.excused = true;
                talk.ends[role].get_or_insert(End::BrokenOff);
            }
        }
    }

    /// Every caller has ended, and every listener that was ever asked.
    pub(super) fn all_over(&self) -> bool {
        self.talks.iter().all(|talk| talk.ends[0].is_some() && (talk.ends[1].is_some() || !talk.accepted))
    }

    pub(super) fn unfinished(&self) -> String {
        let open = self.talks.iter().filter(|talk| talk.ends.iter().any(Option::is_none));
        open.map(|talk| format!("{:?}\n", talk)).collect()
    }

    /// Both sides of each conversation agree on how it ended, and it ended as it was planned.
    pub(super) fn judge(&mut self) {
        for index in 0..self.talks.len() {
            let talk = self.talks[index].clone();
            if talk.excused || talk.plan.manner.breaks_off() {
                continue;
            }
            if self.scarce && talk.ends.iter().flatten().any(End::may_be_cut) {
                continue;
            }
            let number = talk.plan.number;
            if talk.ends != [Some(End::Orderly), Some(End::Orderly)] {
                self.fail(format!("conversation {number} ended {:?} and {:?}", talk.ends[0], talk.ends[1]));
            }
            let planned = [talk.plan.upload, talk.plan.download];
            for (flow, planned) in talk.flows.iter().zip(planned) {
                if !flow.ended || flow.read != u64::from(planned) {
                    self.fail(format!("conversation {number}: {} of {planned} bytes arrived", flow.read));
                }
            }
        }
    }
}
