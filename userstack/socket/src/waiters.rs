//! Which task waits for which event: wakers beside the stack's slots, found by index.
//!
//! There is one waker a flow and direction, one a listener and one a UDP socket and direction: the last task that
//! asked is the one that is woken. Wakers are handed out to be woken or dropped by the caller, because dropping one
//! may run code that comes back here.

use std::task::Waker;

use stack::{FlowKey, ListenerKey, UdpKey};

/// What a task waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Read(FlowKey),
    /// Room to write, or the end of a connect.
    Write(FlowKey),
    Accept(ListenerKey),
    Receive(UdpKey),
    Send(UdpKey),
}

/// Wakers of one slot. `first` reads or accepts, `second` writes.
#[derive(Debug, Default)]
struct Pair {
    life: u32,
    first: Option<Waker>,
    second: Option<Waker>,
}

/// All that wait on one core. Each table is as long as the stack's own and bounded by it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    flows: Vec<Pair>,
    listeners: Vec<Pair>,
    datagrams: Vec<Pair>,
}

impl Waiters {
    /// Notes who waits. Gives back whom it replaces, to be dropped.
    pub(crate) fn register(&mut self, wait: Wait, waker: &Waker) -> Option<Waker> {
        let (table, slot, life, is_first) = self.locate(wait);
        if table.len() <= slot {
            table.resize_with(slot + 1, Pair::default);
        }
        let pair = &mut table[slot];
        if pair.life != life {
            *pair = Pair { life, ..Pair::default() };
        }
        let place = if is_first { &mut pair.first } else { &mut pair.second };
        match place {
            Some(known) if known.will_wake(waker) => None,
            _ => place.replace(waker.clone()),
        }
    }

    /// Hands out who waits.
    pub(crate) fn take(&mut self, wait: Wait) -> Option<Waker> {
        let (table, slot, life, is_first) = self.locate(wait);
        let pair = table.get_mut(slot).filter(|pair| pair.life == life)?;
        if is_first { pair.first.take() } else { pair.second.take() }
    }

    fn locate(&mut self, wait: Wait) -> (&mut Vec<Pair>, usize, u32, bool) {
        match wait {
            Wait::Read(key) => (&mut self.flows, key.slot(), key.life(), true),
            Wait::Write(key) => (&mut self.flows, key.slot(), key.life(), false),
            Wait::Accept(key) => (&mut self.listeners, key.slot(), key.life(), true),
            Wait::Receive(key) => (&mut self.datagrams, key.slot(), key.life(), true),
            Wait::Send(key) => (&mut self.datagrams, key.slot(), key.life(), false),
        }
    }
}
