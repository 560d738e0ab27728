//! One bulk flow of two of our stacks over a veth and AF_XDP copy mode, beside a bare flood of frames as long on the same
//! cores: `ringway-flood`, as root. Prints both rates of every round, and the medians of their ratios.
//!
//! ```text
//!   CPU 0, namespace "near": n0  <--- veth, MTU 1,500 --->  p0: namespace "far", CPU 1
//!   bare:  fills the transmit ring                          takes what comes off the receive ring
//!   flow:  a worker whose user writes                       a worker whose user reads
//! ```
//! The flow goes twice: by the ring alone, segment by segment, and as a worker sends on a veth (runs of segments uncut).

mod bare;
mod flow;
mod lab;
mod measure;

use std::process::ExitCode;

use clap::Parser;

use lab::Lab;
use measure::Round;

#[derive(Parser)]
struct Arguments {
    /// How often each is measured, in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Leaves out the flow as a worker sends it on a veth.
    #[arg(long)]
    ring_alone: bool,
}

/// Of the bare rates, what a flow as a worker sends it must reach.
const LEAST: f64 = 0.8;

fn main() -> ExitCode {
    let Arguments { rounds, seconds, ring_alone } = Arguments::parse();
    let lab = Lab::new();
    let ways = [(flow::Way::RingAlone, "flow, ring alone"), (flow::Way::AsIs, "flow, as it is")];
    let ways = if ring_alone { &ways[..1] } else { &ways[..] };
    let mut ratios = vec![vec![]; ways.len()];
    println!("{:<18} {:>10} {:>12} {:>10} {:>12}", "", "sent/s", "MB/s", "received/s", "MB/s");
    for round in 0..rounds {
        let bare = bare::round(&lab, seconds);
        print(round, "bare", &bare);
        for (&(way, name), ratios) in ways.iter().zip(&mut ratios) {
            let flow = flow::round(&lab, way, seconds);
            print(round, name, &flow);
            ratios.push((flow.sent.bytes / bare.sent.bytes, flow.received.bytes / bare.received.bytes));
        }
    }
    let mut reached = true;
    for ((way, name), ratios) in ways.iter().zip(ratios) {
        let (sent, received): (Vec<f64>, Vec<f64>) = ratios.into_iter().unzip();
        let (sent, received) = (median(sent), median(received));
        println!("{name}: of bare in bytes, median of {rounds}: sending {sent:.2}, receiving {received:.2}");
        reached &= *way == flow::Way::RingAlone || sent.min(received) >= LEAST;
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(round: usize, name: &str, Round { sent, received }: &Round) {
    println!(
        "{round} {name:<16} {:>10.0} {:>12.1} {:>10.0} {:>12.1}",
        sent.packets,
        sent.bytes / 1e6,
        received.packets,
        received.bytes / 1e6
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
