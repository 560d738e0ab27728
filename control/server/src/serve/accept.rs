//! Accepted connections of each kind as one: plain, TLS, Unix; each with what it shows of its other end.
//!
//! A handshake runs beside the others, bounded in time and number: a peer that says nothing holds up nobody.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use identity::tls::Visitors;
use identity::{SvidError, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::access::{Credential, Peer};
use crate::refusal::{Refusal, Refusals};

/// A peer far away on a bad path needs a few round trips.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Each takes some tens of kilobytes; a whole fleet that comes back at once waits its turn in the listener's backlog.
const MOST_HANDSHAKES: usize = 512;
/// Accepted connections that wait for the server.
const QUEUE: usize = 64;
/// After an accept that failed, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

pub struct Connection {
    transport: Transport,
    peer: Peer,
}

pub type Connections = mpsc::Sender<io::Result<Connection>>;

/// A queue that the server reads connections from.
pub fn queue() -> (Connections, mpsc::Receiver<io::Result<Connection>>) {
    mpsc::channel(QUEUE)
}

/// How TCP connections are made safe.
#[derive(Clone)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub visitors: Arc<Visitors>,
    pub refusals: Arc<Refusals>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("visitors", &self.visitors).finish_non_exhaustive()
    }
}

/// Accepts for ever, or until the server is gone.
pub async fn tcp(listener: TcpListener, tls: Option<Tls>, connections: Connections) {
    let places = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    while !connections.is_closed() {
        let Some(stream) = accept(&listener).await else { continue };
        let address = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string());
        let Some(tls) = tls.clone() else {
            let peer = Peer { address, credential: Credential::Plain };
            let connection = Connection { transport: Transport::Plain(stream), peer };
            drop(connections.send(Ok(connection)).await);
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tls.refusals.count(Refusal::HandshakesFull);
            continue;
        };
        let connections = connections.clone();
        tokio::spawn(async move {
            if let Some(connection) = handshake(&tls, stream, address).await {
                drop(connections.send(Ok(connection)).await);
            }
            drop(place);
        });
    }
}

/// Answers are small and somebody waits for each: Nagle's algorithm would hold the end of one back until the peer
/// acknowledges its beginning, which Linux puts off by 40 ms.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let accepted = listener.accept().await.and_then(|(stream, _)| {
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    match accepted {
        Ok(stream) => Some(stream),
        Err(problem) => {
            warn!(%problem, "a connection was not accepted");
            sleep(PAUSE).await;
            None
        }
    }
}

async fn handshake(tls: &Tls, stream: TcpStream, address: String) -> Option<Connection> {
    let stream = match timeout(HANDSHAKE_WITHIN, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(problem)) => {
            let reason = SvidError::of_handshake(&problem).map_or(Refusal::Handshake, Refusal::Svid);
            tls.refusals.count(reason);
            debug!(address, %problem, reason = reason.name(), "handshake refused");
            return None;
        }
        Err(_) => {
            tls.refusals.count(Refusal::HandshakeTimeout);
            return None;
        }
    };
    let credential = match stream.get_ref().1.peer_certificates() {
        None => Credential::None,
        Some(chain) => match tls.visitors.recognize(chain, UnixTime::now()) {
            Ok(visitor) => Credential::Shown(visitor),
            // It was good a moment ago, during the handshake.
            Err(reason) => {
                tls.refusals.count(Refusal::Svid(reason));
                return None;
            }
        },
    };
    Some(Connection { transport: Transport::Tls(Box::new(stream)), peer: Peer { address, credential } })
}

/// Accepts for ever, or until the server is gone. `plain`: nobody is asked who he is.
pub async fn unix(listener: UnixListener, plain: bool, connections: Connections) {
    while !connections.is_closed() {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(problem) => {
                warn!(%problem, "a connection was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let credential = match uid {
            _ if plain => Credential::Plain,
            // The socket's mode lets nobody else in.
            Ok(uid) => Credential::Local(uid),
            Err(_) => Credential::None,
        };
        let peer = Peer { address: "unix".to_owned(), credential };
        drop(connections.send(Ok(Connection { transport: Transport::Unix(stream), peer })).await);
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_send_what_is_small_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = accept(&listener).await.unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
