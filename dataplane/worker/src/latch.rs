//! The agreement between a worker that goes to sleep and a producer that gives it something: no wake-up is lost, and
//! none is made for a worker that is awake.
//!
//! ```text
//!   worker                          producer
//!   sleeping := true                push
//!   ── fence ──                     ── fence ──
//!   look at every queue             sleeping? then sleeping := false, ring
//!   nothing there: sleep
//! ```
//! Each side writes, fences, and reads what the other writes: at least one of them sees the other's write. Generic over
//! its flag so that loom can walk every interleaving.

use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A shared boolean with the fence that belongs to it.
pub trait Flag: Default {
    fn load(&self) -> bool;
    fn store(&self, value: bool);
    fn swap(&self, value: bool) -> bool;
    fn fence();
}

impl Flag for AtomicBool {
    fn load(&self) -> bool {
        self.load(Ordering::Relaxed)
    }

    fn store(&self, value: bool) {
        self.store(value, Ordering::Relaxed);
    }

    fn swap(&self, value: bool) -> bool {
        self.swap(value, Ordering::Relaxed)
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
pub struct Latch<F = AtomicBool> {
    sleeping: F,
}

impl<F: Flag> Latch<F> {
    /// The worker will sleep unless a look at every queue, after this, finds something.
    pub fn announce_sleep(&self) {
        self.sleeping.store(true);
        F::fence();
    }

    pub fn announce_awake(&self) {
        self.sleeping.store(false);
    }

    /// Asked by a producer after its push. True for one of those who ask while the worker sleeps: that one rings.
    pub fn must_ring(&self) -> bool {
        F::fence();
        self.sleeping.load() && self.sleeping.swap(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic as modelled;

    #[derive(Debug)]
    struct ModelledFlag(modelled::AtomicBool);

    impl Default for ModelledFlag {
        fn default() -> Self {
            Self(modelled::AtomicBool::new(false))
        }
    }

    impl Flag for ModelledFlag {
        fn load(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        fn store(&self, value: bool) {
            self.0.store(value, Ordering::Relaxed);
        }

        fn swap(&self, value: bool) -> bool {
            self.0.swap(value, Ordering::Relaxed)
        }

        fn fence() {
            modelled::fence(Ordering::SeqCst);
        }
    }

    /// `fenced: false` leaves the producer's fence out: the control that must fail.
    fn no_interleaving_loses_a_wake_up(fenced: bool) {
        loom::model(move || {
            let latch = Arc::new(Latch::<ModelledFlag>::default());
            let queue = Arc::new(modelled::AtomicBool::new(false));
            let rung = Arc::new(modelled::AtomicBool::new(false));
            let producer = loom::thread::spawn({
                let (latch, queue, rung) = (Arc::clone(&latch), Arc::clone(&queue), Arc::clone(&rung));
                move || {
                    queue.store(true, Ordering::Relaxed);
                    let ring = if fenced { latch.must_ring() } else { latch.sleeping.load() };
                    if ring {
                        rung.store(true, Ordering::Relaxed);
                    }
                }
            });
            latch.announce_sleep();
            let asleep = !queue.load(Ordering::Relaxed);
            producer.join().unwrap();
            assert!(!asleep || rung.load(Ordering::Relaxed), "the worker sleeps on a full queue");
        });
    }

    #[test]
    fn a_push_is_seen_or_rung_for_in_every_interleaving() {
        no_interleaving_loses_a_wake_up(true);
    }

    #[test]
    #[should_panic(expected = "the worker sleeps on a full queue")]
    fn without_its_fence_a_push_can_be_lost() {
        no_interleaving_loses_a_wake_up(false);
    }
}
