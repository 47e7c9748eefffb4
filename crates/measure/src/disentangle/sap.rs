use super::factors::Factors;
use super::svm::Svm;
use crate::stats::{constant, correlation};
use crate::{Error, Features, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Separated attribute predictability of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sap {
    /// Mean over factors of the gap between the two most predictive codes.
    pub score: f64,
    /// Gap of each factor.
    pub gaps: Vec<f64>,
    /// Score of each code for each factor, `[D][F]`.
    pub scores: Vec<Vec<f64>>,
}

/// SAP for factors that are numbers: a code's score is the R^2 of a straight line, its squared correlation with the factor.
///
/// A constant code scores 0; a single code has no rival.
///
/// # Shapes
/// - `factors`: `[N, F]`
///
/// # Errors
/// Not one row of factors per item, a factor that does not vary.
///
/// # Source
/// Kumar et al. 2018 (arXiv 1711.00848), section 3.
pub fn sap_values(codes: &Features, factors: &Features) -> Result<Sap> {
    codes.want_targets("rows of factors", factors.n())?;
    let targets: Vec<Vec<f64>> = (0..factors.d()).map(|k| factors.column(k)).collect();
    if targets.iter().any(|t| constant(t)) {
        return Err(Error::NoSpread { what: "a factor", measure: "a predictability" });
    }
    let of_code = |j: usize| {
        let code = codes.column(j);
        targets.iter().map(|t| correlation(&code, t).map_or(0.0, |r| r * r)).collect()
    };
    Ok(gaps((0..codes.d()).into_par_iter().map(of_code).collect()))
}

/// SAP for factors that are classes: a code's score is the test accuracy of a balanced linear support vector machine (C = 0.01) on
/// it alone.
///
/// # Errors
/// Not one row of factors per item, different widths, a factor with one value in training.
///
/// # Source
/// Kumar et al. 2018 (arXiv 1711.00848), section 3; the machine is that of google-research/disentanglement_lib.
pub fn sap_classes(
    (train, train_factors): (&Features, &Factors),
    (test, test_factors): (&Features, &Factors),
) -> Result<Sap> {
    const C: f64 = 0.01;
    train_factors.want_codes(train)?;
    test_factors.want_codes(test)?;
    test.want_columns("columns of the test codes", train.d())?;
    if train_factors.f() != test_factors.f() {
        let (want, got) = (train_factors.f(), test_factors.f());
        return Err(Error::LengthMismatch { what: "factors of the test items", want, got });
    }
    let groups = train_factors.groups("a predictability")?;
    let names: Vec<Vec<u32>> = (0..train_factors.f())
        .map(|k| {
            let mut known = train_factors.column(k);
            known.sort_unstable();
            known.dedup();
            known
        })
        .collect();
    let targets: Vec<Vec<u32>> = (0..test_factors.f()).map(|k| test_factors.column(k)).collect();
    let of_code = |j: usize| {
        let (code, test) = (train.column(j), test.column(j));
        let score = |k: usize| {
            let machine = Svm::fit(&code, &groups[k].of, &groups[k].sizes, C);
            let right = test.iter().zip(&targets[k]).filter(|(x, t)| names[k][machine.predict(**x)] == **t).count();
            right as f64 / test.len() as f64
        };
        (0..groups.len()).map(score).collect()
    };
    Ok(gaps((0..train.d()).into_par_iter().map(of_code).collect()))
}

fn gaps(scores: Vec<Vec<f64>>) -> Sap {
    let gap = |k: usize| {
        let (first, second) = super::discrete::top_two(scores.iter().map(|row: &Vec<f64>| row[k]));
        first - second
    };
    let gaps: Vec<f64> = (0..scores[0].len()).map(gap).collect();
    Sap { score: gaps.iter().sum::<f64>() / gaps.len() as f64, gaps, scores }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_and_scikit_learns_machines() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let labels = file.labels("factors");
        let numbers = Features::new(3, labels.iter().map(|&v| v as f32).collect()).unwrap();
        for case in ["mixed", "constant"] {
            let codes = file.features(&format!("codes.{case}"));
            let want = file.f64s(&format!("sap.{case}"));
            assert_close(sap_values(&codes, &numbers).unwrap().score, want[0], 1e-9);
            let half = codes.n().div_euclid(2);
            let [train, test] = [0..half, half..codes.n()].map(|part| {
                let values = labels[3 * part.start..3 * part.end].to_vec();
                (codes.select(&part.collect::<Vec<_>>()).unwrap(), Factors::new(3, values).unwrap())
            });
            let got = sap_classes((&train.0, &train.1), (&test.0, &test.1)).unwrap();
            assert_close(got.score, want[1], 1e-9);
        }
    }

    #[test]
    fn permuted_factors_keep_one_minus_their_correlation() {
        let factors = Features::new(2, vec![0.0, 1.0, 1.0, 1.0, 2.0, 0.0, 3.0, 0.0]).unwrap();
        let codes = Features::new(2, vec![1.0, 0.0, 1.0, -2.0, 0.0, -4.0, 0.0, -6.0]).unwrap();
        let r = correlation(&[0.0, 1.0, 2.0, 3.0], &[1.0, 1.0, 0.0, 0.0]).unwrap();
        assert_close(sap_values(&codes, &factors).unwrap().score, 1.0 - r * r, 1e-12);
        let flat = Features::new(1, vec![3.0; 4]).unwrap();
        assert_eq!(sap_values(&flat, &factors).unwrap().score, 0.0);
        assert!(sap_values(&codes, &flat).is_err());
    }
}
