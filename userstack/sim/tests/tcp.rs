//! TCP between two simulated hosts, through the socket crate: echo, faults, stalled readers, repeatability.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::{Pattern, assert_accounts_balance, converse, listen, seeds, slow_link};
use sim::{Address, HostPair, LinkConfig, LinkFaults, PairConfig};
use socket::{Instant, TcpOptions, TcpStream, sleep, spawn, timeout};

const PORT: u16 = 7;
const MIB: usize = 1 << 20;

/// Unoptimised, a seed of ten mebibytes takes two seconds instead of an eighth.
const SEEDS: u64 = if cfg!(debug_assertions) { 8 } else { 200 };

/// Sends back what each connection says, until it ends.
async fn serve_echo(family: Address) {
    let listener = listen(family, PORT);
    loop {
        let stream = listener.accept().await.expect("the listener lives");
        spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(len) => {
                        if stream.write_all(&buffer[..len]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
}

async fn echo(stream: &TcpStream, message: &[u8]) {
    stream.write_all(message).await.expect("the server reads");
    let mut answer = vec![0; message.len()];
    let mut len = 0;
    while len < answer.len() {
        let read = stream.read(&mut answer[len..]).await.expect("the server answers");
        assert_ne!(read, 0, "the server does not end first");
        len += read;
    }
    assert_eq!(answer, message);
}

#[test]
fn an_echo_comes_back_over_both_families() {
    for family in Address::BOTH {
        let mut pair = HostPair::new(1, LinkConfig::default());
        let remote = pair.server_socket(family, PORT);
        let own = pair.client_address(family);
        converse(&mut pair, Duration::from_secs(5), serve_echo(family), async move {
            let stream =
                TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
            assert_eq!(stream.remote_addr().expect("connected"), remote);
            assert_eq!(stream.local_addr().expect("connected").ip(), own);
            echo(&stream, b"over the hop and back").await;
            stream.shutdown();
            assert_eq!(stream.read(&mut [0; 8]).await.expect("the server ends in order"), 0);
        });
        assert_accounts_balance(&pair);
    }
}

#[test]
fn a_connect_to_a_port_where_nobody_listens_is_refused() {
    let mut pair = HostPair::new(1, LinkConfig::default());
    let remote = pair.server_socket(Address::V4, 9);
    converse(&mut pair, Duration::from_secs(5), async {}, async move {
        let error =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connect_into_the_void_ends_at_its_timeout() {
    let mut pair = HostPair::new(1, LinkConfig::default());
    let remote = "10.2.0.99:80".parse().expect("an address");
    converse(&mut pair, Duration::from_secs(9), async {}, async move {
        let options = TcpOptions { connect_timeout: Duration::from_secs(2), ..TcpOptions::default() };
        let before = socket::now();
        let error = TcpStream::connect(remote, None, options).await.expect_err("nobody is there");
        assert!(matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::HostUnreachable));
        assert!(socket::now().since(before) <= Duration::from_secs(3));
    });
}

/// The client uploads `len` bytes and half-closes; the server answers with as many of its own and closes.
fn exchange(pair: &mut HostPair, seed: u64, family: Address, len: Exchange) {
    let remote = pair.server_socket(family, PORT);
    let upload = Pattern::new(seed);
    let download = Pattern::new(!seed);
    let (sent, answered) = (upload.clone(), download.clone());
    let server = async move {
        let listener = listen(family, PORT);
        let stream = listener.accept().await.expect("the listener lives");
        assert_eq!(receive(&stream, sent).await, len.upload);
        send(&stream, answered, len.download).await;
        stream.shutdown();
    };
    let client = async move {
        let options = TcpOptions { connect_timeout: Duration::from_secs(60), ..TcpOptions::default() };
        let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
        send(&stream, upload, len.upload).await;
        stream.shutdown();
        assert_eq!(receive(&stream, download).await, len.download);
    };
    converse(pair, Duration::from_secs(600), server, client);
    assert_accounts_balance(pair);
}

/// Bytes that go each way.
#[derive(Copy, Clone)]
struct Exchange {
    upload: usize,
    download: usize,
}

impl Exchange {
    fn both_ways(len: usize) -> Self {
        Self { upload: len, download: len }
    }

    /// All of it in one direction, which one the seed says, and a little back.
    fn one_way(len: usize, seed: u64) -> Self {
        let little = len / 100;
        if seed % 4 < 2 {
            Self { upload: len, download: little }
        } else {
            Self { upload: little, download: len }
        }
    }
}

async fn send(stream: &TcpStream, mut pattern: Pattern, len: usize) {
    while pattern.position() < len {
        let chunk = pattern.peek(len - pattern.position());
        let written = stream.write(chunk).await.expect("the connection lives");
        pattern.advance(written);
    }
}

async fn receive(stream: &TcpStream, mut pattern: Pattern) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await.expect("the connection lives") {
            0 => return pattern.position(),
            len => pattern.expect(&buffer[..len]),
        }
    }
}

#[test]
fn ten_mebibytes_each_way_arrive_exactly_over_a_clean_link() {
    for family in Address::BOTH {
        let mut pair = HostPair::new(1, slow_link(LinkFaults::NONE));
        exchange(&mut pair, 1, family, Exchange::both_ways(10 * MIB));
        assert!(pair.network.now() < Instant::from_nanos(1_000_000_000), "{:?}", pair.network);
    }
}

/// 5% loss on each of two links, reordering and duplication.
fn rough(seed: u64, len: Exchange) {
    let mut pair = HostPair::new(seed, slow_link(LinkFaults::ROUGH));
    exchange(&mut pair, seed, family_of(seed), len);
}

#[test]
fn ten_mebibytes_arrive_exactly_under_loss_reordering_and_duplication_even_seeds() {
    seeds(SEEDS)
        .filter(|seed| seed.is_multiple_of(2))
        .for_each(|seed| rough(seed, Exchange::one_way(10 * MIB, seed)));
}

#[test]
fn ten_mebibytes_arrive_exactly_under_loss_reordering_and_duplication_odd_seeds() {
    seeds(SEEDS)
        .filter(|seed| !seed.is_multiple_of(2))
        .for_each(|seed| rough(seed, Exchange::one_way(10 * MIB, seed)));
}

#[test]
fn bytes_arrive_exactly_whatever_faults_the_seed_draws() {
    for seed in seeds(SEEDS) {
        let mut pair = HostPair::new(seed, slow_link(LinkFaults::from_seed(seed)));
        exchange(&mut pair, seed, family_of(seed), Exchange::both_ways(MIB / 4));
    }
}

fn family_of(seed: u64) -> Address {
    if seed.is_multiple_of(2) { Address::V4 } else { Address::V6 }
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    let run = |seed| {
        let mut pair = HostPair::new(seed, slow_link(LinkFaults::ROUGH));
        exchange(&mut pair, seed, Address::V4, Exchange::both_ways(MIB));
        pair.network.trace().hash()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

/// Connections that come and go at once under the seed's faults; some end in order, some are aborted, some dropped with
/// bytes unread. Whatever happens to a connection, its tasks end, and those that end in order have every byte.
#[test]
fn connections_that_come_and_go_under_faults_leave_nothing_behind() {
    for seed in seeds(SEEDS) {
        let family = family_of(seed);
        let mut pair = HostPair::new(seed, slow_link(LinkFaults::from_seed(seed)));
        let remote = pair.server_socket(family, PORT);
        let listener = pair.server.borrow_mut().spawn(serve_echo(family));
        let whole = Rc::new(Cell::new(0));
        for number in 0..COMERS {
            pair.client.borrow_mut().spawn(come_and_go(remote, number, Rc::clone(&whole)));
        }
        let (client, server) = (Rc::clone(&pair.client), Rc::clone(&pair.server));
        let ended = pair.network.run_until(Duration::from_secs(900), || {
            client.borrow_mut().core().tasks() == 0 && server.borrow_mut().core().tasks() == 1
        });
        assert!(ended, "seed {seed}: tasks are left: {:?} {:?}", pair.client, pair.server);
        assert_eq!(whole.get(), COMERS.div_ceil(3), "seed {seed}");
        assert_accounts_balance(&pair);
        assert!(pair.server.borrow_mut().core().abort(listener));
    }
}

const COMERS: u64 = 30;

async fn come_and_go(remote: std::net::SocketAddr, number: u64, whole: Rc<Cell<u64>>) {
    sleep(Duration::from_millis(socket::random() % 500)).await;
    let options = TcpOptions { connect_timeout: Duration::from_secs(120), ..TcpOptions::default() };
    let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
    let message: Vec<u8> = (0..1 + socket::random() % 20_000).map(|index| (index + number) as u8).collect();
    match number % 3 {
        0 => {
            echo(&stream, &message).await;
            stream.shutdown();
            assert_eq!(stream.read(&mut [0; 8]).await.expect("the server ends in order"), 0);
            whole.set(whole.get() + 1);
        }
        1 => {
            stream.write_all(&message).await.expect("the server reads");
            stream.abort();
        }
        _ => {
            stream.write_all(&message).await.expect("the server reads");
            let _some = stream.read(&mut [0; 1]).await.expect("the server answers");
        }
    }
}

#[test]
fn a_thousand_stalled_readers_harm_nobody_else() {
    const STALLED: usize = 1_000;
    let budget = 64 << 20;
    let server = stack::Config { memory_budget_bytes: budget, ..stack::Config::default() };
    let mut pair = HostPair::with(3, PairConfig { server, ..PairConfig::default() });
    let remote = pair.server_socket(Address::V4, PORT);
    let stalled_at = pair.server_socket(Address::V4, PORT + 1);
    let server = async {
        spawn(serve_echo(Address::V4));
        let listener = listen(Address::V4, PORT + 1);
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.expect("the listener lives"));
        }
    };
    let filled = Rc::new(Cell::new(0));
    let counter = Rc::clone(&filled);
    let client = async move {
        let before =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
        for _ in 0..STALLED {
            spawn(fill(stalled_at, Rc::clone(&counter)));
        }
        while counter.get() < STALLED {
            sleep(Duration::from_secs(1)).await;
        }
        timeout(Duration::from_secs(2), echo(&before, &[1; 5_000])).await.expect("the echo is not held up");
        let after =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
        timeout(Duration::from_secs(2), echo(&after, &[2; 5_000])).await.expect("the echo is not held up");
    };
    converse(&mut pair, Duration::from_secs(60), server, client);
    assert_accounts_balance(&pair);
}

/// Writes until the peer's window and the own buffer are full, then holds on.
async fn fill(remote: std::net::SocketAddr, filled: Rc<Cell<usize>>) {
    let options = TcpOptions { send_buffer_bytes: 64 * 1024, ..TcpOptions::default() };
    let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
    let chunk = vec![7; 16 * 1024];
    while let Ok(written) = timeout(Duration::from_secs(2), stream.write(&chunk)).await {
        written.expect("a stalled reader does not reset");
    }
    filled.set(filled.get() + 1);
    std::future::pending::<()>().await;
}

#[test]
fn a_reader_that_wakes_up_after_a_stall_gets_every_byte() {
    let len = 4 * MIB;
    let mut pair = HostPair::new(9, slow_link(LinkFaults::ROUGH));
    let remote = pair.server_socket(Address::V6, PORT);
    let pattern = Pattern::new(9);
    let sent = pattern.clone();
    let server = async move {
        let listener = listen(Address::V6, PORT);
        let stream = listener.accept().await.expect("the listener lives");
        sleep(Duration::from_secs(90)).await;
        assert_eq!(receive(&stream, sent).await, len);
        stream.write_all(b"!").await.expect("the client reads");
    };
    let client = async move {
        let stream =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
        send(&stream, pattern, len).await;
        stream.shutdown();
        assert_eq!(stream.read(&mut [0; 1]).await.expect("the server answers"), 1);
    };
    converse(&mut pair, Duration::from_secs(600), server, client);
}

#[test]
fn a_narrow_hop_teaches_both_hosts_the_path_mtu() {
    for family in Address::BOTH {
        let config = PairConfig { router_mtu: Some(1280), ..PairConfig::default() };
        let mut pair = HostPair::with(6, config);
        exchange(&mut pair, 6, family, Exchange::both_ways(MIB));
        let refused = pair.router.borrow().counters().refused;
        assert!((1..100).contains(&refused), "{refused} packets were too big");
        assert!(pair.network.now() < Instant::from_nanos(3_000_000_000), "{:?}", pair.network);
    }
}

/// An upload of ten mebibytes that `disturb` meets 20 ms after its begin.
fn disturbed(seed: u64, disturb: impl FnOnce(&mut HostPair)) {
    let mut pair = HostPair::new(seed, slow_link(LinkFaults::NONE));
    let remote = pair.server_socket(Address::V4, PORT);
    let pattern = Pattern::new(seed);
    let (sent, received) = (pattern.clone(), Rc::new(Cell::new(0)));
    let total = Rc::clone(&received);
    pair.server.borrow_mut().spawn(async move {
        let listener = listen(Address::V4, PORT);
        let stream = listener.accept().await.expect("the listener lives");
        total.set(receive(&stream, sent).await);
    });
    pair.client.borrow_mut().spawn(async move {
        let stream =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
        send(&stream, pattern, 10 * MIB).await;
    });
    pair.network.run_for(Duration::from_millis(20));
    disturb(&mut pair);
    assert_eq!(received.get(), 0, "the stream has not ended");
    assert!(pair.network.run_until(Duration::from_secs(60), || received.get() == 10 * MIB));
    assert_accounts_balance(&pair);
}

#[test]
fn an_outage_of_the_link_delays_the_bytes_and_loses_none() {
    disturbed(7, |pair| {
        let down = LinkFaults { loss_ppm: 1_000_000, ..LinkFaults::NONE };
        pair.network.set_link("server", &slow_link(down));
        pair.network.run_for(Duration::from_secs(20));
        pair.network.set_link("server", &slow_link(LinkFaults::NONE));
    });
}

#[test]
fn a_host_that_stalls_loses_nothing() {
    disturbed(8, |pair| {
        let server = pair.server_number;
        pair.network.stall(server, Duration::from_secs(3));
    });
    disturbed(8, |pair| {
        let client = pair.client_number;
        pair.network.stall(client, Duration::from_secs(3));
    });
}

#[test]
fn dropping_a_core_with_open_connections_is_quiet() {
    let mut pair = HostPair::new(4, LinkConfig::default());
    let remote = pair.server_socket(Address::V4, PORT);
    converse(&mut pair, Duration::from_secs(5), serve_echo(Address::V4), async move {
        let stream =
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens");
        spawn(async move {
            let _never = stream.read(&mut [0; 1]).await;
        });
    });
    drop(pair);
}

#[test]
fn a_stream_dropped_outside_of_its_core_is_closed_at_the_next_turn() {
    let mut pair = HostPair::new(4, LinkConfig::default());
    let remote = pair.server_socket(Address::V4, PORT);
    let kept: Rc<Cell<Option<TcpStream>>> = Rc::default();
    let place = Rc::clone(&kept);
    let ended = Rc::new(Cell::new(false));
    let seen = Rc::clone(&ended);
    let server = async move {
        let listener = listen(Address::V4, PORT);
        let stream = listener.accept().await.expect("the listener lives");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("the client closes in order"), 0);
        seen.set(true);
    };
    converse(&mut pair, Duration::from_secs(5), server, async move {
        place.set(Some(
            TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens"),
        ));
    });
    pair.network.run_for(Duration::from_secs(1));
    assert!(!ended.get());
    drop(kept.take());
    pair.client.borrow_mut().spawn(async {});
    assert!(pair.network.run_until(Duration::from_secs(1), || ended.get()));
}
