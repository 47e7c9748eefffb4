use crate::{Error, Result};

/// How many items two groupings put into each pair of groups; only pairs that occur are kept.
pub(crate) struct Contingency {
    /// (first group, second group, items), by first and then second group.
    pub(crate) cells: Vec<(usize, usize, usize)>,
    /// Items of each group of the first grouping, none empty.
    pub(crate) first: Vec<usize>,
    /// Items of each group of the second grouping, none empty.
    pub(crate) second: Vec<usize>,
    /// Number of items.
    pub(crate) n: usize,
}

impl Contingency {
    /// Counts; errs unless there is at least one item and one label of each kind for it.
    pub(crate) fn new(first: &[u32], second: &[u32]) -> Result<Self> {
        if first.len() != second.len() {
            return Err(Error::LengthMismatch { what: "labels to compare", want: first.len(), got: second.len() });
        }
        if first.is_empty() {
            return Err(Error::TooFew { what: "items to compare", need: 1, got: 0 });
        }
        Ok(Self::of(&places(first), &places(second)))
    }

    /// Counts groups that are already numbered from 0 without gaps, one or more items each.
    pub(crate) fn of(first: &Places, second: &Places) -> Self {
        let mut pairs: Vec<(usize, usize)> = first.of.iter().copied().zip(second.of.iter().copied()).collect();
        pairs.sort_unstable();
        let cells = pairs.chunk_by(|a, b| a == b).map(|same| (same[0].0, same[0].1, same.len())).collect();
        Self { cells, first: first.sizes.clone(), second: second.sizes.clone(), n: pairs.len() }
    }

    /// Mutual information of the two groupings in nats, from shares; never below 0.
    pub(crate) fn mutual_information(&self) -> f64 {
        let n = self.n as f64;
        let term = |&(a, b, count): &(usize, usize, usize)| {
            let (count, product) = (count as f64, self.first[a] as f64 * self.second[b] as f64);
            count / n * (count * n / product).ln()
        };
        // Rounding can leave a few units in the last place below zero.
        self.cells.iter().map(term).sum::<f64>().max(0.0)
    }
}

/// Group of every item, numbered from 0 in the order of the labels, and the size of each group.
pub(crate) struct Places {
    pub(crate) of: Vec<usize>,
    pub(crate) sizes: Vec<usize>,
}

impl Places {
    /// Entropy of the grouping in nats.
    pub(crate) fn entropy(&self) -> f64 {
        entropy(&self.sizes, self.of.len())
    }
}

/// Entropy in nats of groups of these sizes among `n` items.
pub(crate) fn entropy(sizes: &[usize], n: usize) -> f64 {
    let n = n as f64;
    sizes.iter().map(|&s| s as f64 / n).map(|p| -p * p.ln()).sum::<f64>().max(0.0)
}

/// Numbers the labels that occur.
pub(crate) fn places(labels: &[u32]) -> Places {
    let mut known = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let of: Vec<usize> = labels.iter().map(|l| known.partition_point(|k| k < l)).collect();
    let mut sizes = vec![0; known.len()];
    of.iter().for_each(|&g| sizes[g] += 1);
    Places { of, sizes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn only_pairs_that_occur_are_counted() {
        let table = Contingency::new(&[7, 7, 2, 2, 7], &[0, 0, 9, 0, 9]).unwrap();
        assert_eq!(table.cells, [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 1)]);
        assert_eq!((table.first, table.second, table.n), (vec![2, 3], vec![3, 2], 5));
    }

    #[test]
    fn information_of_a_grouping_with_itself_is_its_entropy() {
        let labels = [4, 4, 1, 1];
        let table = Contingency::new(&labels, &labels).unwrap();
        assert_close(table.mutual_information(), 2f64.ln(), 1e-15);
        assert_close(places(&labels).entropy(), 2f64.ln(), 1e-15);
        assert_eq!(Contingency::new(&labels, &[3; 4]).unwrap().mutual_information(), 0.0);
    }
}
