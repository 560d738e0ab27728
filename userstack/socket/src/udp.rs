//! UDP for tasks: [`UdpSocket`], for what the node itself says and answers. Sessions that are forwarded never come here.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use stack::{InterfaceId, UdpError, UdpKey};

use crate::error;
use crate::orphans::Orphan;
use crate::ready::CoreNumber;
use crate::scope::{self, Scope};
use crate::waiters::Wait;

/// A bound UDP socket; dropping it closes it.
#[derive(Debug)]
pub struct UdpSocket {
    core: CoreNumber,
    key: UdpKey,
}

impl UdpSocket {
    /// Binds to `local`, on one interface or on all.
    ///
    /// # Panics
    /// Outside of a core's scope.
    pub fn bind(local: SocketAddr, interface: Option<InterfaceId>) -> Result<Self, UdpError> {
        scope::with("UdpSocket::bind", |scope| {
            let key = scope.stack.borrow_mut().udp_bind(local, interface)?;
            Ok(Self { core: scope.number, key })
        })
    }

    /// One datagram: the bytes written to `into` and the sender. What does not fit is cut off.
    pub async fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, remote, _) = self.recv_with_destination(into).await?;
        Ok((bytes, remote))
    }

    /// As [`UdpSocket::recv_from`], with the address that the datagram was sent to.
    pub async fn recv_with_destination(
        &self,
        into: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        poll_fn(|context| {
            self.poll_on("UdpSocket::recv_from", Wait::Receive(self.key), context, |scope| {
                scope.stack.borrow_mut().udp_receive(self.key, into)
            })
        })
        .await
    }

    /// Sends one datagram.
    pub async fn send_to(&self, payload: &[u8], remote: SocketAddr) -> io::Result<()> {
        poll_fn(|context| {
            self.poll_on("UdpSocket::send_to", Wait::Send(self.key), context, |scope| {
                scope.stack.borrow_mut().udp_send(self.key, payload, remote, scope.now())
            })
        })
        .await
    }

    fn poll_on<T>(
        &self,
        call: &str,
        wait: Wait,
        context: &Context<'_>,
        ask: impl FnOnce(&Scope) -> Poll<Result<T, UdpError>>,
    ) -> Poll<io::Result<T>> {
        scope::with_core(call, self.core, |scope| match ask(scope) {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(error::of_udp)),
            Poll::Pending => {
                scope.wait(wait, context);
                Poll::Pending
            }
        })
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        scope::release(self.core, Orphan::Datagrams(self.key));
    }
}
