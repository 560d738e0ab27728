//! What a timer costs while many others are armed.

use std::time::Duration;

use stack::Instant;
use stack::wheel::{TimerId, Wheel};

use crate::count::{Meter, Sums};

/// Timers that are counted at once.
const BATCH: usize = 1_000;
/// Armed timers are due within so long, one as far from the next as all others.
const SPAN: Duration = Duration::from_secs(3600);
/// A prime: steps of it go through all places, far from one another.
const STRIDE: usize = 48_271;

/// What is counted of a timer's life.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Insert,
    Cancel,
    /// The way down the levels too.
    Expire,
}

/// A wheel with `armed` timers, and as much room that no more is taken.
struct Scene {
    wheel: Wheel<u32>,
    timers: Vec<TimerId>,
    now: Instant,
}

impl Scene {
    fn new(armed: usize) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut scene = Self { wheel: Wheel::new(now), timers: Vec::with_capacity(armed), now };
        for number in 0..armed {
            let timer = scene.wheel.insert(scene.due(number * STRIDE % armed, armed), number as u32);
            scene.timers.push(timer);
        }
        let spare: Vec<_> = (0..BATCH).map(|_| scene.wheel.insert(now, 0)).collect();
        spare.into_iter().for_each(|timer| assert!(scene.wheel.cancel(timer).is_some()));
        scene
    }

    fn due(&self, place: usize, places: usize) -> Instant {
        self.now + SPAN.mul_f64((place + 1) as f64 / places as f64)
    }
}

pub fn timed(deed: Deed, armed: usize, timers: u64) -> Sums {
    match deed {
        Deed::Insert => inserted(armed, timers),
        Deed::Cancel => cancelled(armed, timers),
        Deed::Expire => expired(armed, timers),
    }
}

fn inserted(armed: usize, timers: u64) -> Sums {
    let mut scene = Scene::new(armed);
    let mut meter = Meter::default();
    meter.start();
    for batch in 0..timers / BATCH as u64 {
        let dues: Vec<_> =
            (0..BATCH).map(|n| scene.due(n * STRIDE + batch as usize, BATCH * STRIDE)).collect();
        let mut fresh = Vec::with_capacity(BATCH);
        let wheel = &mut scene.wheel;
        meter.run(&mut || fresh.extend(dues.iter().map(|due| wheel.insert(*due, 0))));
        fresh.into_iter().for_each(|timer| assert!(scene.wheel.cancel(timer).is_some()));
    }
    meter.finish(timers)
}

fn cancelled(armed: usize, timers: u64) -> Sums {
    let mut scene = Scene::new(armed);
    let mut meter = Meter::default();
    meter.start();
    let mut place = 0;
    for _ in 0..timers / BATCH as u64 {
        let chosen: Vec<_> = (0..BATCH).map(|step| (place + step * STRIDE) % armed).collect();
        place = (place + BATCH * STRIDE) % armed;
        let Scene { wheel, timers, .. } = &mut scene;
        meter.run(&mut || {
            for place in &chosen {
                wheel.cancel(timers[*place]);
            }
        });
        for place in chosen {
            scene.timers[place] = scene.wheel.insert(scene.due(place, armed), place as u32);
        }
    }
    assert_eq!(scene.wheel.len(), armed);
    meter.finish(timers)
}

fn expired(armed: usize, timers: u64) -> Sums {
    let mut scene = Scene::new(armed);
    let mut meter = Meter::default();
    meter.start();
    let mut fired = Vec::with_capacity(BATCH + 1);
    let step = SPAN.mul_f64(BATCH as f64 / armed as f64);
    let mut total = 0;
    while total < timers {
        scene.now = scene.now + step;
        let (wheel, now) = (&mut scene.wheel, scene.now);
        meter.run(&mut || {
            let mut work = usize::MAX;
            while let Some(key) = wheel.poll(now, &mut work) {
                fired.push(key);
                if fired.len() == fired.capacity() {
                    break;
                }
            }
        });
        total += fired.len() as u64;
        let (now, wheel) = (scene.now, &mut scene.wheel);
        for key in fired.drain(..) {
            wheel.insert(now + SPAN, key);
        }
    }
    meter.finish(total)
}
