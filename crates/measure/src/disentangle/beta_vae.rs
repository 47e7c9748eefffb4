use super::factors::Factors;
use super::groups::{FixedFactor, Groups};
use crate::{Features, FitOptions, LogisticProblem, Result, accuracy};
use rayon::prelude::*;

/// beta-VAE score: how often a linear classifier names the factor that pairs of items share, from how far apart their codes are.
///
/// Per group: mean over `batch` pairs with one factor equal of |z - z'|, `[D]`; a logistic regression (C = 1) is fitted on the
/// training groups and its accuracy on the test groups is the score: 1/F by chance, 1 at best. Unlike the FactorVAE score it
/// forgives factors that are read from several codes. Groups are drawn from the items at hand.
///
/// # Errors
/// Not one row of factors per item, fewer than two factors, a factor with one value, no groups, a fit that does not converge.
///
/// # Cost
/// O((train + test) batch D) and the fit.
///
/// # Source
/// Higgins et al. 2017 (beta-VAE), section 3; the classifier and sizes are those of google-research/disentanglement_lib.
pub fn beta_vae(codes: &Features, factors: &Factors, groups: &FixedFactor) -> Result<f64> {
    factors.want_codes(codes)?;
    factors.want_two()?;
    groups.check(1)?;
    let drawn = Groups::new(factors, groups.seed, "a beta-VAE score")?;
    let draw = |r: u64| {
        let factor = drawn.factor(r);
        let mut apart = vec![0.0; codes.d()];
        for place in 0..groups.batch as u64 {
            let first = drawn.any(r, place);
            let second = drawn.like(first, factor, r, place);
            let pair = codes.row(first).iter().zip(codes.row(second));
            apart.iter_mut().zip(pair).for_each(|(a, (x, y))| *a += (f64::from(*x) - f64::from(*y)).abs());
        }
        (factor, apart.into_iter().map(|a| narrow(a / groups.batch as f64)).collect())
    };
    let all: Vec<(usize, Vec<f32>)> = (0..(groups.train + groups.test) as u64).into_par_iter().map(draw).collect();
    let (train, test) = all.split_at(groups.train);
    let part = |rows: &[(usize, Vec<f32>)]| -> Result<(Features, Vec<u32>)> {
        let labels = rows.iter().map(|(factor, _)| u32::try_from(*factor).unwrap_or(u32::MAX)).collect();
        Ok((Features::new(codes.d(), rows.iter().flat_map(|(_, row)| row).copied().collect())?, labels))
    };
    let ((train, train_labels), (test, test_labels)) = (part(train)?, part(test)?);
    let fit = LogisticProblem::new(&train, &train_labels)?.fit(1.0, None, &FitOptions::default())?;
    accuracy(&test_labels, &fit.predict(&test)?)
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of differences of f32 codes; features are stored in f32")]
fn narrow(v: f64) -> f32 {
    v as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn equals_the_authors_procedure_within_sampling_error() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let factors = Factors::new(3, file.labels("factors")).unwrap();
        let small = FixedFactor { batch: 8, ..Default::default() };
        let got = beta_vae(&file.features("codes.constant"), &factors, &small).unwrap();
        let want = file.f64s("beta_vae.constant")[0];
        // Two shares of 5,000 groups each: the standard error of their difference is at most 0.01.
        assert!((got - want).abs() < 0.03, "{got} {want}");
    }

    #[test]
    fn draws_are_addressed_and_one_factor_is_refused() {
        let factors = Factors::new(2, vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap();
        let x = Features::new(2, vec![0.0, 0.2, 0.1, 1.0, 1.0, 0.0, 0.9, 0.9]).unwrap();
        let few = FixedFactor { batch: 4, train: 200, test: 100, seed: 3 };
        assert_eq!(beta_vae(&x, &factors, &few).unwrap(), beta_vae(&x, &factors, &few).unwrap());
        assert!(beta_vae(&x, &Factors::new(1, vec![0, 1, 0, 1]).unwrap(), &few).is_err());
        assert!(beta_vae(&x, &factors, &FixedFactor { batch: 0, ..few }).is_err());
    }
}
