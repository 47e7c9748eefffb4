use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Class probabilities `[N, K]` with the labels that came true.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecasts<'a> {
    probabilities: &'a [f64],
    labels: &'a [u32],
    classes: usize,
}

/// Confidence against accuracy, bin by bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error: mean gap between confidence and accuracy, weighted by the items of each bin.
    pub expected: f64,
    /// The largest gap of a bin that holds items.
    pub worst: f64,
    /// The bins, from low to high confidence; together they make the reliability diagram.
    pub bins: Vec<Bin>,
}

/// Items whose confidence falls into one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Items in it.
    pub items: usize,
    /// Their mean confidence; 0 where there are none.
    pub confidence: f64,
    /// Share of them that was right; 0 where there are none.
    pub accuracy: f64,
}

impl<'a> Forecasts<'a> {
    /// Checks probabilities, row after row, and labels below their number of columns.
    ///
    /// # Errors
    /// No items, lengths that do not fit, a probability outside [0, 1], a row whose sum is off 1 by more than 1e-4 (f32 softmax
    /// stays far below), a label that has no column.
    pub fn new(classes: usize, probabilities: &'a [f64], labels: &'a [u32]) -> Result<Self> {
        if labels.is_empty() || classes == 0 {
            return Err(Error::TooFew { what: "forecasts", need: 1, got: 0 });
        }
        let want = labels.len() * classes;
        if probabilities.len() != want {
            return Err(Error::LengthMismatch { what: "probabilities", want, got: probabilities.len() });
        }
        for (row, (p, &label)) in probabilities.chunks(classes).zip(labels).enumerate() {
            if let Some(column) = p.iter().position(|v| !v.is_finite()) {
                return Err(Error::NotFinite { what: "probabilities", row, column });
            }
            if let Some(&got) = p.iter().find(|v| !(0.0..=1.0).contains(*v)) {
                return Err(Error::Setting { name: "probability", got, want: "between 0 and 1" });
            }
            let got = p.iter().sum::<f64>();
            if (got - 1.0).abs() > 1e-4 {
                return Err(Error::Setting { name: "sum of an item's probabilities", got, want: "1" });
            }
            if label as usize >= classes {
                return Err(Error::Setting { name: "label", got: label.into(), want: "below the number of classes" });
            }
        }
        Ok(Self { probabilities, labels, classes })
    }

    fn rows(&self) -> impl Iterator<Item = (&[f64], usize)> {
        self.probabilities.chunks(self.classes).zip(self.labels.iter().map(|&l| l as usize))
    }

    /// Calibration of the most probable class over bins of equal width; 15 bins are usual.
    ///
    /// Bin b holds confidences in (b / B, (b + 1) / B]; of equally probable classes the first is the guess.
    ///
    /// # Errors
    /// `bins` is 0.
    ///
    /// # Source
    /// Guo et al. 2017 (arXiv 1706.04599), eq. 3 and 5.
    pub fn calibration(&self, bins: usize) -> Result<Calibration> {
        if bins == 0 {
            return Err(Error::Setting { name: "bins", got: 0.0, want: "at least 1" });
        }
        let edges: Vec<f64> = (1..bins).map(|b| b as f64 / bins as f64).collect();
        let mut out = vec![Bin::default(); bins];
        for (p, label) in self.rows() {
            let guess = (1..p.len()).fold(0, |best, j| if p[j] > p[best] { j } else { best });
            let bin = &mut out[edges.partition_point(|&edge| edge < p[guess])];
            bin.items += 1;
            bin.confidence += p[guess];
            bin.accuracy += f64::from(u8::from(guess == label));
        }
        let (mut expected, mut worst) = (0.0, 0.0f64);
        for bin in out.iter_mut().filter(|bin| bin.items > 0) {
            let gap = (bin.confidence - bin.accuracy).abs();
            expected += gap / self.labels.len() as f64;
            worst = worst.max(gap / bin.items as f64);
            bin.confidence /= bin.items as f64;
            bin.accuracy /= bin.items as f64;
        }
        Ok(Calibration { expected, worst, bins: out })
    }

    /// Mean negative log-likelihood of the labels in nats.
    ///
    /// Probabilities below 2^-52 count as 2^-52, as in scikit-learn's `log_loss`: one impossible label then costs 36 nats and not
    /// the whole measure.
    pub fn log_loss(&self) -> f64 {
        self.rows().map(|(p, label)| -p[label].max(f64::EPSILON).ln()).sum::<f64>() / self.labels.len() as f64
    }

    /// Brier score: mean squared distance between the probabilities and the one-hot label, in [0, 2].
    ///
    /// The binary score of one probability is half of it.
    ///
    /// # Source
    /// Brier 1950.
    pub fn brier(&self) -> f64 {
        let distance = |(p, label): (&[f64], usize)| {
            let to = |j: usize| if j == label { 1.0 } else { 0.0 };
            p.iter().enumerate().map(|(j, v)| (v - to(j)).powi(2)).sum::<f64>()
        };
        self.rows().map(distance).sum::<f64>() / self.labels.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn_and_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (p, labels) = (file.f64s("forecast.p"), file.labels("forecast.labels"));
        let forecasts = Forecasts::new(5, &p, &labels).unwrap();
        let want = file.f64s("forecast");
        let got = forecasts.calibration(15).unwrap();
        assert_close(got.expected, want[0], 1e-12);
        assert_close(got.worst, want[1], 1e-12);
        assert_close(forecasts.log_loss(), want[2], 1e-12);
        assert_close(forecasts.brier(), want[3], 1e-12);
    }

    #[test]
    fn small_cases_by_hand() {
        let sure = Forecasts::new(2, &[1.0, 0.0, 0.0, 1.0], &[0, 0]).unwrap();
        assert_eq!(sure.calibration(10).unwrap().expected, 0.5);
        assert_eq!(sure.brier(), 1.0);
        assert_close(sure.log_loss(), 26.0 * 2f64.ln(), 1e-12);
        // On the edge: (0.4, 0.5] holds 0.5, and the first of two equal classes is the guess.
        let even = Forecasts::new(2, &[0.5, 0.5], &[0]).unwrap().calibration(10).unwrap();
        assert_eq!((even.bins[4].items, even.bins[4].accuracy, even.expected), (1, 1.0, 0.5));
        assert_eq!(Forecasts::new(1, &[1.0], &[0]).unwrap().calibration(1).unwrap().expected, 0.0);
    }

    #[test]
    fn what_is_no_probability_is_named() {
        assert!(Forecasts::new(2, &[], &[]).is_err());
        assert!(Forecasts::new(2, &[0.5; 3], &[0, 1]).is_err());
        assert!(Forecasts::new(2, &[0.5, f64::NAN], &[0]).is_err());
        assert!(Forecasts::new(2, &[1.5, -0.5], &[0]).is_err());
        assert!(Forecasts::new(2, &[0.5, 0.5], &[2]).is_err());
        let error = Forecasts::new(2, &[0.5, 0.6], &[0]).unwrap_err();
        assert_eq!(error.to_string(), "sum of an item's probabilities = 1.1; it must be 1");
        assert!(Forecasts::new(2, &[0.5, 0.5], &[0]).unwrap().calibration(0).is_err());
    }
}
