use super::discrete::{histogram, information};
use super::factors::Factors;
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Modularity of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Modularity {
    /// Mean over the codes, in [0, 1].
    pub score: f64,
    /// Of each code; 0 for a code that knows nothing.
    pub codes: Vec<f64>,
}

/// Modularity: 1 when each code knows of one factor alone.
///
/// Per code 1 - sum_{k != best} I_k^2 / (I_best^2 (F - 1)), I the plug-in information of codes cut into `bins` intervals. A code
/// that knows nothing counts 0; two codes may share a factor at no cost.
///
/// # Errors
/// Not one row of factors per item, fewer than two factors, no bins, a factor with one value.
///
/// # Cost
/// O(D F N log N).
///
/// # Source
/// Ridgeway and Mozer 2018 (arXiv 1802.05312), section 3; details as in google-research/disentanglement_lib.
pub fn modularity(codes: &Features, factors: &Factors, bins: u32) -> Result<Modularity> {
    factors.want_codes(codes)?;
    factors.want_two()?;
    if bins == 0 {
        return Err(Error::Setting { name: "bins", got: 0.0, want: "at least 1" });
    }
    let groups = factors.groups("a modularity")?;
    let of_code = |row: Vec<f64>| {
        let best = row.iter().map(|v| v * v).fold(0.0, f64::max);
        let rest = row.iter().map(|v| v * v).sum::<f64>() - best;
        if best > 0.0 { 1.0 - rest / (best * (row.len() - 1) as f64) } else { 0.0 }
    };
    let codes: Vec<f64> =
        information(codes.d(), &groups, &|j| histogram(codes, j, bins)).into_iter().map(of_code).collect();
    Ok(Modularity { score: codes.iter().sum::<f64>() / codes.len() as f64, codes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_with_scikit_learns_information() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        for case in ["mixed", "constant"] {
            let codes = file.features(&format!("codes.{case}"));
            let factors = Factors::new(3, file.labels("factors")).unwrap();
            let got = modularity(&codes, &factors, 20).unwrap();
            assert_close(got.score, file.f64s(&format!("modularity.{case}"))[0], 1e-9);
        }
    }

    #[test]
    fn shared_codes_lose_and_repeated_ones_do_not() {
        let factors = Factors::new(2, vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap();
        let of = |d, values: Vec<f32>| modularity(&Features::new(d, values).unwrap(), &factors, 20).unwrap();
        // Codes v1, v1, v1 + v2: the last knows as much of both.
        let got = of(3, vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0]);
        got.codes.iter().zip([1.0, 1.0, 0.0]).for_each(|(g, w)| assert_close(*g, w, 1e-12));
        assert_eq!(of(1, vec![4.0; 4]).score, 0.0);
        let one = Factors::new(1, vec![0, 1]).unwrap();
        assert!(modularity(&Features::new(1, vec![0.0, 1.0]).unwrap(), &one, 20).is_err());
    }
}
