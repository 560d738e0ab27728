//! What the engine holds now, counted: for gauges, and for tests that want all of it to be gone.

use super::TcpHoldings;
use super::engine::Tcp;

impl Tcp {
    pub(crate) fn holdings(&self) -> TcpHoldings {
        TcpHoldings {
            connections: self.connections.len(),
            time_waits: self.time_waits.len(),
            listeners: self.listeners.len(),
            buffer_bytes: self.pool.lent_bytes(),
            timers: self.armed_timers(),
        }
    }

    /// The state of every connection, by its RFC's name; those at rest are an entry each and not in it.
    pub(crate) fn state_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.connections.iter().map(|connection| connection.state.name())
    }
}
