//! A client's connection while a request is served on it: the request's body reads from it, wherever that is driven, and
//! the response is written to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use hyper::body::{Frame, SizeHint};

use super::decoder::{Decoder, Step};
use super::framing::Framing;
use super::wire::Wire;
use crate::runtime::Network;

/// RFC 9110, section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Shared by the connection's task and the request body that it lends out. Nothing is borrowed between two polls.
pub(crate) struct Conn<R: Network> {
    pub wire: RefCell<Wire<R>>,
    /// Of the request that is served.
    decoder: RefCell<Decoder>,
    /// The client sends its body only once it is told to.
    awaits_continue: Cell<bool>,
}

/// A request's body as the backend's side reads it.
pub(crate) struct Intake<R: Network>(Rc<Conn<R>>);

/// The body ended early, or was malformed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cut;

impl<R: Network> Conn<R> {
    pub fn new(wire: Wire<R>) -> Rc<Self> {
        Rc::new(Self {
            wire: RefCell::new(wire),
            decoder: RefCell::new(Decoder::new(Framing::None)),
            awaits_continue: Cell::new(false),
        })
    }

    /// A request begins whose body is framed so. `None`: it has no body.
    pub fn begin(self: &Rc<Self>, framing: Framing, expects_continue: bool) -> Option<Intake<R>> {
        let decoder = Decoder::new(framing);
        let has_body = !decoder.is_done();
        self.decoder.replace(decoder);
        // What has arrived already was not waited with.
        let arrived = !self.wire.borrow().read.is_empty();
        self.awaits_continue.set(expects_continue && has_body && !arrived);
        has_body.then(|| Intake(Rc::clone(self)))
    }

    /// The request has been read to its end.
    pub fn is_read(&self) -> bool {
        self.decoder.borrow().is_done()
    }

    /// Whether the client still waits to be told to send its body.
    pub fn awaits_continue(&self) -> bool {
        self.awaits_continue.get()
    }

    /// The next piece of the request's body.
    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut wire = self.wire.borrow_mut();
        if self.awaits_continue.take() {
            wire.append().put_slice(CONTINUE);
            // What does not go out now goes with the response; a broken connection shows when it is read.
            let _ = wire.poll_drain(cx);
        }
        let mut decoder = self.decoder.borrow_mut();
        loop {
            let ended = wire.has_ended();
            match decoder.next(&mut wire.read, ended) {
                Step::More => {
                    if ready!(wire.poll_fill(cx)).is_err() {
                        return Poll::Ready(Step::Broken);
                    }
                }
                step => return Poll::Ready(step),
            }
        }
    }

    /// Whether the client has gone while its request is served. Bytes of a next request wait unread.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        if !self.is_read() {
            // Its body's reader will see it.
            return false;
        }
        let mut wire = self.wire.borrow_mut();
        if wire.read.is_empty() && wire.poll_fill(cx).is_pending() {
            return false;
        }
        wire.has_ended()
    }
}

impl<R: Network> Intake<R> {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Poll::Ready(match ready!(self.0.poll_body(cx)) {
            Step::Data(data) => Some(Ok(Frame::data(data))),
            Step::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Step::Broken => Some(Err(Cut)),
            Step::Done | Step::More => None,
        })
    }

    pub fn is_end_stream(&self) -> bool {
        self.0.is_read()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.0.decoder.borrow().exact().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
