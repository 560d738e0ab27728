//! Limits and secrets of one stack.

/// Limits and secrets of one stack.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seeds ISNs, cookies, source ports and hash tables. The same key and inputs give the same packets.
    pub secret: [u8; 32],
    /// Source ports that the stack may choose: `first..=last`.
    pub ports: (u16, u16),
    /// Which worker this is and of how many: a source port is chosen so that the return flow steers here.
    pub worker: u16,
    pub workers: u16,
    pub max_flows: usize,
    /// Datagram sessions of all workers together; this one begins with its even part of them.
    pub max_sessions: usize,
    /// Bytes that all TCP buffers and reassembly of this worker may hold.
    pub memory_budget_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secret: [0; 32],
            ports: (32_768, 60_999),
            worker: 0,
            workers: 1,
            max_flows: 1 << 20,
            max_sessions: 1 << 18,
            memory_budget_bytes: 1 << 30,
        }
    }
}
