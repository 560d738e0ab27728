//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::metadata::DEFAULT_NAMESPACE;

/// Ringway's operator command.
///
/// Exit status: 0 done; 1 refused or not found; 2 wrong usage or unreadable files; 3 cannot reach the other side.
#[derive(Debug, Parser)]
#[command(name = "ringway", version)]
pub struct Flags {
    #[command(flatten)]
    pub reach: ReachFlags,
    #[command(subcommand)]
    pub command: Command,
}

/// How the control plane is reached, and as whom.
#[derive(Debug, Args)]
pub struct ReachFlags {
    /// The control plane: HOST:PORT or unix:/PATH.
    #[arg(long, global = true, env = "RINGWAY_CONTROL", default_value = xds::endpoint::DEFAULT_CONTROL)]
    pub control: String,
    /// By what the control plane is known: a PEM file of its roots, or sha256: and the SHA-256 of one. With it, TLS is
    /// spoken.
    #[arg(long, global = true, env = "RINGWAY_CA", value_name = "FILE|sha256:HEX")]
    pub ca: Option<String>,
    /// A file that has an operator's token.
    #[arg(long, global = true, env = "RINGWAY_TOKEN_FILE", value_name = "FILE", requires = "ca")]
    pub token_file: Option<PathBuf>,
    /// An operator's certificate, with its private key in the same PEM file.
    #[arg(long, global = true, env = "RINGWAY_CERTIFICATE", value_name = "FILE", requires = "ca")]
    pub certificate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or change resources, all of them or none.
    Apply(Apply),
    /// Show resources.
    Get(Get),
    /// Show one resource with its conditions.
    Describe(Describe),
    /// Delete resources.
    Delete(Delete),
    /// Show the control plane and the nodes: tables, queues and their modes.
    Status(Status),
    /// Admit nodes, show them, and take back what they were given.
    #[command(subcommand)]
    Node(Node),
    /// Operators' tokens and certificates.
    #[command(subcommand)]
    Operator(Operator),
    /// The certificate authority: its roots, and their replacement.
    #[command(subcommand)]
    Ca(Ca),
    /// Show who did what, newest last, a JSON object a line.
    Audit {
        /// How many lines; the files in the control plane's directory have all of them.
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: u32,
    },
    /// Print the defaults with their reasons.
    Defaults,
    /// Capture packets that bypass the kernel, as pcapng.
    Capture(Capture),
    /// This machine: is it fit for a data plane, and interfaces for workloads.
    #[command(subcommand)]
    Host(Host),
}

#[derive(Debug, Subcommand)]
pub enum Node {
    /// Make a token by which one machine joins as this node: once, within ten minutes.
    Token { node: String },
    /// Show the nodes that joined, and their certificates.
    List,
    /// Take back a node's certificate and those of its workloads; a new token lets it join again.
    Revoke { node: String },
}

#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Make a token for an operator.
    Token {
        name: String,
        #[arg(long, value_enum)]
        role: Role,
        /// How long it is good for, at most 30 days.
        #[arg(long = "for", value_name = "TIME", default_value = "12h", value_parser = humantime::parse_duration)]
        lifetime: std::time::Duration,
    },
    /// Make a key here and have a certificate signed for it.
    Certificate {
        name: String,
        #[arg(long, value_enum)]
        role: Role,
        /// Where certificate and key go, readable by its owner alone.
        #[arg(short, long, value_name = "FILE")]
        write: PathBuf,
    },
    /// Show tokens and certificates that are out.
    List,
    /// Take back all tokens and certificates of an operator.
    Revoke { name: String },
}

/// Each may do what those before it may.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Read resources and status.
    Viewer,
    /// Change resources.
    Editor,
    /// Admit and revoke, rotate the CA, read the audit log.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Editor => "editor",
            Role::Admin => "admin",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Show what signs, and the SHA-256 of each root.
    Show,
    /// Print the roots as PEM, for --ca.
    Bundle,
    /// Replace the root, step by step; broken off, it goes on where it ended.
    Rotate {
        /// How long to wait for nodes at each step.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
        wait: std::time::Duration,
    },
}

#[derive(Debug, Subcommand)]
pub enum Host {
    /// Look at kernel, privileges, memory and interfaces, and say what to do.
    Check {
        /// Uplinks to look at.
        interfaces: Vec<String>,
    },
    /// Make a workload's interface: a veth pair whose far end is set up for the mesh.
    Add(AddWorkload),
    /// Remove it, both ends.
    Remove { name: String },
}

#[derive(Debug, Args)]
pub struct AddWorkload {
    /// Ringway's end, for `interfaces` in node.yaml.
    pub name: String,
    /// The workload's network namespace: a name of `ip netns` or a path. Without it the host itself is the workload.
    #[arg(long, value_name = "NAME|PATH")]
    pub netns: Option<String>,
    /// The workload's end.
    #[arg(long, default_value = "eth0")]
    pub device: String,
    /// The workload's addresses.
    #[arg(long, required = true)]
    pub address: Vec<IpAddr>,
    /// What goes to the mesh; everything, in a namespace of the workload's own. The host names the mesh's prefixes.
    #[arg(long, value_name = "PREFIX", required_unless_present = "netns")]
    pub route: Vec<model::Prefix>,
    /// One a worker.
    #[arg(long, default_value_t = 1)]
    pub queues: u32,
    #[arg(long, default_value_t = host::WORKLOAD_MTU)]
    pub mtu: u32,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// A YAML or JSON file, a directory of them, or - for the standard input.
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<PathBuf>,
    /// Validate and answer, store nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Get {
    /// Such as gateway, httproutes, workload; or all.
    pub kind: String,
    pub name: Option<String>,
    #[command(flatten)]
    pub place: Place,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Place {
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Yaml,
    Json,
}

#[derive(Debug, Args)]
pub struct Describe {
    pub kind: String,
    pub name: String,
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[arg(required_unless_present = "files")]
    pub kind: Option<String>,
    #[arg(required_unless_present = "files")]
    pub names: Vec<String>,
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// Delete what these files have.
    #[arg(short, long = "file", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names"])]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Status {
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Capture {
    /// The data plane's admin address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: String,
    /// Only packets from or to this address.
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Only packets from or to this port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Stop after so many packets.
    #[arg(long, value_name = "N")]
    pub packets: Option<u64>,
    /// Stop after so long.
    #[arg(long, value_name = "S")]
    pub seconds: Option<u64>,
    /// Where the capture goes; - is the standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub write: PathBuf,
}
