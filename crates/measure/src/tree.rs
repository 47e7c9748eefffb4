use crate::{Features, draw};
use rayon::prelude::*;
use std::num::NonZeroUsize;

/// Columns of the features, each with the items in rising order of its values: what growing any number of trees needs.
pub(crate) struct Columns {
    values: Vec<Vec<f32>>,
    order: Vec<Vec<usize>>,
    n: usize,
}

/// A regression tree of limited depth; its leaves hold values that are set after growing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Leaf(f64),
    /// Values at most `threshold` go to node `left`, others to `left + 1`.
    Split {
        column: usize,
        threshold: f64,
        left: usize,
    },
}

/// A tree and what growing it found out.
pub(crate) struct Grown {
    pub(crate) tree: Tree,
    /// Node in which each item ends.
    pub(crate) leaf: Vec<usize>,
    /// Decrease of the summed squared error that the splits on each column brought.
    pub(crate) gains: Vec<f64>,
}

/// The best way found to part a node.
#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    threshold: f64,
}

/// Items and targets seen so far on the way through a column, per node.
#[derive(Clone, Copy, Default)]
struct Passed {
    items: f64,
    sum: f64,
    last: f32,
}

impl Columns {
    pub(crate) fn new(x: &Features) -> Self {
        let column = |j: usize| x.values().iter().skip(j).step_by(x.d()).copied().collect::<Vec<f32>>();
        let values: Vec<Vec<f32>> = (0..x.d()).into_par_iter().map(column).collect();
        let sorted = |v: &Vec<f32>| {
            let mut order: Vec<usize> = (0..v.len()).collect();
            order.sort_by(|&a, &b| v[a].total_cmp(&v[b]));
            order
        };
        let order = values.par_iter().map(sorted).collect();
        Self { values, order, n: x.n() }
    }

    /// Grows a tree level by level, each node parted where the summed squared error falls most.
    ///
    /// Thresholds lie halfway between neighbouring values; of equally good ones in a column the lowest wins. Of equally good columns
    /// one is drawn, by (seed, tree, node): copies of a column then share its importance.
    /// A node whose targets have no variance stays a leaf.
    ///
    /// # Cost
    /// O(N D) per level.
    pub(crate) fn grow(&self, targets: &[f64], depth: usize, (seed, tree): (u64, u64)) -> Grown {
        // Sums of the same targets in another order differ by far less.
        const TIE: f64 = 1e-9;
        let mut nodes = vec![Node::Leaf(0.0)];
        let mut leaf = vec![0; self.n];
        let mut gains = vec![0.0; self.values.len()];
        let mut first = 0; // nodes of this level are those from here on
        for _ in 0..depth {
            let level = first..nodes.len();
            let (mut items, mut sums, mut squares) =
                (vec![0.0; level.len()], vec![0.0; level.len()], vec![0.0; level.len()]);
            for (&node, &t) in leaf.iter().zip(targets).filter(|(node, _)| **node >= first) {
                items[node - first] += 1.0;
                sums[node - first] += t;
                squares[node - first] += t * t;
            }
            let open = |i: usize| squares[i] / items[i] - (sums[i] / items[i]).powi(2) > f64::EPSILON;
            let best: Vec<Vec<Option<Split>>> = (0..self.values.len())
                .into_par_iter()
                .map(|column| self.splits(column, targets, &leaf, first, (&items, &sums)))
                .collect();
            first = nodes.len();
            for node in level.clone() {
                let i = node - level.start;
                if !open(i) {
                    continue;
                }
                let found: Vec<(usize, Split)> =
                    best.iter().enumerate().filter_map(|(column, splits)| splits[i].map(|s| (column, s))).collect();
                let most = found.iter().map(|(_, s)| s.gain).fold(0.0, f64::max);
                let tied: Vec<&(usize, Split)> = found.iter().filter(|(_, s)| s.gain >= most * (1.0 - TIE)).collect();
                let Some(count) = NonZeroUsize::new(tied.len()) else { continue };
                let &(column, split) = tied[draw::index(seed, tree, node as u64, count)];
                gains[column] += split.gain;
                nodes[node] = Node::Split { column, threshold: split.threshold, left: nodes.len() };
                nodes.extend([Node::Leaf(0.0); 2]);
            }
            if nodes.len() == first {
                break;
            }
            for (i, node) in leaf.iter_mut().enumerate() {
                if let Node::Split { column, threshold, left } = nodes[*node] {
                    *node = left + usize::from(f64::from(self.values[column][i]) > threshold);
                }
            }
        }
        Grown { tree: Tree { nodes }, leaf, gains }
    }

    /// Best split of every node of the level by one column.
    fn splits(
        &self,
        column: usize,
        targets: &[f64],
        leaf: &[usize],
        first: usize,
        (items, sums): (&[f64], &[f64]),
    ) -> Vec<Option<Split>> {
        let mut passed = vec![Passed::default(); items.len()];
        let mut best: Vec<Option<Split>> = vec![None; items.len()];
        for &i in self.order[column].iter().filter(|i| leaf[**i] >= first) {
            let node = leaf[i] - first;
            let (here, value) = (&mut passed[node], self.values[column][i]);
            if here.items > 0.0 && value > here.last {
                let (left, right) = (here.items, items[node] - here.items);
                let apart = right * here.sum - left * (sums[node] - here.sum);
                let gain = apart * apart / (left * right * items[node]);
                if best[node].is_none_or(|b| gain > b.gain) {
                    let threshold = 0.5 * (f64::from(here.last) + f64::from(value));
                    best[node] = Some(Split { gain, threshold });
                }
            }
            here.items += 1.0;
            here.sum += targets[i];
            here.last = value;
        }
        best
    }
}

impl Tree {
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Sets the value of a leaf.
    pub(crate) fn set(&mut self, leaf: usize, value: f64) {
        self.nodes[leaf] = Node::Leaf(value);
    }

    pub(crate) fn value(&self, row: &[f32]) -> f64 {
        let mut node = 0;
        loop {
            match self.nodes[node] {
                Node::Leaf(value) => return value,
                Node::Split { column, threshold, left } => {
                    node = left + usize::from(f64::from(row[column]) > threshold);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    /// Sets every leaf to the mean of its items.
    fn with_means(mut grown: Grown, targets: &[f64]) -> Grown {
        for leaf in 0..grown.tree.nodes() {
            let inside: Vec<f64> = (0..targets.len()).filter(|&i| grown.leaf[i] == leaf).map(|i| targets[i]).collect();
            if !inside.is_empty() {
                grown.tree.set(leaf, inside.iter().sum::<f64>() / inside.len() as f64);
            }
        }
        grown
    }

    #[test]
    fn equals_scikit_learn() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (x, y) = (file.features("tree.x"), file.f64s("tree.y"));
        let got = with_means(Columns::new(&x).grow(&y, 3, (0, 0)), &y);
        for (i, want) in file.f64s("tree.predicted").into_iter().enumerate() {
            assert_close(got.tree.value(x.row(i)), want, 1e-9);
        }
        let sum: f64 = got.gains.iter().sum();
        got.gains.iter().zip(file.f64s("tree.importances")).for_each(|(g, w)| assert_close(g / sum, w, 1e-9));
    }

    #[test]
    fn steps_by_hand() {
        let x = Features::new(2, vec![0.0, 5.0, 1.0, 5.0, 2.0, 5.0, 3.0, 5.0]).unwrap();
        let got = with_means(Columns::new(&x).grow(&[1.0, 1.0, 4.0, 4.0], 3, (0, 0)), &[1.0, 1.0, 4.0, 4.0]);
        // One split between 1 and 2 takes the whole error, 4 * 1.5^2; both sides are then even.
        assert_eq!((got.tree.nodes(), &got.gains[..]), (3, &[9.0, 0.0][..]));
        assert_eq!(got.tree.value(&[1.49, 0.0]), 1.0);
        assert_eq!(got.tree.value(&[1.51, 0.0]), 4.0);
        // Nothing to part by, or nothing to part.
        let flat = Features::new(1, vec![0.5; 3]).unwrap();
        assert_eq!(Columns::new(&flat).grow(&[1.0, 2.0, 3.0], 2, (0, 0)).tree.nodes(), 1);
        assert_eq!(Columns::new(&x).grow(&[0.3; 4], 2, (0, 0)).tree.nodes(), 1);
        assert_eq!(Columns::new(&x).grow(&[1.0, 1.0, 4.0, 4.0], 0, (0, 0)).tree.nodes(), 1);
    }
    #[test]
    fn copies_of_a_column_are_drawn_evenly() {
        let x = Features::new(2, (0..8).flat_map(|i| [i as f32, 2.0 * i as f32]).collect()).unwrap();
        let columns = Columns::new(&x);
        let y = [0.0, 0.1, 0.0, 0.3, 1.0, 1.2, 1.0, 1.1];
        let first = (0..1000).filter(|&tree| columns.grow(&y, 1, (7, tree)).gains[0] > 0.0).count();
        // Standard deviation 16.
        assert!(first.abs_diff(500) < 80, "{first}");
    }
}
