//! The crate `host` against this kernel: interfaces made, features switched, routes and neighbours followed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use host::{Change, Error, LinkKind, Netlink, VethPeer, WORKLOAD_MTU, Watcher, WorkloadInterface};
use tests::{Namespace, is_root};

/// What a change may take from the kernel to the daemon, DESIGN section 4.
const CHANGE_LIMIT: Duration = Duration::from_millis(100);
/// The kernel itself tells a lost carrier at most once a second (net/core/link_watch.c).
const CARRIER_LIMIT: Duration = Duration::from_millis(1200);

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(test);
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A namespace with a veth `up0` that leads to a second one.
fn uplink() -> (Namespace, Namespace) {
    let (node, far) = (Namespace::new(), Namespace::new());
    node.connect("up0", &far, "eth0");
    node.run("ip addr add 10.77.0.1/24 dev up0; ip addr add fd77::1/64 dev up0 nodad");
    far.run("ip addr add 10.77.0.2/24 dev eth0");
    (node, far)
}

/// Takes changes until one is picked; fails when that takes longer than a change may.
async fn within_limit<T>(watcher: &mut Watcher, pick: impl FnMut(Change) -> Option<T>) -> T {
    within(CHANGE_LIMIT, watcher, pick).await
}

async fn within<T>(limit: Duration, watcher: &mut Watcher, mut pick: impl FnMut(Change) -> Option<T>) -> T {
    let started = Instant::now();
    // More patience than allowed, so that a failure says how late it came.
    let found = tokio::time::timeout(limit + Duration::from_secs(1), async {
        loop {
            let change = watcher.next().await.expect("the watcher goes on");
            if let Some(found) = pick(change) {
                return found;
            }
        }
    });
    let found = found.await.expect("the change is told");
    assert!(started.elapsed() < limit, "told after {:?}", started.elapsed());
    found
}

/// Takes all that is told while nothing happens.
async fn settle(watcher: &mut Watcher) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Ok(Some(change)) = tokio::time::timeout(Duration::from_millis(150), watcher.next()).await {
        changes.push(change);
    }
    changes
}

#[test]
fn a_workload_interface_is_whole_at_both_ends() {
    if !is_root() {
        return;
    }
    let (node, workload) = (Namespace::new(), Namespace::new());
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let interface = WorkloadInterface {
            queues: 2,
            ..WorkloadInterface::new("wl-one", workload.path(), vec![ip("10.88.0.11"), ip("fd88::11")])
        };
        let link = netlink.create_workload(&interface).await.unwrap();
        assert_eq!((link.mtu, link.kind.clone()), (WORKLOAD_MTU, LinkKind::Veth(VethPeer::Elsewhere)));
        assert!(link.is_running());
        assert_eq!(netlink.queue_pairs(&link).unwrap(), 2);
        assert_eq!(node.run("ip -o addr show dev wl-one"), "", "Ringway's end has no address");

        let far = Netlink::open_in(&workload.path()).unwrap();
        let features = far.features("eth0").unwrap();
        for name in ["tx-udp-segmentation", "rx-vlan-hw-parse", "tx-vlan-hw-insert"] {
            assert!(features.iter().any(|feature| feature.name == name && !feature.on), "{name} is off");
        }
        assert!(workload.run("ip route get 1.1.1.1").contains("via 169.254.1.1"));
        assert!(workload.run("ip route get 2001:db8::1").contains("via fe80::1"));
        assert!(workload.run("ip -o -6 addr show dev eth0 scope global").contains("fd88::11/128"));

        let again = netlink.create_workload(&interface).await;
        assert!(matches!(again, Err(Error::InterfaceExists { .. })));
        netlink.remove_link("wl-one").await.unwrap();
        assert!(matches!(netlink.link("wl-one").await, Err(Error::NoSuchInterface { .. })));
    });
}

#[test]
fn a_workload_interface_that_fails_halfway_leaves_nothing() {
    if !is_root() {
        return;
    }
    let (node, workload) = (Namespace::new(), Namespace::new());
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        // The same address twice: the second is refused.
        let interface = WorkloadInterface::new("wl-one", workload.path(), vec![ip("10.88.0.11"); 2]);
        assert!(netlink.create_workload(&interface).await.is_err());
        assert_eq!(netlink.links().await.unwrap().len(), 1, "only lo is left");
    });
}

#[test]
fn routes_with_several_next_hops_are_told_within_100_ms() {
    if !is_root() {
        return;
    }
    let (node, _far) = uplink();
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let index = netlink.link("up0").await.unwrap().index;
        let mut watcher = Watcher::start(&netlink, ["up0"]).await.unwrap();
        let first = settle(&mut watcher).await;
        assert!(first.iter().any(|change| matches!(change, Change::Link(link) if link.name == "up0")));

        node.run(
            "ip route add 10.99.0.0/16 nexthop via 10.77.0.2 dev up0 nexthop via 10.77.0.3 dev up0 weight 3",
        );
        let route = within_limit(&mut watcher, |change| match change {
            Change::Routes(routes) => routes.into_iter().find(|route| route.prefix == ip("10.99.0.0")),
            _ => None,
        })
        .await;
        let hops: Vec<_> = route.next_hops.iter().map(|hop| (hop.interface, hop.via, hop.weight)).collect();
        assert_eq!(hops, [(index, Some(ip("10.77.0.2")), 1), (index, Some(ip("10.77.0.3")), 3)]);

        node.run("ip route replace default via 10.77.0.2; ip -6 route add default via fd77::2 dev up0");
        settle(&mut watcher).await;
        node.run("ip route del 10.99.0.0/16");
        let rest = within_limit(&mut watcher, |change| match change {
            Change::Routes(routes) => Some(routes),
            _ => None,
        })
        .await;
        assert!(rest.iter().all(|route| route.prefix != ip("10.99.0.0")));
        assert!(rest.iter().any(|route| route.prefix_len == 0 && route.prefix.is_ipv6()));
    });
}

#[test]
fn a_neighbour_and_its_new_mac_are_told_within_100_ms() {
    if !is_root() {
        return;
    }
    let (node, _far) = uplink();
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let mut watcher = Watcher::start(&netlink, ["up0"]).await.unwrap();
        settle(&mut watcher).await;
        for (command, wanted) in [
            ("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev up0", Some([2, 0, 0, 0, 0, 1])),
            ("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:02 dev up0", Some([2, 0, 0, 0, 0, 2])),
            ("ip neigh del 10.77.0.2 dev up0", None),
        ] {
            node.run(command);
            let mac = within_limit(&mut watcher, |change| match change {
                Change::Neighbour { address, mac, .. } if address == ip("10.77.0.2") => Some(mac),
                _ => None,
            })
            .await;
            assert_eq!(mac, wanted, "after {command}");
        }
    });
}

#[test]
fn a_link_that_goes_and_comes_again_is_told() {
    if !is_root() {
        return;
    }
    let (node, far) = uplink();
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let mut watcher = Watcher::start(&netlink, ["up0"]).await.unwrap();
        settle(&mut watcher).await;
        far.run("ip link set eth0 down");
        within(CARRIER_LIMIT, &mut watcher, |change| match change {
            Change::Link(link) => (!link.is_running()).then_some(()),
            _ => None,
        })
        .await;
        settle(&mut watcher).await;
        node.run("ip link del up0");
        within_limit(&mut watcher, |change| matches!(change, Change::LinkRemoved { .. }).then_some(())).await;
        settle(&mut watcher).await;
        node.connect("up0", &far, "eth0");
        let changes = settle(&mut watcher).await;
        assert!(changes.iter().any(|change| matches!(change, Change::Link(link) if link.is_running())));
    });
}

#[test]
fn vlan_offload_is_switched_off_at_our_end_and_the_far_end_is_named_unknown() {
    if !is_root() {
        return;
    }
    let (node, _far) = uplink();
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let uplink = netlink.uplink("up0").await.unwrap();
        let results = netlink.switch_off_vlan_offload(&uplink).await.unwrap();
        assert_eq!(results, [("up0".to_owned(), host::VlanOffload::FarEndUnknown)]);
        let features = netlink.features("up0").unwrap();
        assert!(features.iter().any(|feature| feature.name == "rx-vlan-hw-parse" && !feature.on));
        let fixed = netlink.set_features("lo", &[("rx-vlan-hw-parse", true)]);
        assert!(matches!(fixed, Err(Error::FeatureStays { .. } | Error::Netlink { .. })));
    });
}

#[test]
fn the_checks_of_an_interface_say_what_is_wrong() {
    if !is_root() {
        return;
    }
    let (node, far) = uplink();
    far.run("ip link set eth0 down");
    in_runtime(async {
        let netlink = Netlink::open_in(&node.path()).unwrap();
        let checks = host::check_interface(&netlink, "up0").await.unwrap();
        let link = checks.iter().find(|check| check.name == "link").unwrap();
        assert_eq!(link.status, host::CheckStatus::Failed);
        assert!(!link.advice.is_empty());
        assert!(host::check_host().iter().any(|check| check.name == "kernel"));
    });
}
