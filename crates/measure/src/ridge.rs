use crate::gram;
use crate::{Error, Features, Result};
use faer::Mat;
use pentimento_linalg::{Spectral, eigen};

/// Training items of a ridge regression, decomposed once, ready for any number of targets and strengths.
///
/// Minimises ||y - X w - b||^2 + alpha ||w||^2 with the intercept unpenalised, in closed form: with centred X and y,
/// w = (X^T X + alpha)^-1 X^T y = X^T (X X^T + alpha)^-1 y, whichever matrix is the smaller, through its eigenvalues.
pub struct RidgeProblem<'a> {
    x: &'a Features,
    means: Vec<f64>,
    side: Smaller,
    vectors: Mat<f64>,
    values: Vec<f64>,
}

/// Which of the two inner-product matrices was decomposed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Smaller {
    /// X^T X, `[D, D]`.
    Columns,
    /// X X^T, `[N, N]`.
    Rows,
}

/// A fitted ridge regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// `[D]`.
    pub coefficients: Vec<f64>,
    /// Value at features of zero.
    pub intercept: f64,
}

impl<'a> RidgeProblem<'a> {
    /// Decomposes the items' inner products.
    ///
    /// # Errors
    /// The eigenvalue iteration failed.
    ///
    /// # Cost
    /// O(N D m + m^3), m = min(N, D).
    pub fn new(x: &'a Features) -> Result<Self> {
        let means = gram::means(x);
        let (side, matrix) = if x.d() <= x.n() {
            (Smaller::Columns, gram::scatter(x, &means))
        } else {
            (Smaller::Rows, gram::inner(x, &means))
        };
        let Spectral { vectors, mut values } =
            eigen(&matrix).ok_or(Error::Eigen { what: "inner products of the features" })?;
        values.iter_mut().for_each(|v| *v = v.max(0.0));
        Ok(Self { x, means, side, vectors, values })
    }

    /// Fits one target at each strength.
    ///
    /// # Errors
    /// Not one value per item, a value that is not finite, a strength that is not positive and finite.
    ///
    /// # Cost
    /// O(N D + m^2) for the target and O(m^2) (`N < D`: O(N D)) for each strength.
    pub fn fit(&self, target: &[f32], alphas: &[f64]) -> Result<Vec<Ridge>> {
        self.x.want_targets("target values", target.len())?;
        if let Some(row) = target.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what: "target", row, column: 0 });
        }
        if let Some(&got) = alphas.iter().find(|a| !(**a > 0.0 && a.is_finite())) {
            return Err(Error::Setting { name: "alpha", got, want: "positive and finite" });
        }
        let mean = target.iter().map(|&v| f64::from(v)).sum::<f64>() / target.len() as f64;
        let y: Vec<f64> = target.iter().map(|&v| f64::from(v) - mean).collect();
        let right = match self.side {
            Smaller::Columns => gram::transpose_times(self.x, &self.means, &y),
            Smaller::Rows => y,
        };
        let m = self.values.len();
        let turned: Vec<f64> = (0..m).map(|j| (0..m).map(|i| self.vectors[(i, j)] * right[i]).sum()).collect();
        let fit = |&alpha: &f64| {
            let mut solved = vec![0.0; m];
            for (j, (along, value)) in turned.iter().zip(&self.values).enumerate() {
                let share = along / (value + alpha);
                solved.iter_mut().enumerate().for_each(|(i, s)| *s += share * self.vectors[(i, j)]);
            }
            let coefficients = match self.side {
                Smaller::Columns => solved,
                Smaller::Rows => gram::transpose_times(self.x, &self.means, &solved),
            };
            let intercept = mean - coefficients.iter().zip(&self.means).map(|(w, m)| w * m).sum::<f64>();
            Ridge { coefficients, intercept }
        };
        Ok(alphas.iter().map(fit).collect())
    }
}

impl Ridge {
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
        let file = Fixture::open("measure/numbers.safetensors");
        for name in ["ridge.tall", "ridge.wide"] {
            let [x, y] = ["x", "y"].map(|part| format!("{name}.{part}"));
            let (x, y) = (file.features(&x), file.f32s(&y));
            let fits = RidgeProblem::new(&x).unwrap().fit(&y, &file.f64s(&format!("{name}.alphas"))).unwrap();
            let coefficients = file.f64s(&format!("{name}.coefficients"));
            let intercepts = file.f64s(&format!("{name}.intercepts"));
            for (i, fit) in fits.iter().enumerate() {
                assert_close(fit.intercept, intercepts[i], 1e-9);
                let want = &coefficients[i * x.d()..(i + 1) * x.d()];
                fit.coefficients.iter().zip(want).for_each(|(g, w)| assert_close(*g, *w, 1e-9));
            }
        }
    }

    #[test]
    fn one_column_has_its_closed_form() {
        // Centred x = -1, 0, 1 and y = -2, 0, 2: w = 4 / (2 + alpha).
        let x = Features::new(1, vec![4.0, 5.0, 6.0]).unwrap();
        let fits = RidgeProblem::new(&x).unwrap().fit(&[8.0, 10.0, 12.0], &[1e-12, 2.0]).unwrap();
        assert_close(fits[0].coefficients[0], 2.0, 1e-10);
        assert_close(fits[1].coefficients[0], 1.0, 1e-12);
        assert_close(fits[1].intercept, 5.0, 1e-12);
        let got = fits[1].predict(&x).unwrap();
        got.iter().zip([9.0, 10.0, 11.0]).for_each(|(g, w)| assert_close(*g, w, 1e-12));
    }

    #[test]
    fn constant_features_and_one_item_give_the_mean() {
        for (d, values, y) in [(1, vec![7.0; 4], vec![1.0, 2.0, 3.0, 6.0]), (3, vec![1.0, 2.0, 3.0], vec![3.0])] {
            let x = Features::new(d, values).unwrap();
            let fit = RidgeProblem::new(&x).unwrap().fit(&y, &[0.1]).unwrap().remove(0);
            assert_close(fit.predict(&x).unwrap()[0], 3.0, 1e-12);
        }
    }

    #[test]
    fn bad_targets_and_strengths_are_named() {
        let x = Features::new(1, vec![1.0, 2.0]).unwrap();
        let problem = RidgeProblem::new(&x).unwrap();
        assert!(matches!(problem.fit(&[1.0], &[1.0]), Err(Error::LengthMismatch { want: 2, got: 1, .. })));
        assert!(matches!(problem.fit(&[1.0, f32::INFINITY], &[1.0]), Err(Error::NotFinite { row: 1, .. })));
        assert!(matches!(problem.fit(&[1.0, 2.0], &[0.0]), Err(Error::Setting { name: "alpha", .. })));
    }
}
