//! `node.yaml`: what one node's `ringwayd` is told. Read once at start; everything else comes as tables.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Default of `admin`: a kernel socket on loopback.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15_000);
/// Default of `spin_us`: DESIGN, idling.
const SPIN_US: u64 = 5;
/// Default of `drain_seconds`: Envoy's drain is 600 s; streams here are told to go away at once, so less is enough.
const DRAIN_SECONDS: u64 = 30;
/// Workers a node can have: their numbers travel in one byte of a connection ID.
const MAX_WORKERS: usize = 128;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, as its `Node` resource has it.
    pub node: String,
    /// CPUs, one worker each.
    pub workers: Vec<usize>,
    #[serde(default)]
    pub poll: Poll,
    #[serde(default = "spin_us")]
    pub spin_us: u64,
    #[serde(default = "admin")]
    pub admin: SocketAddr,
    /// Directory of what outlives a process: the saved table and the secrets.
    pub state: PathBuf,
    /// Where tables come from: a control plane ...
    pub control: Option<String>,
    /// The control plane runs with --plain: no TLS, and it asks nobody who he is.
    #[serde(default)]
    pub plain: bool,
    /// How this machine becomes a node; needed until the state directory has its certificate.
    pub join: Option<Join>,
    /// ... or a directory of resources.
    pub resources: Option<PathBuf>,
    #[serde(default)]
    pub service_prefixes: Vec<Cidr>,
    /// Addresses that workload interfaces have as their gateway.
    #[serde(default)]
    pub gateway_addresses: Vec<IpAddr>,
    #[serde(default)]
    pub outbound: Outbound,
    #[serde(default = "drain_seconds")]
    pub drain_seconds: u64,
    #[serde(default)]
    pub limits: NodeLimits,
    pub interfaces: Vec<Interface>,
}

fn spin_us() -> u64 {
    SPIN_US
}

fn admin() -> SocketAddr {
    ADMIN
}

fn drain_seconds() -> u64 {
    DRAIN_SECONDS
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Poll {
    #[default]
    Adaptive,
    Busy,
}

/// What happens to a workload's packets to addresses that the mesh does not know.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outbound {
    #[default]
    Allow,
    Deny,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceRole {
    Uplink,
    Workload,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    #[default]
    Auto,
    ZeroCopy,
    Native,
    Generic,
}

/// What the node takes at most. Its workers share each of them: what one does not use moves to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeLimits {
    /// TCP connections open on one listener; a further one is reset.
    pub connections_per_listener: usize,
    /// Datagram sessions; a further one's packets are discarded as `sessions_full`.
    pub datagram_sessions: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            connections_per_listener: proxy::Limits::default().connections_per_listener,
            datagram_sessions: worker::StackConfig::default().max_sessions,
        }
    }
}

/// Exactly one of `token`, `token_file` and `certificate`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// What `ringway node token NODE` prints.
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    /// A machine's certificate and its key, PEM, from an authority of --join-roots ...
    pub certificate: Option<PathBuf>,
    /// ... and the SHA-256 of the control plane's root, which a token would bring.
    pub control_ca: Option<String>,
}

/// A token is a secret.
impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Join {
    fn check(&self) -> Result<(), &'static str> {
        let ways = [self.token.is_some(), self.token_file.is_some(), self.certificate.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("wants exactly one of token, token_file and certificate");
        }
        if self.certificate.is_some() != self.control_ca.is_some() {
            return Err(
                "certificate and control_ca (sha256:...) go together; a token brings the SHA-256 itself",
            );
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The kernel's name: a device, `bond0` (its members), or `bond0.100` (tag 100 on the lower device).
    pub name: String,
    pub role: InterfaceRole,
    #[serde(default)]
    pub xdp_mode: XdpMode,
    /// Uplinks: the node's mesh addresses with their on-link prefix. Ringway's own, never the kernel's.
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// Workload interfaces: the addresses of the workload behind it.
    #[serde(default)]
    pub workloads: Vec<IpAddr>,
}

/// An address with a prefix length: `10.77.0.80/24`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub len: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not an address with a prefix length such as 10.96.0.0/16 or fd96::/112");
        let (address, len) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let len: u8 = len.parse().map_err(|_| wrong())?;
        if len > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        Ok(Self { address, len })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a configuration is refused: file, field, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: cannot be read: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{path}: {field}: {message}")]
    Field { path: PathBuf, field: String, message: String },
}

impl NodeConfig {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
        config.check().map_err(|(field, message)| ConfigError::Field {
            path: path.to_owned(),
            field,
            message,
        })?;
        Ok(config)
    }

    pub fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, message: &str| Err((field.to_owned(), message.to_owned()));
        if self.node.is_empty() {
            return wrong("node", "is empty: name the node as its Node resource does");
        }
        if self.workers.is_empty() || self.workers.len() > MAX_WORKERS {
            return wrong("workers", "wants 1 to 128 CPU numbers, one worker each, such as [2, 3]");
        }
        if (1..self.workers.len()).any(|index| self.workers[..index].contains(&self.workers[index])) {
            return wrong("workers", "names a CPU twice: workers share no core");
        }
        match (&self.control, &self.resources) {
            (Some(_), Some(_)) => {
                return wrong("resources", "cannot stand beside `control`: tables have one source");
            }
            (None, None) => {
                return wrong("control", "is missing: give `control: ADDRESS` or `resources: DIR`");
            }
            _ => {}
        }
        if self.control.is_none() && (self.plain || self.join.is_some()) {
            return wrong("control", "is missing: `plain` and `join` say how it is reached");
        }
        if self.plain && self.join.is_some() {
            return wrong("join", "cannot stand beside `plain`: a plain control plane certifies nobody");
        }
        if let Some(Err(problem)) = self.join.as_ref().map(Join::check) {
            return wrong("join", problem);
        }
        for (name, limit) in [
            ("limits.connections_per_listener", self.limits.connections_per_listener),
            ("limits.datagram_sessions", self.limits.datagram_sessions),
        ] {
            if limit == 0 {
                return wrong(name, "is 0: nothing would be served; leave it out for the default");
            }
        }
        if self.interfaces.is_empty() {
            return wrong("interfaces", "is empty: name at least one uplink or workload interface");
        }
        for (index, interface) in self.interfaces.iter().enumerate() {
            self.check_interface(interface)
                .map_err(|(field, message)| (format!("interfaces[{index}].{field}"), message))?;
            if self.interfaces[..index].iter().any(|other| other.name == interface.name) {
                return Err((
                    format!("interfaces[{index}].name"),
                    format!("`{}` is named twice", interface.name),
                ));
            }
        }
        Ok(())
    }

    fn check_interface(&self, interface: &Interface) -> Result<(), (String, String)> {
        let wrong = |field: &str, message: &str| Err((field.to_owned(), message.to_owned()));
        match interface.role {
            InterfaceRole::Uplink if interface.addresses.is_empty() => wrong(
                "addresses",
                "is empty: an uplink owns at least one mesh address, such as 10.77.0.80/24",
            ),
            InterfaceRole::Uplink if !interface.workloads.is_empty() => {
                wrong("workloads", "belongs to a workload interface, not to an uplink")
            }
            InterfaceRole::Workload if !interface.addresses.is_empty() => {
                wrong("addresses", "belongs to an uplink; a workload interface has `workloads`")
            }
            InterfaceRole::Workload if self.gateway_addresses.is_empty() => {
                wrong("role", "workload needs `gateway_addresses`, such as [169.254.1.1, \"fe80::1\"]")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
node: node-1
workers: [1]
state: /var/lib/ringway
control: 127.0.0.1:15010
service_prefixes: [10.96.0.0/16, "fd96::/112"]
gateway_addresses: [169.254.1.1, "fe80::1"]
interfaces:
  - { name: up0, role: uplink, addresses: [10.77.0.80/24, "fd77::80/64"] }
  - { name: wl0, role: workload, workloads: [10.88.0.11], xdp_mode: generic }
"#;

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        NodeConfig::parse(&GOOD.replace(from, to), Path::new("node.yaml")).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_configuration_is_read_with_its_defaults() {
        let config = NodeConfig::parse(GOOD, Path::new("node.yaml")).unwrap();
        assert_eq!(config.poll, Poll::Adaptive);
        assert_eq!(config.spin(), Duration::from_micros(5));
        assert_eq!(config.admin.to_string(), "127.0.0.1:15000");
        assert_eq!(config.interfaces[0].addresses[1].to_string(), "fd77::80/64");
        assert_eq!(config.interfaces[1].xdp_mode, XdpMode::Generic);
        assert_eq!(config.limits.connections_per_listener, 131_072);
    }

    #[test]
    fn a_refusal_names_the_file_and_the_field() {
        for (from, to, field) in [
            ("workers: [1]", "workers: []", "workers"),
            ("workers: [1]", "workers: [1, 1]", "workers"),
            ("control: 127.0.0.1:15010", "admin: 127.0.0.1:1", "control"),
            ("state:", "resources: x\nstate:", "resources"),
            ("gateway_addresses: [169.254.1.1, \"fe80::1\"]", "gateway_addresses: []", "interfaces[1].role"),
            ("addresses: [10.77.0.80/24, \"fd77::80/64\"]", "addresses: []", "interfaces[0].addresses"),
            ("10.77.0.80/24", "10.77.0.80/33", "10.77.0.80/33"),
            ("name: wl0", "name: up0", "interfaces[1].name"),
            ("node: node-1", "node: n\nlimits: { datagram_sessions: 0 }", "limits.datagram_sessions"),
            ("node: node-1", "node: n\nlimits: { sessions: 5 }", "sessions"),
            ("node: node-1", "node: n\nplain: true\njoin: { token: x }", "join"),
            ("node: node-1", "node: n\njoin: { token: x, token_file: y }", "join"),
            ("node: node-1", "node: n\njoin: { certificate: x }", "join"),
            ("control: 127.0.0.1:15010", "resources: x\nplain: true", "control"),
            ("spin_us", "spin", "spin"),
        ] {
            let message = if from == "spin_us" {
                refusal("node: node-1", "node: n\nspin: 4")
            } else {
                refusal(from, to)
            };
            assert!(message.starts_with("node.yaml: "), "{message}");
            assert!(message.contains(field), "{message} names {field}");
        }
    }
}
