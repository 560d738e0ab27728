//! Mirrors the kernel's routes, neighbours and link states to the workers, within 100 ms of a change (FRR, VRRP, bond).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use host::{Change, Link, Watcher};
use worker::{LinkState, Prefix, Route};

use crate::interfaces::Plan;
use crate::node::Node;

/// Follows the kernel until the runtime ends.
pub async fn follow(mut watcher: Watcher, node: Rc<Node>, plan: Rc<Plan>) {
    // Members of bonds by index, so that a link going down takes its port out.
    let devices: BTreeMap<u32, usize> =
        plan.devices.iter().enumerate().map(|(number, device)| (device.link.index, number)).collect();
    while let Some(change) = watcher.next().await {
        match change {
            Change::Routes(routes) => {
                let routes: Arc<[Route]> = translate(&plan, &routes).into();
                node.tell_all(move |worker, _now| worker.set_routes(&routes));
            }
            Change::Neighbour { interface, address, mac } => {
                if let Some(id) = plan.by_kernel_index(interface) {
                    node.tell_all(move |worker, now| {
                        worker.core.stack().set_neighbour(id, address, mac, now)
                    });
                }
            }
            Change::Link(link) => {
                if let Some(&device) = devices.get(&link.index) {
                    let state = link_state(&link);
                    tracing::info!(device = link.name, ?state, "link");
                    node.tell_all(move |worker, _now| worker.set_link(device, state));
                }
            }
            Change::LinkRemoved { name, index } => {
                if let Some(&device) = devices.get(&index) {
                    tracing::warn!(
                        device = name,
                        "link is gone: its queue pairs are dead until ringwayd restarts"
                    );
                    node.tell_all(move |worker, _now| worker.set_link(device, LinkState::Down));
                }
            }
        }
    }
}

fn link_state(link: &Link) -> LinkState {
    match (link.is_running(), link.standby) {
        (false, _) => LinkState::Down,
        (true, true) => LinkState::StandsBy,
        (true, false) => LinkState::Carries,
    }
}

/// How often the programs' notices are read: well within the 100 ms that a moved gateway may take.
const NOTICE_INTERVAL: Duration = Duration::from_millis(20);
/// Notices taken from one device at a time: a hostile link can make many.
const NOTICES_PER_VISIT: usize = 64;

/// Tells the workers what neighbours announced of themselves (gratuitous ARP, unsolicited advertisements).
pub async fn notices(node: Rc<Node>, plan: Rc<Plan>) {
    let mut interval = tokio::time::interval(NOTICE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        for (device, attachment) in node.attachments().iter_mut().enumerate() {
            for _ in 0..NOTICES_PER_VISIT {
                let Some(notice) = attachment.poll_notice() else { break };
                let interface = plan.on_device(device).find(|logical| logical.config.vlan == notice.vlan);
                if let Some(id) = interface.map(|logical| logical.config.id) {
                    node.tell_all(move |worker, now| {
                        worker.core.stack().neighbour_announced(id, notice.address, notice.mac, now);
                    });
                }
            }
        }
    }
}

/// The kernel's routes through our interfaces, and the workloads' own.
fn translate(plan: &Plan, kernel: &[host::Route]) -> Vec<Route> {
    let mut routes = plan.workload_routes();
    for route in kernel {
        for hop in &route.next_hops {
            if let Some(interface) = plan.by_kernel_index(hop.interface) {
                let prefix = Prefix { address: route.prefix, len: route.prefix_len };
                // A weight of n is n equal paths.
                let one = Route { prefix, via: hop.via, interface, metric: route.metric };
                routes.extend(std::iter::repeat_n(one, usize::from(hop.weight.clamp(1, MAX_WEIGHT))));
            }
        }
    }
    routes
}

/// Equal entries that one weighted next hop may become.
const MAX_WEIGHT: u16 = 16;
