use crate::cluster::assignment;
use crate::stats::{constant, correlation, ranks::average_ranks};
use crate::{Error, Features, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which relation of a code to a factor counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    /// Straight lines: identification up to scale.
    #[default]
    Pearson,
    /// Any monotone relation: identification up to a monotone map per code.
    Spearman,
}

/// Mean correlation coefficient of a representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mcc {
    /// Mean over factors of the correlation with their code, in [0, 1]; a factor left without a code counts 0.
    pub score: f64,
    /// Code of each factor.
    pub code: Vec<Option<usize>>,
    /// Absolute correlation of each factor with its code.
    pub correlations: Vec<f64>,
}

/// Mean absolute correlation of factors with codes under the best one-to-one matching: 1 when sources are recovered up to order and scale.
///
/// A constant code correlates with nothing (0).
///
/// # Shapes
/// - `codes`: `[N, D]`
/// - `factors`: `[N, F]`, the true sources
///
/// # Errors
/// Different numbers of items, fewer than two, a factor that does not vary.
///
/// # Cost
/// O(N D F) and an assignment.
///
/// # Source
/// Hyvarinen and Morioka 2016 (arXiv 1605.06336); Khemakhem et al. 2020 (arXiv 1907.04809).
pub fn mcc(codes: &Features, factors: &Features, kind: Correlation) -> Result<Mcc> {
    codes.want_targets("rows of factors", factors.n())?;
    if codes.n() < 2 {
        return Err(Error::TooFew { what: "items to correlate", need: 2, got: codes.n() });
    }
    let columns = |x: &Features| -> Vec<Vec<f64>> {
        let column = |j: usize| match kind {
            Correlation::Pearson => x.column(j),
            Correlation::Spearman => average_ranks(&x.column(j)),
        };
        (0..x.d()).into_par_iter().map(column).collect()
    };
    let (codes, factors) = (columns(codes), columns(factors));
    if factors.iter().any(|f| constant(f)) {
        return Err(Error::NoSpread { what: "a factor", measure: "a correlation" });
    }
    let row = |f: &Vec<f64>| codes.iter().map(|c| -correlation(f, c).map_or(0.0, f64::abs)).collect::<Vec<f64>>();
    let costs: Vec<f64> = factors.par_iter().map(row).collect::<Vec<_>>().concat();
    let code = assignment(&costs, codes.len())?.column;
    let correlations: Vec<f64> =
        code.iter().enumerate().map(|(k, j)| j.map_or(0.0, |j| -costs[k * codes.len() + j])).collect();
    Ok(Mcc { score: correlations.iter().sum::<f64>() / factors.len() as f64, code, correlations })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scipys_correlations_and_assignment() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let factors = Features::new(3, file.f32s("factors")).unwrap();
        for case in ["mixed", "constant"] {
            let codes = file.features(&format!("codes.{case}"));
            let want = file.f64s(&format!("mcc.{case}"));
            assert_close(mcc(&codes, &factors, Correlation::Pearson).unwrap().score, want[0], 1e-9);
            assert_close(mcc(&codes, &factors, Correlation::Spearman).unwrap().score, want[1], 1e-9);
        }
    }

    #[test]
    fn order_scale_and_sign_do_not_matter_and_missing_codes_do() {
        let z = normals(1, 600);
        let factors = Features::new(3, z.clone()).unwrap();
        let codes = Features::new(3, z.chunks(3).flat_map(|r| [4.0 * r[2], -r[0], r[1].exp()]).collect()).unwrap();
        let got = mcc(&codes, &factors, Correlation::Spearman).unwrap();
        assert_eq!((got.score, got.code), (1.0, vec![Some(1), Some(2), Some(0)]));
        assert!(mcc(&codes, &factors, Correlation::Pearson).unwrap().score < 0.97);
        let one = Features::new(1, z.chunks(3).map(|r| r[1]).collect()).unwrap();
        let got = mcc(&one, &factors, Correlation::Pearson).unwrap();
        assert_eq!(got.code, [None, Some(0), None]);
        assert_close(got.score, 1.0 / 3.0, 1e-12);
        assert!(mcc(&codes, &Features::new(1, vec![1.0; 200]).unwrap(), Correlation::Pearson).is_err());
    }
}
