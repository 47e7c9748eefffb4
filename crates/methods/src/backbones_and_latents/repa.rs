//! # Representation Alignment for Generation: Training Diffusion Transformers Is Easier Than You Think
//! arXiv 2410.06940 (2024) - reference: sihyun-yu/REPA
//!
//! **Gives.** A diffusion transformer that needs fewer steps: one of its hidden layers is shown what a trained encoder sees in the
//!     clean picture.
//! **How.** A SiT learns the velocity of the straight path x_t = (1 - t) x + t eps, t uniform. f is an encoder, frozen, and
//!     y = f(x) in R^{T x D} its map of the *clean* picture, with a position for each of the T tokens. h_t are the tokens of x_t after
//!     block d, and g is a perceptron with two hidden layers and SiLU that sees one token at a time:
//!     L_v = |u(x_t, t) - (eps - x)|^2
//!     L_REPA = -E [ 1/T sum_n cos(y_n, g(h_t,n)) ],    L = L_v + lambda L_REPA,    lambda = 1/2    (loss.py, train.py)
//!     The second gradient reaches g and the blocks up to d, which then need not find out by denoising alone what there is to see;
//!     the blocks behind have theirs to render it. Pictures are drawn without g and f.
//! **Needs.** `DiffusionLoss::per_sample_with`, `nn::DitConfig`, `nn::GridEncoder`, `claims::Judge`, `measure::{cknna, frechet}`.
//! **Departs.** In place of DINOv2, f is a small network that learns here to name pictures, on some that no other network sees. (In
//!     the minutes there are, contrast of views gave features hardly above those of a network at random; the transformer is told
//!     the classes as well.) Its training is in nobody's budget, as in the paper. It keeps a position for each patch, so that no
//!     map is resized. Pixels in place of a VAE's latents; at the small size an ODE solver of few steps in place of Euler-Maruyama
//!     on the SDE with 250. The number that tells the time is 1000 t. No guidance.
//!     Judge and teacher learn the same classes, each on pictures of its own: that a teacher of another task would help as much is not
//!     shown.
//! **Holds if.** After the same steps the Frechet distance between drawn and test pictures, in a judge's features, is lower by 8 %
//!     than without alignment, over seeds (`recipes/backbones-and-latents/repa.toml`). Reported beside it: f as it is initialised gives
//!     less than half of the gain, and the hidden layer is nearer to f (CKNNA).

use pentimento_claims::{
    Budget, Claim, Context, Error, Judge, JudgeConfig, Method, Metrics, Opened, Picture, Recipe, Sets, features, part,
    settings,
};
use pentimento_core::exact::unit_rows;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Condition, Draw, Learner, Noise, Objective, Params, SingleLoss, Stream, Tap, Terms};
use pentimento_data::Dataset;
use pentimento_diffusion::{DiffusionLoss, LossConfig, Parametrised, Path, Prediction, Sampler, Walk};
use pentimento_measure::{Features, Gaussian, accuracy, cknna, frechet};
use pentimento_nn::layers::{Init, Linear};
use pentimento_nn::{Activation, DitConfig, DitPlan, Grid, GridEncoder, Mlp};
use pentimento_train::{Ema, Schedule, TrainTable, ema_weight};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::{Device, Kind, Reduction, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "repa",
    family: "backbones-and-latents",
    page: include_str!("repa.rs"),
    recipe: include_str!("../../../../recipes/backbones-and-latents/repa.toml"),
    settings: settings::<Config>,
    model: None,
    claim,
};

/// The encoder that the transformer is aligned with.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherConfig {
    /// D, the channels of its map.
    pub width: i64,
    /// Residual blocks.
    pub blocks: usize,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self { width: 64, blocks: 2, images: 48_000, batch: 64, lr: 2e-3 }
    }
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// Shares of the training set that only the judge and only the teacher learn from.
    pub shares: [f64; 2],
    /// The transformer.
    pub network: DitConfig,
    /// d, the block after which tokens are aligned, from 1.
    pub block: i64,
    /// lambda, the weight of the alignment.
    pub lambda: f64,
    /// Hidden width of g.
    pub hidden: i64,
    /// f.
    pub teacher: TeacherConfig,
    /// In whose features pictures are compared.
    pub judge: JudgeConfig,
    /// Share of labels dropped in training.
    pub label_dropout: f64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Images after which a weight counts half in the average that pictures are drawn from.
    pub ema_halflife_images: u64,
    /// How pictures are drawn.
    pub sampler: Sampler,
    /// In how many steps.
    pub steps: usize,
    /// Pictures drawn, of every class in turn.
    pub drawn: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: Sets::of("fashion-mnist", "fashion-mnist:test", 4000),
            shares: [0.15, 0.35],
            network: DitConfig::sized([4, 96, 4, 4]),
            block: 2,
            lambda: 0.5,
            hidden: 128,
            teacher: TeacherConfig::default(),
            judge: JudgeConfig::default(),
            label_dropout: 0.1,
            images: 24_000,
            batch: 32,
            lr: 1e-3,
            ema_halflife_images: 2_000,
            sampler: Sampler::Dpmpp2m,
            steps: 12,
            drawn: 1500,
        }
    }
}

/// -1/N sum_n cos(y_n, z_n), mean over pictures; `y`, `z`: `[B, T, D]`.
fn disagreement(y: &Tensor, z: &Tensor) -> Tensor {
    -Tensor::cosine_similarity(y, z, -1, 1e-8).mean(Kind::Float)
}

/// f: a residual network with a position for each patch, taught to name pictures by the mean over positions.
struct Teacher {
    params: Params,
    encoder: GridEncoder,
    head: Linear,
}

impl Teacher {
    /// For the tokens of a transformer whose patch is a power of two.
    fn new(config: &TeacherConfig, of: &DitPlan, device: Device, seed: u64) -> Result<Self, Error> {
        let (params, d) = (Params::new(device, seed), config.width);
        let (halvings, blocks) = (of.patch.trailing_zeros(), config.blocks);
        let grid = Grid { input: of.input, halvings, hidden: d, blocks, latent: d };
        let encoder = GridEncoder::new(&params.root().sub("encoder"), &grid)?;
        let head = Linear::new(&params.root().sub("head"), d, of.classes, Init::Torch);
        Ok(Self { params, encoder, head })
    }

    /// y: the map of pictures, row after row, `[B, T, D]`.
    fn tokens(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x).flatten(2, 3).transpose(1, 2)
    }
}

impl Objective for Teacher {
    fn loss(&self, batch: &Batch, _: &At) -> Terms {
        let Some(y) = &batch.y else { return Terms::default() };
        let logits = self.head.forward(&self.tokens(&batch.x).mean_dim(1, false, Kind::Float));
        Terms::one("classes", logits.cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, -100, 0.0))
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

/// What a hidden layer is drawn to.
struct Alignment {
    teacher: Teacher,
    /// g.
    projector: Mlp,
}

impl Alignment {
    /// L_REPA of tokens `[B, T, D]` read under noise, and of the clean pictures behind it.
    fn loss(&self, h: &Tensor, x: &Tensor) -> Tensor {
        let y = {
            let _guard = tch::no_grad_guard();
            self.teacher.tokens(x)
        };
        disagreement(&y, &self.projector.forward(h))
    }
}

/// A SiT with the weights that it starts from.
fn sit(params: &Params, plan: &DitPlan) -> Parametrised {
    Parametrised::new(Box::new(plan.build(&params.root())), Path::Flow, Prediction::Velocity)
}

struct Model {
    config: Config,
    /// Name of block d.
    block: String,
    /// L_v; its parameters are those of the SiT and of g.
    velocity: DiffusionLoss,
    alignment: Option<Alignment>,
    /// A moving average of the SiT, and its weights: what pictures are drawn from.
    averaged: Parametrised,
    average: Params,
    following: Ema,
}

impl Model {
    /// Without a teacher it is a plain SiT, of the same initial weights.
    fn new(config: &Config, plan: &DitPlan, teacher: Option<Teacher>, device: Device, seed: u64) -> Self {
        let [params, average] = [0, 1].map(|_| Params::new(device, seed));
        let [trained, averaged] = [&params, &average].map(|p| sit(p, plan));
        average.freeze();
        let following = Ema::onto(&average, &params);
        let alignment = teacher.map(|teacher| {
            let widths = [plan.width, config.hidden, config.hidden, config.teacher.width];
            let projector = Mlp::new(&params.root().sub("projector"), &widths, Activation::Silu, Init::Xavier);
            Alignment { teacher, projector }
        });
        // Times are drawn for each picture by itself, as the authors do, and not spread over the batch.
        let loss = LossConfig { label_dropout: config.label_dropout, ..LossConfig::default() };
        let velocity = DiffusionLoss::new(trained, params, loss);
        let block = format!("blocks.{}", config.block - 1);
        Self { config: config.clone(), block, velocity, alignment, averaged, average, following }
    }

    /// A pass through the SiT, and the tokens after block d, `[B, T, D]`, with their gradients.
    fn at_block<T>(&self, pass: impl FnOnce(Tap<'_>) -> T) -> (T, Tensor) {
        let mut h = Tensor::new();
        let out = pass(&mut |name, tokens| {
            if name == self.block {
                h = tokens.shallow_clone();
            }
        });
        (out, h)
    }

    /// L_v and lambda L_REPA.
    fn terms(&self, batch: &Batch) -> Terms {
        let (velocity, h) = self.at_block(|tap| self.velocity.per_sample_with(batch, tap));
        let mut terms = Terms::one("velocity", velocity.mean(Kind::Float));
        if let Some(alignment) = &self.alignment {
            terms.0.push(("alignment".into(), alignment.loss(&h, &batch.x) * self.config.lambda));
        }
        terms
    }

    /// Tokens of the average after block d, half way to noise and without labels.
    fn hidden(&self, batch: &Batch) -> Tensor {
        let _guard = tch::no_grad_guard();
        let (level, noise) = (Path::Flow.level(0.5), Noise::new(0, batch.index.clone()));
        let xt = level.mix(&batch.x, &noise.normal_like(&batch.x, Stream::Read));
        self.at_block(|tap| self.averaged.raw_with(&xt, &level, &Condition::none(), tap)).1
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let terms = self.terms(batch);
        terms.total().backward();
        optimisers.step("net");
        let (config, images) = (&self.config, at.images + batch.len() as u64);
        self.following.update(ema_weight(images, config.batch, config.ema_halflife_images));
        terms.detached()
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![("net", self.velocity.params()), ("average", &self.average)]
    }
    fn draw(&self) -> Option<Arc<dyn Draw>> {
        self.velocity.draw()
    }
    fn validate(&self, batch: &Batch, _: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        self.terms(batch)
    }
}

/// Drawn pictures to look at.
const ROWS: u64 = 4;
const COLUMNS: u64 = 10;

/// What an arm aligns the hidden layer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Nothing,
    /// The teacher as it is initialised.
    Random,
    Trained,
}

/// The configuration with its data.
struct Task {
    config: Config,
    sets: Opened,
    plan: DitPlan,
    /// What only the judge, only the teacher and only the SiT learn from.
    parts: [Arc<dyn Dataset>; 3],
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("vanilla", "a SiT alone", Arm::Nothing),
        ("random-teacher", "aligned with the teacher as it is initialised", Arm::Random),
        ("repa", "aligned with the trained teacher", Arm::Trained),
    ];
    Ok(Claim::of(json!(task.config), task.sets.fingerprints(), task, arms, Task::run))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        const KEY: u64 = 0x5E9A;
        let sets = config.data.open()?;
        let classes = sets.classes()?;
        let plan = config.network.plan(sets.shape(), classes)?;
        let [a, b] = [config.shares[0], config.shares[0] + config.shares[1]];
        if config.drawn < ROWS * COLUMNS {
            let why = format!("drawn = {}; {} pictures are shown", config.drawn, ROWS * COLUMNS);
            return Err(METHOD.refused(why));
        }
        if !(1..=plan.depth).contains(&config.block) || plan.patch.count_ones() != 1 || !(0.0 < a && a < b && b < 1.0) {
            let why = "block must be one of the network's, its patch a power of two, and shares must leave a part";
            return Err(METHOD.refused(why));
        }
        let parts = [(0.0, a), (a, b), (b, 1.0)].map(|(from, to)| part(&sets.train, KEY, from, to));
        Ok(Self { config, sets, plan, parts })
    }

    /// The teacher of a seed, trained once for all arms, or as it is before.
    fn teacher(&self, ctx: &mut Context, arm: Arm) -> Result<Teacher, Error> {
        let c = &self.config;
        let teacher = Teacher::new(&c.teacher, &self.plan, ctx.device, ctx.seed)?;
        let mut learner = SingleLoss::new(teacher, Kind::Float);
        if arm == Arm::Trained {
            let settings = json!({"teacher": c.teacher, "shares": c.shares, "patch": self.plan.patch});
            let table = TrainTable::new(c.teacher.images, c.teacher.batch, c.teacher.lr);
            let table = TrainTable { schedule: Schedule::Cosine, ..table };
            learner = ctx.trained_once("teacher", &settings, learner, &self.parts[1], &table)?;
        }
        let teacher = learner.into_objective();
        teacher.params.freeze();
        Ok(teacher)
    }

    /// The SiT of an arm and a seed. It is kept, since another arm looks at it again.
    fn model(&self, ctx: &mut Context, arm: Arm) -> Result<Model, Error> {
        let c = &self.config;
        let teacher = if arm == Arm::Nothing { None } else { Some(self.teacher(ctx, arm)?) };
        let model = Model::new(c, &self.plan, teacher, ctx.device, ctx.seed);
        let (name, table) = (format!("repa-{arm:?}").to_lowercase(), TrainTable::new(c.images, c.batch, c.lr));
        ctx.trained_once(&name, &json!(c), model, &self.parts[2], &table)
    }

    /// Pictures of every class in turn, from the same noise in all arms, `[N, C, H, W]`, and their classes.
    fn draw(&self, ctx: &mut Context, model: &Model) -> Result<(Tensor, Vec<u32>), Error> {
        /// Memory only.
        const TOGETHER: usize = 250;
        let (c, classes) = (&self.config, self.plan.classes.unsigned_abs());
        let levels = pentimento_diffusion::Grid::Uniform.levels(&Path::Flow, c.steps);
        let step = c.sampler.step();
        // Drawing is much of an arm's time: an estimate looks at a share of the pictures.
        let all: Vec<u64> = (0..ctx.length(c.drawn, 64)).collect();
        let mut parts = Vec::new();
        for samples in all.chunks(TOGETHER) {
            ctx.go_on()?;
            let noise = Noise::new(ctx.seed, samples.to_vec());
            let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
            let y: Vec<i64> = samples.iter().map(|i| (i % classes).cast_signed()).collect();
            parts.push(walk.draw(&model.averaged, &self.plan.input, ctx.device, &Condition::classes(&y)));
        }
        let asked = all.iter().map(|i| u32::try_from(i % classes).unwrap_or(u32::MAX)).collect();
        Ok((Tensor::cat(&parts, 0), asked))
    }

    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        /// As in the paper.
        const NEIGHBOURS: usize = 10;
        /// Test pictures on which CKNNA is measured, at a cost of their square.
        const READ: usize = 1000;
        let judge = Judge::trained(ctx, &self.config.judge, &self.parts[0])?;
        let (teacher, model) = (self.teacher(ctx, Arm::Trained)?, self.model(ctx, arm)?);
        let tests = self.sets.tests(ctx.device)?;
        let real = judge.gaussian(&tests.x)?;
        let distance = |drawn: &Features| -> Result<f64, Error> { Ok(frechet(&real, &Gaussian::of(drawn)?)?.value) };
        let (drawn, asked) = self.draw(ctx, &model)?;
        let seen = judge.look(&drawn)?;
        let reached = distance(&seen.features)?;
        let read = tests.head(READ);
        let near = cknna(&pooled(&model.hidden(&read))?, &pooled(&teacher.tokens(&read.x))?, NEIGHBOURS)?;
        let agreement = accuracy(&asked, &seen.classes)?;
        let mut metrics = Metrics::new([("frechet", reached), ("agreement", agreement), ("cknna", near)]);
        if arm == Arm::Trained {
            let vanilla = self.model(ctx, Arm::Nothing)?;
            let vanilla = distance(&judge.look(&self.draw(ctx, &vanilla)?.0)?.features)?;
            // Half of the gain, as gains are ratios.
            metrics.put("half_way", (reached * vanilla).sqrt());
        }
        metrics.showing(ctx, || self.pictures(&model, &teacher, &tests.head(10), &drawn))
    }

    /// What is drawn; and what in a test picture looks to teacher and SiT like its middle.
    fn pictures(&self, model: &Model, teacher: &Teacher, tests: &Batch, drawn: &Tensor) -> Result<Vec<Picture>, Error> {
        let _guard = tch::no_grad_guard();
        let patch = self.plan.patch;
        let [rows, columns] = [1, 2].map(|axis| self.plan.input[axis].div_euclid(patch));
        let like_middle = |tokens: &Tensor| {
            let centred = tokens - tokens.mean_dim(1, true, Kind::Float);
            let middle = centred.narrow(1, (rows >> 1) * columns + (columns >> 1), 1);
            let cosine = Tensor::cosine_similarity(&centred, &middle, -1, 1e-8).view([-1, 1, rows, columns]);
            let fine = cosine.repeat_interleave_self_int(patch, 2, None::<i64>);
            fine.repeat_interleave_self_int(patch, 3, None::<i64>).expand_as(&tests.x)
        };
        let lines: Vec<Tensor> = drawn.narrow(0, 0, (ROWS * COLUMNS) as i64).chunk(ROWS as i64, 0);
        let maps = [tests.x.shallow_clone(), like_middle(&teacher.tokens(&tests.x)), like_middle(&model.hidden(tests))];
        let caption =
            "test pictures; what in them is like their middle, to the teacher; the same to block d, half way to noise";
        Ok(vec![Picture::rows("drawn, of the classes in turn", &lines)?, Picture::rows(caption, &maps)?])
    }
}

/// Means of tokens `[B, T, D]` over a picture, of length 1.
fn pooled(tokens: &Tensor) -> Result<Features, Error> {
    features(&unit_rows(&tokens.mean_dim(1, false, Kind::Float)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{labels, noised, try_run, try_step};
    use pentimento_core::exact::{gap, largest, value};
    use pentimento_measure::{Knn, Metric};
    use pentimento_nn::open_gates;
    use pentimento_train::Silent;

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 600);
        let network = DitConfig::sized([2, 32, 3, 2]);
        let teacher = TeacherConfig { width: 32, blocks: 1, images: 6_400, batch: 32, lr: 5e-3 };
        let judge = JudgeConfig { width: 8, features: 16, images: 6_000, batch: 50, lr: 5e-3 };
        let training = Config { images: 6_400, batch: 32, lr: 2e-3, ema_halflife_images: 500, ..Config::default() };
        let measured = Config { steps: 8, drawn: 300, ..training };
        Config { data, network, hidden: 32, teacher, judge, ..measured }
    }

    fn plan() -> DitPlan {
        small().network.plan([1, 8, 8], 10).unwrap()
    }

    fn teacher() -> Teacher {
        let teacher = Teacher::new(&small().teacher, &plan(), Device::Cpu, 7).unwrap();
        teacher.params.freeze();
        teacher
    }

    /// With open gates, so that every weight has a say.
    fn model(lambda: f64, teacher: Option<Teacher>) -> Model {
        let config = Config { lambda, ..small() };
        let model = Model::new(&config, &plan(), teacher, Device::Cpu, 3);
        open_gates(model.velocity.params(), 3);
        model
    }

    fn batch(model: &Model, n: usize) -> Batch {
        noised(model, n, [1, 8, 8], Some(4))
    }

    /// Every pair of tokens counts alike, whatever their lengths: over flattened maps the cosine would not be 1.
    #[test]
    fn tokens_agree_up_to_a_positive_scale_each() {
        let draw = |name, size: &[i64]| pentimento_core::noise::init_normal(2, name, size);
        let (y, scale) = (draw("y", &[3, 16, 5]), draw("s", &[3, 16, 1]).exp());
        assert!((value(&disagreement(&y, &(&y * &scale))) + 1.0).abs() < 1e-6);
        assert!((value(&disagreement(&y, &(&y * -scale))) - 1.0).abs() < 1e-6);
        // One token of four turned round, and one at right angles.
        let y = Tensor::from_slice(&[1.0_f32, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 4.0]).view([1, 4, 2]);
        let z = Tensor::from_slice(&[9.0_f32, 0.0, 0.0, -1.0, 0.0, 7.0, 0.0, 0.1]).view([1, 4, 2]);
        assert!((value(&disagreement(&y, &z)) + 0.25).abs() < 1e-6);
    }

    /// A new transformer says 0, so that its loss is the target's square: of eps - x, at weight 1.
    #[test]
    fn the_target_is_the_velocity() {
        let model = Model::new(&small(), &plan(), None, Device::Cpu, 3);
        let batch = batch(&model, 5);
        let want = value(&(batch.eps.as_ref().unwrap() - &batch.x).square().mean(Kind::Float));
        assert!((value(&model.terms(&batch).total()) - want).abs() < 1e-5 * want);
    }

    /// Bit for bit: the initial weights are the same, and nothing is what the alignment adds.
    #[test]
    fn without_weight_the_gradients_are_those_of_a_sit() {
        let gradients = |lambda, teacher| {
            let model = model(lambda, teacher);
            model.terms(&batch(&model, 6)).total().backward();
            let all = model.velocity.params().entries();
            all.into_iter().filter(|p| p.tensor.requires_grad()).map(|p| (p.name, p.tensor.grad())).collect::<Vec<_>>()
        };
        let plain = gradients(0.5, None);
        let (off, on) = (gradients(0.0, Some(teacher())), gradients(0.5, Some(teacher())));
        let mut moved = 0;
        for (i, (name, g)) in plain.iter().enumerate() {
            assert_eq!((name, g), (&off[i].0, &off[i].1));
            assert!(largest(g) > 0.0, "{name}");
            moved += usize::from(*g != on[i].1);
        }
        assert!(moved > 10 && off.len() == plain.len() + 6, "{moved} of {}", plain.len());
    }

    /// The alignment reaches g and what runs up to block d; not the teacher, nor what runs behind.
    #[test]
    fn the_alignment_ends_at_its_block_and_before_the_teacher() {
        let model = model(0.5, Some(teacher()));
        model.terms(&batch(&model, 6)).0[1].1.backward();
        for p in model.velocity.params().entries().into_iter().filter(|p| p.tensor.requires_grad()) {
            let behind = p.name.starts_with("blocks.2") || p.name.starts_with("final_layer");
            assert_eq!(!p.tensor.grad().defined() || largest(&p.tensor.grad()) == 0.0, behind, "{}", p.name);
        }
        let teacher = &model.alignment.as_ref().unwrap().teacher;
        assert!(teacher.params.entries().iter().all(|p| !p.tensor.grad().defined()));
    }

    /// Other noise changes what is read and not what it is compared with.
    #[test]
    fn the_teacher_sees_the_clean_picture() {
        let model = model(1.0, Some(teacher()));
        let (one, alignment) = (batch(&model, 4), model.alignment.as_ref().unwrap());
        let h = Tensor::ones([4, 16, 32], (Kind::Float, Device::Cpu));
        let want = disagreement(&teacher().tokens(&one.x), &alignment.projector.forward(&h));
        assert_eq!(value(&alignment.loss(&h, &one.x)), value(&want));
        let other = Batch { eps: one.eps.as_ref().map(|e| -e), ..one.slice(0, 4) };
        assert_ne!(value(&model.terms(&one).0[1].1), value(&model.terms(&other).0[1].1));
    }

    /// A patch that changes, changes the token at its place most: to the transformer, and to teachers on the whole.
    #[test]
    fn tokens_of_both_stand_in_one_order() {
        let model = model(0.5, None);
        let one = batch(&model, 1);
        let other = Batch { x: one.x.copy(), ..one.slice(0, 1) };
        let _ = other.x.narrow(2, 2, 2).narrow(3, 4, 2).g_add_scalar_(3.0); // row 1, column 2 of 4 x 4
        let change = |read: &dyn Fn(&Batch) -> Tensor| {
            (read(&one) - read(&other)).square().sum_dim_intlist(-1, false, Kind::Float).get(0)
        };
        assert_eq!(change(&|b| model.hidden(b)).argmax(0, false).int64_value(&[]), 6);
        let all: Tensor = (0..20)
            .map(|seed| Teacher::new(&small().teacher, &plan(), Device::Cpu, seed).unwrap())
            .map(|teacher| change(&|b| teacher.tokens(&b.x)))
            .sum();
        assert_eq!(all.argmax(0, false).int64_value(&[]), 6);
    }

    /// Its share of the way to the new weights, and nothing of g.
    #[test]
    fn the_average_follows_after_the_step() {
        let config = Config { batch: 4, ema_halflife_images: 1_000_000, ..small() };
        let mut model = Model::new(&config, &plan(), Some(teacher()), Device::Cpu, 3);
        let old: Vec<Tensor> = model.average.entries().iter().map(|p| p.tensor.copy()).collect();
        let batch = batch(&model, 4);
        let [_, moved] = try_step(&mut model, &batch, 1e-2);
        let (share, new) = (ema_weight(4, 4, 1_000_000), model.velocity.params().entries());
        assert!(moved > 0.0 && share < 1.0);
        for ((average, old), new) in model.average.entries().iter().zip(old).zip(new) {
            assert_eq!(average.name, new.name);
            let want = &old + (new.tensor - &old) * share;
            assert!(gap(&want, &average.tensor) < 1e-6 && !average.tensor.requires_grad(), "{}", new.name);
        }
    }

    #[test]
    fn every_arm_learns_at_a_toy_size() {
        // In 200 steps the usual weight aligns nothing that can be told from noise: its sign hung on the processor.
        let task = Task::new(Config { lambda: 10.0, ..small() }).unwrap();
        let run = |ctx: &mut Context| {
            // A teacher that has learned knows digits by its map better than one that has not.
            let tests = task.sets.tests(ctx.device)?;
            let (known, asked) = (tests.slice(0, 300), tests.slice(300, 600));
            let mut right = Vec::new();
            for arm in [Arm::Random, Arm::Trained] {
                let teacher = task.teacher(ctx, arm)?;
                let near = Knn::new(&pooled(&teacher.tokens(&known.x))?, Metric::Cosine);
                let named = near.classify(&pooled(&teacher.tokens(&asked.x))?, &labels(&known)?, 5)?;
                right.push(accuracy(&labels(&asked)?, &named)?);
            }
            assert!(right[1] > right[0] + 0.05, "{right:?}");
            let fresh = Task::new(Config { images: 64, ..small() })?.run(ctx, Arm::Nothing)?;
            let [plain, random, whole] = [Arm::Nothing, Arm::Random, Arm::Trained].map(|arm| task.run(ctx, arm));
            let (plain, random, whole) = (plain?, random?, whole?);
            for m in [&plain, &random, &whole] {
                assert!(m["frechet"] < 0.5 * fresh["frechet"], "{:?} {:?}", m.values, fresh.values);
                assert!(m["agreement"] <= 1.0 && m.pictures.len() == 2);
            }
            assert!(whole["cknna"] > 1.5 * plain["cknna"], "{:?} {:?}", plain.values, whole.values);
            let half = (whole["frechet"] * plain["frechet"]).sqrt();
            assert!((whole["half_way"] / half - 1.0).abs() < 1e-9);
            Ok(whole)
        };
        try_run(run, 0, &mut Silent).unwrap();
    }

    /// The published size by its plan; a step at a depth of one, since 675 million weights with moments and averages are 16 GB.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let plan = config.network.plan([4, 32, 32], 1000).unwrap();
        assert_eq!((plan.cost().params, plan.tokens(), config.block), (674_816_272, 256, 8));
        let config = Config { block: 1, ..config };
        let plan = DitPlan { depth: 1, ..plan };
        let teacher = Teacher::new(&config.teacher, &plan, Device::Cpu, 0).unwrap();
        assert_eq!(teacher.tokens(&Tensor::zeros([1, 4, 32, 32], tch::kind::FLOAT_CPU)).size(), [1, 256, 768]);
        let mut model = Model::new(&config, &plan, Some(teacher), Device::Cpu, 0);
        // g: 1152 2048 + 2048, 2048 2048 + 2048, 2048 768 + 768
        let counts: Vec<usize> = model.params().iter().map(|(_, p)| p.count()).collect();
        assert_eq!(counts[0] - counts[1], 1152 * 2048 + 2048 * 2048 + 2048 * 768 + 2 * 2048 + 768);
        let batch = noised(&model, 2, [4, 32, 32], Some(4));
        let [loss, moved] = try_step(&mut model, &batch, config.lr);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
