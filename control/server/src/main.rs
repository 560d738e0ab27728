//! The control plane's process: flags, log, signals.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser};
use model::spiffe::TrustDomain;
use model::{Prefix, ServicePrefixes};
use server::ca::KeySource;
use server::ca::files::{Paths, certificates};
use server::ca::seal::KEY_VARIABLE;
use server::store::{EmbeddedStore, Store};
use server::{AuthoritySource, Options, RunError, Secure, Security, identities};
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
    /// No TLS, and nobody who connects is asked who he is; loopback and Unix sockets only.
    #[arg(long)]
    plain: bool,
    /// Allows --plain on an address beyond loopback.
    #[arg(long, requires = "plain")]
    insecure: bool,
    #[command(flatten)]
    identities: IdentityFlags,
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

/// Who is who, unless --plain.
#[derive(Debug, Args)]
struct IdentityFlags {
    /// The name under which this mesh's identities are known: spiffe://NAME/...
    #[arg(long, value_name = "NAME", default_value = "mesh.local")]
    trust_domain: TrustDomain,
    /// 32 bytes in base64 or hexadecimal, under which the built-in CA's private key is kept; or RINGWAY_CA_KEY.
    #[arg(long, value_name = "FILE")]
    ca_key_file: Option<PathBuf>,
    /// Sign by this intermediate instead: its certificate and those above it, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["ca_private_key", "ca_roots"])]
    ca_chain: Option<PathBuf>,
    /// The intermediate's private key, PKCS #8 in PEM.
    #[arg(long, value_name = "FILE", requires = "ca_chain")]
    ca_private_key: Option<PathBuf>,
    /// The roots above the intermediate, PEM.
    #[arg(long, value_name = "FILE", requires = "ca_chain")]
    ca_roots: Option<PathBuf>,
    /// Have a plug-in sign (ringway/ca.proto): unix:/PATH, or HOST:PORT of this host.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["ca_chain", "ca_key_file"])]
    ca_plugin: Option<String>,
    /// How long certificates live; they are renewed at half of it.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    certificate_lifetime: Duration,
    /// Roots of whoever certifies machines: a machine with such a certificate may join as the Node of its name.
    #[arg(long, value_name = "FILE")]
    join_roots: Option<PathBuf>,
    /// Another trust domain and its roots in PEM; may be given several times.
    #[arg(long, value_name = "DOMAIN=FILE", value_parser = parse_bundle)]
    trust_bundle: Vec<(TrustDomain, PathBuf)>,
}

/// A certificate that lives shorter is renewed more often than a node can be relied on to manage.
const LEAST_LIFETIME: Duration = Duration::from_secs(10);
/// Where the host's own root reaches the control plane without a certificate.
const SOCKET: &str = "control.sock";

fn parse_bundle(text: &str) -> Result<(TrustDomain, PathBuf), String> {
    let (domain, path) = text.split_once('=').ok_or("expected DOMAIN=FILE")?;
    let domain = domain.parse::<TrustDomain>().map_err(|error| format!("{domain}: {error}"))?;
    Ok((domain, path.into()))
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
    let security = security(&flags)?;
    let unix = flags.unix.or_else(|| (!flags.plain).then(|| flags.data.join(SOCKET)));
    let options = Options {
        listen: flags.listen,
        unix,
        insecure: flags.insecure,
        prefixes,
        security,
        audit: Some(flags.data),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(run(options, store)).map_err(|error| error.to_string())
}

fn security(flags: &Flags) -> Result<Security, String> {
    if flags.plain {
        return Ok(Security::Plain);
    }
    let given = &flags.identities;
    if given.certificate_lifetime < LEAST_LIFETIME {
        return Err(format!("--certificate-lifetime: expected at least {LEAST_LIFETIME:?}"));
    }
    let authority = match (&given.ca_chain, &given.ca_private_key, &given.ca_roots, &given.ca_plugin) {
        (Some(chain), Some(key), Some(roots), _) => {
            AuthoritySource::Files(Paths { chain: chain.clone(), key: key.clone(), roots: roots.clone() })
        }
        (_, _, _, Some(address)) => AuthoritySource::Plugin(address.clone()),
        _ => AuthoritySource::BuiltIn(key_source(given.ca_key_file.clone())),
    };
    let read = |path: &PathBuf| certificates(path).map_err(|error| error.to_string());
    let mut federated = Vec::new();
    for (domain, path) in &given.trust_bundle {
        federated.push((domain.clone(), read(path)?));
    }
    let join_roots = given.join_roots.as_ref().map(read).transpose()?.unwrap_or_default();
    let store = EmbeddedStore::open(&flags.data.join("identities")).map_err(|error| error.to_string())?;
    Ok(Security::Secure(Secure {
        options: identities::Options {
            trust_domain: given.trust_domain.clone(),
            lifetime: given.certificate_lifetime,
            federated,
        },
        authority,
        join_roots,
        store: Arc::new(store),
    }))
}

fn key_source(file: Option<PathBuf>) -> Option<KeySource> {
    file.map(KeySource::File).or_else(|| std::env::var(KEY_VARIABLE).ok().map(KeySource::Text))
}

async fn run(options: Options, store: Arc<dyn Store>) -> Result<(), RunError> {
    if matches!(options.security, Security::Plain) {
        warn!("--plain: whoever reaches {} may change the mesh", options.listen);
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
