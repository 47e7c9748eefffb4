use super::factors::Factors;
use crate::ranking::roc_auc;
use crate::{Error, Features, FitOptions, LogisticProblem, Result, Standardiser};
use serde::{Deserialize, Serialize};

/// How easily factors are read from all codes together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explicitness {
    /// Mean area under the ROC curve over factors: 0.5 by chance, 1 at best.
    pub score: f64,
    /// Mean area of each factor over its values.
    pub factors: Vec<f64>,
}

/// Explicitness: how well a linear classifier tells the values of each factor, by the area under its one-against-the-rest ROC curves.
///
/// Logistic regression (C = 1) on codes standardised by the training items, scored on the test items. Values that do not
/// occur among the test items, or are the only ones there, are left out. Ridgeway and Mozer report 2 score - 1.
///
/// # Errors
/// Not one row of factors per item, different widths, a factor with one value in training, constant codes, a fit that does not
/// converge, no value of a factor that can be scored.
///
/// # Source
/// Ridgeway and Mozer 2018 (arXiv 1802.05312), section 3; as in google-research/disentanglement_lib, which does not rescale.
pub fn explicitness(
    (train, train_factors): (&Features, &Factors),
    (test, test_factors): (&Features, &Factors),
) -> Result<Explicitness> {
    train_factors.want_codes(train)?;
    test_factors.want_codes(test)?;
    if train_factors.f() != test_factors.f() {
        let (want, got) = (train_factors.f(), test_factors.f());
        return Err(Error::LengthMismatch { what: "factors of the test items", want, got });
    }
    let standard = Standardiser::fit(train)?;
    let (train, test) = (standard.apply(train)?, standard.apply(test)?);
    let of_factor = |k: usize| -> Result<f64> {
        let fit = LogisticProblem::new(&train, &train_factors.column(k))?.fit(1.0, None, &FitOptions::default())?;
        let logits = fit.logits(&test)?;
        let labels = test_factors.column(k);
        let mut areas = Vec::new();
        for (place, class) in fit.classes.iter().enumerate() {
            let positive: Vec<bool> = labels.iter().map(|l| l == class).collect();
            if positive.iter().all(|p| *p == positive[0]) {
                continue;
            }
            let scores: Vec<f64> = match fit.intercepts.len() {
                // Log-odds of the larger label: the smaller one's are their negative.
                1 => logits.iter().map(|l| if place == 1 { *l } else { -l }).collect(),
                rows => logits.chunks(rows).map(|row| log_share(row, place)).collect(),
            };
            areas.push(roc_auc(&scores, &positive)?);
        }
        if areas.is_empty() {
            return Err(Error::NoSpread { what: "a factor of the test items", measure: "an explicitness" });
        }
        Ok(areas.iter().sum::<f64>() / areas.len() as f64)
    };
    let factors: Vec<f64> = (0..train_factors.f()).map(of_factor).collect::<Result<_>>()?;
    Ok(Explicitness { score: factors.iter().sum::<f64>() / factors.len() as f64, factors })
}

/// Log-probability of one class under a softmax.
fn log_share(logits: &[f64], class: usize) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits[class] - most - logits.iter().map(|l| (l - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let codes = file.features("codes.mixed");
        let factors = file.labels("factors");
        let half = codes.n().div_euclid(2);
        let [train, test] = [0..half, half..codes.n()].map(|part| {
            let values = factors[3 * part.start..3 * part.end].to_vec();
            (codes.select(&part.collect::<Vec<_>>()).unwrap(), Factors::new(3, values).unwrap())
        });
        let got = explicitness((&train.0, &train.1), (&test.0, &test.1)).unwrap();
        got.factors.iter().zip(file.f64s("explicitness")).for_each(|(g, w)| assert_close(*g, w, 1e-6));
    }

    #[test]
    fn what_is_told_apart_scores_one_and_missing_values_are_left_out() {
        let train = Features::new(1, vec![0.0, 1.0, 2.0, 0.0, 1.0, 2.0]).unwrap();
        let factors = Factors::new(1, vec![0, 1, 2, 0, 1, 2]).unwrap();
        let test = Features::new(1, vec![0.1, 1.9]).unwrap();
        let got = explicitness((&train, &factors), (&test, &Factors::new(1, vec![0, 2]).unwrap())).unwrap();
        assert_eq!(got.score, 1.0);
        assert!(explicitness((&train, &factors), (&test, &Factors::new(1, vec![1, 1]).unwrap())).is_err());
        assert!(explicitness((&train, &factors), (&test, &Factors::new(2, vec![1; 4]).unwrap())).is_err());
    }
}
