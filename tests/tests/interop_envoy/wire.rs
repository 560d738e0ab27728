//! A client that shows what came back, and backends that show what reached them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::generate::Request;

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// The response field in which a backend says what it saw; there are no bodies in answers to HEAD.
const SEEN: &str = "x-seen";

/// Names in lower case, in the order of the wire.
pub type Fields = Vec<(String, String)>;

/// A request as its backend saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub backend: String,
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: String,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    /// `None`: the proxy answered by itself.
    pub seen: Option<Seen>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// One request on a connection of its own.
pub fn send(address: &str, request: &Request) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect((address, request.port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.fields {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n{}", request.body).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (first, mut fields) = read_head(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let seen = fields.iter().position(|(name, _)| name == SEEN).map(|at| fields.remove(at).1);
    let seen = seen.map(|text| serde_json::from_str(&text).expect("a backend writes JSON"));
    // Not until the end of the stream: Envoy waits a second for the client to close first (`delayed_close_timeout`).
    if request.method != "HEAD" {
        read_body(&mut reader, &fields)?;
    }
    Ok(Answer { status, fields, seen })
}

/// Serves as `name` at `listener` for the rest of the process.
pub fn echo(name: &'static str, listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(answer_all(name, stream)));
        }
    });
}

fn answer_all(name: &str, stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, fields) = read_head(&mut reader)?;
        let body = read_body(&mut reader, &fields)?;
        let mut parts = first.split(' ').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let seen = Seen { backend: name.to_owned(), method: part(), target: part(), fields, body };
        let seen = serde_json::to_string(&seen).expect("text is JSON");
        // Fields for the response's edits, one of them twice.
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-ra: up\r\nx-rc: up\r\nx-rc: up2\r\n{SEEN}: {seen}\r\n\r\n"
        );
        writer.write_all(answer.as_bytes())?;
    }
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(String, Fields)> {
    let mut line = || {
        let mut line = String::new();
        match reader.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok::<String, std::io::Error>(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    };
    let first = line()?;
    let mut fields = Fields::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { return Ok((first, fields)) };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, fields: &Fields) -> std::io::Result<String> {
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}
