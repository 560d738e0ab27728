//! A whole mesh in a thread: client, node and workloads on simulated links and one virtual clock, decided by a seed.
//!
//! ```text
//!   client ══ "client" ══ [router] ══ "uplink" ══ node: worker 0..n, each Worker<Proxy> ══ "workload 1" ══ backend 1
//!     sim::Host                                     the real turn, stack and proxy       ══ "workload 2" ══ backend 2
//! ```
//! `world` puts it together and checks the accounts at the end, `node` makes simulator nodes of real workers, `card`
//! gives a link end several queues, `backend` is what the workloads serve. The other files are tests.
//!
//! `RINGWAY_SEED=17 cargo test -p ringway-tests --test sim_mesh bulk` replays one seed and leaves a pcapng;
//! `RINGWAY_SEEDS=200` runs that many of them.

mod accounts;
mod backend;
mod bulk;
mod card;
mod client;
mod datagrams;
mod http;
mod node;
mod pattern;
mod repeats;
mod seeds;
mod steering;
mod swaps;
mod table;
mod world;
