//! A client's HTTP/1.1 connection, from its first byte to its end or its upgrade: read a head, let the [`exchange`] answer
//! it, write the answer, and so on while both sides want to.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Version, response};
use hyper::body::Body;

use super::answer;
use super::body::ResponseBody;
use super::exchange::exchange;
use super::flight::{Client, Upgrade};
use super::watch::{Notice, Watch};
use crate::fault::Fault;
use crate::http1::{
    Conn, Framing, HeadFinder, Refusal, RequestHead, Step, Wire, may_have_body, put_frame, put_response,
    take_request,
};
use crate::relay::{End, relay};
use crate::runtime::{Runtime, let_others};
use crate::sniff::Prefixed;
use crate::upstream::{ClientBody, IdleWatch};

/// Requests that are served before others have their turn: who sends many at once does not hold the core.
const REQUESTS_A_TURN: u64 = 16;

/// How a connection goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Next {
    /// With another request.
    Request,
    /// Not at all: it ends in order.
    Close,
    /// Nor here, but the client may still be sending, and is not to lose its answer.
    Linger,
    /// Not at all: it broke, or is to look broken.
    Cut,
}

pub(super) async fn serve_http1<R: Runtime>(client: Rc<Client<R>>, io: Prefixed<R::Io>, mut watch: Watch<R>) {
    let (io, first, filled) = io.into_parts();
    let mut connection = Connection {
        conn: Conn::new(Wire::new(io, &first[..filled])),
        finder: HeadFinder::default(),
        spare: HeaderMap::new(),
        client,
    };
    for served in 1_u64.. {
        if served % REQUESTS_A_TURN == 0 {
            let_others().await;
        }
        let next = match connection.next_head(&mut watch).await {
            Ok(Some(head)) => connection.answer(head, &watch).await,
            Ok(None) => Next::Cut,
            Err(refusal) => connection.refuse(refusal).await,
        };
        match next {
            Next::Request => {}
            Next::Close => return connection.shutdown().await,
            Next::Linger => return connection.linger().await,
            Next::Cut => return,
        }
        if let Some(upgrade) = connection.client.upgrade.take() {
            return connection.tunnel(upgrade).await;
        }
    }
}

/// What a client said that is only heard out.
enum Heard {
    Bytes(usize),
    End,
    Nothing,
}

struct Connection<R: Runtime> {
    conn: Rc<Conn<R>>,
    finder: HeadFinder,
    /// The map of the last message, to be used again.
    spare: HeaderMap,
    client: Rc<Client<R>>,
}

/// What of a request its answer depends on.
#[derive(Copy, Clone)]
struct Asked {
    version: Version,
    to_head: bool,
    keep_alive: bool,
    takes_trailers: bool,
}

impl<R: Runtime> Connection<R> {
    /// Waits for a whole head. `None`: the client has ended, was idle for too long, or its listener drains.
    async fn next_head(&mut self, watch: &mut Watch<R>) -> Result<Option<RequestHead>, Refusal> {
        let header_bytes = self.client.engine.config.limits.header_bytes;
        poll_fn(|cx| {
            let mut wire = self.conn.wire.borrow_mut();
            loop {
                let taken = take_request(&mut wire.read, &mut self.finder, header_bytes, &mut self.spare);
                if !matches!(taken, Ok(None)) {
                    return Poll::Ready(taken);
                }
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Pending => break,
                }
            }
            match watch.poll(&self.client, cx) {
                Notice::None => Poll::Pending,
                Notice::Drain | Notice::Idle => Poll::Ready(Ok(None)),
            }
        })
        .await
    }

    async fn answer(&mut self, head: RequestHead, watch: &Watch<R>) -> Next {
        let RequestHead { parts, framing, keep_alive, expects_continue, takes_trailers } = head;
        let asked = Asked {
            version: parts.version,
            to_head: parts.method == Method::HEAD,
            keep_alive,
            takes_trailers,
        };
        let body = self.conn.begin(framing, expects_continue).map(ClientBody::H1);
        let mut answer = pin!(exchange(Rc::clone(&self.client), parts, body));
        let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                if self.conn.poll_gone(cx) {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                }
            }
        })
        .await;
        let Some(answer) = answer else { return Next::Cut };
        let asked = Asked { keep_alive: asked.keep_alive && !watch.is_draining(), ..asked };
        match self.send(answer, asked).await {
            Next::Request if !self.conn.is_read() => self.skip_body().await,
            Next::Close if !self.conn.is_read() || !self.conn.wire.borrow().read.is_empty() => Next::Linger,
            next => next,
        }
    }

    /// Writes an answer, head and body.
    async fn send(&mut self, answer: Response<ResponseBody<R>>, asked: Asked) -> Next {
        let (head, mut body) = answer.into_parts();
        let framing = framing(&head, &body, asked);
        // Who was not told to go on will not be now, and may or may not send its body (RFC 9110, section 10.1.1).
        let stays = asked.keep_alive && framing != Framing::UntilClose && !self.conn.awaits_continue();
        let next = if stays { Next::Request } else { Next::Close };
        // An interim answer may still wait to be written.
        if poll_fn(|cx| self.conn.wire.borrow_mut().poll_drain(cx)).await.is_err() {
            return Next::Cut;
        }
        self.put_head(head, framing, asked, stays);
        let mut done = framing == Framing::None;
        poll_fn(|cx| self.poll_send(&mut body, framing, asked, &mut done, cx))
            .await
            .map_or(Next::Cut, |()| next)
    }

    fn put_head(&mut self, mut head: response::Parts, framing: Framing, asked: Asked, stays: bool) {
        head.version = asked.version;
        let connection = match (stays, asked.version) {
            _ if head.status == http::StatusCode::SWITCHING_PROTOCOLS => None,
            (true, Version::HTTP_10) => Some("keep-alive"),
            (false, Version::HTTP_11) => Some("close"),
            _ => None,
        };
        put_response(self.conn.wire.borrow_mut().begin(), &head, framing, connection);
        self.spare = head.headers;
        self.spare.clear();
    }

    /// Moves the body on as far as both sides go. Head and first piece leave in one write.
    fn poll_send(
        &self,
        body: &mut ResponseBody<R>,
        framing: Framing,
        asked: Asked,
        done: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let mut waits = false;
            if !*done && self.conn.wire.borrow().has_room() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => waits = true,
                    Poll::Ready(Some(Err(fault))) => return Poll::Ready(Err(fault)),
                    Poll::Ready(frame) => {
                        let frame = frame.and_then(Result::ok);
                        // Nobody reads trailers who did not ask for them: they are dropped, and the body ends there.
                        let frame = frame.filter(|frame| frame.is_data() || asked.takes_trailers);
                        *done = put_frame(&mut *self.conn.wire.borrow_mut(), framing, frame);
                    }
                }
            }
            let written = self.conn.wire.borrow_mut().poll_drain(cx);
            match written {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Fault::ClientGone)),
                Poll::Ready(Ok(())) if *done => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if !waits => {}
                _ if self.conn.poll_gone(cx) => return Poll::Ready(Err(Fault::ClientGone)),
                _ => return Poll::Pending,
            }
        }
    }

    /// Answers what is no request.
    async fn refuse(&mut self, refusal: Refusal) -> Next {
        let fault = match refusal {
            Refusal::Malformed => Fault::Malformed,
            Refusal::TooLarge => Fault::HeadTooLarge,
        };
        self.client.engine.count(fault);
        let answer = answer::fault(fault, false).map(|text: Bytes| ResponseBody::fixed(text, None));
        let asked =
            Asked { version: Version::HTTP_11, to_head: false, keep_alive: false, takes_trailers: false };
        match self.send(answer, asked).await {
            Next::Cut => Next::Cut,
            _ => Next::Linger,
        }
    }

    /// The connection is the client's and the backend's from now on.
    async fn tunnel(self, upgrade: Upgrade<R>) {
        let Upgrade { tunnel, mut flight } = upgrade;
        let Some(conn) = Rc::into_inner(self.conn) else { return };
        let (io, read) = conn.wire.into_inner().into_parts();
        let up = End::new(tunnel.io, tunnel.read);
        let carried = relay(&self.client.engine, End::new(io, read), up, None).await;
        flight.response_bytes += carried.to_client;
    }

    /// The answer came before the request's body had ended: what is left of it is read and dropped.
    async fn skip_body(&self) -> Next {
        let whole = self.patiently(|cx| {
            self.conn.poll_body(cx).map(|step| match step {
                Step::Data(data) => Heard::Bytes(data.len()),
                Step::Trailers(_) | Step::Done | Step::More => Heard::End,
                Step::Broken => Heard::Nothing,
            })
        });
        if whole.await { Next::Request } else { Next::Linger }
    }

    /// Ends our side.
    async fn shutdown(&self) {
        // It ends either way.
        let _ = poll_fn(|cx| self.conn.wire.borrow_mut().poll_shutdown(cx)).await;
    }

    /// Ends our side, and reads on for a while what the client still sends: closing with bytes unread would reset the
    /// connection, and the client might lose its answer (RFC 9112, section 9.6).
    async fn linger(&self) {
        self.shutdown().await;
        self.patiently(|cx| {
            let mut wire = self.conn.wire.borrow_mut();
            wire.read.clear();
            wire.poll_fill(cx).map(|read| match read {
                Ok(bytes @ 1..) => Heard::Bytes(bytes),
                Ok(0) => Heard::End,
                Err(_) => Heard::Nothing,
            })
        })
        .await;
    }

    /// Hears the client out, within the limits of a lingering close. True: to the end.
    async fn patiently(&self, mut hear: impl FnMut(&mut Context<'_>) -> Poll<Heard>) -> bool {
        let (runtime, limits) = (&self.client.engine.runtime, &self.client.engine.config.limits);
        let mut end = runtime.sleep(limits.linger);
        let mut pause = IdleWatch::new(runtime.clone(), limits.linger_idle);
        let mut left = limits.linger_bytes;
        poll_fn(|cx| {
            while let Poll::Ready(heard) = hear(cx) {
                match heard {
                    Heard::Bytes(bytes) => left = left.saturating_sub(bytes as u64),
                    Heard::End => return Poll::Ready(true),
                    Heard::Nothing => return Poll::Ready(false),
                }
                if left == 0 {
                    return Poll::Ready(false);
                }
                pause.on_progress();
            }
            let over = pause.poll_expired(cx).is_ready() || Pin::new(&mut end).poll(cx).is_ready();
            if over { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

/// How the answer's body is delimited: by what is known of it, not by what its fields say.
fn framing<R: Runtime>(head: &response::Parts, body: &ResponseBody<R>, asked: Asked) -> Framing {
    if asked.to_head || !may_have_body(head.status) {
        return Framing::None;
    }
    match body.size_hint().exact() {
        Some(length) => Framing::Length(length),
        None if body.is_end_stream() => Framing::Length(0),
        None if asked.version == Version::HTTP_10 => Framing::UntilClose,
        None => Framing::Chunked,
    }
}
