//! Sockets, limits of the transport, and the end of the process.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use xds::envoy::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use xds::proto::control::control_server::ControlServer;
use xds::proto::identity::administration_server::AdministrationServer;
use xds::proto::identity::identity_server::IdentityServer;
use xds::proto::node::node_server::NodeServer;

use super::Shared;
use super::accept::{self, Tls};
use super::administration::Administration;
use super::ads::Ads;
use super::identity::Identity;
use super::node::Node;
use super::operator::Operator;

/// A request to apply a whole directory.
const MAX_REQUEST_BYTES: usize = 64 << 20;
/// An ADS request with as many names as a stream may have.
const MAX_DISCOVERY_BYTES: usize = 4 << 20;
const MAX_REPORT_BYTES: usize = 1 << 20;
/// Names, a token, and a signing request.
const MAX_IDENTITY_BYTES: usize = 64 << 10;
/// Streams of one connection: an operator's tool and a node need a few.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// A peer that vanished without a word is noticed within half a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Only the owner may speak to the Unix socket: who can may change the mesh.
const SOCKET_MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {cause}")]
    Tcp { address: SocketAddr, cause: io::Error },
    #[error("cannot listen on {}: {cause}", path.display())]
    Unix { path: PathBuf, cause: io::Error },
    #[error("{} is in use by another process", path.display())]
    UnixInUse { path: PathBuf },
    #[error("serving failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Open sockets; nothing is answered yet.
#[derive(Debug)]
pub struct Listening {
    tcp: TcpListener,
    unix: Option<(PathBuf, UnixListener)>,
}

impl Listening {
    pub async fn open(address: SocketAddr, unix: Option<&Path>) -> Result<Listening, ServeError> {
        let tcp = TcpListener::bind(address).await.map_err(|cause| ServeError::Tcp { address, cause })?;
        let unix = match unix {
            Some(path) => Some((path.to_owned(), open_unix(path).await?)),
            None => None,
        };
        Ok(Listening { tcp, unix })
    }

    /// With the port that was given where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    pub fn names(&self) -> Vec<String> {
        let tcp = self.address().map(|address| address.to_string());
        let unix = self.unix.as_ref().map(|(path, _)| format!("unix:{}", path.display()));
        tcp.into_iter().chain(unix).collect()
    }
}

/// A socket file without a listener is left over from a process that was killed.
async fn open_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |cause| ServeError::Unix { path: path.to_owned(), cause };
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ServeError::UnixInUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

/// Serves until `shared.ending`, then lets unary calls finish. Without `tls`, TCP is plain.
pub async fn serve(listening: Listening, shared: Shared, tls: Option<Tls>) -> Result<(), ServeError> {
    let (connections, accepted) = accept::queue();
    let plain = tls.is_none();
    let tcp = tokio::spawn(accept::tcp(listening.tcp, tls, connections.clone()));
    let unix = listening
        .unix
        .map(|(path, listener)| (path, tokio::spawn(accept::unix(listener, plain, connections))));
    let served = router(&shared)
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), ended(shared.clone()))
        .await;
    tcp.abort();
    if let Some((path, accepting)) = unix {
        accepting.abort();
        // It may be gone already; nobody will miss it.
        drop(std::fs::remove_file(path));
    }
    Ok(served?)
}

async fn ended(shared: Shared) {
    shared.ended().await;
}

fn router(shared: &Shared) -> Router {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .add_service(
            ControlServer::new(Operator(shared.clone()))
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(xds::operator::MAX_MESSAGE_BYTES),
        )
        .add_service(
            AggregatedDiscoveryServiceServer::new(Ads(shared.clone()))
                .max_decoding_message_size(MAX_DISCOVERY_BYTES),
        )
        .add_service(NodeServer::new(Node(shared.clone())).max_decoding_message_size(MAX_REPORT_BYTES))
        .add_service(
            IdentityServer::new(Identity(shared.clone())).max_decoding_message_size(MAX_IDENTITY_BYTES),
        )
        .add_service(
            AdministrationServer::new(Administration(shared.clone()))
                .max_decoding_message_size(MAX_IDENTITY_BYTES),
        )
}
