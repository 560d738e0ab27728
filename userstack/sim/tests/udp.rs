//! UDP between two simulated hosts, through the socket crate.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{assert_accounts_balance, converse};
use sim::{Address, HostPair, LinkConfig};
use socket::{UdpSocket, sleep, timeout};

const PORT: u16 = 7;

async fn serve_echo(local: SocketAddr) {
    let socket = UdpSocket::bind(local, None).expect("the port is free");
    let mut buffer = [0; 2048];
    loop {
        let (len, from, to) = socket.recv_with_destination(&mut buffer).await.expect("the socket lives");
        assert_eq!(to, local);
        socket.send_to(&buffer[..len], from).await.expect("there is a route back");
    }
}

#[test]
fn a_datagram_comes_back_over_both_families() {
    for family in Address::BOTH {
        let mut pair = HostPair::new(1, LinkConfig::default());
        let remote = pair.server_socket(family, PORT);
        let own = SocketAddr::new(pair.client_address(family), 5000);
        converse(&mut pair, Duration::from_secs(5), serve_echo(remote), async move {
            let socket = UdpSocket::bind(own, None).expect("the port is free");
            for len in [0, 1, 172, 1_400] {
                let message = vec![len as u8; len];
                socket.send_to(&message, remote).await.expect("there is a route");
                let mut answer = [0xff; 2048];
                let received = timeout(Duration::from_secs(1), socket.recv_from(&mut answer)).await;
                assert_eq!(received.expect("nothing is lost").expect("the socket lives"), (len, remote));
                assert_eq!(answer[..len], message);
            }
        });
        assert_accounts_balance(&pair);
    }
}

#[test]
fn a_datagram_longer_than_the_path_is_fragmented_and_put_together() {
    for family in Address::BOTH {
        let mut pair = HostPair::new(1, LinkConfig::default());
        let remote = pair.server_socket(family, PORT);
        let own = SocketAddr::new(pair.client_address(family), 5000);
        let server = async move {
            let socket = UdpSocket::bind(remote, None).expect("the port is free");
            let mut buffer = vec![0; 8_000];
            let (len, from) = socket.recv_from(&mut buffer).await.expect("the socket lives");
            assert!(buffer[..len].iter().enumerate().all(|(index, byte)| *byte == index as u8));
            socket.send_to(&(len as u32).to_be_bytes(), from).await.expect("there is a route back");
        };
        converse(&mut pair, Duration::from_secs(5), server, async move {
            let socket = UdpSocket::bind(own, None).expect("the port is free");
            let message: Vec<u8> = (0..6_000_u32).map(|index| index as u8).collect();
            let Ok(()) = socket.send_to(&message, remote).await else { return };
            let mut answer = [0; 8];
            let received = timeout(Duration::from_secs(1), socket.recv_from(&mut answer)).await;
            assert_eq!(received.expect("nothing is lost").expect("the socket lives").0, 4);
            assert_eq!(answer[..4], 6_000_u32.to_be_bytes());
        });
    }
}

#[test]
fn a_thousand_datagrams_at_once_wait_for_room_and_none_is_refused() {
    let mut pair = HostPair::new(1, LinkConfig::default());
    let remote = pair.server_socket(Address::V4, PORT);
    let own = SocketAddr::new(pair.client_address(Address::V4), 5000);
    converse(&mut pair, Duration::from_secs(5), std::future::pending(), async move {
        let socket = UdpSocket::bind(own, None).expect("the port is free");
        // What waits for the router's hardware address is bounded, so it is asked for first.
        socket.send_to(&[0; 172], remote).await.expect("there is a route");
        sleep(Duration::from_millis(10)).await;
        for _ in 0..1_000 {
            socket.send_to(&[0; 172], remote).await.expect("there is a route");
        }
        sleep(Duration::from_millis(10)).await;
    });
    assert!(pair.server.borrow().counters().received >= 1_000);
    assert_accounts_balance(&pair);
}

#[test]
fn an_address_is_bound_once() {
    let mut pair = HostPair::new(1, LinkConfig::default());
    let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    pair.client.borrow_mut().enter(|| {
        let first = UdpSocket::bind(local, None).expect("the port is free");
        assert_eq!(UdpSocket::bind(local, None).expect_err("it is taken"), socket::UdpError::InUse);
        drop(first);
        UdpSocket::bind(local, None).expect("it is free again");
    });
    pair.network.run_for(Duration::from_millis(1));
}
