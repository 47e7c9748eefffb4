//! # Relative representations enable zero-shot latent space communication
//! arXiv 2209.15430 (2022) - reference: lucmos/relreps
//!
//! **Gives.** Encoders and heads that were trained apart work together, with no further training.
//! **How.** Describe a sample by its cosine similarities to A fixed anchors a_j of the training data, E the encoder:
//!     r(x)_j = E(x) . E(a_j) / (|E(x)| |E(a_j)|),   j = 1..A                (section 3)
//!     An orthogonal map or a scaling of the latent space leaves r as it is, and such maps are most of what separates two
//!     trainings that differ in their seed. A decoder or head D reads r. End to end, anchors are encoded anew at every step and
//!     gradients pass through them; post hoc, E is frozen and only D learns. Stitching takes E_1 and D_2: D_2(r_E1(x)), with
//!     the same anchors in the same order.
//! **Needs.** `latent::anchors`, `nn::ConvEncoder`, `nn::ConvDecoder`, `nn::Mlp`.
//! **Departs.** Anchors are drawn alike from each class; the paper draws uniformly. The head learns beside the decoder on
//!     detached representations, which gives it the gradient it would have on a frozen encoder. Convolutions are ours.
//! **Holds if.** A head on the encoder of another training is right more often with relative than with absolute
//!     representations, by 20 points, over seeds (`recipes/geometry/relative-reps.toml`). Reported beside it: the gap to
//!     the head's own encoder, reconstruction through a foreign decoder, and the post-hoc variant.

use pentimento_claims::{Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, settings};
use pentimento_core::exact::value;
use pentimento_core::{At, Batch, Objective, Params, SingleLoss, Terms};
use pentimento_latent::anchors::{relative, stratified};
use pentimento_nn::layers::Init;
use pentimento_nn::{Activation, ConvDecoder, ConvEncoder, Mlp, Pyramid};
use pentimento_train::TrainTable;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "relative-reps",
    family: "geometry",
    page: include_str!("relative_reps.rs"),
    recipe: include_str!("../../../../recipes/geometry/relative-reps.toml"),
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
    /// Channels of the first convolution.
    pub width: i64,
    /// Halvings of the picture.
    pub depth: u32,
    /// Z, the width of the latent.
    pub latent: i64,
    /// A, the number of anchors.
    pub anchors: usize,
    /// Width of the head's hidden layer.
    pub hidden: i64,
    /// Networks trained apart at each seed; every ordered pair is stitched.
    pub networks: u64,
    /// Length of each training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 0),
            width: 16,
            depth: 2,
            latent: 64,
            anchors: 128,
            hidden: 128,
            networks: 2,
            images: 64_000,
            batch: 64,
            lr: 1e-3,
        }
    }
}

/// An encoder with a decoder and a head that read its representation.
struct Model {
    params: Params,
    encoder: ConvEncoder,
    decoder: ConvDecoder,
    head: Mlp,
    arm: Arm,
    anchors: Tensor,
}

impl Model {
    /// A new model; `encoder` stands for its own where one is shared.
    fn new(task: &Task, arm: Arm, seed: u64, anchors: &Tensor, encoder: Option<ConvEncoder>) -> Result<Self, Error> {
        let (c, params) = (&task.config, Params::new(anchors.device(), seed));
        let pyramid = &Pyramid::doubling(task.sets.shape(), c.width, c.depth);
        let root = params.root();
        let encoder = match encoder {
            Some(shared) => shared,
            None => ConvEncoder::new(&root.sub("encoder"), pyramid, c.latent)?,
        };
        let width = if arm == Arm::Absolute { c.latent } else { anchors.size()[0] };
        let decoder = ConvDecoder::new(&root.sub("decoder"), pyramid, width)?;
        let widths = [width, c.hidden, task.sets.classes()?];
        let head = Mlp::new(&root.sub("head"), &widths, Activation::Relu, Init::Torch);
        Ok(Self { encoder, decoder, head, arm, anchors: anchors.shallow_clone(), params })
    }

    /// What decoder and head read: z `[B, Z]` or r `[B, A]`.
    fn read(&self, x: &Tensor) -> Tensor {
        if self.arm == Arm::Absolute {
            return self.encoder.forward(x);
        }
        let b = x.size()[0];
        let both = self.encoder.forward(&Tensor::cat(&[x, &self.anchors], 0)); // [B + A, Z]
        let both = if self.arm == Arm::PostHoc { both.detach() } else { both };
        relative(&both.narrow(0, 0, b), &both.narrow(0, b, self.anchors.size()[0]))
    }

    fn reconstruct(&self, read: &Tensor) -> Tensor {
        self.decoder.forward(read).tanh()
    }
}

impl Objective for Model {
    fn loss(&self, batch: &Batch, _: &At) -> Terms {
        let read = self.read(&batch.x);
        let error = (self.reconstruct(&read) - &batch.x).square().mean(Kind::Float);
        let Some(y) = &batch.y else { panic!("the data has no classes; the head needs them") };
        let named = self.head.forward(&read.detach()).cross_entropy_for_logits(y);
        Terms(vec![("reconstruction".into(), error), ("classification".into(), named)])
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

/// What decoder and head are given, and who learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// z itself; everything learns.
    Absolute,
    /// r, end to end.
    Relative,
    /// r over the frozen encoder of the absolute arm.
    PostHoc,
}

/// The configuration with its data.
struct Task {
    config: Config,
    sets: Opened,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("absolute", "decoder and head read the latent itself", Arm::Absolute),
        ("relative", "they read similarities to anchors; everything learns together", Arm::Relative),
        ("post-hoc", "they read similarities over the frozen encoders of the absolute arm", Arm::PostHoc),
    ];
    Ok(Claim::of(json!(task.config), task.sets.fingerprints(), task, arms, Task::run))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        let sets = config.data.open()?;
        if config.networks < 2 {
            let why = format!("networks = {}; readers are exchanged between at least two", config.networks);
            return Err(METHOD.refused(why));
        }
        sets.classes()?;
        Ok(Self { config, sets })
    }

    /// The anchors of a seed, the same for all its networks and arms: `[A, C, H, W]`.
    fn anchors(&self, seed: u64, device: Device) -> Result<Tensor, Error> {
        const POOL: u64 = 5000;
        let pool: Vec<u64> = (0..self.sets.train.len().min(POOL)).collect();
        let labels = pentimento_data::gather(self.sets.train.as_ref(), &pool)?.y;
        Ok(self.sets.items(&stratified(&labels, self.config.anchors, seed), device)?.x)
    }

    fn model(&self, ctx: &mut Context, arm: Arm, seed: u64, anchors: &Tensor) -> Result<Model, Error> {
        let train = |ctx: &mut Context, learner: &mut SingleLoss<Model>| {
            let table = TrainTable::new(self.config.images, self.config.batch, self.config.lr);
            ctx.train(learner, &self.sets.train, &table, seed)
        };
        let fresh = |arm, encoder| -> Result<_, Error> {
            Ok(SingleLoss::new(Model::new(self, arm, seed, anchors, encoder)?, Kind::Float))
        };
        if arm == Arm::Relative {
            let mut learner = fresh(arm, None)?;
            train(ctx, &mut learner)?;
            return Ok(learner.into_objective());
        }
        // The post-hoc arm stands on the networks of the absolute arm, so each of them is trained once.
        let mut absolute = fresh(Arm::Absolute, None)?;
        ctx.base("autoencoder", &json!(self.config), seed, &mut absolute, train)?;
        if arm == Arm::Absolute {
            return Ok(absolute.into_objective());
        }
        let mut learner = fresh(arm, Some(absolute.into_objective().encoder))?;
        train(ctx, &mut learner)?;
        Ok(learner.into_objective())
    }

    /// Trains the networks of a seed apart and exchanges their readers.
    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        let anchors = self.anchors(ctx.seed, ctx.device)?;
        let first = ctx.seed * self.config.networks;
        let seeds = first..first + self.config.networks;
        let models: Vec<Model> = seeds.map(|s| self.model(ctx, arm, s, &anchors)).collect::<Result<_, _>>()?;
        let _guard = tch::no_grad_guard();
        let tests = self.sets.tests(ctx.device)?;
        let reads: Vec<Tensor> = models.iter().map(|m| m.read(&tests.x)).collect();
        let mut sums = [[0.0; 2]; 2]; // [own, stitched] of [accuracy, mse]
        for (i, read) in reads.iter().enumerate() {
            for (j, model) in models.iter().enumerate() {
                let measured = measure(model, read, &tests);
                let sum = &mut sums[usize::from(i != j)];
                *sum = [sum[0] + measured[0], sum[1] + measured[1]];
            }
        }
        let (own, pairs) = (models.len() as f64, (models.len() * (models.len() - 1)) as f64);
        let metrics = Metrics::new([
            ("stitched_accuracy", sums[1][0] / pairs),
            ("own_accuracy", sums[0][0] / own),
            ("stitched_mse", sums[1][1] / pairs),
            ("own_mse", sums[0][1] / own),
        ]);
        metrics.showing(ctx, || pictures(&models, &tests.head(Picture::COLUMNS).x, &reads[0]))
    }
}

/// Accuracy and mean squared error of a model's readers on a representation of the test set.
fn measure(model: &Model, read: &Tensor, tests: &Batch) -> [f64; 2] {
    let right = tests.y.as_ref().map(|y| model.head.forward(read).argmax(1, false).eq_tensor(y));
    let accuracy = right.map_or(f64::NAN, |r| value(&r.to_kind(Kind::Double).mean(Kind::Double)));
    let error = value(&(model.reconstruct(read) - &tests.x).square().mean(Kind::Float));
    [accuracy, error]
}

/// Test pictures `x`, and what two models make of the representation in which the first reads them.
fn pictures(models: &[Model], x: &Tensor, read: &Tensor) -> Result<Vec<Picture>, Error> {
    let show = |model: &Model| model.reconstruct(&read.narrow(0, 0, x.size()[0]));
    let caption = "test pictures; through their own decoder; through the decoder of another training";
    Ok(vec![Picture::rows(caption, &[x.shallow_clone(), show(&models[0]), show(&models[1])])?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{try_run, try_step};
    use pentimento_core::exact::{gap, largest};
    use pentimento_train::Silent;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 300);
        let sizes = Config { data, width: 4, latent: 8, anchors: 20, hidden: 16, ..Config::default() };
        Config { images: 4000, batch: 20, lr: 3e-3, ..sizes }
    }

    fn task() -> Task {
        Task::new(small()).unwrap()
    }

    /// Two encoders that differ by a rotation and a scale: with relative representations their readers may be exchanged
    /// exactly, with absolute ones not at all.
    #[test]
    fn a_rotated_and_scaled_encoder_reads_alike_relative_and_otherwise_absolute() {
        let task = task();
        let anchors = task.anchors(0, Device::Cpu).unwrap();
        let _guard = tch::no_grad_guard();
        for (arm, alike) in [(Arm::Absolute, false), (Arm::Relative, true), (Arm::PostHoc, true)] {
            let model = Model::new(&task, arm, 3, &anchors, None).unwrap();
            let x = task.sets.tests(Device::Cpu).unwrap().x;
            let before = model.read(&x);
            let (q, _) = Tensor::linalg_qr(&pentimento_core::noise::init_normal(1, "q", &[8, 8]), "reduced");
            for p in model.params.entries().iter().filter(|p| p.name.starts_with("encoder.out")) {
                let moved = if p.tensor.dim() == 2 { q.matmul(&p.tensor) } else { q.mv(&p.tensor) };
                p.tensor.shallow_clone().copy_(&(moved * 2.5));
            }
            let change = gap(&model.read(&x), &before);
            assert!(if alike { change < 1e-5 } else { change > 0.1 }, "{arm:?}: {change}");
        }
    }

    /// Anchors are encoded at every step, and the encoder learns through them; post hoc nothing reaches it.
    #[test]
    fn gradients_pass_through_the_anchors_end_to_end_only() {
        let task = task();
        let anchors = task.anchors(0, Device::Cpu).unwrap().set_requires_grad(true);
        let x = task.sets.items(&[400, 401, 402], Device::Cpu).unwrap().x;
        let model = Model::new(&task, Arm::Relative, 3, &anchors, None).unwrap();
        model.read(&x).square().sum(Kind::Float).backward();
        assert!(largest(&anchors.grad()) > 0.0);
        let shared = Model::new(&task, Arm::Absolute, 3, &anchors, None).unwrap();
        let post_hoc = Model::new(&task, Arm::PostHoc, 3, &anchors, Some(shared.encoder)).unwrap();
        assert!(!post_hoc.read(&x).requires_grad());
        assert!(post_hoc.params.entries().iter().all(|p| !p.name.starts_with("encoder")));
    }

    #[test]
    fn all_networks_of_a_seed_share_anchors_of_the_training_data() {
        let task = task();
        let anchors = |seed| task.anchors(seed, Device::Cpu).unwrap();
        assert_eq!(anchors(1), anchors(1));
        assert_ne!(anchors(1), anchors(2));
        assert_eq!(anchors(1).size(), [20, 1, 8, 8]);
    }

    #[test]
    fn every_arm_runs_at_a_toy_size() {
        let config = Config { width: 8, images: 6000, lr: 5e-3, ..small() };
        let task = Task::new(config.clone()).unwrap();
        let all = [Arm::Absolute, Arm::Relative, Arm::PostHoc];
        let [absolute, relative, post_hoc] = all.map(|arm| try_run(|ctx| task.run(ctx, arm), 0, &mut Silent).unwrap());
        for m in [&absolute, &relative, &post_hoc] {
            assert_eq!((m.values.len(), m.pictures.len()), (4, 1));
            assert!(m["own_accuracy"] > 0.3, "ten classes: {:?}", m.values);
        }
        let fresh = Task::new(Config { images: 20, ..config }).unwrap();
        let fresh = try_run(|ctx| fresh.run(ctx, Arm::Relative), 0, &mut Silent).unwrap();
        assert!(relative["own_accuracy"] > fresh["own_accuracy"] + 0.2, "{:?} {:?}", relative.values, fresh.values);
        let stitched = [&relative, &post_hoc].map(|m| m["stitched_accuracy"] - absolute["stitched_accuracy"]);
        assert!(stitched.iter().all(|gain| *gain > 0.1), "{stitched:?}");
    }

    /// The sizes of the paper, on pictures of the right shape drawn here so that it runs without data.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        assert_eq!((config.anchors, config.latent), (500, 500));
        let data = Sets::of("sprites", "sprites", 4);
        let task = Task::new(Config { data, ..config }).unwrap();
        let anchors = task.anchors(0, Device::Cpu).unwrap();
        let mut learner = SingleLoss::new(Model::new(&task, Arm::Relative, 0, &anchors, None).unwrap(), Kind::Float);
        // Encoder, decoder and head, for pictures of 3 x 32 x 32 in 18 classes.
        assert_eq!(learner.objective().params.count(), 8_723_316 + 8_738_947 + 66_450);
        let batch = task.sets.items(&[0, 1, 2, 3], Device::Cpu).unwrap();
        let [loss, moved] = try_step(&mut learner, &batch, 1e-3);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
