use super::assignment::assignment;
use super::contingency::Contingency;
use crate::Result;

/// Accuracy of clusters read as classes under the best one-to-one naming; clusters beyond the number of classes count as wrong.
///
/// # Errors
/// Lists of different length, or empty ones.
///
/// # Cost
/// O(A^2 B) for A classes and B clusters, A <= B.
///
/// # Source
/// Yang et al. 2010, Xie et al. 2016 (arXiv 1511.06335).
pub fn cluster_accuracy(classes: &[u32], clusters: &[u32]) -> Result<f64> {
    let table = Contingency::new(classes, clusters)?;
    let columns = table.second.len();
    let mut costs = vec![0.0; table.first.len() * columns];
    table.cells.iter().for_each(|&(a, b, count)| costs[a * columns + b] = -(count as f64));
    Ok(-assignment(&costs, columns)?.cost / table.n as f64)
}

/// Share of items that belong to the commonest class of their cluster; reaches 1 trivially as clusters shrink to single items.
///
/// # Errors
/// Lists of different length, or empty ones.
pub fn purity(classes: &[u32], clusters: &[u32]) -> Result<f64> {
    let table = Contingency::new(classes, clusters)?;
    let mut most = vec![0; table.second.len()];
    table.cells.iter().for_each(|&(_, b, count)| most[b] = most[b].max(count));
    Ok(most.iter().sum::<usize>() as f64 / table.n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_references() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for case in ["plain", "uneven", "apart", "single"] {
            let [a, b] = ["a", "b"].map(|side| file.labels(&format!("cluster.{case}.{side}")));
            let want = file.f64s(&format!("cluster.{case}.agreement"));
            assert_close(cluster_accuracy(&a, &b).unwrap(), want[1], 1e-12);
            assert_close(purity(&a, &b).unwrap(), want[2], 1e-12);
        }
    }

    #[test]
    fn greed_is_not_the_best_naming() {
        // Cluster 0 holds 3 of class 0 and 2 of class 1, cluster 1 holds 2 of class 0: greedy takes 3 + 0, the best is 2 + 2.
        let (classes, clusters) = ([0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]);
        assert_close(cluster_accuracy(&classes, &clusters).unwrap(), 4.0 / 7.0, 1e-15);
        assert_close(purity(&classes, &clusters).unwrap(), 5.0 / 7.0, 1e-15);
        assert_eq!(cluster_accuracy(&[4], &[2]).unwrap(), 1.0);
        assert!(purity(&[], &[]).is_err());
    }
}
