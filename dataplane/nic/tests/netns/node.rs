//! A data plane in miniature: a thread in the node's namespace that turns queue pairs, as a worker would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use bpf::{OwnedPrefix, RedirectConfig, Role};
use nic::{
    Burst, OpenError, OpenRequest, Opened, Packet, Pools, QueueAssignment, QueueCounters, QueuePair, UmemSet,
    XdpMode,
};

use super::lab::{Lab, OURS, eventually, owned};

/// Chunks of a test's worker.
pub const CHUNKS: u32 = 8_192;

/// Opens queue 0 of an interface for worker 0, in the namespace that the calling thread is in.
pub fn open_one(
    interface: &str,
    mode: XdpMode,
    owned: &[OwnedPrefix],
    umems: &mut [UmemSet],
) -> Result<Opened, OpenError> {
    let mut opened = nic::open(
        &OpenRequest {
            interface,
            mode,
            redirect: RedirectConfig::untagged(Role::Uplink),
            queues: &[QueueAssignment { queue: 0, worker: 0 }],
        },
        umems,
    )?;
    opened.redirect.set_owned(owned).expect("a handful of addresses fits");
    Ok(opened)
}

/// The lab's n0 for our address, where the peer is told to find it.
pub fn open_ours(lab: &Lab, mode: XdpMode) -> Opened {
    let opened = open_one("n0", mode, &[owned(OURS)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    lab.tell_peer(opened.report.mac);
    opened
}

/// The same as [`open_one`] for an interface that was just let go of. A process that another test starts at that moment holds every
/// descriptor of this one until it runs its own program.
pub fn reopen_one(interface: &str, owned: &[OwnedPrefix], umems: &mut [UmemSet]) -> Opened {
    let mut opened = None;
    eventually("the interface opens again", || {
        opened = open_one(interface, XdpMode::Auto, owned, umems).ok();
        opened.is_some()
    });
    opened.expect("it opened")
}

/// What the node does with a packet: `Some` goes back out.
pub type Answer = fn(Packet) -> Option<Packet>;

/// A thread that receives from one pair and transmits what `answer` makes of it.
#[derive(Debug)]
pub struct Node {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<QueueCounters>>,
}

impl Node {
    pub fn start(opened: Opened, answer: Answer) -> (Self, bpf::Redirect) {
        let Opened { mut queues, redirect, .. } = opened;
        let bound = queues.pop().expect("one queue was opened");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (started, ready) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut pools = Pools::new();
            let mut pair = pools.start(bound).expect("the region is this thread's");
            started.send(()).expect("the test waits for it");
            let (mut burst, mut out) = (Burst::new(), Burst::new());
            while !stopped.load(Ordering::Relaxed) {
                if pair.receive(&mut burst) == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                while let Some(packet) = burst.pop() {
                    if let Some(packet) = answer(packet) {
                        out.push(packet).expect("no more answers than packets");
                    }
                }
                pair.transmit(&mut out);
            }
            pair.counters()
        });
        // A queue receives from when it was started; what comes before is lost.
        ready.recv().expect("the node starts");
        (Self { stop, thread: Some(thread) }, redirect)
    }

    /// Ends the thread, and with it the socket.
    pub fn stop(mut self) -> QueueCounters {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a node stops once").join().expect("the node's thread does not panic")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Turns an IPv4 UDP packet round: MAC addresses, addresses and ports swapped, no checksum.
pub fn echo_udp(mut packet: Packet) -> Option<Packet> {
    let head = packet.frame_mut(0)?.bytes_mut();
    if head.len() < 42 || head[12..14] != [8, 0] || head[23] != 17 {
        return None;
    }
    for (left, right, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        for at in 0..len {
            head.swap(left + at, right + at);
        }
    }
    head[40..42].fill(0);
    Some(packet)
}

/// Sends back what has arrived; false: nothing that could be.
pub fn echo_arrived(pair: &mut dyn QueuePair) -> bool {
    let (mut burst, mut answers) = (Burst::new(), Burst::new());
    pair.receive(&mut burst);
    std::iter::from_fn(|| burst.pop())
        .filter_map(echo_udp)
        .for_each(|packet| answers.push(packet).expect("no more answers than packets"));
    let any = !answers.is_empty();
    pair.transmit(&mut answers);
    any
}

/// RFC 1071 over `bytes`, going on from `sum`.
pub fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
    let sum = sum + words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
