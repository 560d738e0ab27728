//! `ringway capture`: asks a data plane's admin address for packets and writes what comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::flags::Capture;
use crate::problem::Problem;

/// Of an error's text.
const MAX_ERROR_BYTES: usize = 4_096;

pub async fn run(flags: Capture) -> Result<(), Problem> {
    let response = ask(&flags).await?;
    if response.status() != StatusCode::OK {
        return Err(refused(response).await);
    }
    let written = if flags.write == Path::new("-") {
        copy(response, io::stdout().lock()).await?
    } else {
        let file = File::create(&flags.write)
            .map_err(|error| Problem::Usage(format!("{}: {error}", flags.write.display())))?;
        copy(response, file).await?
    };
    eprintln!("{written} bytes of pcapng");
    Ok(())
}

async fn ask(flags: &Capture) -> Result<Response<Incoming>, Problem> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Problem::Unreachable(format!("cannot reach the data plane's admin address {}: {error}", flags.admin))
    };
    let stream = TcpStream::connect(&flags.admin).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    tokio::spawn(connection);
    let request = Request::get(path(flags))
        .header(header::HOST, &flags.admin)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Problem::Usage(format!("--admin {}: {error}", flags.admin)))?;
    sender.send_request(request).await.map_err(|error| unreachable(&error))
}

fn path(flags: &Capture) -> String {
    let filters = [
        flags.address.map(|address| format!("address={address}")),
        flags.port.map(|port| format!("port={port}")),
        flags.packets.map(|packets| format!("packets={packets}")),
        flags.seconds.map(|seconds| format!("seconds={seconds}")),
    ];
    let query: Vec<String> = filters.into_iter().flatten().collect();
    if query.is_empty() { "/capture".to_owned() } else { format!("/capture?{}", query.join("&")) }
}

async fn refused(response: Response<Incoming>) -> Problem {
    let status = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), MAX_ERROR_BYTES);
    let why = match limited.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Problem::Refused(format!("the data plane answered {status}: {why}"))
}

async fn copy(response: Response<Incoming>, mut out: impl Write) -> Result<u64, Problem> {
    let failed = |error: io::Error| Problem::Refused(format!("cannot write the capture: {error}"));
    let mut body = response.into_body();
    let mut written = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::Unreachable(format!("the capture was cut off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data).map_err(failed)?;
            written += data.len() as u64;
        }
    }
    out.flush().map_err(failed)?;
    Ok(written)
}
