//! Links of other sizes than Ethernet's, and tagged ones: curl and nginx's own TCP at both ends, bodies of megabytes.

mod trunk;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use tests::lab::{MESH, MESH_V6};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Process, is_root};

use trunk::{ACCESS, Trunk};

const BODY_BYTES: u32 = 8_000_000;

/// Both web services give and take files of one folder.
struct Site {
    folder: PathBuf,
    _web: [Process; 2],
}

impl Site {
    fn start(lab: &Lab) -> Self {
        let folder = lab.directory().join("www");
        fs::create_dir_all(folder.join("up")).expect("a directory can be made");
        // nginx's workers are not root.
        for path in [lab.directory(), folder.as_path(), folder.join("up").as_path()] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).expect("permissions can be set");
        }
        let body: Vec<u8> = (0..BODY_BYTES).map(|n| (n % 251) as u8).collect();
        fs::write(folder.join("big"), &body).expect("a file can be written");
        let settings = format!(
            "client_max_body_size 100m; client_body_temp_path {folder}/tmp; root {folder}; \
             location /big {{ }} location /up/ {{ dav_methods PUT; }}",
            folder = folder.display()
        );
        let _web = [
            lab.start_nginx(&lab.web_v1, "web-v1", &settings),
            lab.start_nginx(&lab.web_v2, "web-v2", &settings),
        ];
        Self { folder, _web }
    }

    /// A body down and a body up, each compared byte by byte.
    fn carry_bodies(&self, mesh: &Mesh, host: &str) {
        let big = self.folder.join("big");
        let client = &mesh.lab.client;
        client.run(&format!("set -o pipefail; curl -gfsS -m 50 http://{host}/big | cmp - {}", big.display()));
        let name = host.replace(['[', ']', ':', '.'], "-");
        client.run(&format!("curl -gfsS -m 50 -T {} http://{host}/up/{name}", big.display()));
        let sent = fs::read(&big).expect("what was sent is there");
        let came = fs::read(self.folder.join("up").join(&name)).expect("nginx has written a file");
        assert!(sent == came, "{host}: {} of {} bytes arrived, or changed", came.len(), sent.len());
    }
}

fn bodies_pass_a_link_of(mtu: u16) {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    lab.node.run(&format!("ip link set up0 mtu {mtu}"));
    lab.client.run(&format!("ip link set eth0 mtu {mtu}"));
    let site = Site::start(&lab);
    let mesh = Mesh::start(lab, Tables::Files(&lab_resources()), "");
    for host in [MESH.to_owned(), format!("[{MESH_V6}]")] {
        site.carry_bodies(&mesh, &host);
    }
    // What is said there fits: a datagram as long as the link takes comes through whole.
    let largest = mtu - 28;
    mesh.lab.client.run(&format!("ping -c 3 -i 0.2 -W 2 -M do -s {largest} {MESH}"));
}

/// IPv6's least (RFC 8200, section 5).
#[test]
fn bodies_pass_a_link_of_1280() {
    bodies_pass_a_link_of(1280);
}

#[test]
fn bodies_pass_a_link_of_1500() {
    bodies_pass_a_link_of(1500);
}

#[test]
fn bodies_pass_a_link_of_2000() {
    bodies_pass_a_link_of(2000);
}

#[test]
fn bodies_pass_a_link_of_3000() {
    bodies_pass_a_link_of(3000);
}

#[test]
fn a_tagged_uplink_serves_a_client_behind_its_tag() {
    if !is_root() {
        return;
    }
    const TAGGED: &str = "10.99.0.80";
    const TAGGED_V6: &str = "fd99::80";
    let lab = Lab::up();
    let trunk = Trunk::lay(&lab.client, &lab.node, "g0", 100);
    lab.client
        .run(&format!("ip addr add 10.99.0.2/24 dev {ACCESS}; ip addr add fd99::2/64 dev {ACCESS} nodad"));
    let site = Site::start(&lab);
    let resources = lab_resources().replace(MESH, TAGGED).replace(MESH_V6, TAGGED_V6);
    // One more line of the list that ends the example; a line that began as its others do would take their place.
    let tagged = "  - { role: uplink, name: g0.100, addresses: [10.99.0.80/24, \"fd99::80/64\"] }";
    let mesh = Mesh::start(lab, Tables::Files(&resources), tagged);
    mesh.lab.client.run(&format!("ping -c 3 -i 0.2 -W 2 {TAGGED}"));
    for host in [TAGGED.to_owned(), format!("[{TAGGED_V6}]")] {
        site.carry_bodies(&mesh, &host);
    }
    // Each body down is some 5,500 full segments; every one of them had the tag.
    assert!(trunk.from_node.load(Ordering::Relaxed) > 10_000);
    assert!(
        !mesh.lab.client.attempt(&format!("curl -fsS -m 2 http://{MESH}/")).success,
        "not on the bare link"
    );
}
