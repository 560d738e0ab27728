//! What a worker answers when it is asked how it is, and the forms that operators get it in.

use std::collections::BTreeMap;
use std::time::Duration;

use nic::QueueCounters;
use proxy::{Proxy, Sample, SampleKind};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use worker::{Defence, Discard};
use worker::{TurnCounters, Worker};

use crate::attach::Attachment;
use crate::metrics::{Described, Exposition, Kind};
use crate::sessions::{self, ByRoute};

/// A copy of everything one worker counted.
#[derive(Debug)]
pub struct WorkerReport {
    pub number: usize,
    pub turns: TurnCounters,
    /// CPU time of the worker's thread.
    pub cpu: Duration,
    /// The stack's, at once or after a packet had waited, and the worker's own, in the order of [`Discard::ALL`].
    pub discards: Vec<u64>,
    /// The stack's, in the order of [`Defence::ALL`].
    pub defences: Vec<u64>,
    pub ports: Vec<(String, QueueCounters)>,
    pub samples: Vec<Sample>,
    pub sessions: ByRoute,
    pub tasks: usize,
}

/// A counter and what it counts: a discard reason's, or a defence's.
#[derive(Clone, Debug, Serialize)]
pub struct DiscardStatus {
    pub count: u64,
    pub reason: &'static str,
}

impl WorkerReport {
    pub fn of(worker: &mut Worker<Proxy>) -> Self {
        let own = worker.discards().clone();
        let (discards, defences) = {
            let stack = worker.core.stack();
            let of = |reason| stack.discards().of(reason) + stack.late_discards().of(reason) + own.of(reason);
            let warded = |&defence: &Defence| stack.defences().of(defence);
            let discards = Discard::ALL.iter().map(|&reason| of(reason)).collect();
            (discards, Defence::ALL.iter().map(warded).collect())
        };
        let mut samples = Vec::new();
        worker.application.samples(&mut |sample| samples.push(sample));
        let ports = worker.ports_mut().iter_mut().map(|port| (port.name.clone(), port.counters())).collect();
        Self {
            number: worker.number(),
            turns: *worker.counters(),
            cpu: cpu_time(ClockId::ThreadCPUTime),
            discards,
            defences,
            ports,
            samples,
            sessions: sessions::live(worker),
            tasks: worker.core.tasks(),
        }
    }
}

/// Every reason of all workers and queue pairs by its name.
pub fn discards(reports: &[WorkerReport]) -> BTreeMap<&'static str, DiscardStatus> {
    let mut all = BTreeMap::new();
    for (index, reason) in Discard::ALL.iter().enumerate() {
        let count = reports.iter().map(|report| report.discards[index]).sum();
        all.insert(reason.name(), DiscardStatus { count, reason: reason.reason() });
    }
    let ports: Vec<&QueueCounters> =
        reports.iter().flat_map(|report| report.ports.iter().map(|(_, c)| c)).collect();
    for (name, reason, count) in QUEUE_DISCARDS {
        all.insert(name, DiscardStatus { count: ports.iter().map(|counters| count(counters)).sum(), reason });
    }
    all
}

/// What all workers warded off without the death of a packet, by name.
pub fn defences(reports: &[WorkerReport]) -> BTreeMap<&'static str, DiscardStatus> {
    let status = |(index, defence): (usize, &Defence)| {
        let count = reports.iter().map(|report| report.defences[index]).sum();
        (defence.name(), DiscardStatus { count, reason: defence.reason() })
    };
    Defence::ALL.iter().enumerate().map(status).collect()
}

type CountOf = fn(&QueueCounters) -> u64;

/// What dies before or after the stack sees it, by the same kind of name.
const QUEUE_DISCARDS: [(&str, &str, CountOf); 6] = [
    (
        "nic_rx_dropped",
        "The kernel had no memory for the packet, or no chunk could hold it (AF_XDP rx_dropped).",
        |c| c.nic_rx_dropped,
    ),
    ("nic_rx_ring_full", "The receive ring was full: the worker is too slow (AF_XDP rx_ring_full).", |c| {
        c.nic_rx_ring_full
    }),
    ("nic_fill_ring_empty", "No frame was free to receive into (AF_XDP rx_fill_ring_empty_descs).", |c| {
        c.nic_fill_ring_empty
    }),
    ("nic_chain_broken", "A packet of more frames than one may have, or one that never ended.", |c| {
        c.nic_chain_broken
    }),
    ("nic_tx_no_frame", "No frame, or no memory of the kernel's, was free to copy a packet into.", |c| {
        c.nic_tx_no_frame
    }),
    ("nic_tx_invalid", "The kernel refused a packet or its descriptor (AF_XDP tx_invalid_descs).", |c| {
        c.nic_tx_invalid
    }),
];

/// Everything as Prometheus reads it.
///
/// `ended`: by listener and cluster, what sessions carried that have ended.
pub fn exposition(
    reports: &[WorkerReport],
    ended: &ByRoute,
    attachments: &[Attachment],
    table: Option<u64>,
) -> Exposition {
    let mut text = Exposition::default();
    let mut live = BTreeMap::new();
    reports.iter().for_each(|report| sessions::add(&mut live, &report.sessions));
    let mut totals = ended.clone();
    sessions::add(&mut totals, &live);
    sessions::expose(&mut text, &totals, &live);
    for (name, discard) in discards(reports) {
        text.counter(
            "ringway_discards_total",
            "Packets that died, by reason.",
            &[("reason", name)],
            discard.count,
        );
    }
    for (name, defence) in defences(reports) {
        text.counter(
            "ringway_defences_total",
            "What was warded off without the death of a packet.",
            &[("defence", name)],
            defence.count,
        );
    }
    cpu(&mut text);
    for report in reports {
        worker(&mut text, report);
        for sample in &report.samples {
            let labels: Vec<(&str, &str)> =
                sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            text.add(&family_of(sample), sample.name, &labels, sample.value);
        }
    }
    for attachment in attachments {
        for (verdict, count) in attachment.verdicts() {
            let labels = [("device", attachment.device.as_str()), ("verdict", verdict)];
            text.counter(
                "ringway_xdp_verdicts_total",
                "Packets that the XDP program saw, by what it did.",
                &labels,
                count,
            );
        }
    }
    if let Some(version) = table {
        text.gauge("ringway_table_version", "Version of the table in force.", &[], version as f64);
    }
    text
}

/// The family that a sample's series belongs to.
fn family_of(sample: &Sample) -> Described<'_> {
    let (name, kind) = match sample.kind {
        SampleKind::Counter => (sample.name, Kind::Counter),
        SampleKind::Gauge => (sample.name, Kind::Gauge),
        SampleKind::Histogram => {
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.name.strip_suffix(suffix));
            (family.unwrap_or(sample.name), Kind::Histogram)
        }
    };
    Described { name, help: sample.help, kind }
}

const WORKER_CPU_HELP: &str = "CPU time of a worker: in turns that found work, in turns that found none, and in going to sleep and waking up.";

/// The CPU time of the process, under the name that Prometheus' own libraries have for it, and the share of the calling
/// thread, which is the management thread: the process's is this and the workers'.
fn cpu(text: &mut Exposition) {
    let process = cpu_time(ClockId::ProcessCPUTime);
    text.seconds("process_cpu_seconds_total", "CPU time of the process, user and system.", &[], process);
    let management = cpu_time(ClockId::ThreadCPUTime);
    let help = "CPU time of the management thread.";
    text.seconds("ringway_management_cpu_seconds_total", help, &[], management);
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn worker(text: &mut Exposition, report: &WorkerReport) {
    let number = report.number.to_string();
    let worker = ("worker", number.as_str());
    let turns = &report.turns;
    for (kind, count) in [("busy", turns.turns_busy), ("empty", turns.turns_empty), ("sleep", turns.sleeps)] {
        text.counter(
            "ringway_worker_turns_total",
            "Turns that found work, that found none, and sleeps.",
            &[worker, ("kind", kind)],
            count,
        );
    }
    for (kind, time) in [("busy", turns.busy), ("empty", turns.empty), ("sleep", turns.asleep)] {
        let labels = [worker, ("kind", kind)];
        let help = "Where a worker's time went.";
        text.seconds("ringway_worker_seconds_total", help, &labels, time);
    }
    // Going to sleep and waking up is what the turns leave of the thread's time.
    let sleep = report.cpu.saturating_sub(turns.busy + turns.empty);
    for (kind, time) in [("busy", turns.busy), ("empty", turns.empty), ("sleep", sleep)] {
        let labels = [worker, ("kind", kind)];
        text.seconds("ringway_worker_cpu_seconds_total", WORKER_CPU_HELP, &labels, time);
    }
    text.gauge(
        "ringway_worker_longest_turn_seconds",
        "The longest turn.",
        &[worker],
        turns.longest_turn.as_secs_f64(),
    );
    text.gauge("ringway_worker_tasks", "Living tasks.", &[worker], report.tasks as f64);
    for (verdict, count) in [
        ("received", turns.packets_received),
        ("consumed", turns.packets_consumed),
        ("forwarded", turns.packets_forwarded),
        ("discarded", turns.packets_discarded),
        ("steered", turns.packets_steered),
        ("from_rings", turns.packets_from_rings),
        ("wholes_steered", turns.wholes_steered),
        ("shown", turns.packets_shown),
        ("merged", turns.packets_merged),
    ] {
        text.counter(
            "ringway_worker_packets_total",
            "Packets by what became of them.",
            &[worker, ("verdict", verdict)],
            count,
        );
    }
    for (device, counters) in &report.ports {
        for (direction, packets, bytes) in [
            ("receive", counters.received_packets, counters.received_bytes),
            ("transmit", counters.transmitted_packets, counters.transmitted_bytes),
        ] {
            let labels = [worker, ("device", device.as_str()), ("direction", direction)];
            text.counter("ringway_queue_packets_total", "Packets of a queue pair.", &labels, packets);
            text.counter("ringway_queue_bytes_total", "Bytes of a queue pair.", &labels, bytes);
        }
        let labels = [worker, ("device", device.as_str())];
        text.counter(
            "ringway_queue_copied_packets_total",
            "Packets copied because they lay in other memory.",
            &labels,
            counters.copied_packets,
        );
        text.counter(
            "ringway_queue_merged_packets_total",
            "Transmitted packets that left in one piece with others of their TCP stream.",
            &labels,
            counters.merged_packets,
        );
        text.counter(
            "ringway_queue_wakeups_total",
            "System calls made to wake the device.",
            &labels,
            counters.wakeups,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_a_workers_cpu_time_add_up_to_its_threads() {
        let seconds = Duration::from_secs_f64;
        let turns = TurnCounters {
            busy: seconds(2.0),
            empty: seconds(0.5),
            asleep: seconds(7.0),
            ..Default::default()
        };
        let mut report = WorkerReport {
            number: 3,
            turns,
            cpu: seconds(2.75),
            discards: Vec::new(),
            defences: vec![0; Defence::ALL.len()],
            ports: Vec::new(),
            samples: Vec::new(),
            sessions: ByRoute::default(),
            tasks: 0,
        };
        let mut text = Exposition::default();
        worker(&mut text, &report);
        let text = text.render();
        for (kind, value) in [("busy", "2"), ("empty", "0.5"), ("sleep", "0.25")] {
            let line = format!("ringway_worker_cpu_seconds_total{{worker=\"3\",kind=\"{kind}\"}} {value}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        report.defences[Defence::HolderCut as usize] = 7;
        assert_eq!(defences(std::slice::from_ref(&report))["tcp_holder_cut"].count, 7);
        // A worker that had to share its core spent more time in its turns than the core gave it.
        report.cpu = seconds(1.0);
        let mut text = Exposition::default();
        worker(&mut text, &report);
        assert!(text.render().contains("kind=\"sleep\"} 0\n"));
    }
}
