//! Loading the program, attaching it to one interface, and changing its maps while it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, Pod};

use crate::limits::QUEUES_MAX;
use crate::link::{self, Link, LinkError};
use crate::mode::AttachMode;
use crate::owned::OwnedTables;
use crate::{AttachError, MapUpdateError, Notice, OwnedPrefix, Verdict, Verdicts, VlanSet};

static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.o"));

/// Program for packets of several buffers, and the same without that flag (names of functions in redirect.c).
const WITH_FRAGS: &str = "redirect";
const WITHOUT_FRAGS: &str = "redirect_whole";

/// Linux's errno values, the same on every architecture that we build for.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const ERANGE: i32 = 34;

/// What a packet may lie in when the program sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Buffers {
    /// One: the sockets take no chains. A driver that cannot keep to it, for the MTU, refuses the program; with one that
    /// asks for several it would drop at the redirect what did not fit one, and nobody would know.
    One,
    /// As many as the driver likes, where the kernel can (Linux 5.18).
    Several,
}

/// What the interface is to the node (`ROLE_*` in redirect.c).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Uplink,
    /// Prefixes with [`crate::Claim::Transport`] are intercepted here, and only here.
    Workload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectConfig {
    pub role: Role,
    pub vlans: VlanSet,
    /// On a workload interface: what the mesh does not take, and the kernel would forward, dies.
    pub deny_outbound: bool,
}

impl RedirectConfig {
    /// Untagged frames of an interface with this role.
    pub fn untagged(role: Role) -> Self {
        Self { role, vlans: VlanSet::untagged(), deny_outbound: false }
    }

    /// `struct interface_config` of redirect.c.
    fn to_bytes(&self) -> [u8; 520] {
        let role: u32 = match self.role {
            Role::Uplink => 0,
            Role::Workload => 1,
        };
        let mut bytes = [0; 520];
        bytes[..4].copy_from_slice(&role.to_ne_bytes());
        bytes[4..8].copy_from_slice(&u32::from(self.deny_outbound).to_ne_bytes());
        bytes[8..].copy_from_slice(self.vlans.bits());
        bytes
    }
}

/// The program on one interface. Dropping it takes the program off; so does the end of the process, however it ends,
/// because the kernel holds the attachment by a descriptor of ours.
///
/// Freshly attached it owns no address and knows no socket: everything passes. It is `Send`; the management thread
/// keeps it.
#[derive(Debug)]
pub struct Redirect {
    interface: Link,
    mode: AttachMode,
    frags: bool,
    owned: OwnedTables,
    maps: Maps,
    /// Held, never used: closing it detaches.
    _link: FdLink,
    _program: Ebpf,
}

struct Maps {
    config: Array<MapData, [u8; 520]>,
    owned_v4: LpmTrie<MapData, [u8; 4], u32>,
    owned_v6: LpmTrie<MapData, [u8; 16], u32>,
    sockets: XskMap<MapData>,
    verdicts: PerCpuArray<MapData, u64>,
    notices: RingBuf<MapData>,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Redirect {
    /// Loads a program of its own for the interface and attaches it. A program that is already there is left alone
    /// and named.
    pub fn attach(
        interface_index: u32,
        mode: AttachMode,
        buffers: Buffers,
        config: &RedirectConfig,
    ) -> Result<Self, AttachError> {
        let interface = Link::by_index(interface_index).map_err(|error| match error {
            LinkError::NoSuchInterface(interface) => AttachError::NoSuchInterface { interface },
            other => AttachError::Netlink(other),
        })?;
        refuse_foreign(&interface)?;
        let mut program = Ebpf::load(PROGRAM).map_err(load_error)?;
        let (name, frags) = load(&mut program, buffers)?;
        let link = attach(&mut program, name, &interface, mode)?;
        let maps = Maps::take(&mut program).map_err(|source| AttachError::Kernel {
            what: "open the program's maps",
            detail: source.to_string(),
        })?;
        let owned = OwnedTables::default();
        let mut redirect = Self { interface, mode, frags, owned, maps, _link: link, _program: program };
        redirect.set_config(config).map_err(|error| AttachError::Kernel {
            what: "configure the program",
            detail: error.to_string(),
        })?;
        Ok(redirect)
    }

    /// The interface as it was when the program was attached.
    pub fn interface(&self) -> &Link {
        &self.interface
    }

    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Whether the program takes packets of several buffers (Linux 5.18).
    pub fn frags(&self) -> bool {
        self.frags
    }

    pub fn set_config(&mut self, config: &RedirectConfig) -> Result<(), MapUpdateError> {
        self.maps.config.set(0, config.to_bytes(), 0).map_err(in_map("config"))
    }

    /// Makes the owned prefixes equal to `prefixes`: what is new is added before what is gone is removed, so that an
    /// address that stays is owned at every moment.
    pub fn set_owned(&mut self, prefixes: &[OwnedPrefix]) -> Result<(), MapUpdateError> {
        let wanted = OwnedTables::new(prefixes)?;
        replace(&mut self.maps.owned_v4, &mut self.owned.v4, &wanted.v4).map_err(in_map("owned_v4"))?;
        replace(&mut self.maps.owned_v6, &mut self.owned.v6, &wanted.v6).map_err(in_map("owned_v6"))
    }

    /// From now on what is redirected from `queue` goes to `socket`, which must be bound to that queue. The entry ends
    /// with the socket.
    pub fn register(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), MapUpdateError> {
        if queue >= QUEUES_MAX {
            return Err(MapUpdateError::QueueOutOfRange { queue });
        }
        self.maps.sockets.set(queue, socket.as_raw_fd(), 0).map_err(in_map("sockets"))
    }

    /// From now on `queue` passes everything to the kernel.
    pub fn unregister(&mut self, queue: u32) -> Result<(), MapUpdateError> {
        self.maps.sockets.unset(queue).map_err(in_map("sockets"))
    }

    pub fn verdicts(&self) -> Result<Verdicts, MapUpdateError> {
        let mut verdicts = Verdicts::default();
        for verdict in Verdict::ALL {
            let per_cpu = self.maps.verdicts.get(&(verdict as u32), 0).map_err(in_map("verdicts"))?;
            verdicts.set(verdict, per_cpu.iter().sum());
        }
        Ok(verdicts)
    }

    /// The next announcement that a neighbour made. Bound what one visit takes: a hostile link can make many.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.maps.notices.next().and_then(|record| Notice::parse(&record))
    }

    /// Readable when [`Redirect::poll_notice`] has something.
    pub fn notices_descriptor(&self) -> BorrowedFd<'_> {
        self.maps.notices.as_fd()
    }
}

fn refuse_foreign(interface: &Link) -> Result<(), AttachError> {
    match interface.xdp_program {
        Some(program_id) => {
            Err(AttachError::ForeignProgram { interface: interface.name.clone(), program_id })
        }
        None => Ok(()),
    }
}

/// Loads the program with frags where they are wanted and the kernel takes it, without elsewhere.
fn load(program: &mut Ebpf, buffers: Buffers) -> Result<(&'static str, bool), AttachError> {
    if buffers == Buffers::Several && xdp(program, WITH_FRAGS)?.load().is_ok() {
        return Ok((WITH_FRAGS, true));
    }
    xdp(program, WITHOUT_FRAGS)?.load().map_err(|error| match &error {
        ProgramError::LoadError { io_error, verifier_log } => refused(io_error, &verifier_log.to_string()),
        other => AttachError::Kernel { what: "load the XDP program", detail: other.to_string() },
    })?;
    Ok((WITHOUT_FRAGS, false))
}

/// The verifier, too, says EACCES, but says why.
fn refused(error: &io::Error, log: &str) -> AttachError {
    if denied(error) && log.trim().is_empty() {
        return AttachError::NoPrivilege { what: "load an XDP program" };
    }
    AttachError::Kernel { what: "load the XDP program", detail: format!("{error}: {}", last_lines(log)) }
}

/// The verifier's verdict stands at the end of its log, below the instruction that it is about.
const VERDICT_LINES: usize = 4;

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(VERDICT_LINES)..].join("; ")
}

fn attach(program: &mut Ebpf, name: &str, interface: &Link, mode: AttachMode) -> Result<FdLink, AttachError> {
    let flags = match mode {
        AttachMode::Generic => XdpMode::Skb,
        AttachMode::Native => XdpMode::Driver,
    };
    let xdp = xdp(program, name)?;
    let id = xdp
        .attach_to_if_index(interface.index, flags)
        .map_err(|error| attach_error(error, interface, mode))?;
    let link = xdp
        .take_link(id)
        .map_err(|error| AttachError::Kernel { what: "keep the link", detail: error.to_string() })?;
    match FdLink::try_from(link) {
        Ok(link) => Ok(link),
        Err(_) => {
            // aya fell back to an attachment that would outlive us.
            link::clear_program(interface.index)?;
            Err(AttachError::NoLink { interface: interface.name.clone() })
        }
    }
}

fn xdp<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, AttachError> {
    let missing =
        || AttachError::Kernel { what: "find the XDP program", detail: format!("no function {name}") };
    program.program_mut(name).and_then(|program| program.try_into().ok()).ok_or_else(missing)
}

fn load_error(error: EbpfError) -> AttachError {
    let denied = match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => denied(io_error),
        EbpfError::MapError(MapError::SyscallError(error)) => denied(&error.io_error),
        EbpfError::ProgramError(error) => is_denied(error),
        _ => false,
    };
    if denied {
        return AttachError::NoPrivilege { what: "create BPF maps" };
    }
    AttachError::Kernel { what: "load the XDP program's maps", detail: error.to_string() }
}

fn is_denied(error: &ProgramError) -> bool {
    match error {
        ProgramError::LoadError { io_error, .. } => denied(io_error),
        ProgramError::SyscallError(error) => denied(&error.io_error),
        _ => false,
    }
}

fn denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EPERM | EACCES))
}

fn attach_error(error: ProgramError, interface: &Link, mode: AttachMode) -> AttachError {
    let name = interface.name.clone();
    let ProgramError::SyscallError(error) = error else {
        // The refusal of the older way, which aya tried after the kernel said EINVAL to the link.
        let source = io::Error::other(error.to_string());
        return AttachError::UnsupportedMode { interface: name, mode, source };
    };
    let source = error.io_error;
    match source.raw_os_error() {
        Some(EPERM | EACCES) => AttachError::NoPrivilege { what: "attach an XDP program" },
        Some(ENODEV) => AttachError::NoSuchInterface { interface: name },
        Some(ERANGE) => AttachError::MtuTooLarge { interface: name, mode, source },
        Some(EBUSY | EEXIST) => match Link::by_index(interface.index).map(|link| link.xdp_program) {
            Ok(Some(program_id)) => AttachError::ForeignProgram { interface: name, program_id },
            _ => AttachError::UnsupportedMode { interface: name, mode, source },
        },
        _ => AttachError::UnsupportedMode { interface: name, mode, source },
    }
}

impl Maps {
    fn take(program: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            config: Array::try_from(map(program, "config")?)?,
            owned_v4: LpmTrie::try_from(map(program, "owned_v4")?)?,
            owned_v6: LpmTrie::try_from(map(program, "owned_v6")?)?,
            sockets: XskMap::try_from(map(program, "sockets")?)?,
            verdicts: PerCpuArray::try_from(map(program, "verdicts")?)?,
            notices: RingBuf::try_from(map(program, "notices")?)?,
        })
    }
}

fn map(program: &mut Ebpf, name: &'static str) -> Result<Map, MapError> {
    program.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_string() })
}

fn in_map(map: &'static str) -> impl Fn(MapError) -> MapUpdateError {
    move |source| MapUpdateError::Kernel { map, source }
}

/// Brings `map`, which holds `held`, to hold `wanted`. `held` follows entry by entry, so that a failure half way is
/// repaired by the next call.
fn replace<A: Pod + Ord>(
    map: &mut LpmTrie<MapData, A, u32>,
    held: &mut BTreeMap<(u8, A), u32>,
    wanted: &BTreeMap<(u8, A), u32>,
) -> Result<(), MapError> {
    for (&(len, address), &claim) in wanted {
        if held.get(&(len, address)) != Some(&claim) {
            map.insert(&Key::new(u32::from(len), address), claim, 0)?;
            held.insert((len, address), claim);
        }
    }
    let gone: Vec<_> = held.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
    for (len, address) in gone {
        map.remove(&Key::new(u32::from(len), address))?;
        held.remove(&(len, address));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_verifier_refuses_is_no_lack_of_privilege() {
        let log = "39: (71) r1 = *(u8 *)(r2 +8)\nR2 unbounded memory access\n";
        let error = refused(&io::Error::from_raw_os_error(EACCES), log).to_string();
        assert!(error.contains("(r2 +8); R2 unbounded memory access"), "{error}");
        let denied = refused(&io::Error::from_raw_os_error(EPERM), "");
        assert!(matches!(denied, AttachError::NoPrivilege { .. }), "{denied}");
    }
}
