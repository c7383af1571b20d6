//! Candidates in order of preference, and the drawing of two of them by weight.
//!
//! Built when the configuration changes, so that a pick looks at two endpoints and not at all. An endpoint's share of
//! the draws is its weight; of the two drawn the cheaper one gets the request. Pure: chance is a parameter.

/// One tier: indices of endpoints with their weights summed up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tier {
    members: Vec<usize>,
    /// `cumulative[i]` is the weight of `members[..=i]`.
    cumulative: Vec<u64>,
    equal: bool,
}

impl Tier {
    /// A tier of `(index, weight)`; weight 0 takes nothing and is left out.
    pub(crate) fn new(weighted: impl IntoIterator<Item = (usize, u32)>) -> Self {
        let mut tier = Self { equal: true, ..Self::default() };
        let mut sum = 0u64;
        let mut first = None;
        for (index, weight) in weighted.into_iter().filter(|(_, weight)| *weight > 0) {
            tier.equal &= *first.get_or_insert(weight) == weight;
            sum = sum.saturating_add(u64::from(weight));
            tier.members.push(index);
            tier.cumulative.push(sum);
        }
        tier
    }

    /// Its endpoints.
    pub(crate) fn members(&self) -> &[usize] {
        &self.members
    }

    /// Draws two; the same one twice where there is only one, or where weights make it so.
    /// `random(n)` gives a number below `n`.
    pub(crate) fn draw(&self, mut random: impl FnMut(u64) -> u64) -> Option<(usize, usize)> {
        let total = *self.cumulative.last()?;
        let first = self.at(random(total))?;
        if self.equal && self.members.len() > 1 {
            // Two different ones: never the same pair of eyes twice.
            let others = self.members.len() - 1;
            let skip = usize::try_from(random(others as u64)).unwrap_or(0);
            let second = (first + 1 + skip) % self.members.len();
            return Some((*self.members.get(first)?, *self.members.get(second)?));
        }
        let second = self.at(random(total))?;
        Some((*self.members.get(first)?, *self.members.get(second)?))
    }

    fn at(&self, point: u64) -> Option<usize> {
        let position = self.cumulative.partition_point(|sum| *sum <= point);
        (position < self.members.len()).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small deterministic generator: tests must not flake.
    fn generator(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |bound| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound.max(1)
        }
    }

    #[test]
    fn an_empty_tier_draws_nobody() {
        assert!(Tier::new([]).draw(generator(1)).is_none());
        assert!(Tier::new([(0, 0)]).draw(generator(1)).is_none());
    }

    #[test]
    fn equal_weights_draw_two_different_ones() {
        let tier = Tier::new((0..5).map(|i| (i, 100)));
        let mut random = generator(7);
        for _ in 0..1000 {
            let (a, b) = tier.draw(&mut random).unwrap();
            assert_ne!(a, b);
        }
    }

    #[test]
    fn one_percent_of_the_weight_gets_about_one_percent_of_the_draws() {
        let tier = Tier::new([(0, 99), (1, 1)]);
        let mut random = generator(42);
        let drawn: usize = (0..100_000)
            .map(|_| tier.draw(&mut random).unwrap())
            .map(|(a, b)| usize::from(a == 1) + usize::from(b == 1))
            .sum();
        assert!((1_700..=2_300).contains(&drawn), "{drawn} of 200,000");
    }

    proptest! {
        #[test]
        fn only_members_with_weight_are_drawn(weights in prop::collection::vec(0u32..5, 0..20), seed in any::<u64>()) {
            let tier = Tier::new(weights.iter().copied().enumerate());
            let mut random = generator(seed);
            for _ in 0..50 {
                match tier.draw(&mut random) {
                    Some((a, b)) => prop_assert!(weights[a] > 0 && weights[b] > 0),
                    None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
                }
            }
        }
    }
}
