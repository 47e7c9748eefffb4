use super::factors::Factors;
use crate::{BoostOptions, Boosting, Error, Features, Result, accuracy, lasso, r2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Disentanglement, completeness and informativeness of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dci {
    /// 1 when every code matters for one factor alone; mean over codes weighted by their importance.
    pub disentanglement: f64,
    /// 1 when every factor is read from one code alone; mean over factors weighted likewise.
    pub completeness: f64,
    /// How well factors are predicted on test items: mean accuracy (boosting) or R^2 (lasso; below 0 when worse than the mean).
    pub informativeness: f64,
    /// Disentanglement of each code.
    pub codes: Vec<f64>,
    /// Completeness of each factor.
    pub factors: Vec<f64>,
    /// Importance of each code for each factor, `[D][F]`.
    pub importance: Vec<Vec<f64>>,
}

/// DCI from the importances of codes for factors, however they were found.
///
/// D_i = 1 - H_F(R_i. / sum), C_j = 1 - H_D(R_.j / sum) with entropies to the base of the number of factors and codes. A code
/// that matters for nothing has no weight; when none matters, both scores are 0.
///
/// # Shapes
/// - `importance`: `[D][F]`, not negative
///
/// # Errors
/// Fewer than two codes or factors, rows of different length, an importance that is negative or not finite.
///
/// # Source
/// Eastwood and Williams 2018 (DCI), section 2; 1e-11 is added to every importance as in google-research/disentanglement_lib.
pub fn dci(importance: Vec<Vec<f64>>, informativeness: f64) -> Result<Dci> {
    let d = importance.len();
    let f = importance.first().map_or(0, Vec::len);
    for (what, got) in [("codes", d), ("factors", f)] {
        if got < 2 {
            return Err(Error::TooFew { what, need: 2, got });
        }
    }
    for (row, values) in importance.iter().enumerate() {
        if values.len() != f {
            return Err(Error::LengthMismatch { what: "importances of a code", want: f, got: values.len() });
        }
        if let Some(column) = values.iter().position(|v| !(*v >= 0.0 && v.is_finite())) {
            return Err(Error::NotFinite { what: "importances", row, column });
        }
    }
    let codes: Vec<f64> = importance.iter().map(|row| sharpness(row)).collect();
    let columns: Vec<Vec<f64>> = (0..f).map(|k| importance.iter().map(|row| row[k]).collect()).collect();
    let factors: Vec<f64> = columns.iter().map(|column| sharpness(column)).collect();
    let total: f64 = importance.iter().flatten().sum();
    let weighted = |scores: &[f64], rows: &[Vec<f64>]| {
        let sum: f64 = scores.iter().zip(rows).map(|(s, row)| s * row.iter().sum::<f64>()).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    };
    let (disentanglement, completeness) = (weighted(&codes, &importance), weighted(&factors, &columns));
    Ok(Dci { disentanglement, completeness, informativeness, codes, factors, importance })
}

/// 1 - entropy of the shares, to the base of their number.
fn sharpness(values: &[f64]) -> f64 {
    const FLOOR: f64 = 1e-11;
    let total: f64 = values.iter().map(|v| v + FLOOR).sum();
    let entropy: f64 = values.iter().map(|v| (v + FLOOR) / total).map(|p| -p * p.ln()).sum();
    1.0 - entropy / (values.len() as f64).ln()
}

/// DCI with gradient boosting: importances are the trees' and informativeness is accuracy on the test items.
///
/// # Errors
/// Not one row of factors per item, different widths, fewer than two codes or factors, a factor with one value in training.
///
/// # Cost
/// A boosted classifier per factor; see [`Boosting::fit`].
///
/// # Source
/// Locatello et al. 2019 (arXiv 1811.12359), whose library changed the paper's regressors for boosted classifiers.
pub fn dci_boosted(
    (train, train_factors): (&Features, &Factors),
    (test, test_factors): (&Features, &Factors),
    options: &BoostOptions,
) -> Result<Dci> {
    check((train, train_factors), (test, test_factors))?;
    let of_factor = |k: usize| -> Result<(Vec<f64>, f64)> {
        let fit = Boosting::fit(train, &train_factors.column(k), options)?;
        let score = accuracy(&test_factors.column(k), &fit.predict(test)?)?;
        Ok((fit.importances, score))
    };
    gather((0..train_factors.f()).into_par_iter().map(of_factor).collect::<Result<_>>()?)
}

/// DCI with lasso: importances are the absolute coefficients for codes and factors scaled to variance 1, and informativeness is R^2
/// on the test items.
///
/// Factor values are read as numbers. The strength `alpha` is in units of the scaled problem; the authors use 0.02. Constant
/// codes have no importance.
///
/// # Errors
/// As for [`dci_boosted`]; a factor with one value among the test items; a fit that does not converge.
///
/// # Source
/// Eastwood and Williams 2018 (DCI), whose first regressor is the lasso.
pub fn dci_lasso(
    (train, train_factors): (&Features, &Factors),
    (test, test_factors): (&Features, &Factors),
    alpha: f64,
) -> Result<Dci> {
    check((train, train_factors), (test, test_factors))?;
    let standard = crate::Standardiser::fit(train)?;
    let (train, test) = (standard.apply(train)?, standard.apply(test)?);
    let numbers = |factors: &Factors, k: usize| factors.column(k).into_iter().map(f64::from).collect::<Vec<f64>>();
    let of_factor = |k: usize| -> Result<(Vec<f64>, f64)> {
        let y = numbers(train_factors, k);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let sd = (y.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / y.len() as f64).sqrt();
        if sd <= 0.0 {
            return Err(Error::NoSpread { what: "a factor", measure: "an importance" });
        }
        let scaled = |y: Vec<f64>| y.into_iter().map(|v| (v - mean) / sd).collect::<Vec<f64>>();
        let fit = lasso(&train, &scaled(y), alpha)?;
        let score = r2(&scaled(numbers(test_factors, k)), &fit.predict(&test)?)?;
        Ok((fit.coefficients.iter().map(|w| w.abs()).collect(), score))
    };
    gather((0..train_factors.f()).into_par_iter().map(of_factor).collect::<Result<_>>()?)
}

fn check((train, train_factors): (&Features, &Factors), (test, test_factors): (&Features, &Factors)) -> Result<()> {
    train_factors.want_codes(train)?;
    test_factors.want_codes(test)?;
    test.want_columns("columns of the test codes", train.d())?;
    if train_factors.f() != test_factors.f() {
        let (want, got) = (train_factors.f(), test_factors.f());
        return Err(Error::LengthMismatch { what: "factors of the test items", want, got });
    }
    train_factors.want_two()?;
    if train.d() < 2 { Err(Error::TooFew { what: "codes", need: 2, got: train.d() }) } else { Ok(()) }
}

/// Importances and scores by factor to one measure.
fn gather(by_factor: Vec<(Vec<f64>, f64)>) -> Result<Dci> {
    let informativeness = by_factor.iter().map(|(_, score)| score).sum::<f64>() / by_factor.len() as f64;
    let d = by_factor[0].0.len();
    let importance = (0..d).map(|j| by_factor.iter().map(|(column, _)| column[j]).collect()).collect();
    dci(importance, informativeness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    fn halves(file: &Fixture, case: &str) -> [(Features, Factors); 2] {
        let codes = file.features(&format!("codes.{case}"));
        let factors = file.labels("factors");
        let half = codes.n().div_euclid(2);
        [0..half, half..codes.n()].map(|part| {
            let values = factors[3 * part.start..3 * part.end].to_vec();
            (codes.select(&part.collect::<Vec<_>>()).unwrap(), Factors::new(3, values).unwrap())
        })
    }

    #[test]
    fn equals_scikit_learns_trees_and_lasso() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let near = |got: Dci, name: &str| {
            let want = file.f64s(name);
            assert_close(got.disentanglement, want[0], 1e-6);
            assert_close(got.completeness, want[1], 1e-6);
            assert_close(got.informativeness, want[2], 1e-6);
        };
        for case in ["mixed", "constant"] {
            let [train, test] = halves(&file, case);
            let got = dci_lasso((&train.0, &train.1), (&test.0, &test.1), 0.02).unwrap();
            near(got, &format!("dci.lasso.{case}"));
        }
        let [train, test] = halves(&file, "levels");
        let options = BoostOptions { stages: 20, ..Default::default() };
        near(dci_boosted((&train.0, &train.1), (&test.0, &test.1), &options).unwrap(), "dci.boosted.levels");
    }

    #[test]
    fn small_importances_by_hand() {
        let perfect = dci(vec![vec![2.0, 0.0], vec![0.0, 1.0]], 1.0).unwrap();
        assert_close(perfect.disentanglement, 1.0, 1e-8);
        assert_close(perfect.completeness, 1.0, 1e-8);
        let even = dci(vec![vec![1.0, 1.0]; 2], 1.0).unwrap();
        assert_close(even.disentanglement, 0.0, 1e-8);
        // Both codes for factor 0, the heavier also for factor 1.
        let got = dci(vec![vec![1.0, 1.0], vec![1.0, 0.0]], 0.0).unwrap();
        assert_close(got.disentanglement, (2.0 * 0.0 + 1.0) / 3.0, 1e-8);
        assert_close(got.completeness, (2.0 * 0.0 + 1.0) / 3.0, 1e-8);
        let nothing = dci(vec![vec![0.0; 3]; 2], 0.0).unwrap();
        assert_eq!((nothing.disentanglement, nothing.completeness), (0.0, 0.0));
        assert!(dci(vec![vec![1.0, 1.0]], 0.0).is_err() && dci(vec![vec![1.0], vec![1.0]], 0.0).is_err());
        assert!(dci(vec![vec![1.0, -1.0], vec![1.0, 1.0]], 0.0).is_err());
        assert!(dci(vec![vec![1.0, 1.0], vec![1.0]], 0.0).is_err() && dci(vec![], 0.0).is_err());
    }
}
