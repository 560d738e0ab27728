//! Which of several: smooth weighted round robin, the less loaded of two, and a draw by weight.

use std::cell::Cell;

/// Something that gets a share by weight.
pub(crate) trait Weighted {
    fn weight(&self) -> u32;
    /// Smooth round robin's running value.
    fn current(&self) -> &Cell<i64>;
}

/// nginx's smooth weighted round robin: each turn every ready one gains its weight, the richest is taken and pays the
/// sum. Weights 5, 1, 1 give a a b a c a a, never a burst.
pub(super) fn smooth_round_robin<T: Weighted>(of: &[T], is_ready: impl Fn(&T) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (at, candidate) in of.iter().enumerate().filter(|(_, candidate)| is_ready(candidate)) {
        let weight = i64::from(candidate.weight());
        let current = candidate.current().get() + weight;
        candidate.current().set(current);
        total += weight;
        if best.is_none_or(|(_, highest)| current > highest) {
            best = Some((at, current));
        }
    }
    let (at, current) = best?;
    of[at].current().set(current - total);
    Some(at)
}

/// Draws two by weight and takes the one with less load for its weight. `load` is what one carries now.
pub(super) fn less_loaded_of_two<T: Weighted>(
    of: &[T],
    is_ready: impl Fn(&T) -> bool,
    load: impl Fn(&T) -> u32,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let weights = || of.iter().map(|each| if is_ready(each) { each.weight() } else { 0 });
    let first = draw(weights(), random())?;
    let second = draw(weights(), random())?;
    let load = |at: usize| {
        let each = &of[at];
        // One more than it carries: what it would carry with this one.
        (u64::from(load(each)) + 1, u64::from(each.weight()))
    };
    let ((load_a, weight_a), (load_b, weight_b)) = (load(first), load(second));
    Some(if load_b * weight_a < load_a * weight_b { second } else { first })
}

/// The position that `random` falls on, weight by weight; `None` when all weights are zero.
pub(crate) fn draw(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    if total == 0 {
        return None;
    }
    // The high half of the product maps evenly onto 0..total without a division.
    let mut point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    for (at, weight) in weights.enumerate() {
        match point.checked_sub(u64::from(weight)) {
            Some(left) => point = left,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Each {
        weight: u32,
        ready: bool,
        load: u32,
        current: Cell<i64>,
    }

    impl Weighted for Each {
        fn weight(&self) -> u32 {
            self.weight
        }
        fn current(&self) -> &Cell<i64> {
            &self.current
        }
    }

    fn each(weight: u32, ready: bool, load: u32) -> Each {
        Each { weight, ready, load, current: Cell::new(0) }
    }

    fn in_turn(of: &[Each]) -> Option<usize> {
        smooth_round_robin(of, |each| each.ready)
    }

    fn less_loaded(of: &[Each], random: impl FnMut() -> u64) -> Option<usize> {
        less_loaded_of_two(of, |each| each.ready, |each| each.load, random)
    }

    /// SplitMix64: enough chance for a test, and the same every time.
    fn chance() -> impl FnMut() -> u64 {
        let mut state = 7_u64;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    #[test]
    fn round_robin_is_smooth_and_keeps_to_the_weights() {
        let of = [each(5, true, 0), each(1, true, 0), each(1, true, 0)];
        let turns: Vec<_> = (0..7).map(|_| in_turn(&of).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn what_is_not_ready_gets_nothing() {
        let of = [each(5, false, 0), each(1, true, 0)];
        assert!((0..5).all(|_| in_turn(&of) == Some(1)));
        let mut random = chance();
        assert!((0..100).all(|_| less_loaded(&of, &mut random) == Some(1)));
        let none = [each(1, false, 0)];
        assert_eq!(in_turn(&none), None);
        assert_eq!(less_loaded(&none, &mut random), None);
    }

    #[test]
    fn the_less_loaded_for_its_weight_is_preferred() {
        let mut random = chance();
        let of = [each(1, true, 10), each(1, true, 0)];
        let taken = (0..10_000).filter(|_| less_loaded(&of, &mut random) == Some(0)).count();
        // Only when both draws fall on the loaded one: a quarter.
        assert!((2_200..2_800).contains(&taken), "{taken}");
        let of = [each(9, true, 0), each(1, true, 0)];
        let taken = (0..10_000).filter(|_| less_loaded(&of, &mut random) == Some(1)).count();
        assert!(taken < 400, "{taken}");
    }

    #[test]
    fn a_draw_follows_the_weights_and_gives_zero_nothing() {
        let mut random = chance();
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            counts[draw([90, 0, 10].into_iter(), random()).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((89_000..91_000).contains(&counts[0]), "{counts:?}");
        assert_eq!(draw([0, 0].into_iter(), 1), None);
        assert_eq!(draw([1, 1].into_iter(), u64::MAX), Some(1));
    }
}
