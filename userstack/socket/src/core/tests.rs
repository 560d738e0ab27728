//! The executor and its clock, without a network.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use stack::Config;

use super::*;
use crate::{Elapsed, Sleep, TcpStream, sleep, timeout};

fn core() -> Core {
    Core::new(Stack::new(Config::default(), Instant::ZERO), 7)
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A tick of the timer wheel: timers are late by up to that.
const TICK: Duration = Duration::from_nanos(1 << 16);

/// Whether the next timer is due at `millis`, to a tick.
fn is_due_at(core: &Core, millis: u64) -> bool {
    core.poll_timeout().is_some_and(|due| due <= at(millis) + TICK)
}

fn run(core: &mut Core, now: Instant) -> bool {
    core.handle_timers(256, now);
    core.run_tasks(now, &mut || false)
}

/// Yields once: woken at once, polled again after the others.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn tasks_run_in_the_order_of_their_wakes() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut core = core();
    for name in ["a", "b"] {
        let order = Rc::clone(&order);
        core.spawn(async move {
            order.borrow_mut().push(name);
            yield_now().await;
            order.borrow_mut().push(name);
        });
    }
    assert!(!run(&mut core, at(0)));
    assert_eq!(*order.borrow(), ["a", "b", "a", "b"]);
    assert_eq!(core.tasks(), 0);
}

#[test]
fn a_turn_makes_64_polls_and_says_that_more_are_ready() {
    let polls = Rc::new(Cell::new(0));
    let mut core = core();
    for _ in 0..100 {
        let polls = Rc::clone(&polls);
        core.spawn(async move { polls.set(polls.get() + 1) });
    }
    assert!(core.run_tasks(at(0), &mut || false));
    assert_eq!(polls.get(), POLLS_PER_TURN);
    assert!(!core.run_tasks(at(0), &mut || false));
    assert_eq!(polls.get(), 100);
}

#[test]
fn a_turn_ends_when_its_time_has_expired() {
    let mut core = core();
    for _ in 0..8 {
        core.spawn(async {});
    }
    let mut polls = 0;
    let mut expired = || {
        polls += 1;
        polls == 3
    };
    assert!(core.run_tasks(at(0), &mut expired), "it is asked after each poll");
    assert_eq!(core.tasks(), 8 - 3);
}

#[test]
fn a_wake_from_another_thread_goes_through_the_mailbox_and_rings() {
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let mut core = core();
    let rings = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&rings);
    core.set_doorbell(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let shared = Rc::clone(&waker);
    core.spawn(poll_fn(move |context| match shared.replace(Some(context.waker().clone())) {
        None => Poll::Pending,
        Some(_) => Poll::Ready(()),
    }));
    assert!(!run(&mut core, at(0)));
    assert!(!core.has_ready());
    let foreign = waker.borrow().clone().expect("the task was polled");
    std::thread::spawn(move || {
        foreign.wake_by_ref();
        foreign.wake();
    })
    .join()
    .expect("the waking thread ends well");
    assert!(core.has_ready());
    assert_eq!(rings.load(Ordering::Relaxed), 1, "a task that is queued is not queued again");
    run(&mut core, at(0));
    assert_eq!(core.tasks(), 0);
}

#[test]
fn a_wake_after_the_task_ended_misses_its_slots_next_tenant() {
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let mut core = core();
    let shared = Rc::clone(&waker);
    core.spawn(poll_fn(move |context| {
        shared.replace(Some(context.waker().clone()));
        Poll::Ready(())
    }));
    run(&mut core, at(0));
    let polls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&polls);
    core.spawn(poll_fn(move |_| {
        counter.set(counter.get() + 1);
        Poll::Pending
    }));
    run(&mut core, at(0));
    waker.take().expect("the first task was polled").wake();
    run(&mut core, at(0));
    assert_eq!(polls.get(), 1);
}

#[test]
fn one_waker_serves_a_task_for_life() {
    let mut core = core();
    let first: RefCell<Option<Waker>> = RefCell::new(None);
    core.spawn(poll_fn(move |context| {
        let mut first = first.borrow_mut();
        let Some(known) = &*first else {
            context.waker().wake_by_ref();
            *first = Some(context.waker().clone());
            return Poll::Pending;
        };
        assert!(known.will_wake(context.waker()));
        Poll::Ready(())
    }));
    run(&mut core, at(0));
    assert_eq!(core.tasks(), 0);
}

#[test]
fn a_sleep_ends_at_its_deadline_and_not_before() {
    let woke = Rc::new(Cell::new(None));
    let mut core = core();
    let seen = Rc::clone(&woke);
    core.spawn(async move {
        sleep(Duration::from_millis(10)).await;
        seen.set(Some(now()));
    });
    run(&mut core, at(5));
    assert!(is_due_at(&core, 15));
    run(&mut core, at(14));
    assert_eq!(woke.get(), None);
    run(&mut core, at(15) + TICK);
    assert_eq!(woke.get(), Some(at(15) + TICK));
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn a_sleep_that_is_dropped_leaves_no_timer() {
    let mut core = core();
    core.spawn(async {
        let quick = timeout(Duration::from_secs(9), async { 3 }).await;
        assert_eq!(quick, Ok(3));
        let slow = timeout(Duration::from_millis(1), sleep(Duration::from_secs(9))).await;
        assert_eq!(slow, Err(Elapsed));
    });
    run(&mut core, at(0));
    assert!(is_due_at(&core, 1));
    run(&mut core, at(2));
    assert_eq!(core.poll_timeout(), None);
    assert_eq!(core.tasks(), 0);
}

#[test]
fn a_sleep_can_be_reset_in_both_directions() {
    let mut core = core();
    core.spawn(async {
        let mut nap = Box::pin(sleep(Duration::from_millis(10)));
        assert!(timeout(Duration::from_millis(1), nap.as_mut()).await.is_err());
        nap.reset(at(40));
        nap.as_mut().await;
        assert_eq!(now(), at(41));
        nap.reset(at(43));
        nap.await;
        assert_eq!(now(), at(44));
    });
    for millis in 0..50 {
        run(&mut core, at(millis));
    }
    assert_eq!(core.tasks(), 0);
}

#[test]
fn due_timers_are_fired_within_their_budget() {
    let mut core = core();
    for _ in 0..3 {
        core.spawn(sleep_for(1));
    }
    run(&mut core, at(0));
    assert!(core.handle_timers(2, at(2)));
    assert!(!core.handle_timers(2, at(2)));
}

async fn sleep_for(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

#[test]
fn a_core_that_ends_drops_its_tasks_inside_the_scope() {
    struct OnDrop(Rc<Cell<Option<Instant>>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.set(Some(now()));
        }
    }
    let dropped = Rc::new(Cell::new(None));
    let mut core = core();
    let held = OnDrop(Rc::clone(&dropped));
    core.spawn(async move {
        let _held = held;
        pending::<()>().await;
    });
    run(&mut core, at(3));
    drop(core);
    assert_eq!(dropped.get(), Some(at(3)));
}

#[test]
fn a_task_may_abort_another_and_itself() {
    let mut core = core();
    let other = core.spawn(pending());
    let own: Rc<Cell<Option<TaskId>>> = Rc::default();
    let id = Rc::clone(&own);
    own.set(Some(core.spawn(async move {
        assert!(abort(other));
        assert!(!abort(other));
        assert!(abort(id.get().expect("set before the first poll")));
        pending::<()>().await;
    })));
    run(&mut core, at(0));
    assert_eq!(core.tasks(), 0);
}

#[test]
fn equal_seeds_give_equal_numbers() {
    let draw = |seed| {
        let mut core = Core::new(Stack::new(Config::default(), Instant::ZERO), seed);
        core.enter(at(0), || [random(), random()])
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn hypers_clock_follows_the_cores() {
    use hyper::rt::Timer as _;
    let mut core = core();
    let first = core.enter(at(1_000), || crate::Timer.now());
    let later = core.enter(at(3_500), || crate::Timer.now());
    assert_eq!(later - first, Duration::from_millis(2_500));
    core.spawn(async move {
        crate::Timer.sleep_until(later + Duration::from_millis(500)).await;
        assert_eq!(now(), at(4_001));
    });
    run(&mut core, at(3_500));
    assert!(is_due_at(&core, 4_000));
    run(&mut core, at(4_001));
    assert_eq!(core.tasks(), 0);
}

#[test]
#[should_panic(expected = "socket::now was used outside of a core")]
fn a_use_outside_of_the_scope_fails_by_name() {
    now();
}

#[test]
#[should_panic(expected = "Sleep::poll was used in another core")]
fn a_use_in_another_cores_scope_fails_by_name() {
    let mut owner = core();
    let nap = owner.enter(at(0), || sleep(Duration::from_secs(1)));
    let mut other = core();
    other.spawn(nap);
    run(&mut other, at(0));
}

#[test]
fn an_inner_scope_gives_way_to_the_outer_one_again() {
    let (mut outer, mut inner) = (core(), core());
    outer.enter(at(1), || {
        assert_eq!(inner.enter(at(2), now), at(2));
        assert_eq!(now(), at(1));
    });
}

#[test]
fn a_sleep_dropped_outside_of_the_scope_is_disarmed_at_the_next_turn() {
    let mut core = core();
    let kept: Rc<RefCell<Option<Sleep>>> = Rc::default();
    let place = Rc::clone(&kept);
    core.spawn(async move {
        let mut nap = sleep(Duration::from_secs(1));
        poll_fn(|context| {
            assert!(std::pin::Pin::new(&mut nap).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        place.replace(Some(nap));
    });
    run(&mut core, at(0));
    assert!(is_due_at(&core, 1_000));
    drop(kept.take());
    run(&mut core, at(0));
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn streams_and_sleeps_are_send_as_types() {
    fn send<T: Send>() {}
    fn send_sync<T: Send + Sync>() {}
    send::<TcpStream>();
    send_sync::<Sleep>();
    send_sync::<TaskId>();
}
