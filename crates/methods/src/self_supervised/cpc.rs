//! # Representation Learning with Contrastive Predictive Coding
//! arXiv 1807.03748 (2018) - reference: jefflai108/Contrastive-Predictive-Coding-PyTorch (not the authors')
//!
//! **Gives.** A representation of unlabelled series that keeps what says something of the future and lets the noise go; beside it a
//!     lower bound on how much it says.
//! **How.** A network of strided convolutions makes frames of the samples, a recurrent one reads them in their order:
//!     z_t = g_enc(x_t),    c_t = g_ar(z_1 .. z_t)
//!     f_k(x_{t+k}, c_t) = exp(z_{t+k}^T W_k c_t),  a matrix W_k for each k = 1..K                            (eq. 3)
//!     L_N = -E ln f_k(x_{t+k}, c_t) / sum_{x_j in X} f_k(x_j, c_t),  mean over t and k                       (eq. 4)
//!     X holds the true frame and N - 1 others. All parts learn together. The best f_k is p(x_{t+k}|c_t)/p(x_{t+k}) up to a
//!     factor, so nothing has to model x itself, and I(x_{t+k}; c_t) >= ln N - L_N. Only c_t is kept afterwards.
//! **Needs.** `data::regimes`, `nn::{FrameEncoder, Gru}`, `latent::info_nce`, `measure::probe`.
//! **Departs.** Series of the world `regimes` in place of speech. X holds, of every series of the batch, the frames k after a few
//!     times t that are drawn for the step: N is the batch times their number, and the others come from the same series and from
//!     different ones. Convolutions are padded on the left alone, so that what c_t has read ends with frame t, and have no batch
//!     normalisation, which the community's code adds. Gradients are clipped at 1 under both losses, whose scales differ. The forms
//!     for pictures, text and reinforcement learning are not here.
//! **Holds if.** A linear probe of the regime on the last c_t is right more often than on the same networks untrained, by 10 points,
//!     over seeds, the learning rate of each arm chosen on held-out series (`recipes/self-supervised/cpc.toml`). Reported beside it:
//!     the same against an autoencoder, which from the same c_t gives back the last K frames and has as many weights.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, labels, middle,
    probe_batches, probe_codes, settings,
};
use pentimento_core::exact::value;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Draws, Learner, Noise, Params, Stream, Terms, Trained};
use pentimento_data::regimes::RegimesConfig;
use pentimento_data::{Dataset, Open};
use pentimento_latent::{info_nce, information_bound};
use pentimento_measure::Outcomes;
use pentimento_nn::layers::Init;
use pentimento_nn::{Activation, FrameEncoder, Gru, Mlp};
use pentimento_train::{Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "cpc",
    family: "self-supervised",
    page: include_str!("cpc.rs"),
    recipe: include_str!("../../../../recipes/self-supervised/cpc.toml"),
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
    /// The world `regimes`, where the data is drawn from it.
    pub world: RegimesConfig,
    /// Kernel and stride of each convolution; the strides' product is the length of a frame.
    pub convs: Vec<[i64; 2]>,
    /// Z, the channels of every convolution.
    pub channels: i64,
    /// D, the width of c_t.
    pub context: i64,
    /// K, the frames that are foretold.
    pub horizon: i64,
    /// Times t that a step asks, the same in every series of its batch.
    pub times: usize,
    /// Learning rates to choose from, for every arm.
    pub rates: Vec<f64>,
    /// Length of each trial of a rate, in series.
    pub trial_images: u64,
    /// Length of training, in series.
    pub images: u64,
    /// Series per step.
    pub batch: usize,
    /// Series for the probe: it is fitted on three quarters, and the rest choose its strength.
    pub probe_items: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("regimes", "regimes:test", 4000),
            world: RegimesConfig::default(),
            convs: vec![[8, 4], [4, 2], [4, 2]],
            channels: 64,
            context: 64,
            horizon: 12,
            times: 4,
            rates: vec![1e-3],
            trial_images: 9600,
            images: 96_000,
            batch: 64,
            probe_items: 6000,
        }
    }
}

impl Config {
    /// Both halves of the data.
    fn open(&self) -> Result<Opened, Error> {
        let opened = self.data.open_with(&self.options())?;
        self.fitting(opened.shape()).map(|_| opened)
    }

    /// The channels of items, each of which must be a series of whole frames, more than K.
    fn fitting(&self, shape: [i64; 3]) -> Result<i64, Error> {
        let ([channels, height, samples], frame) = (shape, FrameEncoder::frame(&self.convs)?);
        if height == 1 && samples % frame == 0 && samples > frame * self.horizon {
            return Ok(channels);
        }
        let want = format!("one row of samples, a multiple of {frame} and of more than {} frames", self.horizon);
        let why = format!("items of {shape:?}; must be {want}");
        Err(METHOD.refused(why))
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        self.data.learned(&self.options())
    }
    fn options(&self) -> Open {
        Open { regimes: Some(self.world.clone()), ..Open::default() }
    }
    fn table(&self) -> TrainTable {
        TrainTable::new(self.images, self.batch, middle(&self.rates))
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(Model::new(self, self.fitting(signature.input)?, Arm::Contrast, device, seed)?))
    }
}

/// ln f_k of every anchor and every candidate, `[K, N, N]`, where N = B A: anchor i is c_t of one series at one of the times, candidate
/// i the z_{t+k} that belongs to it.
///
/// `z`: `[B, T, Z]`, `c`: `[B, T, D]`, `w`: `[K, Z, D]`, `times`: `[A]`
fn scores(z: &Tensor, c: &Tensor, w: &Tensor, times: &Tensor) -> Tensor {
    let at = |of: &Tensor, times: &Tensor| of.index_select(1, times).flatten(0, 1);
    let foretold = at(c, times).matmul(&w.transpose(1, 2)); // [K, N, Z]
    let frames: Vec<Tensor> = (1..=w.size()[0]).map(|k| at(z, &(times + k))).collect();
    foretold.matmul(&Tensor::stack(&frames, 0).transpose(1, 2))
}

/// What is asked of c_t.
enum Question {
    /// To know the K next frames among others: W, `[K, Z, D]`.
    Foretell(Tensor),
    /// To give back the samples of the last K frames: the baseline.
    Recall(Mlp),
}

struct Model {
    config: Config,
    params: Params,
    encoder: FrameEncoder,
    gru: Gru,
    question: Question,
    /// Samples of a frame.
    frame: i64,
}

impl Model {
    fn new(config: &Config, inputs: i64, arm: Arm, device: Device, seed: u64) -> Result<Self, Error> {
        let params = Params::new(device, seed);
        let root = params.root();
        let (k, z, d, frame) = (config.horizon, config.channels, config.context, FrameEncoder::frame(&config.convs)?);
        let encoder = FrameEncoder::new(&root.sub("encoder"), inputs, z, &config.convs)?;
        let gru = Gru::new(&root.sub("gru"), z, d);
        let question = if arm == Arm::Autoencoder {
            // One hidden layer, of the width that makes its matrices as large as all W_k.
            let outputs = k * frame * inputs;
            let widths = [d, (k * z * d).div_euclid(d + outputs).max(1), outputs];
            Question::Recall(Mlp::new(&root.sub("decoder"), &widths, Activation::Relu, Init::Torch))
        } else {
            Question::Foretell(root.uniform("predictor", &[k, z, d], (d as f64).sqrt().recip()))
        };
        Ok(Self { config: config.clone(), encoder, gru, question, params, frame })
    }

    /// z `[B, T, Z]` and c `[B, T, D]` of series `[B, C, 1, L]`.
    fn read(&self, x: &Tensor) -> [Tensor; 2] {
        let z = self.encoder.forward(&x.squeeze_dim(2));
        let c = self.gru.forward(&z);
        [z, c]
    }

    /// Times in 0..T - K, drawn for the batch that begins with this series.
    fn times(&self, seed: u64, first: u64, frames: i64) -> Vec<i64> {
        let n = usize::try_from(frames - self.config.horizon).unwrap_or(0);
        let order = Draws::at(seed, first, 0, Stream::Own).permutation(n);
        order.into_iter().take(self.config.times).filter_map(|t| i64::try_from(t).ok()).collect()
    }

    /// The loss of each k, `[K]`; without a k, `[]`, where samples are given back.
    fn losses(&self, x: &Tensor, seed: u64, first: u64) -> Tensor {
        let [z, c] = self.read(x);
        let times = Tensor::from_slice(&self.times(seed, first, z.size()[1])).to_device(z.device());
        let k = self.config.horizon;
        match &self.question {
            Question::Foretell(w) => info_nce(&scores(&z, &c, w, &times)).mean_dim(1, false, Kind::Float),
            Question::Recall(decoder) => {
                // Frames t .. t + K - 1, asked of the state after the last of them.
                let past = x.squeeze_dim(2).unfold(2, k * self.frame, self.frame).index_select(2, &times); // [B, C, A, K frame]
                let c = c.index_select(1, &(&times + (k - 1))).flatten(0, 1); // [B A, D]
                (decoder.forward(&c) - past.transpose(1, 2).flatten(2, -1).flatten(0, 1)).square().mean(Kind::Float)
            }
        }
    }

    /// The last c_t of each series, `[B, D]`.
    fn code(&self, x: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let parts = x.split(500, 0);
        let last = |x: &Tensor| self.read(x)[1].select(1, -1);
        Tensor::cat(&parts.iter().map(last).collect::<Vec<_>>(), 0)
    }

    /// How well the class is read off c_t: fitted on the first part, chosen on the second, judged on the third.
    fn accuracy(&self, parts: [&Batch; 3]) -> Result<f64, Error> {
        Ok(probe_batches(parts, |x| self.code(x))?.score)
    }
}

// By hand and not in `SingleLoss`: candidates span the batch, so that micro-batches would change the loss.
impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let loss = self.losses(&batch.x, at.seed, batch.first).mean(Kind::Float);
        loss.backward();
        optimisers.step("net");
        Terms::one("loss", loss.detach())
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("net", &self.params)]
    }
    fn validate(&self, batch: &Batch, at: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        Terms::one("loss", self.losses(&batch.x, at.seed, batch.first).mean(Kind::Float))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// The last c_t.
    fn encode(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        Some(self.code(x))
    }
}

/// What an arm trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Untrained,
    Autoencoder,
    Contrast,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.open()?;
    let arms = [
        ("untrained", "the networks as they are initialised", Arm::Untrained),
        ("autoencoder", "c_t gives back the last frames", Arm::Autoencoder),
        ("cpc", "c_t foretells the next frames among others", Arm::Contrast),
    ];
    Ok(Claim::on(config, sets, arms, run))
}

/// Chooses a rate on held-out series, trains with it, and probes.
fn run(ctx: &mut Context, config: &Config, sets: &Opened, arm: Arm) -> Result<Metrics, Error> {
    let make = |ctx: &Context| Model::new(config, sets.shape()[0], arm, ctx.device, ctx.seed);
    let (model, rate) = match arm {
        Arm::Untrained => (make(ctx)?, f64::NAN),
        _ => ctx.tuned(sets, &config.rates, config.trial_images, &config.table(), make, |model, held| {
            let parts = parted(held);
            model.accuracy([&parts[0], &parts[1], &parts[2]])
        })?,
    };
    let (parts, tests) = (sets.probed(ctx.seed, config.probe_items, ctx.device)?, sets.tests(ctx.device)?);
    let accuracy = model.accuracy([&parts[0], &parts[1], &tests])?;
    let information = if arm == Arm::Autoencoder { f64::NAN } else { information(&model, &tests) };
    let values = [("accuracy", accuracy), ("rate", rate), ("information", information)];
    Metrics::new(values).showing(ctx, || pictures(&model, &parts, &tests))
}

/// Three parts of a batch: a half, a quarter, a quarter.
fn parted(batch: &Batch) -> [Batch; 3] {
    let quarter = batch.len() >> 2;
    let cuts = [0, batch.len() - 2 * quarter, batch.len() - quarter, batch.len()];
    [0, 1, 2].map(|i| batch.slice(cuts[i], cuts[i + 1]))
}

/// ln N - L_N in nats, mean over k, on test series in batches of training's size.
fn information(model: &Model, tests: &Batch) -> f64 {
    let _guard = tch::no_grad_guard();
    let batch = model.config.batch.min(tests.len());
    let starts = (0..=tests.len() - batch).step_by(batch);
    let of = |from| model.losses(&tests.slice(from, from + batch).x, 0, from as u64);
    let loss = value(&Tensor::stack(&starts.map(of).collect::<Vec<_>>(), 0).mean(Kind::Double));
    let candidates = batch * model.times(0, 0, tests.x.size()[3].div_euclid(model.frame)).len();
    information_bound(loss, i64::try_from(candidates).unwrap_or(i64::MAX))
}

/// Test series, under each the regimes behind it and what the probe reads in c_t, a colour for each.
fn pictures(model: &Model, [fitted, chosen]: &[Batch; 2], tests: &Batch) -> Result<Vec<Picture>, Error> {
    const HEIGHT: i64 = 48;
    let _guard = tch::no_grad_guard();
    let shown = tests.head(6);
    let [_, c] = model.read(&shown.x);
    let [rows, frames, samples] = [c.size()[0], c.size()[1], shown.x.size()[3]];
    // The probe is fitted on last frames, as for the number, and read on all.
    let unknown = vec![0; shown.len() * usize::try_from(frames).unwrap_or(0)];
    let [fit, choose] = [fitted, chosen].map(|b| model.code(&b.x));
    let found = probe_codes([(fit, labels(fitted)?), (choose, labels(chosen)?), (c.flatten(0, 1), unknown)])?;
    let Outcomes::Labels { predicted, .. } = found.outcomes else { return Err(Error::NoClasses) };
    let predicted: Vec<i64> = predicted.into_iter().map(i64::from).collect();
    let predicted = Tensor::from_slice(&predicted).view([rows, frames]);
    let classes = labels(fitted)?.into_iter().max().map_or(1.0, |c| f64::from(c) + 1.0);
    // [N, F] classes to [N, 3, 8, L], in colours around most of the wheel.
    let strip = |of: &Tensor| {
        let turn = of.to_kind(Kind::Float).to_device(Device::Cpu) * (0.8 * TAU / classes);
        let colours = Tensor::stack(&[0.0, 1.0, 2.0].map(|k| (&turn - k * TAU / 3.0).cos()), 1);
        let wide = colours.repeat_interleave_self_int(samples.div_euclid(of.size()[1]), 2, None);
        wide.unsqueeze(2).repeat([1, 1, 8, 1])
    };
    // A line from each sample to the next, half the range of values high.
    let y = (shown.x.narrow(1, 0, 1).to_device(Device::Cpu) * -1.0 + 0.5) * (HEIGHT - 1) as f64; // [N, 1, 1, L]
    let next = Tensor::cat(&[y.narrow(3, 1, samples - 1), y.narrow(3, samples - 1, 1)], 3);
    let row = Tensor::arange(HEIGHT, (Kind::Float, Device::Cpu)).view([1, 1, HEIGHT, 1]);
    let line = row.ge_tensor(&(y.minimum(&next) - 0.5)).logical_and(&row.le_tensor(&(y.maximum(&next) + 0.5)));
    let curve = (line.to_kind(Kind::Float) * -2.0 + 1.0).repeat([1, 3, 1, 1]);
    let truth = shown.factors.filter(|f| samples % f.size()[1] == 0).map(|f| strip(&f));
    let all: Vec<Tensor> = [Some(curve), truth, Some(strip(&predicted))].into_iter().flatten().collect();
    let caption = "test series; under each the regimes behind it, and below these what the probe reads in c_t";
    Ok(vec![Picture::rows(caption, &Tensor::cat(&all, 2).split(1, 0))?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::largest;
    use pentimento_train::Silent;

    fn small() -> Config {
        let world = RegimesConfig { length: 256, regimes: 4, memory: 24.0, items: 8000, ..RegimesConfig::default() };
        let world = RegimesConfig { dwell: 512.0, ..world };
        let data = Sets::of("regimes", "regimes:test", 600);
        let sizes = Config { convs: vec![[8, 4], [4, 4]], channels: 16, context: 16, ..Config::default() };
        let length = Config { horizon: 4, times: 4, trial_images: 20_000, images: 20_000, batch: 50, ..sizes };
        Config { world, data, rates: vec![1e-6, 1e-2], probe_items: 800, ..length }
    }

    fn model(arm: Arm) -> Model {
        Model::new(&small(), 1, arm, Device::Cpu, 3).unwrap()
    }

    fn series(n: usize) -> Tensor {
        noisy(n, [1, 1, 256]).x
    }

    /// Frame t ends with sample 16 t + 15: neither z_t nor c_t has a gradient after it, both have one at it.
    #[test]
    fn nothing_reads_the_future() {
        for which in [0, 1] {
            let x = series(1).set_requires_grad(true);
            let read = &model(Arm::Contrast).read(&x)[which];
            assert_eq!(read.size(), [1, 16, 16]);
            read.select(1, 9).sum(Kind::Float).backward();
            let slope = x.grad().view(-1);
            assert!(largest(&slope.narrow(0, 160, 96)) == 0.0, "{which}: after the frame");
            assert!(largest(&slope.narrow(0, 159, 1)) > 0.0, "{which}: its last sample");
            assert_eq!(largest(&slope.narrow(0, 0, 16)) > 0.0, which == 1, "the first frame is read by c_t alone");
        }
    }

    /// Every score by its definition; each k has a matrix of its own, and others come from the same series and from different ones.
    #[test]
    fn scores_are_bilinear_forms_of_a_context_and_a_later_frame() {
        let model = model(Arm::Contrast);
        let Question::Foretell(w) = &model.question else { panic!("a predictor") };
        let [z, c] = model.read(&series(2));
        let times = [7_i64, 0, 11];
        let got = scores(&z, &c, w, &Tensor::from_slice(&times));
        assert_eq!(got.size(), [4, 6, 6]);
        let all = || (0..2_i64).flat_map(|b| times.map(|t| (b, t)));
        for k in 0..4_i64 {
            for (i, (a, t)) in (0..).zip(all()) {
                for (j, (b, u)) in (0..).zip(all()) {
                    let want = z.get(b).get(u + k + 1).dot(&w.get(k).mv(&c.get(a).get(t)));
                    assert!((value(&want) - got.double_value(&[k, i, j])).abs() < 1e-5, "{k} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn a_predictor_that_says_nothing_has_the_loss_of_chance() {
        let model = model(Arm::Contrast);
        let Question::Foretell(w) = &model.question else { panic!("a predictor") };
        w.shallow_clone().set_data(&w.detach().zeros_like());
        let losses = model.losses(&series(5), 1, 0);
        assert_eq!(losses.size(), [4]);
        assert!(largest(&(losses - 20.0_f64.ln())) < 1e-6, "5 series at 4 times");
    }

    #[test]
    fn times_are_different_leave_room_and_belong_to_their_batch() {
        let model = model(Arm::Contrast);
        let all: Vec<Vec<i64>> = (0..40).map(|first| model.times(2, first, 16)).collect();
        for times in &all {
            assert!(times.iter().all(|t| (0..12).contains(t)), "t + K is a frame");
            let different: std::collections::BTreeSet<_> = times.iter().collect();
            assert_eq!((times.len(), different.len()), (4, 4));
        }
        assert!(all[3] == model.times(2, 3, 16) && all[3] != model.times(5, 3, 16));
        assert!((0..12).all(|t| all.iter().flatten().any(|u| *u == t)));
        assert_eq!(model.times(2, 3, 6).len(), 2, "no more than there are");
    }

    /// With a decoder of zeros the baseline's loss is the power of the samples it is asked for.
    #[test]
    fn the_autoencoder_is_asked_for_the_frames_up_to_its_own() {
        let model = model(Arm::Autoencoder);
        for e in model.params.entries().iter().filter(|e| e.name.starts_with("decoder")) {
            e.tensor.shallow_clone().set_data(&e.tensor.detach().zeros_like());
        }
        let x = series(4);
        let times = model.times(1, 9, 16);
        let power = |t: &i64| value(&x.narrow(3, 16 * t, 64).square().mean(Kind::Double));
        let want = times.iter().map(power).sum::<f64>() / times.len() as f64;
        assert!((value(&model.losses(&x, 1, 9)) - want).abs() < 1e-6);
        // Nothing after the last frame that is asked for matters.
        let x = x.set_requires_grad(true);
        let asked = 16 * (times.iter().max().unwrap() + 4);
        model.losses(&x, 1, 9).backward();
        assert!(largest(&x.grad().narrow(3, asked, 256 - asked)) == 0.0 && largest(&x.grad()) > 0.0);
    }

    #[test]
    fn the_autoencoder_has_as_many_weights_and_begins_alike() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Small).unwrap();
        let [a, b] = [Arm::Autoencoder, Arm::Contrast].map(|t| Model::new(&config, 1, t, Device::Cpu, 0).unwrap());
        let ratio = a.params.count() as f64 / b.params.count() as f64;
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
        assert_eq!(a.gru.forward(&series(1).view([1, 4, 64])), b.gru.forward(&series(1).view([1, 4, 64])));
    }

    #[test]
    fn data_that_does_not_fit_is_one_sentence() {
        let say = |c: Config| c.open().err().map(|e| e.to_string()).unwrap_or_default();
        let said = say(Config { horizon: 16, ..small() });
        assert!(said.contains("[1, 1, 256]") && said.contains("more than 16 frames"), "{said}");
        assert!(say(Config { convs: vec![[2, 4]], ..small() }).contains("[2, 4]"));
        let digits = Sets::of("digits", "digits", 0);
        assert!(say(Config { data: digits, ..small() }).contains("one row of samples"));
        assert!(say(small()).is_empty());
    }

    #[test]
    fn every_arm_runs_at_a_toy_size_with_the_better_rate_and_contrast_finds_the_regimes() {
        let config = small();
        let sets = config.open().unwrap();
        let of = |arm| try_run(|ctx| run(ctx, &config, &sets, arm), 0, &mut Silent).unwrap();
        let [fresh, recalled, whole] = [Arm::Untrained, Arm::Autoencoder, Arm::Contrast].map(of);
        let all = [&fresh, &recalled, &whole].map(|m| m.values.clone());
        assert!(whole["accuracy"] > fresh["accuracy"] + 0.1, "{all:?}");
        assert!(recalled["accuracy"] > 0.3 && whole["information"] > 0.5, "{all:?}");
        assert_eq!(whole["rate"], 1e-2, "{all:?}");
        assert!(fresh.pictures.len() == 1 && whole.pictures.len() == 1);
    }

    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let sets = config.open().unwrap();
        let mut model = Model::new(&config, 1, Arm::Contrast, Device::Cpu, 0).unwrap();
        assert_eq!((model.frame, sets.shape()[2].div_euclid(model.frame)), (160, 128), "10 ms at 16 kHz");
        let convs = (10 + 1) * 512 + (8 * 512 + 1) * 512 + 3 * (4 * 512 + 1) * 512;
        let gru = 3 * 256 * (512 + 256) + 2 * 3 * 256;
        assert_eq!(model.params.count(), convs + gru + 12 * 512 * 256);
        let batch = sets.items(&[0, 1], Device::Cpu).unwrap();
        let [loss, moved] = try_step(&mut model, &batch, config.rates[0]);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
