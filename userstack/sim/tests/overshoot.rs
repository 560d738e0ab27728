//! Slow start that overshoots: a queue that overflows loses every second segment of a whole window, which leaves hundreds of
//! holes at the receiver. What arrived between them is kept, so that only what was lost is sent again.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::listen;
use sim::{Address, Fate, HostPair, LinkConfig};
use socket::{Congestion, TcpOptions, TcpStream};
use stack::Discard;

const PORT: u16 = 7;
/// 100 Mb/s, 40 ms there and back, and a queue of one such product: 500 KB each.
const BITS_PER_SECOND: u64 = 100_000_000;
const ONE_WAY: Duration = Duration::from_millis(10);
const QUEUE_BYTES: usize = 500_000;
/// Until slow start and the recovery after it are over.
const TIME: Duration = Duration::from_secs(2);

#[test]
fn what_an_overflow_did_not_lose_is_kept_and_not_sent_again() {
    let mut pair = HostPair::new(1, LinkConfig::default());
    let narrow = LinkConfig {
        bits_per_second: BITS_PER_SECOND,
        delay: ONE_WAY,
        queue_bytes: QUEUE_BYTES,
        ..LinkConfig::default()
    };
    pair.network.set_link("client", &narrow);
    pair.network.set_link("server", &LinkConfig { delay: ONE_WAY, ..LinkConfig::default() });
    pair.server.borrow_mut().spawn(async move {
        let stream = listen(Address::V4, PORT).accept().await.expect("the listener lives");
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    });
    let (remote, sent_again) = (pair.server_socket(Address::V4, PORT), Rc::new(Cell::new(0)));
    let seen = Rc::clone(&sent_again);
    pair.client.borrow_mut().spawn(async move {
        // It has no HyStart++, which would leave slow start in time.
        let options = TcpOptions { congestion: Congestion::NewReno, ..TcpOptions::default() };
        let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
        let text = vec![7; 64 * 1024];
        while stream.write_all(&text).await.is_ok() {
            seen.set(stream.info().map_or(0, |info| info.retransmitted_segments));
        }
    });
    pair.network.run_for(TIME);
    let lost = pair.network.trace().count(Fate::QueueFull);
    let refused = pair.server.borrow_mut().core().stack().discards().of(Discard::TcpOutOfOrderFull);
    assert!(lost > 100, "{lost} lost: the control");
    assert_eq!(refused, 0, "of {lost} holes");
    let sent_again = u64::from(sent_again.get());
    assert!(sent_again <= lost + lost / 10, "{sent_again} sent again, {lost} lost");
}
