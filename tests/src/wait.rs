//! Waiting for what takes a moment, with an end.

use std::thread;
use std::time::{Duration, Instant};

use crate::Namespace;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const PORT_LIMIT: Duration = Duration::from_secs(10);

/// Looks again and again until `look` finds something; panics with `what` after `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until somebody accepts TCP connections.
#[track_caller]
pub fn wait_for_port(from: &Namespace, address: &str, port: u16) {
    let connect = format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{address}/{port}'");
    eventually(&format!("{address} port {port} accepts"), PORT_LIMIT, || {
        from.attempt(&connect).success.then_some(())
    });
}
