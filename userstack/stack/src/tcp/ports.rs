//! Where the search for a source port begins: RFC 6056, section 3.3.4 (double hash). Each destination has a place of its
//! own in the port range, and one of many counters; so what one destination sees of our ports tells it nothing of the
//! others'. The counters move by steps that only the secret knows, so that nobody counts our connections by them.

use super::tuple::{Secrets, Tuple};

/// Counters: with as many, an observer's own destination shares the counter of a given other one by rare chance only
/// (RFC 6056 proposes ten at least; a worker has 16 KiB to spare).
const COUNTERS: usize = 4096;
/// A counter's steps are between 1 and this. Longer ones would use the range up sooner.
const LONGEST_STEP: u32 = 8;

#[derive(Debug)]
pub(crate) struct PortCounters {
    counters: Box<[u32]>,
}

impl PortCounters {
    pub(crate) fn new(secrets: &Secrets) -> Self {
        Self { counters: (0..COUNTERS as u64).map(|index| secrets.port_noise(index)).collect() }
    }

    /// Where the search begins for a destination, which is a tuple without a local port.
    pub(crate) fn start(&self, secrets: &Secrets, destination: &Tuple) -> u32 {
        secrets.port_offset(destination).wrapping_add(self.counters[place(secrets, destination)])
    }

    /// The search ended `searched` ports beyond its start.
    pub(crate) fn advance(&mut self, secrets: &Secrets, destination: &Tuple, searched: u32) {
        let counter = &mut self.counters[place(secrets, destination)];
        let step = 1 + secrets.port_noise(u64::from(*counter) << 32) % LONGEST_STEP;
        *counter = counter.wrapping_add(searched).wrapping_add(step);
    }
}

fn place(secrets: &Secrets, destination: &Tuple) -> usize {
    secrets.port_counter(destination) as usize % COUNTERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(host: u8) -> Tuple {
        Tuple::new(([10, 0, 0, 1], 0).into(), ([10, 0, 1, host], 443).into())
    }

    #[test]
    fn one_destinations_searches_say_nothing_of_anothers() {
        let secrets = Secrets::new(&[5; 32]);
        let mut counters = PortCounters::new(&secrets);
        let before = counters.start(&secrets, &destination(2));
        for _ in 0..100 {
            counters.advance(&secrets, &destination(1), 0);
        }
        assert_eq!(counters.start(&secrets, &destination(2)), before);
    }

    #[test]
    fn a_destinations_own_searches_begin_further_each_time_by_steps_of_the_secret() {
        let steps = |secret| {
            let secrets = Secrets::new(&[secret; 32]);
            let mut counters = PortCounters::new(&secrets);
            let mut last = counters.start(&secrets, &destination(1));
            let next = |_| {
                counters.advance(&secrets, &destination(1), 0);
                let start = counters.start(&secrets, &destination(1));
                start.wrapping_sub(std::mem::replace(&mut last, start))
            };
            (0..32).map(next).collect::<Vec<u32>>()
        };
        assert!(steps(1).iter().all(|step| (1..=LONGEST_STEP).contains(step)));
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }
}
