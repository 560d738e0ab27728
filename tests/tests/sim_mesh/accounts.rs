//! Every test's end check: verdicts and discards add up to the frames received, and nothing is left behind.

use std::cell::RefMut;

use nic::QueuePair;
use sim::Host;
use stack::Discard;

use crate::node::WorkerNode;
use crate::world::World;

/// What a worker's proxy keeps for its life: the task that looks at unused upstream connections.
const STANDING_TASKS: usize = 1;

/// Whether no connection and no datagram session is left on the node.
pub fn is_forgotten(world: &World) -> bool {
    world.node.workers.iter().all(|worker| remembered(worker.borrow_mut()) == (0, 0))
}

pub fn assert_forgotten(world: &World) {
    for (number, worker) in world.node.workers.iter().enumerate() {
        assert_eq!(remembered(worker.borrow_mut()), (0, 0), "worker {number}: connections, sessions");
    }
}

/// Connections and sessions.
fn remembered(mut worker: RefMut<'_, WorkerNode>) -> (usize, usize) {
    let stack = worker.worker.core.stack();
    (stack.tcp_connections(), stack.sessions().count())
}

/// Without listeners and connections no task is left but the standing one.
pub fn assert_at_rest(world: &World) {
    for (number, worker) in world.node.workers.iter().enumerate() {
        let worker = &worker.borrow().worker;
        assert_eq!(worker.application.active(), 0, "worker {number}: open connections of the proxy");
        assert_eq!(worker.core.tasks(), STANDING_TASKS, "worker {number}: tasks");
        assert!(worker.is_idle() && !worker.is_sending(), "worker {number} has work left");
    }
    let mut client = world.client.borrow_mut();
    assert_eq!((client.core().tasks(), client.core().stack().tcp_connections()), (0, 0), "client");
}

/// Every frame that a worker or a host received has a verdict, and every frame that died has a reason.
pub fn assert_balance(world: &World) {
    let (mut received, mut given, mut taken) = (0, 0, 0);
    for (number, worker) in world.node.workers.iter().enumerate() {
        let worker = &mut worker.borrow_mut().worker;
        let counters = *worker.counters();
        assert_eq!(
            counters.packets_received + counters.packets_from_rings,
            counters.packets_consumed
                + counters.packets_forwarded
                + counters.packets_discarded
                + counters.packets_steered,
            "worker {number}: {counters:?}"
        );
        let of_stack = worker.core.stack().discards().total();
        assert_reasons(number, of_stack, worker);
        received += counters.packets_received;
        given += counters.packets_steered + counters.wholes_steered + counters.packets_shown;
        taken += counters.packets_from_rings;
    }
    assert_eq!(given, taken, "what workers gave each other, and what they took");
    let arrived: u64 = world.node.ends.iter().map(|end| end.clone().counters().received_packets).sum();
    assert_eq!(received, arrived, "what the workers received, and what arrived at the node");
    assert_host(&mut world.client.borrow_mut());
    world.backends.iter().for_each(|backend| assert_host(&mut backend.host.borrow_mut()));
}

/// What the stack counted are verdicts; of the worker's own reasons, those for received packets are.
fn assert_reasons(number: usize, stack: u64, worker: &worker::Worker<proxy::Proxy>) {
    let of_worker = |reason| worker.discards().of(reason);
    let least = stack + of_worker(Discard::VlanUnknown) + of_worker(Discard::NewcomersFull);
    // A full ring kills what is steered, which has a verdict, and what another worker should transmit, which had one.
    let most = least + of_worker(Discard::RingFull);
    let discarded = worker.counters().packets_discarded;
    assert!(
        (least..=most).contains(&discarded),
        "worker {number}: {discarded} died for {least} to {most} reasons"
    );
}

fn assert_host(host: &mut Host) {
    let counters = host.counters();
    assert_eq!(
        counters.received,
        counters.consumed + counters.forwarded + counters.discarded,
        "{counters:?}"
    );
    assert_eq!(host.core().stack().discards().total(), counters.discarded);
}
