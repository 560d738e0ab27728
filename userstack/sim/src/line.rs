//! A packet in a line, for people: addresses, ports, flags and numbers as tcpdump writes them.

use std::fmt::Write;
use std::net::IpAddr;

use crate::wire;

const FLAGS: [(u8, char); 8] =
    [(0x02, 'S'), (0x10, '.'), (0x01, 'F'), (0x04, 'R'), (0x08, 'P'), (0x20, 'U'), (0x40, 'E'), (0x80, 'W')];

/// Says what a packet of `len` bytes is, of which `bytes` are the first.
pub(crate) fn describe(bytes: &[u8], len: usize) -> String {
    let ethertype = wire::ethertype(bytes);
    let Some((source, destination)) = wire::addresses(bytes) else {
        return format!("ethertype {ethertype:#06x} len {len}");
    };
    let (protocol, transport, ip_len) = match ethertype {
        wire::ETHERTYPE_IPV4 => {
            let header = usize::from(bytes[wire::ETHERNET_BYTES] & 0x0f) * 4;
            (bytes[23], wire::ETHERNET_BYTES + header, usize::from(wire::u16_at(bytes, 16)))
        }
        _ => {
            let payload = usize::from(wire::u16_at(bytes, 18));
            (bytes[20], wire::ETHERNET_BYTES + wire::IPV6_BYTES, wire::IPV6_BYTES + payload)
        }
    };
    if protocol != wire::PROTOCOL_TCP || bytes.len() < transport + 20 {
        return format!("{source} > {destination} protocol {protocol} len {len}");
    }
    let header = usize::from(bytes[transport + 12] >> 4) * 4;
    let text = (wire::ETHERNET_BYTES + ip_len).saturating_sub(transport + header);
    segment(&bytes[transport..], (source, destination), text)
}

fn segment(bytes: &[u8], (source, destination): (IpAddr, IpAddr), text: usize) -> String {
    let number = |offset: usize| {
        u32::from(wire::u16_at(bytes, offset)) << 16 | u32::from(wire::u16_at(bytes, offset + 2))
    };
    let flags: String = FLAGS.iter().filter(|(bit, _)| bytes[13] & bit != 0).map(|(_, name)| name).collect();
    let mut line = format!(
        "{source}.{} > {destination}.{} [{flags}] seq {} ack {} win {} len {text}",
        wire::u16_at(bytes, 0),
        wire::u16_at(bytes, 2),
        number(4),
        number(8),
        wire::u16_at(bytes, 14),
    );
    let end = (usize::from(bytes[12] >> 4) * 4).min(bytes.len());
    options(bytes.get(20..end).unwrap_or_default(), &mut line);
    line
}

/// Options by their kind (RFC 9293, 3.1; RFC 7323; RFC 2018).
fn options(mut rest: &[u8], line: &mut String) {
    let number = |bytes: &[u8], at: usize| {
        u32::from(wire::u16_at(bytes, at)) << 16 | u32::from(wire::u16_at(bytes, at + 2))
    };
    while let [kind, tail @ ..] = rest {
        let len = match kind {
            0 => return,
            1 => 1,
            _ => usize::from(tail.first().copied().unwrap_or(0)).max(2),
        };
        let option = &rest[..len.min(rest.len())];
        let _written = match kind {
            2 => write!(line, " mss {}", wire::u16_at(option, 2)),
            3 => write!(line, " wscale {}", option.get(2).copied().unwrap_or(0)),
            4 => write!(line, " sackOK"),
            5 => (2..option.len())
                .step_by(8)
                .try_for_each(|at| write!(line, " sack {}:{}", number(option, at), number(option, at + 4))),
            8 => write!(line, " ts {}/{}", number(option, 2), number(option, 6)),
            1 => Ok(()),
            _ => write!(line, " option {kind}"),
        };
        rest = &rest[option.len()..];
    }
}
