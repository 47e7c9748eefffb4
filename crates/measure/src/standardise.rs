use crate::{Error, Features, Result};
use rayon::prelude::*;

/// Shift and scale of each column that give the training items mean 0 and variance 1; other items get the same shift and scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardiser {
    mean: Vec<f64>,
    /// 1 / standard deviation; 0 for a column that is constant in training, which maps it to 0.
    scale: Vec<f64>,
}

impl Standardiser {
    /// Takes the statistics (population variance) of the training items.
    ///
    /// # Errors
    /// Every column is constant: one item, or an encoder that says the same of all.
    pub fn fit(train: &Features) -> Result<Self> {
        let n = train.n() as f64;
        let mean = crate::gram::means(train);
        let mut square = vec![0.0; train.d()];
        let first = train.row(0);
        let mut varies = vec![false; train.d()];
        for row in train.values().chunks(train.d()) {
            for (j, &v) in row.iter().enumerate() {
                square[j] += (f64::from(v) - mean[j]).powi(2);
                // Compared as bits of the data, not by a small variance: the rounded mean of equal values may differ from them.
                varies[j] |= v.to_bits() != first[j].to_bits();
            }
        }
        let scale: Vec<f64> = square
            .iter()
            .zip(varies)
            .map(|(&s, varies)| if varies && s > 0.0 { (n / s).sqrt() } else { 0.0 })
            .collect();
        if scale.iter().all(|&s| s <= 0.0) {
            return Err(Error::ConstantFeatures { what: "training features", columns: train.d() });
        }
        Ok(Self { mean, scale })
    }

    /// Number of columns that did not vary in training and are 0 from here on.
    pub fn constant_columns(&self) -> usize {
        self.scale.iter().filter(|&&s| s <= 0.0).count()
    }

    /// The features, shifted and scaled.
    ///
    /// # Errors
    /// Another number of columns than in training.
    pub fn apply(&self, features: &Features) -> Result<Features> {
        features.want_columns("columns of the features", self.mean.len())?;
        let mut values = features.values().to_vec();
        values.par_chunks_mut(self.mean.len()).for_each(|row| {
            for ((v, &mean), &scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *v = narrow((f64::from(*v) - mean) * scale);
            }
        });
        Features::new(self.mean.len(), values)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "features are stored in f32; rounding is meant")]
fn narrow(v: f64) -> f32 {
    v as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_items_get_mean_zero_and_variance_one() {
        let train = Features::new(3, vec![1.0, 0.1, 5.0, 3.0, 0.1, 5.0, 5.0, 0.1, 8.0]).unwrap();
        let standard = Standardiser::fit(&train).unwrap();
        assert_eq!(standard.constant_columns(), 1);
        let root = 1.5f32.sqrt(); // (5 - 3) / sqrt(8 / 3)
        let half = 0.5f32.sqrt(); // (6 - 5) / sqrt(2)
        let want = [-root, 0.0, -half, 0.0, 0.0, -half, root, 0.0, 2.0 * half];
        let got = standard.apply(&train).unwrap();
        assert!(got.values().iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}");
        // A column that varies only in later items still says nothing that was learnt.
        let other = Features::new(3, vec![3.0, 9.0, 6.0]).unwrap();
        assert_eq!(standard.apply(&other).unwrap().values(), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn constant_features_and_single_items_are_refused() {
        let error = Standardiser::fit(&Features::new(2, vec![0.1; 6]).unwrap()).unwrap_err();
        assert_eq!(error, Error::ConstantFeatures { what: "training features", columns: 2 });
        assert!(Standardiser::fit(&Features::new(2, vec![1.0, 2.0]).unwrap()).is_err());
        let standard = Standardiser::fit(&Features::new(1, vec![1.0, 2.0]).unwrap()).unwrap();
        assert!(standard.apply(&Features::new(2, vec![1.0, 2.0]).unwrap()).is_err());
    }
}
