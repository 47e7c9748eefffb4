use crate::draw;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which differences speak against chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alternative {
    /// Far from zero on either side.
    #[default]
    TwoSided,
    /// Above zero.
    Greater,
    /// Below zero.
    Less,
}

/// How the signs of paired differences are flipped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignFlip {
    /// Which side counts.
    pub alternative: Alternative,
    /// Up to this many differences all 2^n sign patterns are taken, at most 24; beyond, patterns are drawn.
    pub exact_up_to: usize,
    /// Number of patterns drawn, at least 1000.
    pub draws: usize,
    /// Key of the draws: pattern r flips difference i by a function of (seed, r, i) alone.
    pub seed: u64,
}

impl Default for SignFlip {
    fn default() -> Self {
        Self { alternative: Alternative::TwoSided, exact_up_to: 20, draws: 100_000, seed: 0 }
    }
}

/// Outcome of a paired test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedTest {
    /// The statistic on the differences as they are.
    pub statistic: f64,
    /// Chance of a statistic at least as far out when every difference could as well have had the other sign.
    pub p: f64,
    /// Sign patterns behind `p`; the largest number there is where 2^n is beyond it.
    pub patterns: usize,
    /// All patterns were taken, so `p` has no sampling error.
    pub exact: bool,
}

impl SignFlip {
    /// Tests whether paired differences centre on zero, by their mean.
    ///
    /// p is the share of sign patterns whose mean is at least as far out as the observed one, which is itself a pattern: drawn
    /// patterns give (b + 1) / (m + 1), never 0. Differences of 0 stay in.
    ///
    /// # Errors
    /// No differences, one that is not finite, settings out of range.
    ///
    /// # Cost
    /// O(N) per pattern, on all cores.
    ///
    /// # Source
    /// Fisher 1935; the count of drawn patterns is that of Phipson and Smyth 2010.
    pub fn test(&self, differences: &[f64]) -> Result<PairedTest> {
        let n = differences.len();
        if n == 0 {
            return Err(Error::TooFew { what: "paired differences", need: 1, got: 0 });
        }
        if let Some(row) = differences.iter().position(|d| !d.is_finite()) {
            return Err(Error::NotFinite { what: "paired differences", row, column: 0 });
        }
        if self.exact_up_to > 24 {
            let got = self.exact_up_to as f64;
            return Err(Error::Setting { name: "exact_up_to", got, want: "at most 24" });
        }
        if self.draws < 1000 {
            return Err(Error::Setting { name: "draws", got: self.draws as f64, want: "at least 1000" });
        }
        let observed: f64 = differences.iter().sum();
        // Sums over the same numbers in another order differ by rounding; patterns that equal the observed one must count.
        let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
        let out = |sum: f64| match self.alternative {
            Alternative::TwoSided => sum.abs() >= observed.abs() - slack,
            Alternative::Greater => sum >= observed - slack,
            Alternative::Less => sum <= observed + slack,
        };
        let flipped = |bits: &dyn Fn(usize) -> u64| -> f64 {
            let signs = differences.chunks(64).enumerate().flat_map(|(word, part)| {
                let bits = bits(word);
                part.iter().enumerate().map(move |(i, d)| if bits >> i & 1 == 1 { -d } else { *d })
            });
            signs.sum()
        };
        let exact = n <= self.exact_up_to;
        let patterns = if exact { 1 << n } else { self.draws };
        let hits = (0..patterns as u64)
            .into_par_iter()
            .filter(|&r| {
                out(if exact { flipped(&|_| r) } else { flipped(&|word| draw::bits(self.seed, r, word as u64)) })
            })
            .count();
        let p = if exact { hits as f64 / patterns as f64 } else { (hits + 1) as f64 / (patterns + 1) as f64 };
        Ok(PairedTest { statistic: observed / n as f64, p, patterns, exact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipy_when_exact() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let d = file.f64s("paired.differences");
        let want = file.f64s("paired.sign_flip");
        for (i, alternative) in [Alternative::TwoSided, Alternative::Greater, Alternative::Less].into_iter().enumerate()
        {
            let got = SignFlip { alternative, ..Default::default() }.test(&d).unwrap();
            assert!(got.exact && got.patterns == 1 << d.len());
            assert_close(got.p, want[i], 1e-12);
        }
    }

    #[test]
    fn small_cases_by_hand() {
        // Of 8 patterns only all plus and all minus reach |6|.
        let test = SignFlip::default();
        let got = test.test(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((got.statistic, got.p), (2.0, 0.25));
        assert_eq!(SignFlip { alternative: Alternative::Greater, ..test }.test(&[1.0, 2.0, 3.0]).unwrap().p, 0.125);
        assert_eq!(test.test(&[0.0; 4]).unwrap().p, 1.0);
        assert_eq!(test.test(&[0.1]).unwrap().p, 1.0);
        assert!(test.test(&[]).is_err() && test.test(&[f64::NAN]).is_err());
        assert!(SignFlip { exact_up_to: 60, ..test }.test(&[1.0]).is_err());
        assert!(SignFlip { draws: 10, ..test }.test(&[1.0]).is_err());
    }

    #[test]
    fn draws_agree_with_all_patterns() {
        let d: Vec<f64> = normals(3, 16).into_iter().map(|v| f64::from(v) + 0.4).collect();
        let exact = SignFlip::default().test(&d).unwrap();
        let drawn = SignFlip { exact_up_to: 0, ..Default::default() }.test(&d).unwrap();
        let sd = (exact.p * (1.0 - exact.p) / 100_000.0).sqrt();
        assert!(!drawn.exact && (drawn.p - exact.p).abs() < 4.0 * sd, "{drawn:?} {exact:?}");
    }

    #[test]
    fn chance_is_rejected_as_often_as_it_says() {
        // 400 sets of 10 differences around zero; 20 expected at 5 %, standard deviation 4.4.
        let small = |seed| {
            let d: Vec<f64> = normals(seed, 10).into_iter().map(f64::from).collect();
            SignFlip::default().test(&d).unwrap().p <= 0.05
        };
        let count = (0..400).filter(|&seed| small(seed)).count();
        assert!((7..=33).contains(&count), "{count}");
    }
}
