//! What is carried: text that shows a shifted, lost or repeated byte, down, up, and in many short connections.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;
use tests::Namespace;

/// The congestion control of Linux's ends.
static CONTROL: Mutex<&'static str> = Mutex::new("cubic");

/// Which congestion control Linux's ends use from now on.
pub fn set_control(control: &'static str) {
    *CONTROL.lock().expect("nobody panics with it") = control;
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let control = *CONTROL.lock().expect("nobody panics with it");
    setsockopt(stream, TcpCongestion, &OsString::from(control))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANGS))?;
    stream.set_write_timeout(Some(HANGS))
}

/// What is done in one run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server sends so many bytes.
    Down(usize),
    /// The client does.
    Up(usize),
    /// So many connections, each asking for [`SHORT_BYTES`].
    Short(usize),
}

/// A page.
const SHORT_BYTES: usize = 10_000;
const SHORT_AT_ONCE: usize = 20;
/// Longer than this nothing happens: it hangs.
const HANGS: Duration = Duration::from_secs(30);
/// Prime, and not a divisor of any segment's size.
const PERIOD: usize = 251;
const PIECE: usize = PERIOD * 256;
/// Direction and length.
const REQUEST_BYTES: usize = 9;

/// Serves every connection at `address` of `namespace`, until the test ends.
pub fn serve(namespace: &Namespace, address: SocketAddr) {
    let listener = namespace.within(|| TcpListener::bind(address)).expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that gave up has said so itself.
            thread::spawn(move || answer(stream).ok());
        }
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    prepare(&stream)?;
    let mut request = [0; REQUEST_BYTES];
    stream.read_exact(&mut request)?;
    let bytes = u64::from_be_bytes(request[1..].try_into().expect("eight bytes of nine")) as usize;
    if request[0] == b'd' {
        return send(&mut stream, bytes);
    }
    receive(&mut stream, bytes)?;
    stream.write_all(b"+")
}

/// Goodput in bits a second: of the bytes in the time from the connection's first packet to the last byte's arrival; of
/// short connections, the sum of both.
pub fn run(client: &Namespace, server: SocketAddr, kind: Kind) -> io::Result<f64> {
    let (bytes, time) = match kind {
        Kind::Down(bytes) => (bytes, fetch(client, server, bytes)?),
        Kind::Up(bytes) => (bytes, give(client, server, bytes)?),
        Kind::Short(connections) => (connections * SHORT_BYTES, many(client, server, connections)?),
    };
    Ok(bytes as f64 * 8.0 / time.as_secs_f64())
}

fn connect(client: &Namespace, server: SocketAddr) -> io::Result<TcpStream> {
    let stream = client.within(|| TcpStream::connect_timeout(&server, HANGS))?;
    prepare(&stream)?;
    Ok(stream)
}

fn fetch(client: &Namespace, server: SocketAddr, bytes: usize) -> io::Result<Duration> {
    let began = Instant::now();
    let mut stream = connect(client, server)?;
    ask(&mut stream, b'd', bytes)?;
    receive(&mut stream, bytes)?;
    Ok(began.elapsed())
}

fn give(client: &Namespace, server: SocketAddr, bytes: usize) -> io::Result<Duration> {
    let began = Instant::now();
    let mut stream = connect(client, server)?;
    ask(&mut stream, b'u', bytes)?;
    send(&mut stream, bytes)?;
    let mut whole = [0];
    stream.read_exact(&mut whole)?;
    Ok(began.elapsed())
}

fn many(client: &Namespace, server: SocketAddr, connections: usize) -> io::Result<Duration> {
    let left = Mutex::new(connections);
    let all = thread::scope(|scope| {
        let worker = || -> io::Result<Duration> {
            let mut sum = Duration::ZERO;
            while take_one(&left) {
                sum += fetch(client, server, SHORT_BYTES)?;
            }
            Ok(sum)
        };
        let workers: Vec<_> = (0..SHORT_AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect::<Vec<_>>()
    });
    all.into_iter().sum()
}

fn take_one(left: &Mutex<usize>) -> bool {
    let mut left = left.lock().expect("no worker panics with it");
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

fn ask(stream: &mut TcpStream, direction: u8, bytes: usize) -> io::Result<()> {
    let mut request = [direction; REQUEST_BYTES];
    request[1..].copy_from_slice(&(bytes as u64).to_be_bytes());
    stream.write_all(&request)
}

fn send(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let piece = pattern();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now])?;
        left -= now;
    }
    Ok(())
}

/// Reads so many bytes, and fails at the first that is not the one it should be.
fn receive(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let expected = pattern();
    let mut buffer = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(PIECE);
        stream.read_exact(&mut buffer[..now])?;
        if buffer[..now] != expected[..now] {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{left} bytes before the end they differ"),
            ));
        }
        left -= now;
    }
    Ok(())
}

fn pattern() -> Vec<u8> {
    (0..PIECE).map(|n| (n % PERIOD) as u8).collect()
}
