//! # SODA: Bottleneck Diffusion Models for Representation Learning
//! arXiv 2311.17901 (2023) - reference: dorarad/soda (no code), FutureXiang/soda (unofficial)
//!
//! **Gives.** An encoder whose few numbers say what a picture shows, learned by drawing another view of it; and a decoder that draws
//!     from these numbers, as a whole or by parts.
//! **How.** A view x' is encoded, z = E(x') in R^Z, and another view x of the same picture is denoised under it:
//!     L = |eps - eps_hat(x_t, t, z)|^2,  x_t = alpha x + sigma eps
//!     Only z tells the decoder of x', and x' is not x: what both views share is worth its place in z, what is one view's alone is
//!     not. In each residual block of the decoder, a U-Net, z acts after time, on the normalised map h,
//!     h -> z_s (t_s h + t_b) + z_b,   (t_s, t_b) linear in t, (z_s, z_b) in z
//!     Layer modulation: z has m sections, each for one resolution, on the way down and up again. Layer masking: in training
//!     a random part of the sections is zero, and at times all, so that each can do without the others and guidance has an
//!     unconditional half. Times dwell at medium noise, where what z says decides most: alpha^2 = 2/pi arccos(sqrt(t)).
//! **Needs.** `nn::Resnet`, `nn::LatentConfig` (a U-Net's latent), `nn::Views`, `diffusion::Path::VpInverseCosine`,
//!     `DiffusionLoss::per_sample_under`, `claims::FactorTests`; for the rival `latent::Gaussian`, `nn::ConvDecoder`.
//! **Departs.** Sprites in place of ImageNet and Shapes3D, 16 pixels for both views; crops alone, no RandAugment. Three outlines
//!     without a full symmetry, so that rotation is to be seen. The encoder has group normalisation, and small has no mean
//!     over its last map, which would hide places from the rivals. Scales are 1 + linear, as in ADM. Weights at the end of a
//!     cosine of the rate and no average of them; gradients are clipped apart for encoder and decoder. How often sections are masked
//!     is not published: each with a probability of its own. Middle blocks have a section where there is one more than levels.
//!     No cross-attention to z and no camera rays: no poses are known.
//!     The encoder learns at twice the rate of the beta-VAE's, whose gradients are not clipped; weights of both decay by 0.05.
//! **Holds if.** Linear probes for what the claim counts as kept (outline, colour, size, rotation; an enlarged crop does change the size,
//!     see the diagnosis) are better by 5 points than with the same networks taught to reconstruct the very view that is encoded, over
//!     seeds (`recipes/diffusion-representations/soda.toml`). Reported beside it: DCI disentanglement is above beta-VAE's by 0.05.

use pentimento_claims::{
    Budget, Claim, Context, Error, FACTORS, FactorTests, Method, Metrics, Picture, Recipe, Trainable, Trainer, settings,
};
use pentimento_core::optim::Optimisers;
use pentimento_core::{
    At, Batch, Condition, Draw, Learner, Noise, Objective, Params, SingleLoss, Stream, Terms, Trained,
};
use pentimento_data::sprites::{Mode, Shape, Sprites, SpritesConfig};
use pentimento_data::{Dataset, Open};
use pentimento_diffusion::{ClassifierFree, Clipped, Ddim, DiffusionLoss, Grid, Path, Prediction, Walk};
use pentimento_latent::{Gaussian, principal_directions};
use pentimento_nn::{
    ConvDecoder, LatentConfig, NetworkConfig, Pyramid, Resnet, ResnetConfig, ResnetTop, UnetConfig, Views,
};
use pentimento_train::{Schedule, Signature, TrainTable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "soda",
    family: "diffusion-representations",
    page: include_str!("soda.rs"),
    recipe: include_str!("../../../../recipes/diffusion-representations/soda.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The world, on its full grid of factors.
    pub world: SpritesConfig,
    /// Share of the grid that is never learned from: probes are fitted, chosen and judged there.
    pub held: f64,
    /// How views are made.
    pub views: Views,
    /// E.
    pub encoder: ResnetConfig,
    /// The decoder, its latent apart.
    pub network: UnetConfig,
    /// Z, and the number of latents of the beta-VAE.
    pub latent: i64,
    /// m, the sections of z.
    pub sections: i64,
    /// How often all of z is dropped in training.
    pub drop: f64,
    /// How often a section is, each by itself.
    pub mask: f64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Largest learning rate of the decoder.
    pub lr: f64,
    /// Values of beta that the rival chooses from, by its disentanglement.
    pub betas: Vec<f64>,
    /// Length of each trial of a beta.
    pub trial_images: u64,
}

impl Default for Config {
    fn default() -> Self {
        let shapes = vec![Shape::Square, Shape::Triangle, Shape::Cross];
        let (rotations, steps) = (5, [5, 8, 8]);
        let world = SpritesConfig {
            px: 24,
            shapes,
            scale: [0.1, 0.18],
            rotations,
            mode: Mode::Grid,
            steps,
            ..SpritesConfig::default()
        };
        let [channels, blocks, groups] = [16, 1, 8].map(Some);
        Self {
            world,
            held: 0.2,
            views: Views { area: [0.5, 1.0], ratio: 1.0, flip: 0.0, jitter: 0.0 },
            encoder: ResnetConfig {
                blocks: vec![1; 3],
                width: 16,
                groups: 8,
                top: ResnetTop::Whole,
                ..ResnetConfig::default()
            },
            network: UnetConfig { channels, blocks, groups, ..UnetConfig::default() },
            latent: 32,
            sections: 4,
            drop: 0.1,
            mask: 0.1,
            images: 128_000,
            batch: 64,
            lr: 1e-3,
            betas: vec![0.25, 1.0, 4.0],
            trial_images: 32_000,
        }
    }
}

impl Config {
    fn decoder(&self) -> NetworkConfig {
        let latent = Some(LatentConfig { width: self.latent, sections: self.sections });
        NetworkConfig::Unet(UnetConfig { latent, ..self.network.clone() })
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        Ok(FactorTests::learned(&Arc::new(Sprites::new(self.world.clone())?), self.held))
    }
    fn options(&self) -> Open {
        Open { sprites: Some(self.world.clone()), ..Open::default() }
    }
    fn table(&self) -> TrainTable {
        let (schedule, weight_decay) = (Schedule::Cosine, 0.05);
        TrainTable { schedule, weight_decay, ..TrainTable::new(self.images, self.batch, self.lr) }
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(Model::new(self, signature.input, Aim::Other, device, seed)?))
    }
}

const PATH: Path = Path::VpInverseCosine;

/// What the decoder is to draw from what the encoder saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Another view.
    Other,
    /// The very view that is encoded.
    Same,
}

struct Model {
    config: Config,
    aim: Aim,
    shape: [i64; 3],
    params: Params,
    encoder: Resnet,
    decoder: DiffusionLoss,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], aim: Aim, device: Device, seed: u64) -> Result<Self, Error> {
        let (params, weights) = (Params::new(device, seed), Params::new(device, seed));
        let encoder = config.encoder.build(&params.root(), shape, config.latent)?;
        let network = config.decoder().build(&weights.root(), shape, 0)?;
        let decoder = DiffusionLoss::stratified(network, weights, (PATH, Prediction::Epsilon), 0.0);
        Ok(Self { config: config.clone(), aim, shape, params, encoder, decoder })
    }

    /// The view that is encoded and the one that is drawn.
    fn views(&self, x: &Tensor, noise: &Noise) -> [Tensor; 2] {
        let draw = |k| self.config.views.draw(x, &noise.at_step(k));
        let source = draw(0);
        let target = match self.aim {
            Aim::Other => draw(1),
            Aim::Same => source.shallow_clone(),
        };
        [source, target]
    }

    /// z with sections at zero, `[B, Z]`: all of them with one probability, else each with another.
    fn masked(&self, z: &Tensor, noise: &Noise) -> Tensor {
        let m = self.config.sections;
        let u = noise.uniform(&[z.size()[0], m + 1], z.device(), Stream::Drop);
        let kept = u.narrow(1, 0, m).ge(self.config.mask).logical_and(&u.narrow(1, m, 1).ge(self.config.drop));
        z * kept.to_kind(Kind::Float).repeat_interleave_self_int(self.config.latent.div_euclid(m), 1, None::<i64>)
    }

    fn loss(&self, batch: &Batch, seed: u64) -> Tensor {
        let noise = batch.noise(seed);
        let [source, target] = self.views(&batch.x, &noise);
        let z = self.masked(&self.encoder.forward(&source), &noise);
        let target = Batch { x: target, y: None, factors: None, ..batch.slice(0, batch.len()) };
        self.decoder.per_sample_under(&target, &Condition::vectors(z), &mut |_, _| {}).mean(Kind::Float)
    }

    /// Pictures of z, `[N, C, H, W]`, each from the noise of its sample.
    fn paint(&self, z: &Tensor, noise: &Noise) -> Tensor {
        const SCALE: f64 = 1.5;
        const STEPS: usize = 25;
        let guided = ClassifierFree::new(Clipped::new(self.decoder.denoiser(), 1.0), SCALE, [0.0, 1.0]);
        let levels = Grid::Uniform.levels(&PATH, STEPS);
        let walk = Walk { step: &Ddim { eta: 0.0 }, levels: &levels, noise };
        walk.draw(&guided, &self.shape, z.device(), &Condition::vectors(z.shallow_clone()))
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let loss = self.loss(batch, at.seed);
        loss.backward();
        let lr = optimisers.lr;
        optimisers.step("decoder");
        optimisers.lr = 2.0 * lr;
        optimisers.step("encoder");
        optimisers.lr = lr;
        Terms::one("diffusion", loss.detach())
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("encoder", &self.params), ("decoder", self.decoder.params())]
    }
    fn draw(&self) -> Option<Arc<dyn Draw>> {
        self.decoder.draw()
    }
    fn validate(&self, batch: &Batch, at: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        Terms::one("diffusion", self.loss(batch, at.seed))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    fn encode(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        Some(self.encoder.forward(x))
    }
    /// Drawn anew from what E says of them.
    fn reconstruct(&self, x: &Tensor, noise: &Noise) -> Option<Tensor> {
        Some(self.paint(&self.encoder.forward(x), noise))
    }
}

/// The beta-VAE: the same encoder, for means and log variances; 1/2 |x - x_hat|^2 + beta KL(q(z|x) || N(0, I)).
struct BetaVae {
    params: Params,
    encoder: Resnet,
    decoder: ConvDecoder,
    beta: f64,
}

impl BetaVae {
    fn new(config: &Config, shape: [i64; 3], beta: f64, device: Device, seed: u64) -> Result<Self, Error> {
        let params = Params::new(device, seed);
        let encoder = config.encoder.build(&params.root().sub("encoder"), shape, 2 * config.latent)?;
        let pyramid = Pyramid::doubling(shape, config.encoder.width, 3);
        let decoder = ConvDecoder::new(&params.root().sub("decoder"), &pyramid, config.latent)?;
        Ok(Self { params, encoder, decoder, beta })
    }

    fn posterior(&self, x: &Tensor) -> Gaussian {
        Gaussian::from_moments(&self.encoder.forward(x))
    }
}

impl Objective for BetaVae {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        let q = self.posterior(&batch.x);
        let x_hat = self.decoder.forward(&q.sample(&batch.noise(at.seed), Stream::Eps));
        let n = batch.len() as f64;
        let misfit = (x_hat - &batch.x).square().sum(Kind::Float) * (0.5 / n);
        Terms(vec![("misfit".into(), misfit), ("kl".into(), q.kl().mean(Kind::Float) * self.beta)])
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

/// What an arm learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    BetaVae,
    /// Encoder and decoder of the paper.
    Bottleneck(Aim),
}

/// The configuration with its world.
struct Task {
    config: Config,
    world: Arc<Sprites>,
    /// The part to learn from.
    learned: Arc<dyn Dataset>,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("beta-vae", "the same encoder in a beta-VAE, its beta chosen", Arm::BetaVae),
        ("same-view", "the same networks and crops; what is encoded is drawn", Arm::Bottleneck(Aim::Same)),
        ("soda", "one crop is encoded, another drawn", Arm::Bottleneck(Aim::Other)),
    ];
    Ok(Claim::of(json!(task.config), vec![task.world.fingerprint()], task, arms, Task::run))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        let world = Arc::new(Sprites::new(config.world.clone())?);
        let learned = FactorTests::learned(&world, config.held);
        let task = Self { config, world, learned };
        // Whatever does not fit is said before training.
        task.config.decoder().cost(task.world.size(), 0)?;
        Ok(task)
    }

    fn measure(&self, tests: &FactorTests, encode: &dyn Fn(&Tensor) -> Tensor) -> Result<Metrics, Error> {
        /// The first so many factors are averaged as kept, the rest as places; a crop enlarges what it keeps, so that size is kept in
        /// name only.
        const KEPT: usize = 4;
        let codes = tests.read(encode)?;
        let scores = codes.linear()?;
        let mean = |s: &[f64]| s.iter().sum::<f64>() / s.len() as f64;
        let (kept, place) = (mean(&scores[..KEPT]), mean(&scores[KEPT..]));
        let mut metrics =
            Metrics::new([("kept", kept), ("place", place), ("disentanglement", codes.dci()?.disentanglement)]);
        metrics.values.extend(FACTORS.iter().zip(scores).map(|(name, score)| ((*name).into(), score)));
        Ok(metrics)
    }

    fn bottleneck(&self, ctx: &mut Context, aim: Aim) -> Result<Metrics, Error> {
        let mut model = Model::new(&self.config, self.world.size(), aim, ctx.device, ctx.seed)?;
        ctx.train(&mut model, &self.learned, &self.config.table(), ctx.seed)?;
        let tests = FactorTests::new(&self.world, self.config.held, ctx.device)?;
        let metrics = self.measure(&tests, &|x| model.encoder.forward(x))?;
        if aim == Aim::Same {
            return Ok(metrics);
        }
        metrics.showing(ctx, || self.pictures(&model, tests.judged()))
    }

    fn beta_vae(&self, ctx: &mut Context) -> Result<Metrics, Error> {
        let (c, tests) = (&self.config, FactorTests::new(&self.world, self.config.held, ctx.device)?);
        let train = |ctx: &mut Context, images: u64, beta: f64| -> Result<BetaVae, Error> {
            let model = BetaVae::new(c, self.world.size(), beta, ctx.device, ctx.seed)?;
            let mut learner = SingleLoss::new(model, Kind::Float);
            // Both terms are sums over a picture: a bound on their gradient would be a bound on the rate.
            ctx.train(&mut learner, &self.learned, &TrainTable { images, clip: 0.0, ..c.table() }, ctx.seed)?;
            Ok(learner.into_objective())
        };
        let beta = ctx.choose(&c.betas, |ctx, beta| {
            let model = train(ctx, c.trial_images, *beta)?;
            Ok(tests.read(&|x| model.posterior(x).mean)?.dci_of_trial()?.disentanglement)
        })?;
        let model = train(ctx, c.images, beta)?;
        let mut metrics = self.measure(&tests, &|x| model.posterior(x).mean)?;
        metrics.put("beta", beta);
        Ok(metrics)
    }

    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        match arm {
            Arm::BetaVae => self.beta_vae(ctx),
            Arm::Bottleneck(aim) => self.bottleneck(ctx, aim),
        }
    }

    /// Pictures drawn again from their z; a picture with sections of others; and one moved along what varies most.
    fn pictures(&self, model: &Model, x: &Tensor) -> Result<Vec<Picture>, Error> {
        const COLUMNS: u8 = 9;
        const DIRECTIONS: i64 = 6;
        let _guard = tch::no_grad_guard();
        let all = model.encoder.forward(&x.narrow(0, 0, x.size()[0].min(500)));
        // Neighbours on the grid look alike: columns are far apart.
        let n = i64::from(COLUMNS);
        let columns = Tensor::arange(n, (Kind::Int64, x.device())) * all.size()[0].div_euclid(n);
        let (x, z) = (x.index_select(0, &columns), all.index_select(0, &columns));
        let fresh = |from: u64| Noise::new(0, (from..).take(COLUMNS.into()).collect());
        let one = Noise::new(0, vec![0; COLUMNS.into()]);
        let draw = |z: &Tensor, noise: &Noise| model.paint(z, noise);
        let again = [x.shallow_clone(), draw(&z, &fresh(0)), draw(&z, &fresh(100))];
        let (m, base) = (self.config.sections, z.narrow(0, 0, 1).repeat([n, 1]));
        let width = self.config.latent.div_euclid(m);
        let mixed = (0..m).map(|k| {
            let mix = base.copy();
            mix.narrow(1, k * width, width).copy_(&z.narrow(1, k * width, width));
            draw(&mix, &one)
        });
        let mixed: Vec<Tensor> = std::iter::once(x.shallow_clone()).chain(mixed).collect();
        let amounts = Tensor::linspace(-2.0, 2.0, n, (Kind::Float, x.device())).unsqueeze(1);
        let axes = principal_directions(&all, DIRECTIONS.min(self.config.latent));
        let moved: Vec<Tensor> = axes.split(1, 0).iter().map(|axis| draw(&(&base + &amounts * axis), &one)).collect();
        Ok(vec![
            Picture::rows("held-out pictures; drawn from what the encoder says of them, under two noises", &again)?,
            Picture::rows(
                "pictures; the first of them with one section of z from each: full resolution first, the middle last",
                &mixed,
            )?,
            Picture::rows(
                "the first picture's z moved along the directions in which z varies most, a row each",
                &moved,
            )?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noised, noisy, try_run, try_step};
    use pentimento_core::exact::{gap, value};
    use pentimento_core::{Denoiser, noise::init_normal};
    use pentimento_data::gather;
    use pentimento_nn::open_gates;
    use pentimento_train::Silent;

    const SHAPE: [i64; 3] = [3, 16, 16];

    fn small() -> Config {
        let colours = ["red", "green", "blue"].map(String::from).into();
        let world = SpritesConfig { px: 16, colours, rotations: 2, steps: [2, 4, 4], ..Config::default().world };
        let [channels, groups] = [8, 4].map(Some);
        let network = UnetConfig { channels, groups, mult: Some(vec![1.0, 2.0]), ..Config::default().network };
        let encoder = ResnetConfig { blocks: vec![1, 1], width: 8, groups: 4, ..Config::default().encoder };
        let sizes = Config { world, network, encoder, latent: 12, sections: 3, held: 0.5, ..Config::default() };
        Config { betas: vec![0.1, 1.0], trial_images: 500, images: 3000, batch: 50, lr: 4e-3, ..sizes }
    }

    /// With the zeros that a U-Net begins with replaced: z matters.
    fn model(config: &Config, aim: Aim) -> Model {
        let model = Model::new(config, SHAPE, aim, Device::Cpu, 3).unwrap();
        open_gates(model.decoder.params(), 4);
        model
    }

    #[test]
    fn masks_take_whole_sections_as_often_as_they_should() {
        let config = Config { drop: 0.2, mask: 0.3, ..small() };
        let (n, noise) = (4000, Noise::new(1, (0..4000).collect()));
        let ones = Tensor::ones([n, 12], (Kind::Float, Device::Cpu));
        let kept = model(&config, Aim::Other).masked(&ones, &noise);
        let sections = kept.view([n, 3, 4]);
        assert_eq!(sections.amin([2].as_slice(), false), sections.amax([2].as_slice(), false), "all or nothing");
        let share = |t: &Tensor| value(&t.mean(Kind::Double));
        let silent = kept.amax([1].as_slice(), false).eq(0.0).to_kind(Kind::Float);
        assert!((share(&kept) - 0.8 * 0.7).abs() < 0.02, "{}", share(&kept));
        assert!((share(&silent) - (0.2 + 0.8 * 0.027)).abs() < 0.02, "{}", share(&silent));
        let one = Noise::new(1, vec![17]);
        assert_eq!(model(&config, Aim::Other).masked(&ones.narrow(0, 0, 1), &one).get(0), kept.get(17));
        let never = Config { drop: 0.0, mask: 0.0, ..small() };
        assert_eq!(model(&never, Aim::Other).masked(&ones, &noise), ones);
    }

    /// Scale 1 is the condition alone, scale 0 the null z alone, which is what no z at all says.
    #[test]
    fn guidance_has_its_two_halves() {
        let model = model(&small(), Aim::Other);
        let _guard = tch::no_grad_guard();
        let (x, z) = (init_normal(1, "x", &[2, 3, 16, 16]), init_normal(1, "z", &[2, 12]));
        let (level, c) = (PATH.level(0.4), Condition::vectors(z));
        let guided =
            |scale| ClassifierFree::new(model.decoder.denoiser(), scale, [0.0, 1.0]).denoise(&x, &level, &c).x0;
        let plain = |c: &Condition| model.decoder.denoiser().denoise(&x, &level, c).x0;
        let (with, without) = (plain(&c), plain(&Condition::none()));
        assert!(gap(&with, &without) > 1e-3);
        assert_eq!((guided(1.0), guided(0.0)), (with.shallow_clone(), without.shallow_clone()));
        assert!(gap(&guided(3.0), &(&without + (&with - &without) * 3.0)) < 1e-4);
    }

    /// The network's own order of sections is the one in which the page masks and mixes.
    #[test]
    fn a_masked_section_is_one_the_decoder_does_not_hear() {
        let model = model(&small(), Aim::Other);
        let z = init_normal(2, "z", &[1, 12]).set_requires_grad(true);
        let (x, level) = (init_normal(2, "x", &[1, 3, 16, 16]), PATH.level(0.5));
        for e in model.decoder.params().entries().iter().filter(|e| e.name.contains("cond_emb_layers")) {
            // Layers of the middle are left alone.
            if !e.name.starts_with("middle_block") {
                let _guard = tch::no_grad_guard();
                let _ = e.tensor.shallow_clone().zero_();
            }
        }
        let c = Condition::vectors(z.shallow_clone());
        model.decoder.denoiser().denoise(&x, &level, &c).x0.square().sum(Kind::Float).backward();
        let heard: Vec<bool> = Vec::<f32>::try_from(z.grad().view(-1)).unwrap().iter().map(|g| *g != 0.0).collect();
        assert_eq!(heard, [[false; 8].as_slice(), &[true; 4]].concat(), "two levels, then the middle");
    }

    #[test]
    fn the_arms_encode_the_same_crop_and_draw_it_or_another() {
        let (x, noise) = (noisy(4, [3, 16, 16]).x, Noise::new(5, vec![0, 1, 2, 3]));
        let [source, target] = model(&small(), Aim::Same).views(&x, &noise);
        assert_eq!(source, target);
        let [a, b] = model(&small(), Aim::Other).views(&x, &noise);
        assert_eq!(a, source);
        assert!(gap(&a, &b) > 0.1 && gap(&a, &x) > 0.1);
    }

    /// The first step of Adam is as long as its rate.
    #[test]
    fn the_encoder_learns_at_twice_the_rate() {
        let mut model = model(&small(), Aim::Other);
        let copy = |p: &Params| p.entries().iter().map(|e| e.tensor.copy()).collect::<Vec<_>>();
        let before = [copy(&model.params), copy(model.decoder.params())];
        let batch = noised(&model, 8, [3, 16, 16], None);
        let [loss, _] = try_step(&mut model, &batch, 1e-3);
        let after = [copy(&model.params), copy(model.decoder.params())];
        let [encoder, decoder] =
            [0, 1].map(|k| before[k].iter().zip(&after[k]).map(|(a, b)| gap(a, b)).fold(0.0, f64::max));
        assert!(
            loss > 0.0 && (encoder / 2e-3 - 1.0).abs() < 1e-2 && (decoder / 1e-3 - 1.0).abs() < 1e-2,
            "{encoder} {decoder}"
        );
    }

    /// Weights of zero: q is the prior and every reconstruction 0, so the loss is half the squared length of the pictures.
    #[test]
    fn the_rivals_loss_has_its_closed_form() {
        let model = BetaVae::new(&small(), SHAPE, 7.0, Device::Cpu, 0).unwrap();
        let _guard = tch::no_grad_guard();
        let (batch, at) = (noisy(6, [3, 16, 16]), At { seed: 1, step: 0, images: 0 });
        for e in model.params.entries() {
            let _ = e.tensor.shallow_clone().zero_();
        }
        let want = value(&batch.x.square().sum(Kind::Double)) / 12.0;
        assert!((value(&model.loss(&batch, &at).total()) / want - 1.0).abs() < 1e-5);
        let bias = model.params.entries().into_iter().find(|e| e.name == "encoder.fc.bias").unwrap();
        let _ = bias.tensor.shallow_clone().narrow(0, 0, 12).fill_(0.5); // means: KL = 12 * 0.5^2 / 2
        let got = value(&model.loss(&batch, &at).total());
        assert!((got - want - 7.0 * 1.5).abs() < 1e-5 * want, "{got} {want}");
    }

    #[test]
    fn every_arm_learns_at_a_toy_size() {
        let task = Task::new(small()).unwrap();
        let run = |arm| try_run(|ctx| task.run(ctx, arm), 0, &mut Silent).unwrap();
        let rival = run(Arm::BetaVae);
        assert!(rival["colour"] > 0.7 && rival["place"] > 0.7, "{rival:?}");
        let [same, soda] = [Aim::Same, Aim::Other].map(|aim| run(Arm::Bottleneck(aim)));
        for m in [&same, &soda] {
            assert!(m["colour"] > 0.7 && (0.0..=1.0).contains(&m["disentanglement"]), "{m:?}");
        }
        assert_eq!((same.pictures.len(), soda.pictures.len()), (0, 3));
    }

    /// Colour is read off an untrained encoder, too; noise is not told apart by an untrained decoder.
    #[test]
    fn a_model_that_learned_denoises_better_than_one_that_did_not() {
        let task = Task::new(small()).unwrap();
        let run = |ctx: &mut Context| {
            let mut model = Model::new(&task.config, SHAPE, Aim::Other, ctx.device, 0)?;
            let mut host = gather(task.learned.as_ref(), &(0..100).collect::<Vec<u64>>())?;
            model.draw().unwrap().draw(&mut host, 1);
            let (batch, at) = (host.upload(ctx.device), At { seed: 1, step: 0, images: 0 });
            let before = value(&model.validate(&batch, &at).total());
            ctx.train(&mut model, &task.learned, &task.config.table(), 0)?;
            let after = value(&model.validate(&batch, &at).total());
            assert!(after < 0.7 * before, "{after} {before}");
            Ok(Metrics::default())
        };
        try_run(run, 0, &mut Silent).unwrap();
    }

    /// Millions of weights as the public code prints them, where z is not cut: 11 + 40.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let whole = Config { sections: 1, ..config.clone() }.decoder().cost([3, 32, 32], 0).unwrap().params;
        let mut model = Model::new(&config, [3, 32, 32], Aim::Other, Device::Cpu, 0).unwrap();
        let millions = |n: f64| (n / 1e6).round();
        assert_eq!([model.params.count() as f64, whole as f64].map(millions), [11.0, 40.0]);
        let batch = noised(&model, 2, [3, 32, 32], None);
        let [loss, moved] = try_step(&mut model, &batch, config.lr);
        assert!(loss.is_finite() && moved > 0.0);
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        assert!(Task::new(Config { sections: 5, latent: 40, ..small() }).is_err(), "two levels and the middle");
    }
}
