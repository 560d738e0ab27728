//! A hierarchical timer wheel: insert, cancel and expire cost the same with one timer and with a million.
//!
//! TCP, neighbours, reassembly and sessions each own one, with their own small key. The wheel knows no clock: every
//! call that needs the time takes it. A key that fires may name something that has gone since; the owner's own life
//! number makes it miss.
//!
//! ```text
//!   level 0:  64 slots of 1 tick      (65.5 us each, 4.2 ms in all)
//!   level 1:  64 slots of 64 ticks    (4.2 ms each, 268 ms in all)
//!   level 2:  64 slots of 64^2 ticks  (268 ms each, 17 s in all)
//!     ...
//!   level 7:  64 slots of 64^7 ticks  (all of a 64-bit nanosecond clock)
//!
//!   A timer lies in the level of the highest bit in which its tick differs from `elapsed`, and comes down a level
//!   (at most seven times in its life) when `elapsed` reaches its slot.
//! ```

use std::num::NonZeroU32;

use crate::Instant;
use crate::blocks::Blocks;

/// One tick is 2^16 ns, fine enough for a probe timeout within a rack and coarse enough that a turn passes few.
const TICK_SHIFT: u32 = 16;
/// 64 slots a level, so that one word says which are occupied.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 levels of 6 bits over ticks of 16 bits: a 64-bit nanosecond clock.
const LEVELS: usize = 8;
const LAST_TICK: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// No entry.
const NIL: u32 = u32::MAX;
/// An entry's level lies beside its tick, which has 48 bits.
const LEVEL_BITS: u32 = 4;
/// The level of an entry that is not in use.
const UNUSED: u64 = (1 << LEVEL_BITS) - 1;

/// Names an armed timer. A stale one misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TimerId {
    /// The entry's number and one, so that an `Option` of it is no larger.
    number: NonZeroU32,
    life: u32,
}

impl TimerId {
    fn new(entry: u32, life: u32) -> Self {
        Self { number: NonZeroU32::MIN.saturating_add(entry), life }
    }

    fn entry(self) -> u32 {
        self.number.get() - 1
    }
}

/// Timers that each carry a small key.
#[derive(Debug)]
pub struct Wheel<K> {
    entries: Blocks<Entry<K>>,
    /// Head of the list of unused entries.
    free: u32,
    levels: [Level; LEVELS],
    /// The tick up to which slots have been emptied.
    elapsed: u64,
    /// The slot whose entries are on their way to lower levels, when a call ran out of work in the middle.
    cascading: Option<Slot>,
    armed: usize,
}

#[derive(Copy, Clone, Debug)]
struct Slot {
    level: usize,
    index: usize,
}

#[derive(Debug)]
struct Level {
    /// Bit `i` is set when `heads[i]` is not empty.
    occupied: u64,
    heads: [u32; SLOTS],
    tails: [u32; SLOTS],
}

/// 20 bytes and its key.
#[derive(Debug)]
struct Entry<K> {
    /// The tick that it is due at, and in the low bits the level that it lies in.
    place: u64,
    previous: u32,
    next: u32,
    life: u32,
    key: K,
}

impl<K> Entry<K> {
    fn tick(&self) -> u64 {
        self.place >> LEVEL_BITS
    }

    fn is_used(&self) -> bool {
        self.place & UNUSED != UNUSED
    }

    fn level_and_slot(&self) -> (usize, usize) {
        let level = (self.place & UNUSED) as u32;
        (level as usize, slot_in(level, self.tick()))
    }

    fn lie_in(&mut self, level: usize) {
        self.place = self.place & !UNUSED | level as u64;
    }
}

/// The slot of `level` that a tick belongs to.
fn slot_in(level: u32, tick: u64) -> usize {
    (tick >> (SLOT_BITS * level)) as usize % SLOTS
}

impl<K: Copy> Wheel<K> {
    pub fn new(now: Instant) -> Self {
        Self {
            entries: Blocks::new(),
            free: NIL,
            levels: std::array::from_fn(|_| Level { occupied: 0, heads: [NIL; SLOTS], tails: [NIL; SLOTS] }),
            elapsed: now.as_nanos() >> TICK_SHIFT,
            cascading: None,
            armed: 0,
        }
    }

    /// Arms a timer. It fires not before `at` and within a tick of it; a time that has passed fires at the next poll.
    pub fn insert(&mut self, at: Instant, key: K) -> TimerId {
        // Rounded up: a timer that fires early would be armed again for the same moment.
        let tick = at.as_nanos().div_ceil(1 << TICK_SHIFT).clamp(self.elapsed, LAST_TICK);
        let entry = self.acquire(tick, key);
        self.link(entry);
        self.armed += 1;
        TimerId::new(entry, self.entries[entry].life)
    }

    /// Disarms it and gives its key back; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, timer: TimerId) -> Option<K> {
        let entry = self.entries.get(timer.entry())?;
        if entry.life != timer.life || !entry.is_used() {
            return None;
        }
        self.unlink(timer.entry());
        Some(self.release(timer.entry()))
    }

    /// The next timer that is due. `work` is spent on what fires and on what comes down a level, and bounds the call:
    /// `None` with `work` left means that nothing more is due.
    pub fn poll(&mut self, now: Instant, work: &mut usize) -> Option<K> {
        let now_tick = now.as_nanos() >> TICK_SHIFT;
        // The rest of a slot on its way down may have been cancelled meanwhile.
        self.cascading = self.cascading.filter(|slot| self.levels[slot.level].heads[slot.index] != NIL);
        while *work > 0 {
            let Some((slot, tick)) = self.next_slot() else {
                self.elapsed = self.elapsed.max(now_tick.min(LAST_TICK));
                return None;
            };
            if tick > now_tick {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            }
            self.elapsed = self.elapsed.max(tick);
            let entry = self.levels[slot.level].heads[slot.index];
            *work -= 1;
            self.unlink(entry);
            if slot.level == 0 {
                return Some(self.release(entry));
            }
            self.link(entry);
            let emptied = self.levels[slot.level].heads[slot.index] == NIL;
            self.cascading = (!emptied).then_some(slot);
        }
        None
    }

    /// When [`poll`](Self::poll) has work again. Never later than the first timer; earlier by at most one slot of the
    /// level it lies in, and then at most seven times.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_slot().map(|(_, tick)| Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// Timers that are armed.
    pub fn len(&self) -> usize {
        self.armed
    }

    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The occupied slot that is due first, and its tick.
    fn next_slot(&self) -> Option<(Slot, u64)> {
        if let Some(slot) = self.cascading
            && self.levels[slot.level].heads[slot.index] != NIL
        {
            return Some((slot, self.elapsed));
        }
        // Whatever lies in a lower level is due before anything in a higher one.
        self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0).map(|(number, level)| {
            let shift = SLOT_BITS * number as u32;
            let current = (self.elapsed >> shift) as u32 % SLOTS as u32;
            let ahead = level.occupied.rotate_right(current).trailing_zeros();
            let index = (current + ahead) % SLOTS as u32;
            let base = (self.elapsed >> shift) - u64::from(current);
            let tick = (base + u64::from(index)) << shift;
            (Slot { level: number, index: index as usize }, tick.max(self.elapsed))
        })
    }

    /// Appends an entry to the slot that its tick belongs to, seen from `elapsed`.
    fn link(&mut self, entry: u32) {
        let tick = self.entries[entry].tick();
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = (63 - differing.leading_zeros()) / SLOT_BITS;
        let slot = slot_in(level, tick);
        let list = &mut self.levels[level as usize];
        let tail = std::mem::replace(&mut list.tails[slot], entry);
        list.occupied |= 1 << slot;
        match tail {
            NIL => list.heads[slot] = entry,
            tail => self.entries[tail].next = entry,
        }
        let this = &mut self.entries[entry];
        (this.previous, this.next) = (tail, NIL);
        this.lie_in(level as usize);
    }

    fn unlink(&mut self, entry: u32) {
        let this = &self.entries[entry];
        let (previous, next, (level, slot)) = (this.previous, this.next, this.level_and_slot());
        let list = &mut self.levels[level];
        match previous {
            NIL => list.heads[slot] = next,
            previous => self.entries[previous].next = next,
        }
        match next {
            NIL => list.tails[slot] = previous,
            next => self.entries[next].previous = previous,
        }
        if list.heads[slot] == NIL {
            list.occupied &= !(1 << slot);
        }
    }

    fn acquire(&mut self, tick: u64, key: K) -> u32 {
        let place = tick << LEVEL_BITS;
        if self.free == NIL {
            return self.entries.push(Entry { place, previous: NIL, next: NIL, life: 0, key });
        }
        let index = self.free;
        let entry = &mut self.entries[index];
        self.free = entry.next;
        (entry.place, entry.key) = (place, key);
        index
    }

    fn release(&mut self, index: u32) -> K {
        self.armed -= 1;
        let entry = &mut self.entries[index];
        // An id handed out for this timer must miss the next one in the same place.
        entry.life = entry.life.wrapping_add(1);
        entry.place |= UNUSED;
        entry.next = std::mem::replace(&mut self.free, index);
        entry.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn fire_all(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut work = usize::MAX;
        std::iter::from_fn(|| wheel.poll(now, &mut work)).collect()
    }

    #[test]
    fn a_timer_fires_at_its_time_and_not_before() {
        let mut wheel = Wheel::new(Instant::ZERO);
        let due = Instant::ZERO + Duration::from_millis(200);
        wheel.insert(due, 7);
        assert_eq!(fire_all(&mut wheel, due - Duration::from_micros(1)), []);
        assert_eq!(fire_all(&mut wheel, due + Duration::from_micros(66)), [7]);
        assert_eq!(wheel.len(), 0);
        assert_eq!(wheel.next_timeout(), None);
    }

    #[test]
    fn a_time_that_has_passed_fires_at_the_next_poll() {
        let mut wheel = Wheel::new(at(1 << 40));
        wheel.insert(at(5), 1);
        assert_eq!(fire_all(&mut wheel, at(1 << 40)), [1]);
    }

    #[test]
    fn a_cancelled_timer_is_silent_and_its_id_misses_afterwards() {
        let mut wheel = Wheel::new(Instant::ZERO);
        let first = wheel.insert(at(1_000_000), 1);
        assert_eq!(wheel.cancel(first), Some(1));
        assert_eq!(wheel.cancel(first), None);
        let second = wheel.insert(at(1_000_000), 2);
        assert_eq!(wheel.cancel(first), None, "the entry lives its second life");
        assert_eq!(fire_all(&mut wheel, at(2_000_000)), [2]);
        assert_eq!(wheel.cancel(second), None);
    }

    #[test]
    fn work_bounds_a_call_and_what_is_left_fires_later() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for key in 0..100 {
            wheel.insert(at(1 << 30), key);
        }
        let now = at(1 << 31);
        let (mut fired, mut calls) = (Vec::new(), 0);
        while !wheel.is_empty() {
            let mut work = 16;
            while let Some(key) = wheel.poll(now, &mut work) {
                fired.push(key);
            }
            calls += 1;
            assert!(calls < 100, "every call makes progress");
        }
        fired.sort_unstable();
        assert_eq!(fired, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_timer_armed_while_a_slot_comes_down_still_fires() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for key in 0..4 {
            wheel.insert(at(1 << 30), key);
        }
        assert_eq!(wheel.poll(at(1 << 31), &mut 2), None);
        wheel.insert(at((1 << 30) + 1), 9);
        assert_eq!(fire_all(&mut wheel, at(1 << 31)).len(), 5);
    }

    #[test]
    fn entries_are_used_again() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for round in 0..1_000u64 {
            let timer = wheel.insert(at(round << 20), 0);
            wheel.cancel(timer);
        }
        assert_eq!(wheel.entries.len(), 1);
    }

    /// Steps of work that all timers of a wheel of `armed` take, an hour of them, a timer.
    fn work_to_expire(armed: u64) -> f64 {
        let mut wheel = Wheel::new(Instant::ZERO);
        for number in 0..armed {
            wheel.insert(at(3_600_000_000_000 / armed * (number * 48_271 % armed)), 0);
        }
        let mut work = usize::MAX;
        for millis in (0..=3_600_000).step_by(100) {
            while wheel.poll(at(millis * 1_000_000), &mut work).is_some() {}
        }
        assert!(wheel.is_empty());
        (usize::MAX - work) as f64 / armed as f64
    }

    #[test]
    fn a_timer_of_a_million_takes_no_more_steps_than_one_of_a_thousand() {
        let (few, many) = (work_to_expire(1_000), work_to_expire(1_000_000));
        assert!(many <= few * 1.1 && many < LEVELS as f64, "{many} steps, {few} of a thousand");
    }

    /// What a connection's timer costs beside the connection: `docs/benchmarks.md`, `connections_1000000`.
    #[test]
    fn an_entry_with_a_number_for_its_key_is_24_bytes_and_an_id_that_may_be_missing_8() {
        assert_eq!((size_of::<Entry<u32>>(), size_of::<Option<TimerId>>()), (24, 8));
    }

    /// Of any length, and often within a few ticks: there early and late lie close together.
    fn time(bits: u32) -> impl Strategy<Value = u64> {
        prop_oneof![0u64..4 << TICK_SHIFT, 0u64..1 << bits]
    }

    proptest! {
        /// Beside a sorted list: what fires, when, and what `next_timeout` promises.
        #[test]
        fn behaves_as_a_sorted_list(steps in prop::collection::vec((time(45), time(38), any::<bool>()), 1..200)) {
            let mut wheel = Wheel::new(Instant::ZERO);
            let mut model: Vec<(u64, u32, TimerId)> = Vec::new();
            let mut now = 0;
            for (number, (delay, advance, cancel)) in steps.into_iter().enumerate() {
                let key = number as u32;
                model.push((now + delay, key, wheel.insert(at(now + delay), key)));
                if cancel {
                    let (_, key, timer) = model.swap_remove(number % model.len());
                    prop_assert_eq!(wheel.cancel(timer), Some(key));
                }
                if let Some(first) = model.iter().map(|(due, ..)| *due).min() {
                    let promised = wheel.next_timeout().expect("a timer is armed").as_nanos();
                    prop_assert!(promised <= (first.max(now)).div_ceil(1 << TICK_SHIFT) << TICK_SHIFT);
                }
                now += advance;
                for key in fire_all(&mut wheel, at(now)) {
                    let index = model.iter().position(|(_, k, _)| *k == key).expect("fires once");
                    prop_assert!(model.swap_remove(index).0 <= now, "never early");
                }
                let tick = now >> TICK_SHIFT;
                prop_assert!(model.iter().all(|(due, ..)| due.div_ceil(1 << TICK_SHIFT) > tick), "never late");
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
