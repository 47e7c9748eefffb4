use super::digamma::digamma;
use crate::cluster::contingency::places;
use crate::neighbours::want_neighbours;
use crate::{Error, Features, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// An estimate of mutual information from neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InformationEstimate {
    /// Nats; the estimate can fall below 0 where the truth is 0.
    pub value: f64,
    /// Spread of the items' terms over sqrt(N): sampling error, not the bias of large dimension or strong dependence.
    pub standard_error: f64,
}

/// Mutual information of two continuous representations of the same items, from the distances to k nearest neighbours.
///
/// psi(k) + psi(N) - mean(psi(n_a + 1) + psi(n_b + 1)), n_a and n_b the others strictly nearer in a and in b alone than the k-th
/// neighbour in the joint space, all distances by the largest coordinate. Scale the columns alike first; copies (ties) bias it.
///
/// # Errors
/// Different numbers of items; k is 0 or not below their number.
///
/// # Cost
/// O(N^2 (Da + Db)).
///
/// # Source
/// Kraskov, Stogbauer and Grassberger 2004 (Phys. Rev. E 69, 066138), eq. 8.
pub fn ksg(a: &Features, b: &Features, k: usize) -> Result<InformationEstimate> {
    if a.n() != b.n() {
        return Err(Error::LengthMismatch { what: "items of the second representation", want: a.n(), got: b.n() });
    }
    want_neighbours(k, a.n() - 1)?;
    let n = a.n();
    let psi = digamma(n + 1);
    let far = |x: &Features, i: usize, j: usize| {
        x.row(i).iter().zip(x.row(j)).map(|(p, q)| (f64::from(*p) - f64::from(*q)).abs()).fold(0.0, f64::max)
    };
    let terms: Vec<f64> = (0..n)
        .into_par_iter()
        .map(|i| {
            let others: Vec<(f64, f64)> = (0..n).filter(|j| *j != i).map(|j| (far(a, i, j), far(b, i, j))).collect();
            let mut joint: Vec<f64> = others.iter().map(|(p, q)| p.max(*q)).collect();
            let radius = *joint.select_nth_unstable_by(k - 1, f64::total_cmp).1;
            let nearer = |side: fn(&(f64, f64)) -> f64| others.iter().filter(|pair| side(pair) < radius).count();
            psi[k] + psi[n] - psi[nearer(|p| p.0) + 1] - psi[nearer(|p| p.1) + 1]
        })
        .collect();
    Ok(estimate(&terms))
}

/// Mutual information of a continuous value and a class, from the distances to the k nearest of the same class.
///
/// psi(N) + mean(psi(k) - psi(N_c) - psi(m)), N_c the items of the item's class and m those of any class, itself included,
/// strictly nearer than its k-th neighbour within the class (or at distance 0). Classes of k items or fewer use all their others
/// as neighbours; items alone in their class are left out.
///
/// # Errors
/// Lists of different length, a value that is not finite, k = 0, no class of two items.
///
/// # Cost
/// O(N log N).
///
/// # Source
/// Ross 2014 (PLoS ONE 9, e87357); the treatment of small classes is that of scikit-learn's `mutual_info_classif`, which
/// also adds noise to the values and cuts the estimate at 0; here neither is done.
pub fn ksg_classes(values: &[f64], classes: &[u32], k: usize) -> Result<InformationEstimate> {
    if values.len() != classes.len() {
        return Err(Error::LengthMismatch { what: "classes", want: values.len(), got: classes.len() });
    }
    if let Some(row) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what: "values", row, column: 0 });
    }
    if k == 0 {
        return Err(Error::Setting { name: "k", got: 0.0, want: "at least 1" });
    }
    let groups = places(classes);
    let mut members: Vec<Vec<f64>> = vec![Vec::new(); groups.sizes.len()];
    values.iter().zip(&groups.of).filter(|(_, g)| groups.sizes[**g] > 1).for_each(|(v, &g)| members[g].push(*v));
    let mut all = members.concat();
    let n = all.len();
    if n == 0 {
        return Err(Error::TooFew { what: "items of the largest class", need: 2, got: values.len().min(1) });
    }
    all.sort_unstable_by(f64::total_cmp);
    let psi = digamma(n);
    let mut terms = Vec::with_capacity(n);
    for mut group in members.into_iter().filter(|g| !g.is_empty()) {
        group.sort_unstable_by(f64::total_cmp);
        let k = k.min(group.len() - 1);
        for (i, &v) in group.iter().enumerate() {
            let radius = kth_distance(&group, i, k);
            // With a radius of 0 the copies count.
            let inside = |u: f64| (u - v).abs() < radius || (u - v).abs() <= 0.0;
            let below = all.partition_point(|&u| u < v && !inside(u));
            let m = all[below..].partition_point(|&u| inside(u));
            terms.push(psi[n] + psi[k] - psi[group.len()] - psi[m]);
        }
    }
    Ok(estimate(&terms))
}

/// Distance of item i of a sorted list to its k-th nearest other.
fn kth_distance(sorted: &[f64], i: usize, k: usize) -> f64 {
    let (mut low, mut high) = (i, i);
    let mut distance = 0.0;
    for _ in 0..k {
        let down = if low > 0 { sorted[i] - sorted[low - 1] } else { f64::INFINITY };
        let up = if high + 1 < sorted.len() { sorted[high + 1] - sorted[i] } else { f64::INFINITY };
        if down <= up {
            low -= 1;
        } else {
            high += 1;
        }
        distance = down.min(up);
    }
    distance
}

fn estimate(terms: &[f64]) -> InformationEstimate {
    let n = terms.len() as f64;
    let value = terms.iter().sum::<f64>() / n;
    let variance = terms.iter().map(|t| (t - value).powi(2)).sum::<f64>() / n;
    InformationEstimate { value, standard_error: (variance / n).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_formula_in_numpy_and_scikit_learn() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("ksg.a"), file.features("ksg.b"));
        assert_close(ksg(&a, &b, 3).unwrap().value, file.f64s("ksg")[0], 1e-9);
        let values: Vec<f64> = (0..a.n()).map(|i| f64::from(a.row(i)[0])).collect();
        let got = ksg_classes(&values, &file.labels("ksg.classes"), 10).unwrap();
        assert_close(got.value, file.f64s("ksg.classes.information")[0], 1e-6);
    }

    #[test]
    fn gaussians_have_their_information() {
        for (seed, rho) in [(1, 0.0f32), (2, 0.6), (3, 0.9)] {
            let z = normals(seed, 4000);
            let a = Features::new(1, z.chunks(2).map(|r| r[0]).collect()).unwrap();
            let b = z.chunks(2).map(|r| rho * r[0] + (1.0 - rho * rho).sqrt() * r[1]).collect();
            let got = ksg(&a, &Features::new(1, b).unwrap(), 4).unwrap();
            let truth = -0.5 * (1.0 - f64::from(rho).powi(2)).ln();
            assert!(
                (got.value - truth).abs() < 4.0 * got.standard_error && got.standard_error < 0.03,
                "{rho}: {got:?}"
            );
        }
    }

    #[test]
    fn separate_classes_give_their_entropy() {
        let values: Vec<f64> =
            normals(4, 2000).iter().enumerate().map(|(i, v)| f64::from(*v) + 100.0 * (i % 4) as f64).collect();
        let classes: Vec<u32> = (0..2000).map(|i| i % 4).collect();
        let got = ksg_classes(&values, &classes, 5).unwrap();
        assert_close(got.value, 4f64.ln(), 1e-3);
        let mixed: Vec<u32> = (0..2000u32).map(|i| i.div_euclid(500)).collect();
        let got = ksg_classes(&values, &mixed, 5).unwrap();
        assert!(got.value.abs() < 4.0 * got.standard_error, "{got:?}");
    }

    #[test]
    fn ties_and_lone_classes_are_finite_and_the_rest_is_named() {
        let got = ksg_classes(&[1.0, 1.0, 2.0, 2.0, 9.0], &[0, 0, 1, 1, 7], 3).unwrap();
        assert_close(got.value, -1.0 / 6.0, 1e-12); // psi(4) + psi(1) - psi(2) - psi(2)
        assert!(ksg_classes(&[1.0, 2.0], &[0, 1], 3).is_err());
        assert!(ksg_classes(&[f64::NAN], &[0], 3).is_err() && ksg_classes(&[1.0, 2.0], &[0, 0], 0).is_err());
        let x = Features::new(1, vec![1.0, 2.0, 3.0]).unwrap();
        assert!(ksg(&x, &x, 3).is_err() && ksg(&x, &x.select(&[0, 1]).unwrap(), 1).is_err());
        assert_eq!(kth_distance(&[0.0, 1.0, 1.5, 4.0], 1, 2), 1.0);
    }
}
