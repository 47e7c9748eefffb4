//! # Compositional Visual Generation with Composable Diffusion Models
//! arXiv 2206.01714 (2022) - reference: energy-based-model/Compositional-Visual-Generation-with-Composable-Diffusion-Models-PyTorch
//!
//! **Gives.** Several things in one picture, or a thing kept away from it, from a model that was only ever told one thing at a time.
//! **How.** For concepts c_i that are independent given x, p(x|c_1, .., c_n) ~ p(x) prod_i p(x|c_i)/p(x). Scores of products add up:
//!     eps_hat = u + sum_i w_i (eps(x_t|c_i) - u),  u = eps(x_t)                     (conjunction, w_i > 0)
//!     eps_hat = u - w (eps(x_t|c_j) - u)      (negation; the paper's w (eps_i - eps_j) is this beside c_i at weight w)
//!     and any sampler walks on. Nothing is trained but a conditional model with captions dropped. One concept is classifier-free
//!     guidance. The sum is exact at t = 0 only: noised products are not products of noised densities (`diffusion::compose`).
//!     What makes it hold here is that the captions are: of a scene with a few objects each tells the place, or the colour, of one,
//!     so that scenes with objects at both places are likely under both.
//! **Needs.** `diffusion::{Composed, DiffusionLoss}`, `nn::NetworkConfig`, `data::detect`.
//! **Departs.** Our scenes in place of CLEVR. At the small size places stand on a map beside the picture, since a network of minutes
//!     does not learn where coordinates are; v-prediction, and DDIM with 25 steps. The claim's baseline is not told the second place;
//!     the comparison that could fail is with `together`.
//! **Holds if.** Pictures asked for two places have objects at both more often under the conjunction than where the first alone is
//!     told, by 15 points, over seeds (`recipes/guidance/composable-diffusion.toml`). Reported beside it: twice as often, for three
//!     places too; at most 5 points less often than under one condition that tells both at once, which the network never heard; and a
//!     colour that is negated is seen in less than half as many pictures as without a caption.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Picture, Recipe, Trainable, Trainer, settings,
};
use pentimento_core::{
    At, Batch, Condition, Draw, Draws, Learner, Network, Noise, Objective, Params, SingleLoss, Stream, Terms, Trained,
};
use pentimento_data::detect::{Detector, Found};
use pentimento_data::scenes::{self, Scene, Scenes, ScenesConfig};
use pentimento_data::{Dataset, Open, sprites::Shape};
use pentimento_diffusion::{Clipped, Composed, DiffusionLoss, Grid, Path, Prediction, Sampler, Term, Walk};
use pentimento_nn::{Mapped, NetworkConfig, UnetConfig};
use pentimento_train::{Schedule, Signature, TrainTable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "composable-diffusion",
    family: "guidance",
    page: include_str!("composable_diffusion.rs"),
    recipe: include_str!("../../../../recipes/guidance/composable-diffusion.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// How a network hears captions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Hearing {
    /// Through a linear layer, added to the embedding of time: the authors' way.
    Embedded,
    /// With the place drawn on a map beside the picture.
    Mapped,
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from.
    pub world: ScenesConfig,
    /// How the network hears captions.
    pub hearing: Hearing,
    /// Share of captions dropped.
    pub silent: f64,
    /// Share of the others that tell the colour; the rest tell the place.
    pub colours: f64,
    /// The network.
    pub network: NetworkConfig,
    /// The noise path.
    pub path: Path,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    /// How the rate goes on from there.
    pub schedule: Schedule,
    /// The sampler.
    pub sampler: Sampler,
    /// The levels at which it evaluates.
    pub grid: Grid,
    /// Its steps.
    pub steps: usize,
    /// Weights of a concept that is asked for, to choose from, for every arm that asks.
    pub weights: Vec<f64>,
    /// Pictures for each trial of a weight.
    pub trial: u64,
    /// Weight of the concept that is kept away.
    pub negation: f64,
    /// Pictures on which an arm is measured.
    pub pictures: u64,
    /// Least distance between places that are asked for together, as a share of the edge.
    pub apart: f64,
    /// How far from its place an object may be found.
    pub tolerance: f64,
}

impl Default for Config {
    fn default() -> Self {
        let unet = UnetConfig {
            channels: Some(24),
            mult: Some(vec![1.0, 2.0, 2.0]),
            groups: Some(8),
            ..UnetConfig::default()
        };
        Self {
            world: ScenesConfig {
                objects: [1, 3],
                shapes: vec![Shape::Square, Shape::Disc, Shape::Triangle],
                px: 16,
                size: [0.13, 0.15],
                rotations: 1,
                ..ScenesConfig::default()
            },
            hearing: Hearing::Mapped,
            silent: 0.1,
            colours: 0.25,
            network: NetworkConfig::Unet(UnetConfig { blocks: Some(1), ..unet }),
            path: Path::VpCosine { s: 0.008 },
            prediction: Prediction::VPrediction,
            images: 48_000,
            batch: 32,
            lr: 1e-3,
            schedule: Schedule::Cosine,
            sampler: Sampler::Ddim { eta: 0.0 },
            grid: Grid::Uniform,
            steps: 25,
            weights: vec![1.0, 2.0, 4.0],
            trial: 50,
            negation: 2.0,
            pictures: 200,
            apart: 0.35,
            tolerance: 0.1,
        }
    }
}

impl Config {
    fn learner(&self, shape: [i64; 3], device: Device, seed: u64) -> Result<SingleLoss<Model>, Error> {
        let (params, words) = (Params::new(device, seed), Words::of(&self.world));
        let (root, width) = (params.root(), words.width());
        let network: Box<dyn Network> = match self.hearing {
            Hearing::Embedded => self.network.build(&root, shape, width)?,
            Hearing::Mapped => Box::new(Mapped::new(&self.network, &root, shape, (width, RADIUS))?),
        };
        let loss = DiffusionLoss::stratified(network, params, (self.path, self.prediction), 0.0);
        Ok(SingleLoss::new(Model { config: self.clone(), words, shape, loss }, Kind::Float))
    }
}

impl Trainable for Config {
    fn data(&self) -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(Scenes::new(self.world.clone())?))
    }
    fn options(&self) -> Open {
        Open { scenes: Some(self.world.clone()), ..Open::default() }
    }
    fn table(&self) -> TrainTable {
        TrainTable { schedule: self.schedule, ..TrainTable::new(self.images, self.batch, self.lr) }
    }
    fn build(&self, signature: &Signature, device: Device, seed: u64) -> Result<Box<dyn Learner>, Error> {
        Ok(Box::new(self.learner(signature.input, device, seed)?))
    }
}

/// Of the bump that marks a place on a map, where the picture spans [-1, 1].
const RADIUS: f64 = 0.2;

/// Captions (told, x, y, colours): a one with coordinates in [-1, 1], or a one at the colour. Zeros say nothing.
#[derive(Clone, Copy, Debug)]
struct Words {
    colours: i64,
}

impl Words {
    /// Numbers that tell a place.
    const PLACE: i64 = 3;

    fn of(world: &ScenesConfig) -> Self {
        Self { colours: i64::try_from(world.colours.len()).unwrap_or(i64::MAX) }
    }

    /// D.
    fn width(self) -> i64 {
        Self::PLACE + self.colours
    }

    /// `[B, D]` for places `[B, 2]` in shares of the edge.
    fn places(self, xy: &Tensor) -> Tensor {
        let told = xy.ones_like().narrow(1, 0, 1);
        Tensor::cat(&[told, xy * 2.0 - 1.0, Tensor::zeros([xy.size()[0], self.colours], (xy.kind(), xy.device()))], 1)
    }

    /// `[B, D]` for colours by number, `[B]` int64.
    fn colours(self, numbers: &Tensor) -> Tensor {
        let told = numbers.one_hot(self.colours).to_kind(Kind::Float);
        Tensor::cat(&[Tensor::zeros([told.size()[0], Self::PLACE], (Kind::Float, told.device())), told], 1)
    }
}

/// The diffusion loss under captions, each of which tells one thing of one object of a scene.
struct Model {
    config: Config,
    words: Words,
    shape: [i64; 3],
    loss: DiffusionLoss,
}

impl Model {
    /// `[B, D]`; what each tells is drawn by the sample's running number.
    fn captions(&self, batch: &Batch, seed: u64) -> Tensor {
        let Some(factors) = &batch.factors else { panic!("scenes without factors") };
        let Config { silent, colours, .. } = self.config;
        let (mut place, mut colour) = (Vec::new(), Vec::new());
        for row in 0..batch.len() as u64 {
            let u = Draws::at(seed, batch.first + row, 0, Stream::Drop).uniform();
            let spoken = u >= silent;
            let of_colour = u < silent + (1.0 - silent) * colours;
            place.push(f32::from(u8::from(spoken && !of_colour)));
            colour.push(f32::from(u8::from(spoken && of_colour)));
        }
        let mask = |v: &[f32]| Tensor::from_slice(v).to_device(factors.device()).unsqueeze(1);
        let numbers = factors.select(1, scenes::COLOUR).to_kind(Kind::Int64);
        self.words.places(&factors.narrow(1, scenes::CENTRE, 2)) * mask(&place)
            + self.words.colours(&numbers) * mask(&colour)
    }

    /// Pictures under weighted captions, `[N, C, H, W]`.
    fn compose(&self, noise: &Noise, terms: Vec<Term>) -> Tensor {
        let (c, device) = (&self.config, self.loss.params().device());
        // As many words of silence as are asked for at once.
        let said = terms.iter().filter_map(|t| t.condition.c.as_ref()).map(|c| c.size()[1]).max();
        let width = said.unwrap_or(self.words.width());
        let silence = Condition::vectors(Tensor::zeros([noise.rows(), width], (Kind::Float, device)));
        let composed = Clipped::new(Composed::new(self.loss.denoiser(), terms), 1.0);
        let (step, levels) = (c.sampler.step(), c.grid.levels(&c.path, c.steps));
        Walk { step: step.as_ref(), levels: &levels, noise }.draw(&composed, &self.shape, device, &silence)
    }
}

impl Objective for Model {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        let c = Condition::vectors(self.captions(batch, at.seed));
        Terms::one("diffusion", self.loss.per_sample_under(batch, &c, &mut |_, _| {}).mean(None::<Kind>))
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
    /// Scenes without a caption.
    fn generate(&self, noise: &Noise, _: &Condition) -> Option<Tensor> {
        Some(self.compose(noise, Vec::new()))
    }
}

/// Pictures to look at.
const SHOWN: usize = 10;

/// What an arm asks of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// Nothing.
    Nothing,
    /// The first caption alone.
    First,
    /// All captions in one condition, of which the network never heard more than one.
    Together,
    /// All captions.
    Conjunction,
    /// Anything but a colour.
    Not,
}

/// Places that are asked for together, and a scene that has objects there.
struct Request {
    places: Vec<[f64; 2]>,
    scene: Scene,
}

/// The configuration with its world.
struct Task {
    config: Config,
    world: Arc<Scenes>,
    words: Words,
    detector: Detector,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let task = Task::new(recipe.config(budget)?)?;
    let arms = [
        ("unconditional", "no caption", Arm::Nothing),
        ("first", "the first caption, guided", Arm::First),
        ("together", "all captions in one condition, guided", Arm::Together),
        ("conjunction", "all captions, composed", Arm::Conjunction),
        ("negation", "a colour, with a negative weight", Arm::Not),
    ];
    Ok(Claim::of(json!(task.config), vec![task.world.fingerprint()], task, arms, Task::run))
}

impl Task {
    fn new(config: Config) -> Result<Self, Error> {
        let world = Arc::new(Scenes::new(config.world.clone())?);
        let (words, detector) = (Words::of(&config.world), Detector::new(&world)?);
        Ok(Self { config, world, words, detector })
    }

    fn learner(&self, device: Device, seed: u64) -> Result<SingleLoss<Model>, Error> {
        self.config.learner(self.world.size(), device, seed)
    }

    /// The model of a seed, trained once for all arms.
    fn model(&self, ctx: &mut Context) -> Result<Model, Error> {
        let (c, learner) = (&self.config, self.learner(ctx.device, ctx.seed)?);
        let taught = json!([c.world, c.hearing, c.silent, c.colours, c.network, c.path, c.prediction]);
        let data: Arc<dyn Dataset> = self.world.clone();
        Ok(ctx.trained_once("captioned", &json!([taught, c.table()]), learner, &data, &c.table())?.into_objective())
    }

    /// Requests for n places: those of scenes of n objects that stand clear of one another, the same for all arms and seeds.
    fn requests(&self, n: usize, skip: u64, count: u64) -> Result<Vec<Request>, Error> {
        const SEED: u64 = 0xC0_3905;
        let world = Scenes::new(ScenesConfig { objects: [n, n], ..self.config.world.clone() })?;
        let clear = |places: &[[f64; 2]]| {
            let far = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]) >= self.config.apart;
            places.iter().enumerate().all(|(i, a)| places[..i].iter().all(|b| far(a, b)))
        };
        let request = |i| {
            let scene = world.describe(SEED, i);
            Request { places: scene.objects.iter().map(|o| [o.x, o.y]).collect(), scene }
        };
        let [skip, count] = [skip, count].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok((0..world.len()).map(request).filter(|r| clear(&r.places)).skip(skip).take(count).collect())
    }

    /// The captions of requests: one `[N, D]` for each of their places.
    fn captions(&self, requests: &[Request], device: Device) -> Vec<Tensor> {
        let n = requests.first().map_or(0, |r| r.places.len());
        let column = |k: usize| {
            let xy: Vec<f64> = requests.iter().flat_map(|r| r.places[k]).collect();
            let xy = Tensor::from_slice(&xy).view([-1, 2]).to_kind(Kind::Float).to_device(device);
            self.words.places(&xy)
        };
        (0..n).map(column).collect()
    }

    /// Captions `[N, D]` as one condition: bumps on one map `[N, n D]`, or the mean, which is also that of their embeddings.
    fn together(&self, captions: &[Tensor]) -> Tensor {
        match self.config.hearing {
            Hearing::Mapped => Tensor::cat(captions, 1),
            Hearing::Embedded => Tensor::stack(captions, 0).mean_dim(0, false, Kind::Float),
        }
    }

    /// Pictures of some samples `[N, C, H, W]` under weighted captions `[N, D]`.
    fn draw(
        &self,
        ctx: &mut Context,
        model: &Model,
        samples: std::ops::Range<u64>,
        asked: &[(f64, Tensor)],
    ) -> Result<Tensor, Error> {
        /// Pictures drawn at once: memory only.
        const TOGETHER: usize = 50;
        let (all, mut parts) = (samples.collect::<Vec<u64>>(), Vec::new());
        for (part, samples) in all.chunks(TOGETHER).enumerate() {
            ctx.go_on()?;
            let [from, n] = [part * TOGETHER, samples.len()].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            let terms = asked.iter().map(|(weight, captions)| Term {
                weight: *weight,
                condition: Condition::vectors(captions.narrow(0, from, n)),
            });
            parts.push(model.compose(&Noise::new(ctx.seed, samples.to_vec()), terms.collect()));
        }
        Ok(Tensor::cat(&parts, 0))
    }

    /// What the detector finds in each picture.
    fn look(&self, x: &Tensor) -> Vec<Vec<Found>> {
        let each = usize::try_from(self.world.size().iter().product::<i64>()).unwrap_or(usize::MAX);
        let mut values = vec![0.0_f32; x.numel()];
        x.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().copy_data(&mut values, x.numel());
        values.chunks(each).map(|picture| self.detector.find(picture)).collect()
    }

    /// Whether something stands at every place of a request.
    fn fulfilled(&self, found: &[Found], request: &Request) -> bool {
        let near = |[x, y]: [f64; 2]| found.iter().any(|f| (f.x - x).hypot(f.y - y) <= self.config.tolerance);
        request.places.iter().all(|&place| near(place))
    }

    /// Draws an arm's answer to requests.
    fn answer(
        &self,
        ctx: &mut Context,
        model: &Model,
        (arm, weight): (Arm, f64),
        (requests, first): (&[Request], u64),
    ) -> Result<Tensor, Error> {
        let captions = self.captions(requests, ctx.device);
        let asked: Vec<(f64, Tensor)> = match arm {
            Arm::First => captions.into_iter().take(1).map(|c| (weight, c)).collect(),
            Arm::Together => vec![(weight, self.together(&captions))],
            Arm::Conjunction => captions.into_iter().map(|c| (weight, c)).collect(),
            Arm::Nothing | Arm::Not => Vec::new(),
        };
        self.draw(ctx, model, first..first + requests.len() as u64, &asked)
    }

    /// Share of requests that an arm's pictures fulfil.
    fn accuracy(&self, pictures: &Tensor, requests: &[Request]) -> f64 {
        let seen = self.look(pictures);
        share(seen.iter().zip(requests).filter(|(f, r)| self.fulfilled(f, r)).count(), requests.len())
    }

    /// Objects in a picture, on average.
    fn objects(&self, pictures: &Tensor) -> f64 {
        let seen = self.look(pictures);
        seen.iter().map(Vec::len).sum::<usize>() as f64 / seen.len() as f64
    }

    /// What requests would look like in the world.
    fn rendered(&self, requests: &[Request]) -> Tensor {
        let [c, h, w] = self.world.size();
        let each = usize::try_from(c * h * w).unwrap_or(usize::MAX);
        let mut values = vec![0.0_f32; requests.len() * each];
        for (request, out) in requests.iter().zip(values.chunks_mut(each)) {
            self.world.render(&request.scene, out);
        }
        Tensor::from_slice(&values).view([-1, c, h, w])
    }

    /// Asks for two and three places at the weight that does best on other requests for two.
    fn place(&self, ctx: &mut Context, model: &Model, arm: Arm) -> Result<Metrics, Error> {
        let c = &self.config;
        let [n, trial] = [c.pictures, c.trial].map(|n| ctx.length(n, 1));
        let others = self.requests(2, c.pictures, trial)?;
        let weight = ctx.choose(&c.weights, |ctx, weight| {
            let x = self.answer(ctx, model, (arm, *weight), (&others, c.pictures))?;
            Ok(self.accuracy(&x, &others))
        })?;
        let mut metrics = Metrics::new([("weight", weight)]);
        for (places, name) in [(1, "accuracy_of_one"), (2, "accuracy"), (3, "accuracy_of_three")] {
            let requests = self.requests(places, 0, n)?;
            let x = self.answer(ctx, model, (arm, weight), (&requests, 0))?;
            metrics.put(name, self.accuracy(&x, &requests));
            metrics.put(format!("objects_of_{places}"), self.objects(&x));
            if ctx.shown() && arm == Arm::Conjunction && places > 1 {
                let shown = &requests[..requests.len().min(SHOWN)];
                let told = self.answer(ctx, model, (Arm::Together, weight), (shown, 0))?;
                let rows = [self.rendered(shown), told, x.narrow(0, 0, x.size()[0].min(SHOWN as i64))];
                metrics
                    .pictures
                    .push(Picture::rows("objects at the places; captions told together; their conjunction", &rows)?);
            }
        }
        Ok(metrics)
    }

    /// Draws without a caption, or away from one colour for each picture, and counts where it is seen.
    fn exclude(&self, ctx: &mut Context, model: &Model, arm: Arm) -> Result<Metrics, Error> {
        let c = &self.config;
        let n = ctx.length(c.pictures, 1);
        let k = u64::try_from(self.words.colours).unwrap_or(1);
        let colours: Vec<i64> = (0..n).map(|i| i64::try_from(i % k).unwrap_or(0)).collect();
        let captions = self.words.colours(&Tensor::from_slice(&colours).to_device(ctx.device));
        let asked = if arm == Arm::Not { vec![(-c.negation, captions)] } else { Vec::new() };
        let x = self.draw(ctx, model, 0..n, &asked)?;
        let seen = self.look(&x);
        let named = |(found, &k): (&Vec<Found>, &i64)| found.iter().any(|f| i64::try_from(f.colour) == Ok(k));
        let hits = seen.iter().zip(&colours).filter(|&p| named(p)).count();
        let mut metrics = Metrics::new([("excluded", share(hits, seen.len())), ("objects", self.objects(&x))]);
        if arm == Arm::Nothing {
            let requests = self.requests(2, 0, n)?;
            let scenes = self.rendered(&requests);
            metrics.put("accuracy", self.accuracy(&x, &requests));
            metrics.put("judge_right", self.accuracy(&scenes, &requests));
            metrics.put("judge_wrong", self.accuracy(&scenes.roll([1], [0]), &requests));
        } else if ctx.shown() {
            let few = i64::try_from(n).unwrap_or(i64::MAX).min(SHOWN as i64);
            let free = self.draw(ctx, model, 0..n.min(SHOWN as u64), &[])?;
            let caption = format!("without a caption; away from, in turn, {}", c.world.colours.join(", "));
            metrics.pictures.push(Picture::rows(&caption, &[free, x.narrow(0, 0, few)])?);
        }
        Ok(metrics)
    }

    fn run(&self, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
        let model = self.model(ctx)?;
        match arm {
            Arm::First | Arm::Together | Arm::Conjunction => self.place(ctx, &model, arm),
            Arm::Nothing | Arm::Not => self.exclude(ctx, &model, arm),
        }
    }
}

/// (k + 1/2) / (n + 1): a share with a logarithm.
fn share(hits: usize, of: usize) -> f64 {
    (hits as f64 + 0.5) / (of as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{try_run, try_step};
    use pentimento_core::exact::{gap, value};
    use pentimento_data::gather;
    use pentimento_nn::open_gates;
    use pentimento_train::Silent;

    fn small() -> Config {
        let world = ScenesConfig { px: 16, size: [0.14, 0.16], objects: [1, 2], ..Config::default().world };
        let unet = UnetConfig { channels: Some(16), mult: Some(vec![1.0, 2.0]), groups: Some(4), ..Default::default() };
        let network = NetworkConfig::Unet(UnetConfig { blocks: Some(1), ..unet });
        let sizes = Config { world, network, images: 3_200, batch: 16, lr: 4e-3, steps: 6, ..Config::default() };
        let fewer = Config { pictures: 12, trial: 4, weights: vec![1.0, 2.0], ..sizes };
        Config { apart: 0.45, tolerance: 0.15, ..fewer }
    }

    fn task() -> Task {
        Task::new(small()).unwrap()
    }

    fn scenes(task: &Task, n: u64) -> Batch {
        gather(task.world.as_ref(), &(0..n).collect::<Vec<_>>()).unwrap().upload(Device::Cpu)
    }

    /// The centre is something said; the mean of two captions is the caption of the middle, which is why a map is told of both.
    #[test]
    fn a_place_is_never_silence_and_the_mean_of_two_is_their_middle() {
        let at = |xy: [f64; 4]| Words { colours: 2 }.places(&Tensor::from_slice(&xy).view([2, 2]));
        assert_eq!(
            Vec::<f64>::try_from(at([0.5, 0.5, 0.0, 1.0]).view([-1])).unwrap(),
            [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0, 0.0, 0.0]
        );
        let mean = at([0.2, 0.9, 0.6, 0.1]).mean_dim(0, false, Kind::Double);
        assert!(gap(&mean, &at([0.4, 0.5, 0.4, 0.5]).get(0)) < 1e-12);
        let (task, captions) = (task(), [at([0.5, 0.5, 0.0, 1.0]), at([0.1, 0.2, 0.3, 0.4])]);
        let embedded = Config { hearing: Hearing::Embedded, ..task.config.clone() };
        assert_eq!(task.together(&captions), Tensor::cat(&captions, 1));
        let mean = Task::new(embedded).unwrap().together(&captions);
        assert!(gap(&mean, &((&captions[0] + &captions[1]) / 2.0)) < 1e-6);
    }

    /// Silence, a colour or a place, in the shares that were asked for; by running numbers, so that parts say what the whole says.
    #[test]
    fn a_caption_tells_one_thing_of_one_object() {
        let task = task();
        let model = task.learner(Device::Cpu, 1).unwrap().into_objective();
        let batch = scenes(&task, 2000);
        let c = model.captions(&batch, 5);
        let place = c.select(1, 0); // the one before coordinates
        let colour = c.narrow(1, Words::PLACE, 6).sum_dim_intlist(1, false, Kind::Float);
        assert!(value(&(&place * &colour).sum(Kind::Float)) == 0.0);
        let share = |t: &Tensor| value(&t.mean(Kind::Double));
        assert!((share(&place) - 0.9 * 0.75).abs() < 0.04 && (share(&colour) - 0.9 * 0.25).abs() < 0.04);
        let silent = c.abs().sum_dim_intlist(1, false, Kind::Float).eq(0.0).to_kind(Kind::Float);
        assert!((share(&silent) - 0.1).abs() < 0.03);
        assert_eq!(model.captions(&batch.slice(700, 720), 5), c.narrow(0, 700, 20));
        let factors = batch.factors.unwrap();
        let true_of = |row: i64| {
            let x = 2.0 * factors.double_value(&[row, scenes::CENTRE]) - 1.0;
            let k = factors.double_value(&[row, scenes::COLOUR]) as i64;
            let told = c.double_value(&[row, 1]);
            (place.double_value(&[row]) == 0.0 || (told - x).abs() < 1e-6)
                && (colour.double_value(&[row]) == 0.0 || c.double_value(&[row, Words::PLACE + k]) == 1.0)
        };
        assert!((0..2000).all(true_of));
    }

    /// The judge sees what is there, and not what is elsewhere.
    #[test]
    fn requests_stand_clear_and_their_own_scenes_fulfil_them() {
        let task = Task::new(Config::default()).unwrap();
        for n in [2, 3] {
            let requests = task.requests(n, 0, 200).unwrap();
            let x = task.rendered(&requests);
            let [own, others] = [x.shallow_clone(), x.roll([1], [0])].map(|x| task.accuracy(&x, &requests));
            assert!(own > 0.97 && others < 0.05, "{n}: {own} {others}");
            assert!((task.objects(&x) - n as f64).abs() < 0.05);
            let later = task.requests(n, 150, 50).unwrap();
            assert!(later.iter().zip(&requests[150..]).all(|(a, b)| a.places == b.places));
        }
        assert!((share(0, 9) - 0.05).abs() < 1e-12 && share(9, 9) < 1.0);
    }

    /// Through a network and a whole walk: the order of concepts is nothing, a concept twice at half the weight is the concept,
    /// and a weight of zero is not to ask.
    #[test]
    fn pictures_compose_as_their_captions() {
        let task = task();
        try_run(
            |ctx| {
                let model = task.learner(ctx.device, 3)?.into_objective();
                open_gates(model.loss.params(), 4);
                let requests = task.requests(2, 0, 3)?;
                let [a, b] = task.captions(&requests, ctx.device).try_into().unwrap();
                let mut draw = |asked: &[(f64, &Tensor)]| {
                    let asked: Vec<_> = asked.iter().map(|(w, t)| (*w, t.shallow_clone())).collect();
                    task.draw(ctx, &model, 0..3, &asked).unwrap()
                };
                let both = draw(&[(1.5, &a), (-0.5, &b)]);
                assert!(gap(&both, &draw(&[(-0.5, &b), (1.5, &a)])) < 1e-3);
                assert!(gap(&draw(&[(2.0, &a)]), &draw(&[(1.0, &a), (1.0, &a)])) < 1e-3);
                let free = draw(&[]);
                assert!(gap(&free, &draw(&[(0.0, &a)])) < 1e-6 && gap(&free, &both) > 0.02, "{}", gap(&free, &both));
                Ok(Metrics::default())
            },
            0,
            &mut Silent,
        )
        .unwrap();
    }

    #[test]
    fn every_arm_runs_at_a_toy_size_and_a_place_is_heard() {
        let task = task();
        let run = |ctx: &mut Context| {
            let model = &task.model(ctx)?;
            let one = task.requests(1, 0, 30)?;
            let mut asked = |arm| task.answer(ctx, model, (arm, 2.0), (&one, 0)).map(|x| task.accuracy(&x, &one));
            let [free, told] = [asked(Arm::Nothing)?, asked(Arm::Conjunction)?];
            let mut metrics = Metrics::new([("free", free), ("told", told)]);
            for (arm, pictures) in
                [(Arm::Nothing, 0), (Arm::First, 0), (Arm::Together, 0), (Arm::Conjunction, 2), (Arm::Not, 1)]
            {
                let found = match arm {
                    Arm::Nothing | Arm::Not => task.exclude(ctx, model, arm)?,
                    _ => task.place(ctx, model, arm)?,
                };
                assert_eq!(found.pictures.len(), pictures, "{arm:?}");
                metrics.values.extend(found.values);
            }
            Ok(metrics)
        };
        let found = try_run(run, 0, &mut Silent).unwrap();
        assert!(found.values.iter().all(|(_, v)| v.is_finite()));
        assert!(found["told"] > found["free"] + 0.2, "{found:?}");
    }

    /// 224,779,782 weights of the released network, counted off its code, and six rows for colours; a step at a sixth of the width.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let task = Task::new(config.clone()).unwrap();
        let cost = config.network.cost(task.world.size(), task.words.width()).unwrap();
        assert_eq!(cost.params, 224_779_782 + 6 * 768);
        let NetworkConfig::Unet(unet) = config.network.clone() else { panic!("the paper's model is a U-Net") };
        let network = NetworkConfig::Unet(UnetConfig { channels: Some(32), head_channels: Some(32), ..unet });
        let task = Task::new(Config { network, ..config }).unwrap();
        let mut learner = task.learner(Device::Cpu, 0).unwrap();
        let mut host = gather(task.world.as_ref(), &[0]).unwrap();
        learner.draw().unwrap().draw(&mut host, 0);
        let [loss, moved] = try_step(&mut learner, &host.upload(Device::Cpu), task.config.lr);
        assert!(loss.is_finite() && moved > 0.0, "{loss}");
    }
}
