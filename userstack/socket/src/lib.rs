//! One core's executor, and the face that async tasks have of its stack.
//!
//! [`TcpStream`], [`TcpListener`], [`UdpSocket`] and [`Sleep`] are plain keys: they find their core through one
//! thread-local scope, which [`Core`] enters around every poll and every drop of a task. Outside of it they fail by
//! name. The stack is never borrowed across an await.
#![forbid(unsafe_code)]

// The contract with worker, proxy, sim and daemon (bodies follow):
//
// pub struct Core;                       // stack + executor + timers of one core; owned by the worker
// impl Core {
//     pub fn new(stack: Stack) -> Core;
//     pub fn stack(&mut self) -> impl DerefMut<Target = Stack>;   // between polls only
//     /// Runs `f` inside the scope: sockets, spawn and now work in it.
//     pub fn enter<R>(&mut self, now: Instant, f: impl FnOnce() -> R) -> R;
//     pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskId;
//     pub fn handle_packet(&mut self, interface, packet: &mut dyn Chain, admission: &mut dyn Admission, now) -> Verdict;
//     /// Wakes what the stack's events name, then polls ready tasks: at most 64 polls, or until `expired()` says so.
//     pub fn run_tasks(&mut self, now: Instant, expired: &mut dyn FnMut() -> bool) -> bool;   // true: more are ready
//     pub fn handle_timers(&mut self, budget: usize, now: Instant) -> bool;
//     pub fn poll_transmit(&mut self, egress: &mut dyn Egress, budget: usize, now: Instant) -> bool;
//     pub fn poll_timeout(&self) -> Option<Instant>;
//     pub fn has_ready(&self) -> bool;
//     pub fn tasks(&self) -> usize;
//     /// Called from other threads' wakers: rings the worker's doorbell when it sleeps.
//     pub fn set_doorbell(&mut self, ring: Arc<dyn Fn() + Send + Sync>);
// }
//
// Inside the scope (free functions; each panics with a sentence that names itself when there is no scope):
//     socket::spawn(future) -> TaskId; socket::now() -> Instant; socket::random() -> u64 (seeded, per core)
//     socket::sleep(Duration) -> Sleep; socket::sleep_until(Instant) -> Sleep;
//     socket::timeout(Duration, future) -> Result<T, Elapsed>;
//     TcpListener::bind(ListenSpec, TcpOptions) -> Result<TcpListener, ListenError>; accept().await -> io::Result<TcpStream>
//     TcpStream::connect(remote, local: Option<IpAddr>, TcpOptions).await -> io::Result<TcpStream>
//         local_addr(), remote_addr(), interface(), info(), shutdown(), abort(); dropping it closes it
//     TcpStream: hyper::rt::{Read, Write}, tokio::io::{AsyncRead, AsyncWrite} (tokio with no feature but the traits)
//     UdpSocket::bind(..), recv_from, send_to
//     Executor: hyper::rt::Executor<F>; Timer: hyper::rt::Timer (time from the core, not the system clock)
//
// Re-exported for the proxy, which may not name `stack`: Instant, Admission, FirstDatagram, Forward, Rewrite, Discard,
// ListenSpec, ListenerKey, Prefix, TcpOptions, TcpInfo, InterfaceId, Role, Congestion.
