use super::discrete::{information, levels};
use super::factors::Factors;
use crate::cluster::contingency::places;
use crate::shape::ksg_classes;
use crate::{Error, Features, FitOptions, LogisticProblem, Result, Standardiser};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What the codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codes {
    /// Real numbers: information from the 10 nearest neighbours, regression on standardised codes.
    Continuous,
    /// A few levels each: information from counts, regression on one-hot levels.
    Quantised,
}

/// Modularity, explicitness and compactness by information.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InfoMec {
    /// InfoM: 1 when each code knows of one factor alone.
    pub modularity: f64,
    /// InfoE: share of the factors' entropy that a linear classifier on all codes removes.
    pub explicitness: f64,
    /// InfoC: 1 when each factor is known to one code alone.
    pub compactness: f64,
    /// Information over factor entropy, `[F][D]`.
    pub information: Vec<Vec<f64>>,
    /// Codes that count: those with more than one level, or more than a twentieth of the widest range.
    pub active: Vec<usize>,
}

/// InfoMEC: three scores from mutual information, each 1 at best and about 0 at worst.
///
/// With NMI[k, j] = I(v_k; z_j) / H(v_k) over active codes, InfoM = (mean_j max_k NMI / sum_k NMI - 1/F) / (1 - 1/F), InfoC the
/// same over codes for each factor with 1/D; InfoE = mean_k (H(v_k) - E) / H(v_k), E the log loss of a multinomial logistic
/// regression on the same items. A code or factor without any information counts as spread evenly; a single active code as compact.
///
/// The regression has no penalty in the paper; here it has C = 10^4, too weak to matter, so that factors which are told apart
/// perfectly still have a fit. Neighbour estimates below 0 count as 0.
///
/// # Errors
/// Not one row of factors per item, fewer than two factors, a factor with one value, no active code, a fit that does not converge.
///
/// # Source
/// Hsu et al. 2023 (arXiv 2305.18378); details from kylehkhsu/latent_quantization, which weighs classes evenly in the
/// regression. That is the same where factor values are equally common; elsewhere ours keeps E and H over one distribution.
pub fn infomec(codes: &Features, factors: &Factors, kind: Codes) -> Result<InfoMec> {
    factors.want_codes(codes)?;
    factors.want_two()?;
    let groups = factors.groups("a share of its entropy")?;
    let ranges: Vec<f64> = (0..codes.d()).map(|j| range(codes, j)).collect();
    let widest = ranges.iter().copied().fold(0.0, f64::max);
    let least = if kind == Codes::Continuous { widest / 20.0 } else { 0.0 };
    let active: Vec<usize> = (0..codes.d()).filter(|&j| ranges[j] > least).collect();
    if active.is_empty() {
        return Err(Error::ConstantFeatures { what: "codes", columns: codes.d() });
    }
    let by_code = match kind {
        Codes::Quantised => information(codes.d(), &groups, &|j| levels(codes, j)),
        Codes::Continuous => neighbour_information(codes, factors)?,
    };
    let share = |k: usize, j: usize| by_code[j][k] / groups[k].entropy();
    let information: Vec<Vec<f64>> = (0..factors.f()).map(|k| (0..codes.d()).map(|j| share(k, j)).collect()).collect();
    let of_code = |j: &usize| concentration(information.iter().map(|row| row[*j]));
    let modularity = active.iter().map(of_code).sum::<f64>() / active.len() as f64;
    let of_factor = |row: &Vec<f64>| concentration(active.iter().map(|&j| row[j]));
    let compactness = information.iter().map(of_factor).sum::<f64>() / factors.f() as f64;
    let inputs = match kind {
        Codes::Quantised => one_hot(codes)?,
        Codes::Continuous => Standardiser::fit(codes)?.apply(codes)?,
    };
    let removed = |k: usize| -> Result<f64> {
        let entropy = groups[k].entropy();
        Ok((entropy - log_loss(&inputs, &factors.column(k))?) / entropy)
    };
    let removed: Vec<f64> = (0..factors.f()).map(removed).collect::<Result<_>>()?;
    let explicitness = removed.iter().sum::<f64>() / removed.len() as f64;
    Ok(InfoMec { modularity, explicitness, compactness, information, active })
}

/// Greatest less least value of a code.
fn range(codes: &Features, j: usize) -> f64 {
    let (low, high) =
        codes.column(j).into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    high - low
}

/// Nearest-neighbour estimates, cut at 0: `[D][F]`.
fn neighbour_information(codes: &Features, factors: &Factors) -> Result<Vec<Vec<f64>>> {
    const NEIGHBOURS: usize = 10;
    let labels: Vec<Vec<u32>> = (0..factors.f()).map(|k| factors.column(k)).collect();
    let of_code = |j: usize| -> Result<Vec<f64>> {
        let values = codes.column(j);
        labels.iter().map(|l| Ok(ksg_classes(&values, l, NEIGHBOURS)?.value.max(0.0))).collect()
    };
    (0..codes.d()).into_par_iter().map(of_code).collect()
}

/// How much of a sum its largest part is, from 0 (all parts equal) to 1 (one part alone).
fn concentration(parts: impl Iterator<Item = f64>) -> f64 {
    let (count, most, sum) = parts.fold((0.0, 0.0f64, 0.0), |(n, most, sum), v| (n + 1.0, most.max(v), sum + v));
    if count < 1.5 {
        1.0
    } else if sum > 0.0 {
        (most / sum - 1.0 / count) / (1.0 - 1.0 / count)
    } else {
        0.0
    }
}

/// One column per level of each code.
fn one_hot(codes: &Features) -> Result<Features> {
    let columns: Vec<_> = (0..codes.d()).map(|j| places(&levels(codes, j))).collect();
    let width: usize = columns.iter().map(|c| c.sizes.len()).sum();
    let mut values = vec![0.0; codes.n() * width];
    for (i, row) in values.chunks_mut(width).enumerate() {
        let mut first = 0;
        for column in &columns {
            row[first + column.of[i]] = 1.0;
            first += column.sizes.len();
        }
    }
    Features::new(width, values)
}

/// Mean log loss in nats of a logistic regression on the items it was fitted on.
fn log_loss(x: &Features, labels: &[u32]) -> Result<f64> {
    const C: f64 = 1e4;
    let options = FitOptions { tolerance: 1e-7, iterations: 20_000 };
    let fit = LogisticProblem::new(x, labels)?.fit(C, None, &options)?;
    let penalty = 0.5 * fit.coefficients.iter().map(|w| w * w).sum::<f64>();
    Ok((fit.objective - penalty) / (C * x.n() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_authors_formula() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let factors = Factors::new(3, file.labels("factors")).unwrap();
        for (case, kind) in [("mixed", Codes::Continuous), ("levels", Codes::Quantised)] {
            let got = infomec(&file.features(&format!("codes.{case}")), &factors, kind).unwrap();
            let want = file.f64s(&format!("infomec.{case}"));
            assert_close(got.modularity, want[0], 1e-6);
            // Without a penalty there, with C = 10^4 here.
            assert_close(got.explicitness, want[1], 1e-4);
            assert_close(got.compactness, want[2], 1e-6);
        }
    }

    #[test]
    fn permuted_sources_score_one_on_all() {
        let factors = Factors::new(2, (0..60u32).flat_map(|i| [i % 3, i.div_euclid(3) % 4]).collect()).unwrap();
        let values = (0..60u32).flat_map(|i| [(i.div_euclid(3) % 4) as f32, 0.5, -((i % 3) as f32)]).collect();
        let got = infomec(&Features::new(3, values).unwrap(), &factors, Codes::Quantised).unwrap();
        assert_eq!(got.active, [0, 2]);
        assert_close(got.modularity, 1.0, 1e-12);
        assert_close(got.compactness, 1.0, 1e-12);
        assert!(got.explicitness > 0.999, "{got:?}");
    }

    #[test]
    fn parts_are_weighed_between_even_and_alone() {
        assert_eq!(concentration([0.5, 0.5].into_iter()), 0.0);
        assert_eq!(concentration([0.0, 0.7, 0.0].into_iter()), 1.0);
        assert_eq!(concentration([0.0, 0.0].into_iter()), 0.0);
        assert_eq!(concentration([0.3].into_iter()), 1.0);
        let factors = Factors::new(2, vec![0, 0, 1, 1]).unwrap();
        let flat = Features::new(2, vec![0.1; 4]).unwrap();
        assert!(infomec(&flat, &factors, Codes::Continuous).is_err());
        assert!(infomec(&flat, &Factors::new(1, vec![0, 1]).unwrap(), Codes::Quantised).is_err());
    }
}
