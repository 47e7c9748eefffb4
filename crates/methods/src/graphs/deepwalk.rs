//! # DeepWalk: Online Learning of Social Representations
//! arXiv 1403.6652 (2014) - reference: phanein/deepwalk
//!
//! **Gives.** Coordinates of a graph's vertices, from its edges alone, that any linear classifier can use.
//! **How.** In each of gamma passes, over vertices in random order: walk t vertices from v, each next one uniform among the
//!     neighbours; for every position j of the walk and every u within w of it, descend on                (algorithms 1, 2)
//!     -ln P(u | Phi(v_j)),  P(u | Phi) = prod over the path to u of sigma(+-Phi . Psi_b)             (section 4.2.2, eq. 5)
//!     with + where the path goes left at inner node b of a binary tree whose leaves are the vertices: Huffman's, by how often
//!     walks visit them. The rate falls linearly from 0.025 with the positions seen.
//! **Needs.** `data::graph`, `latent::huffman`, `measure::LogisticProblem`.
//! **Departs.** One thread, so that a seed decides the result; the paper's Hogwild threads race. The classifier is one softmax
//!     regression (L2, C = 1) in place of one-vs-rest: each vertex here has one label, so the top-1 is what is judged, and
//!     graphs with several labels a vertex (BlogCatalog) are not read. No negative sampling, which is word2vec's, not the paper's.
//! **Holds if.** With one label in ten known, Micro-F1 over the rest is above that of the same classifier on rows of the
//!     adjacency matrix, by 10 points, over seeds (`recipes/graphs/deepwalk.toml`). Reported beside it: Macro-F1.

use pentimento_claims::{Budget, Claim, Context, Error, Method, Metrics, Picture, Recipe, settings};
use pentimento_core::exact::unit_rows;
use pentimento_core::{Draws, Stream};
use pentimento_data::graph::Graph;
use pentimento_latent::huffman::{self, Path};
use pentimento_measure::{Features, FitOptions, LogisticProblem, accuracy, macro_f1};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "deepwalk",
    family: "graphs",
    page: include_str!("deepwalk.rs"),
    recipe: include_str!("../../../../recipes/graphs/deepwalk.toml"),
    settings: settings::<Config>,
    model: None,
    claim,
};

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `blocks`, or a folder with `edges.tsv` and `nodes.tsv`, by name or path.
    pub graph: String,
    /// gamma, the walks from each vertex.
    pub passes: u64,
    /// t, the vertices of a walk.
    pub length: usize,
    /// w, how far a context reaches on each side.
    pub window: usize,
    /// d, the width of a coordinate.
    pub width: usize,
    /// Learning rate of the first position.
    pub lr: f64,
    /// Share of the labels that the classifier is shown.
    pub known: f64,
    /// Draws of that share at each seed, averaged.
    pub splits: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { graph: "cora".into(), passes: 10, length: 40, window: 5, width: 64, lr: 0.025, known: 0.1, splits: 5 }
    }
}

/// The share of the first rate below which it does not fall.
const LEAST_RATE: f64 = 1e-4;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The walk from v in one pass: the same numbers whenever it is asked for.
fn walk(graph: &Graph, c: &Config, seed: u64, pass: u32, v: u32) -> Vec<u32> {
    graph.walk(v, c.length, &mut Draws::at(seed, u64::from(v), pass, Stream::Own))
}

/// Coordinates Phi of the vertices and Psi of the tree's inner nodes, rows of d.
struct Model {
    width: usize,
    phi: Vec<f32>,
    psi: Vec<f32>,
    paths: Vec<Path>,
}

impl Model {
    /// Phi uniform within +-1/(2 d), Psi zero, as word2vec begins.
    #[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
    fn new(counts: &[u64], width: usize, seed: u64) -> Self {
        let mut draws = Draws::at(seed, 0, 0, Stream::Init);
        let phi = (0..counts.len() * width).map(|_| ((draws.uniform() - 0.5) / width as f64) as f32).collect();
        Self { width, phi, psi: vec![0.0; counts.len() * width], paths: huffman::paths(counts) }
    }

    fn row(&self, v: u32) -> &[f32] {
        &self.phi[v as usize * self.width..][..self.width]
    }

    /// One step of descent on -ln P(u | Phi(v)), at rate `lr`; `step` is scratch of width d.
    fn learn(&mut self, v: u32, u: u32, lr: f32, step: &mut [f32]) {
        step.fill(0.0);
        let phi = &mut self.phi[v as usize * self.width..][..self.width];
        for (b, left) in &self.paths[u as usize] {
            let psi = &mut self.psi[*b as usize * self.width..][..self.width];
            // d ln sigma(+-x) / dx = [left] - sigma(x)
            let slope = lr * (f32::from(u8::from(*left)) - sigmoid(dot(phi, psi)));
            for ((p, q), s) in phi.iter().zip(psi).zip(step.iter_mut()) {
                *s += slope * *q;
                *q += slope * p;
            }
        }
        phi.iter_mut().zip(step).for_each(|(p, s)| *p += *s);
    }
}

/// The model after `passes` passes; `go_on` is asked before each.
#[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
fn embed(
    graph: &Graph,
    c: &Config,
    seed: u64,
    passes: u32,
    go_on: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<Model, Error> {
    let vertices = u32::try_from(graph.vertices()).unwrap_or(u32::MAX);
    let mut counts = vec![0_u64; graph.vertices()];
    for pass in 0..passes {
        for v in 0..vertices {
            walk(graph, c, seed, pass, v).into_iter().for_each(|u| counts[u as usize] += 1);
        }
    }
    let (all, mut seen) = (counts.iter().sum::<u64>().max(1) as f64, 0_u64);
    let (mut model, mut step) = (Model::new(&counts, c.width, seed), vec![0.0; c.width]);
    for pass in 0..passes {
        go_on()?;
        for v in Draws::at(seed, 0, pass, Stream::Order).permutation(graph.vertices()) {
            let walk = walk(graph, c, seed, pass, u32::try_from(v).unwrap_or(u32::MAX));
            for (j, &centre) in walk.iter().enumerate() {
                let lr = (c.lr * (1.0 - seen as f64 / all).max(LEAST_RATE)) as f32;
                let context = j.saturating_sub(c.window)..(j + c.window + 1).min(walk.len());
                for k in context.filter(|k| *k != j) {
                    model.learn(centre, walk[k], lr, &mut step);
                }
                seen += 1;
            }
        }
    }
    Ok(model)
}

/// What the classifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// Rows of the adjacency matrix.
    Adjacency,
    /// Coordinates learned on walks.
    Walks,
}

/// The graph, with the vertices that carry a label.
struct Task {
    config: Config,
    graph: Graph,
    named: Vec<u32>,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let graph = Graph::open(&config.graph)?;
    let data = vec![format!("{} {}", config.graph, graph.fingerprint())];
    let task = Task::new(config, graph);
    let arms = [
        ("adjacency", "the classifier reads rows of the adjacency matrix", Arm::Adjacency),
        ("deepwalk", "it reads coordinates learned on walks", Arm::Walks),
    ];
    Ok(Claim::of(json!(task.config), data, task, arms, Task::run))
}

impl Task {
    fn new(config: Config, graph: Graph) -> Self {
        let named = (0..).zip(&graph.labels).filter(|(_, l)| l.is_some()).map(|(v, _)| v).collect();
        Self { config, graph, named }
    }

    fn label(&self, v: u32) -> u32 {
        self.graph.labels[v as usize].unwrap_or(0)
    }

    /// Mean Micro- and Macro-F1 over the splits of a seed, for any features of the vertices.
    #[expect(clippy::cast_possible_truncation, reason = "a share of a length is one")]
    fn judge(&self, seed: u64, features: impl Fn(&[u32], &[u32]) -> (usize, Vec<f32>)) -> Result<[f64; 2], Error> {
        let mut sums = [0.0; 2];
        for split in 0..self.config.splits {
            let order = Draws::at(seed, 1, split, Stream::Order).permutation(self.named.len());
            let order: Vec<u32> = order.into_iter().map(|i| self.named[i]).collect();
            let (known, asked) = order.split_at((self.config.known * order.len() as f64).round() as usize);
            let labels = |of: &[u32]| of.iter().map(|v| self.label(*v)).collect::<Vec<_>>();
            let table = |of: &[u32]| {
                let (width, values) = features(of, known);
                Features::new(width, values)
            };
            let shown = table(known)?;
            let fit = LogisticProblem::new(&shown, &labels(known))?.fit(1.0, None, &FitOptions::default())?;
            let (truth, said) = (labels(asked), fit.predict(&table(asked)?)?);
            let got = [accuracy(&truth, &said)?, macro_f1(&truth, &said)?];
            sums.iter_mut().zip(got).for_each(|(s, g)| *s += g);
        }
        Ok(sums.map(|s| s / f64::from(self.config.splits)))
    }

    /// Rows of A, over the neighbours of the vertices shown: L2 keeps every other column's weight at zero.
    fn adjacency(&self, of: &[u32], known: &[u32]) -> (usize, Vec<f32>) {
        let mut columns: Vec<u32> = known.iter().flat_map(|v| self.graph.neighbours(*v)).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        let mut values = vec![0.0; of.len() * columns.len().max(1)];
        for (row, v) in values.chunks_mut(columns.len().max(1)).zip(of) {
            for u in self.graph.neighbours(*v) {
                if let Ok(j) = columns.binary_search(u) {
                    row[j] = 1.0;
                }
            }
        }
        (columns.len().max(1), values)
    }

    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        let seed = ctx.seed;
        if arm == Arm::Adjacency {
            return Ok(report(self.judge(seed, |of, known| self.adjacency(of, known))?));
        }
        let passes = u32::try_from(ctx.length(self.config.passes, 1)).unwrap_or(u32::MAX);
        let model = embed(&self.graph, &self.config, seed, passes, &mut || ctx.go_on())?;
        let rows = |of: &[u32], _: &[u32]| (model.width, of.iter().flat_map(|v| model.row(*v)).copied().collect());
        report(self.judge(seed, rows)?).showing(ctx, || self.pictures(&model))
    }

    /// Cosines between vertices, sorted by label: communities are bright squares on the diagonal.
    fn pictures(&self, model: &Model) -> Result<Vec<Picture>, Error> {
        const SIDE: usize = 256;
        let mut shown: Vec<u32> = self.named.iter().step_by(self.named.len().div_ceil(SIDE).max(1)).copied().collect();
        shown.sort_by_key(|v| (self.label(*v), *v));
        let rows: Vec<Tensor> = shown.iter().map(|v| Tensor::from_slice(model.row(*v))).collect();
        let x = unit_rows(&Tensor::stack(&rows, 0));
        let cosines = x.mm(&x.tr()).unsqueeze(0).unsqueeze(0).repeat([1, 3, 1, 1]); // [1, 3, N, N]
        Ok(vec![Picture::rows("cosines between vertices, sorted by label; white is 1, black is -1", &[cosines])?])
    }
}

fn report([micro, macro_]: [f64; 2]) -> Metrics {
    Metrics::new([("micro_f1", micro), ("macro_f1", macro_)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::try_run;
    use pentimento_train::Silent;

    fn small() -> Config {
        Config { graph: "blocks".into(), passes: 3, length: 20, width: 16, splits: 2, ..Config::default() }
    }

    fn rough(counts: &[u64]) -> Model {
        let mut m = Model::new(counts, 6, 3);
        m.psi.iter_mut().enumerate().for_each(|(i, p)| *p = (i as f32 * 0.7).sin());
        m.phi.iter_mut().enumerate().for_each(|(i, p)| *p = (i as f32 * 1.3).cos());
        m
    }

    /// ln P(u | Phi(v)) (eq. 5).
    fn log_prob(m: &Model, v: u32, u: u32) -> f32 {
        let along = |(b, left): &(u32, bool)| {
            let x = dot(m.row(v), &m.psi[*b as usize * m.width..][..m.width]);
            sigmoid(if *left { x } else { -x }).ln()
        };
        m.paths[u as usize].iter().map(along).sum()
    }

    #[test]
    fn probabilities_over_the_tree_sum_to_one() {
        let m = rough(&[5, 1, 1, 8, 2, 2, 9]);
        for v in 0..7 {
            let sum: f32 = (0..7).map(|u| log_prob(&m, v, u).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn a_step_is_the_gradient_by_finite_differences() {
        let counts = [5, 1, 1, 8, 2, 2, 9];
        let (v, u, lr, h) = (1, 4, 1e-3_f32, 1e-2_f32);
        let (before, mut after) = (rough(&counts), rough(&counts));
        after.learn(v, u, lr, &mut [0.0; 6]);
        let slope = |change: &dyn Fn(&mut Model, f32)| {
            let at = |d| {
                let mut m = rough(&counts);
                change(&mut m, d);
                log_prob(&m, v, u)
            };
            (at(h) - at(-h)) / (2.0 * h)
        };
        for i in 0..6 {
            let want = slope(&|m, d| m.phi[6 + i] += d);
            assert!(((after.phi[6 + i] - before.phi[6 + i]) / lr - want).abs() < 2e-3, "phi {i}");
        }
        for i in 0..before.psi.len() {
            let want = slope(&|m, d| m.psi[i] += d);
            assert!(((after.psi[i] - before.psi[i]) / lr - want).abs() < 2e-3, "psi {i}");
        }
    }

    #[test]
    fn two_cliques_lie_apart() {
        let clique = |from: u32| (from..from + 6).flat_map(move |u| (u + 1..from + 6).map(move |v| [u, v]));
        let edges: Vec<_> = clique(0).chain(clique(6)).collect();
        let graph = Graph::new("cliques", &edges, (0..12).map(|v| Some(u32::from(v >= 6))).collect()).unwrap();
        let m = embed(&graph, &Config { passes: 20, lr: 0.1, ..small() }, 0, 20, &mut || Ok(())).unwrap();
        let cosine =
            |a: u32, b: u32| dot(m.row(a), m.row(b)) / (dot(m.row(a), m.row(a)) * dot(m.row(b), m.row(b))).sqrt();
        let pairs = || (0..12).flat_map(|a| (a + 1..12).map(move |b| (a, b)));
        let least = pairs().filter(|(a, b)| (*a < 6) == (*b < 6)).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
        let most = pairs().filter(|(a, b)| (*a < 6) != (*b < 6)).map(|(a, b)| cosine(a, b)).fold(-1.0, f32::max);
        assert!(least > most, "{least} within, {most} between");
    }

    #[test]
    fn adjacency_gives_the_rows_of_the_graph() {
        let t = Task::new(small(), Graph::new("g", &[[0, 1], [1, 2], [2, 3]], vec![Some(0); 4]).unwrap());
        assert_eq!(t.adjacency(&[1, 3], &[0, 3]), (2, vec![0.0, 1.0, 0.0, 1.0])); // columns 1 and 2
    }

    #[test]
    fn walks_find_communities_and_a_seed_decides_everything() {
        let t = Task::new(small(), Graph::open("blocks").unwrap());
        let once = || try_run(|ctx| t.run(ctx, Arm::Walks), 0, &mut Silent).unwrap();
        let (a, b) = (once(), once());
        assert_eq!(a, b);
        let rows = try_run(|ctx| t.run(ctx, Arm::Adjacency), 0, &mut Silent).unwrap();
        assert!(
            a["micro_f1"] > 0.5 && a["micro_f1"] > rows["micro_f1"],
            "{:?} {:?} of seven communities",
            a.values,
            rows.values
        );
    }

    /// On as many vertices as Cora has. Psi begins at zero, so that Phi moves from the second step on.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        assert_eq!((config.passes, config.length, config.window, config.width), (80, 40, 10, 128));
        let mut model = Model::new(&[1; 2708], config.width, 0);
        assert_eq!([model.phi.len(), model.psi.len()], [2708 * 128; 2]);
        let (before, mut step) = (model.row(3).to_vec(), vec![0.0; config.width]);
        model.learn(3, 5, config.lr as f32, &mut step);
        assert!(model.row(3) == before && model.psi.iter().any(|q| *q != 0.0));
        model.learn(3, 5, config.lr as f32, &mut step);
        assert!(model.row(3) != before && model.phi.iter().all(|p| p.is_finite()));
    }
}
