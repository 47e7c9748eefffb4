use super::discrete::{histogram, information, top_two};
use super::factors::Factors;
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Mutual information gap of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mig {
    /// Mean of the gaps, in [0, 1].
    pub score: f64,
    /// Gap of each factor: how much more the best code knows of it than the second best, over its entropy.
    pub gaps: Vec<f64>,
}

/// Mutual information gap: 1 when each factor is known to one code alone, 0 when two codes share it or none has it.
///
/// 1/F sum_k (I(z_a; v_k) - I(z_b; v_k)) / H(v_k) with a and b the two codes that know most of factor k; plug-in information of
/// codes cut into `bins` intervals of equal width (20 in the literature). A single code has no rival: its gap is its share.
///
/// # Errors
/// Not one row of factors per item, no bins, a factor with one value.
///
/// # Cost
/// O(D F N log N).
///
/// # Source
/// Chen et al. 2018 (arXiv 1802.04942), eq. 6; the bins are those of google-research/disentanglement_lib.
pub fn mig(codes: &Features, factors: &Factors, bins: u32) -> Result<Mig> {
    factors.want_codes(codes)?;
    if bins == 0 {
        return Err(Error::Setting { name: "bins", got: 0.0, want: "at least 1" });
    }
    let groups = factors.groups("a mutual information gap")?;
    let matrix = information(codes.d(), &groups, &|j| histogram(codes, j, bins));
    let gap = |k: usize| {
        let (first, second) = top_two(matrix.iter().map(|row| row[k]));
        (first - second) / groups[k].entropy()
    };
    let gaps: Vec<f64> = (0..factors.f()).map(gap).collect();
    Ok(Mig { score: gaps.iter().sum::<f64>() / gaps.len() as f64, gaps })
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
            assert_close(mig(&codes, &factors, 20).unwrap().score, file.f64s(&format!("mig.{case}"))[0], 1e-9);
        }
    }

    #[test]
    fn small_cases_by_hand() {
        let factors = Factors::new(1, vec![0, 1, 0, 1]).unwrap();
        let of = |d, values: Vec<f32>| mig(&Features::new(d, values).unwrap(), &factors, 20).unwrap().score;
        assert_close(of(2, vec![3.0, 0.0, 5.0, 0.0, 3.0, 1.0, 5.0, 1.0]), 1.0, 1e-15);
        assert_close(of(2, vec![3.0, 9.0, 5.0, 1.0, 3.0, 9.0, 5.0, 1.0]), 0.0, 1e-15);
        assert_close(of(1, vec![3.0, 5.0, 3.0, 5.0]), 1.0, 1e-15);
        let x = Features::new(1, vec![1.0; 4]).unwrap();
        assert_eq!(mig(&x, &factors, 20).unwrap().score, 0.0);
        assert!(mig(&x, &factors, 0).is_err());
        assert!(mig(&x, &Factors::new(1, vec![2; 4]).unwrap(), 20).is_err());
        assert!(mig(&x, &Factors::new(1, vec![2; 3]).unwrap(), 20).is_err());
    }
}
