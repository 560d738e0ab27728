//! A gate that many tasks pass and one call closes: how listeners and their connections learn to drain.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use slab::Slab;

/// Open until closed, then for ever closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Cell<bool>,
    tickets: RefCell<Slab<Option<Waker>>>,
}

impl Gate {
    pub fn ticket(self: &Rc<Self>) -> Ticket {
        Ticket { slot: self.tickets.borrow_mut().insert(None), gate: Rc::clone(self) }
    }

    /// Wakes every holder of a ticket; each sees the closed gate at its next poll.
    pub fn close(&self) {
        self.closed.set(true);
        let wakers: Vec<Waker> =
            self.tickets.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tickets that are held.
    pub fn open(&self) -> usize {
        self.tickets.borrow().len()
    }
}

/// Closes its gate when dropped.
#[derive(Debug)]
pub(crate) struct Closing(pub Rc<Gate>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One task's place at a gate.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Rc<Gate>,
    slot: usize,
}

impl Ticket {
    pub fn is_closed(&self) -> bool {
        self.gate.closed.get()
    }

    /// Whether the gate is closed. While it is not, the task is woken when it closes.
    pub fn poll_closed(&self, cx: &Context<'_>) -> bool {
        if self.gate.closed.get() {
            return true;
        }
        let mut tickets = self.gate.tickets.borrow_mut();
        let waker = &mut tickets[self.slot];
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.tickets.borrow_mut().remove(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_is_seen_by_every_ticket_and_dropping_one_frees_its_place() {
        let gate = Rc::new(Gate::default());
        let (first, second) = (gate.ticket(), gate.ticket());
        let cx = Context::from_waker(Waker::noop());
        assert!(!first.poll_closed(&cx));
        assert_eq!(gate.open(), 2);
        drop(second);
        assert_eq!(gate.open(), 1);
        gate.close();
        assert!(first.poll_closed(&cx));
        assert!(gate.ticket().poll_closed(&cx), "a ticket drawn later sees it too");
    }
}
