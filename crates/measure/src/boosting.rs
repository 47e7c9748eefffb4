use crate::tree::{Columns, Tree};
use crate::{Error, Features, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How gradient boosting is done; the defaults are scikit-learn's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoostOptions {
    /// Stages, each of one tree per class (one for two classes).
    pub stages: usize,
    /// Share of every tree's correction that is taken.
    pub rate: f64,
    /// Splits from the root to a leaf, at most.
    pub depth: usize,
    /// Key of the draws between columns that part a node equally well.
    pub seed: u64,
}

impl Default for BoostOptions {
    fn default() -> Self {
        Self { stages: 100, rate: 0.1, depth: 3, seed: 0 }
    }
}

/// A classifier made of small regression trees that each correct the ones before.
///
/// Stage by stage a tree is grown on the residuals y - p of every class and its leaves take one Newton step of the log loss:
/// (K - 1)/K sum r / sum p (1 - p). Two classes have one tree per stage, on the log-odds of the larger label.
#[derive(Clone, Debug, PartialEq)]
pub struct Boosting {
    /// The labels it tells apart, rising.
    pub classes: Vec<u32>,
    /// Share of the decrease of squared error that each column brought, over all trees: `[D]`, sums to 1; all 0 if no split was found.
    pub importances: Vec<f64>,
    start: Vec<f64>,
    stages: Vec<Vec<Tree>>,
    rate: f64,
}

impl Boosting {
    /// Fits the trees.
    ///
    /// # Errors
    /// Not one label per item, a single class, settings out of range.
    ///
    /// # Cost
    /// O(stages * K * depth * N * D).
    ///
    /// # Source
    /// Friedman 2001 (Ann. Stat. 29), algorithms 5 and 6. scikit-learn's `GradientBoostingClassifier` also
    /// breaks ties between columns by chance; it takes values closer than 1e-7 as equal, where here any two values can be told apart.
    pub fn fit(x: &Features, labels: &[u32], options: &BoostOptions) -> Result<Self> {
        x.want_targets("labels", labels.len())?;
        for (name, got) in [("stages", options.stages), ("depth", options.depth)] {
            if got == 0 {
                return Err(Error::Setting { name, got: 0.0, want: "at least 1" });
            }
        }
        if !(options.rate > 0.0 && options.rate.is_finite()) {
            return Err(Error::Setting { name: "rate", got: options.rate, want: "positive and finite" });
        }
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        if let [label] = classes[..] {
            return Err(Error::OneClass { what: "training labels", label });
        }
        // With two classes the only output speaks for the larger.
        let spoken = if classes.len() == 2 { &classes[1..] } else { &classes[..] };
        let share = |c: &u32| labels.iter().filter(|l| *l == c).count() as f64 / labels.len() as f64;
        let start: Vec<f64> = match spoken {
            [one] => vec![(share(one) / (1.0 - share(one))).ln()],
            _ => spoken.iter().map(|c| share(c).ln()).collect(),
        };
        let columns = Columns::new(x);
        let mut outputs: Vec<Vec<f64>> = start.iter().map(|&s| vec![s; labels.len()]).collect(); // [R][N]
        let mut gains = vec![0.0; x.d()];
        let mut stages = Vec::with_capacity(options.stages);
        let newton = if spoken.len() == 1 { 1.0 } else { 1.0 - 1.0 / spoken.len() as f64 };
        for stage in 0..options.stages {
            let shares = probabilities(&outputs);
            let grown: Vec<(Tree, Vec<f64>)> = outputs
                .par_iter_mut()
                .zip(&shares)
                .zip(spoken)
                .enumerate()
                .map(|(k, ((output, p), class))| {
                    let residuals: Vec<f64> =
                        labels.iter().zip(p).map(|(l, p)| f64::from(u8::from(l == class)) - p).collect();
                    let grown =
                        columns.grow(&residuals, options.depth, (options.seed, (stage * spoken.len() + k) as u64));
                    let mut tree = grown.tree;
                    let (mut steep, mut curved) = (vec![0.0; tree.nodes()], vec![0.0; tree.nodes()]);
                    for ((&leaf, r), p) in grown.leaf.iter().zip(&residuals).zip(p) {
                        steep[leaf] += r;
                        curved[leaf] += p * (1.0 - p);
                    }
                    // A leaf of certain items has no curvature: it stays where it is.
                    let step =
                        |leaf: usize| if curved[leaf] > 1e-150 { newton * steep[leaf] / curved[leaf] } else { 0.0 };
                    let mut held: Vec<usize> = grown.leaf.clone();
                    held.sort_unstable();
                    held.dedup();
                    held.iter().for_each(|&leaf| tree.set(leaf, step(leaf)));
                    output.iter_mut().zip(&grown.leaf).for_each(|(o, &leaf)| *o += options.rate * step(leaf));
                    (tree, grown.gains)
                })
                .collect();
            let mut trees = Vec::with_capacity(grown.len());
            for (tree, tree_gains) in grown {
                gains.iter_mut().zip(&tree_gains).for_each(|(sum, g)| *sum += g);
                trees.push(tree);
            }
            stages.push(trees);
        }
        let total: f64 = gains.iter().sum();
        if total > 0.0 {
            gains.iter_mut().for_each(|g| *g /= total);
        }
        Ok(Self { classes, importances: gains, start, stages, rate: options.rate })
    }

    /// Most probable label of every item; of equally probable ones the smallest.
    ///
    /// # Errors
    /// Another number of columns than was fitted.
    pub fn predict(&self, x: &Features) -> Result<Vec<u32>> {
        let label = |outputs: Vec<f64>| match outputs[..] {
            [one] => self.classes[usize::from(one > 0.0)],
            _ => self.classes[(1..outputs.len()).fold(0, |best, k| if outputs[k] > outputs[best] { k } else { best })],
        };
        Ok(self.outputs(x)?.into_iter().map(label).collect())
    }

    /// Log-odds (two classes) or unnormalised log-probabilities of every item.
    fn outputs(&self, x: &Features) -> Result<Vec<Vec<f64>>> {
        x.want_columns("columns of the features", self.importances.len())?;
        let output = |row: &[f32]| {
            let mut out = self.start.clone();
            for trees in &self.stages {
                out.iter_mut().zip(trees).for_each(|(o, tree)| *o += self.rate * tree.value(row));
            }
            out
        };
        Ok(x.values().par_chunks(x.d()).map(output).collect())
    }
}

/// Logistic function of one output, softmax of several: `[R][N]`.
fn probabilities(outputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    if let [one] = outputs {
        return vec![one.iter().map(|o| 1.0 / (1.0 + (-o).exp())).collect()];
    }
    let mut out = outputs.to_vec();
    for i in 0..outputs[0].len() {
        let most = outputs.iter().map(|o| o[i]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = outputs.iter().map(|o| (o[i] - most).exp()).sum();
        out.iter_mut().for_each(|o| o[i] = (o[i] - most).exp() / sum);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn_on_two_and_three_classes() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let x = file.features("tree.x");
        for case in ["two", "three"] {
            let labels = file.labels(&format!("boost.{case}.labels"));
            let options = BoostOptions { stages: 20, ..Default::default() };
            let got = Boosting::fit(&x, &labels, &options).unwrap();
            let want = file.f64s(&format!("boost.{case}.importances"));
            got.importances.iter().zip(&want).for_each(|(g, w)| assert_close(*g, *w, 1e-9));
            let outputs = got.outputs(&x).unwrap();
            let transposed: Vec<Vec<f64>> =
                (0..outputs[0].len()).map(|k| outputs.iter().map(|o| o[k]).collect()).collect();
            let p = probabilities(&transposed);
            let want = file.f64s(&format!("boost.{case}.p"));
            let r = p.len();
            (0..x.n()).for_each(|i| (0..r).for_each(|k| assert_close(p[k][i], want[i * r + k], 1e-9)));
        }
    }

    #[test]
    fn the_column_that_tells_gets_all_the_importance() {
        let x = Features::new(3, (0..40).flat_map(|i| [0.5, (i % 7) as f32, (i % 4) as f32]).collect()).unwrap();
        let labels: Vec<u32> = (0..40).map(|i| 10 + i % 4).collect();
        let got = Boosting::fit(&x, &labels, &BoostOptions::default()).unwrap();
        assert_close(got.importances[2], 1.0, 1e-9);
        assert_eq!(got.predict(&x).unwrap(), labels);
        let flat = Features::new(1, vec![1.0; 4]).unwrap();
        let got = Boosting::fit(&flat, &[0, 1, 1, 1], &BoostOptions::default()).unwrap();
        assert_eq!((got.importances.clone(), got.predict(&flat).unwrap()), (vec![0.0], vec![1; 4]));
        assert!(got.predict(&x).is_err());
    }

    #[test]
    fn bad_settings_are_named() {
        let x = Features::new(1, vec![1.0, 2.0]).unwrap();
        let fit = |labels: &[u32], options: BoostOptions| Boosting::fit(&x, labels, &options).unwrap_err();
        let usual = BoostOptions::default();
        assert_eq!(fit(&[3, 3], usual), Error::OneClass { what: "training labels", label: 3 });
        assert!(matches!(fit(&[3], usual), Error::LengthMismatch { .. }));
        assert!(matches!(fit(&[0, 1], BoostOptions { stages: 0, ..usual }), Error::Setting { name: "stages", .. }));
        assert!(matches!(fit(&[0, 1], BoostOptions { rate: 0.0, ..usual }), Error::Setting { name: "rate", .. }));
    }
}
