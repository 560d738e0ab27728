//! Our TCP beside Linux's over one bad link: a client of Linux's TCP, and as its server once Linux, once `ringwayd` on
//! AF_XDP with a backend behind it that is near and loses nothing.
//!
//! ```text
//!   client ── bad link ── linux: serves itself
//!          ── bad link ── node: ringwayd, a TCPRoute ── media: serves
//! ```
//!
//! In each cell both systems meet the same five patterns of loss. The few cells of CI ask that every byte arrives and
//! nothing hangs. All cells, with the goodput of ours as a share of Linux's, take half an hour:
//! `cargo test --release --test beside_linux -- --ignored --nocapture`, or those whose line has the text of `CELLS`
//! (`CELLS='cubic | IPv4 | down'`).

mod impaired;
mod transfer;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use impaired::{Impairment, Link};
use tests::lab::{MESH, MESH_V6};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Namespace, is_root};
use transfer::Kind;

const PORT: u16 = 9000;
/// A near network of the day before yesterday: what two cores carry beside both ends, so that TCP decides and not they.
const SHAPE: Impairment = Impairment {
    seed: 0,
    lost_per_million: 0,
    bits_per_second: 100_000_000,
    delay: Duration::from_millis(2),
    queue_bytes: 64 << 10,
};
/// Per million.
const LOSSES: [u64; 4] = [0, 1_000, 10_000, 50_000];
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
const CONTROLS: [&str; 3] = ["cubic", "reno", "bbr"];
/// The least share of Linux's goodput.
const LEAST: f64 = 0.9;

/// Client, both servers, and a bad link to each.
struct Field {
    mesh: Mesh,
    _linux: Namespace,
    to_linux: Link,
    to_mesh: Link,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum System {
    Linux,
    Ringway,
}

/// One comparison.
#[derive(Copy, Clone, Debug)]
struct Cell {
    control: &'static str,
    v6: bool,
    kind: Kind,
    lost_per_million: u64,
}

impl Field {
    fn lay() -> Self {
        let lab = Lab::up();
        let linux = Namespace::new();
        let to_linux = Link::lay(&lab.client, "bad0", &linux, "g0", SHAPE);
        let to_mesh = Link::lay(&lab.client, "bad1", &lab.node, "g0", SHAPE);
        lab.client.run(
            "ip addr add 10.98.0.2/24 dev bad0; ip addr add fd98::2/64 dev bad0 nodad; \
             ip addr add 10.99.0.2/24 dev bad1; ip addr add fd99::2/64 dev bad1 nodad",
        );
        linux.run("ip addr add 10.98.0.80/24 dev g0; ip addr add fd98::80/64 dev g0 nodad");
        for address in ["10.98.0.80", "fd98::80"] {
            transfer::serve(&linux, SocketAddr::new(ip(address), PORT));
        }
        for address in ["10.88.0.13", "fd88::13"] {
            transfer::serve(&lab.media, SocketAddr::new(ip(address), PORT));
        }
        let resources = lab_resources().replace(MESH, "10.99.0.80").replace(MESH_V6, "fd99::80");
        // One more line of the list that ends the example; a line that began as its others do would take their place.
        let uplink = "  - { role: uplink, name: g0, addresses: [10.99.0.80/24, \"fd99::80/64\"] }";
        let mesh = Mesh::start(lab, Tables::Files(&resources), uplink);
        Self { mesh, _linux: linux, to_linux, to_mesh }
    }

    /// Goodput of one run.
    #[track_caller]
    fn run(&self, system: System, cell: Cell, seed: u64) -> f64 {
        let (link, address) = match (system, cell.v6) {
            (System::Linux, false) => (&self.to_linux, "10.98.0.80"),
            (System::Linux, true) => (&self.to_linux, "fd98::80"),
            (System::Ringway, false) => (&self.to_mesh, "10.99.0.80"),
            (System::Ringway, true) => (&self.to_mesh, "fd99::80"),
        };
        link.begin(seed, cell.lost_per_million);
        let goodput = transfer::run(&self.mesh.lab.client, SocketAddr::new(ip(address), PORT), cell.kind);
        let (came, lost) = link.counts();
        goodput.unwrap_or_else(|error| {
            panic!("{system:?}, {cell:?}, seed {seed}: {error}; {lost} of {came} packets lost")
        })
    }

    /// Median goodputs of Linux and of Ringway.
    fn compare(&self, cell: Cell) -> (f64, f64) {
        let runs: Vec<(f64, f64)> = SEEDS
            .iter()
            .map(|&seed| (self.run(System::Linux, cell, seed), self.run(System::Ringway, cell, seed)))
            .collect();
        (median(runs.iter().map(|run| run.0)), median(runs.iter().map(|run| run.1)))
    }
}

#[test]
fn every_byte_crosses_a_bad_link() {
    if !is_root() {
        return;
    }
    let field = Field::lay();
    for lost_per_million in LOSSES {
        let bulk = bulk_bytes(lost_per_million) / 4;
        for (v6, kind) in [(false, Kind::Down(bulk)), (true, Kind::Up(bulk)), (true, Kind::Short(40))] {
            let cell = Cell { control: "cubic", v6, kind, lost_per_million };
            field.run(System::Ringway, cell, 1);
        }
    }
    // The control: the link does lose, and queues.
    let (came, lost) = field.to_mesh.counts();
    assert!(lost > 0 && lost < came / 4, "{lost} of {came} packets were lost");
}

#[test]
#[ignore = "half an hour of ratios of times: nightly, and by hand"]
fn goodput_is_nine_tenths_of_linuxs_in_every_cell() {
    if !is_root() {
        return;
    }
    let field = Field::lay();
    let mut table = String::from(
        "| control | family | what | loss | Linux Mbit/s | Ringway Mbit/s | share |\n|---|---|---|---|---|---|---|\n",
    );
    let mut short_of = 0;
    let wanted = std::env::var("CELLS").unwrap_or_default();
    for cell in cells().filter(|cell| cell.name().contains(&wanted)) {
        transfer::set_control(cell.control);
        let (linux, ours) = field.compare(cell);
        short_of += usize::from(ours < LEAST * linux);
        let line = cell.line(linux, ours);
        eprint!("{line}");
        table.push_str(&line);
    }
    println!("{table}");
    assert!(short_of == 0, "{short_of} cells are under {LEAST} of Linux's goodput");
}

fn cells() -> impl Iterator<Item = Cell> {
    CONTROLS.into_iter().flat_map(|control| {
        LOSSES.into_iter().flat_map(move |lost_per_million| {
            let bulk = bulk_bytes(lost_per_million);
            let kinds = [Kind::Down(bulk), Kind::Up(bulk), Kind::Short(200)];
            [false, true].into_iter().flat_map(move |v6| {
                kinds.into_iter().map(move |kind| Cell { control, v6, kind, lost_per_million })
            })
        })
    })
}

/// A second or so each.
fn bulk_bytes(lost_per_million: u64) -> usize {
    match lost_per_million {
        0..=1_000 => 8 << 20,
        1_001..=10_000 => 4 << 20,
        _ => 1 << 20,
    }
}

impl Cell {
    fn name(&self) -> String {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        let what = match self.kind {
            Kind::Down(_) => "down",
            Kind::Up(_) => "up",
            Kind::Short(_) => "short",
        };
        let loss = self.lost_per_million as f64 / 10_000.0;
        format!("{} | {family} | {what} | {loss} %", self.control)
    }

    fn line(&self, linux: f64, ours: f64) -> String {
        format!("| {} | {:.1} | {:.1} | {:.2} |\n", self.name(), linux / 1e6, ours / 1e6, ours / linux)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
