use crate::draw;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// How an interval is made by resampling the test items.
///
/// Resample r draws n items with replacement; draw k of it is a function of (seed, r, k) alone (SplitMix64 mixing), so two
/// statistics under the same settings see the same resamples: that is what makes a difference *paired*.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Number of resamples, at least 1000.
    pub resamples: usize,
    /// Key of the draws.
    pub seed: u64,
    /// Share of the resampled values that lies inside the interval, between 0 and 1.
    pub confidence: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 2000, seed: 0, confidence: 0.95 }
    }
}

/// A percentile interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Bootstrap {
    /// Percentile interval of `statistic`, which maps the drawn items (each below `n`, repeats included) to a number.
    ///
    /// Resamples on which the statistic is not finite (R^2 of a constant draw) are left out; quantiles interpolate linearly.
    ///
    /// # Errors
    /// Settings out of range, `n = 0`, or a statistic that is finite on fewer than half of the resamples.
    ///
    /// # Cost
    /// `resamples * n` draws plus as many calls of the statistic as there are resamples, on all cores.
    pub fn interval(&self, n: usize, statistic: &(dyn Fn(&[usize]) -> f64 + Sync)) -> Result<Interval> {
        if self.resamples < 1000 {
            let got = self.resamples as f64;
            return Err(Error::Setting { name: "resamples", got, want: "at least 1000" });
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(Error::Setting { name: "confidence", got: self.confidence, want: "between 0 and 1" });
        }
        let n = NonZeroUsize::new(n).ok_or(Error::TooFew { what: "items to resample", need: 1, got: 0 })?;
        let mut values: Vec<f64> = (0..self.resamples as u64)
            .into_par_iter()
            .map_init(
                || vec![0; n.get()],
                |items, r| {
                    items.iter_mut().enumerate().for_each(|(k, item)| *item = draw::index(self.seed, r, k as u64, n));
                    statistic(items)
                },
            )
            .filter(|v| v.is_finite())
            .collect();
        if 2 * values.len() < self.resamples {
            return Err(Error::TooFew {
                what: "resamples with a defined score",
                need: self.resamples.div_ceil(2),
                got: values.len(),
            });
        }
        values.sort_unstable_by(f64::total_cmp);
        let tail = 0.5 * (1.0 - self.confidence);
        Ok(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
    }
}

/// Quantile of sorted values by linear interpolation between order statistics (NumPy's default, type 7 of Hyndman and Fan).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor();
    let i = index(below).min(sorted.len() - 1);
    let next = sorted[(i + 1).min(sorted.len() - 1)];
    sorted[i] + (place - below) * (next - sorted[i])
}

#[expect(clippy::cast_possible_truncation, reason = "a floor between 0 and a slice length")]
fn index(floor: f64) -> usize {
    floor as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::assert_close;

    #[test]
    fn quantiles_are_numpys() {
        // np.quantile([1, 2, 4, 8], [0, .25, .5, .9, 1])
        let x = [1.0, 2.0, 4.0, 8.0];
        for (q, want) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert_close(quantile(&x, q), want, 1e-12);
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_the_normal_one() {
        let x: Vec<f64> = normals(5, 400).into_iter().map(f64::from).collect();
        let mean = x.iter().sum::<f64>() / 400.0;
        let sd = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 400.0).sqrt();
        let settings = Bootstrap { resamples: 20_000, ..Default::default() };
        let got = settings.interval(400, &|items| items.iter().map(|&i| x[i]).sum::<f64>() / 400.0).unwrap();
        let half = 1.959964 * sd / 20.0;
        // Monte Carlo error of a 2.5 % quantile from 20,000 draws: about 0.02 standard errors.
        assert!(
            (got.low - (mean - half)).abs() < 0.1 * half && (got.high - (mean + half)).abs() < 0.1 * half,
            "{got:?}"
        );
    }

    #[test]
    fn degenerate_resamples_are_left_out_and_one_item_has_no_width() {
        let settings = Bootstrap { resamples: 1000, ..Default::default() };
        let got = settings.interval(1, &|items| items.len() as f64 + 2.0).unwrap();
        assert_eq!(got, Interval { low: 3.0, high: 3.0 });
        // Undefined where item 0 is drawn first: one resample in five.
        let some = settings.interval(5, &|items| if items[0] == 0 { f64::NAN } else { 1.0 }).unwrap();
        assert_eq!(some, Interval { low: 1.0, high: 1.0 });
        assert!(settings.interval(5, &|_| f64::NAN).is_err());
        assert!(settings.interval(0, &|_| 0.0).is_err());
        let few = Bootstrap { resamples: 10, ..Default::default() }.interval(5, &|_| 0.0).unwrap_err();
        assert_eq!(few.to_string(), "resamples = 10; it must be at least 1000");
    }
}
