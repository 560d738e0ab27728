//! A request's body on its way to the backend: streamed, counted, and given up when it stops arriving.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use socket::Instant;

use crate::fault::Fault;
use crate::http1::Intake;
use crate::runtime::Runtime;

pub(crate) enum RequestBody<R: Runtime> {
    Empty,
    Stream(Stream<R>),
}

/// Where a request's body comes from.
pub(crate) enum ClientBody<R: Runtime> {
    H1(Intake<R>),
    H2(Incoming),
}

pub(crate) struct Stream<R: Runtime> {
    incoming: ClientBody<R>,
    idle: IdleWatch<R>,
    progress: Rc<Progress>,
}

/// What the exchange learns of its request's body, which the backend's side owns meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub bytes: Cell<u64>,
    pub fault: Cell<Option<Fault>>,
}

impl<R: Runtime> RequestBody<R> {
    pub fn stream(incoming: ClientBody<R>, runtime: R, idle: Duration, progress: Rc<Progress>) -> Self {
        Self::Stream(Stream { incoming, idle: IdleWatch::new(runtime, idle), progress })
    }
}

impl<R: Runtime> ClientBody<R> {
    /// `Err`: the client went away, or sent what is no body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match self {
            Self::H1(intake) => intake.poll_frame(cx).map_err(|_cut| ()),
            Self::H2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|_| ()),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(intake) => intake.is_end_stream(),
            Self::H2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(intake) => intake.size_hint(),
            Self::H2(incoming) => incoming.size_hint(),
        }
    }
}

impl<R: Runtime> Body for RequestBody<R> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let stream = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Stream(stream) => stream,
        };
        let fault = match stream.incoming.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(chunk) = frame.data_ref() {
                    stream.progress.bytes.set(stream.progress.bytes.get() + chunk.len() as u64);
                }
                stream.idle.on_progress();
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(()))) => Fault::ClientGone,
            Poll::Pending => match stream.idle.poll_expired(cx) {
                Poll::Ready(()) => Fault::RequestBodyIdle,
                Poll::Pending => return Poll::Pending,
            },
        };
        stream.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

/// Fires when nothing happened for a while. It arms its timer only once something has to wait, and then moves it only
/// when it fires: a body that keeps flowing costs one clock reading a wait.
pub(crate) struct IdleWatch<R: Runtime> {
    runtime: R,
    limit: Duration,
    quiet_since: Option<Instant>,
    timer: Option<R::Sleep>,
}

impl<R: Runtime> IdleWatch<R> {
    pub fn new(runtime: R, limit: Duration) -> Self {
        Self { runtime, limit, quiet_since: None, timer: None }
    }

    pub fn on_progress(&mut self) {
        self.quiet_since = None;
    }

    /// To be called while there is nothing to do; ready when that has lasted for the limit.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.quiet_since.get_or_insert_with(|| self.runtime.now());
        let timer = self.timer.get_or_insert_with(|| self.runtime.sleep(self.limit));
        while Pin::new(&mut *timer).poll(cx).is_ready() {
            let quiet = self.runtime.now().since(since);
            if quiet >= self.limit {
                return Poll::Ready(());
            }
            *timer = self.runtime.sleep(self.limit - quiet);
        }
        Poll::Pending
    }
}
