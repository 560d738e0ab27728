//! What the program's maps hold at most, as redirect.c has it.

/// Queues of one interface (`QUEUES_MAX` in redirect.c): more than any card of today has.
pub const QUEUES_MAX: u32 = 256;

/// Entries of each of the two maps (`OWNED_MAX` in redirect.c): a node's services and workloads, many times over.
pub const OWNED_MAX: usize = 65_536;
