//! # Categorical reparameterization with Gumbel-softmax
//! arXiv 1611.01144 (2016) - reference: ericjang/gumbel-softmax
//!
//! **Gives.** Low-variance gradients through choices: a network with categorical variables learns like one with continuous ones.
//! **How.** Choices with probabilities pi, Gumbel noise g_i = -ln(-ln u_i), u uniform:
//!     z = one_hot(argmax_i (ln pi_i + g_i))                                    (eq. 1)
//!     y_i = softmax((ln pi + g) / tau)_i,   tau -> 0: y -> z                   (eq. 2)
//!     Straight-through Gumbel-softmax uses z forward and the gradient of y. The autoencoder ascends
//!     E ln p(x|y) - sum_n KL(q_n || uniform),  KL = sum_k q_k ln(K q_k)        (the bound of section 4.2)
//!     with tau = max(0.5, exp(-r t)) kept for 500 steps at a time. Against it: the score function, whose gradient
//!     (f - b) d ln q(z) of f = ln p(x|z) subtracts a running mean b; and the plain straight-through estimator, which samples z
//!     from pi and passes the gradient on to pi as if z were pi.
//! **Needs.** `latent::gumbel`, `latent::bernoulli`, `nn::Mlp`.
//! **Departs.** Adam in place of momentum; pictures are binarised anew at every look and not once; MuProp, NVIL and the
//!     semi-supervised model are not here.
//! **Holds if.** With hard choices at test time the bound is above that of the score function by 4 nats, over seeds, the learning
//!     rate of each arm chosen on held-out pictures (`recipes/autoencoders/gumbel-softmax.toml`). Reported beside it: the gain over
//!     plain straight-through.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, middle, settings,
};
use pentimento_core::exact::value;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Condition, Learner, Noise, Params, Stream, Terms, Trained};
use pentimento_data::Dataset;
use pentimento_latent::{bernoulli, gumbel};
use pentimento_nn::Mlp;
use pentimento_nn::layers::Init;
use pentimento_train::{Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "gumbel-softmax",
    family: "autoencoders",
    page: include_str!("gumbel_softmax.rs"),
    recipe: include_str!("../../../../recipes/autoencoders/gumbel-softmax.toml"),
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
    /// Choices per picture.
    pub variables: i64,
    /// K, the ways of each choice.
    pub ways: i64,
    /// r, the rate at which tau falls per step.
    pub cooling: f64,
    /// Where tau stops.
    pub coldest: f64,
    /// Steps for which tau is kept.
    pub hold: u64,
    /// Share of the old value in the running mean of the score function.
    pub baseline_decay: f64,
    /// Learning rates to choose from, for every arm.
    pub rates: Vec<f64>,
    /// Length of each trial of a rate.
    pub trial_images: u64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("mnist", "mnist:test", 0),
            variables: 20,
            ways: 10,
            cooling: 1e-4,
            coldest: 0.5,
            hold: 500,
            baseline_decay: 0.9,
            rates: vec![1e-3],
            trial_images: 50_000,
            images: 300_000,
            batch: 100,
        }
    }
}

impl Config {
    /// tau after so many steps.
    fn tau(&self, step: u64) -> f64 {
        let held = step.div_euclid(self.hold) * self.hold;
        (-self.cooling * held as f64).exp().max(self.coldest)
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        self.data.learned(&self.options())
    }
    fn table(&self) -> TrainTable {
        TrainTable::unclipped(self.images, self.batch, middle(&self.rates))
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(Model::new(self, signature.input, Arm::GumbelSoftmax, device, seed)))
    }
}

/// A linear encoder to N x K logits, a linear decoder of the choices.
struct Model {
    config: Config,
    params: Params,
    encoder: Mlp,
    decoder: Mlp,
    shape: [i64; 3],
    arm: Arm,
    /// Running mean of ln p(x|z), and how much of it there is.
    baseline: Tensor,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], arm: Arm, device: Device, seed: u64) -> Self {
        let pixels = shape.iter().product();
        let params = Params::new(device, seed);
        let code = config.variables * config.ways;
        let layer =
            |name, widths: [i64; 2]| Mlp::new(&params.root().sub(name), &widths, Default::default(), Init::Torch);
        Self {
            encoder: layer("encoder", [pixels, code]),
            decoder: layer("decoder", [code, pixels]),
            baseline: Tensor::zeros([2], (Kind::Float, device)),
            config: config.clone(),
            params,
            shape,
            arm,
        }
    }

    /// `[B, N, K]`
    fn logits(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x).view([-1, self.config.variables, self.config.ways])
    }

    /// ln p(x | choices), `[B]`; `z`: `[B, N, K]`.
    fn log_px(&self, x: &Tensor, z: &Tensor) -> Tensor {
        bernoulli::log_prob(x, &self.decoder.forward(&z.flatten(1, 2)))
    }

    /// Greys of choices `[B, N, K]`.
    fn picture(&self, z: &Tensor) -> Tensor {
        bernoulli::greys(&self.decoder.forward(&z.flatten(1, 2)), self.shape)
    }

    fn gumbel(&self, logits: &Tensor, noise: &Noise) -> Tensor {
        gumbel::noise(noise, &logits.size(), logits.device(), Stream::Eps)
    }

    /// A loss whose gradient is the estimator's, and the two parts of the bound it stands for: reconstruction and divergence.
    fn loss(&self, x: &Tensor, noise: &Noise, tau: f64) -> (Tensor, Tensor, Tensor) {
        let logits = self.logits(x);
        let g = self.gumbel(&logits, noise);
        let kl = gumbel::kl_to_uniform(&logits);
        let z = match self.arm {
            Arm::GumbelSoftmax => gumbel::relaxed(&logits, &g, tau),
            Arm::StraightThroughGumbel => gumbel::straight_through(&gumbel::relaxed(&logits, &g, tau)),
            Arm::StraightThrough => {
                let pi = logits.softmax(-1, Kind::Float);
                gumbel::one_hot(&(&logits + &g)) + (&pi - pi.detach())
            }
            Arm::ScoreFunction => gumbel::one_hot(&(&logits + &g)).detach(),
        };
        let log_px = self.log_px(x, &z);
        let mean = |t: &Tensor| t.mean(Kind::Float);
        let mut total = mean(&kl) - mean(&log_px);
        if self.arm == Arm::ScoreFunction {
            let log_q = (logits.log_softmax(-1, Kind::Float) * &z).flatten(1, 2).sum_dim_intlist(1, false, Kind::Float);
            total -= mean(&((log_px.detach() - self.running_mean()) * log_q));
        }
        (total, -mean(&log_px).detach(), mean(&kl).detach())
    }

    /// b, corrected for its start at zero.
    fn running_mean(&self) -> Tensor {
        self.baseline.get(0) / self.baseline.get(1).clamp_min(1e-6)
    }

    /// The bound with hard choices, mean over pictures.
    fn evaluate(&self, batch: &Batch) -> f64 {
        const SEED: u64 = 0x6B51;
        let _guard = tch::no_grad_guard();
        let noise = batch.noise(SEED);
        let x = bernoulli::binarise(&batch.x, &noise);
        let logits = self.logits(&x);
        let z = gumbel::one_hot(&(&logits + self.gumbel(&logits, &noise)));
        value(&(self.log_px(&x, &z) - gumbel::kl_to_uniform(&logits)).mean(Kind::Double))
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let noise = batch.noise(at.seed);
        let x = bernoulli::binarise(&batch.x, &noise);
        let (total, reconstruction, kl) = self.loss(&x, &noise, self.config.tau(at.step));
        total.backward();
        optimisers.step("net");
        let _guard = tch::no_grad_guard();
        let decay = self.config.baseline_decay;
        let now = Tensor::stack(&[-&reconstruction, kl.ones_like()], 0);
        self.baseline.copy_(&(&self.baseline * decay + now * (1.0 - decay)));
        Terms(vec![("reconstruction".into(), reconstruction), ("kl".into(), kl)])
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("net", &self.params)]
    }
    fn visit_state(&mut self, visit: &mut dyn FnMut(&str, &Tensor)) {
        visit("baseline", &self.baseline);
    }
    fn validate(&self, batch: &Batch, _: &At) -> Terms {
        Terms::one("bound", Tensor::from(-self.evaluate(batch)))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// q of each way of each choice.
    fn encode(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        Some(self.logits(&bernoulli::binarise(x, noise)).softmax(-1, Kind::Float).flatten(1, 2))
    }
    /// Of choices under the prior, in which all ways are alike.
    fn generate(&self, noise: &Noise, _: &Condition) -> Option<Tensor> {
        let size = [noise.rows(), self.config.variables, self.config.ways];
        Some(self.picture(&gumbel::one_hot(&gumbel::noise(noise, &size, self.params.device(), Stream::Start))))
    }
    fn reconstruct(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        let logits = self.logits(&bernoulli::binarise(x, noise));
        Some(self.picture(&gumbel::one_hot(&(&logits + self.gumbel(&logits, noise)))))
    }
}

/// How gradients reach the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// Soft choices y forward and backward.
    GumbelSoftmax,
    /// Hard choices forward, the gradient of y backward.
    StraightThroughGumbel,
    /// Hard choices of pi forward, the gradient of pi backward.
    StraightThrough,
    /// The score function with a running mean.
    ScoreFunction,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.data.open()?;
    let arms = [
        ("score-function", "the score function with a running mean", Arm::ScoreFunction),
        ("straight-through", "hard choices, the gradient of pi", Arm::StraightThrough),
        ("gumbel-softmax", "soft choices that cool", Arm::GumbelSoftmax),
        ("st-gumbel-softmax", "hard choices, the gradient of the soft ones", Arm::StraightThroughGumbel),
    ];
    Ok(Claim::on(config, sets, arms, run))
}

/// Chooses a rate on held-out pictures, then trains with it.
fn run(ctx: &mut Context, config: &Config, sets: &Opened, arm: Arm) -> Result<Metrics, Error> {
    let (model, rate) = ctx.tuned(
        sets,
        &config.rates,
        config.trial_images,
        &config.table(),
        |ctx| Ok(Model::new(config, sets.shape(), arm, ctx.device, ctx.seed)),
        |model, held| Ok(model.evaluate(held)),
    )?;
    let tests = sets.tests(ctx.device)?;
    Metrics::new([("elbo", model.evaluate(&tests)), ("rate", rate)]).showing(ctx, || pictures(&model, &tests))
}

/// Test pictures, and what the decoder makes of a hard choice for each.
fn pictures(model: &Model, tests: &Batch) -> Result<Vec<Picture>, Error> {
    let _guard = tch::no_grad_guard();
    let first = tests.head(Picture::COLUMNS);
    let decoded = model.reconstruct(&first.x, &first.noise(0));
    let rows: Vec<Tensor> = std::iter::once(first.x).chain(decoded).collect();
    Ok(vec![Picture::rows("test pictures; decoded from hard choices", &rows)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::{gap, largest};
    use pentimento_train::Silent;

    const ALL: [Arm; 4] = [Arm::GumbelSoftmax, Arm::StraightThroughGumbel, Arm::StraightThrough, Arm::ScoreFunction];

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 200);
        let length = Config { trial_images: 500, images: 3000, batch: 50, ..Config::default() };
        Config { data, variables: 5, ways: 4, rates: vec![1e-6, 1e-2], ..length }
    }

    fn pictures_of(n: i64) -> Tensor {
        bernoulli::binarise(&Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu)), &Noise::new(1, vec![0]))
            .repeat([n, 1])
    }

    /// The arms are judged with hard choices: reconstructions from soft ones agree once tau is small, and at tau = 1 they do not.
    #[test]
    fn soft_and_hard_reconstructions_agree_when_cold() {
        let n = 500;
        let noise = Noise::new(3, (0..500).collect());
        let model = |arm| Model::new(&small(), [1, 8, 8], arm, Device::Cpu, 2);
        let error = |arm, tau| value(&model(arm).loss(&pictures_of(n), &noise, tau).1);
        let (soft, hard) = (|tau| error(Arm::GumbelSoftmax, tau), error(Arm::StraightThroughGumbel, 1.0));
        assert!(
            (soft(1e-3) - hard).abs() < 1e-2 && (soft(1.0) - hard).abs() > 0.05,
            "{} {} {hard}",
            soft(1e-3),
            soft(1.0)
        );
        assert!((error(Arm::ScoreFunction, 1.0) - hard).abs() < 1e-3, "the same noise makes the same choices");
    }

    #[test]
    fn tau_falls_in_stairs_and_stops() {
        let c = Config::default();
        assert!((c.tau(0) - 1.0).abs() < 1e-12 && (c.tau(499) - 1.0).abs() < 1e-12);
        assert!((c.tau(500) - (-0.05_f64).exp()).abs() < 1e-12);
        assert!((c.tau(1_000_000) - 0.5).abs() < 1e-12);
    }

    /// With one variable of three ways the true gradient of E ln p(x|z) is a sum of three terms; the score function meets it
    /// in the mean, with or without a baseline, to four standard errors of (f - b)(z - pi): with b near f, far less than
    /// the gradient.
    #[test]
    fn the_score_function_has_the_exact_gradient_in_the_mean() {
        let config = Config { variables: 1, ways: 3, ..small() };
        let n: i64 = 60_000;
        for baseline in [0.0, -40.0] {
            let model = Model::new(&config, [1, 8, 8], Arm::ScoreFunction, Device::Cpu, 2);
            model.baseline.shallow_clone().copy_(&Tensor::from_slice(&[baseline as f32, 1.0]));
            let bias = model.params.entries().into_iter().find(|p| p.name == "encoder.0.bias").unwrap().tensor;
            let x = pictures_of(n);
            let noise = Noise::new(5, (0..n.unsigned_abs()).collect());
            let kl = gumbel::kl_to_uniform(&model.logits(&x)).mean(Kind::Float);
            (model.loss(&x, &noise, 1.0).0 - kl).backward();
            let found = -bias.grad();
            let _guard = tch::no_grad_guard();
            let ways = Tensor::eye(3, (Kind::Float, Device::Cpu));
            let pi = model.logits(&pictures_of(1)).softmax(-1, Kind::Float).view([3]);
            let f = model.log_px(&pictures_of(3), &ways.unsqueeze(1));
            let exact = &pi * (&f - (&pi * &f).sum(Kind::Float));
            let terms = (&f - baseline).unsqueeze(1) * (&ways - &pi); // [3, 3], a row for each way
            let variance =
                (pi.unsqueeze(1) * (terms - &exact).square()).sum_dim_intlist([0].as_slice(), false, Kind::Float);
            let tolerance = 4.0 * (largest(&variance) / n as f64).sqrt();
            let apart = gap(&found, &exact);
            assert!(apart < tolerance, "baseline {baseline}: {apart} of {tolerance}");
            assert!(baseline == 0.0 || largest(&exact) > 5.0 * tolerance, "{tolerance} beside {exact:?}");
        }
    }

    #[test]
    fn every_arm_reaches_both_networks_and_saves_its_mean() {
        for arm in ALL {
            let mut model = Model::new(&small(), [1, 8, 8], arm, Device::Cpu, 1);
            let noise = Noise::new(0, (0..20).collect());
            model.loss(&pictures_of(20), &noise, 0.7).0.backward();
            for p in model.params.entries() {
                assert!(largest(&p.tensor.grad()) > 0.0, "{arm:?}: {}", p.name);
            }
            let mut names = Vec::new();
            model.visit_state(&mut |name, _| names.push(name.to_owned()));
            assert_eq!(names, ["baseline"]);
        }
    }

    #[test]
    fn every_arm_learns_at_a_toy_size_with_the_better_rate() {
        let config = small();
        let sets = config.data.open().unwrap();
        for arm in ALL {
            let fresh = Model::new(&config, [1, 8, 8], arm, Device::Cpu, 0).evaluate(&sets.tests(Device::Cpu).unwrap());
            let metrics = try_run(|ctx| run(ctx, &config, &sets, arm), 0, &mut Silent).unwrap();
            assert!(metrics["elbo"] > fresh + 3.0, "{arm:?}: {fresh} then {metrics:?}");
            assert!((metrics["rate"] - 1e-2).abs() < 1e-12);
        }
    }

    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let mut model = Model::new(&config, [1, 28, 28], Arm::GumbelSoftmax, Device::Cpu, 0);
        assert_eq!(model.params.count(), 784 * 200 + 200 + 200 * 784 + 784);
        let [loss, moved] = try_step(&mut model, &noisy(2, [1, 28, 28]), 1e-3);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
