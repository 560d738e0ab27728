//! Opening one interface: which mode it can run in, its program, and a bound queue for every worker that wants one.
//!
//! Called by the management thread, with privileges, in the network namespace of the interface.

use std::fmt;
use std::time::Duration;

use bpf::{AttachError, AttachMode, Buffers, Link, LinkError, MapUpdateError, Redirect, RedirectConfig};
use xsk::{BindError, CopyMode, RegionError, WholeSocket};

use crate::af_xdp::{BoundQueue, UmemError, UmemSet, offloads};
use crate::packet::FRAME_BYTES;

/// Ethernet header and one 802.1Q tag: what a frame has beside the MTU.
const LINK_HEADER_BYTES: u32 = 18;

/// The stack's generic hook comes after GRO, and a veth's neighbour hands over what TSO should have cut.
const MERGED_IS_LOST: &str = "what was merged is therefore lost in generic mode: `ethtool -K DEV gro off lro off` here, \
                              `tso off gso off` at the other end of a veth";

const CHECKSUMS_ARE_OURS: &str =
    "TCP checksums are computed here: this kernel takes no metadata of packets that are sent (Linux 6.11)";

/// How often a busy queue is tried again, and how long after: the kernel lets go of a closed socket's queue in a work
/// item of its own, a few milliseconds later.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What the configuration asks for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// Zero-copy if the driver has it, generic on a veth (10-20% cheaper there than native), else native, else generic.
    #[default]
    Auto,
    ZeroCopy,
    /// The program in the driver, packets copied.
    Native,
    /// The program in the network stack, packets copied.
    Generic,
}

/// What a queue runs in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModeGot {
    ZeroCopy,
    Native,
    Generic,
}

impl ModeGot {
    const fn attach(self) -> AttachMode {
        match self {
            Self::ZeroCopy | Self::Native => AttachMode::Native,
            Self::Generic => AttachMode::Generic,
        }
    }

    const fn copy(self) -> CopyMode {
        match self {
            Self::ZeroCopy => CopyMode::ZeroCopy,
            Self::Native | Self::Generic => CopyMode::Copy,
        }
    }
}

impl fmt::Display for ModeGot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero_copy",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// One queue and the worker (its place in the slice of UMEM sets) that will own it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueAssignment {
    pub queue: u32,
    pub worker: usize,
}

#[derive(Clone, Debug)]
pub struct OpenRequest<'a> {
    pub interface: &'a str,
    pub mode: XdpMode,
    pub redirect: RedirectConfig,
    pub queues: &'a [QueueAssignment],
}

/// An open interface. The program redirects nothing until [`Redirect::set_owned`] names addresses: do that when the
/// workers have started the queues, since a queue that was not started has no memory to receive into.
#[derive(Debug)]
pub struct Opened {
    /// In the order of the request. Send each to its worker.
    pub queues: Vec<BoundQueue>,
    /// Stays with the management thread; dropping it takes the program off the interface.
    pub redirect: Redirect,
    pub report: Report,
}

/// What was got, for logs and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub interface: String,
    pub interface_index: u32,
    pub mac: [u8; 6],
    pub mtu: u32,
    pub is_veth: bool,
    pub queues: Vec<QueueReport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    pub queue: u32,
    pub worker: usize,
    pub mode: ModeGot,
    /// Packets may be chains of frames.
    pub multi_buffer: bool,
    /// Why it is no better mode, what is missing, and what is lost by that; one sentence each.
    pub why_not_better: Vec<String>,
}

impl fmt::Display for QueueReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains = if self.multi_buffer { "" } else { ", one frame a packet" };
        write!(f, "queue {} worker {}: {}{chains}", self.queue, self.worker, self.mode)?;
        self.why_not_better.iter().try_for_each(|why| write!(f, "; {why}"))
    }
}

/// Why an interface was not opened: who, what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "interface {interface}: it does not exist in this network namespace; `ip link` lists those that do"
    )]
    NoSuchInterface { interface: String },
    #[error("interface {interface}: {source}")]
    Attach { interface: String, source: AttachError },
    #[error("interface {interface}: {source}")]
    Bind { interface: String, source: BindError },
    #[error(
        "interface {interface}: its MTU of {mtu} does not fit one frame of {max} bytes, and this kernel has no AF_XDP \
         packets of several frames (Linux 6.6): `ip link set dev {interface} mtu {max}`"
    )]
    MtuTooLarge { interface: String, mtu: u32, max: u32 },
    #[error("interface {interface}: {source}")]
    Memory { interface: String, source: RegionError },
    #[error("interface {interface}: {source}")]
    Map { interface: String, source: MapUpdateError },
    #[error("interface {interface}: {source}")]
    Link { interface: String, source: LinkError },
    #[error("interface {interface}: queue {queue} is assigned to worker {worker}, but there are {workers}")]
    NoSuchWorker { interface: String, queue: u32, worker: usize, workers: usize },
}

impl OpenError {
    /// The mode is to blame, and another may work.
    fn is_about_mode(&self, mode: ModeGot) -> bool {
        match self {
            Self::Attach {
                source: AttachError::UnsupportedMode { .. } | AttachError::MtuTooLarge { .. },
                ..
            } => true,
            Self::Bind { source: BindError::NoZeroCopy { .. }, .. } => true,
            // Drivers answer EINVAL, too, for zero-copy that the device's present set-up does not allow.
            Self::Bind { source: BindError::NoSuchQueue { .. }, .. } => mode == ModeGot::ZeroCopy,
            _ => false,
        }
    }
}

/// Opens an interface for all workers at once: binds the queues, attaches the program, and connects the two. In mode
/// `auto` it takes the best that works and says why nothing better did; a mode that is asked for by name is got or an error.
pub fn open(request: &OpenRequest<'_>, umems: &mut [UmemSet]) -> Result<Opened, OpenError> {
    let link = find(request, umems)?;
    let candidates = candidates(request.mode, &link);
    let mut refusals: Vec<String> = candidates.why_not_better;
    let (last, better) = candidates.modes.split_last().expect("every mode has a candidate");
    for &mode in better {
        match open_in(request, &link, mode, umems, &refusals) {
            Ok(opened) if prefers_next(&opened, mode) => refusals.push(format!(
                "generic mode without packets of several frames (Linux 6.6) would break up what a neighbour merged, so {} it is",
                last
            )),
            Err(error) if error.is_about_mode(mode) => refusals.push(format!("not {mode}: {error}")),
            other => return other,
        }
    }
    open_in(request, &link, *last, umems, &refusals)
}

fn find(request: &OpenRequest<'_>, umems: &[UmemSet]) -> Result<Link, OpenError> {
    let interface = request.interface.to_string();
    let workers = umems.len();
    if let Some(&QueueAssignment { queue, worker }) =
        request.queues.iter().find(|queue| queue.worker >= workers)
    {
        return Err(OpenError::NoSuchWorker { interface, queue, worker, workers });
    }
    let link = Link::by_name(request.interface).map_err(|error| match error {
        LinkError::NoSuchInterface(interface) => OpenError::NoSuchInterface { interface },
        source => OpenError::Link { interface: interface.clone(), source },
    })?;
    // Said before anything is bound: what is bound to a device with another's program would only get in its way.
    match link.xdp_program {
        Some(program_id) => {
            let source = AttachError::ForeignProgram { interface: interface.clone(), program_id };
            Err(OpenError::Attach { interface, source })
        }
        None => Ok(link),
    }
}

struct Candidates {
    /// Best first, never empty.
    modes: Vec<ModeGot>,
    why_not_better: Vec<String>,
}

fn candidates(mode: XdpMode, link: &Link) -> Candidates {
    let asked =
        |mode| Candidates { modes: vec![mode], why_not_better: vec![format!("{mode} was asked for")] };
    match mode {
        XdpMode::ZeroCopy => Candidates { modes: vec![ModeGot::ZeroCopy], why_not_better: Vec::new() },
        XdpMode::Native => asked(ModeGot::Native),
        XdpMode::Generic => asked(ModeGot::Generic),
        XdpMode::Auto if link.is_veth() => Candidates {
            modes: vec![ModeGot::Generic, ModeGot::Native],
            why_not_better: vec![
                "a veth has no zero-copy, and native costs more there than generic".to_string(),
            ],
        },
        XdpMode::Auto => Candidates {
            modes: vec![ModeGot::ZeroCopy, ModeGot::Native, ModeGot::Generic],
            why_not_better: Vec::new(),
        },
    }
}

/// On a veth the other end's large segments arrive whole in generic mode, which takes several frames a packet; in native
/// mode the kernel cuts them first.
fn prefers_next(opened: &Opened, mode: ModeGot) -> bool {
    mode == ModeGot::Generic && opened.report.queues.iter().any(|queue| !queue.multi_buffer)
}

/// Binds first: a socket without a program is idle, a program without a socket would count what it passes as lost.
fn open_in(
    request: &OpenRequest<'_>,
    link: &Link,
    mode: ModeGot,
    umems: &mut [UmemSet],
    refusals: &[String],
) -> Result<Opened, OpenError> {
    let interface = || request.interface.to_string();
    let mut queues = Vec::with_capacity(request.queues.len());
    let mut reports = Vec::with_capacity(request.queues.len());
    for &assignment in request.queues {
        let (queue, report) = bind(link, mode, assignment, umems, refusals)?;
        queues.push(queue);
        reports.push(report);
    }
    let buffers = match reports.iter().all(|queue| queue.multi_buffer) {
        true => Buffers::Several,
        false => Buffers::One,
    };
    let max = FRAME_BYTES as u32 - LINK_HEADER_BYTES;
    if link.mtu > max && buffers == Buffers::One {
        return Err(OpenError::MtuTooLarge { interface: interface(), mtu: link.mtu, max });
    }
    let mut redirect = Redirect::attach(link.index, mode.attach(), buffers, &request.redirect)
        .map_err(|source| OpenError::Attach { interface: interface(), source })?;
    for queue in &queues {
        redirect
            .register(queue.queue(), queue.socket.descriptor())
            .map_err(|source| OpenError::Map { interface: interface(), source })?;
    }
    let report = Report {
        interface: link.name.clone(),
        interface_index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        is_veth: link.is_veth(),
        queues: reports,
    };
    Ok(Opened { queues, redirect, report })
}

fn bind(
    link: &Link,
    mode: ModeGot,
    QueueAssignment { queue, worker }: QueueAssignment,
    umems: &mut [UmemSet],
    refusals: &[String],
) -> Result<(BoundQueue, QueueReport), OpenError> {
    let umem = &mut umems[worker];
    let mut tries = 0;
    let socket = loop {
        match umem.bind(link.index, queue, mode.copy()) {
            Err(UmemError::Bind(BindError::Busy { .. })) if tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Ok(socket) => break socket,
            Err(UmemError::Bind(source)) => {
                return Err(OpenError::Bind { interface: link.name.clone(), source });
            }
            Err(UmemError::Region(source)) => {
                return Err(OpenError::Memory { interface: link.name.clone(), source });
            }
        }
    };
    let mut why_not_better = refusals.to_vec();
    why_not_better.extend(umem.small_pages(mode.copy()).map(str::to_string));
    let multi_buffer = socket.multi_buffer();
    if !multi_buffer {
        why_not_better
            .push("this kernel or driver has no AF_XDP packets of several frames (Linux 6.6)".to_string());
        if mode == ModeGot::Generic {
            why_not_better.push(MERGED_IS_LOST.to_string());
        }
    }
    if mode.copy() == CopyMode::Copy && !socket.finishes_checksums() {
        why_not_better.push(CHECKSUMS_ARE_OURS.to_string());
    }
    let whole = match link.is_veth().then(|| WholeSocket::open(link.index)) {
        Some(Err(error)) => {
            why_not_better.push(format!("TCP segments leave one by one: {error}"));
            None
        }
        whole => whole.and_then(Result::ok),
    };
    let offloads = offloads(&socket, link.is_veth(), whole.is_some());
    let report = QueueReport { queue, worker, mode, multi_buffer, why_not_better };
    Ok((BoundQueue { socket, worker, offloads, whole }, report))
}
