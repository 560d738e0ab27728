//! TCP for tasks: [`TcpListener`] and [`TcpStream`], keys of the core's stack.
//!
//! Reads and writes copy between the caller's memory and the connection's buffers; nothing is borrowed across an
//! await. One task may wait for each direction of a stream: of two, the last one is woken.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use stack::{
    FlowKey, InterfaceId, ListenError, ListenSpec, ListenerKey, Splice, TcpError, TcpInfo, TcpOptions,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error;
use crate::orphans::Orphan;
use crate::ready::CoreNumber;
use crate::scope::{self, Scope};
use crate::waiters::Wait;

/// Slices that one vectored write looks at; what lies beyond waits for the next one.
const WRITE_SLICES: usize = 32;

/// Accepts connections on the addresses of its [`ListenSpec`]. Dropping it stops that and resets those that nobody
/// accepted; those that were accepted go on.
#[derive(Debug)]
pub struct TcpListener {
    core: CoreNumber,
    key: ListenerKey,
}

impl TcpListener {
    /// # Panics
    /// Outside of a core's scope.
    pub fn bind(spec: ListenSpec, options: TcpOptions) -> Result<Self, ListenError> {
        scope::with("TcpListener::bind", |scope| {
            let key = scope.stack.borrow_mut().tcp_listen(spec, options)?;
            Ok(Self { core: scope.number, key })
        })
    }

    /// What it accepts from now on behaves so.
    ///
    /// # Panics
    /// Outside of its core's scope.
    pub fn set_options(&self, options: TcpOptions) {
        scope::with_core("TcpListener::set_options", self.core, |scope| {
            scope.stack.borrow_mut().tcp_set_options(self.key, options);
        });
    }

    /// The next connection, fully established. One task accepts on a listener.
    ///
    /// # Panics
    /// Outside of its core's scope.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// [`TcpListener::accept`] as a poll.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        scope::with_core("TcpListener::accept", self.core, |scope| {
            let accepted = scope.stack.borrow_mut().tcp_accept(self.key);
            match accepted {
                Poll::Ready(Ok(key)) => Poll::Ready(Ok(TcpStream { core: self.core, key })),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error::of_tcp(error))),
                Poll::Pending => {
                    scope.wait(Wait::Accept(self.key), context);
                    Poll::Pending
                }
            }
        })
    }

    pub fn key(&self) -> ListenerKey {
        self.key
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        scope::release(self.core, Orphan::Listener(self.key));
    }
}

/// One connection. Dropping it closes it: what was written is still delivered, unread bytes make it a reset.
#[derive(Debug)]
pub struct TcpStream {
    core: CoreNumber,
    key: FlowKey,
}

impl TcpStream {
    /// Connects to `remote`, from `local` where one is given, else from the outgoing interface's address.
    /// Dropping the future gives the attempt up.
    ///
    /// # Panics
    /// Outside of a core's scope.
    pub async fn connect(remote: SocketAddr, local: Option<IpAddr>, options: TcpOptions) -> io::Result<Self> {
        let stream = scope::with("TcpStream::connect", |scope| {
            let key = scope.stack.borrow_mut().tcp_connect(remote, local, options, scope.now())?;
            Ok(Self { core: scope.number, key })
        })
        .map_err(error::of_connect)?;
        poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// Our address, as the peer wrote it: on an intercepted connection the original destination.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.info().map(|info| info.local).ok_or_else(not_connected)
    }

    pub fn remote_addr(&self) -> io::Result<SocketAddr> {
        self.info().map(|info| info.remote).ok_or_else(not_connected)
    }

    /// The interface that it arrived on or leaves by.
    pub fn interface(&self) -> Option<InterfaceId> {
        self.info()?.interface
    }

    /// `None`: the connection has ended and the stack has forgotten it.
    ///
    /// # Panics
    /// Outside of its core's scope.
    pub fn info(&self) -> Option<TcpInfo> {
        scope::with_core("TcpStream::info", self.core, |scope| scope.stack.borrow().tcp_info(self.key))
    }

    /// No more will be written: FIN after what is buffered. Reading goes on.
    ///
    /// # Panics
    /// Outside of its core's scope.
    pub fn shutdown(&self) {
        scope::with_core("TcpStream::shutdown", self.core, |scope| {
            scope.stack.borrow_mut().tcp_shutdown(self.key, scope.now());
        });
    }

    /// Resets the connection; what is buffered is lost.
    ///
    /// # Panics
    /// Outside of its core's scope.
    pub fn abort(self) {
        scope::with_core("TcpStream::abort", self.core, |scope| {
            scope.stack.borrow_mut().tcp_abort(self.key, scope.now());
        });
    }

    /// Bytes read into `into`; zero is the end of the stream, unless `into` is empty.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_read_into(context, into)).await
    }

    /// Writes some of `from`: as much as there is room for.
    pub async fn write(&self, from: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_write_from(context, &[from])).await
    }

    /// Writes all of `from`. Dropped before its end, it has written an unknown part.
    pub async fn write_all(&self, mut from: &[u8]) -> io::Result<()> {
        while !from.is_empty() {
            let written = self.write(from).await?;
            from = &from[written..];
        }
        Ok(())
    }

    /// Waits until the peer has acknowledged all that was written.
    pub async fn acknowledged(&self) -> io::Result<()> {
        poll_fn(|context| {
            self.poll_on("TcpStream::acknowledged", Wait::Write(self.key), context, |scope| {
                scope.stack.borrow_mut().tcp_flushed(self.key)
            })
        })
        .await
    }

    /// [`TcpStream::read`] as a poll.
    pub fn poll_read_into(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_on("TcpStream::read", Wait::Read(self.key), context, |scope| {
            scope.stack.borrow_mut().tcp_read(self.key, into, scope.now())
        })
    }

    /// Reads without memory of the caller's in between: `take` is shown the bytes where they lie in the connection's
    /// buffer, at most `limit`, in one slice or two, in order. How many they were; zero is the end of the stream,
    /// unless `limit` is zero. `take` must use no socket: the stack is at work.
    pub fn poll_read_chunks(
        &self,
        context: &mut Context<'_>,
        limit: usize,
        take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if limit == 0 {
            return Poll::Ready(Ok(0));
        }
        self.poll_on("TcpStream::read", Wait::Read(self.key), context, |scope| {
            scope.stack.borrow_mut().tcp_read_with(self.key, limit, take, scope.now())
        })
    }

    /// Moves bytes that wait here to `to`, which sends them: as a read and a write, without memory in between. How many
    /// they were; zero is the end of this stream. Waits for bytes here, or for room there.
    ///
    /// # Panics
    /// Outside of the core of both.
    pub fn poll_splice(&self, context: &mut Context<'_>, to: &Self) -> Poll<io::Result<usize>> {
        assert!(self.core == to.core, "both ends of a splice are of one core");
        scope::with_core("TcpStream::splice", self.core, |scope| {
            let answer = scope.stack.borrow_mut().tcp_splice(self.key, to.key, scope.now());
            let awaited = match answer {
                Ok(Splice::Moved(bytes)) => return Poll::Ready(Ok(bytes)),
                Ok(Splice::Ended) => return Poll::Ready(Ok(0)),
                Ok(Splice::AwaitsText) => Wait::Read(self.key),
                Ok(Splice::AwaitsRoom) => Wait::Write(to.key),
                Err(error) => return Poll::Ready(Err(error::of_tcp(error))),
            };
            scope.wait(awaited, context);
            Poll::Pending
        })
    }

    /// [`TcpStream::write`] as a poll, of several slices.
    pub fn poll_write_from(&self, context: &mut Context<'_>, from: &[&[u8]]) -> Poll<io::Result<usize>> {
        if from.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_on("TcpStream::write", Wait::Write(self.key), context, |scope| {
            scope.stack.borrow_mut().tcp_write(self.key, from, scope.now())
        })
    }

    fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_on("TcpStream::connect", Wait::Write(self.key), context, |scope| {
            scope.stack.borrow_mut().tcp_connected(self.key)
        })
    }

    pub(crate) fn poll_write_slices(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut from: [&[u8]; WRITE_SLICES] = [&[]; WRITE_SLICES];
        let count = slices.len().min(WRITE_SLICES);
        for (place, slice) in from.iter_mut().zip(slices) {
            *place = slice;
        }
        self.poll_write_from(context, &from[..count])
    }

    /// Asks the stack, and waits for the event that it promises when it is not ready.
    fn poll_on<T>(
        &self,
        call: &str,
        wait: Wait,
        context: &Context<'_>,
        ask: impl FnOnce(&Scope) -> Poll<Result<T, TcpError>>,
    ) -> Poll<io::Result<T>> {
        scope::with_core(call, self.core, |scope| match ask(scope) {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(error::of_tcp)),
            Poll::Pending => {
                scope.wait(wait, context);
                Poll::Pending
            }
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        scope::release(self.core, Orphan::Stream(self.key));
    }
}

fn not_connected() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_chunks(context, buffer.remaining(), |bytes| buffer.put_slice(bytes)).map_ok(|_read| ())
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_from(context, &[from])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: the stack sends what is written at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown();
        Poll::Ready(Ok(()))
    }
}
