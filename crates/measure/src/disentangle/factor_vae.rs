use super::factors::Factors;
use super::groups::{FixedFactor, Groups};
use crate::{Features, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// FactorVAE score of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorVae {
    /// Share of the test groups whose fixed factor is named by their stillest code; about 1/F by chance, 1 at best.
    pub score: f64,
    /// The same on the groups that the naming was learnt from.
    pub train: f64,
    /// Codes that vary at all; the others cannot be the stillest.
    pub active: usize,
}

/// FactorVAE score: in a group with one factor fixed the code of that factor should be the one that varies least.
///
/// Each group votes (code of the least variance relative to the whole data set, fixed factor); every code then stands for the
/// factor that most training groups voted. With no active code the score is 0. Groups are drawn from the items at hand, which is
/// the paper's sampling when they are the full grid of factors or a large sample of it.
///
/// # Errors
/// Not one row of factors per item, a factor with one value, groups of fewer than two items, no groups.
///
/// # Cost
/// O((train + test) batch D).
///
/// # Source
/// Kim and Mnih 2018 (arXiv 1802.05983), section 4; details as in google-research/disentanglement_lib without pruning.
pub fn factor_vae(codes: &Features, factors: &Factors, groups: &FixedFactor) -> Result<FactorVae> {
    factors.want_codes(codes)?;
    groups.check(2)?;
    let drawn = Groups::new(factors, groups.seed, "a FactorVAE score")?;
    let variances = variances(codes, (0..codes.n()).collect());
    let varies =
        |j: &usize| codes.values().chunks(codes.d()).any(|row| row[*j].to_bits() != codes.row(0)[*j].to_bits());
    let active: Vec<usize> = (0..codes.d()).filter(|j| varies(j) && variances[*j] > 0.0).collect();
    if active.is_empty() {
        return Ok(FactorVae { score: 0.0, train: 0.0, active: 0 });
    }
    let vote = |r: u64| {
        let factor = drawn.factor(r);
        let first = drawn.any(r, 0);
        let others = (1..groups.batch as u64).map(|place| drawn.like(first, factor, r, place));
        let local = self::variances(codes, std::iter::once(first).chain(others).collect());
        let share = |j: usize| local[j] / variances[j];
        let stillest = active.iter().copied().reduce(|best, j| if share(j) < share(best) { j } else { best });
        (stillest.unwrap_or(0), factor)
    };
    let votes: Vec<(usize, usize)> = (0..(groups.train + groups.test) as u64).into_par_iter().map(vote).collect();
    let (train, test) = votes.split_at(groups.train);
    let mut counts = vec![vec![0usize; factors.f()]; codes.d()];
    train.iter().for_each(|&(code, factor)| counts[code][factor] += 1);
    // Of equally common factors the first.
    let name = |row: &Vec<usize>| (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
    let names: Vec<usize> = counts.iter().map(name).collect();
    let right = |votes: &[(usize, usize)]| votes.iter().filter(|(code, factor)| names[*code] == *factor).count() as f64;
    let (score, train) = (right(test) / test.len() as f64, right(train) / train.len() as f64);
    Ok(FactorVae { score, train, active: active.len() })
}

/// Unbiased variance of every code over some items, at least two: `[D]`.
fn variances(codes: &Features, items: Vec<usize>) -> Vec<f64> {
    let n = items.len() as f64;
    let mut means = vec![0.0; codes.d()];
    for &i in &items {
        means.iter_mut().zip(codes.row(i)).for_each(|(m, &v)| *m += f64::from(v) / n);
    }
    let mut out = vec![0.0; codes.d()];
    for &i in &items {
        let row = codes.row(i).iter().zip(&means);
        out.iter_mut().zip(row).for_each(|(o, (&v, m))| *o += (f64::from(v) - m).powi(2) / (n - 1.0));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_authors_procedure_within_sampling_error() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let factors = Factors::new(3, file.labels("factors")).unwrap();
        let small = FixedFactor { batch: 8, ..Default::default() };
        let got = factor_vae(&file.features("codes.constant"), &factors, &small).unwrap();
        let want = file.f64s("factor_vae.constant")[0];
        // Two shares of 5,000 groups each: the standard error of their difference is at most 0.01.
        assert!((got.score - want).abs() < 0.03, "{got:?} {want}");
        assert_eq!(got.active, 3);
    }

    #[test]
    fn variances_are_unbiased_and_constant_codes_cannot_win() {
        let x = Features::new(2, vec![1.0, 5.0, 3.0, 5.0, 8.0, 5.0]).unwrap();
        let got = variances(&x, vec![0, 1, 2]);
        assert_close(got[0], 13.0, 1e-12);
        assert_eq!(got[1], 0.0);
        let factors = Factors::new(2, vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap();
        let few = FixedFactor { train: 300, test: 200, ..Default::default() };
        let code = Features::new(3, vec![0.0, 0.1, 0.0, 0.0, 0.1, 9.0, 1.0, 0.1, 0.0, 1.0, 0.1, 9.0]).unwrap();
        let got = factor_vae(&code, &factors, &few).unwrap();
        assert_eq!((got.score, got.active), (1.0, 2));
        let flat = Features::new(2, vec![0.1; 8]).unwrap();
        assert_eq!(factor_vae(&flat, &factors, &few).unwrap(), FactorVae { score: 0.0, train: 0.0, active: 0 });
        assert!(factor_vae(&code, &factors, &FixedFactor { batch: 1, ..few }).is_err());
    }
}
