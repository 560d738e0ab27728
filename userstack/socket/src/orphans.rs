//! Sockets that were dropped outside of their core's scope: noted here, closed when their core runs tasks next.
//!
//! One list a thread, since tasks and what they hold never leave their core's thread. It is bounded by the sockets and
//! sleeps that were opened.

use std::cell::RefCell;

use stack::{FlowKey, ListenerKey, UdpKey};

use crate::ready::CoreNumber;
use crate::timers::TimerKey;

/// What was dropped.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Orphan {
    Stream(FlowKey),
    Listener(ListenerKey),
    Datagrams(UdpKey),
    Sleep(TimerKey),
}

thread_local! {
    static ORPHANS: RefCell<Vec<(CoreNumber, Orphan)>> = const { RefCell::new(Vec::new()) };
}

/// Notes a drop. A thread that is ending has no list any more: its cores are gone as well.
pub(crate) fn leave(core: CoreNumber, orphan: Orphan) {
    let _gone = ORPHANS.try_with(|orphans| orphans.borrow_mut().push((core, orphan)));
}

/// One orphan of `core`, in the order in which they were dropped.
pub(crate) fn adopt(core: CoreNumber) -> Option<Orphan> {
    ORPHANS
        .try_with(|orphans| {
            let mut orphans = orphans.borrow_mut();
            let index = orphans.iter().position(|(owner, _)| *owner == core)?;
            Some(orphans.remove(index).1)
        })
        .ok()
        .flatten()
}
