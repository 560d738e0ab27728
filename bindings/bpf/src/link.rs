//! What the kernel says of one network interface, asked by rtnetlink in the calling thread's network namespace.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkMessage, LinkXdp};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// One interface, at the time of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// The kind of a virtual device (`veth`, `bond`, `tun`), `None` for a card.
    pub kind: Option<String>,
    /// Receive queues that the device was made with; it may use fewer.
    pub receive_queues: u32,
    /// Id of the XDP program on it.
    pub xdp_program: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("there is no interface {0} in this network namespace")]
    NoSuchInterface(String),
    #[error("asking the kernel about interface {interface}: {source}")]
    Kernel { interface: String, source: io::Error },
}

impl Link {
    pub fn by_name(name: &str) -> Result<Self, LinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_string()));
        ask(request, name)
    }

    pub fn by_index(index: u32) -> Result<Self, LinkError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        ask(request, &format!("number {index}"))
    }

    pub fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }
}

/// Takes whatever XDP program is attached without a link off an interface.
pub(crate) fn clear_program(index: u32) -> Result<(), LinkError> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    request.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(-1)]));
    let interface = format!("number {index}");
    match exchange(RouteNetlinkMessage::SetLink(request), NLM_F_ACK) {
        Ok(_) => Ok(()),
        Err(source) => Err(LinkError::Kernel { interface, source }),
    }
}

fn ask(request: LinkMessage, interface: &str) -> Result<Link, LinkError> {
    let kernel = |source: io::Error| match source.raw_os_error() {
        // A name longer than the kernel's limit is ERANGE.
        Some(ENODEV | ERANGE) => LinkError::NoSuchInterface(interface.to_string()),
        _ => LinkError::Kernel { interface: interface.to_string(), source },
    };
    match exchange(RouteNetlinkMessage::GetLink(request), 0).map_err(kernel)? {
        Some(RouteNetlinkMessage::NewLink(answer)) => Ok(read(&answer)),
        _ => Err(LinkError::NoSuchInterface(interface.to_string())),
    }
}

/// Linux's errno values, the same on every architecture that we build for.
const ENODEV: i32 = 19;
const ERANGE: i32 = 34;

/// One request, one answer. `None` is an acknowledgement.
fn exchange(request: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => Ok(None),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        kind: None,
        receive_queues: 1,
        xdp_program: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) => link.receive_queues = *queues,
            LinkAttribute::LinkInfo(info) => link.kind = info.iter().find_map(kind),
            LinkAttribute::Xdp(xdp) => link.xdp_program = xdp.iter().find_map(program),
            _ => {}
        }
    }
    link
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn program(xdp: &LinkXdp) -> Option<u32> {
    match xdp {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            (*id != 0).then_some(*id)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_by_name_and_by_index() {
        let by_name = Link::by_name("lo").unwrap();
        assert_eq!(by_name.name, "lo");
        assert_eq!(by_name.kind, None);
        assert_eq!(Link::by_index(by_name.index).unwrap(), by_name);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = Link::by_name("rw-absent").unwrap_err();
        assert!(matches!(&error, LinkError::NoSuchInterface(name) if name == "rw-absent"), "{error}");
    }
}
