//! # Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models
//! arXiv 2307.00619 (2023) - reference: LituRout/PSLD
//!
//! **Gives.** Pictures from what a known linear map left of them, by a latent diffusion model that was trained for no such thing.
//! **How.** Encoder E and decoder D lead from pictures to latents z and back; y = A x was measured. Each step z -> z' of a sampler of
//!     latents is corrected by gradients in z that pass through the clean estimate z0_hat(z), D and E:
//!     z' - eta grad |y - A D(z0_hat)| - gamma grad |z0_hat - E(A^T y + (I - A^T A) D(z0_hat))|     (algorithm 2)
//!     The rows of A are orthonormal: E is given D(z0_hat) with all that was measured put in its place. The first term alone is
//!     latent DPS, and many latents explain y. The second *glues*: it asks for one that the autoencoder gives back, so that what
//!     was filled in fits what was measured at the seams. Norms are not squared.
//! **Needs.** `diffusion::{Operator, Steered, LatentLoss}`, `nn::GridCodec`, `latent::Gaussian`, `claims::Judge`, `measure::lpips`.
//! **Departs.** In place of Stable Diffusion and the FFHQ model, an autoencoder without attention, adversary and codebook, and a small
//!     transformer on its latents, trained here; 100 steps in place of 1000, and weights to match, chosen on held-out pictures.
//!     Super-resolution is from means of blocks with their own adjoint; the released code reduces bicubically and takes nearest
//!     neighbours for the adjoint. That code also adds fresh noise to A D(z0_hat), which is left out, and pastes the true pixels into
//!     inpainted pictures; here the measured ones are pasted.
//! **Holds if.** With a box to fill, pictures come nearer to the true ones in a judge's features than by latent DPS, by 5 %, over
//!     seeds, both tuned alike (`recipes/inverse-problems/psld.toml`). Reported beside it: seams, scattered holes, super-resolution.
//!     The theorem's linear model is a test: there gluing has the fixed point of latent DPS, unless latents outnumber what E keeps.

use pentimento_claims::{
    Budget, Claim, Context, Error, Judge, JudgeConfig, Method, Metrics, Opened, Picture, Recipe, Sets, part, settings,
};
use pentimento_core::exact::value;
use pentimento_core::{At, Batch, Codec, Condition, Noise, Objective, Params, SingleLoss, Stream, Terms};
use pentimento_data::Dataset;
use pentimento_diffusion::{
    BlockAverage, DiffusionLoss, Grid, LatentLoss, Mask, Operator, Path, Prediction, Sampler, Steered, Walk, sample,
};
use pentimento_latent::Gaussian;
use pentimento_measure::{Layer, Pictures, lpips};
use pentimento_nn::{DitConfig, GridCodec, GridCodecConfig, NetworkConfig};
use pentimento_train::{Schedule, TrainTable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "psld",
    family: "inverse-problems",
    page: include_str!("psld.rs"),
    recipe: include_str!("../../../../recipes/inverse-problems/psld.toml"),
    settings: settings::<Config>,
    model: None,
    claim,
};

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// In whose features pictures are compared.
    pub judge: JudgeConfig,
    /// Share of the pictures that only the judge learns from.
    pub judge_share: f64,
    /// E and D.
    pub codec: GridCodecConfig,
    /// Weight of the divergence of a latent in nats, against absolute errors summed over pixels.
    pub kl: f64,
    /// Images that E and D learn from.
    pub codec_images: u64,
    /// Their largest learning rate.
    pub codec_lr: f64,
    /// The diffusion model of latents.
    pub network: NetworkConfig,
    /// Its noise path.
    pub path: Path,
    /// What its network predicts.
    pub prediction: Prediction,
    /// Images that it learns from.
    pub images: u64,
    /// Images per step, of both trainings.
    pub batch: usize,
    /// Its largest learning rate.
    pub lr: f64,
    /// How both rates go on.
    pub schedule: Schedule,
    /// The sampler that is corrected.
    pub sampler: Sampler,
    /// Its steps.
    pub steps: usize,
    /// Standard deviation of the noise on measured pixels, and on means of blocks.
    pub noise: f64,
    /// Side of the box, and its least distance from the border.
    pub hole: [i64; 2],
    /// Share of scattered pixels that are lost, least and most.
    pub lost: [f64; 2],
    /// Side of a block.
    pub block: i64,
    /// Held-out pictures on which an arm chooses its weights.
    pub validation: usize,
    /// Weights [eta, gamma] that latent DPS chooses from.
    pub dps: Vec<[f64; 2]>,
    /// Weights that PSLD chooses from, as many.
    pub psld: Vec<[f64; 2]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 64),
            judge: JudgeConfig::default(),
            judge_share: 0.2,
            codec: GridCodecConfig::default(),
            kl: 1e-6,
            codec_images: 48_000,
            codec_lr: 2e-3,
            network: NetworkConfig::Dit(DitConfig::sized([1, 96, 4, 4])),
            path: Path::VpCosine { s: 0.008 },
            prediction: Prediction::VPrediction,
            images: 48_000,
            batch: 32,
            lr: 1e-3,
            schedule: Schedule::Cosine,
            sampler: Sampler::Ddim { eta: 0.0 },
            steps: 100,
            noise: 0.05,
            hole: [14, 2],
            lost: [0.3, 0.7],
            block: 4,
            validation: 8,
            dps: vec![[0.1, 0.0], [0.2, 0.0], [0.4, 0.0], [0.8, 0.0], [1.6, 0.0], [3.2, 0.0]],
            psld: vec![[0.2, 0.1], [0.4, 0.1], [0.8, 0.1], [0.2, 0.4], [0.4, 0.4], [0.8, 0.4]],
        }
    }
}

/// What was measured, and the codec in whose latents a picture for it is sought.
struct Problem<'a> {
    codec: &'a dyn Codec,
    operator: &'a dyn Operator,
    y: &'a Tensor,
}

/// Length of each row, `[B]`.
fn lengths(x: &Tensor) -> Tensor {
    x.flatten(1, -1).norm_scalaropt_dim(2, [1].as_slice(), false)
}

impl Problem<'_> {
    /// |y - A x|, `[B]`.
    fn misfit(&self, x: &Tensor) -> Tensor {
        lengths(&(self.y - self.operator.apply(x)))
    }

    /// |z - E(A^T y + (I - A^T A) x)| with x = D(z), `[B]`.
    fn gluing(&self, z: &Tensor, x: &Tensor) -> Tensor {
        lengths(&(z - self.codec.encode(&self.operator.replace(x, self.y))))
    }

    /// What the correction descends at a clean estimate z.
    fn energy(&self, z: &Tensor, [eta, gamma]: [f64; 2]) -> Tensor {
        let x = self.codec.decode(z);
        let misfit = self.misfit(&x) * eta;
        if gamma == 0.0 { misfit } else { misfit + self.gluing(z, &x) * gamma }
    }
}

/// E and D as they learn: latents are normal, with a divergence so small that it only keeps them from drifting apart.
struct Autoencoder {
    codec: GridCodec,
    params: Params,
    kl: f64,
}

impl Objective for Autoencoder {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        let q = Gaussian::from_moments(&self.codec.moments(&batch.x));
        let x = self.codec.decode_raw(&q.sample(&batch.noise(at.seed), Stream::Eps));
        let kl = q.kl_terms().sum(Kind::Float) * (self.kl / batch.x.numel() as f64);
        Terms(vec![("error".into(), (x - &batch.x).abs().mean(Kind::Float)), ("kl".into(), kl)])
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

/// What happened to the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Box,
    Scattered,
    Blocks,
}

/// Damaged pictures and their restoration.
struct Restored {
    /// A^T y.
    seen: Tensor,
    /// With the measured pixels in their place, where pixels were measured.
    x: Tensor,
    /// 1 where a pixel was measured, `[B, 1, H, W]`.
    known: Option<Tensor>,
}

/// What the arms of a seed share.
struct Tools {
    judge: Judge,
    prior: LatentLoss<GridCodec>,
    held: Batch,
}

/// The configuration with its data.
struct Task {
    config: Config,
    /// What autoencoder and diffusion model learn from and hold out, and what is judged on.
    sets: Opened,
    /// What the judge learns from.
    apart: Arc<dyn Dataset>,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("dps", "latent DPS: what was measured, alone", task.config.dps.clone()),
        ("psld", "what was measured, and gluing", task.config.psld.clone()),
    ];
    Ok(Claim::of(json!(task.config), task.sets.fingerprints(), task, arms, |task, ctx, choice| task.run(ctx, &choice)))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        const KEY: u64 = 0x505D;
        let (c, opened) = (&config, config.data.open()?);
        let [_, h, w] = opened.shape();
        let fits = c.hole[0] >= 1 && c.hole[0] + 2 * c.hole[1] <= h.min(w) && h % c.block == 0 && w % c.block == 0;
        let shares = c.judge_share > 0.0 && c.judge_share < 1.0 && c.validation > 0;
        if !fits || !shares || c.dps.is_empty() || c.dps.len() != c.psld.len() {
            let why =
                format!("hole and block must fit {h} x {w} pixels, shares leave some, and arms choose from as many");
            return Err(METHOD.refused(why));
        }
        let [apart, train] = [(0.0, c.judge_share), (c.judge_share, 1.0)].map(|(a, b)| part(&opened.train, KEY, a, b));
        Ok(Self { sets: Opened { train, test: opened.test }, apart, config })
    }

    fn autoencoder(&self, device: Device, seed: u64) -> Result<Autoencoder, Error> {
        let params = Params::new(device, seed);
        let codec = self.config.codec.build(&params.root(), self.sets.shape())?;
        Ok(Autoencoder { codec, params, kl: self.config.kl })
    }

    fn prior(&self, codec: GridCodec, device: Device, seed: u64) -> Result<LatentLoss<GridCodec>, Error> {
        let (c, params) = (&self.config, Params::new(device, seed));
        let network = c.network.build(&params.root(), codec.latents(), 0)?;
        Ok(LatentLoss::new(codec, DiffusionLoss::stratified(network, params, (c.path, c.prediction), 0.0)))
    }

    /// Judge, autoencoder and diffusion model of a seed, trained once for all arms.
    fn tools(&self, ctx: &mut Context) -> Result<Tools, Error> {
        let (c, seed) = (&self.config, ctx.seed);
        let (learned, held) = self.sets.hold_out(0.02, ctx.device)?;
        let table = |images, lr| TrainTable { schedule: c.schedule, ..TrainTable::new(images, c.batch, lr) };
        let judge = Judge::trained(ctx, &c.judge, &self.apart)?;
        let mut codec = SingleLoss::new(self.autoencoder(ctx.device, seed)?, Kind::Float);
        let settings = json!([c.judge_share, c.codec, c.kl, c.codec_images, c.codec_lr, c.batch, c.schedule]);
        ctx.base("autoencoder", &settings, seed, &mut codec, |ctx, codec| {
            ctx.train(codec, &learned, &table(c.codec_images, c.codec_lr), seed)?;
            codec.objective().codec.standardise(&held.x);
            Ok(())
        })?;
        let Autoencoder { codec, params, .. } = codec.into_objective();
        params.freeze();
        let prior = SingleLoss::new(self.prior(codec, ctx.device, seed)?, Kind::Float);
        let settings = json!([settings, c.network, c.path, c.prediction, c.images, c.lr]);
        let table = table(c.images, c.lr);
        let prior = ctx.trained_once("diffusion", &settings, prior, &learned, &table)?.into_objective();
        prior.params().freeze();
        Ok(Tools { judge, prior, held: held.head(c.validation) })
    }

    /// Damages pictures and restores them.
    fn restore(
        &self,
        seed: u64,
        prior: &LatentLoss<GridCodec>,
        batch: &Batch,
        damage: Damage,
        weights: [f64; 2],
    ) -> Restored {
        let (c, x, device) = (&self.config, &batch.x, batch.x.device());
        let (noise, size) = (Noise::new(seed, batch.index.clone()), [x.size()[2], x.size()[3]]);
        let mask = match damage {
            Damage::Box => Some(Mask::boxes(&noise, size, c.hole, device)),
            Damage::Scattered => Some(Mask::scattered(&noise, size, c.lost, device)),
            Damage::Blocks => None,
        };
        let blocks = BlockAverage { side: c.block };
        let (operator, std): (&dyn Operator, f64) = match &mask {
            Some(mask) => (mask, c.noise),
            // There y holds the means times the side of a block.
            None => (&blocks, c.noise * c.block as f64),
        };
        let y = operator.measure(x, std, &noise.at_step(1));
        let problem = Problem { codec: prior.codec(), operator, y: &y };
        let energy = |z: &Tensor| problem.energy(z, weights);
        let (step, levels) = (c.sampler.step(), Grid::Uniform.levels(&c.path, c.steps));
        let walk = Walk { step: &Steered::new(step.as_ref(), &energy), levels: &levels, noise: &noise };
        let [channels, h, w] = prior.codec().latents();
        let start = walk.start(&[x.size()[0], channels, h, w], device);
        let z = sample(prior.diffusion().denoiser(), &walk, start, &Condition::none(), &mut |_| ());
        let _guard = tch::no_grad_guard();
        let x = prior.codec().decode(&z).clamp(-1.0, 1.0);
        let x = if mask.is_some() { operator.replace(&x, &y) } else { x };
        Restored { seen: operator.adjoint(&y), x, known: mask.map(|m| m.known().shallow_clone()) }
    }

    /// The weights under which held-out pictures come out nearest.
    fn choose(&self, ctx: &mut Context, tools: &Tools, damage: Damage, choice: &[[f64; 2]]) -> Result<[f64; 2], Error> {
        let held = ctx.shortened(&tools.held);
        ctx.choose(choice, |ctx, weights| {
            ctx.go_on()?;
            let restored = self.restore(ctx.seed, &tools.prior, &held, damage, *weights);
            Ok(-distance(&tools.judge, &restored.x, &held.x)?)
        })
    }

    fn run(&self, ctx: &mut Context, choice: &[[f64; 2]]) -> Result<Metrics, Error> {
        let tools = self.tools(ctx)?;
        let tests = ctx.shortened(&self.sets.tests(ctx.device)?);
        let shown = |t: &Tensor| t.narrow(0, 0, t.size()[0].min(Picture::COLUMNS as i64));
        let (mut metrics, mut rows) = (Metrics::default(), vec![shown(&tests.x)]);
        for (name, damage) in [("box", Damage::Box), ("scattered", Damage::Scattered), ("blocks", Damage::Blocks)] {
            let [eta, gamma] = self.choose(ctx, &tools, damage, choice)?;
            ctx.go_on()?;
            let restored = self.restore(ctx.seed, &tools.prior, &tests, damage, [eta, gamma]);
            let mut put = |what: &str, value| metrics.put(format!("{name}{what}"), value);
            put("", distance(&tools.judge, &restored.x, &tests.x)?);
            let off = &restored.x - &tests.x;
            let unknown = restored.known.as_ref().map_or(off.ones_like(), |known| 1.0 - known);
            put("_error", mean_where(&off, &unknown));
            if let Some(known) = &restored.known {
                put("_seam", seam(&off, known));
            }
            put("_eta", eta);
            put("_gamma", gamma);
            rows.extend([&restored.seen, &restored.x].map(shown));
        }
        let caption =
            "test pictures; a box missing, and filled; pixels missing, and filled; means of blocks, and resolved";
        metrics.showing(ctx, || Ok(vec![Picture::rows(caption, &rows)?]))
    }
}

/// Mean distance of pairs in the judge's features: LPIPS on a single layer.
fn distance(judge: &Judge, a: &Tensor, b: &Tensor) -> Result<f64, Error> {
    let see = |x: &Tensor| -> Result<Pictures, Error> {
        let seen = judge.look(x)?.features;
        Ok(Pictures::new([seen.d(), 1, 1], seen.values().to_vec())?)
    };
    let (a, b) = (see(a)?, see(b)?);
    let weights = vec![1.0; a.shape()[0]];
    let found = lpips(&[Layer { a: &a, b: &b, weights: &weights }])?.values;
    Ok(found.iter().sum::<f64>() / found.len() as f64)
}

/// Mean of absolute values under weights of 0 and 1 that broadcast to them.
fn mean_where(values: &Tensor, weights: &Tensor) -> f64 {
    let weights = weights.expand_as(values);
    value(&((values.abs() * &weights).sum(Kind::Double) / weights.sum(Kind::Double)))
}

/// Mean absolute error of the step in grey from a pixel that was known to a neighbour that was not, over both directions.
fn seam(off: &Tensor, known: &Tensor) -> f64 {
    let step = |t: &Tensor, axis| t.diff(1, axis, None::<&Tensor>, None::<&Tensor>);
    [2, 3].map(|axis| mean_where(&step(off, axis), &step(known, axis).abs())).iter().sum::<f64>() * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noised, noisy, try_run, try_step};
    use pentimento_core::exact::{gap, largest};
    use pentimento_core::noise::init_normal;
    use pentimento_core::{Denoised, Denoiser, Level};
    use pentimento_nn::UnetConfig;
    use pentimento_train::Silent;
    use std::cell::RefCell;

    const CPU: Device = Device::Cpu;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 40);
        let codec = GridCodecConfig { halvings: 1, hidden: 24, blocks: 1, latent: 2 };
        let network = NetworkConfig::Dit(DitConfig::sized([1, 32, 2, 2]));
        let judge = JudgeConfig { width: 8, features: 16, images: 2500, batch: 50, lr: 5e-3 };
        let trained = Config {
            codec,
            codec_images: 8000,
            codec_lr: 4e-3,
            images: 8000,
            batch: 32,
            lr: 3e-3,
            ..Config::default()
        };
        let solved = Config { data, judge, network, steps: 20, hole: [4, 1], block: 2, ..trained };
        Config { dps: vec![[0.1, 0.0], [0.4, 0.0]], psld: vec![[0.4, 0.1], [0.4, 0.3]], ..solved }
    }

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(4, name, size).to_kind(Kind::Double)
    }

    fn columns(name: &str, size: &[i64]) -> Tensor {
        Tensor::linalg_qr(&draw(name, size), "reduced").0
    }

    /// D(z) = z D^T and E(x) = x E^T, bent by a sine where asked.
    struct Lines {
        d: Tensor,
        e: Tensor,
        bent: bool,
    }

    impl Codec for Lines {
        fn encode(&self, x: &Tensor) -> Tensor {
            let z = x.matmul(&self.e.tr());
            if self.bent { z.sin() } else { z }
        }
        fn decode(&self, z: &Tensor) -> Tensor {
            let x = z.matmul(&self.d.tr());
            if self.bent { x.tanh() } else { x }
        }
    }

    /// The first 8 of 32 coordinates are kept: those of random directions, so that they are any 8.
    fn keeps() -> Mask {
        Mask::new(&Tensor::arange(32, (Kind::Double, CPU)).lt(8).unsqueeze(0))
    }

    /// The theorem's model: orthonormal columns D, E = D^T, a Gaussian prior.
    fn exact() -> Lines {
        let d = columns("d", &[32, 4]);
        Lines { e: d.tr(), d, bent: false }
    }

    /// With M = (A D)^T A D, off by e = z - z*, the misfit is |A D e| and gluing |M e|: what the data cannot see, it cannot glue.
    #[test]
    fn in_the_linear_model_gluing_is_the_misfit_seen_through_its_own_matrix() {
        let (codec, mask) = (exact(), keeps());
        let (truth, z) = (draw("truth", &[3, 4]), draw("z", &[3, 4]));
        let ad = mask.apply(&codec.d.tr()).tr();
        let y = mask.apply(&codec.decode(&truth));
        let problem = Problem { codec: &codec, operator: &mask, y: &y };
        let (x, off) = (codec.decode(&z), &z - &truth);
        let m = ad.tr().matmul(&ad);
        assert!(gap(&problem.misfit(&x), &lengths(&off.matmul(&ad.tr()))) < 1e-12);
        assert!(gap(&problem.gluing(&z, &x), &lengths(&off.matmul(&m))) < 1e-12);
        // Lengths, not squares: twice as far off weighs twice as much. The weights multiply each its own term.
        let energy = |times: f64, w| problem.energy(&(&truth + &off * times), w);
        for w in [[0.7, 0.0], [0.0, 0.4], [0.7, 0.4]] {
            assert!(gap(&energy(2.0, w), &(energy(1.0, w) * 2.0)) < 1e-12 && largest(&energy(1.0, w)) > 0.1);
        }
        let parts = energy(1.0, [0.7, 0.0]) + energy(1.0, [0.0, 0.4]);
        assert!(gap(&energy(1.0, [0.7, 0.4]), &parts) < 1e-12);
        assert_eq!(energy(1.0, [0.7, 0.0]), problem.misfit(&x) * 0.7, "without gluing it is latent DPS");
        assert!(largest(&energy(0.0, [1.0, 1.0])) < 1e-12, "nothing pulls at the truth");
    }

    #[test]
    fn gluing_is_zero_where_it_should_and_its_target_is_what_was_measured() {
        let d = columns("square", &[32, 32]);
        let (codec, mask) = (Lines { e: d.tr(), d, bent: false }, keeps());
        let z = draw("z", &[3, 32]);
        let y = mask.apply(&codec.decode(&z));
        let glued = |mask: &Mask, y: &Tensor, z: &Tensor| {
            Problem { codec: &codec, operator: mask, y }.gluing(z, &codec.decode(z))
        };
        assert!(largest(&glued(&mask, &y, &z)) < 1e-12, "a perfect autoencoder and A D z = y");
        assert!(largest(&glued(&mask, &(&y + mask.known()), &z)) > 1.0);
        let (all, y) = (Mask::new(&Tensor::ones([1, 32], (Kind::Double, CPU))), draw("y", &[3, 32]));
        let lossy = exact();
        let problem = Problem { codec: &lossy, operator: &all, y: &y };
        let z = draw("few", &[3, 4]);
        assert!(gap(&problem.gluing(&z, &lossy.decode(&z)), &lengths(&(&z - lossy.encode(&y)))) < 1e-12, "A = I");
    }

    /// z0_hat of latents N(0, I).
    struct Normal;

    impl Denoiser for Normal {
        fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> Denoised {
            let shrink = level.map(|a, s| a / (a * a + s * s));
            Denoised { x0: Level::times(&shrink, x), variance: None }
        }
    }

    /// Distance of D(z) to D(z*) over its length, after a chain with squared norms, under which a fixed step converges.
    fn recovery(codec: &Lines, truth: &Tensor, [eta, gamma]: [f64; 2]) -> f64 {
        let (mask, x) = (keeps(), codec.decode(truth));
        let y = mask.apply(&x);
        let problem = Problem { codec, operator: &mask, y: &y };
        let energy = |z: &Tensor| {
            let x = codec.decode(z);
            problem.misfit(&x).square() * (0.5 * eta) + problem.gluing(z, &x).square() * (0.5 * gamma)
        };
        let levels = Grid::Uniform.levels(&Path::VpCosine { s: 0.0 }, 600);
        let (step, noise) = (Sampler::Ddim { eta: 0.0 }.step(), Noise::new(1, vec![0]));
        let walk = Walk { step: &Steered::new(step.as_ref(), &energy), levels: &levels, noise: &noise };
        let start = walk.start(&truth.size(), CPU).to_kind(Kind::Double);
        let z = sample(&Normal, &walk, start, &Condition::none(), &mut |_| ());
        value(&((codec.decode(&z) - &x).norm() / x.norm()))
    }

    /// d = 32, k = 4, 8 coordinates kept. As many latents as dimensions of the data, and a perfect autoencoder: latent DPS recovers the
    /// truth, and so does PSLD. Twelve latents, of which the data take a subspace of four and E returns what lies in it: eight numbers
    /// do not name twelve, latent DPS keeps what it was drawn with, and gluing takes it away.
    #[test]
    fn gluing_recovers_what_the_measurement_leaves_open() {
        // A D of full rank on the data, and not nearly less: the chain is of finite length.
        let well = |width: i64, u: &Tensor| {
            let d = (0..).map(|i| columns(&format!("d{i}"), &[32, width]));
            let seen = |d: &Tensor| keeps().apply(&d.matmul(u).tr());
            let least = |a: Tensor| value(&a.matmul(&a.tr()).linalg_eigvalsh("L").min());
            { d }.find(|d| least(seen(d)) > 0.06).unwrap()
        };
        let (truth, eye) = (draw("truth", &[1, 4]), Tensor::eye(4, (Kind::Double, CPU)));
        let d = well(4, &eye);
        let few = Lines { e: d.tr(), d, bent: false };
        let u = columns("u", &[12, 4]);
        let d = well(12, &u);
        let many = Lines { e: u.matmul(&u.tr()).matmul(&d.tr()), d, bent: false };
        let [alone, glued] = [[1.5, 0.0], [1.5, 0.4]];
        let errors = |codec: &Lines, z: &Tensor| [alone, glued].map(|w| recovery(codec, z, w));
        let [perfect, lossy] = [errors(&few, &truth), errors(&many, &truth.matmul(&u.tr()))];
        assert!(perfect.iter().all(|e| *e < 1e-3), "{perfect:?}");
        assert!(lossy[0] > 0.1 && lossy[1] < 1e-3, "{lossy:?}");
    }

    /// Every coordinate, moved a little to either side; with the target of gluing held fixed the quotient is another.
    #[test]
    fn the_gradient_passes_through_decoder_and_encoder() {
        let (d, e) = (draw("d", &[32, 5]) * 0.4, draw("e", &[5, 32]) * 0.4);
        let (codec, mask, z) = (Lines { d, e, bent: true }, keeps(), draw("z", &[2, 5]));
        let y = mask.apply(&draw("y", &[2, 32]));
        let problem = Problem { codec: &codec, operator: &mask, y: &y };
        let energy = |z: &Tensor| problem.energy(z, [0.3, 0.8]).sum(Kind::Double);
        let gradient = |f: &dyn Fn(&Tensor) -> Tensor| {
            let z = z.copy().set_requires_grad(true);
            Tensor::run_backward(&[f(&z)], &[&z], false, false)[0].copy()
        };
        let found = gradient(&energy);
        let target = codec.encode(&mask.replace(&codec.decode(&z), &y));
        let held = gradient(&|z| {
            let data = problem.misfit(&codec.decode(z)) * 0.3;
            (data + lengths(&(z - &target)) * 0.8).sum(Kind::Double)
        });
        let h = 1e-5;
        for i in 0..10 {
            let at = |by: f64| {
                let moved = z.copy();
                let _ = moved.view(-1).get(i).g_add_scalar_(by);
                value(&energy(&moved))
            };
            let quotient = (at(h) - at(-h)) / (2.0 * h);
            assert!((quotient - found.view(-1).double_value(&[i])).abs() < 1e-8, "{i}: {quotient}");
        }
        assert!(gap(&found, &held) > 0.05);
    }

    #[test]
    fn seams_and_holes_are_measured_where_they_are() {
        let known =
            Tensor::from_slice(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).view([1, 1, 3, 4]);
        let off = Tensor::from_slice(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.2, -0.4, 0.0, 0.0, 0.6, 0.8, 0.0]).view([1, 1, 3, 4]);
        // Two pairs down, 0.2 and 0.4; four across, 0.2, 0.4, 0.6 and 0.8.
        assert!((seam(&off, &known) - (0.3 + 0.5) / 2.0).abs() < 1e-6, "{}", seam(&off, &known));
        assert!((mean_where(&off, &(1.0 - &known)) - 0.5).abs() < 1e-6);
        assert!((seam(&(&off * 0.0 + 0.3), &known)).abs() < 1e-6, "a shift of the whole has no seam");
        let colours = [&off, &off, &off].map(Tensor::shallow_clone);
        assert!((seam(&Tensor::cat(&colours, 1), &known) - 0.4).abs() < 1e-6);
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        for wrong in [
            Config { hole: [7, 1], ..small() },
            Config { block: 3, ..small() },
            Config { psld: vec![[0.1, 0.1]], ..small() },
        ] {
            let said = Task::new(wrong).err().unwrap().to_string();
            assert!(said.contains("8 x 8 pixels"), "{said}");
        }
    }

    /// Both arms come nearer to the truth than the same model that is told nothing, and choose among their own weights.
    #[test]
    fn every_arm_restores_at_a_toy_size() {
        let (task, found) = (Task::new(small()).unwrap(), RefCell::new(Vec::new()));
        let run = |ctx: &mut Context| {
            for choice in [&vec![[0.0, 0.0]], &task.config.dps, &task.config.psld] {
                found.borrow_mut().push(task.run(ctx, choice)?);
            }
            Ok(Metrics::default())
        };
        try_run(run, 0, &mut Silent).unwrap();
        let [blind, dps, psld] = <[Metrics; 3]>::try_from(found.into_inner()).unwrap();
        for (arm, choice) in [(&dps, &task.config.dps), (&psld, &task.config.psld)] {
            for (name, share) in [("box", 0.9), ("scattered", 0.8), ("blocks", 0.6)] {
                assert!(arm[name] < share * blind[name], "{name}: {:?} {:?}", arm.values, blind.values);
            }
            let chosen = [arm["box_eta"], arm["box_gamma"]];
            assert!(choice.contains(&chosen) && arm.pictures.len() == 1, "{chosen:?}");
        }
    }

    /// The published size by its plan; a step at a seventh of its channels, since 274 million weights with their moments are 4 GB.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let millions = config.network.cost([3, 64, 64], 0).unwrap().params as f64 * 1e-6;
        assert!((millions - 274.06).abs() < 0.01, "{millions}");
        let NetworkConfig::Unet(unet) = config.network.clone() else { panic!("the paper's model is a U-Net") };
        let network = NetworkConfig::Unet(UnetConfig { channels: Some(32), ..unet });
        let data = Sets::of("sprites", "sprites", 2);
        let task = Task::new(Config { data, network, steps: 2, ..config }).unwrap();
        let mut codec = SingleLoss::new(task.autoencoder(CPU, 0).unwrap(), Kind::Float);
        let batch = noisy(2, [3, 32, 32]);
        let [error, moved] = try_step(&mut codec, &batch, task.config.codec_lr);
        assert!(error.is_finite() && moved > 0.0);
        let mut prior = SingleLoss::new(task.prior(codec.into_objective().codec, CPU, 0).unwrap(), Kind::Float);
        let drawn = noised(&prior, 2, [3, 32, 32], None);
        let [loss, moved] = try_step(&mut prior, &drawn, task.config.lr);
        assert!(loss.is_finite() && moved > 0.0);
        let restored = task.restore(0, &prior.into_objective(), &batch, Damage::Blocks, task.config.psld[0]);
        assert!(restored.x.size() == batch.x.size() && largest(&restored.x) <= 1.0);
    }
}
