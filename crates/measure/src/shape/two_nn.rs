use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Intrinsic dimension from the two nearest neighbours of every item.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoNn {
    /// Slope of -ln(1 - F(mu)) against ln mu through the origin: the paper's estimate.
    pub slope: f64,
    /// Maximum likelihood, (M - 1) / sum ln mu over the M items used: sharper, but not spared by outliers.
    pub likelihood: f64,
    /// One standard error of `likelihood` under the model: likelihood / sqrt(M).
    pub standard_error: f64,
    /// Items used.
    pub items: usize,
    /// Items left out because another one lies exactly on them.
    pub copies: usize,
}

/// Estimates the dimension of the manifold that the items lie near, from the ratios mu = r2 / r1 of the distances to the two nearest others.
///
/// On a manifold of dimension d with locally even density mu is Pareto: F(mu) = 1 - mu^-d. The slope leaves the largest `discard`
/// of the ratios out (the paper: 0.1).
///
/// # Errors
/// `discard` outside [0, 1); fewer than three items that are not copies; all ratios 1.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Facco et al. 2017 (Sci. Rep. 7, 12140); the likelihood is that of Denti et al. 2022.
pub fn two_nn(x: &Features, discard: f64) -> Result<TwoNn> {
    if !(0.0..1.0).contains(&discard) {
        return Err(Error::Setting { name: "discard", got: discard, want: "at least 0 and below 1" });
    }
    let points = Points::new(x, Metric::Euclidean);
    let ratios = points.map(&points, &|i, near| {
        let (mut first, mut second) = (f64::INFINITY, f64::INFINITY);
        for (_, s) in near.iter().enumerate().filter(|(j, _)| *j != i) {
            let square = -s;
            if square < first {
                (first, second) = (square, first);
            } else if square < second {
                second = square;
            }
        }
        (first > 0.0 && second.is_finite()).then(|| 0.5 * (second / first).ln())
    });
    let mut logs: Vec<f64> = ratios.into_iter().flatten().collect();
    let m = logs.len();
    if m < 3 {
        return Err(Error::TooFew { what: "items with two neighbours apart from them", need: 3, got: m });
    }
    logs.sort_unstable_by(f64::total_cmp);
    let sum: f64 = logs.iter().sum();
    let (mut product, mut square) = (0.0, 0.0);
    for (i, log) in logs.iter().enumerate().take_while(|(i, _)| (i + 1) as f64 <= m as f64 * (1.0 - discard)) {
        // The last of all has F = 1 and no finite height.
        if i + 1 < m {
            product += log * -(-((i + 1) as f64 / m as f64)).ln_1p();
            square += log * log;
        }
    }
    if sum <= 0.0 || square <= 0.0 {
        return Err(Error::NoSpread { what: "ratios of neighbour distances", measure: "a dimension" });
    }
    let likelihood = (m - 1) as f64 / sum;
    let standard_error = likelihood / (m as f64).sqrt();
    Ok(TwoNn { slope: product / square, likelihood, standard_error, items: m, copies: x.n() - m })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{normals, unit};
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let got = two_nn(&file.features("shape.tall"), 0.1).unwrap();
        let want = file.f64s("shape.two_nn");
        assert_close(got.slope, want[0], 1e-9);
        assert_close(got.likelihood, want[1], 1e-9);
    }

    #[test]
    fn curved_surfaces_have_the_dimension_of_their_coordinates() {
        for (d, seed) in [(1, 1), (2, 2), (5, 3)] {
            // d even coordinates, bent into 2 d dimensions on circles (no edge) and padded with nothing.
            let angles = (0..2000 * d as u64).map(|i| std::f64::consts::TAU * unit(seed, 5, i));
            let x = Features::new(2 * d, angles.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()).unwrap();
            let got = two_nn(&x, 0.1).unwrap();
            assert!((got.likelihood - d as f64).abs() < 4.0 * got.standard_error, "{d}: {got:?}");
            assert!((got.slope - d as f64).abs() < 0.12 * d as f64, "{d}: {got:?}");
        }
    }

    #[test]
    fn scale_does_not_matter_and_copies_are_left_out() {
        let values = normals(4, 300);
        let x = Features::new(3, values.clone()).unwrap();
        let big = Features::new(3, values.iter().map(|v| 1024.0 * v).collect()).unwrap();
        assert_close(two_nn(&x, 0.1).unwrap().slope, two_nn(&big, 0.1).unwrap().slope, 1e-9);
        let twice = Features::new(3, [&values[..], &values[..30]].concat()).unwrap();
        let got = two_nn(&twice, 0.1).unwrap();
        assert_eq!((got.items, got.copies), (90, 20));
        assert!(two_nn(&Features::new(1, vec![1.0; 9]).unwrap(), 0.1).is_err());
        assert!(two_nn(&Features::new(1, vec![1.0]).unwrap(), 0.1).is_err());
        assert!(two_nn(&x, 1.0).is_err());
        // Corners of an equilateral triangle: all ratios 1.
        let corners = Features::new(3, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
        assert!(matches!(two_nn(&corners, 0.1), Err(Error::NoSpread { .. })));
    }
}
