//! Each congestion control over a link with a drop-tail queue: how much of it is used, how long the queue is, and how
//! two flows share it. On virtual time, from seeds; the margins are wide enough that a change of a constant elsewhere
//! does not break them, and narrow enough that a control that stalls does.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::listen;
use sim::{Address, HostPair, LinkConfig, LinkFaults};
use socket::{Congestion, Ecn, TcpOptions, TcpStream, spawn};

const PORT: u16 = 7;
/// 10 Mb/s and 40 ms there and back: 50 KB fill the pipe, and as many the queue unless a test says otherwise.
const BITS_PER_SECOND: u64 = 10_000_000;
const ONE_WAY: Duration = Duration::from_millis(10);
const PIPE_BYTES: usize = 50_000;
/// What of a full Ethernet frame is text.
const TEXT_SHARE: f64 = 1448.0 / 1514.0;

#[derive(Clone)]
struct Case {
    flows: Vec<TcpOptions>,
    queue_bytes: usize,
    /// On each of the two links.
    loss_ppm: u32,
    /// Not measured, then measured.
    settle: Duration,
    measure: Duration,
}

/// What each flow got, as a share of the link, and the round trip that the first ended with.
#[derive(Debug)]
struct Outcome {
    shares: Vec<f64>,
    round_trip: Duration,
}

impl Outcome {
    fn all(&self) -> f64 {
        self.shares.iter().sum()
    }

    /// Jain's index: 1 where all have the same.
    fn fairness(&self) -> f64 {
        let squares: f64 = self.shares.iter().map(|share| share * share).sum();
        self.all().powi(2) / (self.shares.len() as f64 * squares)
    }
}

fn with(congestion: Congestion) -> TcpOptions {
    TcpOptions { congestion, ..TcpOptions::default() }
}

fn case(flows: &[Congestion]) -> Case {
    Case {
        flows: flows.iter().copied().map(with).collect(),
        queue_bytes: PIPE_BYTES,
        loss_ppm: 0,
        settle: Duration::from_secs(2),
        measure: Duration::from_secs(8),
    }
}

fn run(seed: u64, case: &Case) -> Outcome {
    let faults = LinkFaults { loss_ppm: case.loss_ppm, ..LinkFaults::NONE };
    let link = LinkConfig {
        bits_per_second: BITS_PER_SECOND,
        delay: ONE_WAY,
        queue_bytes: case.queue_bytes,
        faults,
        ..LinkConfig::default()
    };
    let mut pair = HostPair::new(seed, link);
    let received: Vec<Rc<Cell<u64>>> = case.flows.iter().map(|_| Rc::default()).collect();
    let counters = received.clone();
    pair.server.borrow_mut().spawn(async move {
        let listener = listen(Address::V4, PORT);
        loop {
            let stream = listener.accept().await.expect("the listener lives");
            spawn(count(stream, counters.clone()));
        }
    });
    let round_trip = Rc::new(Cell::new(Duration::ZERO));
    for (number, options) in case.flows.iter().cloned().enumerate() {
        let (remote, round_trip) = (pair.server_socket(Address::V4, PORT), Rc::clone(&round_trip));
        pair.client.borrow_mut().spawn(async move {
            let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
            let text = vec![number as u8; 64 * 1024];
            loop {
                stream.write_all(&text).await.expect("the connection lives");
                if let Some(info) = stream.info().filter(|_| number == 0) {
                    round_trip.set(info.smoothed_rtt.unwrap_or_default());
                }
            }
        });
    }
    pair.network.run_until(case.settle, || false);
    let before: Vec<u64> = received.iter().map(|bytes| bytes.get()).collect();
    pair.network.run_until(case.measure, || false);
    let link_bytes = BITS_PER_SECOND as f64 / 8.0 * TEXT_SHARE * case.measure.as_secs_f64();
    let shares = received.iter().zip(before).map(|(now, before)| (now.get() - before) as f64 / link_bytes);
    Outcome { shares: shares.collect(), round_trip: round_trip.get() }
}

/// Every byte of a flow is its number.
async fn count(stream: TcpStream, received: Vec<Rc<Cell<u64>>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        let counter = &received[usize::from(buffer[0])];
        counter.set(counter.get() + len as u64);
    }
}

/// The median of three seeds' measure; without loss a seed changes nothing.
fn median(case: &Case, measure: impl Fn(&Outcome) -> f64) -> f64 {
    let seeds = if case.loss_ppm == 0 { 1 } else { 3 };
    let mut measures: Vec<f64> = (1..=seeds)
        .map(|seed| {
            let outcome = run(seed, case);
            eprintln!(
                "{:?} queue {} loss {}: {outcome:.3?}",
                case.flows.iter().map(|flow| flow.congestion).collect::<Vec<_>>(),
                case.queue_bytes,
                case.loss_ppm
            );
            measure(&outcome)
        })
        .collect();
    measures.sort_by(f64::total_cmp);
    measures[measures.len() / 2]
}

#[test]
fn each_control_fills_a_link_alone() {
    for control in Congestion::ALL {
        let share = median(&case(&[control]), Outcome::all);
        assert!(share > 0.9, "{control:?}: {share}");
    }
}

#[test]
fn each_control_fills_a_link_alone_when_it_is_paced() {
    for control in [Congestion::Cubic, Congestion::NewReno] {
        let mut case = case(&[control]);
        case.flows[0].pacing = true;
        let share = median(&case, Outcome::all);
        assert!(share > 0.9, "{control:?}: {share}");
    }
}

#[test]
fn bbr_keeps_the_queue_short_where_the_others_fill_it() {
    let mut case = case(&[Congestion::Bbr]);
    case.queue_bytes = 4 * PIPE_BYTES;
    let bbr = median(&case, |outcome| outcome.round_trip.as_secs_f64());
    assert!(bbr < 0.075, "{bbr} s of 0.04 s without a queue");
}

#[test]
fn bbr_uses_a_link_that_loses_at_random() {
    for (percent, least) in [(1, 0.85), (5, 0.7)] {
        let mut case = case(&[Congestion::Bbr]);
        case.loss_ppm = percent * 5_000;
        let share = median(&case, Outcome::all);
        assert!(share > least, "{percent}%: {share}");
    }
}

/// What Mathis et al. (1997) allow a loss-based control at 1%: about 3.5 Mb/s here.
#[test]
fn loss_based_controls_get_what_a_percent_of_loss_allows() {
    for control in [Congestion::Cubic, Congestion::NewReno] {
        let mut case = case(&[control]);
        case.loss_ppm = 5_000;
        let share = median(&case, Outcome::all);
        assert!(share > 0.2, "{control:?}: {share}");
    }
}

#[test]
fn two_flows_of_one_control_share_a_link() {
    for control in Congestion::ALL {
        let mut case = case(&[control, control]);
        case.settle = Duration::from_secs(6);
        case.measure = Duration::from_secs(14);
        let fairness = median(&case, Outcome::fairness);
        assert!(fairness > 0.85, "{control:?}: {fairness}");
        assert!(median(&case, Outcome::all) > 0.9, "{control:?}");
    }
}

#[test]
fn cubic_and_bbr_live_beside_each_other_in_a_short_queue_and_in_a_long_one() {
    let shares = [PIPE_BYTES / 2, PIPE_BYTES, 4 * PIPE_BYTES].map(|queue_bytes| {
        let mut case = case(&[Congestion::Cubic, Congestion::Bbr]);
        case.queue_bytes = queue_bytes;
        case.settle = Duration::from_secs(6);
        case.measure = Duration::from_secs(14);
        median(&case, |outcome| outcome.shares[0].min(outcome.shares[1]))
    });
    assert!(shares[0] > 0.3 && shares[1] > 0.3, "{shares:?}");
    // Four pipes of queue are CUBIC's: who keeps it short has what is left.
    assert!(shares[2] > 0.1, "{shares:?}");
}

#[test]
fn agreeing_on_ecn_costs_nothing_where_nobody_marks() {
    let mut case = case(&[Congestion::Cubic]);
    case.flows[0].ecn = Ecn::Active;
    let share = median(&case, Outcome::all);
    assert!(share > 0.9, "{share}");
}
