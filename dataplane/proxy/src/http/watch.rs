//! What ends a client's connection from outside: its listener drains, or it has been idle for too long.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use super::flight::Client;
use crate::gate::Ticket;
use crate::runtime::Runtime;

/// Looks after one connection.
pub(super) struct Watch<R: Runtime> {
    ticket: Ticket,
    idle: R::Sleep,
    told: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    None,
    /// Told once.
    Drain,
    Idle,
}

impl<R: Runtime> Watch<R> {
    pub fn new(ticket: Ticket, idle: R::Sleep) -> Self {
        Self { ticket, idle, told: false }
    }

    /// The listener takes no more requests.
    pub fn is_draining(&self) -> bool {
        self.ticket.is_closed()
    }

    pub fn poll(&mut self, client: &Client<R>, cx: &mut Context<'_>) -> Notice {
        while Pin::new(&mut self.idle).poll(cx).is_ready() {
            let limit = client.engine.config.limits.client_idle;
            let quiet = match client.active.get() {
                0 => client.engine.runtime.now().since(client.quiet_since.get()),
                _ => Duration::ZERO,
            };
            let due = quiet >= limit;
            self.idle = client.engine.runtime.sleep(if due { limit } else { limit - quiet });
            if due {
                // Polled once more by what the caller does now, which arms the new timer.
                cx.waker().wake_by_ref();
                return Notice::Idle;
            }
        }
        if !self.told && self.ticket.poll_closed(cx) {
            self.told = true;
            return Notice::Drain;
        }
        Notice::None
    }
}
