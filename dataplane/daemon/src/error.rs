//! Why a data plane does not start: who, what, and what to do next.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error("identity: {0}")]
    Identity(#[from] crate::identity::IdentityError),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(
        "interface {interface}: has no Ethernet address: name an Ethernet device, a bond or a VLAN of one"
    )]
    NoEthernet { interface: String },
    #[error("interfaces: more than 65,535")]
    TooManyInterfaces,
    #[error("device {device}: lies under two interfaces with another role or xdp_mode: give them the same")]
    DeviceDisagrees { device: String },
    #[error("state directory {path}: {source}")]
    State { path: PathBuf, source: std::io::Error },
    #[error("worker on CPU {cpu}: {message}")]
    Worker { cpu: usize, message: String },
    #[error(transparent)]
    Open(#[from] nic::OpenError),
    #[error("interface {interface}: {message}")]
    Attach { interface: String, message: String },
    #[error("admin {address}: cannot listen: {source}: another ringwayd of this namespace? set `admin:`")]
    Admin { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the management thread: {source}")]
    Runtime { source: std::io::Error },
    #[error("resources: {0}")]
    Resources(String),
    #[error("table: {0}")]
    Table(String),
}
