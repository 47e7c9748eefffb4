//! # Your Diffusion Model is Secretly a Zero-Shot Classifier
//! arXiv 2303.16203 (2023) - reference: diffusion-classifier/diffusion-classifier
//!
//! **Gives.** Any conditional diffusion model classifies as it stands: nothing is trained, no feature is read.
//! **How.** The bound on ln p(x|c), with its weights dropped, is a constant minus the mean error of predicted noise. Under a
//!     uniform prior over K conditions c_i, N pairs (t_j, eps_j) and x_tj = alpha x + sigma eps_j,
//!     E_i = 1/N sum_j |eps_j - eps_hat(x_tj, c_i)|^2                           (eq. 7)
//!     p(c_i|x) = exp(-E_i) / sum_k exp(-E_k) = 1 / sum_k exp(E_i - E_k)        (eqs. 6, 8)
//!     Only differences count, and what a draw adds to every E_i cancels in them if all conditions meet the *same* pairs. The
//!     t_j are evenly spaced, one eps each. In stages: some pairs for all conditions, the best few stay, more pairs for those.
//! **Needs.** `diffusion::{Path, Parametrised, DiffusionLoss}`, `nn::NetworkConfig`, `measure::Knn`.
//! **Departs.** In place of Stable Diffusion and DiT-XL/2 a small DiT on pixels, trained here on the cosine path to predict v,
//!     from which its noise follows, without dropped labels. Times are continuous. Each picture has noise of its own; the paper's
//!     class-conditional runs share theirs between pictures, too. The baseline keeps the times and draws only the noise anew
//!     for each class. Errors are squared, where the paper takes sizes on some data. No texts as conditions.
//! **Holds if.** At 20 pairs the classifier is right more often with shared than with independent noise, by 5 points, over
//!     seeds (`recipes/diffusion-representations/diffusion-classifier.toml`). Reported beside it: stages that save half of
//!     the evaluations, and nearest neighbours in pixels.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, features,
    labels, settings,
};
use pentimento_core::{
    At, Batch, Condition, Denoiser, Draw, Draws, Learner, Noise, Objective, Params, SingleLoss, Stream, Terms, Trained,
};
use pentimento_data::Dataset;
use pentimento_diffusion::{Clipped, Ddim, DiffusionLoss, Grid, Parametrised, Path, Prediction, Walk};
use pentimento_measure::{Knn, Metric, accuracy};
use pentimento_nn::{DitConfig, NetworkConfig};
use pentimento_train::{Schedule, Signature, TrainTable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "diffusion-classifier",
    family: "diffusion-representations",
    page: include_str!("diffusion_classifier.rs"),
    recipe: include_str!("../../../../recipes/diffusion-representations/diffusion-classifier.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// A stage of the evaluation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Evenly spaced pairs that every class left meets, but for those that it has met before.
    pub pairs: usize,
    /// Classes that stay.
    pub keep: usize,
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// The network.
    pub network: NetworkConfig,
    /// The noise path.
    pub path: Path,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Share of labels dropped in training.
    pub label_dropout: f64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    /// How the rate goes on from there.
    pub schedule: Schedule,
    /// N, the pairs of a time and noise for each class.
    pub pairs: usize,
    /// The stages of the adaptive arm.
    pub stages: Vec<Stage>,
    /// Training pictures among which the neighbours are looked for.
    pub bank: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 200),
            network: NetworkConfig::Dit(DitConfig::sized([4, 96, 4, 4])),
            path: Path::VpCosine { s: 0.008 },
            prediction: Prediction::VPrediction,
            label_dropout: 0.0,
            images: 40_000,
            batch: 32,
            lr: 1e-3,
            schedule: Schedule::Cosine,
            pairs: 20,
            stages: vec![Stage { pairs: 5, keep: 3 }, Stage { pairs: 20, keep: 1 }],
            bank: 10_000,
        }
    }
}

impl Config {
    fn learner(&self, shape: [i64; 3], classes: usize, device: Device, seed: u64) -> Result<SingleLoss<Model>, Error> {
        let params = Params::new(device, seed);
        let network = self.network.build(&params.root(), shape, i64::try_from(classes).unwrap_or(i64::MAX))?;
        let loss = DiffusionLoss::stratified(network, params, (self.path, self.prediction), self.label_dropout);
        Ok(SingleLoss::new(Model { config: self.clone(), shape, classes, loss }, Kind::Float))
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        self.data.learned(&self.options())
    }
    fn table(&self) -> TrainTable {
        TrainTable { schedule: self.schedule, ..TrainTable::new(self.images, self.batch, self.lr) }
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(self.learner(signature.input, signature.classes.len(), device, seed)?))
    }
}

/// Which noise the classes meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// All the same.
    Paired,
    /// Each its own, at the same times.
    Independent,
}

/// Asks a model under which condition it predicts the noise in a picture best.
struct Examiner<'a> {
    denoiser: &'a dyn Denoiser,
    path: Path,
    /// K.
    classes: usize,
    /// N.
    pairs: usize,
    sharing: Sharing,
    /// Of the noise, whose samples are the pictures' numbers.
    seed: u64,
}

/// What came of it.
#[derive(Debug, PartialEq)]
struct Answers {
    /// E_i of the classes that met all pairs, infinite for the others: `[B][K]`.
    errors: Vec<Vec<f64>>,
    /// Passes of one picture through the network.
    evaluations: usize,
}

impl Examiner<'_> {
    /// |eps_j - eps_hat|^2 at pair j of rows (picture of the batch, class).
    fn errors(&self, batch: &Batch, rows: &[[usize; 2]], j: usize) -> Vec<f64> {
        /// Rows that pass through the network together: memory only.
        const TOGETHER: usize = 250;
        let _guard = tch::no_grad_guard();
        let (device, k) = (batch.x.device(), self.classes as u64);
        let level = self.path.level((j as f64 + 0.5) / self.pairs as f64);
        let mut all = Vec::with_capacity(rows.len());
        for rows in rows.chunks(TOGETHER) {
            let address = |&[b, class]: &[usize; 2]| match self.sharing {
                Sharing::Paired => batch.index[b],
                Sharing::Independent => batch.index[b] * k + class as u64,
            };
            let noise = Noise::new(self.seed, rows.iter().map(address).collect());
            let column = |c: usize| rows.iter().map(|r| i64::try_from(r[c]).unwrap_or(0)).collect::<Vec<i64>>();
            let x0 = batch.x.index_select(0, &Tensor::from_slice(&column(0)).to_device(device)); // [R, C, H, W]
            let eps = noise.at_step(u32::try_from(j).unwrap_or(u32::MAX)).normal_like(&x0, Stream::Own);
            let c = Condition::classes(&column(1));
            let x0_hat = self.denoiser.denoise(&level.mix(&x0, &eps), &level, &c).x0;
            // Both explain one xt, so eps - eps_hat = alpha / sigma (x0_hat - x0).
            let off = (x0_hat - x0).flatten(1, -1) * (level.alpha[0] / level.sigma[0]);
            let sum = off.square().sum_dim_intlist(1_i64, false, Kind::Double); // [R]
            all.extend(Vec::<f64>::try_from(sum).unwrap_or_default());
        }
        all
    }

    /// E_i of every picture, by stages; one stage of N pairs is the plain evaluation. `go_on` is asked before every pair.
    fn examine(
        &self,
        batch: &Batch,
        stages: &[Stage],
        go_on: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Answers, Error> {
        let mut sums = vec![vec![0.0; self.classes]; batch.len()];
        let mut answers = Answers { errors: Vec::new(), evaluations: 0 };
        let mut left: Vec<Vec<usize>> = vec![(0..self.classes).collect(); batch.len()];
        let mut met = BTreeSet::new();
        for stage in stages {
            let rows: Vec<[usize; 2]> =
                left.iter().enumerate().flat_map(|(b, classes)| classes.iter().map(move |&k| [b, k])).collect();
            for j in spread(stage.pairs, self.pairs).into_iter().filter(|&j| met.insert(j)) {
                go_on()?;
                for (&[b, k], error) in rows.iter().zip(self.errors(batch, &rows, j)) {
                    sums[b][k] += error;
                }
                answers.evaluations += rows.len();
            }
            // Whoever is left has met the same pairs, so that sums and means have one order.
            let n = met.len() as f64;
            let mean = |classes: &[usize], sums: &[f64]| {
                (0..sums.len()).map(|k| if classes.contains(&k) { sums[k] / n } else { f64::INFINITY }).collect()
            };
            answers.errors = left.iter().zip(&sums).map(|(classes, sums)| mean(classes, sums)).collect();
            for (classes, sums) in left.iter_mut().zip(&sums) {
                classes.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]));
                classes.truncate(stage.keep);
            }
        }
        Ok(answers)
    }
}

/// The middles of n equal parts of 0..of, as whole numbers.
fn spread(n: usize, of: usize) -> Vec<usize> {
    (0..n).map(|i| ((2 * i + 1) * of).div_euclid(2 * n)).collect()
}

/// p(c_i|x) from the errors E_i (eq. 6): a softmax, from the smallest error on so that nothing underflows to 0 / 0.
fn posterior(errors: &[f64]) -> Vec<f64> {
    let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let odds: Vec<f64> = errors.iter().map(|e| (least - e).exp()).collect();
    let total: f64 = odds.iter().sum();
    odds.iter().map(|o| o / total).collect()
}

/// Classes from the best to the worst.
fn ranked(errors: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by(|&a, &b| errors[a].total_cmp(&errors[b]));
    order
}

/// A class-conditional diffusion model.
struct Model {
    config: Config,
    shape: [i64; 3],
    /// K.
    classes: usize,
    loss: DiffusionLoss,
}

impl Model {
    fn examiner(&self, sharing: Sharing, seed: u64) -> Examiner<'_> {
        let Config { path, pairs, .. } = self.config;
        Examiner { denoiser: self.loss.denoiser(), path, classes: self.classes, pairs, sharing, seed }
    }
}

impl Objective for Model {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        self.loss.loss(batch, at)
    }
    fn params(&self) -> &Params {
        self.loss.params()
    }
    fn draw(&self) -> Option<Arc<dyn Draw>> {
        self.loss.draw()
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// ln p(c_i|x) up to a constant: -E_i of every class, less the least.
    fn encode(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        let batch = Batch::of(x.shallow_clone(), noise.samples().to_vec());
        let all = [Stage { pairs: self.config.pairs, keep: 1 }];
        let answers = self.examiner(Sharing::Paired, noise.seed()).examine(&batch, &all, &mut || Ok(())).ok()?;
        let errors = Tensor::from_slice2(&answers.errors).to_kind(Kind::Float).to_device(x.device());
        Some(errors.amin([1].as_slice(), true) - errors)
    }
    fn heeds_classes(&self) -> bool {
        true
    }
    fn generate(&self, noise: &Noise, c: &Condition) -> Option<Tensor> {
        const STEPS: usize = 25;
        let clipped = Clipped::new(self.loss.denoiser(), 1.0);
        let levels = Grid::Uniform.levels(&self.config.path, STEPS);
        let walk = Walk { step: &Ddim { eta: 0.0 }, levels: &levels, noise };
        Some(walk.draw(&clipped, &self.shape, self.loss.params().device(), c))
    }
}

/// How an arm names pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// By all pairs, the same for all classes.
    Paired,
    /// By as many, of noise that each class has for itself.
    Independent,
    /// By shared pairs, in stages.
    Adaptive,
    /// By their neighbours.
    Nearest,
}

/// The configuration with its data.
struct Task {
    config: Config,
    sets: Opened,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("paired", "all classes meet the same noise", Arm::Paired),
        ("independent", "each class meets noise of its own, at the same times", Arm::Independent),
        ("adaptive", "the same noise; classes drop out in stages", Arm::Adaptive),
        ("knn", "five nearest training pictures, pixel by pixel", Arm::Nearest),
    ];
    Ok(Claim::of(json!(task.config), task.sets.fingerprints(), task, arms, Task::run))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        let fits = config.stages.iter().all(|s| s.keep >= 1 && (1..=config.pairs).contains(&s.pairs));
        if !fits || config.stages.last().is_none_or(|s| s.pairs != config.pairs) {
            let why = format!("stages must keep a class each and end with all {} pairs", config.pairs);
            return Err(METHOD.refused(why));
        }
        let sets = config.data.open()?;
        Ok(Self { config, sets })
    }

    fn learner(&self, device: Device, seed: u64) -> Result<SingleLoss<Model>, Error> {
        self.config.learner(self.sets.shape(), self.sets.train.classes().len(), device, seed)
    }

    /// The model of a seed, trained once for all arms.
    fn model(&self, ctx: &mut Context) -> Result<Model, Error> {
        let (c, learner) = (&self.config, self.learner(ctx.device, ctx.seed)?);
        Ok(ctx.trained_once("diffusion", &json!(c), learner, &self.sets.train, &c.table())?.into_objective())
    }

    /// Accuracy of a way of asking the model of a seed.
    fn classify(&self, ctx: &mut Context, sharing: Sharing, stages: &[Stage]) -> Result<Metrics, Error> {
        let model = self.model(ctx)?;
        let tests = self.sets.tests(ctx.device)?;
        // Evaluation is most of an arm's time.
        let tests = ctx.shortened(&tests);
        let answers = model.examiner(sharing, ctx.seed).examine(&tests, stages, &mut || ctx.go_on())?;
        let truth: Vec<usize> = labels(&tests)?.into_iter().map(|y| y as usize).collect();
        let of = |f: &dyn Fn(&[f64], usize) -> f64| {
            answers.errors.iter().zip(&truth).map(|(e, &y)| f(e, y)).sum::<f64>() / truth.len() as f64
        };
        let metrics = Metrics::new([
            ("accuracy", of(&|e, y| f64::from(u8::from(ranked(e)[0] == y)))),
            ("posterior_of_truth", of(&|e, y| posterior(e)[y])),
            ("evaluations", answers.evaluations as f64 / truth.len() as f64),
        ]);
        if sharing == Sharing::Independent {
            return Ok(metrics);
        }
        let ranks: Vec<Vec<usize>> = answers.errors.iter().take(Picture::COLUMNS).map(|e| ranked(e)).collect();
        metrics.showing(ctx, || self.pictures(model.loss.denoiser(), &tests.head(Picture::COLUMNS), &ranks))
    }

    /// The vote of the five nearest among some training pictures.
    fn nearest(&self, ctx: &mut Context) -> Result<Metrics, Error> {
        const VOTES: usize = 5;
        let items = usize::try_from(self.sets.train.len()).unwrap_or(usize::MAX);
        let order = Draws::at(ctx.seed, 0, 0, Stream::Own).permutation(items);
        let bank: Vec<u64> = order.into_iter().take(self.config.bank).map(|i| i as u64).collect();
        let (bank, tests) = (self.sets.items(&bank, ctx.device)?, self.sets.tests(ctx.device)?);
        let [known, truth] = [labels(&bank)?, labels(&tests)?];
        let knn = Knn::new(&features(&bank.x.flatten(1, -1))?, Metric::Euclidean);
        let named = knn.classify(&features(&tests.x.flatten(1, -1))?, &known, VOTES)?;
        Ok(Metrics::new([("accuracy", accuracy(&truth, &named)?)]))
    }

    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        let all = [Stage { pairs: self.config.pairs, keep: 1 }];
        match arm {
            Arm::Paired => self.classify(ctx, Sharing::Paired, &all),
            Arm::Independent => self.classify(ctx, Sharing::Independent, &all),
            Arm::Adaptive => self.classify(ctx, Sharing::Paired, &self.config.stages),
            Arm::Nearest => self.nearest(ctx),
        }
    }

    /// Test pictures, the same under noise, and what the model sees there under the best and the second-best class.
    fn pictures(&self, denoiser: &Parametrised, tests: &Batch, ranks: &[Vec<usize>]) -> Result<Vec<Picture>, Error> {
        let _guard = tch::no_grad_guard();
        let level = self.config.path.level(0.7);
        let eps = Noise::new(0, tests.index.clone()).normal_like(&tests.x, Stream::Start);
        let xt = level.mix(&tests.x, &eps);
        let seen = |place: usize| {
            let y: Vec<i64> = ranks.iter().map(|r| i64::try_from(r[place]).unwrap_or(0)).collect();
            denoiser.denoise(&xt, &level, &Condition::classes(&y)).x0
        };
        let caption = "test pictures; under noise; denoised under the class that was chosen; under the second-best";
        Ok(vec![Picture::rows(caption, &[tests.x.shallow_clone(), xt.shallow_clone(), seen(0), seen(1)])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noised, try_run, try_step};
    use pentimento_core::exact::value;
    use pentimento_diffusion::GaussianMixture;
    use pentimento_nn::UnetConfig;
    use pentimento_train::Silent;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 60);
        let unet = UnetConfig { channels: Some(16), mult: Some(vec![1.0, 2.0]), groups: Some(4), ..Default::default() };
        let network = NetworkConfig::Unet(UnetConfig { blocks: Some(1), ..unet });
        let stages = vec![Stage { pairs: 5, keep: 3 }, Stage { pairs: 10, keep: 1 }];
        let asked = Config { data, network, pairs: 10, stages, bank: 500, ..Config::default() };
        Config { images: 4000, batch: 40, lr: 2e-3, ..asked }
    }

    fn mixture() -> GaussianMixture {
        let means = [vec![0.0, 0.0, 0.0], vec![1.0, 0.5, 0.0], vec![-0.5, 1.0, 0.8], vec![0.0, -1.0, 1.0]];
        GaussianMixture::new(&[1.0; 4], &means, &[0.5; 4])
    }

    fn examiner(denoiser: &dyn Denoiser, classes: usize, pairs: usize, sharing: Sharing) -> Examiner<'_> {
        let path = Path::VpCosine { s: 0.008 };
        Examiner { denoiser, path, classes, pairs, sharing, seed: 3 }
    }

    fn batch(x: Tensor, first: u64) -> Batch {
        let index = (first..).take(usize::try_from(x.size()[0]).unwrap()).collect();
        Batch { first, ..Batch::of(x, index) }
    }

    fn whole(examiner: &Examiner, batch: &Batch) -> Answers {
        examiner.examine(batch, &[Stage { pairs: examiner.pairs, keep: 1 }], &mut || Ok(())).unwrap()
    }

    /// A class N(m, s^2 I) has E = a^2/S^2 (S^4 |m - x|^2 + 2 S^3 a s^2 eps.(m - x) + a^2 S^2 s^4 |eps|^2) / (a^2 s^2 + S^2)^2
    /// with S = sigma: the last part cancels between classes, and the middle one has mean zero.
    #[test]
    fn differences_have_their_closed_form() {
        let (x, n, s2) = ([0.3, 0.1, -0.2], 4000, 0.25);
        let mixture = mixture();
        let examiner = examiner(&mixture, 2, n, Sharing::Paired);
        let errors = whole(&examiner, &batch(Tensor::from_slice(&x).view([1, 3]), 9)).errors;
        let square = |m: [f64; 3]| m.iter().zip(x).map(|(m, x)| (m - x).powi(2)).sum::<f64>();
        let (mut want, mut variance) = (0.0, 0.0);
        for j in 0..n {
            let level = examiner.path.level((j as f64 + 0.5) / n as f64);
            let (a, s) = (level.alpha[0], level.sigma[0]);
            let total = (a * a * s2 + s * s).powi(2);
            want += a * a * s * s / total * (square([0.0; 3]) - square([1.0, 0.5, 0.0])) / n as f64;
            variance += (2.0 * a.powi(3) * s * s2 / total / n as f64).powi(2) * 1.25; // |m_0 - m_1|^2 = 1.25
        }
        let (got, error) = (errors[0][0] - errors[0][1], variance.sqrt());
        assert!((got - want).abs() < 4.0 * error && error < 0.05 * want.abs(), "{got} {want} {error}");
    }

    /// Classes of one variance: Bayes' rule chooses the nearest mean, and so do enough pairs with the exact denoiser.
    #[test]
    fn the_exact_denoiser_decides_as_bayes_rule() {
        let mixture = mixture();
        let (x, _) = mixture.draw(&Noise::new(5, (0..300).collect()));
        let answers = whole(&examiner(&mixture, 4, 300, Sharing::Paired), &batch(x.shallow_clone(), 0));
        let means = Tensor::from_slice(&[0.0, 0.0, 0.0, 1.0, 0.5, 0.0, -0.5, 1.0, 0.8, 0.0, -1.0, 1.0]).view([4, 3]);
        let log_density = Tensor::cdist(&x, &means, 2.0, None::<i64>).square() / (-2.0 * 0.25);
        let bayes = log_density.softmax(1, Kind::Double).max_dim(1, false);
        let (share, choice) = (Vec::<f64>::try_from(bayes.0).unwrap(), Vec::<i64>::try_from(bayes.1).unwrap());
        let mut agree = 0;
        for ((errors, share), choice) in answers.errors.iter().zip(share).zip(choice) {
            let same = i64::try_from(ranked(errors)[0]).unwrap() == choice;
            assert!(same || share < 0.7, "{errors:?} {share} {choice}");
            agree += i32::from(same);
        }
        assert!(agree >= 285, "{agree} of 300");
    }

    /// 64 dimensions, near means: what all classes share is most of the variance, and shared noise takes it away.
    #[test]
    fn shared_noise_leaves_less_variance_in_differences() {
        let (d, n) = (64, 400);
        let mixture = GaussianMixture::new(&[1.0; 2], &[vec![0.0; d], vec![0.1; d]], &[0.5; 2]);
        let x = batch(Tensor::full([n, 64], 0.05, (Kind::Double, Device::Cpu)), 0);
        let differences = |sharing| {
            let errors = whole(&examiner(&mixture, 2, 8, sharing), &x).errors;
            Tensor::from_slice(&errors.iter().map(|e| e[0] - e[1]).collect::<Vec<f64>>())
        };
        let [paired, independent] = [Sharing::Paired, Sharing::Independent].map(differences);
        let std = |t: &Tensor| value(&t.std(true));
        assert!(std(&paired) < 0.5 * std(&independent), "{} {}", std(&paired), std(&independent));
    }

    #[test]
    fn equal_conditions_are_equally_likely_under_shared_noise_only() {
        let mixture = GaussianMixture::new(&[1.0; 3], &[vec![0.2; 5], vec![0.2; 5], vec![0.2; 5]], &[0.5; 3]);
        let x = batch(Tensor::zeros([4, 5], (Kind::Double, Device::Cpu)), 0);
        let [paired, own] =
            [Sharing::Paired, Sharing::Independent].map(|s| whole(&examiner(&mixture, 3, 5, s), &x).errors);
        assert!(paired.iter().all(|e| posterior(e) == [1.0 / 3.0; 3]));
        assert!(own.iter().all(|e| (e[0] - e[1]).abs() > 1e-6));
    }

    #[test]
    fn the_posterior_is_a_softmax_of_differences() {
        let errors = [3.0, 1.5, 4.0, 1.0];
        let p = posterior(&errors);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        for (i, p) in p.iter().enumerate() {
            let pairwise: f64 = errors.iter().map(|e| (errors[i] - e).exp()).sum();
            assert!((p - 1.0 / pairwise).abs() < 1e-15, "eq. 8");
        }
        // A constant far beyond what exp bears, and a class that dropped out.
        assert_eq!(posterior(&errors.map(|e| e + 4096.0)), p);
        assert_eq!(posterior(&[900.0, f64::INFINITY]), [1.0, 0.0]);
    }

    /// Dropping nobody changes nothing; dropping the worst keeps the winner and saves what it should.
    #[test]
    fn elimination_keeps_the_winner() {
        assert_eq!((spread(5, 20), spread(3, 3)), (vec![2, 6, 10, 14, 18], vec![0, 1, 2]));
        let mixture = mixture();
        let (x, _) = mixture.draw(&Noise::new(6, (0..200).collect()));
        let (x, examiner) = (batch(x, 0), examiner(&mixture, 4, 20, Sharing::Paired));
        let full = whole(&examiner, &x);
        let staged = |keep| {
            let stages = [Stage { pairs: 5, keep }, Stage { pairs: 20, keep: 1 }];
            examiner.examine(&x, &stages, &mut || Ok(())).unwrap()
        };
        let (all, two) = (staged(4), staged(2));
        assert_eq!((full.evaluations, all.evaluations), (200 * 4 * 20, 200 * 4 * 20));
        assert_eq!(two.evaluations, 200 * (4 * 5 + 2 * 15));
        let mut kept = 0;
        for ((full, all), two) in full.errors.iter().zip(&all.errors).zip(&two.errors) {
            assert!(full.iter().zip(all).all(|(a, b)| (a - b).abs() < 1e-9));
            let (order, left) = (ranked(full), two.iter().filter(|e| e.is_finite()).count());
            assert_eq!(left, 2);
            assert!(two.iter().zip(all).all(|(t, a)| t.is_infinite() || (t - a).abs() < 1e-12));
            kept += i32::from(ranked(two)[0] == order[0]);
        }
        assert!(kept >= 196, "{kept} of 200");
    }

    #[test]
    fn every_arm_runs_at_a_toy_size() {
        let task = Task::new(small()).unwrap();
        let run = |arm| try_run(|ctx| task.run(ctx, arm), 0, &mut Silent).unwrap();
        let [paired, independent, adaptive] = [Arm::Paired, Arm::Independent, Arm::Adaptive].map(run);
        assert!(paired["accuracy"] > 0.3, "ten classes: {paired:?}");
        assert!(paired["accuracy"] >= independent["accuracy"] - 0.1, "{paired:?} {independent:?}");
        let evaluations = [&paired, &independent, &adaptive].map(|m| m["evaluations"]);
        assert_eq!(evaluations, [100.0, 100.0, 65.0]);
        assert!((0.0..=1.0).contains(&adaptive["posterior_of_truth"]) && paired.pictures.len() == 1);
        let knn = run(Arm::Nearest);
        assert!(knn["accuracy"] > 0.8, "{knn:?}");
    }

    /// The published size by its plan; a step at a depth of one, since 675 million weights with their moments are 11 GB.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        assert_eq!(config.network.cost([4, 32, 32], 1000).unwrap().params, 674_834_720);
        let NetworkConfig::Dit(dit) = config.network.clone() else { panic!("the paper's model is a DiT") };
        let network = NetworkConfig::Dit(DitConfig { depth: Some(1), ..dit });
        let task = Task::new(Config { network, data: small().data, ..config }).unwrap();
        let mut learner = task.learner(Device::Cpu, 0).unwrap();
        let batch = noised(&learner, 2, [1, 8, 8], Some(3));
        let [loss, _] = try_step(&mut learner, &batch, task.config.lr);
        // A new DiT gives zero, and the first step reaches its last layer only.
        let last = learner.params()[0].1.entries().into_iter().find(|p| p.name == "final_layer.linear.weight").unwrap();
        assert!(loss.is_finite() && last.tensor.count_nonzero(None::<i64>).int64_value(&[]) > 0, "{loss}");
    }
}
