use super::factors::Factors;
use crate::bootstrap::quantile;
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Interventional robustness of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Irs {
    /// Mean over the codes, weighted by their largest deviation, in [0, 1].
    pub score: f64,
    /// Robustness of each code under its own factor; 0 for a constant code, which has no weight.
    pub codes: Vec<f64>,
    /// The factor of each code: the one that, once fixed, leaves it the least freedom.
    pub parents: Vec<usize>,
}

/// Interventional robustness score: 1 when fixing one factor fixes a code, whatever the other factors do.
///
/// Per code l and factor k: 1 - mean over the values g of the `quantile` of |z_l - E[z_l | g]| among items with v_k = g, divided
/// by max |z_l - E z_l|; the best factor counts. The paper takes the maximum (quantile 1), the library 0.99.
///
/// # Errors
/// Not one row of factors per item, a quantile outside [0, 1], every code constant.
///
/// # Cost
/// O(D F N log N).
///
/// # Source
/// Suter et al. 2019 (arXiv 1811.00007), section 4 for crossed factors without noise; as in google-research/disentanglement_lib.
pub fn irs(codes: &Features, factors: &Factors, at: f64) -> Result<Irs> {
    factors.want_codes(codes)?;
    if !(0.0..=1.0).contains(&at) {
        return Err(Error::Setting { name: "quantile", got: at, want: "between 0 and 1" });
    }
    let groups: Vec<_> = (0..factors.f()).map(|k| crate::cluster::contingency::places(&factors.column(k))).collect();
    let mut out = Irs { score: 0.0, codes: Vec::new(), parents: Vec::new() };
    let mut weight = 0.0;
    for j in 0..codes.d() {
        let values = codes.column(j);
        let largest = if crate::stats::constant(&values) { 0.0 } else { quantile(&deviations(&values), 1.0) };
        let mut best = (0, 0.0);
        for (k, group) in groups.iter().enumerate().filter(|_| largest > 0.0) {
            let mut parts = vec![Vec::new(); group.sizes.len()];
            values.iter().zip(&group.of).for_each(|(v, &g)| parts[g].push(*v));
            let freedom = parts.iter().map(|part| quantile(&deviations(part), at)).sum::<f64>() / parts.len() as f64;
            let robust = 1.0 - freedom / largest;
            if robust > best.1 || k == 0 {
                best = (k, robust);
            }
        }
        out.codes.push(best.1);
        out.parents.push(best.0);
        out.score += largest * best.1;
        weight += largest;
    }
    if weight <= 0.0 {
        return Err(Error::ConstantFeatures { what: "codes", columns: codes.d() });
    }
    out.score /= weight;
    Ok(out)
}

/// Distances from the mean, rising.
fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut out: Vec<f64> = values.iter().map(|v| (v - mean).abs()).collect();
    out.sort_unstable_by(f64::total_cmp);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let factors = Factors::new(3, file.labels("factors")).unwrap();
        for case in ["mixed", "constant"] {
            let got = irs(&file.features(&format!("codes.{case}")), &factors, 0.99).unwrap();
            assert_close(got.score, file.f64s(&format!("irs.{case}"))[0], 1e-9);
        }
    }

    #[test]
    fn a_code_of_one_factor_is_robust_and_a_sum_is_half_so() {
        let factors = Factors::new(2, vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap();
        let x = Features::new(3, vec![0.0, 0.0, 4.0, 0.0, 1.0, 4.0, 3.0, 1.0, 4.0, 3.0, 2.0, 4.0]).unwrap();
        let got = irs(&x, &factors, 1.0).unwrap();
        // The sum deviates by 1 at most and by 1/2 with either factor fixed; the first code by 3/2.
        assert_eq!((got.codes, got.parents), (vec![1.0, 0.5, 0.0], vec![0, 0, 0]));
        assert_close(got.score, (1.5 + 0.5) / 2.5, 1e-12);
        let flat = Features::new(2, vec![0.1; 8]).unwrap();
        assert!(irs(&flat, &factors, 1.0).is_err() && irs(&x, &factors, 1.5).is_err());
    }
}
