//! A peer that loses what it likes and acknowledges what it has: everything written arrives there, nothing else, and
//! never beyond what it offered.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::peer::{Conversation, Heard, Said, quiet};
use super::{a_part_of_the_cases, pattern};

/// Time enough for every timeout of a peer that answers.
const PATIENCE: Duration = Duration::from_secs(600);
const MOST_BLOCKS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Write(u32),
    /// The next segments arrive (true) or are lost.
    Network(Vec<bool>),
    /// The peer acknowledges, with this much window behind what it has.
    Acknowledge(u16),
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u32..9000).prop_map(Step::Write),
        prop::collection::vec(prop::bool::weighted(0.8), 1..12).prop_map(Step::Network),
        (0u16..20_000).prop_map(Step::Acknowledge),
        // One byte less than so many segments: the place where one too many would show.
        (1u16..20).prop_map(|segments| Step::Acknowledge(1000 * segments - 1)),
        (1u32..600).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// A receiver as naive as it can be.
#[derive(Default)]
struct Receiver {
    here: BTreeSet<u32>,
    /// The end of the window that it offered: it never takes it back.
    edge: u32,
    fin_at: Option<u32>,
}

impl Receiver {
    fn next(&self) -> u32 {
        // Places begin at 0 and come once each: the first that differs from its number is behind a hole.
        let held = self.here.iter().zip(0..).find(|(place, number)| **place != *number);
        let text = held.map_or(self.here.len() as u32, |(_, number)| number);
        text + u32::from(self.fin_at == Some(text))
    }

    fn take(&mut self, segment: &Heard) {
        let end = segment.start + segment.text.len() as u32;
        self.here.extend(segment.start..end);
        if segment.fin {
            self.fin_at = Some(end);
        }
    }

    /// The highest ranges beyond the first hole.
    fn blocks(&self) -> Vec<(u32, u32)> {
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        for place in self.here.range(self.next()..) {
            match blocks.last_mut() {
                Some((_, end)) if *end == *place => *end += 1,
                _ => blocks.push((*place, place + 1)),
            }
        }
        blocks.into_iter().rev().take(MOST_BLOCKS).collect()
    }

    fn acknowledge(&mut self, conversation: &mut Conversation, window: u32) {
        let next = self.next();
        self.edge = self.edge.max(next + window);
        let window = (self.edge - next).min(u32::from(u16::MAX)) as u16;
        conversation.say(Said { ack: next, blocks: &self.blocks(), window, ..Said::default() });
    }

    /// Text is what was written at its place, and of what was offered; a byte beyond a closed window is a probe.
    fn judge(&self, segment: &Heard, written: u32) -> Result<(), TestCaseError> {
        let end = segment.start.wrapping_add(segment.text.len() as u32);
        if segment.text.is_empty() {
            return Ok(());
        }
        prop_assert!(end <= written, "{end} of {written} that were written");
        prop_assert!(
            end <= self.edge.max(segment.start + 1),
            "{end} is beyond the window's end {}",
            self.edge
        );
        for (place, byte) in (segment.start..).zip(&segment.text) {
            prop_assert_eq!(*byte, pattern(place));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(a_part_of_the_cases(4))]

    #[test]
    fn all_that_is_written_arrives_whatever_is_lost_and_nothing_beyond_the_window(
        window in prop_oneof![0u16..20_000, (1u16..8).prop_map(|segments| 1000 * segments - 1)],
        steps in steps(),
    ) {
        let mut conversation = Conversation::open(quiet(), 7, window);
        let mut receiver = Receiver { edge: u32::from(window), ..Receiver::default() };
        let (mut written, mut fate, mut lost) = (0, Vec::new(), 0);
        let mut deliver = |heard: Vec<Heard>, receiver: &mut Receiver, fate: &mut Vec<bool>, written| {
            for segment in &heard {
                receiver.judge(segment, written)?;
                if fate.pop().unwrap_or(true) { receiver.take(segment) } else { lost += 1 }
            }
            Ok::<_, TestCaseError>(())
        };
        for step in steps {
            let mut time = Duration::ZERO;
            match step {
                Step::Write(bytes) => {
                    let text: Vec<u8> = (written..written + bytes).map(pattern).collect();
                    written += conversation.write(&text) as u32;
                }
                Step::Network(fates) => fate = fates,
                Step::Acknowledge(window) => receiver.acknowledge(&mut conversation, u32::from(window)),
                Step::Wait(millis) => time = Duration::from_millis(u64::from(millis)),
            }
            let heard = conversation.hear_for(time);
            deliver(heard, &mut receiver, &mut fate, written)?;
        }
        let flow = conversation.flow;
        conversation.host.tcp.shutdown(flow, conversation.now);
        let end = conversation.now + PATIENCE;
        fate.clear();
        while receiver.next() <= written {
            prop_assert!(conversation.now < end, "{} of {written} arrived", receiver.next());
            receiver.acknowledge(&mut conversation, 20_000);
            let heard = conversation.hear_for(Duration::from_millis(20));
            deliver(heard, &mut receiver, &mut fate, written)?;
        }
        receiver.acknowledge(&mut conversation, 20_000);
        prop_assert_eq!(conversation.host.tcp.lent_bytes(), 0);
        prop_assert!(conversation.hear_for(Duration::from_secs(3600)).is_empty(), "no timer is left");
    }
}
