//! Admission of datagram sessions: the first packet is judged here, the stack carries the rest.

use std::rc::Rc;

use socket::{Admission, Discard, FirstDatagram, Forward, Instant, Rewrite};

use crate::engine::Engine;
use crate::proxy::Proxy;
use crate::runtime::Runtime;
use crate::table::{Bind, Transport};
use crate::view::{Backends, Serves};

impl<R: Runtime> Admission for Proxy<R> {
    fn admit(&mut self, first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        let engine = &self.0;
        let to = first.destination;
        let bind = Bind { transport: Transport::Udp, address: to.ip().to_canonical(), port: to.port() };
        let Some(listener) = engine.listener(bind, Some(first.interface), first.source.ip()) else {
            engine.datagrams_unclaimed.add(1);
            return Forward::Drop(Discard::DatagramNoListener);
        };
        let (backends, idle, version) = match &*listener.serves.borrow() {
            Serves::Udp { backends, idle, version } => (Rc::clone(backends), *idle, *version),
            Serves::Http { .. } | Serves::Tcp(_) => {
                engine.datagrams_unclaimed.add(1);
                return Forward::Drop(Discard::DatagramNoListener);
            }
        };
        match choose(engine, &backends, first) {
            Ok(Chosen { endpoint, tag, new }) => {
                if new {
                    listener.counters.sessions.add(1);
                }
                Forward::Rewrite(Rewrite { endpoint, idle, version, tag })
            }
            Err(discard) => {
                listener.counters.datagrams_refused.add(1);
                Forward::Drop(discard)
            }
        }
    }
}

struct Chosen {
    endpoint: std::net::SocketAddr,
    tag: u32,
    new: bool,
}

/// A session stays where it goes as long as that endpoint is listed, ready and has weight; else it is drawn anew.
fn choose<R: Runtime>(
    engine: &Engine<R>,
    backends: &Backends<R>,
    first: &FirstDatagram<'_>,
) -> Result<Chosen, Discard> {
    if let Some(current) = first.current {
        for backend in backends.entries.iter().filter(|backend| backend.weight > 0) {
            let Some(cluster) = &backend.cluster else { continue };
            let stays = |endpoint: &&Rc<crate::upstream::Endpoint<R>>| {
                endpoint.address == current && endpoint.is_ready()
            };
            if cluster.endpoints().iter().find(stays).is_some() {
                return Ok(Chosen { endpoint: current, tag: backend.tag, new: false });
            }
        }
    }
    let at = backends.draw(engine.runtime.random()).ok_or(Discard::DatagramNoBackend)?;
    let backend = &backends.entries[at];
    let cluster = backend.cluster.as_ref().ok_or(Discard::DatagramNoBackend)?;
    let endpoint = cluster.pick_for_datagrams(&engine.runtime, first).ok_or(Discard::DatagramNoEndpoint)?;
    Ok(Chosen { endpoint, tag: backend.tag, new: first.current.is_none() })
}
