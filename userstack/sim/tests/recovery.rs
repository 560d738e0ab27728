//! What loss recovery costs: how long an upload takes and how much of it is sent again, fault by fault. Run the figures
//! with `cargo test -p ringway-sim --test recovery -- --ignored --nocapture`.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::{Pattern, converse, listen};
use sim::{Address, Fate, HostPair, LinkConfig, LinkFaults};
use socket::{Congestion, TcpOptions, TcpStream};

const PORT: u16 = 7;
const UPLOAD: usize = 2 << 20;

/// One path and what goes wrong on it.
#[derive(Copy, Clone, Debug)]
struct Case {
    name: &'static str,
    one_way: Duration,
    faults: LinkFaults,
}

/// What one upload took.
#[derive(Copy, Clone, Debug)]
struct Cost {
    millis: u64,
    segments_again: u64,
    packets_lost: u64,
}

const fn loss(loss_ppm: u32) -> LinkFaults {
    LinkFaults { loss_ppm, ..LinkFaults::NONE }
}

const REORDER: LinkFaults =
    LinkFaults { reorder_ppm: 50_000, reorder_delay: Duration::from_millis(3), ..LinkFaults::NONE };

const fn case(name: &'static str, one_way_micros: u64, faults: LinkFaults) -> Case {
    Case { name, one_way: Duration::from_micros(one_way_micros), faults }
}

const CASES: [Case; 9] = [
    case("clean, 0.8 ms", 200, LinkFaults::NONE),
    case("loss 0.1%, 0.8 ms", 200, loss(500)),
    case("loss 1%, 0.8 ms", 200, loss(5_000)),
    case("loss 5%, 0.8 ms", 200, loss(25_000)),
    case("loss 1%, 40 ms", 10_000, loss(5_000)),
    case("loss 5%, 40 ms", 10_000, loss(25_000)),
    case("reordering, 0.8 ms", 200, REORDER),
    case("reordering, 40 ms", 10_000, REORDER),
    case("rough, 0.8 ms", 200, LinkFaults::ROUGH),
];

/// The client uploads; the server closes when it has all.
fn upload(seed: u64, case: &Case, congestion: Congestion) -> Cost {
    let link = LinkConfig {
        bits_per_second: 1_000_000_000,
        delay: case.one_way,
        queue_bytes: 256 * 1024,
        faults: case.faults,
        ..LinkConfig::default()
    };
    let mut pair = HostPair::new(seed, link);
    let remote = pair.server_socket(Address::V4, PORT);
    let pattern = Pattern::new(seed);
    let sent = pattern.clone();
    let again = Rc::new(Cell::new(0));
    let total = Rc::clone(&again);
    let server = async move {
        let listener = listen(Address::V4, PORT);
        let stream = listener.accept().await.expect("the listener lives");
        receive(&stream, sent).await;
    };
    let client = async move {
        let options =
            TcpOptions { connect_timeout: Duration::from_secs(60), congestion, ..TcpOptions::default() };
        let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
        send(&stream, pattern).await;
        stream.shutdown();
        assert_eq!(stream.read(&mut [0; 1]).await.expect("the server ends in order"), 0);
        total.set(stream.info().map_or(0, |info| u64::from(info.retransmitted_segments)));
    };
    converse(&mut pair, Duration::from_secs(600), server, client);
    Cost {
        millis: pair.network.now().as_millis(),
        segments_again: again.get(),
        packets_lost: pair.network.trace().count(Fate::Lost) + pair.network.trace().count(Fate::QueueFull),
    }
}

async fn send(stream: &TcpStream, mut pattern: Pattern) {
    while pattern.position() < UPLOAD {
        let chunk = pattern.peek(UPLOAD - pattern.position());
        let written = stream.write(chunk).await.expect("the connection lives");
        pattern.advance(written);
    }
}

async fn receive(stream: &TcpStream, mut pattern: Pattern) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await.expect("the connection lives") {
            0 => return,
            len => pattern.expect(&buffer[..len]),
        }
    }
}

fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
#[ignore = "prints figures; `UPLOADS` says of how many seeds"]
fn figures_of_uploads_fault_by_fault() {
    let seeds = number_in("UPLOADS", 15);
    println!("{:22} {:8} {:>9} {:>9} {:>8} {:>8}", "", "", "median ms", "worst ms", "again", "lost");
    for case in &CASES {
        for congestion in [Congestion::Cubic, Congestion::NewReno] {
            let costs: Vec<Cost> = (0..seeds).map(|seed| upload(seed, case, congestion)).collect();
            let mut millis: Vec<u64> = costs.iter().map(|cost| cost.millis).collect();
            millis.sort_unstable();
            println!(
                "{:22} {:8} {:>9} {:>9} {:>8} {:>8}",
                case.name,
                format!("{congestion:?}"),
                millis[millis.len() / 2],
                millis[millis.len() - 1],
                costs.iter().map(|cost| cost.segments_again).sum::<u64>(),
                costs.iter().map(|cost| cost.packets_lost).sum::<u64>(),
            );
        }
    }
}
