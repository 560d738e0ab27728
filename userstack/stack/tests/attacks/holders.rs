//! Holders of memory: a peer that closes its window, opens it by crumbs, reads a byte now and then or leaves a hole in
//! what it sends, makes us hold bytes for it. While memory is short, the greediest of them are reset, and who reads is
//! served.
//!
//! Figures (budget 16 MiB): what is held stays within the budget; the first holder is cut within 3 s of memory being
//! short; who reads is not cut, and has its answer while 64 others hold.

use std::time::Duration;

use stack::{Config, Defence, FlowKey, ListenerKey};

use crate::peer::Peer;
use crate::target::{ACK, Heard, RST, Target, options};

const BUDGET: usize = 16 << 20;
const HOLDERS: u32 = 64;
const WRITTEN: usize = 1 << 20;
const TURN: Duration = Duration::from_millis(100);

/// How an attacker reads what it asked for.
#[derive(Copy, Clone)]
enum Reading {
    /// Its window is closed from the start.
    NoWindow,
    /// Its window takes 128 bytes at a time.
    TinyWindow,
    /// It lets go of a little every turn.
    Slowly,
    /// It takes all there is, every turn.
    Honestly,
}

struct Holder {
    peer: Peer,
    flow: FlowKey,
    reading: Reading,
    reset: bool,
}

impl Holder {
    fn new(target: &mut Target, listener: ListenerKey, number: u32, reading: Reading) -> Self {
        let mut peer = Peer::numbered(number);
        let flow = peer.open(target, listener);
        peer.window = match reading {
            Reading::NoWindow => 0,
            Reading::TinyWindow | Reading::Slowly => 1,
            Reading::Honestly => u16::MAX,
        };
        target.hear(peer.next(ACK, &[]));
        Self { peer, flow, reading, reset: false }
    }

    fn answer(&mut self, target: &mut Target, heard: &[Heard], turn: u32) {
        let mine: Vec<Heard> =
            heard.iter().filter(|segment| segment.to == self.peer.address()).cloned().collect();
        self.reset |= mine.iter().any(|segment| segment.has(RST));
        if self.reset || mine.is_empty() {
            return;
        }
        let takes = match self.reading {
            Reading::NoWindow => false,
            Reading::TinyWindow | Reading::Honestly => true,
            Reading::Slowly => turn.is_multiple_of(10),
        };
        if takes {
            self.peer.take(&mine);
        }
        target.hear(self.peer.next(ACK, &[]));
    }
}

struct Scene {
    target: Target,
    listener: ListenerKey,
    holders: Vec<Holder>,
    turn: u32,
}

impl Scene {
    fn new(budget: usize, readings: &[Reading]) -> Self {
        let config = Config { secret: [7; 32], memory_budget_bytes: budget, ..Config::default() };
        let mut target = Target::with(config);
        let listener = target.listen(options());
        let holders = (0..HOLDERS)
            .map(|number| {
                let reading = readings[number as usize % readings.len()];
                Holder::new(&mut target, listener, number, reading)
            })
            .collect();
        Self { target, listener, holders, turn: 0 }
    }

    /// A tenth of a second in which all users write what they can and all peers do as they do.
    fn step(&mut self) {
        self.turn += 1;
        for holder in self.holders.iter().filter(|holder| !holder.reset) {
            let honest = matches!(holder.reading, Reading::Honestly);
            self.target.write(holder.flow, if honest { 20_000 } else { WRITTEN });
        }
        // Several exchanges a turn, so that an honest peer's stream flows.
        for _ in 0..4 {
            let heard = self.target.pass(TURN / 4);
            for holder in &mut self.holders {
                holder.answer(&mut self.target, &heard, self.turn);
            }
        }
    }

    fn cut(&self) -> u64 {
        self.target.warded(Defence::HolderCut)
    }
}

fn attack(reading: Reading) {
    let mut scene = Scene::new(BUDGET, &[reading]);
    let mut first_cut = None;
    for turn in 0..60 {
        scene.step();
        if scene.cut() > 0 {
            first_cut.get_or_insert(turn);
        }
    }
    let first_cut = first_cut.expect("somebody was cut");
    assert!(TURN * first_cut <= Duration::from_secs(5), "after {first_cut} turns");
    let reset = scene.holders.iter().filter(|holder| holder.reset).count();
    assert_eq!(reset as u64, scene.cut(), "each was told by a reset");
    assert!(reset > 0 && reset < HOLDERS as usize, "{reset}: enough and no more");
    // Who comes now and reads has its megabyte.
    let mut reader = Holder::new(&mut scene.target, scene.listener, 9_000, Reading::Honestly);
    let (mut written, start) = (0, reader.peer.ack);
    for _ in 0..400 {
        written += scene.target.write(reader.flow, WRITTEN - written);
        let heard = scene.target.pass(TURN / 8);
        reader.answer(&mut scene.target, &heard, 0);
    }
    assert!(!reader.reset && reader.peer.ack.wrapping_sub(start) as usize >= WRITTEN, "{written} written");
}

#[test]
fn closed_windows_are_cut_when_memory_is_short_and_counted_as_tcp_holder_cut() {
    attack(Reading::NoWindow);
}

#[test]
fn tiny_windows_are_cut_when_memory_is_short() {
    attack(Reading::TinyWindow);
}

#[test]
fn slow_readers_are_cut_when_memory_is_short() {
    attack(Reading::Slowly);
}

#[test]
fn who_reads_is_not_cut_beside_who_does_not() {
    let mut scene = Scene::new(BUDGET, &[Reading::Honestly, Reading::NoWindow]);
    (0..60).for_each(|_| scene.step());
    assert!(scene.cut() > 0);
    for holder in scene.holders.iter().filter(|holder| matches!(holder.reading, Reading::Honestly)) {
        assert!(!holder.reset && scene.target.is_alive(holder.flow));
    }
}

/// Control: with memory for all of them a closed window is a peer's right, as long as it answers (RFC 9293, section
/// 3.8.6.1).
#[test]
fn nobody_is_cut_while_there_is_memory() {
    let mut scene = Scene::new(1 << 30, &[Reading::NoWindow, Reading::Slowly]);
    (0..60).for_each(|_| scene.step());
    assert_eq!(scene.cut(), 0);
    assert!(scene.holders.iter().all(|holder| scene.target.is_alive(holder.flow)));
}

#[test]
fn holes_in_what_is_sent_are_held_against_the_sender() {
    let mut scene = Scene::new(BUDGET, &[Reading::Honestly]);
    for holder in &scene.holders {
        let peer = &holder.peer;
        // A byte as far ahead as the window of a SYN's answer allows.
        scene.target.hear(peer.segment(ACK, peer.seq.wrapping_add(65_000), peer.ack, b"x"));
    }
    // More of the same until memory is short.
    let mut number = 10_000;
    while scene.cut() == 0 && number < 12_000 {
        let mut holder = Holder::new(&mut scene.target, scene.listener, number, Reading::Honestly);
        let peer = &holder.peer;
        scene.target.hear(peer.segment(ACK, peer.seq.wrapping_add(65_000), peer.ack, b"x"));
        let heard = scene.target.pass(Duration::from_millis(10));
        scene.holders.iter_mut().for_each(|holder| holder.answer(&mut scene.target, &heard, 0));
        holder.answer(&mut scene.target, &heard, 0);
        scene.holders.push(holder);
        number += 1;
    }
    assert!(scene.cut() > 0, "{number} connections with a hole each");
}
