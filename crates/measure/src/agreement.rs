use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A counted share with its 95 % Wilson interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Items that agree.
    pub hits: usize,
    /// Items counted.
    pub n: usize,
    /// `hits / n`.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// The share `hits / n` with the score interval of Wilson, whose coverage holds near 0 and 1 too:
    ///
    /// (p + z^2/2n -/+ z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n),  z = 1.959964.
    ///
    /// # Errors
    /// `n = 0`, or more hits than items.
    ///
    /// # Source
    /// Wilson 1927, J. Am. Stat. Assoc. 22.
    pub fn wilson(hits: usize, n: usize) -> Result<Self> {
        const Z: f64 = 1.959_963_984_540_054;
        if n == 0 {
            return Err(Error::TooFew { what: "items to count", need: 1, got: 0 });
        }
        if hits > n {
            return Err(Error::Setting { name: "hits", got: hits as f64, want: "at most the number of items" });
        }
        let (count, z2) = (n as f64, Z * Z);
        let p = hits as f64 / count;
        let centre = p + z2 / (2.0 * count);
        let half = Z * (p * (1.0 - p) / count + z2 / (4.0 * count * count)).sqrt();
        let scale = 1.0 + z2 / count;
        // The ends are 0 and 1 exactly at p = 0 and 1; the clamp takes off the rounding.
        let (low, high) = (((centre - half) / scale).clamp(0.0, p), ((centre + half) / scale).clamp(p, 1.0));
        Ok(Self { hits, n, value: p, low, high })
    }
}

/// How often a judge's verdict equals what was asked for.
///
/// # Errors
/// Lists of different length, or empty ones.
pub fn agreement(asked: &[u32], judged: &[u32]) -> Result<Proportion> {
    if asked.len() != judged.len() {
        return Err(Error::LengthMismatch { what: "judged labels", want: asked.len(), got: judged.len() });
    }
    Proportion::wilson(asked.iter().zip(judged).filter(|(a, b)| a == b).count(), asked.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn wilson_is_scipys() {
        // scipy.stats.binomtest(k, n).proportion_ci(method='wilson')
        for (hits, n, low, high) in [
            (960, 1000, 0.945_990_355_878_741_9, 0.970_489_026_314_547_1),
            (0, 20, 0.0, 0.161_125_158_052_819_35),
            (1, 1, 0.206_549_314_377_237_45, 1.0),
            (3, 7, 0.158_219_855_251_469_7, 0.749_541_635_472_342_8),
        ] {
            let got = Proportion::wilson(hits, n).unwrap();
            assert_close(got.low, low, 1e-9);
            assert_close(got.high, high, 1e-9);
        }
    }

    #[test]
    fn agreement_counts() {
        let got = agreement(&[1, 2, 3, 4], &[1, 2, 0, 4]).unwrap();
        assert_eq!((got.hits, got.n, got.value), (3, 4, 0.75));
        assert!(agreement(&[1], &[1, 2]).is_err());
        assert_eq!(agreement(&[], &[]).unwrap_err(), Error::TooFew { what: "items to count", need: 1, got: 0 });
        assert!(Proportion::wilson(2, 1).is_err());
    }
}
