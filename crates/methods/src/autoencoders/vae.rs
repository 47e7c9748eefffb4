//! # Auto-Encoding Variational Bayes
//! arXiv 1312.6114 (2013)
//!
//! **Gives.** Any differentiable latent-variable model with a Gaussian code learns by plain stochastic gradients; then it encodes,
//!     samples, and bounds ln p(x).
//! **How.** Prior p(z) = N(0, I), decoder p(x|z) Bernoulli (logits) or Gaussian (mean and log variance), encoder
//!     q(z|x) = N(mu, diag sigma^2) with mu and ln sigma^2 from a network. A draw that gradients pass through:
//!     z = mu + sigma eps,  eps ~ N(0, I)                                       (section 2.4)
//!     Two estimates of the bound on ln p(x), equal in mean; the second has the divergence in closed form:
//!     L^A = ln p(x, z) - ln q(z|x)                                             (eq. 6)
//!     L^B = -KL(q || p) + ln p(x|z)                                            (eq. 7)
//!     -KL = 1/2 sum_j (1 + ln sigma_j^2 - mu_j^2 - sigma_j^2)                  (appendix B)
//!     Both networks ascend the mean over a batch; over the data set it is N/M times the batch's sum (eq. 8). With K draws,
//!     ln of the mean of p(x, z_k) / q(z_k|x) is a tighter bound, which estimates ln p(x).
//! **Needs.** `latent::Gaussian`, `latent::Likelihood`, `latent::log_mean_exp`, `nn::Mlp`.
//! **Departs.** Adam with PyTorch's initial weights in place of Adagrad with N(0, 0.01); no prior on the weights; pictures
//!     are binarised anew at every look, since cross-entropy on greys is no likelihood; ln p(x) by importance sampling and not
//!     by Hamiltonian Monte Carlo. One rate serves all arms, tuned for none. Frey Face is not among the data.
//! **Holds if.** After the same steps the bound on test pictures is above that of wake-sleep with the same networks, by 3
//!     nats, over seeds (`recipes/autoencoders/vae.toml`). Reported beside it: 20 latents against 3, and ln p(x).

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, settings,
};
use pentimento_core::exact::value;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Condition, Learner, Noise, Params, Stream, Terms, Trained};
use pentimento_data::Dataset;
use pentimento_latent::{Gaussian, Likelihood, log_mean_exp};
use pentimento_nn::layers::Init;
use pentimento_nn::{Activation, Mlp};
use pentimento_train::{Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "vae",
    family: "autoencoders",
    page: include_str!("vae.rs"),
    recipe: include_str!("../../../../recipes/autoencoders/vae.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// Which estimate of the bound is ascended.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Everything by the draw.
    A,
    /// The divergence in closed form.
    B,
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// Hidden units of encoder and decoder, one layer each.
    pub hidden: i64,
    /// Z, the number of latents.
    pub latent: i64,
    /// The decoder's distribution.
    pub likelihood: Likelihood,
    /// The estimate that is ascended.
    pub estimator: Estimator,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Draws behind each estimate of ln p(x).
    pub draws: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("mnist", "mnist:test", 0),
            hidden: 500,
            latent: 20,
            likelihood: Likelihood::Bernoulli,
            estimator: Estimator::B,
            images: 200_000,
            batch: 100,
            lr: 1e-3,
            draws: 50,
        }
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        self.data.learned(&self.options())
    }
    fn table(&self) -> TrainTable {
        TrainTable::unclipped(self.images, self.batch, self.lr)
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(Model::new(self, signature.input, Learning::Bound, device, seed)))
    }
}

/// L^A from ln p(x|z) at a draw z of q, `[B]` (eq. 6).
fn estimate_a(log_px: &Tensor, q: &Gaussian, z: &Tensor) -> Tensor {
    log_px + q.prior_like().log_prob(z) - q.log_prob(z)
}

/// L^B from ln p(x|z) at a draw of q, `[B]` (eq. 7).
fn estimate_b(log_px: &Tensor, q: &Gaussian) -> Tensor {
    log_px - q.kl()
}

/// How the two networks learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learning {
    /// Both ascend the bound at once.
    Bound,
    /// The baseline (Hinton et al. 1995): the decoder learns on codes of data, the encoder on codes of dreams.
    WakeSleep,
}

/// Both networks; each has its own parameters, since wake-sleep moves one at a time.
struct Model {
    recognition: Params,
    generative: Params,
    encoder: Mlp,
    decoder: Mlp,
    shape: [i64; 3],
    latent: i64,
    likelihood: Likelihood,
    estimator: Estimator,
    learning: Learning,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], learning: Learning, device: Device, seed: u64) -> Self {
        let pixels = shape.iter().product();
        let (recognition, generative) = (Params::new(device, seed), Params::new(device, seed));
        let outputs = config.likelihood.outputs(pixels);
        let (h, z) = (config.hidden, config.latent);
        let encoder = recognition.root().sub("encoder");
        let decoder = generative.root().sub("decoder");
        Self {
            encoder: Mlp::new(&encoder, &[pixels, h, 2 * z], Activation::Tanh, Init::Torch),
            decoder: Mlp::new(&decoder, &[z, h, outputs], Activation::Tanh, Init::Torch),
            recognition,
            generative,
            shape,
            latent: z,
            likelihood: config.likelihood,
            estimator: config.estimator,
            learning,
        }
    }

    fn posterior(&self, x: &Tensor) -> Gaussian {
        Gaussian::from_moments(&self.encoder.forward(x))
    }

    /// ln p(x|z), `[B]`.
    fn log_px(&self, x: &Tensor, z: &Tensor) -> Tensor {
        self.likelihood.log_prob(x, &self.decoder.forward(z))
    }

    /// The mean of p(x|z), `[B, C, H, W]`.
    fn picture(&self, z: &Tensor) -> Tensor {
        self.likelihood.mean(&self.decoder.forward(z), self.shape)
    }

    /// Minus the estimate that is ascended, in its parts.
    fn terms(&self, batch: &Batch, seed: u64) -> Terms {
        let noise = batch.noise(seed);
        let x = self.likelihood.data(&batch.x, &noise);
        let q = self.posterior(&x);
        let z = q.sample(&noise, Stream::Eps);
        let log_px = self.log_px(&x, &z);
        let mean = |t: Tensor| t.mean(Kind::Float);
        match self.estimator {
            Estimator::A => Terms::one("bound", -mean(estimate_a(&log_px, &q, &z))),
            Estimator::B => Terms(vec![("reconstruction".into(), -mean(log_px)), ("kl".into(), mean(q.kl()))]),
        }
    }

    /// Minus ln p(x|z) at codes of data: what the decoder learns from.
    fn wake(&self, batch: &Batch, noise: &Noise) -> Tensor {
        let x = self.likelihood.data(&batch.x, noise);
        let z = tch::no_grad(|| self.posterior(&x).sample(noise, Stream::Eps));
        -self.log_px(&x, &z).mean(Kind::Float)
    }

    /// Minus ln q(z|x) at dreams, (z, x) of the model: what the encoder learns from.
    fn sleep(&self, dream: &Noise) -> Tensor {
        let z = dream.normal(&[dream.rows(), self.latent], self.generative.device(), Stream::Eps);
        let x = tch::no_grad(|| self.likelihood.draw(&self.decoder.forward(&z), dream));
        -self.posterior(&x).log_prob(&z).mean(Kind::Float)
    }

    /// ELBO (L^B, one draw) and ln p(x) (importance weights over K draws), mean over a test set.
    fn evaluate(&self, tests: &Batch, draws: u64) -> [f64; 2] {
        const SEED: u64 = 0x0E1B0;
        let _guard = tch::no_grad_guard();
        let noise = tests.noise(SEED);
        let x = self.likelihood.data(&tests.x, &noise);
        let q = self.posterior(&x);
        let mut weights = Vec::new();
        let mut elbo = Tensor::from(f64::NAN);
        for k in 0..draws.max(1) {
            let z = q.sample(&noise.at_step(u32::try_from(k).unwrap_or(u32::MAX)), Stream::Eps);
            let log_px = self.log_px(&x, &z);
            if k == 0 {
                elbo = estimate_b(&log_px, &q);
            }
            weights.push(estimate_a(&log_px, &q, &z));
        }
        [elbo, log_mean_exp(&Tensor::stack(&weights, 0))].map(|t| value(&t.mean(Kind::Double)))
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        if self.learning == Learning::Bound {
            let terms = self.terms(batch, at.seed);
            terms.total().backward();
            optimisers.step("recognition");
            optimisers.step("generative");
            return terms.detached();
        }
        let noise = batch.noise(at.seed);
        let wake = self.wake(batch, &noise);
        wake.backward();
        optimisers.step("generative");
        // Dreams are of the decoder that has just learned.
        let sleep = self.sleep(&noise.at_step(1));
        sleep.backward();
        optimisers.step("recognition");
        Terms(vec![("wake".into(), wake.detach()), ("sleep".into(), sleep.detach())])
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("generative", &self.generative), ("recognition", &self.recognition)]
    }
    fn validate(&self, batch: &Batch, at: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        self.terms(batch, at.seed)
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// The mean of q(z|x).
    fn encode(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        Some(self.posterior(&self.likelihood.data(x, noise)).mean)
    }
    fn generate(&self, noise: &Noise, _: &Condition) -> Option<Tensor> {
        let size = [noise.rows(), self.latent];
        Some(self.picture(&noise.normal(&size, self.generative.device(), Stream::Start)))
    }
    fn reconstruct(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        Some(self.picture(&self.encode(x, noise)?))
    }
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.data.open()?;
    let arms = [
        ("wake-sleep", "the same networks under wake-sleep", (config.latent, Learning::WakeSleep)),
        ("aevb", "both networks ascend the bound", (config.latent, Learning::Bound)),
        ("aevb-3", "the same with three latents", (3, Learning::Bound)),
    ];
    Ok(Claim::on(config, sets, arms, run))
}

fn run(
    ctx: &mut Context,
    config: &Config,
    sets: &Opened,
    (latent, learning): (i64, Learning),
) -> Result<Metrics, Error> {
    let mut model = Model::new(&Config { latent, ..config.clone() }, sets.shape(), learning, ctx.device, ctx.seed);
    ctx.train(&mut model, &sets.train, &config.table(), ctx.seed)?;
    let tests = sets.tests(ctx.device)?;
    let [elbo, log_likelihood] = model.evaluate(&tests, config.draws);
    Metrics::new([("elbo", elbo), ("log_likelihood", log_likelihood)]).showing(ctx, || pictures(&model, &tests))
}

/// Test pictures, what the decoder makes of their means, and draws from the prior.
fn pictures(model: &Model, tests: &Batch) -> Result<Vec<Picture>, Error> {
    let _guard = tch::no_grad_guard();
    let first = tests.head(Picture::COLUMNS);
    let noise = first.noise(0);
    let made = [model.reconstruct(&first.x, &noise), model.generate(&noise, &Condition::none())];
    let rows: Vec<Tensor> = std::iter::once(first.x).chain(made.into_iter().flatten()).collect();
    let caption = "test pictures; decoded from the mean of their posterior; decoded from draws of the prior";
    Ok(vec![Picture::rows(caption, &rows)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::largest;
    use pentimento_core::noise::init_normal;
    use pentimento_latent::bernoulli;
    use pentimento_train::Silent;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 200);
        Config { data, hidden: 32, latent: 4, images: 2000, batch: 50, lr: 3e-3, draws: 5, ..Config::default() }
    }

    fn model() -> Model {
        Model::new(&small(), [1, 8, 8], Learning::Bound, Device::Cpu, 1)
    }

    /// A picture of fair coins for each sample of the noise, `[B, D]`.
    fn coins(noise: &Noise) -> Tensor {
        bernoulli::binarise(&Tensor::zeros([noise.rows(), 1, 8, 8], (Kind::Float, Device::Cpu)), noise)
    }

    /// The encoder is reached through z alone here: a divergence-free bound must still move it.
    #[test]
    fn the_gradient_passes_through_the_draw() {
        let model = model();
        let noise = Noise::new(0, vec![0, 1]);
        let x = coins(&noise);
        model.log_px(&x, &model.posterior(&x).sample(&noise, Stream::Eps)).sum(Kind::Float).backward();
        for p in model.recognition.entries() {
            assert!(largest(&p.tensor.grad()) > 0.0, "{}", p.name);
        }
    }

    /// 1e5 draws at one picture: the estimates differ by noise of mean zero.
    #[test]
    fn both_estimates_have_the_same_mean() {
        let model = model();
        let n = 100_000;
        let noise = Noise::new(2, (0..n).collect());
        let rows = i64::try_from(n).unwrap();
        let x = coins(&Noise::new(2, vec![0]));
        let _guard = tch::no_grad_guard();
        let one = model.posterior(&x);
        let q = Gaussian { mean: one.mean.repeat([rows, 1]), logvar: one.logvar.repeat([rows, 1]) };
        let z = q.sample(&noise, Stream::Eps);
        let log_px = model.log_px(&x.repeat([rows, 1]), &z);
        let gap = estimate_a(&log_px, &q, &z) - estimate_b(&log_px, &q);
        let error = value(&gap.std(true)) / (n as f64).sqrt();
        assert!(value(&gap.mean(Kind::Double)).abs() < 4.0 * error && error < 0.02, "{error}");
    }

    /// A linear Gaussian decoder with orthogonal columns has a diagonal posterior in closed form. With it as q every single draw
    /// gives ln p(x) by L^A, and L^B gives it with the expected likelihood: ln N(x; b, W W^T + s^2 I).
    #[test]
    fn with_the_true_posterior_the_bound_is_the_likelihood() {
        let (d, z, s2) = (5, 2, 0.3);
        let draw = |name: &str, size: &[i64]| init_normal(4, name, size).to_kind(Kind::Double);
        let (q, _) = Tensor::linalg_qr(&draw("w", &[d, z]), "reduced");
        let scale = Tensor::from_slice(&[1.4, 0.6]);
        let (w, b, x) = (q * &scale, draw("b", &[d]), draw("x", &[1, d]));
        let precision = scale.square() / s2 + 1.0; // of the posterior, diagonal
        let mean = (&x - &b).matmul(&w) / s2 / &precision;
        let posterior = Gaussian { mean, logvar: -precision.log().unsqueeze(0) };
        let covariance = w.matmul(&w.tr()) + Tensor::eye(d, (Kind::Double, Device::Cpu)) * s2;
        let centred = &x - &b;
        let quadratic = centred.matmul(&covariance.inverse()).matmul(&centred.tr());
        let truth = -0.5 * (value(&quadratic) + value(&covariance.logdet()) + d as f64 * std::f64::consts::TAU.ln());
        let likelihood = |z: &Tensor| {
            let mean = z.matmul(&w.tr()) + &b;
            let logvar = mean.zeros_like() + f64::ln(s2);
            Gaussian { mean, logvar }.log_prob(&x)
        };
        for eps in [[0.0, 0.0], [1.5, -0.7], [-3.0, 2.0]] {
            let z = posterior.at(&Tensor::from_slice(&eps).view([1, 2]));
            let a = value(&estimate_a(&likelihood(&z), &posterior, &z).to_kind(Kind::Double).get(0));
            assert!((a - truth).abs() < 1e-5, "{a} {truth}");
        }
        let spread = (posterior.logvar.exp() * scale.square()).sum(Kind::Double) / (2.0 * s2);
        let b = value(&(estimate_b(&(likelihood(&posterior.mean) - spread), &posterior)).get(0));
        assert!((b - truth).abs() < 1e-5, "{b} {truth}");
    }

    /// Wake reaches the decoder alone, sleep the encoder alone: two layers of weight and bias each.
    #[test]
    fn wake_and_sleep_keep_to_their_own_network() {
        let reached = |model: &Model| {
            [&model.generative, &model.recognition]
                .map(|p| p.entries().iter().filter(|e| e.tensor.grad().defined()).count())
        };
        let noise = Noise::new(0, vec![0, 1]);
        let (awake, asleep) = (model(), model());
        awake.wake(&noisy(2, [1, 8, 8]), &noise).backward();
        asleep.sleep(&noise).backward();
        assert_eq!((reached(&awake), reached(&asleep)), ([4, 0], [0, 4]));
    }

    #[test]
    fn every_arm_learns_at_a_toy_size_and_more_draws_tighten_the_bound() {
        let config = small();
        let sets = config.data.open().unwrap();
        let untrained = Model::new(&config, [1, 8, 8], Learning::Bound, Device::Cpu, 0)
            .evaluate(&sets.tests(Device::Cpu).unwrap(), 5);
        let all = [(config.latent, Learning::WakeSleep), (config.latent, Learning::Bound), (3, Learning::Bound)];
        for arm in all {
            let metrics = try_run(|ctx| run(ctx, &config, &sets, arm), 0, &mut Silent).unwrap();
            let (elbo, likelihood) = (metrics["elbo"], metrics["log_likelihood"]);
            assert!(elbo > untrained[0] + 5.0, "{elbo} after {untrained:?}");
            assert!(likelihood > elbo && metrics.pictures.len() == 1);
        }
    }

    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        for likelihood in [Likelihood::Bernoulli, Likelihood::Gaussian] {
            let config = Config { likelihood, estimator: Estimator::A, ..config.clone() };
            let mut model = Model::new(&config, [1, 28, 28], Learning::Bound, Device::Cpu, 0);
            // 784 500 + 500, 500 40 + 40; 20 500 + 500, 500 784 + 784 (twice the outputs where there is a variance)
            let outputs = if likelihood == Likelihood::Bernoulli { 784 } else { 1568 };
            let counts: Vec<usize> = model.params().iter().map(|(_, p)| p.count()).collect();
            assert_eq!(counts, [20 * 500 + 500 + 500 * outputs + outputs, 392_500 + 20_040]);
            let [loss, moved] = try_step(&mut model, &noisy(2, [1, 28, 28]), config.lr);
            assert!(loss.is_finite() && moved > 0.0);
        }
    }
}
