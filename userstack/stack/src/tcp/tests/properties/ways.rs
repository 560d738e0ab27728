//! A segment that is expected takes a short way (header prediction). The long way does the same: URG, which means
//! nothing here (RFC 6093), keeps a segment off the short one.

use std::time::Duration;

use proptest::prelude::*;

use super::peer::{Conversation, Heard, Said, quiet};
use super::{a_part_of_the_cases, pattern};
use crate::tcp::header::Flags;

const URG: Flags = Flags(0x20);

#[derive(Clone, Debug)]
enum Step {
    /// The next text, pushed or not; it acknowledges this share of what is out, in tenths, with a window.
    Say(u32, bool, u32, u16),
    /// Text from a place on.
    SayAt(u32, u32),
    Write(usize),
    Read(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..1461, any::<bool>(), 0u32..=10, 0u16..u16::MAX)
            .prop_map(|(len, push, share, window)| Step::Say(len, push, share, window)),
        1 => (0u32..9000, 1u32..1461).prop_map(|(start, len)| Step::SayAt(start, len)),
        2 => (1usize..6000).prop_map(Step::Write),
        2 => (1usize..4000).prop_map(Step::Read),
        2 => (1u64..300).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// A conversation and what the peer has said and heard in it.
struct Way {
    conversation: Conversation,
    extra: Flags,
    said: u32,
    acknowledged: u32,
    heard: u32,
}

impl Way {
    fn new(extra: Flags) -> Self {
        Self {
            conversation: Conversation::open(quiet(), 99, u16::MAX),
            extra,
            said: 0,
            acknowledged: 0,
            heard: 0,
        }
    }

    fn take(&mut self, step: &Step) -> (Vec<Heard>, Option<Vec<u8>>) {
        let (mut time, mut read) = (Duration::ZERO, None);
        match *step {
            Step::Say(len, push, share, window) => {
                self.acknowledged += (self.heard - self.acknowledged) * share / 10;
                self.say(self.said, len, push, window);
                self.said += len;
            }
            Step::SayAt(start, len) => self.say(start, len, false, u16::MAX),
            Step::Write(bytes) => {
                self.conversation.write(&vec![1; bytes]);
            }
            Step::Read(most) => read = self.conversation.read(most),
            Step::Wait(millis) => time = Duration::from_millis(millis),
        }
        let heard = self.conversation.hear_for(time);
        for segment in heard.iter().filter(|segment| !segment.text.is_empty()) {
            self.heard = self.heard.max(segment.start + segment.text.len() as u32);
        }
        (heard, read)
    }

    fn say(&mut self, start: u32, len: u32, push: bool, window: u16) {
        let text: Vec<u8> = (start..start + len).map(pattern).collect();
        let flags = Flags::ACK.with(self.extra).with(if push { Flags::PSH } else { Flags::ACK });
        self.conversation.say(Said {
            start,
            text: &text,
            flags,
            ack: self.acknowledged,
            window,
            ..Said::default()
        });
    }
}

proptest! {
    #![proptest_config(a_part_of_the_cases(2))]

    #[test]
    fn the_short_way_of_an_expected_segment_does_what_the_long_way_does(steps in steps()) {
        let (mut short, mut long) = (Way::new(Flags::ACK), Way::new(URG));
        for step in &steps {
            prop_assert_eq!(short.take(step), long.take(step));
        }
        prop_assert_eq!(&short.conversation.host.discards, &long.conversation.host.discards);
    }
}
