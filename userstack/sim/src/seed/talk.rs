//! The tasks on both hosts: callers and listeners that do what the plan says and tell the model what they see.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket::{
    ListenSpec, Prefix, TaskId, TcpListener, TcpOptions, TcpStream, UdpSocket, sleep, spawn, timeout,
};
use stack::tcp::{Congestion, Ecn};

use super::liar::UNREAD_PORT;
use super::model::{End, Model, Place, Stream};
use super::plan::{Control, Conversation, Family, Manner, PORTS, Side};

/// Where the ports begin.
pub(super) const FIRST_PORT: u16 = 7_000;
/// A connect outlives every blackout of a plan.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(600);
/// Somebody whose peer lost its memory, or whose reset was lost, hears of it by probes.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Names from here on are no conversation's: a stranger talks, for so long and so much at most.
const FIRST_STRANGER: u32 = 1 << 24;
const STRANGER_LIMIT: Duration = Duration::from_secs(20);
const STRANGER_WRITES: u32 = 20;
/// Where a liar is called.
const STRANGE_PORT: u16 = 80;
/// Bytes that a slow reader takes at once.
const SIP_BYTES: usize = 4_096;

/// What every task of a play has.
#[derive(Clone)]
pub(super) struct Stage {
    pub model: Rc<RefCell<Model>>,
    pub plan: Rc<super::plan::Plan>,
    /// Addresses of the client and the server, by family.
    pub addresses: [[IpAddr; 2]; 2],
    /// Where a liar would live.
    pub liar: [IpAddr; 2],
    /// The tasks that listen, and where.
    pub listeners: Rc<RefCell<Vec<(Side, TaskId)>>>,
}

impl Stage {
    fn conversation(&self, index: usize) -> Conversation {
        self.plan.conversations[index]
    }

    fn address(&self, side: Side, family: Family) -> IpAddr {
        self.addresses[side as usize][family as usize]
    }

    fn model<R>(&self, act: impl FnOnce(&mut Model) -> R) -> R {
        act(&mut self.model.borrow_mut())
    }
}

/// Starts the listeners of `side`, and its callers that have not called yet.
pub(super) fn begin(stage: &Stage, side: Side) {
    for port in 0..PORTS as u16 {
        for addresses in [Prefix::ANY_V4, Prefix::ANY_V6] {
            let task = spawn(listen(stage.clone(), side, port, addresses));
            stage.listeners.borrow_mut().push((side, task));
        }
    }
    stage.listeners.borrow_mut().push((side, spawn(hold_unread_socket(stage.clone()))));
    for number in 0..stage.plan.victims() {
        spawn(suffer(stage.clone(), side, number));
    }
    for (index, conversation) in stage.plan.conversations.iter().enumerate() {
        if conversation.caller == side && !stage.model(|model| model.is_started(index)) {
            spawn(call(stage.clone(), index));
        }
    }
}

/// Datagrams to it wait until there are too many.
async fn hold_unread_socket(stage: Stage) {
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UNREAD_PORT).into(), None) {
        Ok(_unread) => pending().await,
        Err(_) => stage.model(|model| model.fail("a port is taken that nobody has bound")),
    }
}

// ---- strangers ----

/// Calls somebody who lies. Whatever comes of it is right, as long as it ends and harms nobody else.
async fn suffer(stage: Stage, side: Side, number: u32) {
    sleep(millis(number * 100)).await;
    let family = if number.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let remote = (stage.liar[family as usize], STRANGE_PORT + number as u16).into();
    let options = TcpOptions {
        connect_timeout: STRANGER_LIMIT,
        keepalive: Some(Duration::from_secs(1 + u64::from(number))),
        congestion: if side == Side::Client { Congestion::Cubic } else { Congestion::NewReno },
        ..TcpOptions::default()
    };
    let Ok(stream) = TcpStream::connect(remote, None, options).await else { return };
    let _whatever = timeout(STRANGER_LIMIT, converse_with_stranger(&stream)).await;
}

/// Writes while it is taken, and reads what comes.
async fn converse_with_stranger(stream: &TcpStream) -> io::Result<()> {
    let write = async {
        for _ in 0..STRANGER_WRITES {
            stream.write_all(&[b's'; 2_000]).await?;
            sleep(millis(30)).await;
        }
        stream.shutdown();
        Ok(())
    };
    let read = async {
        let mut into = [0; 1_000];
        while stream.read(&mut into).await? > 0 {}
        Ok(())
    };
    both(write, read).await
}

// ---- callers ----

async fn call(stage: Stage, index: usize) {
    let plan = stage.conversation(index);
    sleep(millis(plan.start_ms)).await;
    stage.model(|model| model.start(index));
    let end = match talk_as_caller(&stage, index, plan).await {
        Ok(end) => end,
        Err(error) => End::Failed(error.kind()),
    };
    stage.model(|model| model.over(index, true, end));
}

async fn talk_as_caller(stage: &Stage, index: usize, plan: Conversation) -> io::Result<End> {
    let remote = (stage.address(plan.caller.other(), plan.family), FIRST_PORT + plan.port).into();
    let stream = TcpStream::connect(remote, None, caller_options(&plan)).await?;
    stream.write_all(&plan.number.to_be_bytes()).await?;
    let talk = Talk { stage, stream: &stream, plan };
    let (up, down) = places(index);
    match plan.manner {
        Manner::AskThenAnswer | Manner::HalfClosedLong { .. } | Manner::SlowReader { .. } => {
            talk.write(up, plan.upload).await?;
            talk.shut(up);
            talk.read(down).await?;
        }
        Manner::Idle { pause_ms } => {
            talk.write(up, plan.upload / 2).await?;
            sleep(millis(pause_ms)).await;
            talk.write(up, plan.upload).await?;
            talk.shut(up);
            talk.read(down).await?;
        }
        Manner::BothAtOnce => {
            both(talk.write_and_shut(up, plan.upload), talk.read(down)).await?;
        }
        Manner::ListenerFirst => {
            talk.read(down).await?;
            talk.write(up, plan.upload).await?;
            talk.shut(up);
        }
        Manner::CallerAborts => {
            talk.write(up, plan.upload).await?;
            stream.abort();
            return Ok(End::BrokenOff);
        }
        Manner::ListenerAborts => {
            talk.write(up, plan.upload).await?;
            talk.read(down).await?;
        }
        Manner::CallerDrops => {
            talk.write(up, plan.upload).await?;
            // What it has not read makes the drop a reset; where all is read, it is an end in order.
            stage.model(|model| model.shut(up));
            return Ok(End::BrokenOff);
        }
    }
    Ok(End::Orderly)
}

fn caller_options(plan: &Conversation) -> TcpOptions {
    TcpOptions {
        receive_buffer_bytes: plan.receive_buffer as usize,
        send_buffer_bytes: plan.send_buffer as usize,
        connect_timeout: CONNECT_TIMEOUT,
        keepalive: Some(KEEPALIVE),
        congestion: congestion(plan.control),
        no_delay: plan.no_delay,
        pacing: plan.paced,
        ecn: if plan.asks_for_ecn { Ecn::Active } else { Ecn::Off },
        ..TcpOptions::default()
    }
}

fn congestion(control: Control) -> Congestion {
    match control {
        Control::Cubic => Congestion::Cubic,
        Control::NewReno => Congestion::NewReno,
        Control::Bbr => Congestion::Bbr,
    }
}

// ---- listeners ----

async fn listen(stage: Stage, side: Side, port: u16, addresses: Prefix) {
    let spec = ListenSpec { addresses, port: Some(FIRST_PORT + port), interface: None };
    let Ok(listener) = TcpListener::bind(spec, listener_options(port)) else {
        return stage.model(|model| model.fail("a port is taken that nobody listens on"));
    };
    while let Ok(stream) = listener.accept().await {
        spawn(answer(stage.clone(), side, stream));
    }
    stage.model(|model| model.fail("a listener ended"));
}

/// Each port has other buffers, and the first so small a backlog that cookies answer.
fn listener_options(port: u16) -> TcpOptions {
    TcpOptions {
        receive_buffer_bytes: 8_192 << (2 * port),
        send_buffer_bytes: 1 << (20 - 2 * port),
        backlog: if port == 0 { 2 } else { 128 },
        connect_timeout: CONNECT_TIMEOUT,
        keepalive: Some(KEEPALIVE),
        congestion: Congestion::ALL[usize::from(port) % Congestion::ALL.len()],
        pacing: port == 1,
        ecn: Ecn::Passive,
        no_delay: port >= 2,
        ..TcpOptions::default()
    }
}

async fn answer(stage: Stage, side: Side, stream: TcpStream) {
    // A connection that breaks before it says who it is has told nobody anything.
    let Ok(Some(number)) = read_name(&stream).await else { return };
    if number >= FIRST_STRANGER {
        let _whatever = timeout(STRANGER_LIMIT, converse_with_stranger(&stream)).await;
        return;
    }
    let Some(index) = stage.model(|model| model.accept(number, side)) else { return };
    let plan = stage.conversation(index);
    let end = match talk_as_listener(&stage, stream, index, plan).await {
        Ok(end) => end,
        Err(error) => End::Failed(error.kind()),
    };
    stage.model(|model| model.over(index, false, end));
}

async fn read_name(stream: &TcpStream) -> io::Result<Option<u32>> {
    let (mut name, mut len) = ([0; 4], 0);
    while len < name.len() {
        match stream.read(&mut name[len..]).await? {
            0 => return Ok(None),
            read => len += read,
        }
    }
    Ok(Some(u32::from_be_bytes(name)))
}

async fn talk_as_listener(
    stage: &Stage,
    stream: TcpStream,
    index: usize,
    plan: Conversation,
) -> io::Result<End> {
    let talk = Talk { stage, stream: &stream, plan };
    let (up, down) = places(index);
    match plan.manner {
        Manner::AskThenAnswer | Manner::Idle { .. } => {
            talk.read(up).await?;
            talk.write(down, plan.download).await?;
            talk.shut(down);
        }
        Manner::HalfClosedLong { pause_ms } => {
            talk.read(up).await?;
            sleep(millis(pause_ms)).await;
            talk.write(down, plan.download).await?;
            talk.shut(down);
        }
        Manner::SlowReader { pause_ms } => {
            talk.sip(up, pause_ms).await?;
            talk.write(down, plan.download).await?;
            talk.shut(down);
        }
        Manner::BothAtOnce => {
            both(talk.write_and_shut(down, plan.download), talk.read(up)).await?;
        }
        Manner::ListenerFirst => {
            talk.write(down, plan.download).await?;
            talk.shut(down);
            talk.read(up).await?;
        }
        Manner::CallerAborts | Manner::CallerDrops => {
            both(talk.write(down, plan.download), talk.read(up)).await?;
            talk.shut(down);
        }
        Manner::ListenerAborts => {
            while stage.model(|model| model.read_so_far(up)) < u64::from(plan.upload) {
                if talk.read_some(up, usize::MAX).await? == 0 {
                    break;
                }
            }
            stream.abort();
            return Ok(End::BrokenOff);
        }
    }
    Ok(End::Orderly)
}

// ---- what both do ----

fn places(conversation: usize) -> (Place, Place) {
    (Place { conversation, stream: Stream::Up }, Place { conversation, stream: Stream::Down })
}

struct Talk<'a> {
    stage: &'a Stage,
    stream: &'a TcpStream,
    plan: Conversation,
}

impl Talk<'_> {
    /// Writes until `until` bytes of the stream are written.
    async fn write(&self, place: Place, until: u32) -> io::Result<()> {
        loop {
            let left = u64::from(until).saturating_sub(self.stage.model(|model| model.written(place)));
            if left == 0 {
                return Ok(());
            }
            let limit = left.min(u64::from(self.plan.chunk)) as usize;
            let bytes = self.stage.model(|model| model.next_bytes(place, limit));
            let written = self.stream.write(bytes).await?;
            self.stage.model(|model| model.wrote(place, written));
        }
    }

    async fn write_and_shut(&self, place: Place, until: u32) -> io::Result<()> {
        self.write(place, until).await?;
        self.shut(place);
        Ok(())
    }

    fn shut(&self, place: Place) {
        self.stream.shutdown();
        self.stage.model(|model| model.shut(place));
    }

    /// Reads to the stream's end.
    async fn read(&self, place: Place) -> io::Result<()> {
        while self.read_some(place, usize::MAX).await? > 0 {}
        Ok(())
    }

    /// Reads to the end, little by little. The longer it gets the larger the sips, so that a plan ends.
    async fn sip(&self, place: Place, pause_ms: u32) -> io::Result<()> {
        let mut sip = SIP_BYTES;
        while self.read_some(place, sip).await? > 0 {
            sleep(millis(pause_ms)).await;
            sip += sip / 8;
        }
        Ok(())
    }

    async fn read_some(&self, place: Place, limit: usize) -> io::Result<usize> {
        let model = &self.stage.model;
        let take = |bytes: &[u8]| model.borrow_mut().read(place, bytes);
        let read = poll_fn(|context| self.stream.poll_read_chunks(context, limit, take)).await?;
        if read == 0 {
            model.borrow_mut().ended(place);
        }
        Ok(read)
    }
}

/// Both at the same time; over when both are, with the first error.
async fn both(
    one: impl Future<Output = io::Result<()>>,
    other: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(context)
        {
            first = Some(result);
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(context)
        {
            second = Some(result);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready(one.and(other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}
