//! `ringwayd`: the node's data plane.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use daemon::config::NodeConfig;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

/// Carries this node's mesh traffic past the kernel: AF_XDP, a user-space TCP/IP stack and the proxy on it.
#[derive(Debug, Parser)]
#[command(name = "ringwayd", version, max_term_width = 100)]
struct Flags {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Validates the configuration, and with `resources:` the table that comes of them, and exits.
    #[arg(long)]
    check: bool,
}

/// Exit statuses: 0 ended as asked, 1 could not start or go on, 2 usage.
fn main() -> ExitCode {
    heap::keep();
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_env("RINGWAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringwayd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), daemon::StartError> {
    let config = NodeConfig::read(&flags.config)?;
    if flags.check {
        daemon::check(&config)?;
        println!("{}: good", flags.config.display());
        return Ok(());
    }
    // One thread: the workers have the other cores, and nothing here is hot.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| daemon::StartError::Runtime { source })?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, daemon::serve(config))
}
