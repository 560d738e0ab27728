//! Who answers what on the node: Ringway its own addresses, the kernel the rest, also while Ringway dies.

use std::time::Duration;

use tests::lab::{MESH, MESH_V6, NODE, NODE_V6};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Process, eventually, is_root};

fn mesh() -> Mesh {
    Mesh::start(Lab::up(), Tables::Files(&lab_resources()), "")
}

#[test]
fn ringway_and_the_kernel_each_answer_ping_for_their_own_addresses() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    for address in [MESH, MESH_V6, NODE, NODE_V6] {
        let said = mesh.lab.client.run(&format!("ping -q -c 5 -i 0.05 -W 2 {address}"));
        assert!(said.contains("5 received"), "{address}: {said}");
    }
    let large = mesh.lab.client.run(&format!("ping -q -c 2 -i 0.05 -W 2 -s 4000 {MESH}"));
    assert!(large.contains("2 received"), "in fragments: {large}");
}

#[test]
fn a_workload_reaches_its_gateway() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    for gateway in ["169.254.1.1", "fe80::1%eth0"] {
        let said = mesh.lab.web_v1.run(&format!("ping -q -c 3 -i 0.05 -W 2 {gateway}"));
        assert!(said.contains("3 received"), "{gateway}: {said}");
    }
}

#[test]
fn what_the_mesh_does_not_take_passes_through_the_kernel() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let _server =
        Process::shell(&mesh.lab.client, "exec socat TCP-LISTEN:8123,fork,reuseaddr SYSTEM:'echo outside'");
    tests::wait_for_port(&mesh.lab.client, "127.0.0.1", 8123);
    let said = mesh.lab.web_v1.run("timeout 5 bash -c 'exec 3<>/dev/tcp/10.77.0.2/8123; cat <&3'");
    assert_eq!(said.trim(), "outside");
}

#[test]
fn a_killed_data_plane_gives_every_packet_back_to_the_kernel() {
    if !is_root() {
        return;
    }
    let mut mesh = mesh();
    // The host's own traffic runs while the data plane dies.
    let mut pings = Process::shell(&mesh.lab.client, &format!("exec ping -q -c 100 -i 0.02 -W 1 {NODE}"));
    std::thread::sleep(Duration::from_millis(500));
    mesh.ringwayd.kill();
    let status = pings.wait(Duration::from_secs(20)).expect("ping ends");
    assert!(status.success() && pings.output().contains(" 100 received"), "{}", pings.output());
    eventually("XDP is off", Duration::from_secs(2), || {
        let links = mesh.lab.node.run("ip -d link show");
        (!links.contains("xdp")).then_some(())
    });
    assert!(
        !mesh.lab.client.attempt(&format!("ping -q -c 1 -W 1 {MESH}")).success,
        "nobody holds {MESH} now"
    );

    mesh.restart();
    // The client's kernel still holds that nobody answered.
    eventually("Ringway answers again", Duration::from_secs(10), || {
        mesh.lab.client.attempt(&format!("ping -q -c 1 -W 1 {MESH}")).success.then_some(())
    });
}

#[test]
fn a_gateway_that_changes_its_mac_under_load_fails_no_request() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    let _web = lab.start_web();
    // The client is the router of a network behind it; it announces a new MAC by gratuitous ARP.
    lab.client.run("ip addr add 10.99.0.1/32 dev lo; sysctl -qw net.ipv4.conf.eth0.arp_notify=1");
    lab.node.run("ip route add 10.99.0.0/24 via 10.77.0.2 dev up0; ping -q -c 1 -W 2 10.77.0.2");
    let mesh = Mesh::start(lab, Tables::Files(&lab_resources()), "");
    let url = format!("http://{MESH}/?[1-4000]");
    let mut load = Process::shell(
        &mesh.lab.client,
        &format!("exec curl -sS --interface 10.99.0.1 -m 50 -o /dev/null -w '%{{http_code}}\\n' '{url}'"),
    );
    std::thread::sleep(Duration::from_millis(300));
    for last in 1..=3 {
        mesh.lab.client.run(&format!("ip link set eth0 address 02:00:00:00:01:0{last}"));
        std::thread::sleep(Duration::from_millis(300));
    }
    let status = load.wait(Duration::from_secs(60)).expect("the load ends");
    let output = load.output();
    assert!(status.success(), "{output}");
    assert_eq!(output.lines().filter(|line| *line == "200").count(), 4000);
}

#[test]
fn every_discard_is_counted_under_its_name() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    // To a port where nobody listens.
    mesh.lab.client.attempt(&format!("echo x | nc -u -w 1 {MESH} 4444"));
    let discards = mesh.admin("/discards");
    assert!(discards.to_string().contains("udp"), "{discards}");
}
