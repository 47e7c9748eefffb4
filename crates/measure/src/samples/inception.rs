use crate::{Error, Features, Result, draw};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// What a classifier's outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// Unnormalised log-probabilities.
    Logits,
    /// Probabilities: not negative, rows that sum to 1.
    Probabilities,
}

/// How an inception score is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InceptionConfig {
    /// What the rows are.
    pub outputs: Outputs,
    /// Parts that are scored apart, from 1 to the number of items.
    pub splits: usize,
    /// Key of the shuffle before splitting; `None` keeps the order.
    pub shuffle: Option<u64>,
}

impl Default for InceptionConfig {
    /// Ten splits of shuffled logits, as torch-fidelity does.
    fn default() -> Self {
        Self { outputs: Outputs::Logits, splits: 10, shuffle: Some(0) }
    }
}

/// Inception score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InceptionScore {
    /// Mean of the splits' scores, each from 1 to the number of classes.
    pub value: f64,
    /// Their standard deviation (divisor: number of splits), as papers print behind the mean.
    pub sd: f64,
    /// Number of splits.
    pub splits: usize,
    /// Items of all splits together.
    pub n: usize,
}

/// Inception score of a classifier's outputs: how sure it is of each item and how evenly items spread over the classes.
///
/// exp(1/N sum_i KL(p_i || q)) with q = 1/N sum_i p_i, for each split, where split s of S holds the items from s N / S to
/// (s + 1) N / S rounded down. A class that no item of a split can be adds nothing. Not a distance: nothing is compared with data,
/// and the score grows with the size of a split.
///
/// # Shapes
/// - `outputs`: `[N, K]`
///
/// # Errors
/// No splits or more than items; probabilities that are none.
///
/// # Source
/// Salimans et al. 2016 (arXiv 1606.03498), section 4; splits as in torch-fidelity.
pub fn inception_score(outputs: &Features, config: &InceptionConfig) -> Result<InceptionScore> {
    let n = outputs.n();
    if config.splits == 0 {
        return Err(Error::TooFew { what: "splits", need: 1, got: 0 });
    }
    if config.splits > n {
        return Err(Error::TooFew { what: "items for the splits", need: config.splits, got: n });
    }
    if config.outputs == Outputs::Probabilities {
        want_distributions(outputs)?;
    }
    let order = match (config.shuffle, NonZeroUsize::new(n)) {
        (Some(seed), Some(count)) => draw::distinct(seed, 0, count, n),
        _ => (0..n).collect(),
    };
    let edge = |s: usize| (s * n).div_euclid(config.splits);
    let scores: Vec<f64> = (0..config.splits)
        .into_par_iter()
        .map(|s| score(outputs, &order[edge(s)..edge(s + 1)], config.outputs))
        .collect();
    let count = scores.len() as f64;
    let value = scores.iter().sum::<f64>() / count;
    let sd = (scores.iter().map(|v| (v - value).powi(2)).sum::<f64>() / count).sqrt();
    Ok(InceptionScore { value, sd, splits: config.splits, n })
}

/// exp of the mean divergence, as mean sum_k p log p - sum_k q log q.
fn score(outputs: &Features, items: &[usize], kind: Outputs) -> f64 {
    let n = items.len() as f64;
    let (mut q, mut own) = (vec![0.0; outputs.d()], 0.0);
    let mut p = Vec::with_capacity(outputs.d());
    for &i in items {
        p.clear();
        p.extend(outputs.row(i).iter().map(|&v| f64::from(v)));
        own += match kind {
            Outputs::Logits => softmax(&mut p),
            Outputs::Probabilities => normalise(&mut p),
        };
        q.iter_mut().zip(&p).for_each(|(q, p)| *q += p);
    }
    let shared: f64 = q.iter().map(|q| plogp(q / n)).sum();
    (own / n - shared).exp()
}

/// Logits to probabilities; returns sum p log p, taken from the logits so that no small p loses its logarithm.
fn softmax(p: &mut [f64]) -> f64 {
    let most = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = p.iter().map(|v| (v - most).exp()).sum::<f64>().ln();
    let mut entropy = 0.0;
    for v in p {
        let log_p = *v - most - log_sum;
        *v = log_p.exp();
        entropy += *v * log_p;
    }
    entropy
}

/// Takes the rounding off probabilities stored in f32; returns sum p log p.
fn normalise(p: &mut [f64]) -> f64 {
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|v| *v /= sum);
    p.iter().map(|&v| plogp(v)).sum()
}

/// p log p, 0 at 0.
fn plogp(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

fn want_distributions(outputs: &Features) -> Result<()> {
    // A thousand classes rounded to half precision stay within this.
    const TOLERANCE: f64 = 1e-2;
    for row in 0..outputs.n() {
        let sum: f64 = outputs.row(row).iter().map(|&v| f64::from(v)).sum();
        if (sum - 1.0).abs() > TOLERANCE || outputs.row(row).iter().any(|&v| v < 0.0) {
            return Err(Error::NotDistribution { row, sum });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    fn config(outputs: Outputs, splits: usize) -> InceptionConfig {
        InceptionConfig { outputs, splits, shuffle: None }
    }

    #[test]
    fn equals_torch_fidelity_from_logits_and_probabilities() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for name in ["inception.plain", "inception.ties", "inception.one", "inception.empty"] {
            let (logits, want) = (file.features(&format!("{name}.logits")), file.f64s(name));
            let splits = file.labels(&format!("{name}.splits"))[0] as usize;
            let got = inception_score(&logits, &config(Outputs::Logits, splits)).unwrap();
            assert_close(got.value, want[0], 1e-9);
            assert_close(got.sd, want[1], 1e-9);
            let p: Vec<f32> = (0..logits.n())
                .flat_map(|i| {
                    let mut p: Vec<f64> = logits.row(i).iter().map(|&v| v.into()).collect();
                    softmax(&mut p);
                    p.into_iter().map(|v| v as f32)
                })
                .collect();
            let p = Features::new(logits.d(), p).unwrap();
            let got = inception_score(&p, &config(Outputs::Probabilities, splits)).unwrap();
            assert_close(got.value, want[0], 1e-6);
        }
    }

    #[test]
    fn certain_and_even_is_the_number_of_classes_and_sameness_is_one() {
        let one_hot = |classes: &[usize]| {
            let row = |&c: &usize| (0..4).map(move |k| if k == c { 1.0 } else { 0.0 });
            Features::new(4, classes.iter().flat_map(row).collect()).unwrap()
        };
        let score = |x: &Features| inception_score(x, &config(Outputs::Probabilities, 1)).unwrap();
        assert_close(score(&one_hot(&[0, 1, 2, 3])).value, 4.0, 1e-14);
        // Two classes that no item has.
        assert_close(score(&one_hot(&[0, 1, 0, 1])).value, 2.0, 1e-14);
        assert_close(score(&one_hot(&[2, 2, 2])).value, 1.0, 1e-14);
        let one = score(&one_hot(&[3]));
        assert_eq!((one.value, one.sd, one.n), (1.0, 0.0, 1));
    }

    #[test]
    fn far_logits_are_finite_and_a_shuffle_only_regroups() {
        let x = Features::new(2, vec![3e38, -3e38, -3e38, 3e38]).unwrap();
        assert_close(inception_score(&x, &config(Outputs::Logits, 1)).unwrap().value, 2.0, 1e-14);
        let file = Fixture::open("measure_samples/features.safetensors");
        let logits = file.features("inception.plain.logits");
        let shuffled = |splits, seed| {
            let config = InceptionConfig { splits, shuffle: Some(seed), ..Default::default() };
            inception_score(&logits, &config).unwrap().value
        };
        assert_close(shuffled(1, 5), inception_score(&logits, &config(Outputs::Logits, 1)).unwrap().value, 1e-12);
        assert!(shuffled(10, 5) != shuffled(10, 6) && shuffled(10, 5) == shuffled(10, 5));
    }

    #[test]
    fn what_is_no_distribution_is_named() {
        let x = Features::new(2, vec![0.5, 0.5, 0.9, 0.3]).unwrap();
        let said = inception_score(&x, &config(Outputs::Probabilities, 1)).unwrap_err().to_string();
        assert!(said.starts_with("row 1 of the probabilities sums to 1.2"), "{said}");
        let x = Features::new(2, vec![1.5, -0.5]).unwrap();
        assert!(inception_score(&x, &config(Outputs::Probabilities, 1)).is_err());
        assert!(inception_score(&x, &config(Outputs::Logits, 0)).is_err());
        assert!(inception_score(&x, &config(Outputs::Logits, 2)).is_err());
    }
}
