//! Segments in any order, overlapping in any way: what is acknowledged, told in blocks, offered and read is what a set
//! of bytes says.

use proptest::prelude::*;

use super::peer::{Conversation, Heard, quiet};
use super::{a_part_of_the_cases, pattern};
use crate::tcp::TcpOptions;

/// Bytes of the peer's stream; its FIN is the number behind them.
const STREAM: u32 = 12_000;
const BUFFER: u32 = 8192;

#[derive(Clone, Debug)]
enum Step {
    /// Text from a place on, so many bytes; it ends with the stream, and then it may have the FIN.
    Say(u32, u32, bool),
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..STREAM, 0u32..1500, any::<bool>()).prop_map(|(start, len, fin)| Step::Say(start, len, fin)),
        2 => (0u32..3000, 1u32..1500).prop_map(|(start, len)| Step::Say(start, len, false)),
        2 => (1usize..4000).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..30)
}

/// The receiver as a naive reader of the RFC would have it.
struct Model {
    /// Which bytes are here; the last is the FIN.
    here: Vec<bool>,
    read: u32,
    /// The end of the window that the peer was told.
    edge: u32,
}

impl Model {
    fn next(&self) -> u32 {
        self.here.iter().position(|here| !here).unwrap_or(self.here.len()) as u32
    }

    fn take(&mut self, start: u32, len: u32, fin: bool) {
        for place in (start..start + len).filter(|place| *place < self.edge) {
            self.here[place as usize] = true;
        }
        // A FIN at the very edge of the window needs no room for text.
        if fin && STREAM <= self.edge {
            self.here[STREAM as usize] = true;
        }
    }

    /// Ranges of text that are here beyond a hole.
    fn ranges(&self) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for place in (self.next()..STREAM).filter(|place| self.here[*place as usize]) {
            match ranges.last_mut() {
                Some((_, end)) if *end == place => *end += 1,
                _ => ranges.push((place, place + 1)),
            }
        }
        ranges
    }

    fn judge(&mut self, heard: &Heard) -> Result<(), TestCaseError> {
        prop_assert_eq!(heard.ack, self.next());
        prop_assert!(heard.edge >= self.edge || heard.ack > STREAM, "the window's edge moved back");
        prop_assert!(heard.edge <= self.read + BUFFER + 1, "more is offered than the buffer holds");
        self.edge = self.edge.max(heard.edge);
        let ranges = self.ranges();
        for block in blocks_of_holes(heard) {
            prop_assert!(ranges.contains(block), "{block:?} is not of {ranges:?}");
        }
        prop_assert!(
            heard.blocks.len() <= 4
                && (heard.blocks.is_empty() == ranges.is_empty() || heard.blocks.len() == 1)
        );
        Ok(())
    }
}

/// Without the one that reports a duplicate (RFC 2883, section 4).
fn blocks_of_holes(heard: &Heard) -> &[(u32, u32)] {
    let within = |inner: (u32, u32), outer: (u32, u32)| inner.0 >= outer.0 && inner.1 <= outer.1;
    match heard.blocks[..] {
        [first, ..] if first.1 <= heard.ack => &heard.blocks[1..],
        [first, second, ..] if within(first, second) => &heard.blocks[1..],
        _ => &heard.blocks,
    }
}

fn take_heard(model: &mut Model, conversation: &mut Conversation) -> Result<(), TestCaseError> {
    let heard = conversation.hear_all();
    for segment in &heard {
        model.judge(segment)?;
    }
    Ok(())
}

fn read(model: &mut Model, conversation: &mut Conversation, most: usize) -> Result<usize, TestCaseError> {
    let here = model.next().min(STREAM) - model.read;
    let Some(text) = conversation.read(most) else {
        prop_assert_eq!(here, 0);
        return Ok(0);
    };
    prop_assert_eq!(text.len(), most.min(here as usize));
    for byte in &text {
        prop_assert_eq!(*byte, pattern(model.read));
        model.read += 1;
    }
    Ok(text.len())
}

proptest! {
    #![proptest_config(a_part_of_the_cases(2))]

    #[test]
    fn what_arrives_in_any_order_is_acknowledged_offered_and_read_as_a_set_of_bytes_says(
        initial: u32,
        steps in steps(),
    ) {
        let options = TcpOptions { receive_buffer_bytes: BUFFER as usize, ..quiet() };
        let mut conversation = Conversation::open(options, initial, u16::MAX);
        let mut model = Model { here: vec![false; STREAM as usize + 1], read: 0, edge: BUFFER };
        for step in steps {
            match step {
                Step::Say(start, len, fin) => {
                    let len = len.min(STREAM - start);
                    let fin = fin && start + len == STREAM;
                    conversation.say_pattern(start, len, fin);
                    // What does not touch the window is not looked at.
                    if start < model.edge {
                        model.take(start, len, fin);
                    }
                }
                Step::Read(most) => { read(&mut model, &mut conversation, most)?; }
            }
            take_heard(&mut model, &mut conversation)?;
        }
        // What is missing comes in order, as the window lets it.
        let mut turns = 0;
        while model.read < STREAM {
            let (start, end) = (model.next().min(STREAM), model.edge.min(STREAM));
            let len = (end - start).min(1000);
            conversation.say_pattern(start, len, start + len == STREAM);
            model.take(start, len, start + len == STREAM);
            take_heard(&mut model, &mut conversation)?;
            read(&mut model, &mut conversation, 4000)?;
            take_heard(&mut model, &mut conversation)?;
            turns += 1;
            prop_assert!(turns < 100, "the window never opens");
        }
        conversation.say_pattern(STREAM, 0, true);
        conversation.hear_all();
        prop_assert_eq!(conversation.read(1), Some(vec![]), "the stream ends");
        prop_assert_eq!(conversation.host.tcp.lent_bytes(), 0);
    }
}
