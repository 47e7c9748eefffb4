//! # Gradient Origin Networks
//! arXiv 2007.02798 (2020) - reference: cwkx/GON
//!
//! **Gives.** An autoencoder without an encoder, and so of half the weights: the code of x is read off the decoder, by one
//!     backward pass.
//! **How.** F is the decoder and L(x, y) the loss of y for x, here 1/2 |x - y|^2, which is -ln N(x; y, I) up to a constant:
//!     z = -grad_{z0} L(x, F(z0))  at z0 = 0                                    (one gradient step of size 1 from the origin)
//!     G = L(x, F(z)),  minimised in the weights of F, through both its uses    (the GON loss)
//!     Empirical Bayes gives the reason: under a normal prior the posterior mean of a point at the origin lies along the gradient
//!     of its log-likelihood. With J the Jacobian of F at 0, z = J^T (x - F(0)) depends on the weights, so dG holds second
//!     derivatives: activations must be smooth. For a linear F(z) = W z + b it is z = W^T (x - b), the encoder of principal
//!     components, and with r = x - F(z)
//!     dG/dW = -r z^T - (x - b) (W^T r)^T
//!     With the code held fixed the second half is missing, and it alone tells F how long its codes should be.
//! **Needs.** `nn::BatchNorm`, and `Tensor::run_backward` with a graph of its own.
//! **Departs.** The loss is summed over a picture and not averaged over the batch, so that a code is its picture's alone; for
//!     that reason small has no batch normalisation, and half the width for the time. The paper's recipe has both, with the
//!     statistics of the batch at hand in either pass and in test, and the step that the released average amounts to. Pictures
//!     get a black border and are not resized. The variational form and the implicit one on coordinates are not here.
//! **Holds if.** After the same steps the squared error on test pictures is lower by a tenth than that of an autoencoder, the
//!     same decoder behind its mirror image, over seeds, the learning rate of each arm chosen on held-out pictures
//!     (`recipes/autoencoders/gon.toml`). Reported beside it: the gain over a code held fixed.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, middle, settings,
};
use pentimento_core::exact::value;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Learner, Noise, Params, Scope, Stream, Terms, Trained};
use pentimento_data::Dataset;
use pentimento_nn::layers::BatchNorm;
use pentimento_train::{Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "gon",
    family: "autoencoders",
    page: include_str!("gon.rs"),
    recipe: include_str!("../../../../recipes/autoencoders/gon.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// What stands between a convolution and its activation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Nothing.
    None,
    /// Batch normalisation by the statistics of the batch at hand, in training and in test.
    Batch,
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// Z, the number of latents.
    pub latent: i64,
    /// Channels at half the picture's resolution; each further halving doubles them.
    pub width: i64,
    /// What stands between a convolution and its activation.
    pub norm: Norm,
    /// Size of the gradient step from the origin: its factor.
    pub step: f64,
    /// Learning rates to choose from, for every arm.
    pub rates: Vec<f64>,
    /// Length of each trial of a rate.
    pub trial_images: u64,
    /// Length of training.
    pub images: u64,
    /// Images per step, and per pass in test.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 0),
            latent: 32,
            width: 16,
            norm: Norm::None,
            step: 1.0,
            rates: vec![1e-3],
            trial_images: 32_000,
            images: 96_000,
            batch: 64,
        }
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
        Ok(Box::new(Model::new(self, signature.input, Arm::Origin(Order::Second), device, seed)))
    }
}

/// L of each picture, `[B]`: half the squared distance.
fn misfit(x: &Tensor, y: &Tensor) -> Tensor {
    (x - y).square().flatten(1, -1).sum_dim_intlist(1, false, x.kind()) * 0.5
}

/// How the outer loss sees a code from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As a constant.
    First,
    /// As a function of the weights.
    Second,
}

/// z = -step grad L(x, F(z0)) at z0 = 0, `[B, Z]`. Rows do not meet unless F lets them. Works where gradients are off, too.
///
/// # Cost
/// One pass forward and one back; of second order the graph of both stays.
fn code_from_origin(f: impl Fn(&Tensor) -> Tensor, x: &Tensor, latent: i64, step: f64, order: Order) -> Tensor {
    tch::with_grad(|| {
        let z0 = Tensor::zeros([x.size()[0], latent], (x.kind(), x.device())).set_requires_grad(true);
        let loss = misfit(x, &f(&z0)).sum(x.kind());
        let kept = order == Order::Second;
        &Tensor::run_backward(&[loss], &[z0], kept, kept)[0] * -step
    })
}

/// Convolutions of kernel 4 with ELU between them: of stride 2, but for the one that meets the code.
struct Stack {
    /// Weight, bias, normalisation.
    layers: Vec<(Tensor, Tensor, Option<BatchNorm>)>,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToCode,
    ToPicture,
}

impl Stack {
    /// PyTorch's names and initial values; `channels` in the order of the way.
    fn new(p: &Scope, channels: &[i64], way: Way, norm: Norm) -> Self {
        let last = channels.len().saturating_sub(2);
        let layer = |(i, c): (usize, &[i64])| {
            let (a, b, p) = (c[0], c[1], p.sub(i));
            // The fan is counted on the second axis in both kinds of convolution.
            let size = if way == Way::ToCode { [b, a, 4, 4] } else { [a, b, 4, 4] };
            let bound = ((size[1] * 16) as f64).sqrt().recip();
            let norm = (norm == Norm::Batch && i < last).then(|| BatchNorm::new(&p.sub("norm"), b));
            (p.uniform("weight", &size, bound), p.uniform("bias", &[b], bound), norm)
        };
        Self { layers: channels.windows(2).enumerate().map(layer).collect(), way }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        let end = self.layers.len() - 1;
        for (i, (weight, bias, norm)) in self.layers.iter().enumerate() {
            let (stride, padding) = if i == if self.way == Way::ToCode { end } else { 0 } { (1, 0) } else { (2, 1) };
            h = match self.way {
                Way::ToCode => h.conv2d(weight, Some(bias), [stride; 2], [padding; 2], [1, 1], 1),
                Way::ToPicture => h.conv_transpose2d(weight, Some(bias), [stride; 2], [padding; 2], [0, 0], 1, [1, 1]),
            };
            if let Some(norm) = norm {
                h = norm.forward(&h);
            }
            h = if i < end { h.elu() } else { h };
        }
        h
    }
}

struct Model {
    config: Config,
    params: Params,
    decoder: Stack,
    /// Without it codes come from the origin, and are seen as `order` says.
    encoder: Option<Stack>,
    order: Order,
    /// Side of the decoder's pictures, 4 times a power of two.
    side: i64,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], arm: Arm, device: Device, seed: u64) -> Self {
        let params = Params::new(device, seed);
        let [c, h, w] = shape;
        let depth = (1..16).find(|d| 4_i64 << d >= h.max(w)).unwrap_or(16);
        let up: Vec<i64> =
            std::iter::once(config.latent).chain((0..depth).rev().map(|i| config.width << i)).chain([c]).collect();
        let down: Vec<i64> = up.iter().rev().copied().collect();
        let decoder = Stack::new(&params.root().sub("decoder"), &up, Way::ToPicture, config.norm);
        let (encoder, order) = match arm {
            Arm::Encoder => {
                (Some(Stack::new(&params.root().sub("encoder"), &down, Way::ToCode, config.norm)), Order::First)
            }
            Arm::Origin(order) => (None, order),
        };
        Self { config: config.clone(), params, decoder, encoder, order, side: 4 << depth }
    }

    /// Greys in [0, 1] with a black border, `[B, C, S, S]`.
    fn framed(&self, x: &Tensor) -> Tensor {
        let [width, height] = [3, 2].map(|axis| self.side - x.size()[axis]);
        let split = |all: i64| [all >> 1, all - (all >> 1)];
        ((x + 1.0) * 0.5).constant_pad_nd([split(width), split(height)].concat())
    }

    /// `[B, Z]` to `[B, C, S, S]`.
    fn decode(&self, z: &Tensor) -> Tensor {
        self.decoder.forward(&z.unsqueeze(-1).unsqueeze(-1)).sigmoid()
    }

    /// `x` is framed; returns `[B, Z]`.
    fn code(&self, x: &Tensor) -> Tensor {
        match &self.encoder {
            Some(encoder) => encoder.forward(x).flatten(1, -1),
            None => code_from_origin(|z| self.decode(z), x, self.config.latent, self.config.step, self.order),
        }
    }

    fn loss(&self, x: &Tensor) -> Tensor {
        let x = self.framed(x);
        misfit(&x, &self.decode(&self.code(&x))).mean(Kind::Float)
    }

    /// Framed pictures, their codes and reconstructions, a batch of training's size at a time.
    fn there_and_back(&self, batch: &Batch) -> [Tensor; 3] {
        let _guard = tch::no_grad_guard();
        let pass = |part: Batch| {
            let x = self.framed(&part.x);
            let z = self.code(&x).detach();
            let y = self.decode(&z);
            [x, z, y]
        };
        let parts: Vec<_> = batch.parts(self.config.batch).map(pass).collect();
        [0, 1, 2].map(|k| Tensor::cat(&parts.iter().map(|p| &p[k]).collect::<Vec<_>>(), 0))
    }

    /// Squared error per pixel of greys in [0, 1].
    fn evaluate(&self, batch: &Batch) -> f64 {
        let [x, _, y] = self.there_and_back(batch);
        value(&(x - y).square().mean(Kind::Double))
    }
}

// By hand and not in `SingleLoss`: normalisation spans the batch, so that micro-batches would change the loss.
impl Learner for Model {
    fn step(&mut self, batch: &Batch, _: &At, optimisers: &mut Optimisers) -> Terms {
        let loss = self.loss(&batch.x);
        loss.backward();
        optimisers.step("net");
        Terms::one("misfit", loss.detach())
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("net", &self.params)]
    }
    fn validate(&self, batch: &Batch, _: &At) -> Terms {
        Terms::one("error", Tensor::from(self.evaluate(batch)))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    fn encode(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        Some(self.code(&self.framed(x)).detach())
    }
    fn reconstruct(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        let ([h, w], y) = ([2, 3].map(|axis| x.size()[axis]), self.decode(&self.encode(x, noise)?));
        let [top, left] = [h, w].map(|n| (self.side - n) >> 1);
        Some(y.narrow(2, top, h).narrow(3, left, w) * 2.0 - 1.0)
    }
}

/// Where codes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// From a network of its own: the baseline.
    Encoder,
    /// From the origin.
    Origin(Order),
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.data.open()?;
    let arms = [
        ("autoencoder", "the decoder and its mirror image as encoder", Arm::Encoder),
        ("gon-detached", "codes from the origin, held fixed", Arm::Origin(Order::First)),
        ("gon", "codes from the origin, gradients through them", Arm::Origin(Order::Second)),
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
        |model, held| Ok(-model.evaluate(held)),
    )?;
    let tests = sets.tests(ctx.device)?;
    let weights = model.params.count() as f64;
    let values = [("error", model.evaluate(&tests)), ("rate", rate), ("weights", weights)];
    Metrics::new(values).showing(ctx, || pictures(&model, &tests))
}

/// Test pictures, what the decoder makes of their codes, and of draws from a normal fitted to all codes.
fn pictures(model: &Model, tests: &Batch) -> Result<Vec<Picture>, Error> {
    let _guard = tch::no_grad_guard();
    let [x, z, y] = model.there_and_back(tests);
    let (mean, n, columns) = (z.mean_dim(0, true, Kind::Float), z.size()[0], Picture::COLUMNS as i64);
    let centred = &z - &mean;
    let covariance =
        centred.tr().matmul(&centred) / n as f64 + Tensor::eye(z.size()[1], (Kind::Float, z.device())) * 1e-6;
    let noise = Noise::new(0, (0..Picture::COLUMNS as u64).collect());
    let eps = noise.normal(&[columns, z.size()[1]], z.device(), Stream::Start);
    let drawn = model.decode(&(mean + eps.matmul(&covariance.linalg_cholesky(false).tr())));
    let caption = "test pictures; decoded from their codes; decoded from draws of a normal fitted to the codes";
    Ok(vec![Picture::rows(caption, &[x, y, drawn].map(|t| t.narrow(0, 0, n.min(columns)) * 2.0 - 1.0))?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::{gap, largest};
    use pentimento_core::noise::init_normal;
    use pentimento_train::Silent;

    const ALL: [Arm; 3] = [Arm::Encoder, Arm::Origin(Order::First), Arm::Origin(Order::Second)];

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 200);
        let length = Config { trial_images: 320, images: 3840, batch: 32, ..Config::default() };
        Config { data, latent: 4, rates: vec![1e-6, 1e-2], ..length }
    }

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(4, name, size).to_kind(Kind::Double)
    }

    fn loss_of(f: impl Fn(&Tensor) -> Tensor, x: &Tensor, latent: i64, order: Order) -> Tensor {
        let z = code_from_origin(&f, x, latent, 1.0, order);
        misfit(x, &f(&z)).sum(Kind::Double)
    }

    /// A decoder that is deaf to z, or right at the origin already, gives the origin as the code.
    #[test]
    fn where_the_loss_is_flat_the_code_is_zero() {
        let (x, w) = (draw("x", &[2, 4]), draw("w", &[3, 4]));
        let code = |f: &dyn Fn(&Tensor) -> Tensor| code_from_origin(f, &x, 3, 1.0, Order::First);
        assert_eq!(largest(&code(&|z| z.matmul(&w.zeros_like()))), 0.0);
        assert_eq!(largest(&code(&|z| z.matmul(&w) + &x)), 0.0);
        assert!(largest(&code(&|z| z.matmul(&w))) > 0.1);
    }

    /// Every weight of a decoder with ELU and a sigmoid, moved a little to either side. With the code kept at its place the
    /// quotient is the gradient of first order; with the code made anew it is that of second order, and the two differ.
    #[test]
    fn the_gradient_through_the_code_is_that_of_finite_differences() {
        let (n, d, h, latent) = (3, 6, 5, 2);
        let x = draw("x", &[n, d]).sigmoid();
        let sizes: [(&str, &[i64]); 4] = [("a", &[latent, h]), ("c", &[h]), ("e", &[h, d]), ("g", &[d])];
        let weights: Vec<Tensor> = sizes.iter().map(|(name, s)| draw(name, s).set_requires_grad(true)).collect();
        let f = |w: &[Tensor], z: &Tensor| ((z.matmul(&w[0]) + &w[1]).elu().matmul(&w[2]) + &w[3]).sigmoid();
        let gradient =
            |order| Tensor::run_backward(&[loss_of(|z| f(&weights, z), &x, latent, order)], &weights, false, false);
        let (first, second) = (gradient(Order::First), gradient(Order::Second));
        let held = code_from_origin(|z| f(&weights, z), &x, latent, 1.0, Order::First);
        let (mut apart, h) = (0.0_f64, 1e-5);
        for k in 0..weights.len() {
            for i in 0..i64::try_from(weights[k].numel()).unwrap() {
                let at = |by: f64| {
                    let mut moved: Vec<Tensor> = weights.iter().map(|w| w.detach().copy()).collect();
                    let _ = moved[k].view(-1).get(i).g_add_scalar_(by);
                    moved.iter_mut().for_each(|w| *w = w.set_requires_grad(true));
                    let anew = loss_of(|z| f(&moved, z), &x, latent, Order::First);
                    let kept = misfit(&x, &f(&moved, &held)).sum(Kind::Double);
                    [anew, kept].map(|t| value(&t))
                };
                let (up, down) = (at(h), at(-h));
                let entry = |g: &[Tensor]| g[k].view(-1).double_value(&[i]);
                let quotient = [0, 1].map(|j| (up[j] - down[j]) / (2.0 * h));
                assert!((quotient[0] - entry(&second)).abs() < 1e-8, "{k} {i}: {quotient:?} {}", entry(&second));
                assert!((quotient[1] - entry(&first)).abs() < 1e-8, "{k} {i}: {quotient:?} {}", entry(&first));
                apart = apart.max((entry(&second) - entry(&first)).abs());
            }
        }
        assert!(apart > 0.05, "{apart}");
    }

    /// A linear decoder: z = W^T (x - b), and both halves of the gradient in W as the card has them. On orthonormal columns the
    /// second half is zero: there the code has the right length already.
    #[test]
    fn of_a_linear_decoder_code_and_gradient_have_their_closed_form() {
        let (n, d, latent) = (5, 7, 3);
        let (x, b, free) = (draw("x", &[n, d]), draw("b", &[d]), draw("w", &[d, latent]) * 0.4);
        let (orthonormal, _) = Tensor::linalg_qr(&free, "reduced");
        for (w, is_orthonormal) in [(free, false), (orthonormal, true)] {
            let w = w.detach().set_requires_grad(true);
            let f = |z: &Tensor| z.matmul(&w.tr()) + &b;
            let u = &x - &b;
            let z = u.matmul(&w);
            for step in [1.0, 0.3] {
                let found = code_from_origin(f, &x, latent, step, Order::First);
                assert!(gap(&found, &(&z * step)) < 1e-12);
            }
            let r = &x - f(&z);
            let (first, second) = (-r.tr().matmul(&z), -u.tr().matmul(&r.matmul(&w)));
            let gradient =
                |order| Tensor::run_backward(&[loss_of(f, &x, latent, order)], &[&w], false, false)[0].copy();
            assert!(gap(&gradient(Order::First), &first) < 1e-12);
            assert!(gap(&gradient(Order::Second), &(&first + &second)) < 1e-12);
            assert_eq!(largest(&second) < 1e-12, is_orthonormal, "{}", largest(&second));
        }
    }

    /// A picture's code is its own without normalisation, and not with that over the batch; gradients may be off around it.
    #[test]
    fn a_code_belongs_to_its_picture() {
        for norm in [Norm::None, Norm::Batch] {
            let model = Model::new(&Config { norm, ..small() }, [1, 7, 8], ALL[2], Device::Cpu, 1);
            let x = model.framed(&noisy(5, [1, 7, 8]).x);
            let _guard = tch::no_grad_guard();
            let all = model.code(&x);
            let apart = gap(&all.get(2), &model.code(&x.narrow(0, 2, 1)).get(0)) / largest(&all);
            assert_eq!(apart < 1e-4, norm == Norm::None, "{norm:?}: {apart}");
            assert!(largest(&all) > 0.0 && !model.decode(&all.detach()).requires_grad(), "they are off again after it");
        }
    }

    #[test]
    fn a_picture_is_framed_in_black() {
        let model = Model::new(&small(), [1, 7, 6], ALL[2], Device::Cpu, 1);
        let x = noisy(2, [1, 7, 6]).x;
        let framed = model.framed(&x);
        assert_eq!(framed.size(), [2, 1, 8, 8]);
        assert_eq!(largest(&framed.narrow(2, 7, 1)) + largest(&framed.narrow(3, 0, 1)), 0.0);
        assert_eq!(framed.narrow(2, 0, 7).narrow(3, 1, 6), (x + 1.0) * 0.5);
    }

    #[test]
    fn every_weight_is_reached_and_the_arms_differ_where_they_should() {
        let batch = noisy(4, [1, 8, 8]);
        let gradients = ALL.map(|arm| {
            let model = Model::new(&small(), [1, 8, 8], arm, Device::Cpu, 1);
            model.loss(&batch.x).backward();
            model.params.entries().into_iter().map(|p| (p.name, p.tensor.grad())).collect::<Vec<_>>()
        });
        for (name, g) in gradients.iter().flatten() {
            assert!(largest(g) > 0.0, "{name}");
        }
        assert_eq!((gradients[0].len(), gradients[1].len(), gradients[2].len()), (8, 4, 4));
        let apart = gradients[1].iter().zip(&gradients[2]).map(|(a, b)| gap(&a.1, &b.1)).fold(0.0, f64::max);
        assert!(apart > 1e-6, "{apart}");
    }

    #[test]
    fn every_arm_learns_at_a_toy_size_with_the_better_rate() {
        let config = small();
        let sets = config.data.open().unwrap();
        let x = (sets.tests(Device::Cpu).unwrap().x + 1.0) * 0.5;
        let mean = value(&(&x - x.mean_dim(0, true, Kind::Float)).square().mean(Kind::Double));
        for arm in ALL {
            let metrics = try_run(|ctx| run(ctx, &config, &sets, arm), 0, &mut Silent).unwrap();
            let error = metrics["error"];
            assert!(error < 0.8 * mean, "{arm:?}: {error}, the mean picture {mean}");
            assert!((metrics["rate"] - 1e-2).abs() < 1e-12 && metrics.pictures.len() == 1);
        }
    }

    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let mut model = Model::new(&config, [1, 28, 28], ALL[2], Device::Cpu, 0);
        // 4 x 4 kernels 32-64-32-16-1 with biases, and two numbers per normalised channel; an autoencoder has twice that.
        assert_eq!((model.params.count(), model.side), (16 * (2048 + 2048 + 512 + 16) + 113 + 2 * 112, 32));
        let twice = Model::new(&config, [1, 28, 28], Arm::Encoder, Device::Cpu, 0).params.count();
        assert_eq!(twice, 2 * model.params.count() - 113 + 144);
        let [loss, moved] = try_step(&mut model, &noisy(3, [1, 28, 28]), 1e-4);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
