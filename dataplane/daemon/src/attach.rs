//! Attaching to devices: one XDP program each, one queue pair for each worker that a queue is left for.

use nic::{
    BoundQueue, Claim, Notice, OpenRequest, OwnedPrefix, Pools, QueueAssignment, QueuePair, Redirect,
    RedirectConfig, RedirectRole, RedirectVerdict, UmemSet, VlanSet,
};
use serde::Serialize;
use worker::Role;

use crate::config::XdpMode;
use crate::error::StartError;
use crate::interfaces::{Device, Plan};

/// Packet memory of one worker and mode: 64 MiB, sixteen bursts in flight for each of 64 devices.
const CHUNKS_PER_WORKER: u32 = 16_384;

/// A device's program, held by the management thread; dropping it takes the program off.
#[derive(Debug)]
pub struct Attachment {
    pub device: String,
    redirect: Redirect,
    /// What the program takes once the workers are there.
    owned: Vec<OwnedPrefix>,
}

/// One queue pair, and what became of the wishes for it.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStatus {
    pub device: String,
    pub queue: u32,
    pub worker: usize,
    pub mode: String,
    /// Why not a better mode; empty when there is none.
    pub why_not_better: String,
    pub multi_buffer: bool,
}

/// What one worker's thread makes its queue pairs of. `Send`.
#[derive(Debug, Default)]
pub struct Seed {
    queues: Vec<(usize, BoundQueue)>,
}

/// A queue pair that works, and the number of the device that it belongs to.
pub struct OpenQueue {
    pub device: usize,
    pub pair: Box<dyn QueuePair>,
}

#[derive(Debug)]
pub struct Attached {
    pub attachments: Vec<Attachment>,
    /// One for each worker.
    pub seeds: Vec<Seed>,
    pub queues: Vec<QueueStatus>,
}

/// Opens every device of the plan for all workers at once.
pub fn attach(plan: &Plan, workers: usize) -> Result<Attached, StartError> {
    let mut umems: Vec<UmemSet> = (0..workers).map(|_| UmemSet::new(CHUNKS_PER_WORKER)).collect();
    let seeds = (0..workers).map(|_| Seed::default()).collect();
    let mut attached = Attached { attachments: Vec::new(), seeds, queues: Vec::new() };
    for (number, device) in plan.devices.iter().enumerate() {
        attached.open(plan, number, device, &mut umems)?;
    }
    Ok(attached)
}

impl Attached {
    fn open(
        &mut self,
        plan: &Plan,
        number: usize,
        device: &Device,
        umems: &mut [UmemSet],
    ) -> Result<(), StartError> {
        // Every queue of the device must have a socket: what comes in by one without passes to the kernel. A worker
        // may own several; one without any transmits through another.
        let assignments: Vec<QueueAssignment> = (0..device.queues)
            .map(|queue| QueueAssignment { queue, worker: queue as usize % umems.len() })
            .collect();
        let request = OpenRequest {
            interface: &device.link.name,
            mode: device.mode.into(),
            redirect: redirect_config(device),
            queues: &assignments,
        };
        let opened = nic::open(&request, umems)?;
        for queue in opened.queues {
            self.seeds[queue.worker()].queues.push((number, queue));
        }
        self.queues.extend(opened.report.queues.iter().map(|queue| QueueStatus {
            device: device.link.name.clone(),
            queue: queue.queue,
            worker: queue.worker,
            mode: queue.mode.to_string(),
            multi_buffer: queue.multi_buffer,
            why_not_better: queue.why_not_better.join("; "),
        }));
        self.attachments.push(Attachment {
            device: device.link.name.clone(),
            redirect: opened.redirect,
            owned: owned(plan, number),
        });
        Ok(())
    }
}

impl Attachment {
    /// Lets the program take what is ours. Called when every queue has frames to receive into: before that, what is
    /// redirected would be lost.
    pub fn open(&mut self) -> Result<(), StartError> {
        self.redirect.set_owned(&self.owned).map_err(|error| StartError::Attach {
            interface: self.device.clone(),
            message: error.to_string(),
        })
    }

    /// What the program did with the frames it saw, by name.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        match self.redirect.verdicts() {
            Ok(verdicts) => {
                RedirectVerdict::ALL.iter().map(|&verdict| (verdict.name(), verdicts.of(verdict))).collect()
            }
            Err(error) => {
                tracing::error!(device = self.device, %error, "the program's verdicts cannot be read");
                Vec::new()
            }
        }
    }

    /// The next announcement of a neighbour on this device.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.redirect.poll_notice()
    }
}

impl Seed {
    /// Makes the queue pairs, by device number. Called on the worker's thread, where they stay.
    pub fn open(self) -> Result<Vec<OpenQueue>, String> {
        let mut pools = Pools::new();
        let mut pairs = Vec::new();
        for (device, bound) in self.queues {
            pairs.push(OpenQueue {
                device,
                pair: Box::new(pools.start(bound).map_err(|error| error.to_string())?),
            });
        }
        Ok(pairs)
    }
}

impl From<XdpMode> for nic::XdpMode {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::Auto,
            XdpMode::ZeroCopy => Self::ZeroCopy,
            XdpMode::Native => Self::Native,
            XdpMode::Generic => Self::Generic,
        }
    }
}

fn redirect_config(device: &Device) -> RedirectConfig {
    let role = match device.role {
        Role::Uplink => RedirectRole::Uplink,
        Role::Workload => RedirectRole::Workload,
    };
    let untagged = device.vlans.contains(&None);
    let tags = device.vlans.iter().flatten();
    let vlans = if untagged { VlanSet::untagged() } else { VlanSet::none() };
    RedirectConfig {
        role,
        vlans: tags.fold(vlans, |set, &tag| set.with(tag)),
        deny_outbound: device.deny_outbound,
    }
}

/// Everything that is ours on the device: its addresses, what it intercepts by TCP and UDP, and the mesh addresses of
/// every uplink, from which we speak to workloads and which their answers come back to.
fn owned(plan: &Plan, device: usize) -> Vec<OwnedPrefix> {
    let uplinks = plan.interfaces.iter().filter(|logical| logical.config.role == Role::Uplink);
    let here = plan.on_device(device);
    let mut owned: Vec<OwnedPrefix> = uplinks
        .chain(here.clone())
        .flat_map(|logical| {
            logical.config.addresses.iter().map(|&(address, _len)| OwnedPrefix::address(address))
        })
        .collect();
    owned.extend(here.flat_map(|logical| &logical.config.intercepted).map(|prefix| OwnedPrefix {
        address: prefix.address,
        len: prefix.len,
        claim: Claim::Transport,
    }));
    owned
}
