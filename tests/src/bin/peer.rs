//! The two ends of a conversation, for machines that have no tools of their own: `scripts/guest` carries it into its
//! guest.
//!
//!   peer udp-echo ADDRESS              answers every datagram with itself
//!   peer tcp-echo ADDRESS              answers every stream with itself, and ends it when its sender does
//!   peer udp ADDRESS COUNT BYTES       sends COUNT datagrams one by one and wants each back
//!   peer tcp ADDRESS BYTES             sends BYTES and compares every byte that comes back
//!
//! The last two end with status 0 only if all came back as it was sent, and say how long it took.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing for this long is the end of hope; an emulated machine that loses segments backs off for seconds, and one on a
/// busy host may stand still for a while.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a datagram may be on its way.
const DATAGRAM_PATIENCE: Duration = Duration::from_secs(20);
const PIECE_BYTES: usize = 64 << 10;
/// Any number but zero: both ends of a stream must say the same.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["udp-echo", address] => udp_echo(address),
        ["tcp-echo", address] => tcp_echo(address),
        ["udp", address, count, bytes] => udp(address, count, bytes),
        ["tcp", address, bytes] => tcp(address, bytes),
        _ => {
            Err(other("usage: peer udp-echo|tcp-echo ADDRESS | udp ADDRESS COUNT BYTES | tcp ADDRESS BYTES"))
        }
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn other(message: impl Into<String>) -> io::Error {
    io::Error::other(message.into())
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| other(format!("`{text}` is not a number")))
}

fn udp_echo(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind(address)?;
    let mut datagram = vec![0; usize::from(u16::MAX)];
    loop {
        let (bytes, from) = socket.recv_from(&mut datagram)?;
        // One that cannot be answered concerns only its sender.
        let _ = socket.send_to(&datagram[..bytes], from);
    }
}

fn tcp_echo(address: &str) -> io::Result<String> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _from) = listener.accept()?;
        thread::spawn(move || echo(stream));
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = stream.read(&mut piece)?;
        if bytes == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&piece[..bytes])?;
    }
}

fn udp(address: &str, count: &str, bytes: &str) -> io::Result<String> {
    let (count, bytes) = (number(count)?, number(bytes)?);
    let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(local)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(DATAGRAM_PATIENCE))?;
    let mut source = Source::new();
    let mut sent = vec![0; usize::try_from(bytes).map_err(|_| other("too long a datagram"))?];
    let mut came = vec![0; usize::from(u16::MAX)];
    let begun = Instant::now();
    for nth in 1..=count {
        source.fill(&mut sent);
        socket.send(&sent)?;
        let bytes =
            socket.recv(&mut came).map_err(|error| other(format!("datagram {nth} of {count}: {error}")))?;
        if came[..bytes] != sent[..] {
            return Err(other(format!("datagram {nth} of {count} came back changed or out of order")));
        }
    }
    let each = begun.elapsed().as_micros() / u128::from(count.max(1));
    Ok(format!("{count} datagrams of {bytes} bytes came back, {each} us each"))
}

fn tcp(address: &str, bytes: &str) -> io::Result<String> {
    let total = number(bytes)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let begun = Instant::now();
    let writer = stream.try_clone()?;
    let sender = thread::spawn(move || send(writer, total));
    let came = compare(&mut stream, total);
    let sent = sender.join().map_err(|_| other("the sending thread ended early"))?;
    came.and(sent)?;
    let seconds = begun.elapsed().as_secs_f64();
    let mib = total as f64 / f64::from(1 << 20);
    Ok(format!("{total} bytes each way in {seconds:.1} s, {:.1} MiB/s each way", mib / seconds))
}

fn send(mut stream: TcpStream, total: u64) -> io::Result<()> {
    let mut source = Source::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = total;
    while left > 0 {
        let bytes = piece_of(left);
        source.fill(&mut piece);
        stream
            .write_all(&piece[..bytes])
            .map_err(|error| other(format!("{left} bytes not sent: {error}")))?;
        left -= bytes as u64;
    }
    stream.shutdown(Shutdown::Write)
}

fn compare(stream: &mut TcpStream, total: u64) -> io::Result<()> {
    let mut source = Source::new();
    let (mut wanted, mut came) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut left = total;
    while left > 0 {
        let bytes = piece_of(left);
        source.fill(&mut wanted);
        let at = total - left;
        let read = stream.read_exact(&mut came[..bytes]);
        read.map_err(|error| other(format!("{at} of {total} bytes came back: {error}")))?;
        if came[..bytes] != wanted[..bytes] {
            return Err(other(format!("a byte behind byte {at} of {total} came back changed")));
        }
        left -= bytes as u64;
    }
    match stream.read(&mut came)? {
        0 => Ok(()),
        more => Err(other(format!("{more} bytes more came back than were sent"))),
    }
}

fn piece_of(left: u64) -> usize {
    usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES))
}

/// A stream of bytes that does not repeat within any transfer (Marsaglia's xorshift64).
struct Source(u64);

impl Source {
    fn new() -> Self {
        Self(SEED)
    }

    fn fill(&mut self, piece: &mut [u8]) {
        for word in piece.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let len = word.len();
            word.copy_from_slice(&self.0.to_le_bytes()[..len]);
        }
    }
}
