use crate::neighbours::{Metric, Points, want_neighbours};
use crate::{Features, Result};
use serde::{Deserialize, Serialize};

/// How densely and how widely generated items fill the real ones' neighbourhoods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DensityCoverage {
    /// Fidelity: real balls that hold a generated item, per item, over k. About 1 for equal distributions; can exceed it.
    pub density: f64,
    /// Diversity: share of real items whose ball holds at least one generated item. About 1 - 2^-k for equal distributions of
    /// equal size.
    pub coverage: f64,
    /// Neighbours that set the balls.
    pub k: usize,
    /// Number of real items.
    pub real_n: usize,
    /// Number of generated items.
    pub fake_n: usize,
}

/// Share of generated items that look real, and of real items that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecall {
    /// Share of generated items inside the union of the real items' balls.
    pub precision: f64,
    /// Share of real items inside the union of the generated items' balls.
    pub recall: f64,
    /// Neighbours that set the balls.
    pub k: usize,
    /// Number of real items.
    pub real_n: usize,
    /// Number of generated items.
    pub fake_n: usize,
}

/// Density and coverage of generated features against real ones; the paper uses k = 5.
///
/// The ball of real item i, B_i, is open and reaches to its k-th nearest other real item:
/// density = 1/(k M) sum_j sum_i 1[y_j in B_i],  coverage = 1/N sum_i 1[some y_j in B_i].
///
/// # Errors
/// Different widths; k is 0 or not below the number of real items.
///
/// # Cost
/// O(N (N + M) D).
///
/// # Source
/// Naeem et al. 2020 (arXiv 2002.09797); that the ball is open (`<`) follows their released `prdc`.
pub fn density_coverage(real: &Features, fake: &Features, k: usize) -> Result<DensityCoverage> {
    fake.want_columns("columns of the generated features", real.d())?;
    let (real, fake) = (Points::new(real, Metric::Euclidean), Points::new(fake, Metric::Euclidean));
    let radii = radii(&real, k)?;
    let inside = real.map(&fake, &|i, near| near.iter().filter(|&&s| -s < radii[i]).count());
    let density = inside.iter().sum::<usize>() as f64 / (k as f64 * fake.n() as f64);
    let coverage = inside.iter().filter(|&&count| count > 0).count() as f64 / real.n() as f64;
    Ok(DensityCoverage { density, coverage, k, real_n: real.n(), fake_n: fake.n() })
}

/// Precision and recall of generated features against real ones; the paper uses k = 3.
///
/// An item's closed ball reaches to its k-th nearest other item of its own set. Precision is the share of generated items in
/// some real ball, recall the share of real items in some generated ball.
///
/// # Errors
/// Different widths; k is 0 or not below the number of items of either set.
///
/// # Cost
/// O((N + M)^2 D).
///
/// # Source
/// Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 1 and 2.
pub fn precision_recall(real: &Features, fake: &Features, k: usize) -> Result<PrecisionRecall> {
    fake.want_columns("columns of the generated features", real.d())?;
    let (real, fake) = (Points::new(real, Metric::Euclidean), Points::new(fake, Metric::Euclidean));
    let (precision, recall) = (share_inside(&fake, &real, k)?, share_inside(&real, &fake, k)?);
    Ok(PrecisionRecall { precision, recall, k, real_n: real.n(), fake_n: fake.n() })
}

/// Share of `items` that lie in the closed ball of some centre.
fn share_inside(items: &Points, centres: &Points, k: usize) -> Result<f64> {
    let radii = radii(centres, k)?;
    let inside = items.map(centres, &|_, near| near.iter().zip(&radii).any(|(s, r)| -s <= *r));
    Ok(inside.iter().filter(|&&in_some| in_some).count() as f64 / items.n() as f64)
}

/// Squared distance of each point to its k-th nearest other point.
fn radii(points: &Points, k: usize) -> Result<Vec<f64>> {
    want_neighbours(k, points.n() - 1)?;
    Ok(points.map(points, &|i, near| {
        near[i] = f64::NEG_INFINITY;
        let (_, kth, _) = near.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        -*kth
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    fn line(values: &[f32]) -> Features {
        Features::new(1, values.to_vec()).unwrap()
    }

    #[test]
    fn a_line_by_hand() {
        // k = 1: real radii 1, 1, 2 (of 0, 1, 3); open balls (-1, 1), (0, 2), (1, 5).
        let real = line(&[0.0, 1.0, 3.0]);
        // 1 lies only in (0, 2): the other two balls end there. 4 lies in (1, 5). 9 in none.
        let got = density_coverage(&real, &line(&[1.0, 4.0, 9.0, 9.0]), 1).unwrap();
        assert_eq!((got.density, got.coverage), (2.0 / 4.0, 2.0 / 3.0));
        // Closed balls [-1, 1], [0, 2], [1, 5] hold 1 and 4; fake radii 3, 3, 0, 0 give [-2, 4], [1, 7], [9, 9]: all real items.
        let got = precision_recall(&real, &line(&[1.0, 4.0, 9.0, 9.0]), 1).unwrap();
        assert_eq!((got.precision, got.recall), (0.5, 1.0));
        // The far generated items alone reach nothing and are reached by nothing.
        let got = precision_recall(&real, &line(&[100.0, 101.0]), 1).unwrap();
        assert_eq!((got.precision, got.recall), (0.0, 0.0));
    }

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure/numbers.safetensors");
        let (real, fake) = (file.features("real"), file.features("fake"));
        let dc = density_coverage(&real, &fake, 5).unwrap();
        assert_close(dc.density, file.f64s("density")[0], 1e-12);
        assert_close(dc.coverage, file.f64s("coverage")[0], 1e-12);
        let pr = precision_recall(&real, &fake, 5).unwrap();
        assert_close(pr.precision, file.f64s("precision")[0], 1e-12);
        assert_close(pr.recall, file.f64s("recall")[0], 1e-12);
    }

    #[test]
    fn equals_torch_fidelity_with_ties_and_constant_features() {
        let file = Fixture::open("measure_samples/features.safetensors");
        for case in file.cases() {
            let [fake, real] = ["a", "b"].map(|side| file.features(&format!("{case}.{side}")));
            if fake.n() < 2 {
                // One generated item has no neighbours to set its ball, and needs none for density and coverage.
                let few = Error::Neighbours { k: 3, available: 0 };
                assert_eq!(precision_recall(&real, &fake, 3).unwrap_err(), few);
                assert!(density_coverage(&real, &fake, 3).is_ok());
                continue;
            }
            let (pr, dc) = (precision_recall(&real, &fake, 3).unwrap(), density_coverage(&real, &fake, 3).unwrap());
            let want = file.f64s(&format!("{case}.prc"));
            // torch-fidelity takes the mean in single precision.
            [pr.precision, pr.recall].iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-6));
            let want = file.f64s(&format!("{case}.dc"));
            [dc.density, dc.coverage].iter().zip(want).for_each(|(g, w)| assert_close(*g, w, 1e-12));
        }
    }

    #[test]
    fn equal_sets_are_covered_and_copies_collapse_open_balls() {
        let x = Features::new(4, normals(1, 400)).unwrap();
        assert_eq!(density_coverage(&x, &x, 5).unwrap().coverage, 1.0);
        let pr = precision_recall(&x, &x, 5).unwrap();
        assert_eq!((pr.precision, pr.recall), (1.0, 1.0));
        // All items equal: radius 0, an open ball is empty, a closed one holds its centre.
        let same = Features::new(2, vec![0.3; 12]).unwrap();
        assert_eq!(density_coverage(&same, &same, 2).unwrap().coverage, 0.0);
        assert_eq!(precision_recall(&same, &same, 2).unwrap().recall, 1.0);
    }

    #[test]
    fn equal_distributions_give_density_one_and_the_papers_coverage() {
        let real = Features::new(3, normals(1, 3000)).unwrap();
        let fake = Features::new(3, normals(2, 3000)).unwrap();
        let got = density_coverage(&real, &fake, 5).unwrap();
        assert!((got.density - 1.0).abs() < 0.06 && (got.coverage - (1.0 - 0.5f64.powi(5))).abs() < 0.02, "{got:?}");
    }

    #[test]
    fn too_many_neighbours_are_refused() {
        let one = line(&[1.0]);
        assert_eq!(density_coverage(&one, &one, 1).unwrap_err(), Error::Neighbours { k: 1, available: 0 });
        let two = line(&[1.0, 2.0]);
        assert!(density_coverage(&two, &one, 1).is_ok() && precision_recall(&two, &one, 1).is_err());
        assert!(density_coverage(&two, &Features::new(2, vec![0.0; 4]).unwrap(), 1).is_err());
    }
}
