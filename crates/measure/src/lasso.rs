use crate::gram;
use crate::{Error, Features, Result};

/// A fitted L1-penalised linear regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Lasso {
    /// `[D]`; exactly 0 for columns that are not used.
    pub coefficients: Vec<f64>,
    /// Value at features of zero.
    pub intercept: f64,
    /// Passes over all columns.
    pub sweeps: usize,
}

/// Fits a linear regression with an L1 penalty, by coordinate descent.
///
/// Minimises 1/(2N) |y - X w - b|^2 + alpha |w|_1, the intercept unpenalised: scikit-learn's objective. Stops when no entry of
/// the subgradient is further from 0 than 1e-10 times the largest |x_j . y| / N.
///
/// # Errors
/// Not one value per item, a value that is not finite, a strength that is not positive and finite, no convergence in 100,000
/// sweeps.
///
/// # Cost
/// O(N D) per sweep.
///
/// # Source
/// Tibshirani 1996; Friedman, Hastie and Tibshirani 2010 for the descent.
pub fn lasso(x: &Features, target: &[f64], alpha: f64) -> Result<Lasso> {
    const SWEEPS: usize = 100_000;
    const TOLERANCE: f64 = 1e-10;
    x.want_targets("target values", target.len())?;
    if let Some(row) = target.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what: "target", row, column: 0 });
    }
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Err(Error::Setting { name: "alpha", got: alpha, want: "positive and finite" });
    }
    let (n, d) = (x.n() as f64, x.d());
    let means = gram::means(x);
    let mean = target.iter().sum::<f64>() / n;
    let centred = |j: usize| x.column(j).into_iter().map(|v| v - means[j]).collect();
    let columns: Vec<Vec<f64>> = (0..d).map(centred).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let squares: Vec<f64> = columns.iter().map(|c| dot(c, c) / n).collect();
    let mut residual: Vec<f64> = target.iter().map(|v| v - mean).collect();
    let scale = columns.iter().map(|c| dot(c, &residual).abs() / n).fold(0.0, f64::max);
    let tolerance = TOLERANCE * scale;
    let mut w = vec![0.0f64; d];
    let mut worst = f64::INFINITY;
    for sweep in 0..SWEEPS {
        // Of the subgradient the part that the penalty cannot balance.
        let left = |j: usize, slope: f64| {
            if w[j].abs() > 0.0 { (slope - alpha * w[j].signum()).abs() } else { (slope.abs() - alpha).max(0.0) }
        };
        worst = (0..d).map(|j| left(j, dot(&columns[j], &residual) / n)).fold(0.0, f64::max);
        if worst <= tolerance {
            let intercept = mean - dot(&w, &means);
            return Ok(Lasso { coefficients: w, intercept, sweeps: sweep });
        }
        for j in (0..d).filter(|&j| squares[j] > 0.0) {
            let pull = dot(&columns[j], &residual) / n + squares[j] * w[j];
            let next = pull.signum() * (pull.abs() - alpha).max(0.0) / squares[j];
            let change = next - w[j];
            if change.abs() > 0.0 {
                residual.iter_mut().zip(&columns[j]).for_each(|(r, c)| *r -= change * c);
                w[j] = next;
            }
        }
    }
    Err(Error::NotConverged { iterations: SWEEPS, gradient: worst, tolerance })
}

impl Lasso {
    /// Predicted value of every item.
    ///
    /// # Errors
    /// Another number of columns than was fitted.
    pub fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        x.want_columns("columns of the features", self.coefficients.len())?;
        Ok(gram::times(x, &self.coefficients, self.intercept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn_tall_and_wide() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for name in ["lasso.tall", "lasso.wide"] {
            let (x, y) = (file.features(&format!("{name}.x")), file.f64s(&format!("{name}.y")));
            let want = file.f64s(&format!("{name}.fits")); // [2 strengths, intercept and coefficients]
            for (alpha, want) in [0.02, 0.3].into_iter().zip(want.chunks(x.d() + 1)) {
                let got = lasso(&x, &y, alpha).unwrap();
                assert_close(got.intercept, want[0], 1e-7);
                got.coefficients.iter().zip(&want[1..]).for_each(|(g, w)| assert_close(*g, *w, 1e-7));
            }
        }
    }

    #[test]
    fn one_column_has_its_closed_form() {
        // Centred x = -1, 0, 1, y = -2, 0, 2: w = (4/3 - alpha) / (2/3).
        let x = Features::new(1, vec![4.0, 5.0, 6.0]).unwrap();
        let got = lasso(&x, &[8.0, 10.0, 12.0], 1.0 / 3.0).unwrap();
        assert_close(got.coefficients[0], 1.5, 1e-12);
        assert_close(got.predict(&x).unwrap()[1], 10.0, 1e-12);
        assert_eq!(lasso(&x, &[8.0, 10.0, 12.0], 1.4).unwrap().coefficients, [0.0]);
    }

    #[test]
    fn constant_columns_and_one_item_give_the_mean() {
        let flat = Features::new(2, vec![0.1; 6]).unwrap();
        let got = lasso(&flat, &[1.0, 2.0, 6.0], 0.1).unwrap();
        assert_eq!((got.coefficients.clone(), got.sweeps), (vec![0.0; 2], 0));
        assert_close(got.intercept, 3.0, 1e-12);
        assert_eq!(lasso(&Features::new(1, vec![2.0]).unwrap(), &[5.0], 0.1).unwrap().intercept, 5.0);
        assert!(lasso(&flat, &[1.0], 0.1).is_err() && lasso(&flat, &[f64::NAN; 3], 0.1).is_err());
        assert!(lasso(&flat, &[1.0; 3], 0.0).is_err());
    }
}
