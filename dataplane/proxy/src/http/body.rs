//! A response's body on its way to the client. For HTTP/1.1 it drives the backend's connection, and gives it back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::flight::Flight;
use crate::fault::Fault;
use crate::runtime::Runtime;
use crate::upstream::{Carrier, H1, IdleWatch, StreamSlot};

/// Ends the request's accounting when it is dropped.
pub(crate) struct ResponseBody<R: Runtime> {
    source: Source<R>,
    idle: Option<IdleWatch<R>>,
    /// When the whole request must have ended.
    deadline: Option<R::Sleep>,
    flight: Option<Flight<R>>,
    /// The body has failed; said at the next poll, so that what came before is sent first.
    failed: Option<Fault>,
}

enum Source<R: Runtime> {
    Fixed(Option<Bytes>),
    /// Gone when it was read to its end.
    H1(Option<Box<H1<R>>>),
    H2 {
        incoming: Incoming,
        _slot: StreamSlot<R>,
    },
}

impl<R: Runtime> ResponseBody<R> {
    pub fn fixed(bytes: Bytes, flight: Option<Flight<R>>) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Fixed(bytes), idle: None, deadline: None, flight, failed: None }
    }

    pub fn relay(carrier: Carrier<R>, deadline: Option<R::Sleep>, flight: Flight<R>) -> Self {
        let engine = &flight.client().engine;
        let idle = Some(IdleWatch::new(engine.runtime.clone(), engine.config.limits.body_idle));
        let source = match carrier {
            Carrier::H1(link) => Source::H1(Some(link)),
            Carrier::H2 { incoming, slot } => Source::H2 { incoming, _slot: slot },
        };
        let mut body = Self { source, idle, deadline, flight: Some(flight), failed: None };
        if body.is_end_stream() {
            body.release();
        }
        body
    }

    /// The response is complete: the connection may serve others.
    fn release(&mut self) {
        let Source::H1(link) = &mut self.source else { return };
        if let (Some(link), Some(flight)) = (link.take(), &self.flight) {
            let engine = &flight.client().engine;
            link.release(engine.runtime.now(), engine.config.limits.idle_per_endpoint);
        }
    }

    /// hyper's HTTP/2 drops what it has not sent yet when a body fails: the failure waits one poll.
    fn fail<T>(&mut self, fault: Fault, cx: &Context<'_>) -> Poll<T> {
        if let Some(flight) = &self.flight {
            flight.client().engine.count(fault);
        }
        self.failed = Some(fault);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: Runtime> Source<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::H1(None) => Poll::Ready(None),
            Self::H1(Some(link)) => link.poll_frame(cx),
            Self::H2 { incoming, .. } => Pin::new(incoming).poll_frame(cx).map_err(|_| Fault::UpstreamClosed),
        }
    }
}

impl<R: Runtime> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if let Some(fault) = this.failed {
            return Poll::Ready(Some(Err(fault)));
        }
        match this.source.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(chunk), Some(flight)) = (frame.data_ref(), &mut this.flight) {
                    flight.response_bytes += chunk.len() as u64;
                }
                if let Some(idle) = &mut this.idle {
                    idle.on_progress();
                }
                if this.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(fault))) => this.fail(fault, cx),
            Poll::Pending => {
                if this.deadline.as_mut().is_some_and(|deadline| Pin::new(deadline).poll(cx).is_ready()) {
                    return this.fail(Fault::RequestTimeout, cx);
                }
                match this.idle.as_mut().map(|idle| idle.poll_expired(cx)) {
                    Some(Poll::Ready(())) => this.fail(Fault::ResponseBodyIdle, cx),
                    _ => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Fixed(bytes) => bytes.is_none(),
            Source::H1(link) => link.as_ref().is_none_or(|link| link.is_end_stream()),
            Source::H2 { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::H1(link) => {
                link.as_ref().map_or_else(|| SizeHint::with_exact(0), |link| link.size_hint())
            }
            Source::H2 { incoming, .. } => incoming.size_hint(),
        }
    }
}
