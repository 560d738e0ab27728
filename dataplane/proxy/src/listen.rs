//! Listening sockets and the connections they take. One socket serves an address and port for every class; which
//! listener a connection belongs to follows from where it came from.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{Engine, Open};
use crate::fault::Fault;
use crate::gate::{Closing, Gate, Ticket};
use crate::relay::{End, relay};
use crate::runtime::{Accepted, Runtime, let_others};
use crate::table::{Bind, Transport};
use crate::upstream::Upstream;
use crate::view::{Listener, Serves};

/// After a failed accept: long enough not to spin on an error that stays.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that a listener takes before others have their turn: each makes a task, some three microseconds, and a
/// thousand that arrive at once do not hold the core.
const ACCEPTS_A_TURN: u64 = 16;

/// Opens the sockets that the table wants and closes those it does not. What cannot be opened is counted and tried
/// again with the next table.
pub(crate) fn open_and_close<R: Runtime>(engine: &Rc<Engine<R>>) {
    let wanted = engine.wanted_binds();
    engine.binds.borrow_mut().retain(|bind, _| wanted.contains_key(bind));
    for (bind, tcp) in wanted {
        if let Some(open) = engine.binds.borrow_mut().get_mut(&bind) {
            if open.tcp != tcp {
                engine.runtime.retune(&open.socket, tcp);
                open.tcp = tcp;
            }
            continue;
        }
        let Ok(socket) = engine.runtime.listen(bind.address, bind.port, tcp) else {
            engine.listen_failures.add(1);
            continue;
        };
        let (gate, socket) = (Rc::<Gate>::default(), Rc::new(socket));
        engine.runtime.spawn(accept(Rc::clone(engine), Rc::clone(&socket), gate.ticket()));
        let open = Open { socket, tcp, closing: Closing(gate) };
        engine.binds.borrow_mut().insert(bind, open);
    }
}

async fn accept<R: Runtime>(engine: Rc<Engine<R>>, socket: Rc<R::Listener>, ticket: Ticket) {
    for taken in 1_u64.. {
        if taken % ACCEPTS_A_TURN == 0 {
            let_others().await;
        }
        match until_closed(&ticket, engine.runtime.accept(&socket)).await {
            None => return,
            Some(Ok(accepted)) => on_accepted(&engine, accepted),
            Some(Err(_)) => {
                if until_closed(&ticket, engine.runtime.sleep(ACCEPT_PAUSE)).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// `None` when the gate closes first.
async fn until_closed<T>(ticket: &Ticket, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if ticket.poll_closed(cx) {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

fn on_accepted<R: Runtime>(engine: &Rc<Engine<R>>, accepted: Accepted<R::Io>) {
    let Accepted { io, local, remote, interface } = accepted;
    let bind = Bind { transport: Transport::Tcp, address: local.ip().to_canonical(), port: local.port() };
    let Some(listener) = engine.listener(bind, interface, remote.ip()) else {
        engine.unclaimed.add(1);
        return engine.runtime.abort(io);
    };
    if !listener.share.admits(listener.gate.open()) {
        listener.counters.refused.add(1);
        return engine.runtime.abort(io);
    }
    listener.counters.accepted.add(1);
    let ticket = listener.gate.ticket();
    let is_http = matches!(&*listener.serves.borrow(), Serves::Http { .. });
    let engine = Rc::clone(engine);
    let runtime = engine.runtime.clone();
    if is_http {
        runtime.spawn(crate::http::serve(engine, listener, ticket, io, remote));
    } else {
        runtime.spawn(stream(engine, listener, ticket, io));
    }
}

/// A TCP connection: one backend by weight, one endpoint, then bytes both ways. What cannot be connected is reset.
async fn stream<R: Runtime>(engine: Rc<Engine<R>>, listener: Rc<Listener<R>>, ticket: Ticket, client: R::Io) {
    // Held to the end, so that draining knows of the connection; a relay is not cut by it.
    let _ticket = ticket;
    match carry(&engine, &listener, client).await {
        Ok(()) => {}
        Err((fault, client)) => {
            engine.count(fault);
            engine.runtime.abort(client);
        }
    }
}

async fn carry<R: Runtime>(
    engine: &Rc<Engine<R>>,
    listener: &Rc<Listener<R>>,
    client: R::Io,
) -> Result<(), (Fault, R::Io)> {
    let backends = match &*listener.serves.borrow() {
        Serves::Tcp(backends) => Rc::clone(backends),
        Serves::Http { .. } | Serves::Udp { .. } => return Err((Fault::NoRoute, client)),
    };
    let chosen = backends.draw(engine.runtime.random()).and_then(|at| backends.entries[at].cluster.clone());
    let Some(cluster) = chosen else { return Err((Fault::InvalidBackend, client)) };
    let Some(endpoint) = cluster.pick(&engine.runtime) else { return Err((Fault::NoEndpoint, client)) };
    drop(backends);
    endpoint.in_flight.set(endpoint.in_flight.get() + 1);
    let upstream = Upstream {
        runtime: &engine.runtime,
        limits: &engine.config.limits,
        cluster: &cluster,
        endpoint: &endpoint,
    };
    let result = match upstream.connect().await {
        Ok(backend) => {
            let (down, up) = (End::new(client, Bytes::new()), End::new(backend, Bytes::new()));
            let carried = relay(engine, down, up, engine.config.limits.relay_idle).await;
            listener.counters.relayed_up_bytes.add(carried.to_backend);
            listener.counters.relayed_down_bytes.add(carried.to_client);
            if let Some((client, backend)) = carried.broken {
                engine.runtime.abort(client);
                engine.runtime.abort(backend);
            }
            Ok(())
        }
        Err(fault) => Err((fault, client)),
    };
    endpoint.in_flight.set(endpoint.in_flight.get() - 1);
    result
}
