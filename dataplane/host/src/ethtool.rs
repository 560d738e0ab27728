//! Device features and channels over the kernel's generic netlink family `ethtool`
//! (Documentation/networking/ethtool-netlink.rst), which needs no ioctl and so no unsafe.
//!
//! Calls block for the kernel's answer, which it gives at once; a card may take longer to change a feature.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::Error;

/// A socket of one network namespace.
#[derive(Debug)]
pub struct Ethtool {
    socket: Socket,
    family: u16,
    sequence: u32,
}

/// One offload, by the name that `ethtool -k` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub on: bool,
    /// It can be switched.
    pub changeable: bool,
}

/// Queues in use. A device counts its queue pairs as `combined`, or receive and transmit queues apart.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    pub receive: u32,
    pub transmit: u32,
    pub combined: u32,
}

impl Channels {
    /// Queues that have a receive and a transmit side.
    pub fn pairs(&self) -> u32 {
        self.combined + self.receive.min(self.transmit)
    }
}

impl Ethtool {
    /// For the devices of this thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_GENERIC)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket =
            open().map_err(|source| Error::Netlink { what: "open generic netlink".into(), source })?;
        let mut ethtool = Self { socket, family: GENL_ID_CTRL, sequence: 0 };
        ethtool.family = ethtool.resolve_family()?;
        Ok(ethtool)
    }

    /// Every feature the device knows.
    pub fn features(&mut self, interface: &str) -> Result<Vec<Feature>, Error> {
        let reply = self.ask(interface, "features", FEATURES_GET, Attributes::default())?;
        Ok(features_from(&reply))
    }

    /// Switches features and reads them back: a driver may take a request and ignore it.
    pub fn set_features(&mut self, interface: &str, wanted: &[(&str, bool)]) -> Result<(), Error> {
        let known = self.features(interface)?;
        let mut bits = Attributes::default();
        for (name, on) in wanted {
            let Some(feature) = known.iter().find(|feature| feature.name == *name) else {
                return Err(Error::NoSuchFeature { interface: interface.into(), feature: (*name).into() });
            };
            if feature.on != *on {
                bits.nest(BITSET_BIT, |bit| {
                    bit.string(BIT_NAME, name);
                    if *on {
                        bit.push(BIT_VALUE, &[]);
                    }
                });
            }
        }
        if bits.0.is_empty() {
            return Ok(());
        }
        let mut request = Attributes::default();
        request.nest(FEATURES_WANTED, |wanted| wanted.nest(BITSET_BITS, |list| list.0 = bits.0));
        self.ask(interface, "set features", FEATURES_SET, request)?;
        self.check_features(interface, wanted)
    }

    /// The device's queues; `None` when the driver does not say.
    pub fn channels(&mut self, interface: &str) -> Result<Option<Channels>, Error> {
        let reply = match self.ask(interface, "channels", CHANNELS_GET, Attributes::default()) {
            Err(Error::Netlink { source, .. }) if source.raw_os_error() == Some(EOPNOTSUPP) => {
                return Ok(None);
            }
            reply => reply?,
        };
        let count =
            |kind| attribute(&reply, kind).and_then(|v| v.try_into().ok()).map_or(0, u32::from_ne_bytes);
        Ok(Some(Channels {
            receive: count(CHANNELS_RX_COUNT),
            transmit: count(CHANNELS_TX_COUNT),
            combined: count(CHANNELS_COMBINED_COUNT),
        }))
    }

    fn check_features(&mut self, interface: &str, wanted: &[(&str, bool)]) -> Result<(), Error> {
        let now = self.features(interface)?;
        for (name, on) in wanted {
            if now.iter().any(|feature| feature.name == *name && feature.on != *on) {
                return Err(Error::FeatureStays {
                    interface: interface.into(),
                    feature: (*name).into(),
                    wanted: if *on { "on" } else { "off" },
                });
            }
        }
        Ok(())
    }

    fn resolve_family(&mut self) -> Result<u16, Error> {
        let mut request = Attributes::default();
        request.string(CTRL_ATTR_FAMILY_NAME, "ethtool");
        let reply = self.call("find the ethtool family", CTRL_CMD_GETFAMILY, &request.0)?;
        let id = attribute(&reply, CTRL_ATTR_FAMILY_ID).and_then(|value| value.try_into().ok());
        id.map(u16::from_ne_bytes).ok_or_else(|| Error::Netlink {
            what: "find the ethtool family".into(),
            source: io::Error::new(io::ErrorKind::InvalidData, "no family number in the answer"),
        })
    }

    /// One request about one device: every message of the family opens with a header that names it.
    fn ask(&mut self, interface: &str, what: &str, command: u8, body: Attributes) -> Result<Vec<u8>, Error> {
        let mut request = Attributes::default();
        request.nest(HEADER, |header| header.string(HEADER_DEV_NAME, interface));
        request.0.extend(body.0);
        match self.call(&format!("{interface}: {what}"), command, &request.0) {
            Err(Error::Netlink { source, .. }) if source.raw_os_error() == Some(ENODEV) => {
                Err(Error::NoSuchInterface { name: interface.into() })
            }
            reply => reply,
        }
    }

    /// Sends one request and reads until its acknowledgement; the answer's attributes.
    fn call(&mut self, what: &str, command: u8, attributes: &[u8]) -> Result<Vec<u8>, Error> {
        self.sequence += 1;
        let request = message(self.family, self.sequence, command, attributes);
        let failed = |source| Error::Netlink { what: what.into(), source };
        self.socket.send(&request, 0).map_err(failed)?;
        let mut answer = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(failed)?;
            if read_datagram(&datagram, self.sequence, &mut answer).map_err(failed)? {
                return Ok(answer);
            }
        }
    }
}

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const GENL_HEADER_BYTES: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

// include/uapi/linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const CHANNELS_GET: u8 = 17;
const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
const CHANNELS_RX_COUNT: u16 = 6;
const CHANNELS_TX_COUNT: u16 = 7;
const CHANNELS_COMBINED_COUNT: u16 = 9;

// include/uapi/linux/netlink.h
const NETLINK_HEADER_BYTES: usize = 16;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_HEADER_BYTES: usize = 4;

// include/uapi/asm-generic/errno.h
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;

/// A netlink and a generic netlink header, then the attributes; host byte order throughout.
fn message(family: u16, sequence: u32, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER_BYTES + GENL_HEADER_BYTES + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).expect("a request is a few hundred bytes").to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Collects the answer's attributes; true at the acknowledgement of request `sequence`.
fn read_datagram(datagram: &[u8], sequence: u32, answer: &mut Vec<u8>) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let buffer = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        let length = (buffer.length() as usize).next_multiple_of(NLA_HEADER_BYTES).min(rest.len());
        if buffer.sequence_number() == sequence {
            match buffer.message_type() {
                NLMSG_ERROR => return acknowledgement(&rest[..length]),
                _ => answer.extend(buffer.payload().get(GENL_HEADER_BYTES..).unwrap_or_default()),
            }
        }
        rest = &rest[length..];
    }
    Ok(false)
}

const NLMSG_ERROR: u16 = 2;

fn acknowledgement(message: &[u8]) -> io::Result<bool> {
    // Control messages parse alike for every family.
    let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(io::Error::other)?;
    match parsed.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(true),
    }
}

/// Netlink attributes under construction: length, kind, value, padded to four bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(NLA_HEADER_BYTES + value.len()).expect("an attribute is under 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(NLA_HEADER_BYTES), 0);
    }

    fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.push(kind, &bytes);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.push(kind | NLA_F_NESTED, &inner.0);
    }
}

/// Attributes that do not parse end the list: the kernel does not send such.
fn children(attributes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(attributes).map_while(Result::ok)
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    children(attributes).find(|nla| nla.kind() == kind).map(value_of)
}

fn value_of(nla: NlaBuffer<&[u8]>) -> &[u8] {
    let bytes = nla.into_inner();
    let end = usize::from(nla.length()).min(bytes.len());
    &bytes[NLA_HEADER_BYTES.min(end)..end]
}

/// `HW` lists every feature with whether it can be changed, `ACTIVE` those that are on.
fn features_from(reply: &[u8]) -> Vec<Feature> {
    let active = bits(reply, FEATURES_ACTIVE);
    bits(reply, FEATURES_HW)
        .into_iter()
        .map(|(name, changeable)| Feature { on: active.iter().any(|(on, _)| *on == name), name, changeable })
        .collect()
}

fn bits(reply: &[u8], set: u16) -> Vec<(String, bool)> {
    let list = attribute(reply, set).and_then(|bitset| attribute(bitset, BITSET_BITS)).unwrap_or_default();
    children(list)
        .filter_map(|bit| {
            let bit = value_of(bit);
            let name = attribute(bit, BIT_NAME)?.split(|byte| *byte == 0).next()?;
            Some((String::from_utf8_lossy(name).into_owned(), attribute(bit, BIT_VALUE).is_some()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(list: &mut Attributes, name: &str, value: bool) {
        list.nest(BITSET_BIT, |bit| {
            bit.string(BIT_NAME, name);
            if value {
                bit.push(BIT_VALUE, &[]);
            }
        });
    }

    #[test]
    fn a_feature_is_on_when_active_lists_it() {
        let mut reply = Attributes::default();
        reply.nest(FEATURES_HW, |set| {
            set.nest(BITSET_BITS, |list| {
                bit(list, "rx-vlan-hw-parse", true);
                bit(list, "highdma", false);
            });
        });
        reply.nest(FEATURES_ACTIVE, |set| set.nest(BITSET_BITS, |list| bit(list, "rx-vlan-hw-parse", false)));
        let on = Feature { name: "rx-vlan-hw-parse".into(), on: true, changeable: true };
        let off = Feature { name: "highdma".into(), on: false, changeable: false };
        assert_eq!(features_from(&reply.0), vec![on, off]);
    }

    #[test]
    fn an_answer_cut_short_is_an_error_and_no_panic() {
        for length in 1..NETLINK_HEADER_BYTES {
            assert!(read_datagram(&vec![0; length], 1, &mut Vec::new()).is_err());
        }
        assert_eq!(attribute(&[9, 0, 1], 1), None);
        assert_eq!(attribute(&[200, 0, 1, 0, 5], 1), None);
    }

    #[test]
    fn the_kernel_answers_for_the_loopback_device() {
        let mut ethtool = Ethtool::open().unwrap();
        let features = ethtool.features("lo").unwrap();
        assert!(features.iter().any(|feature| feature.name == "tx-checksum-ip-generic"));
        assert!(matches!(ethtool.features("no-such-dev"), Err(Error::NoSuchInterface { .. })));
        let unknown = ethtool.set_features("lo", &[("no-such-feature", true)]);
        assert!(matches!(unknown, Err(Error::NoSuchFeature { .. })));
    }
}
