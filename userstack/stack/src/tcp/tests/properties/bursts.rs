//! Segments that arrive together may go in as one: what the user reads and what the peer hears is the same.

use std::time::Duration;

use proptest::prelude::*;

use super::peer::{Conversation, Heard, Said, quiet};
use super::{a_part_of_the_cases, pattern};
use crate::tcp::header::Flags;

/// More than are acknowledged at once in the beginning, where a burst that goes in as one counts as one of these.
const QUICK: u32 = 40;

#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<Part>),
    Write(usize),
    Read(usize),
    Wait(u64),
}

/// A segment of a burst.
#[derive(Clone, Debug)]
struct Part {
    /// How far before or beyond the next byte it begins: mostly there.
    aside: i32,
    len: u32,
    push: bool,
    /// Tenths of what is out that it acknowledges: mostly none.
    share: u32,
    window: u16,
}

fn parts() -> impl Strategy<Value = Part> {
    let aside = prop_oneof![12 => Just(0), 1 => -3000..3000];
    let len = prop_oneof![6 => Just(1000u32), 1 => 0..1000u32, 1 => Just(1460)];
    let window = prop_oneof![9 => Just(u16::MAX), 1 => 0..u16::MAX];
    let share = prop_oneof![8 => Just(0), 1 => 0..=10u32];
    (aside, len, prop::bool::weighted(0.1), share, window)
        .prop_map(|(aside, len, push, share, window)| Part { aside, len, push, share, window })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(parts(), 1..40).prop_map(Step::Burst),
        1 => (1usize..6000).prop_map(Step::Write),
        3 => (1usize..40_000).prop_map(Step::Read),
        2 => (1u64..300).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..20)
}

struct Way {
    conversation: Conversation,
    together: bool,
    said: u32,
    acknowledged: u32,
    heard: u32,
}

impl Way {
    fn new(together: bool) -> Self {
        let mut conversation = Conversation::open(quiet(), 99, u16::MAX);
        for number in 0..QUICK {
            conversation.say_pattern(number, 1, false);
            conversation.hear_all();
        }
        Self { conversation, together, said: QUICK, acknowledged: 0, heard: 0 }
    }

    fn take(&mut self, step: &Step) -> (Vec<Heard>, Option<Vec<u8>>) {
        let (mut time, mut read) = (Duration::ZERO, None);
        match step {
            Step::Burst(parts) => {
                if self.together {
                    self.conversation.gather();
                }
                parts.iter().for_each(|part| self.say(part));
                self.conversation.hand_over();
            }
            Step::Write(bytes) => {
                self.conversation.write(&vec![1; *bytes]);
            }
            Step::Read(most) => read = self.conversation.read(*most),
            Step::Wait(millis) => time = Duration::from_millis(*millis),
        }
        let heard = self.conversation.hear_for(time);
        for segment in heard.iter().filter(|segment| !segment.text.is_empty()) {
            self.heard = self.heard.max(segment.start + segment.text.len() as u32);
        }
        (heard, read)
    }

    fn say(&mut self, part: &Part) {
        self.acknowledged += (self.heard - self.acknowledged) * part.share / 10;
        let start = self.said.saturating_add_signed(part.aside);
        let text: Vec<u8> = (start..start + part.len).map(pattern).collect();
        let flags = Flags::ACK.with(if part.push { Flags::PSH } else { Flags::ACK });
        let (ack, window) = (self.acknowledged, part.window);
        self.conversation.say(Said { start, text: &text, flags, ack, window, ..Said::default() });
        if part.aside == 0 {
            self.said += part.len;
        }
    }
}

proptest! {
    #![proptest_config(a_part_of_the_cases(2))]

    #[test]
    fn a_burst_that_goes_in_as_one_does_what_its_segments_do_one_by_one(steps in steps()) {
        let (mut together, mut apart) = (Way::new(true), Way::new(false));
        for step in &steps {
            prop_assert_eq!(together.take(step), apart.take(step));
        }
        prop_assert_eq!(&together.conversation.host.discards, &apart.conversation.host.discards);
    }
}
