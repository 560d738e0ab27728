//! `set NAME VALUE`: the options of the connections to come, and the world that they begin in.

use std::net::SocketAddr;
use std::time::Duration;

use super::Outcome;
use super::notation::{Endpoint, duration, number};
use super::runner::{LISTENING_PORT, Runner, address};
use crate::tcp::tests::link::Host;
use crate::tcp::tuple::Tuple;
use crate::tcp::{Congestion, Ecn};

impl Runner {
    pub fn set(&mut self, name: &str, value: &str) -> Outcome {
        match name {
            "mtu" => self.host.wire.mtu = number(value)?,
            "receive_buffer" => self.options.receive_buffer_bytes = number(value)?,
            "send_buffer" => self.options.send_buffer_bytes = number(value)?,
            "memory" => {
                let address = address(self.family, 1).to_string();
                self.host = Host::new(&address, self.host.wire.mtu, number(value)?);
            }
            "ports" => {
                let (first, last) = value.split_once("..").ok_or("FIRST..LAST")?;
                self.host.tcp.config.ports = (number(first)?, number(last)?);
            }
            "max_flows" => self.host.tcp.set_max_flows(number(value)?),
            "backlog" => self.options.backlog = number(value)?,
            "no_delay" => self.options.no_delay = value == "on",
            "keepalive" if value == "off" => self.options.keepalive = None,
            "keepalive" => self.options.keepalive = Some(duration(value)?),
            "user_timeout" => self.options.user_timeout = Some(duration(value)?),
            "connect_timeout" => self.options.connect_timeout = duration(value)?,
            "congestion" => {
                self.options.congestion = Congestion::from_name(value).ok_or("no such control")?
            }
            "pacing" if ["on", "off"].contains(&value) => self.options.pacing = value == "on",
            "ecn" => self.options.ecn = Ecn::from_name(value).ok_or("off, passive or active")?,
            "peer_isn" => self.peer_initial = number(value)?,
            "our_isn" => self.begin_at_sequence(number(value)?),
            "our_timestamp" => self.begin_at_timestamp(number(value)?),
            // Read before the script is played.
            "family" if ["ipv4", "ipv6", "both"].contains(&value) => {}
            _ => return Err("no such setting".into()),
        }
        Ok(())
    }

    /// Goes to a time at which a SYN from the peer's default port is answered with this initial sequence.
    fn begin_at_sequence(&mut self, wanted: u32) {
        let now = self.host.tcp.secrets.initial_sequence(&self.default_tuple(), self.now);
        let steps = wanted.wrapping_sub(now.0);
        // A step of the clock is 4 us (RFC 6528, section 3).
        self.now = self.now + Duration::from_micros(4 * u64::from(steps));
    }

    /// Goes to a time at which our timestamps towards the peer's default port are these.
    fn begin_at_timestamp(&mut self, wanted: u32) {
        let offset = self.host.tcp.secrets.timestamp_offset(&self.default_tuple());
        let now = (self.now.as_millis() as u32).wrapping_add(offset);
        self.now = self.now + Duration::from_millis(u64::from(wanted.wrapping_sub(now)));
    }

    fn default_tuple(&self) -> Tuple {
        let Endpoint { host, port } = Endpoint::default();
        let remote = SocketAddr::new(self.peer_address(host), port);
        Tuple::new(SocketAddr::new(self.host.address, LISTENING_PORT), remote)
    }
}
