//! What tasks cost in allocations: two a spawn, none a poll, a wake or a sleep once the core has seen as many before.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use socket::{Core, Instant, sleep};
use stack::{Config, Stack};

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn turn(core: &mut Core, now: Instant) {
    core.handle_timers(256, now);
    core.run_tasks(now, &mut || false);
}

#[test]
fn a_spawn_allocates_twice() {
    let mut core = Core::new(Stack::new(Config::default(), Instant::ZERO), 1);
    for _ in 0..4 {
        core.spawn(async {});
    }
    turn(&mut core, at(0));
    let counted = measure(|| {
        core.spawn(async {});
    });
    assert_eq!(counted.count_total, 2);
    turn(&mut core, at(0));
}

#[test]
fn polls_and_wakes_allocate_nothing() {
    let mut core = Core::new(Stack::new(Config::default(), Instant::ZERO), 1);
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let place = Rc::clone(&waker);
    core.spawn(poll_fn(move |context| {
        place.borrow_mut().get_or_insert_with(|| context.waker().clone());
        Poll::Pending
    }));
    turn(&mut core, at(0));
    let waker = waker.take().expect("the task was polled");
    let counted = measure(|| {
        for _ in 0..1_000 {
            core.enter(at(0), || waker.wake_by_ref());
            turn(&mut core, at(0));
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn sleeps_allocate_nothing() {
    let mut core = Core::new(Stack::new(Config::default(), Instant::ZERO), 1);
    core.spawn(async {
        loop {
            sleep(Duration::from_millis(1)).await;
        }
    });
    turn(&mut core, at(0));
    turn(&mut core, at(2));
    let counted = measure(|| {
        for millis in 2..1_000 {
            turn(&mut core, at(millis));
        }
    });
    assert_eq!(counted.count_total, 0);
}
