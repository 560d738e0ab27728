//! Datagrams through a UDPRoute: real sockets at both ends, real AF_XDP between.

use std::net::UdpSocket;
use std::time::Duration;

use tests::lab::{MESH, MESH_V6};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Namespace, Process, eventually, is_root};

const PATIENCE: Duration = Duration::from_secs(2);

fn mesh() -> Mesh {
    Mesh::start(Lab::up(), Tables::Files(&lab_resources()), "")
}

/// A socket of the namespace that answers each datagram with itself, until the test ends.
fn echo(namespace: &Namespace, address: &str) -> UdpSocket {
    let address = address.to_owned();
    let socket = namespace.within(move || UdpSocket::bind(address)).expect("the port is free");
    let server = socket.try_clone().expect("a socket can be cloned");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    socket
}

fn client(mesh: &Mesh, local: &str, remote: &str) -> UdpSocket {
    let local = local.to_owned();
    let socket = mesh.lab.client.within(move || UdpSocket::bind(local)).expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket.connect(remote).expect("a UDP socket connects");
    socket
}

fn round_trip(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    socket.send(payload).expect("a datagram can be sent");
    let length = socket.recv(&mut buffer).expect("the echo comes back");
    buffer.truncate(length);
    buffer
}

#[test]
fn datagrams_are_echoed_over_ipv4_and_ipv6() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let _v4 = echo(&mesh.lab.media, "10.88.0.13:7000");
    let _v6 = echo(&mesh.lab.media, "[fd88::13]:7000");
    for (local, remote) in
        [("10.77.0.2:0", format!("{MESH}:7000")), ("[fd77::2]:0", format!("[{MESH_V6}]:7000"))]
    {
        let socket = client(&mesh, local, &remote);
        for length in [0, 1, 172, 1200, 1452] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(round_trip(&socket, &payload), payload, "{length} bytes to {remote}");
        }
    }
    assert!(mesh.metric("ringway_discards_total", &[]) < 20.0, "{:?}", mesh.admin("/discards"));
}

#[test]
fn a_datagram_longer_than_the_uplinks_mtu_comes_back_once_its_sender_was_told() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let _echo = echo(&mesh.lab.media, "10.88.0.13:7000");
    let socket = client(&mesh, "10.77.0.2:0", &format!("{MESH}:7000"));
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    let payload: Vec<u8> = (0..4000u32).map(|n| n as u8).collect();
    // Linux sends the first echo with DF set, is told the MTU (RFC 1191), and cuts the next itself.
    eventually("the echo comes back whole", Duration::from_secs(5), || {
        let mut buffer = vec![0; 65_536];
        socket.send(&payload).expect("a datagram can be sent");
        let length = socket.recv(&mut buffer).ok()?;
        (buffer[..length] == payload).then_some(())
    });
}

#[test]
fn many_clients_keep_their_own_sessions() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let _echo = echo(&mesh.lab.media, "10.88.0.13:7000");
    let sockets: Vec<UdpSocket> =
        (0..200).map(|_| client(&mesh, "10.77.0.2:0", &format!("{MESH}:7000"))).collect();
    for round in 0..3 {
        for (number, socket) in sockets.iter().enumerate() {
            let payload = format!("client {number} round {round}");
            assert_eq!(round_trip(socket, payload.as_bytes()), payload.as_bytes());
        }
    }
}

#[test]
fn an_unreachable_backend_port_is_told_to_the_client() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    // Nobody listens at the receiver: its ICMP error quotes our packet and must reach the one who sent it.
    let socket = client(&mesh, "10.77.0.2:0", &format!("{MESH}:7000"));
    socket.send(b"anyone?").expect("a datagram can be sent");
    let refused = socket.recv(&mut [0; 16]).expect_err("nobody answers");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_rtp_stream_from_ffmpeg_arrives_whole_and_is_counted() {
    if !is_root() {
        return;
    }
    let mesh = mesh();
    let received = || -> u64 {
        let line = mesh.lab.media.run("awk '/^Udp:/ && $2 ~ /^[0-9]+$/ { print $2 }' /proc/net/snmp");
        line.trim().parse().expect("the kernel counts datagrams")
    };
    let sink = mesh.lab.media.within(|| UdpSocket::bind("10.88.0.13:5004")).expect("the port is free");
    let reader = sink.try_clone().expect("a socket can be cloned");
    std::thread::spawn(move || while reader.recv(&mut [0; 2048]).is_ok() {});
    let before = received();
    let mut sender = Process::shell(
        &mesh.lab.client,
        &format!(
            "exec ffmpeg -nostdin -loglevel error -re -f lavfi -i sine=frequency=440:duration=4 -ar 8000 -ac 1 \
             -c:a pcm_mulaw -f rtp 'rtp://{MESH}:5004?pkt_size=332'"
        ),
    );
    let status = sender.wait(Duration::from_secs(20)).expect("ffmpeg ends");
    assert!(status.success(), "{}", sender.output());
    let counted = eventually("the packets are counted", Duration::from_secs(3), || {
        let counted = mesh.metric("ringway_rtp_packets_total", &[]);
        (counted >= 90.0).then_some(counted)
    });
    assert_eq!(received() - before, counted as u64, "all that was counted arrived");
    assert_eq!(mesh.metric("ringway_rtp_lost_total", &[]), 0.0);
}
