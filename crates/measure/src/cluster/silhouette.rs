use super::contingency::places;
use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result};

/// Mean silhouette: how much nearer items are to their own cluster than to the next one, in [-1, 1].
///
/// (b - a) / max(a, b) per item, a the mean Euclidean distance to the others of its cluster, b the least mean distance to
/// another cluster. An item alone in its cluster counts 0, and so does one whose a and b are both 0.
///
/// # Errors
/// Not one label per item; a single cluster.
///
/// # Cost
/// O(N^2 D).
///
/// # Source
/// Rousseeuw 1987; scikit-learn's `silhouette_score`, which also refuses N clusters, where this gives 0.
pub fn silhouette(x: &Features, clusters: &[u32]) -> Result<f64> {
    x.want_targets("cluster labels", clusters.len())?;
    let groups = places(clusters);
    let k = groups.sizes.len();
    if k < 2 {
        return Err(Error::OneClass { what: "cluster labels", label: clusters[0] });
    }
    let points = Points::new(x, Metric::Euclidean);
    let values = points.map(&points, &|i, near| {
        let own = groups.of[i];
        if groups.sizes[own] == 1 {
            return 0.0;
        }
        let mut sums = vec![0.0; k];
        near.iter().zip(&groups.of).for_each(|(s, &g)| sums[g] += (-s).max(0.0).sqrt());
        let inside = sums[own] / (groups.sizes[own] - 1) as f64;
        let others = (0..k).filter(|&g| g != own).map(|g| sums[g] / groups.sizes[g] as f64);
        let outside = others.fold(f64::INFINITY, f64::min);
        let scale = inside.max(outside);
        if scale > 0.0 { (outside - inside) / scale } else { 0.0 }
    });
    Ok(values.iter().sum::<f64>() / x.n() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let got = silhouette(&file.features("silhouette.x"), &file.labels("silhouette.clusters")).unwrap();
        assert_close(got, file.f64s("silhouette")[0], 1e-9);
    }

    #[test]
    fn a_line_by_hand() {
        // Items 0, 1 | 4: a = 1, 1; b = 4, 3; the lone item counts 0.
        let x = Features::new(1, vec![0.0, 1.0, 4.0]).unwrap();
        assert_close(silhouette(&x, &[5, 5, 6]).unwrap(), (3.0 / 4.0 + 2.0 / 3.0) / 3.0, 1e-12);
        let same = Features::new(1, vec![2.0; 4]).unwrap();
        assert_eq!(silhouette(&same, &[0, 0, 1, 1]).unwrap(), 0.0);
        assert_eq!(silhouette(&same, &[3; 4]).unwrap_err(), Error::OneClass { what: "cluster labels", label: 3 });
    }
}
