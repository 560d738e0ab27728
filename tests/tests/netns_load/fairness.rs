//! A stream of datagrams keeps its pace while a thousand connections arrive at once: the turn's budgets.
//!
//! The worker has a core to itself, as it would in use: sender, receiver, clients and what the kernel receives for anyone
//! have the other, and on its core nothing goes before it but the kernel's own work. Programs outside the test still
//! delay datagrams by whole time slices. So a round counts only if the stream was quick right before and right after it,
//! and where there are too few such rounds the test says so and judges nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, TimestampingFlag, connect,
    recvmsg, setsockopt, socket, sockopt::RcvBufForce, sockopt::ReceiveTimestampns, sockopt::Timestamping,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, gettid};
use tests::lab::MESH;
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Namespace, is_root};

/// 50,000 a second: each a millisecond's burst, as a paced sender's timer gives them.
const DATAGRAMS_A_MS: usize = 50;
/// G.711 of 20 ms in RTP, the rig's size.
const DATAGRAM_BYTES: usize = 172;
const CONNECTIONS: usize = 1_000;
/// The median of so many rounds decides, of at most [`TRIES`].
const ROUNDS: usize = 7;
const TRIES: usize = 30;
const CALM: Duration = Duration::from_millis(300);
/// All but the worker (examples/demo-node.yaml gives it CPU 1): programs, and what the kernel receives for them and for
/// the node, as where interrupts are kept off the data plane's cores.
const OTHERS_CORE: usize = 0;
/// The receiver's buffer: a hundred milliseconds of the stream.
const RECEIVE_BYTES: usize = 8 << 20;
/// p99 without other programs is some 150 us here; a time slice is milliseconds.
const UNDISTURBED_NANOS: u64 = 600_000;
/// How much p99 may grow by the connections.
const MOST: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener whose requests Ringway answers itself: what a connection costs the worker, and no backend's time.
const ANSWERED_HERE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: many }
spec:
  gatewayClassName: ringway
  addresses: [{ value: 10.77.0.80 }]
  listeners: [{ name: http, port: 8081, protocol: HTTP }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: many }
spec:
  parentRefs: [{ name: many }]
  rules: [{ matches: [{ path: { type: PathPrefix, value: / } }] }]
";

#[test]
#[ignore = "a ratio of times, which a busy machine of two cores cannot give: nightly, and by hand"]
fn p99_of_a_datagram_stream_at_most_doubles_while_a_thousand_connections_arrive() {
    if !is_root() {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a process may use its limit");
    let resources = format!("{}\n---{ANSWERED_HERE}", lab_resources());
    let mesh = Mesh::start(Lab::up(), Tables::Files(&resources), "");
    let receiver = mesh.lab.media.within(|| UdpSocket::bind("10.88.0.13:7000")).expect("the port is free");
    let ends = AtomicBool::new(false);
    keep_off_the_workers_core(&mesh.lab);
    let _first = First::new(&mesh);
    let (windows, stream) = thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, &ends));
        let sending = scope.spawn(|| send(&mesh.lab.client, &ends));
        thread::sleep(Duration::from_secs(1));
        let windows: Vec<Window> = (0..TRIES).map(|_| round(&mesh.lab.client)).collect();
        ends.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender ends");
        (windows, Stream { sent, came: receiving.join().expect("the receiver ends") })
    });
    let mut ratios: Vec<f64> = windows.iter().filter_map(|window| window.judge(&stream)).collect();
    eprintln!("{} of {} datagrams arrived; ratios of p99 {ratios:.2?}", stream.came.len(), stream.sent.len());
    ratios.sort_by(f64::total_cmp);
    if ratios.len() < ROUNDS {
        eprintln!("skipped: only {} of {TRIES} rounds were undisturbed; {ROUNDS} are needed", ratios.len());
        return;
    }
    let median = ratios[ratios.len() / 2];
    assert!(median <= MOST, "p99 grew {median:.2} times; rounds: {ratios:.2?}");
}

/// This thread and those it starts from now on run on the others' core, as does what the kernel receives.
fn keep_off_the_workers_core(lab: &Lab) {
    let mut cores = CpuSet::new();
    cores.set(OTHERS_CORE).expect("there is such a core");
    sched_setaffinity(Pid::from_raw(0), &cores).expect("a thread may choose among its cores");
    for (namespace, device) in
        [(&lab.client, "eth0"), (&lab.media, "eth0"), (&lab.node, "up0"), (&lab.node, "wl-media")]
    {
        let mask = 1 << OTHERS_CORE;
        namespace.run(&format!("echo {mask:x} | tee /sys/class/net/{device}/queues/rx-*/rps_cpus"));
    }
}

/// Threads that would wait for others' time slices, and measure those, go before them.
fn go_first(thread: Pid, priority: u8) {
    let arguments = ["--fifo", "-p", &priority.to_string(), &thread.to_string()];
    tests::namespace::run("chrt", &arguments).expect_success();
}

/// The worker goes first on its core, and before it the kernel's own thread for what is sent there: a priority that is
/// taken back in the end.
struct First {
    softirqs: Vec<Pid>,
}

impl First {
    fn new(mesh: &Mesh) -> Self {
        go_first(thread_named(&format!("/proc/{}/task", mesh.ringwayd.pid()), "ringway-0"), 1);
        let softirqs = ["ksoftirqd/0", "ksoftirqd/1"].map(|name| thread_named("/proc", name)).to_vec();
        softirqs.iter().for_each(|&thread| go_first(thread, 2));
        Self { softirqs }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        for thread in &self.softirqs {
            tests::namespace::run("chrt", &["--other", "-p", "0", &thread.to_string()]);
        }
    }
}

fn thread_named(folder: &str, name: &str) -> Pid {
    let is_named = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let threads = fs::read_dir(folder).expect("proc lists threads");
    let thread = threads.filter_map(Result::ok).find(is_named);
    let number = thread.unwrap_or_else(|| panic!("no thread is named {name}")).file_name();
    Pid::from_raw(number.to_string_lossy().parse().expect("threads are numbers"))
}

/// When one round was calm, and when its connections came; in nanoseconds since 1970.
struct Window {
    before: (u64, u64),
    busy: (u64, u64),
    after: (u64, u64),
}

impl Window {
    /// How many times as long p99 was while the connections came; `None`: something else disturbed the stream.
    fn judge(&self, stream: &Stream) -> Option<f64> {
        let calm = stream.p99(self.before).max(stream.p99(self.after));
        let busy = stream.p99(self.busy);
        let took = (self.busy.1 - self.busy.0) / 1_000;
        let (calm_us, busy_us) = (calm / 1_000, busy / 1_000);
        eprintln!("p99 {calm_us} us calm, {busy_us} us while {CONNECTIONS} connections came, in {took} us");
        (calm <= UNDISTURBED_NANOS).then(|| busy as f64 / calm as f64)
    }
}

/// The whole stream of datagrams, numbered from 0; in nanoseconds since 1970.
struct Stream {
    /// When each was sent.
    sent: Vec<u64>,
    /// Which came, and when.
    came: BTreeMap<u64, u64>,
}

impl Stream {
    /// Of the datagrams sent in that time. What was lost came infinitely late.
    fn p99(&self, (from, to): (u64, u64)) -> u64 {
        let first = self.sent.partition_point(|&sent| sent < from);
        let end = self.sent.partition_point(|&sent| sent < to);
        let delay = |number: usize| {
            let came = self.came.get(&(number as u64));
            came.map_or(u64::MAX, |came| came.saturating_sub(self.sent[number]))
        };
        let mut delays: Vec<u64> = (first..end).map(delay).collect();
        delays.sort_unstable();
        delays.get(delays.len() * 99 / 100).copied().unwrap_or(u64::MAX)
    }
}

fn round(client: &Namespace) -> Window {
    let calm = || {
        let from = now();
        thread::sleep(CALM);
        (from, now())
    };
    Window { before: calm(), busy: client.within(arrive_at_once), after: calm() }
}

/// Opens all connections before it waits for any; each then asks and is answered. From when to when.
fn arrive_at_once() -> (u64, u64) {
    let begun = now();
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| open()).collect();
    for stream in &mut streams {
        stream.set_nonblocking(false).expect("a socket can be made to wait");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: many\r\n\r\n").expect("the mesh accepts");
    }
    for stream in &mut streams {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("the mesh answers");
        assert_eq!(&answer, b"HTTP/1.1 500", "a rule without backends");
    }
    (begun, now())
}

fn open() -> TcpStream {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket can be made");
    let to = SocketAddrV4::new(MESH.parse().expect("an address"), 8081);
    let begun = connect(fd.as_raw_fd(), &SockaddrIn::from(to));
    assert!(matches!(begun, Ok(()) | Err(Errno::EINPROGRESS)), "{begun:?}");
    TcpStream::from(fd)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_nanos()).expect("it is before 2554")
}

/// Sends numbered datagrams at the rate until told to end. When each left its port: the kernel stamps it there, so that
/// nothing that holds up this thread counts.
fn send(client: &Namespace, ends: &AtomicBool) -> Vec<u64> {
    let socket = client.within(|| UdpSocket::bind("10.77.0.2:0")).expect("a port is free");
    socket.connect((MESH, 7000)).expect("a UDP socket connects");
    let stamps = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    setsockopt(&socket, Timestamping, &stamps).expect("the kernel stamps datagrams");
    go_first(gettid(), 1);
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut sent = Vec::new();
    let begun = Instant::now();
    for burst in 1.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        for _ in 0..DATAGRAMS_A_MS {
            datagram[..8].copy_from_slice(&(sent.len() as u64).to_le_bytes());
            sent.push(now());
            socket.send(&datagram).expect("the node's port takes it");
        }
        take_stamps(&socket, &mut sent);
        thread::sleep((begun + Duration::from_millis(burst)).saturating_duration_since(Instant::now()));
    }
    sent
}

/// When datagrams left, from the socket's error queue (SO_TIMESTAMPING), in the place of when they were given to it.
fn take_stamps(socket: &UdpSocket, sent: &mut [u64]) {
    let mut control = nix::cmsg_space!([TimeSpec; 3], libc::sock_extended_err, libc::sockaddr_in);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    while let Ok(message) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut [], Some(&mut control), flags) {
        let (mut stamp, mut number) = (None, None);
        for control in message.cmsgs().expect("the control messages fit") {
            match control {
                ControlMessageOwned::ScmTimestampsns(stamps) => stamp = Some(nanos(stamps.system)),
                ControlMessageOwned::Ipv4RecvErr(error, _) => number = Some(error.ee_data as usize),
                _ => {}
            }
        }
        if let (Some(stamp), Some(sent)) = (stamp, number.and_then(|number| sent.get_mut(number))) {
            *sent = stamp;
        }
    }
}

fn nanos(stamp: TimeSpec) -> u64 {
    u64::try_from(Duration::from(stamp).as_nanos()).expect("it is before 2554")
}

/// Which datagrams came, and when: the kernel stamps what arrives, so that it does not count how long this thread waits
/// for a core.
fn receive(socket: &UdpSocket, ends: &AtomicBool) -> BTreeMap<u64, u64> {
    setsockopt(socket, ReceiveTimestampns, &true).expect("the kernel stamps datagrams");
    setsockopt(socket, RcvBufForce, &RECEIVE_BYTES).expect("root may set it");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let mut arrivals = BTreeMap::new();
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut control = nix::cmsg_space!(TimeSpec);
    while !ends.load(Ordering::Relaxed) {
        let mut into = [IoSliceMut::new(&mut datagram)];
        let received =
            recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::empty());
        let stamp = received.ok().and_then(|message| {
            message.cmsgs().ok()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
                _ => None,
            })
        });
        let Some(stamp) = stamp else { continue };
        let number = u64::from_le_bytes(datagram[..8].try_into().expect("eight bytes"));
        arrivals.insert(number, nanos(stamp));
    }
    arrivals
}
