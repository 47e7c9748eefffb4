//! # Bootstrap your own latent: A new approach to self-supervised Learning
//! arXiv 2006.07733 (2020) - reference: google-deepmind/deepmind-research
//!
//! **Gives.** Features of pictures without labels and without negative pairs, also from small batches.
//! **How.** Online: encoder f, projector g, predictor q, weights theta. Target: f and g alone, weights xi. Two views v, v' of a picture:
//!     z' = g_xi(f_xi(v')),  no gradient
//!     L = |q(z)/|q(z)| - z'/|z'||^2 = 2 - 2 cos(q(z), z'),  z = g_theta(f_theta(v))   (eq. 2)
//!     The loss is L and the same with v and v' exchanged. After each step of theta
//!     xi <- tau xi + (1 - tau) theta                                                  (eq. 1)
//!     tau = 1 - (1 - tau_0) (cos(pi k/K) + 1)/2  at step k of K                       (section 3.3)
//!     Nothing keeps all outputs from being equal but that q must guess a target which lags behind. Only f is kept.
//! **Needs.** `nn::Views`, `nn::ConvEncoder`, `nn::BatchNorm`, `measure::probe`.
//! **Departs.** AdamW in place of LARS; a plain pyramid of convolutions without normalisation in place of ResNet-50, at the paper's
//!     scale too; grey pictures have no colour to jitter or drop, and views are neither blurred nor solarised. Normalisation
//!     in the heads uses the batch at hand, so that `spread` is measured with the statistics of the test set; f has none.
//! **Holds if.** A linear probe on f is right more often than on the same network untrained, by 3 points, over seeds
//!     (`recipes/self-supervised/byol.toml`). Reported beside it: without q the embedding collapses.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, probe_batches,
    settings,
};
use pentimento_core::exact::{unit_rows, value};
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Learner, Noise, Params, Scope, Terms, Trained};
use pentimento_data::Dataset;
use pentimento_nn::layers::{BatchNorm, Init, Linear};
use pentimento_nn::{ConvEncoder, Pyramid, Views};
use pentimento_train::{Ema, Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "byol",
    family: "self-supervised",
    page: include_str!("byol.rs"),
    recipe: include_str!("../../../../recipes/self-supervised/byol.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// How views are made.
    pub views: Views,
    /// Channels of the first convolution; twice as many in each further one.
    pub width: i64,
    /// Halvings of the picture.
    pub depth: u32,
    /// Width of the features.
    pub features: i64,
    /// Hidden width of projector and predictor.
    pub hidden: i64,
    /// Width of the projections.
    pub projection: i64,
    /// tau at the start.
    pub tau: f64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Pictures for the probe: it is fitted on three quarters, and the rest choose its strength.
    pub probe_items: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 4000),
            views: Views::default(),
            width: 16,
            depth: 2,
            features: 128,
            hidden: 256,
            projection: 128,
            tau: 0.99,
            images: 192_000,
            batch: 128,
            lr: 1e-3,
            probe_items: 6000,
        }
    }
}

impl Config {
    /// tau after so many images.
    fn tau(&self, images: u64) -> f64 {
        let done = (images as f64 / self.images as f64).min(1.0);
        1.0 - (1.0 - self.tau) * ((std::f64::consts::PI * done).cos() + 1.0) * 0.5
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        self.data.learned(&self.options())
    }
    fn table(&self) -> TrainTable {
        TrainTable::new(self.images, self.batch, self.lr)
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(Model::new(self, signature.input, true, device, seed)?))
    }
}

/// 2 - 2 cos of rows, mean over the batch (eq. 2).
fn distance(prediction: &Tensor, target: &Tensor) -> Tensor {
    let cosine = Tensor::cosine_similarity(prediction, target, 1, 1e-8);
    2.0 - cosine.mean(Kind::Float) * 2.0
}

/// Linear, batch normalisation, rectifier, linear: projector and predictor.
struct Head {
    first: Linear,
    norm: BatchNorm,
    second: Linear,
}

impl Head {
    fn new(p: &Scope, [inputs, hidden, outputs]: [i64; 3]) -> Self {
        Self {
            first: Linear::new(&p.sub("first"), inputs, hidden, Init::Torch),
            norm: BatchNorm::new(&p.sub("norm"), hidden),
            second: Linear::new(&p.sub("second"), hidden, outputs, Init::Torch),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.second.forward(&self.norm.forward(&self.first.forward(x)).relu())
    }
}

/// f and g.
struct Trunk {
    encoder: ConvEncoder,
    projector: Head,
}

impl Trunk {
    fn new(p: &Scope, config: &Config, shape: [i64; 3]) -> Result<Self, Error> {
        let pyramid = Pyramid::doubling(shape, config.width, config.depth);
        let widths = [config.features, config.hidden, config.projection];
        let encoder = ConvEncoder::new(&p.sub("encoder"), &pyramid, config.features)?;
        Ok(Self { encoder, projector: Head::new(&p.sub("projector"), widths) })
    }

    /// `[B, projection]`
    fn project(&self, x: &Tensor) -> Tensor {
        self.projector.forward(&self.encoder.forward(x))
    }
}

struct Model {
    config: Config,
    online: Params,
    target: Params,
    trunk: Trunk,
    follower: Trunk,
    /// xi <- tau xi + (1 - tau) theta.
    following: Ema,
    /// q; none in the ablation.
    predictor: Option<Head>,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], predicts: bool, device: Device, seed: u64) -> Result<Self, Error> {
        // Weights are addressed by seed and name: both networks start alike.
        let (online, target) = (Params::new(device, seed), Params::new(device, seed));
        let trunk = Trunk::new(&online.root(), config, shape)?;
        let follower = Trunk::new(&target.root(), config, shape)?;
        target.freeze();
        let widths = [config.projection, config.hidden, config.projection];
        let predictor = predicts.then(|| Head::new(&online.root().sub("predictor"), widths));
        let following = Ema::onto(&target, &online);
        Ok(Self { config: config.clone(), online, target, trunk, follower, following, predictor })
    }

    fn predict(&self, x: &Tensor) -> Tensor {
        let z = self.trunk.project(x);
        self.predictor.as_ref().map_or(z.shallow_clone(), |q| q.forward(&z))
    }

    fn loss(&self, v: &Tensor, w: &Tensor) -> Tensor {
        let [a, b] = {
            let _guard = tch::no_grad_guard();
            [v, w].map(|x| self.follower.project(x))
        };
        distance(&self.predict(v), &b) + distance(&self.predict(w), &a)
    }

    fn views(&self, x: &Tensor, noise: &Noise) -> [Tensor; 2] {
        [0, 1].map(|k| self.config.views.draw(x, &noise.at_step(k)))
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let [v, w] = self.views(&batch.x, &batch.noise(at.seed));
        let loss = self.loss(&v, &w);
        loss.backward();
        optimisers.step("online");
        self.following.update(1.0 - self.config.tau(at.images));
        Terms::one("distance", loss.detach())
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("online", &self.online), ("target", &self.target)]
    }
    fn validate(&self, batch: &Batch, at: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        let [v, w] = self.views(&batch.x, &batch.noise(at.seed));
        Terms::one("distance", self.loss(&v, &w))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// What f makes of the whole picture.
    fn encode(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        Some(self.trunk.encoder.forward(x))
    }
}

/// What an arm trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Untrained,
    WithoutPredictor,
    Whole,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.data.open()?;
    let arms = [
        ("untrained", "the encoder as it is initialised", Arm::Untrained),
        ("no-predictor", "q is the identity", Arm::WithoutPredictor),
        ("byol", "the whole method", Arm::Whole),
    ];
    Ok(Claim::on(config, sets, arms, run))
}

fn run(ctx: &mut Context, config: &Config, sets: &Opened, arm: Arm) -> Result<Metrics, Error> {
    let mut model = Model::new(config, sets.shape(), arm == Arm::Whole, ctx.device, ctx.seed)?;
    if arm != Arm::Untrained {
        ctx.train(&mut model, &sets.train, &config.table(), ctx.seed)?;
    }
    let _guard = tch::no_grad_guard();
    let ([fit, choose], tests) = (sets.probed(ctx.seed, config.probe_items, ctx.device)?, sets.tests(ctx.device)?);
    let code = |x: &Tensor| model.trunk.encoder.forward(x);
    let found = probe_batches([&fit, &choose, &tests], code)?;
    let spread = spread(&model.trunk.project(&tests.x));
    Metrics::new([("accuracy", found.score), ("spread", spread)]).showing(ctx, || pictures(&tests, &code(&tests.x)))
}

/// What is left of a collapsed embedding: the mean over columns of the standard deviation of rows of length 1, times sqrt(D). It
/// is 1 for rows that point everywhere and 0 for equal ones.
fn spread(z: &Tensor) -> f64 {
    let width = z.size()[1] as f64;
    value(&unit_rows(z).std_dim([0].as_slice(), true, false).mean(Kind::Double)) * width.sqrt()
}

/// Test pictures, and under each those of the nearest codes.
fn pictures(tests: &Batch, codes: &Tensor) -> Result<Vec<Picture>, Error> {
    Ok(vec![Picture::nearest("test pictures, and those nearest to each", &tests.x, codes)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::gap;
    use pentimento_train::Silent;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 400);
        let views = Views { area: [0.5, 1.0], flip: 0.0, ..Views::default() };
        let sizes = Config { width: 8, features: 24, hidden: 32, projection: 16, ..Config::default() };
        Config { data, views, images: 6000, batch: 50, lr: 3e-3, probe_items: 600, ..sizes }
    }

    fn model(predicts: bool) -> Model {
        Model::new(&small(), [1, 8, 8], predicts, Device::Cpu, 3).unwrap()
    }

    #[test]
    fn the_distance_is_that_of_directions() {
        let rows = |v: [f32; 2]| Tensor::from_slice(&v).view([1, 2]);
        let x = rows([3.0, 0.0]);
        for (y, want) in [([0.5, 0.0], 0.0), ([0.0, 7.0], 2.0), ([-1.0, 0.0], 4.0)] {
            let unit = |t: &Tensor| t / t.norm();
            assert!((value(&distance(&x, &rows(y))) - want).abs() < 1e-6);
            assert!((value(&(unit(&x) - unit(&rows(y))).square().sum(Kind::Float)) - want).abs() < 1e-6, "eq. 2");
        }
    }

    /// The same view twice, q the identity, xi = theta: there is nothing to learn.
    #[test]
    fn equal_networks_agree_on_equal_views() {
        let x = noisy(6, [1, 8, 8]).x;
        assert!(value(&model(false).loss(&x, &x)).abs() < 1e-5);
        assert!(value(&model(true).loss(&x, &x)) > 0.1);
    }

    /// No gradient reaches the target; after the step it has come its share of the way to the new weights, not to the old.
    #[test]
    fn the_target_follows_the_weights_after_the_step_and_nothing_else() {
        let mut model = model(true);
        let copies = |p: &Params| -> Vec<Tensor> { p.entries().iter().map(|p| p.tensor.detach().copy()).collect() };
        let (before, theta_before) = (copies(&model.target), copies(&model.online));
        let [loss, moved] = try_step(&mut model, &noisy(8, [1, 8, 8]), 1e-2);
        assert!(loss > 0.0 && moved > 0.0);
        let online = model.online.entries();
        for ((xi, old), theta) in model.target.entries().iter().zip(before).zip(&online) {
            assert_eq!(xi.name, theta.name);
            assert!(!xi.tensor.grad().defined() && !xi.tensor.requires_grad());
            let want = old * 0.99 + &theta.tensor * 0.01;
            assert!(gap(&want, &xi.tensor) < 1e-6, "{}", xi.name);
        }
        for (theta, old) in online.iter().zip(theta_before) {
            assert!(gap(&theta.tensor, &old) > 0.0, "{} was not reached", theta.name);
        }
    }

    #[test]
    fn tau_rises_from_its_start_to_one() {
        let c = small();
        assert!((c.tau(0) - 0.99).abs() < 1e-12 && (c.tau(c.images) - 1.0).abs() < 1e-12);
        assert!((c.tau(3000) - 0.995).abs() < 1e-12);
    }

    #[test]
    fn spread_tells_collapse_from_directions_everywhere() {
        let z = pentimento_core::noise::init_normal(1, "z", &[2000, 64]);
        assert!((spread(&z) - 1.0).abs() < 0.02, "{}", spread(&z));
        assert!(spread(&(z * 1e-3 + 1.0)) < 0.01);
    }

    #[test]
    fn every_arm_runs_at_a_toy_size_and_without_a_predictor_it_collapses() {
        let config = small();
        let sets = config.data.open().unwrap();
        let of = |arm| try_run(|ctx| run(ctx, &config, &sets, arm), 0, &mut Silent).unwrap();
        let [fresh, alone, whole] = [Arm::Untrained, Arm::WithoutPredictor, Arm::Whole].map(of);
        let all = [&fresh, &alone, &whole].map(|m| m.values.clone());
        // An untrained encoder reads digits almost without error already: there is nothing to gain, and much to lose.
        assert!(whole["accuracy"] > fresh["accuracy"] - 0.02, "{all:?}");
        assert!(alone["spread"] < 0.7 * whole["spread"], "{all:?}");
        assert_eq!(whole.pictures.len(), 1);
    }

    /// Three halvings of 32 pixels to 256 maps of 4 x 4, features of 2048, heads of 4096.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let mut model = Model::new(&config, [3, 32, 32], true, Device::Cpu, 0).unwrap();
        let encoder = (3 * 16 + 1) * 64 + (64 * 16 + 1) * 128 + (128 * 16 + 1) * 256 + (4096 + 1) * 2048;
        let head = |inputs: usize| inputs * 4096 + 4096 + 2 * 4096 + 4096 * 256 + 256;
        assert_eq!(model.target.count(), encoder + head(2048));
        assert_eq!(model.online.count() - model.target.count(), head(256), "the predictor");
        let [loss, moved] = try_step(&mut model, &noisy(4, [3, 32, 32]), config.lr);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
