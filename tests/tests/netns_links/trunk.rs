//! A switch between a client and a trunk: what the client sends gets an 802.1Q tag, what comes to it loses its own.
//!
//! ```text
//!   client: ACCESS (tap) ── relay thread ── tap ── bridge ── veth ═══ the node's end: tagged frames alone
//! ```
//!
//! For kernels without VLAN devices. The kernel takes a tag off a frame before packet sockets see it; a tap gives the
//! frame whole, so the relay reads and writes taps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nic::{Burst, Frame, Packet, QueuePair, TapQueuePair};
use tests::Namespace;

/// The client's interface.
pub const ACCESS: &str = "access0";

/// Destination and source: the tag stands behind them (IEEE 802.1Q, section 9.3).
const ADDRESSES_BYTES: usize = 12;
const TPID: [u8; 2] = [0x81, 0x00];
const TAG_BYTES: usize = 4;
/// Between two looks at empty taps.
const PAUSE: Duration = Duration::from_micros(50);

pub struct Trunk {
    ends: Arc<AtomicBool>,
    /// Frames with the tag that came from the node.
    pub from_node: Arc<AtomicU64>,
    relay: Option<JoinHandle<()>>,
    _switch: Namespace,
}

impl Trunk {
    /// Joins `client` by the tag to a new interface `name` of `node`.
    pub fn lay(client: &Namespace, node: &Namespace, name: &str, tag: u16) -> Self {
        let switch = Namespace::new();
        switch.connect("trunk", node, name);
        let access = client.within(|| TapQueuePair::open(ACCESS)).expect("the client's tap can be made");
        let port = switch.within(|| TapQueuePair::open("port")).expect("the switch's tap can be made");
        // Tags stay in the frames that the node gets: nobody there could read them beside the frame.
        switch.run(
            "ethtool -K trunk txvlan off >/dev/null; ip link add switch0 type bridge stp_state 0; \
             for i in trunk port switch0; do ip link set dev $i addrgenmode none; done; \
             ip link set dev trunk master switch0; ip link set dev port master switch0; ip link set dev port up; ip link set dev switch0 up",
        );
        client.run(&format!("ip link set {ACCESS} up"));
        let (ends, from_node) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let relay = thread::spawn({
            let (ends, from_node) = (Arc::clone(&ends), Arc::clone(&from_node));
            move || {
                let (mut access, mut port) = (access, port);
                while !ends.load(Ordering::Relaxed) {
                    let sent = carry(&mut access, &mut port, |frame| Some(with_tag(frame, tag)));
                    let came = carry(&mut port, &mut access, |frame| without_tag(frame, tag));
                    from_node.fetch_add(came, Ordering::Relaxed);
                    if sent + came == 0 {
                        thread::sleep(PAUSE);
                    }
                }
            }
        });
        Self { ends, from_node, relay: Some(relay), _switch: switch }
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// Carries what waits, changed; how many frames went on.
fn carry(from: &mut TapQueuePair, to: &mut TapQueuePair, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> u64 {
    let mut burst = Burst::new();
    from.receive(&mut burst);
    let mut changed = Burst::new();
    while let Some(packet) = burst.pop() {
        let Some(bytes) = packet.frame(0).and_then(|frame| change(frame.bytes())) else { continue };
        let mut frame = Frame::heap(bytes.len());
        frame.append(&bytes);
        changed.push(Packet::new(frame)).expect("as many go as came");
    }
    let carried = changed.len() as u64;
    while !changed.is_empty() {
        to.transmit(&mut changed);
    }
    carried
}

fn with_tag(frame: &[u8], tag: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(ADDRESSES_BYTES);
    [addresses, &TPID, &tag.to_be_bytes(), rest].concat()
}

/// `None`: it has no tag, or another.
fn without_tag(frame: &[u8], tag: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES_BYTES)?;
    let (found, payload) = rest.split_at_checked(TAG_BYTES)?;
    // The identifier's 12 bits; before them stand priority and drop eligibility.
    let identifier = u16::from_be_bytes([found[2], found[3]]) & 0x0fff;
    (found[..2] == TPID && identifier == tag).then(|| [addresses, payload].concat())
}
