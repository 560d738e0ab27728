//! What the proxy needs of the world: connections, time, chance and tasks.
//!
//! [`Sockets`] is a worker's, on the socket crate. The tests have one of in-memory pipes on a paused clock.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, Write};
use model::tcp::{self, TcpSettings};
use socket::{
    Instant, InterfaceId, ListenSpec, Prefix, TcpInfo, TcpListener, TcpOptions, TcpStream, UdpSocket,
};

/// Streams, and the one datagram exchange that a health check needs.
pub trait Network: Clone + Unpin + 'static {
    type Io: Read + Write + Unpin + 'static;
    type Listener: 'static;

    /// Listens on one address and port until the listener is dropped.
    fn listen(&self, address: IpAddr, port: u16, tcp: TcpSettings) -> io::Result<Self::Listener>;

    /// From now on connections to it behave so; those that are there go on as they are.
    fn retune(&self, listener: &Self::Listener, tcp: TcpSettings);

    fn accept(&self, listener: &Self::Listener) -> impl Future<Output = io::Result<Accepted<Self::Io>>>;

    /// Fails with `TimedOut` after `timeout`.
    fn connect(
        &self,
        remote: SocketAddr,
        timeout: Duration,
        tcp: TcpSettings,
    ) -> impl Future<Output = io::Result<Self::Io>> + 'static;

    /// Reads at most `limit` bytes and gives them to `take`, in one or more pieces; ready with their number, which is 0 at
    /// the end of the stream.
    fn poll_read(
        io: &mut Self::Io,
        cx: &mut Context<'_>,
        limit: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>>;

    /// Resets the connection, where dropping it would close it in order.
    fn abort(&self, io: Self::Io);

    /// Moves bytes that wait in `from` to `to` without memory in between: how many, or zero at the end of the stream.
    /// `None`: this network cannot, and they go through a buffer.
    fn poll_splice(
        &self,
        _from: &Self::Io,
        _to: &Self::Io,
        _cx: &mut Context<'_>,
    ) -> Option<Poll<io::Result<usize>>> {
        None
    }

    /// Sends one datagram and waits for the same back; the caller limits the time.
    fn echo(&self, remote: SocketAddr, payload: Vec<u8>) -> impl Future<Output = io::Result<()>> + 'static;
}

/// Time, chance and tasks of one core.
pub trait Runtime: Network {
    type Sleep: Future<Output = ()> + Unpin + 'static;

    fn now(&self) -> Instant;
    fn random(&self) -> u64;
    fn sleep(&self, time: Duration) -> Self::Sleep;
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}

/// Lets the tasks that are ready have their turn.
pub(crate) async fn let_others() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A connection that a listener took.
#[derive(Debug)]
pub struct Accepted<Io> {
    pub io: Io,
    /// As the client wrote it: the original destination.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub interface: Option<InterfaceId>,
}

/// hyper's executor over a [`Runtime`].
#[derive(Clone, Debug)]
pub(crate) struct Spawner<R>(pub R);

impl<R: Runtime, F> hyper::rt::Executor<F> for Spawner<R>
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move {
            future.await;
        });
    }
}

/// A worker's runtime: the socket crate. Every call is inside `Core::enter`'s scope.
#[derive(Copy, Clone, Debug, Default)]
pub struct Sockets;

/// What a table says of TCP, in the stack's words.
fn options(tcp: TcpSettings) -> TcpOptions {
    TcpOptions {
        congestion: match tcp.congestion {
            tcp::Congestion::Cubic => socket::Congestion::Cubic,
            tcp::Congestion::NewReno => socket::Congestion::NewReno,
            tcp::Congestion::Bbr => socket::Congestion::Bbr,
        },
        pacing: tcp.pacing,
        ecn: match tcp.ecn {
            tcp::Ecn::Off => socket::Ecn::Off,
            tcp::Ecn::Passive => socket::Ecn::Passive,
            tcp::Ecn::Active => socket::Ecn::Active,
        },
        ..TcpOptions::default()
    }
}

impl Network for Sockets {
    type Io = TcpStream;
    type Listener = TcpListener;

    fn listen(&self, address: IpAddr, port: u16, tcp: TcpSettings) -> io::Result<TcpListener> {
        let addresses = match address {
            IpAddr::V4(any) if any.is_unspecified() => Prefix::ANY_V4,
            IpAddr::V6(any) if any.is_unspecified() => Prefix::ANY_V6,
            IpAddr::V4(_) => Prefix { address, len: 32 },
            IpAddr::V6(_) => Prefix { address, len: 128 },
        };
        let spec = ListenSpec { addresses, port: Some(port), interface: None };
        TcpListener::bind(spec, options(tcp))
            .map_err(|error| io::Error::new(io::ErrorKind::AddrInUse, format!("{error:?}")))
    }

    fn retune(&self, listener: &TcpListener, tcp: TcpSettings) {
        listener.set_options(options(tcp));
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<Accepted<TcpStream>> {
        let io = listener.accept().await?;
        let TcpInfo { local, remote, interface, .. } = io.info().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Accepted { io, local, remote, interface })
    }

    fn connect(
        &self,
        remote: SocketAddr,
        timeout: Duration,
        tcp: TcpSettings,
    ) -> impl Future<Output = io::Result<TcpStream>> + 'static {
        let options = TcpOptions { connect_timeout: timeout, ..options(tcp) };
        TcpStream::connect(remote, None, options)
    }

    fn poll_read(
        io: &mut TcpStream,
        cx: &mut Context<'_>,
        limit: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        io.poll_read_chunks(cx, limit, take)
    }

    fn abort(&self, io: TcpStream) {
        io.abort();
    }

    fn poll_splice(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Option<Poll<io::Result<usize>>> {
        Some(from.poll_splice(cx, to))
    }

    #[expect(clippy::manual_async_fn, reason = "the future must not borrow the runtime")]
    fn echo(&self, remote: SocketAddr, payload: Vec<u8>) -> impl Future<Output = io::Result<()>> + 'static {
        async move {
            let any = match remote {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0), None)
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
            socket.send_to(&payload, remote).await?;
            let mut answer = vec![0; payload.len() + 1];
            loop {
                let (length, from) = socket.recv_from(&mut answer).await?;
                if from == remote && answer[..length] == payload[..] {
                    return Ok(());
                }
            }
        }
    }
}

impl Runtime for Sockets {
    type Sleep = socket::Sleep;

    fn now(&self) -> Instant {
        socket::now()
    }

    fn random(&self) -> u64 {
        socket::random()
    }

    fn sleep(&self, time: Duration) -> socket::Sleep {
        socket::sleep(time)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        socket::spawn(task);
    }
}
