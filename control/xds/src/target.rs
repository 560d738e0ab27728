//! A control plane that can be connected to, plain or by TLS; with the configuration that is current at each connection,
//! since a node's certificate is replaced while the node runs.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::identity::{ClientConfig, ServerName, SvidError};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::endpoint::{self, AddressError};

/// The configuration for the next connection; none before there is one.
pub type TlsConfig = watch::Receiver<Option<Arc<ClientConfig>>>;

#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    endpoint: Endpoint,
    tls: Option<TlsConfig>,
}

impl Target {
    pub fn plain(address: &str) -> Result<Target, AddressError> {
        Ok(Target { address: address.to_owned(), endpoint: endpoint::parse(address)?, tls: None })
    }

    /// A Unix socket stays plain: the kernel says who is at its ends.
    pub fn tls(address: &str, config: TlsConfig) -> Result<Target, AddressError> {
        let mut target = Target::plain(address)?;
        if !endpoint::is_unix(address) {
            target.tls = Some(config);
        }
        Ok(target)
    }

    /// With a configuration that stays as it is.
    pub fn fixed_tls(address: &str, config: ClientConfig) -> Result<Target, AddressError> {
        Target::tls(address, watch::channel(Some(Arc::new(config))).1)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The error says why in a few words.
    pub async fn connect(&self) -> Result<Channel, String> {
        let connected = match &self.tls {
            None => self.endpoint.connect().await,
            Some(tls) => {
                let connector = Connector { tls: tls.clone() };
                self.endpoint.connect_with_connector(connector).await
            }
        };
        connected.map_err(|error| endpoint::innermost(&error))
    }
}

struct Connector {
    tls: TlsConfig,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.tls.borrow().clone();
        Box::pin(async move {
            let config = config.ok_or_else(|| io::Error::other("there is no certificate yet"))?;
            connect(uri, config).await.map(TokioIo::new)
        })
    }
}

async fn connect(uri: Uri, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream =
        TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(endpoint::DEFAULT_PORT))).await?;
    stream.set_nodelay(true)?;
    // The name is sent for whoever routes by it; the peer is believed for its SPIFFE ID.
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(explain)
}

/// The reason itself, where the handshake's error wraps it.
fn explain(error: io::Error) -> io::Error {
    match SvidError::of_handshake(&error) {
        Some(reason) => io::Error::other(reason),
        None => error,
    }
}
