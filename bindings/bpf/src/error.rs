//! Why a program could not be attached or a map not be changed: who, what, and what to do next.

use std::io;

use crate::limits::{OWNED_MAX, QUEUES_MAX};
use crate::link::LinkError;
use crate::mode::AttachMode;

/// Why no program was attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("there is no interface {interface}; `ip link` lists those of this network namespace")]
    NoSuchInterface { interface: String },

    #[error("no privilege to {what}: run as root or with CAP_NET_ADMIN, CAP_BPF and CAP_NET_RAW")]
    NoPrivilege { what: &'static str },

    /// Somebody else's program is on the interface. It is never replaced.
    #[error(
        "interface {interface} already has the XDP program with id {program_id}; see whose it is with \
         `bpftool prog show id {program_id}`, take it off with `ip link set dev {interface} xdp off`"
    )]
    ForeignProgram { interface: String, program_id: u32 },

    #[error("interface {interface} cannot run XDP in {mode} mode: {source}")]
    UnsupportedMode { interface: String, mode: AttachMode, source: io::Error },

    /// A driver takes no program for packets that do not fit one buffer. On a veth it is the other end's MTU.
    #[error(
        "the MTU of interface {interface} (or of its veth peer) is too large for XDP in {mode} mode here: {source}"
    )]
    MtuTooLarge { interface: String, mode: AttachMode, source: io::Error },

    /// Kernels before 5.9. Without a link a program would outlive its process.
    #[error("this kernel attaches XDP to {interface} without a BPF link; Linux 5.9 or later is needed")]
    NoLink { interface: String },

    #[error("the kernel refused to {what}: {detail}")]
    Kernel { what: &'static str, detail: String },

    #[error(transparent)]
    Netlink(#[from] LinkError),
}

/// Why a map of a running program could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum MapUpdateError {
    #[error("{count} prefixes are more than the {max} that the program can own", max = OWNED_MAX)]
    TooManyPrefixes { count: usize },

    #[error("{address}/{len} is no prefix: the length is at most {max}")]
    PrefixLength { address: std::net::IpAddr, len: u8, max: u8 },

    #[error("queue {queue} is beyond the {max} that the program knows", max = QUEUES_MAX)]
    QueueOutOfRange { queue: u32 },

    #[error("map {map}: {source}")]
    Kernel { map: &'static str, source: aya::maps::MapError },
}
