//! The host under attack: one stack, on a clock that the test moves, whose every frame the test sees.

use std::task::Poll;
use std::time::Duration;

use stack::{
    Config, Defence, Discard, Egress, FlowKey, Full, Instant, InterfaceId, ListenSpec, ListenerKey, Offloads,
    Prefix, Role, Route, Stack, TcpOptions, Verdict,
};

use crate::network::packets::Read;
use crate::network::{DeliverAll, Flat, interface};

pub const LINK: InterfaceId = InterfaceId(0);
/// 10.0.0.1 and 2001:db8::1.
pub const OURS: [u8; 6] = [2, 0, 0, 0, 1, 0];
/// Everything beyond the link goes to 10.0.0.254 or 2001:db8::fe, which the kernel knows.
pub const GATEWAY: [u8; 6] = [2, 0, 0, 0, 9, 9];
pub const PORT: u16 = 80;

#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Egress for Wire {
    fn room(&self, _interface: InterfaceId) -> usize {
        usize::MAX
    }

    fn emit(&mut self, _interface: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full> {
        self.0.push([header, payload[0], payload[1]].concat());
        Ok(())
    }

    fn offloads(&self, _interface: InterfaceId) -> Offloads {
        Offloads::default()
    }
}

/// Takes what is sent and keeps nothing of it.
struct Void;

impl Egress for Void {
    fn room(&self, _interface: InterfaceId) -> usize {
        usize::MAX
    }

    fn emit(&mut self, _interface: InterfaceId, _header: &[u8], _payload: [&[u8]; 2]) -> Result<(), Full> {
        Ok(())
    }

    fn offloads(&self, _interface: InterfaceId) -> Offloads {
        Offloads::default()
    }
}

pub struct Target {
    pub stack: Stack,
    pub now: Instant,
}

/// Options of a test's listener: no keepalive, buffers of a size that the tests know.
pub fn options() -> TcpOptions {
    TcpOptions {
        keepalive: None,
        backlog: 64,
        receive_buffer_bytes: 1 << 20,
        send_buffer_bytes: 1 << 20,
        ..TcpOptions::default()
    }
}

impl Target {
    pub fn new() -> Self {
        Self::with(Config { secret: [7; 32], ..Config::default() })
    }

    pub fn with(config: Config) -> Self {
        let now = Instant::ZERO + Duration::from_secs(3600);
        let mut stack = Stack::new(config, now);
        stack.set_interface(interface(1, 0, Role::Uplink, &["10.0.0.1/24", "2001:db8::1/64"]), now);
        let route =
            |prefix, via: &str| Route { prefix, via: Some(via.parse().unwrap()), interface: LINK, metric: 0 };
        stack.set_routes(&[route(Prefix::ANY_V4, "10.0.0.254"), route(Prefix::ANY_V6, "2001:db8::fe")]);
        for gateway in ["10.0.0.254", "2001:db8::fe"] {
            stack.set_neighbour(LINK, gateway.parse().unwrap(), Some(GATEWAY), now);
        }
        Self { stack, now }
    }

    /// One that listens for everybody on [`PORT`], over both versions of IP; the listener of IPv4.
    pub fn listening(options: TcpOptions) -> (Self, ListenerKey) {
        let mut target = Self::new();
        let listener = target.listen(options);
        (target, listener)
    }

    pub fn listen(&mut self, options: TcpOptions) -> ListenerKey {
        let spec = |addresses| ListenSpec { addresses, port: Some(PORT), interface: None };
        self.stack.tcp_listen(spec(Prefix::ANY_V6), options.clone()).unwrap();
        self.stack.tcp_listen(spec(Prefix::ANY_V4), options).unwrap()
    }

    pub fn hear(&mut self, frame: Vec<u8>) -> Verdict {
        self.stack.handle_packet(LINK, &mut Flat(frame), &mut DeliverAll, self.now)
    }

    /// Hears a frame that must die of `reason`.
    #[track_caller]
    pub fn refuses(&mut self, frame: Vec<u8>, reason: Discard) {
        assert_eq!(self.hear(frame), Verdict::Discarded(reason));
    }

    /// Every frame that it sends now.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut wire = Wire::default();
        while self.stack.poll_transmit(&mut wire, 256, self.now) {}
        while self.stack.poll_event().is_some() {}
        wire.0
    }

    /// The same, seen by nobody.
    pub fn flush(&mut self) {
        while self.stack.poll_transmit(&mut Void, 256, self.now) {}
        while self.stack.poll_event().is_some() {}
    }

    /// Every TCP segment that it sends now.
    pub fn segments(&mut self) -> Vec<Heard> {
        self.frames().iter().filter_map(|frame| Heard::read(frame)).collect()
    }

    /// Lets time pass, and gives every segment sent meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<Heard> {
        let until = self.now + time;
        let mut heard = self.segments();
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            while self.stack.handle_timers(256, self.now) {}
            heard.append(&mut self.segments());
        }
        self.now = until;
        heard
    }

    pub fn count(&self, reason: Discard) -> u64 {
        self.stack.discards().of(reason) + self.stack.late_discards().of(reason)
    }

    pub fn warded(&self, defence: Defence) -> u64 {
        self.stack.defences().of(defence)
    }

    /// The connection that waits longest to be accepted.
    pub fn accept(&mut self, listener: ListenerKey) -> Option<FlowKey> {
        match self.stack.tcp_accept(listener) {
            Poll::Ready(key) => key.ok(),
            Poll::Pending => None,
        }
    }

    pub fn is_alive(&self, flow: FlowKey) -> bool {
        self.stack.tcp_info(flow).is_some_and(|info| info.state != "closed")
    }

    /// What can be read now.
    pub fn read(&mut self, flow: FlowKey) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while let Poll::Ready(Ok(len @ 1..)) = self.stack.tcp_read(flow, &mut part, self.now) {
            all.extend_from_slice(&part[..len]);
        }
        all
    }

    /// Writes `bytes` zeros, as many as are taken, a piece at a time as a proxy does.
    pub fn write(&mut self, flow: FlowKey, bytes: usize) -> usize {
        const ZEROS: [u8; 16_384] = [0; 16_384];
        let mut written = 0;
        while written < bytes
            && let piece = &ZEROS[..ZEROS.len().min(bytes - written)]
            && let Poll::Ready(Ok(taken @ 1..)) = self.stack.tcp_write(flow, &[piece], self.now)
        {
            written += taken;
        }
        written
    }
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A segment that the target sent.
#[derive(Clone, Debug)]
pub struct Heard {
    pub from: std::net::SocketAddr,
    pub to: std::net::SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub text_bytes: usize,
}

impl Heard {
    fn read(frame: &[u8]) -> Option<Self> {
        let read = Read::new(frame).filter(|read| read.protocol == 6)?;
        let word = |at: usize| u32::from_be_bytes(read.body[at..at + 4].try_into().unwrap());
        let header = usize::from(read.body[12] >> 4) * 4;
        Some(Self {
            from: read.from(),
            to: read.to(),
            seq: word(4),
            ack: word(8),
            flags: read.body[13] & 0x3f,
            options: read.body[20..header].to_vec(),
            text_bytes: read.body.len() - header,
        })
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The body of an option.
    pub fn option(&self, kind: u8) -> Option<&[u8]> {
        let mut rest = &self.options[..];
        while let [this, tail @ ..] = rest {
            if *this == 1 {
                rest = tail;
                continue;
            }
            let len = usize::from(*tail.first()?);
            if *this == kind {
                return rest.get(2..len);
            }
            rest = rest.get(len..)?;
        }
        None
    }

    pub fn timestamp(&self) -> Option<u32> {
        self.option(8).map(|body| u32::from_be_bytes(body[..4].try_into().unwrap()))
    }
}
