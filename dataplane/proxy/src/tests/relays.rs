//! TCP: bytes both ways, half-close, back-pressure, and what happens without a backend.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use model::table::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::Limits;

const DOOR: &str = "10.0.0.1:5432";
const BACKEND: &str = "10.0.1.1:5432";

fn table(backends: Vec<WeightedCluster>) -> Table {
    tables()
        .cluster("c", UpstreamProtocol::Tcp, &[BACKEND])
        .cluster("none", UpstreamProtocol::Tcp, &[])
        .stream("db", DOOR, Protocol::Tcp { backends })
        .0
}

#[test]
fn each_side_may_end_its_half_first_and_the_server_may_speak_first() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            io.write_all(b"hello").await.unwrap();
            let mut asked = Vec::new();
            io.read_to_end(&mut asked).await.unwrap();
            io.write_all(&asked).await.unwrap();
        });
        world.serve(table(vec![share("c", 1)]));
        let mut client = world.dial(DOOR);
        read_until(&mut client, "hello").await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "question");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let count = |name| world.sample(name, &[("listener", "db")]);
        assert_eq!(count("ringway_relayed_to_backend_bytes_total"), 8.0);
        assert_eq!(count("ringway_relayed_to_client_bytes_total"), 13.0);
        assert_eq!(count("ringway_connections_open"), 0.0);
    });
}

#[test]
fn a_reader_that_stands_still_holds_its_sender_back_and_nothing_is_lost() {
    run(|world| async move {
        const LENGTH: usize = 4 << 20;
        let sent = Rc::new(Cell::new(0_usize));
        let counted = Rc::clone(&sent);
        world.raw_backend(BACKEND, move |mut io| {
            let counted = Rc::clone(&counted);
            async move {
                let mut value = 0_u8;
                while counted.get() < LENGTH {
                    let chunk: Vec<u8> = (0..4096)
                        .map(|_| {
                            value = value.wrapping_mul(5).wrapping_add(1);
                            value
                        })
                        .collect();
                    io.write_all(&chunk).await.unwrap();
                    counted.set(counted.get() + chunk.len());
                }
            }
        });
        world.serve(table(vec![share("c", 1)]));
        let mut client = world.dial(DOOR);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(sent.get() <= 2 * PIPE + crate::limits::RELAY_BUFFER_BYTES + 4096, "{}", sent.get());
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), LENGTH);
        let mut value = 0_u8;
        assert!(all.iter().all(|&byte| {
            value = value.wrapping_mul(5).wrapping_add(1);
            byte == value
        }));
    });
}

#[test]
fn without_a_backend_the_client_is_reset() {
    run(|world| async move {
        let invalid = WeightedCluster { cluster: None, weight: 1, filters: vec![] };
        for (backends, reason) in [
            (vec![share("c", 1)], "connect_failed"),
            (vec![share("none", 1)], "no_endpoint"),
            (vec![invalid], "invalid_backend"),
            (vec![share("c", 0)], "invalid_backend"),
        ] {
            let (aborts, before) = (world.pipes.aborts(), world.faults(reason));
            world.serve(table(backends));
            let mut client = world.dial(DOOR);
            assert_eq!(read_quiet(&mut client).await, "");
            assert_eq!((world.pipes.aborts(), world.faults(reason)), (aborts + 1, before + 1.0), "{reason}");
        }
    });
}

#[test]
fn a_relay_outlives_its_table_and_may_be_limited_in_idleness() {
    let limits = Limits { relay_idle: Some(Duration::from_secs(30)), ..Limits::default() };
    run_with(limits, |world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            let (mut read, mut write) = tokio::io::split(&mut io);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        world.serve(table(vec![share("c", 1)]));
        let mut client = world.dial(DOOR);
        client.write_all(b"one").await.unwrap();
        read_until(&mut client, "one").await;
        world.serve(tables().0);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            client.write_all(b"two").await.unwrap();
            read_until(&mut client, "two").await;
        }
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "cut after 30 s of silence");
    });
}
