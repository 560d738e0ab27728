//! TCP through a TCPRoute, between Linux's TCP at both ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tests::lab::{MESH, MESH_V6};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Namespace, is_root};

/// A transfer that a busy machine of two cores ends in seconds; `scripts/guest` and the rig do the gigabytes.
const BULK_BYTES: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn mesh() -> Mesh {
    Mesh::start(Lab::up(), Tables::Files(&lab_resources()), "")
}

/// Serves each connection at the receiver's port 9000 in a thread, until the test ends.
fn serve(namespace: &Namespace, address: &str, handle: impl Fn(TcpStream) + Clone + Send + 'static) {
    let address = address.to_owned();
    let listener = namespace.within(move || TcpListener::bind(address)).expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
}

fn connect(mesh: &Mesh, address: &str) -> TcpStream {
    let address = address.to_owned();
    let stream = mesh.lab.client.within(move || TcpStream::connect(address)).expect("the mesh accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().expect("a socket can be cloned");
    let _ = std::io::copy(&mut stream, &mut copy);
    let _ = copy.shutdown(Shutdown::Write);
}

/// Bytes that repeat with a prime period, so that a shifted or lost piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_stream_is_echoed_and_half_closed_over_ipv4_and_ipv6() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    serve(&mesh.lab.media, "10.88.0.13:9000", echo);
    serve(&mesh.lab.media, "[fd88::13]:9000", echo);
    for address in [format!("{MESH}:9000"), format!("[{MESH_V6}]:9000")] {
        let mut stream = connect(&mesh, &address);
        let sent = pattern(1 << 20);
        let mut writer = stream.try_clone().expect("a socket can be cloned");
        let payload = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&payload).expect("the mesh takes the stream");
            writer.shutdown(Shutdown::Write).expect("our side can be closed");
        });
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).expect("the echo ends after our FIN");
        writing.join().expect("the writer ends");
        assert!(echoed == sent, "{address}: {} of {} bytes came back", echoed.len(), sent.len());
    }
}

#[test]
fn bulk_arrives_byte_for_byte_in_both_directions() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let piece = pattern(251 * 1024);
    let served = piece.clone();
    // Sends as much as it is asked for, after it has read as much.
    serve(&mesh.lab.media, "10.88.0.13:9000", move |mut stream| {
        let mut left = BULK_BYTES;
        let mut buffer = vec![0; served.len()];
        while left > 0 {
            let wanted = left.min(buffer.len());
            if stream.read_exact(&mut buffer[..wanted]).is_err() || buffer[..wanted] != served[..wanted] {
                return;
            }
            left -= wanted;
        }
        let mut left = BULK_BYTES;
        while left > 0 {
            let wanted = left.min(served.len());
            if stream.write_all(&served[..wanted]).is_err() {
                return;
            }
            left -= wanted;
        }
    });
    let mut stream = connect(&mesh, &format!("{MESH}:9000"));
    let mut left = BULK_BYTES;
    while left > 0 {
        let wanted = left.min(piece.len());
        stream.write_all(&piece[..wanted]).expect("the mesh takes the stream");
        left -= wanted;
    }
    let mut left = BULK_BYTES;
    let mut buffer = vec![0; piece.len()];
    while left > 0 {
        let wanted = left.min(buffer.len());
        stream.read_exact(&mut buffer[..wanted]).expect("the stream comes back whole");
        assert!(buffer[..wanted] == piece[..wanted], "{left} bytes before the end");
        left -= wanted;
    }
}

#[test]
fn a_reset_by_the_backend_reaches_the_client() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    // Closing with unread bytes resets (RFC 2525, 2.17).
    serve(&mesh.lab.media, "10.88.0.13:9000", |mut stream| {
        let _ = stream.read(&mut [0; 1]);
    });
    let mut stream = connect(&mesh, &format!("{MESH}:9000"));
    stream.write_all(&pattern(4096)).expect("the mesh takes the stream");
    let ended = stream.read(&mut [0; 16]);
    assert!(
        matches!(&ended, Ok(0)) || matches!(&ended, Err(error) if error.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
}

#[test]
fn a_backend_that_refuses_ends_the_clients_connection() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let connected = mesh.lab.client.within(|| TcpStream::connect(format!("{MESH}:9000")));
    // The reset follows the SYN-ACK so soon that connect(2) itself may find it.
    let ended = connected.and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0; 16])
    });
    let waited =
        matches!(&ended, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!waited && !matches!(ended, Ok(1..)), "{ended:?}");
}

#[test]
fn a_workload_calls_a_service_by_its_address() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    serve(&mesh.lab.media, "10.88.0.13:9000", echo);
    let mut stream =
        mesh.lab.web_v1.within(|| TcpStream::connect("10.96.0.14:9000")).expect("the service accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(b"from a workload").expect("the mesh takes the stream");
    stream.shutdown(Shutdown::Write).expect("our side can be closed");
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).expect("the echo ends");
    assert_eq!(echoed, "from a workload");
}
