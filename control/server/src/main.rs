//! The control plane's process: flags, log, signals.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use model::{Prefix, ServicePrefixes};
use server::store::{EmbeddedStore, Store};
use server::{Options, RunError};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Exit status of a wrong flag, as clap's own.
const USAGE: u8 = 2;

/// Ringway's control plane.
///
/// Keeps the mesh's resources and hands every node its table over xDS. The log's detail is RUST_LOG (default: info).
#[derive(Debug, Parser)]
#[command(name = "ringway-control", version)]
struct Flags {
    /// Address for operators and nodes.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15010")]
    listen: SocketAddr,
    /// A Unix socket beside it.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Allows an address beyond loopback, though nobody who connects is authenticated.
    #[arg(long)]
    insecure: bool,
    /// Where resources are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ringway-control")]
    data: PathBuf,
    /// Services are given addresses from here; one IPv4 and one IPv6 prefix at most.
    #[arg(
        long = "service-prefix",
        value_name = "PREFIX",
        value_delimiter = ',',
        default_values = ["10.96.0.0/16", "fd00:10:96::/112"]
    )]
    service_prefixes: Vec<Prefix>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let prefixes = match sort_prefixes(&flags.service_prefixes) {
        Ok(prefixes) => prefixes,
        Err(problem) => {
            eprintln!("ringway-control: --service-prefix: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    match start(flags, prefixes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn sort_prefixes(given: &[Prefix]) -> Result<ServicePrefixes, String> {
    let mut prefixes = ServicePrefixes::default();
    for prefix in given {
        let place = if prefix.address().is_ipv4() { &mut prefixes.v4 } else { &mut prefixes.v6 };
        if let Some(other) = place.replace(*prefix) {
            return Err(format!("{other} and {prefix} are of one family; give one of each"));
        }
    }
    Ok(prefixes)
}

fn start(flags: Flags, prefixes: ServicePrefixes) -> Result<(), String> {
    let store: Arc<dyn Store> =
        Arc::new(EmbeddedStore::open(&flags.data).map_err(|error| error.to_string())?);
    let options = Options { listen: flags.listen, unix: flags.unix, insecure: flags.insecure, prefixes };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(run(options, store)).map_err(|error| error.to_string())
}

async fn run(options: Options, store: Arc<dyn Store>) -> Result<(), RunError> {
    if options.insecure && !options.listen.ip().is_loopback() {
        warn!("--insecure: whoever reaches {} may change the mesh", options.listen);
    }
    let listening = |listening: &server::serve::Listening| {
        for name in listening.names() {
            info!("listening on {name}");
        }
    };
    server::run(options, store, listening, asked_to_end()).await?;
    info!("ended");
    Ok(())
}

/// SIGTERM or SIGINT.
async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        error!("cannot listen for signals; end the process by SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: ending"),
        _ = interrupt.recv() => info!("SIGINT: ending"),
    }
}
