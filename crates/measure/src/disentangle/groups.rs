use super::factors::Factors;
use crate::draw;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// How groups of items that share one factor are drawn for the FactorVAE and beta-VAE scores.
///
/// Draw r picks a factor, then items: all a function of (seed, r, place in the group) alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixedFactor {
    /// Items (pairs of items, for beta-VAE) in a group; 64 in the literature.
    pub batch: usize,
    /// Groups the classifier is fitted on.
    pub train: usize,
    /// Groups it is scored on.
    pub test: usize,
    /// Key of the draws.
    pub seed: u64,
}

impl Default for FixedFactor {
    fn default() -> Self {
        Self { batch: 64, train: 10_000, test: 5_000, seed: 0 }
    }
}

impl FixedFactor {
    /// Errs unless groups can be drawn; `least` is the smallest useful group.
    pub(super) fn check(&self, least: usize) -> Result<()> {
        if self.batch < least {
            return Err(Error::TooFew { what: "items of a group with a fixed factor", need: least, got: self.batch });
        }
        for (what, got) in [("groups to fit on", self.train), ("groups to score on", self.test)] {
            if got == 0 {
                return Err(Error::TooFew { what, need: 1, got });
            }
        }
        Ok(())
    }
}

/// The items of a data set by the value of each factor, ready to draw from.
pub(super) struct Groups {
    /// `[F][values][items]`.
    items: Vec<Vec<Vec<usize>>>,
    /// `[F][N]`: the value of each item.
    of: Vec<Vec<usize>>,
    seed: u64,
}

impl Groups {
    /// Sorts the items; errs where a factor has one value only.
    pub(super) fn new(factors: &Factors, seed: u64, measure: &'static str) -> Result<Self> {
        let places = factors.groups(measure)?;
        let sort = |p: &crate::cluster::contingency::Places| {
            let mut items = vec![Vec::new(); p.sizes.len()];
            p.of.iter().enumerate().for_each(|(i, &value)| items[value].push(i));
            items
        };
        let items = places.iter().map(sort).collect();
        Ok(Self { items, of: places.into_iter().map(|p| p.of).collect(), seed })
    }

    /// The factor that draw `r` fixes.
    pub(super) fn factor(&self, r: u64) -> usize {
        self.pick(r, 0, self.items.len())
    }

    /// Item number `place` of draw `r`, any of the data set.
    pub(super) fn any(&self, r: u64, place: u64) -> usize {
        self.pick(r, 2 * place + 1, self.of[0].len())
    }

    /// Item number `place` of draw `r` among those that share the value of `factor` with `item`.
    pub(super) fn like(&self, item: usize, factor: usize, r: u64, place: u64) -> usize {
        let alike = &self.items[factor][self.of[factor][item]];
        alike[self.pick(r, 2 * place + 2, alike.len())]
    }

    fn pick(&self, r: u64, counter: u64, n: usize) -> usize {
        NonZeroUsize::new(n).map_or(0, |n| draw::index(self.seed, r, counter, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_items_share_the_factor_and_are_even() {
        let factors = Factors::new(2, (0..12).flat_map(|i| [i % 3, i % 4]).collect()).unwrap();
        let groups = Groups::new(&factors, 5, "a test").unwrap();
        let mut seen = [0u32; 12];
        for r in 0..3000 {
            let k = groups.factor(r);
            let first = groups.any(r, 0);
            let other = groups.like(first, k, r, 0);
            assert_eq!(factors.column(k)[first], factors.column(k)[other]);
            seen[other] += 1;
        }
        // 250 expected, standard deviation 15.
        assert!(seen.iter().all(|c| c.abs_diff(250) < 75), "{seen:?}");
        assert!(Groups::new(&Factors::new(1, vec![3, 3]).unwrap(), 0, "a test").is_err());
        assert!(FixedFactor { batch: 1, ..Default::default() }.check(2).is_err());
        assert!(FixedFactor { test: 0, ..Default::default() }.check(1).is_err());
    }
}
