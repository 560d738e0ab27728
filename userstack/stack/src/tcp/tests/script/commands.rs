//! What the user does in a script, and what of the world around changes.

use std::net::SocketAddr;
use std::task::Poll;

use super::Outcome;
use super::notation::{Endpoint, duration, number};
use super::runner::{Flow, LISTENING_PORT, Runner, expect_equal};
use super::segments::{OTHER, pattern};
use crate::tcp::boundary::Refused;
use crate::tcp::tests::link::Host;
use crate::tcp::{FlowKey, ListenSpec, TcpError, TcpEvent};
use crate::{Instant, Prefix};

impl Runner {
    pub fn command(&mut self, words: &[String]) -> Outcome {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["set", name, value] => self.set(name, value),
            ["listen"] => self.listen(LISTENING_PORT),
            ["listen", port] => self.listen(number(port)?),
            ["unlisten"] => self.unlisten(),
            ["connect", ref to @ ..] => self.connect(to),
            ["connected", ref expected @ ..] => self.connected(expected),
            ["accept"] => self.accept(""),
            ["accept", "as", name] => self.accept(name),
            ["accept", "wait"] => self.accept_nothing(),
            ["use", name] => {
                self.current = name.into();
                self.flow().map(|_| ())
            }
            ["write", bytes] => self.write(number(bytes)?, number(bytes)?),
            ["write", bytes, "->", taken] => self.write(number(bytes)?, number(taken)?),
            ["read", bytes, "->", taken, "other"] => self.read(number(bytes)?, taken, OTHER),
            ["read", bytes, "->", taken] => self.read(number(bytes)?, taken, 0),
            ["flushed", expected] => {
                let flow = self.flow()?.key;
                expect_poll("flushed", self.host.tcp.flushed(flow).map_ok(|()| "yes"), &[expected])
            }
            ["shutdown"] => self.with_flow(|host, flow, now| host.tcp.shutdown(flow, now)),
            ["close"] => self.with_flow(|host, flow, now| host.tcp.close(flow, now)),
            ["abort"] => self.with_flow(|host, flow, now| host.tcp.abort(flow, now)),
            ["event", name] => self.expect_event(name),
            ["icmp", kind, ref rest @ ..] => self.icmp(kind, rest),
            ["route", "gone"] => self.refuse(Some(Refused::NoRoute)),
            ["route", "unresolved"] => self.refuse(Some(Refused::Resolving)),
            ["route", "back"] => self.refuse(None),
            ["device", "full"] => self.take_segments(0),
            ["device", "free"] => self.take_segments(usize::MAX),
            ["burst", "begins"] => {
                self.burst = Some(Vec::new());
                Ok(())
            }
            ["burst", "ends"] => {
                let burst = self.burst.take().ok_or("no burst has begun")?;
                self.host.receive_together(&burst, self.now);
                Ok(())
            }
            ["wait", time] => self.wait(duration(time)?),
            [name, expected] => self.measure(name, expected),
            _ => Err("no such command".into()),
        }
    }

    // ---- listeners and connects ----

    fn listen(&mut self, port: u16) -> Outcome {
        let len = if self.host.address.is_ipv6() { 128 } else { 32 };
        let addresses = Prefix { address: self.host.address, len };
        let spec = ListenSpec { addresses, port: Some(port), interface: None };
        let key = self.host.tcp.listen(spec, self.options.clone()).map_err(|error| format!("{error:?}"))?;
        self.listener = Some(key);
        self.listeners.push(key);
        // Segments that do not say otherwise are to the listener again.
        self.peers.values_mut().for_each(|peer| peer.local_port = None);
        Ok(())
    }

    fn unlisten(&mut self) -> Outcome {
        self.host.tcp.unlisten(self.listener.ok_or("no listener")?, self.now);
        Ok(())
    }

    /// `connect [port N] [host N] [as NAME] [-> WHY NOT]`
    fn connect(&mut self, to: &[&str]) -> Outcome {
        let (mut endpoint, mut name, mut expected) = (Endpoint::default(), "", "yes");
        for pair in to.chunks(2) {
            match pair {
                ["port", port] => endpoint.port = number(port)?,
                ["host", host] => endpoint.host = number(host)?,
                ["as", other] => name = other,
                ["->", refused] => expected = refused,
                _ => return Err("connect [port N] [host N] [as NAME] [-> WHY NOT]".into()),
            }
        }
        let remote = SocketAddr::new(self.peer_address(endpoint.host), endpoint.port);
        let local = self.host.address;
        let key = self.host.tcp.connect(remote, local, self.options.clone(), &mut |_, _| true, self.now);
        let told = match key {
            Ok(key) => {
                let port = self.host.tcp.info(key).ok_or("gone")?.local.port();
                self.peers.entry(endpoint).or_default().local_port = Some(port);
                self.hold(name, key);
                "yes".into()
            }
            Err(refused) => format!("{refused:?}").to_lowercase(),
        };
        expect_equal("connect", told.as_str(), expected)
    }

    fn connected(&mut self, expected: &[&str]) -> Outcome {
        let flow = self.flow()?.key;
        expect_poll("connected", self.host.tcp.connected(flow).map_ok(|()| "yes"), expected)
    }

    fn accept(&mut self, name: &str) -> Outcome {
        match self.host.tcp.accept(self.listener.ok_or("no listener")?) {
            Poll::Ready(Ok(key)) => {
                self.hold(name, key);
                Ok(())
            }
            other => Err(format!("accept: {other:?}")),
        }
    }

    fn accept_nothing(&mut self) -> Outcome {
        match self.host.tcp.accept(self.listener.ok_or("no listener")?) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(key)) => {
                self.held.push(key);
                Err("a connection waits to be accepted".into())
            }
            other => Err(format!("accept: {other:?}")),
        }
    }

    fn hold(&mut self, name: &str, key: FlowKey) {
        self.current = name.into();
        self.held.push(key);
        self.flows.insert(name.into(), Flow { key, written: 0, read: 0 });
    }

    // ---- text ----

    fn write(&mut self, bytes: u32, taken: usize) -> Outcome {
        let Flow { key, written, .. } = *self.flow()?;
        let text: Vec<u8> = (0..bytes).map(|offset| pattern(written + offset)).collect();
        match self.host.tcp.write(key, &[&text], self.now) {
            Poll::Ready(Ok(wrote)) => {
                self.flow()?.written += wrote as u32;
                expect_equal("written", wrote, taken)
            }
            Poll::Pending => expect_equal("written", 0, taken),
            Poll::Ready(Err(error)) => Err(format!("write: {error:?}")),
        }
    }

    fn read(&mut self, bytes: usize, expected: &str, other: u8) -> Outcome {
        let Flow { key, mut read, .. } = *self.flow()?;
        let mut into = vec![0; bytes];
        let answer = self.host.tcp.read(key, &mut into, self.now);
        if let Poll::Ready(Ok(taken)) = answer {
            for byte in &into[..taken] {
                expect_equal("text read", *byte, pattern(read) ^ other)?;
                read += 1;
            }
            self.flow()?.read = read;
            let taken = if taken == 0 { "end".to_string() } else { taken.to_string() };
            return expect_equal("read", taken.as_str(), expected);
        }
        expect_poll("read", answer.map_ok(|_| ""), &[expected])
    }

    fn with_flow(&mut self, act: impl FnOnce(&mut Host, FlowKey, Instant)) -> Outcome {
        let flow = self.flow()?.key;
        act(&mut self.host, flow, self.now);
        Ok(())
    }

    fn expect_event(&mut self, expected: &str) -> Outcome {
        let told = match self.host.tcp.poll_event() {
            None => "none",
            Some(TcpEvent::Acceptable(_)) => "acceptable",
            Some(TcpEvent::Connected(_)) => "connected",
            Some(TcpEvent::Readable(_)) => "readable",
            Some(TcpEvent::Writable(_)) => "writable",
        };
        expect_equal("event", told, expected)
    }

    // ---- the world below ----

    fn refuse(&mut self, refused: Option<Refused>) -> Outcome {
        self.host.wire.refuse = refused;
        Ok(())
    }

    fn take_segments(&mut self, room: usize) -> Outcome {
        self.transmit();
        self.host.wire.room = room;
        Ok(())
    }
}

fn expect_poll(what: &str, answer: Poll<Result<&str, TcpError>>, expected: &[&str]) -> Outcome {
    let told = match answer {
        Poll::Pending => "wait".to_string(),
        Poll::Ready(Ok(value)) => value.to_string(),
        Poll::Ready(Err(error)) => format!("{error:?}").to_lowercase(),
    };
    expect_equal(what, told.as_str(), expected.first().copied().unwrap_or("yes"))
}
