//! # Vector quantized Wasserstein autoencoder
//! arXiv 2302.05917 (2023) - reference: VuongLong/VQ-WAE
//!
//! **Gives.** Pictures as grids of codewords of which nearly all are used, and as often as one asks.
//! **How.** An encoder f_e makes M latents z^m in R^D of a picture, one per place of a grid; C is K codewords of masses pi. Q takes
//!     the nearest codeword and passes gradients straight on to f_e:
//!     L = E |f_d(Q(f_e(x))) - x|^2 + lambda W( latents of the batch, sum_k pi_k delta_{c_k} )
//!     W is the cost of carrying the one onto the other at d(z, c_k) = |z - c_k|^2 apiece. At its minimum over f_e the decoder
//!     carries P_{C,pi} onto the data. The plan is a constant: gradients reach f_e and C through d, and nothing else moves C. So
//!     codewords become the centres of clusters of latents, and pi says how large these are. As first published pi is uniform and
//!     one transport takes the latents of all places; in print each place has a pi^m of its own, softmax of learned numbers, and
//!     L = E |..|^2 + lambda/M sum_m W^m + lambda_r/M sum_m KL(pi^m || uniform)
//!     with W by its entropic semi-dual, phi a number for each codeword, climbing a few steps per batch:
//!     W = max_phi sum_k pi_k phi_k - eps E_z ln sum_k pi_k exp((phi_k - d(z, c_k)) / eps)
//!     Baselines: VQ-VAE, whose latent terms |sg(z) - q|^2 + beta |z - sg(q)|^2 move only codewords that are taken; and codewords
//!     as moving means of their latents, put on a latent of the batch where they have too few.
//! **Needs.** `latent::codebook`, `latent::transport`, `nn::Grid`.
//! **Departs.** Small solves the first version by Sinkhorn with entropy, phi kept from batch to batch; the released code
//!     solves it exactly and beside phi has a second potential on latents, of which W needs none. phi is a table, where print has a
//!     network on codewords. Codewords are the nearest ones in training too; that code draws them softly under the semi-dual.
//!     Networks are those of VQ-VAE, without batch normalisation. SQ-VAE, the PixelCNN that draws new grids and Frechet distances of
//!     it are not here.
//! **Holds if.** On test pictures the perplexity of the codewords is 1.8 times that of VQ-VAE after the same steps, over seeds, the
//!     learning rate of each arm chosen on held-out pictures (`recipes/autoencoders/vq-wae.toml`). Reported beside it: that the
//!     squared error is no worse for it, and the comparison with moving means.

use pentimento_claims::{
    Budget, Claim, Context, Error, Method, Metrics, Opened, Picture, Recipe, Sets, Trainable, Trainer, middle, settings,
};
use pentimento_core::exact::value;
use pentimento_core::noise::init_normal;
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Draws, Learner, Noise, Params, Scope, Stream, Terms, Trained};
use pentimento_data::Dataset;
use pentimento_latent::codebook::{self, MovingCodebook};
use pentimento_latent::gumbel;
use pentimento_latent::transport::{Transport, squared_distances};
use pentimento_nn::{Grid, GridDecoder, GridEncoder};
use pentimento_train::{Signature, TrainTable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "vq-wae",
    family: "autoencoders",
    page: include_str!("vq_wae.rs"),
    recipe: include_str!("../../../../recipes/autoencoders/vq-wae.toml"),
    settings: settings::<Config>,
    model: Some(Trainer::of::<Config>()),
    claim,
};

/// How much of the latents each codeword is to stand for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Masses {
    /// As much as any other, over all places together.
    Uniform,
    /// What is learned, at each place apart.
    ByPlace,
}

/// How the potentials phi are found.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// By Sinkhorn's iteration.
    Sinkhorn,
    /// By gradient ascent at the learning rate of the rest.
    SemiDual,
}

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned from and judged on.
    pub data: Sets,
    /// Channels on the grid.
    pub hidden: i64,
    /// D, the width of latents and codewords.
    pub latent: i64,
    /// K, the number of codewords.
    pub codes: i64,
    /// lambda, the weight of transport.
    pub weight: f64,
    /// What the masses pi are.
    pub masses: Masses,
    /// lambda_r, the weight of their divergence from uniform ones.
    pub kl_weight: f64,
    /// How phi is found.
    pub solver: Solver,
    /// eps, in the unit of squared distances.
    pub eps: f64,
    /// Rounds of Sinkhorn, or steps of ascent, per batch.
    pub rounds: usize,
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
            data: Sets::of("cifar10", "cifar10:test", 0),
            hidden: 64,
            latent: 64,
            codes: 512,
            weight: 0.25,
            masses: Masses::Uniform,
            kl_weight: 0.5,
            solver: Solver::Sinkhorn,
            eps: 0.01,
            rounds: 5,
            rates: vec![1e-3],
            trial_images: 16_000,
            images: 64_000,
            batch: 32,
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
        Ok(Box::new(Model::new(self, signature.input, Arm::Transport, device, seed)?))
    }
}

/// Both sides of a picture are halved twice, as in the released code, and two residual blocks follow.
const HALVINGS: u32 = 2;
const BLOCKS: usize = 2;
/// beta, VQ-VAE's.
const COMMITMENT: f64 = 0.25;
/// gamma of the moving means, and the latents per batch below which one begins anew (Dhariwal et al. 2020).
const DECAY: f64 = 0.99;
const LEAST: f64 = 1.0;
/// Standard deviation of the first codewords, about that of the first latents. Under the released unit normals all latents have one
/// codeword in common, unless they are normalised.
const SPREAD: f64 = 0.1;

/// Codewords `[K, D]`, and what moves them.
enum Book {
    Gradient(Tensor),
    Means(MovingCodebook),
    Transport(Box<Matching>),
}

/// The transport of latents to codewords: P problems, one for all places or one for each.
struct Matching {
    codes: Tensor,
    /// `[M, K]` where masses are learned.
    logits: Option<Tensor>,
    /// Where the last batch left them, `[P, K]`.
    phi: Tensor,
    own: Params,
    config: Config,
}

impl Matching {
    fn new(config: &Config, root: &Scope, codes: Tensor, places: i64) -> Self {
        let logits = (config.masses == Masses::ByPlace).then(|| root.zeros("logits", &[places, config.codes]));
        let own = Params::new(codes.device(), 0);
        let problems = if logits.is_some() { places } else { 1 };
        Self { codes, logits, phi: own.root().zeros("phi", &[problems, config.codes]), own, config: config.clone() }
    }

    /// Latents `[B M, D]` to codewords, with gradients to both and to the masses.
    fn problem(&self, z: &Tensor) -> Transport {
        let k = self.config.codes;
        let log_pi = match &self.logits {
            Some(logits) => logits.log_softmax(-1, Kind::Float),
            None => Tensor::full([1, k], -(k as f64).ln(), (Kind::Float, z.device())),
        };
        let points = z.view([-1, log_pi.size()[0], self.config.latent]).transpose(0, 1); // [P, B M / P, D]
        Transport::from_equal(squared_distances(&points, &self.codes), log_pi, self.config.eps)
    }

    /// Brings phi nearer to its maximum for a problem held fixed.
    fn climb(&self, problem: &Transport, optimisers: &mut Optimisers) {
        match self.config.solver {
            Solver::Sinkhorn => {
                let better = problem.sinkhorn(&self.phi.detach(), self.config.rounds);
                self.phi.detach().copy_(&better);
            }
            Solver::SemiDual => {
                for _ in 0..self.config.rounds {
                    (-problem.semi_dual(&self.phi).mean(Kind::Float)).backward();
                    optimisers.step("phi");
                }
            }
        }
    }

    /// W, and KL(pi || uniform), means over the problems. phi is held: see [`Transport::semi_dual`].
    fn terms(&self, problem: &Transport) -> [Tensor; 2] {
        let w = problem.semi_dual(&self.phi.detach()).mean(Kind::Float);
        let kl = match &self.logits {
            Some(logits) => gumbel::kl_to_uniform(logits).mean(Kind::Float),
            // Uniform masses have no divergence.
            None => Tensor::from(0.0_f32).to_device(w.device()),
        };
        [w, kl]
    }
}

struct Model {
    grid: Grid,
    params: Params,
    encoder: GridEncoder,
    decoder: GridDecoder,
    book: Book,
    config: Config,
}

impl Model {
    fn new(config: &Config, shape: [i64; 3], arm: Arm, device: Device, seed: u64) -> Result<Self, Error> {
        let Config { hidden, latent, .. } = *config;
        let grid = Grid { input: shape, halvings: HALVINGS, hidden, blocks: BLOCKS, latent };
        let params = Params::new(device, seed);
        let root = params.root();
        let encoder = GridEncoder::new(&root.sub("encoder"), &grid)?;
        let decoder = GridDecoder::new(&root.sub("decoder"), &grid)?;
        let first = init_normal(seed, "codes", &[config.codes, latent]) * SPREAD;
        let book = match arm {
            Arm::Gradient => Book::Gradient(root.tensor("codes", first)),
            Arm::Means => Book::Means(MovingCodebook::new(root.buffer("codes", first), DECAY, LEAST)),
            Arm::Transport => {
                let places = grid.sides().iter().product();
                Book::Transport(Box::new(Matching::new(config, &root, root.tensor("codes", first), places)))
            }
        };
        Ok(Self { grid, encoder, decoder, book, config: config.clone(), params })
    }

    fn codes(&self) -> &Tensor {
        match &self.book {
            Book::Gradient(codes) => codes,
            Book::Means(means) => &means.codes,
            Book::Transport(matching) => &matching.codes,
        }
    }

    /// z of pictures `[B, C, H, W]`, the places of the first picture first: `[B M, D]`.
    fn latents(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x).permute([0, 2, 3, 1]).reshape([-1, self.config.latent])
    }

    /// Pictures of codewords `[B M, D]`.
    fn decode(&self, q: &Tensor) -> Tensor {
        let [h, w] = self.grid.sides();
        self.decoder.forward(&q.view([-1, h, w, self.config.latent]).permute([0, 3, 1, 2]))
    }

    /// Numbers of the codewords of pictures, `[B M]`, and what the decoder makes of these.
    fn read(&self, x: &Tensor) -> (Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        let index = codebook::nearest(&self.latents(x), self.codes());
        let y = self.decode(&self.codes().index_select(0, &index));
        (index, y)
    }

    /// How often each codeword was taken in all pictures, `[K]`, and the squared error per value of colours in [0, 1].
    fn evaluate(&self, batch: &Batch) -> (Tensor, f64) {
        const TOGETHER: usize = 250;
        let k = self.config.codes;
        let (mut usage, mut error) = (Tensor::zeros([k], (Kind::Double, batch.x.device())), 0.0);
        for part in batch.parts(TOGETHER) {
            let (index, y) = self.read(&part.x);
            usage += codebook::usage(&index, k);
            error += value(&(part.x - y).square().sum(Kind::Double));
        }
        (usage, 0.25 * error / batch.x.numel() as f64)
    }
}

impl Learner for Model {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let z = self.latents(&batch.x);
        let index = codebook::nearest(&z, self.codes());
        let q = self.codes().index_select(0, &index);
        let error = (self.decode(&codebook::straight_through(&z, &q)) - &batch.x).square().mean(Kind::Float);
        let latent = match &self.book {
            Book::Gradient(_) => {
                let [codebook, commitment] = codebook::latent_terms(&z, &q);
                codebook + commitment * COMMITMENT
            }
            Book::Means(_) => {
                let [_, commitment] = codebook::latent_terms(&z, &q);
                commitment * COMMITMENT
            }
            Book::Transport(matching) => {
                let problem = matching.problem(&z);
                matching.climb(&problem.detach(), optimisers);
                let [w, kl] = matching.terms(&problem);
                w * self.config.weight + kl * self.config.kl_weight
            }
        };
        (&error + &latent).backward();
        optimisers.step("net");
        if let Book::Means(means) = &mut self.book {
            means.update(&z.detach(), &index, &mut Draws::at(at.seed, at.step, 0, Stream::Own));
        }
        Terms(vec![("error".into(), error.detach()), ("latent".into(), latent.detach())])
    }
    fn params(&self) -> Vec<(&'static str, &Params)> {
        match &self.book {
            Book::Transport(matching) => vec![("net", &self.params), ("phi", &matching.own)],
            _ => vec![("net", &self.params)],
        }
    }
    fn visit_state(&mut self, visit: &mut dyn FnMut(&str, &Tensor)) {
        if let Book::Means(means) = &self.book {
            means.visit_state(visit);
        }
    }
    fn validate(&self, batch: &Batch, _: &At) -> Terms {
        Terms::one("error", Tensor::from(self.evaluate(batch).1))
    }
    fn trained(&self) -> Option<&dyn Trained> {
        Some(self)
    }
}

impl Trained for Model {
    /// The codewords of all places.
    fn encode(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        let index = codebook::nearest(&self.latents(x), self.codes());
        Some(self.codes().index_select(0, &index).view([x.size()[0], -1]))
    }
    fn reconstruct(&self, x: &Tensor, _: &Noise) -> Option<Tensor> {
        Some(self.read(x).1)
    }
}

/// What moves codewords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Gradient,
    Means,
    Transport,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let sets = config.data.open()?;
    let arms = [
        ("vq-vae", "gradients move the codewords that are taken", Arm::Gradient),
        ("vq-vae-means", "moving means, with restarts", Arm::Means),
        ("vq-wae", "transport moves all codewords", Arm::Transport),
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
        |ctx| Model::new(config, sets.shape(), arm, ctx.device, ctx.seed),
        |model, held| Ok(-model.evaluate(held).1),
    )?;
    let tests = sets.tests(ctx.device)?;
    let (usage, error) = model.evaluate(&tests);
    let used = value(&usage.gt(0.0).sum(Kind::Double));
    let values = [("perplexity", codebook::perplexity(&usage)), ("error", error), ("used", used), ("rate", rate)];
    Metrics::new(values).showing(ctx, || pictures(&model, &tests))
}

/// Test pictures and what their codewords decode to; and the codewords, each as the mean of the cells it stands for.
fn pictures(model: &Model, tests: &Batch) -> Result<Vec<Picture>, Error> {
    const COLUMNS: i64 = 32;
    const SIDE: i64 = 16;
    let x = tests.head(500).x;
    let (index, y) = model.read(&x);
    let first = [&x, &y].map(|t| t.narrow(0, 0, t.size()[0].min(Picture::COLUMNS as i64)));
    let (usage, cells) = codebook::mean_cells(&x, &index, model.config.codes, 1 << HALVINGS);
    // Black where a codeword stands for nothing.
    let cells = cells.masked_fill(&usage.eq(0.0).view([-1, 1, 1, 1]), -1.0);
    let tiles = cells.index_select(0, &usage.argsort(0, true)).upsample_nearest2d([SIDE; 2], None, None);
    let rows = tiles.split(COLUMNS, 0);
    let caption = "every codeword as the mean of the cells it stands for, the most used first; black: none";
    Ok(vec![Picture::rows("test pictures; decoded from their codewords", &first)?, Picture::rows(caption, &rows)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{noisy, try_run, try_step};
    use pentimento_core::exact::largest;
    use pentimento_train::Silent;

    const ALL: [Arm; 3] = [Arm::Gradient, Arm::Means, Arm::Transport];

    fn small() -> Config {
        let data = Sets::of("digits", "digits", 200);
        let sizes = Config { hidden: 16, latent: 4, codes: 24, weight: 0.1, ..Config::default() };
        Config { data, rates: vec![1e-6, 5e-3], trial_images: 320, images: 9600, ..sizes }
    }

    fn model(config: &Config, arm: Arm) -> Model {
        Model::new(config, [1, 8, 8], arm, Device::Cpu, 1).unwrap()
    }

    fn matching(model: &Model) -> &Matching {
        let Book::Transport(matching) = &model.book else { panic!("no transport") };
        matching
    }

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(4, name, size)
    }

    /// phi at its maximum for these latents.
    fn solve(m: &Matching, z: &Tensor) {
        let phi = m.phi.detach();
        phi.shallow_clone().copy_(&tch::no_grad(|| m.problem(z)).sinkhorn(&phi, 3000));
    }

    fn m_code(m: &Matching, k: i64) -> Tensor {
        m.codes.detach().get(k)
    }

    /// As many codewords as latents, of equal mass: the best codebook is the latents themselves, and carrying them costs nothing.
    #[test]
    fn a_codeword_for_every_latent_costs_nothing_and_is_at_rest() {
        let config = Config { codes: 24, eps: 1e-3, ..small() };
        let model = model(&config, Arm::Transport);
        let m = matching(&model);
        let z = (draw("z", &[24, 4]) * 3.0).set_requires_grad(true);
        tch::no_grad(|| m.codes.shallow_clone().copy_(&z.flip([0])));
        solve(m, &z);
        let [w, _] = m.terms(&m.problem(&z));
        w.backward();
        // What is left is the entropy, eps ln K.
        assert!(value(&w) < 1e-3 * 24.0_f64.ln() + 1e-4 && largest(&z.grad()) < 1e-4, "{w:?}");
        tch::no_grad(|| m.codes.shallow_clone().copy_(&(&z + 1.0)));
        solve(m, &z);
        assert!((value(&m.terms(&m.problem(&z))[0]) - 4.0).abs() < 0.02, "all moved by one in four coordinates");
    }

    /// Each place is carried alone. With equal masses and the same latents at every place that is the transport of all together. A
    /// codeword near the latents of a place gains mass there.
    #[test]
    fn places_are_carried_apart_and_masses_follow_latents() {
        let by_place = model(&Config { masses: Masses::ByPlace, eps: 0.3, ..small() }, Arm::Transport);
        let (apart, all) = (matching(&by_place), model(&Config { eps: 0.3, ..small() }, Arm::Transport));
        let one = draw("z", &[10, 1, 4]);
        let same = one.repeat([1, 4, 1]).view([40, 4]);
        let terms = [apart, matching(&all)].map(|m| {
            solve(m, &same);
            m.terms(&m.problem(&same))
        });
        assert!((value(&terms[0][0]) - value(&terms[1][0])).abs() < 1e-3 && value(&terms[0][1]).abs() < 1e-6);

        // Place 0 near codeword 3, the rest as before: only its problem changes, and the mass of codeword 3 is to rise there.
        let z = same.view([10, 4, 4]).copy();
        z.select(1, 0).copy_(&(m_code(apart, 3) + one.select(1, 0) * 0.01));
        let z = z.view([40, 4]);
        let before = apart.phi.detach().copy();
        solve(apart, &z);
        apart.terms(&apart.problem(&z))[0].backward();
        let moved = (apart.phi.detach() - before).abs().amax([1].as_slice(), false);
        assert!(value(&moved.get(0)) > 0.1 && largest(&moved.narrow(0, 1, 3)) < 1e-3);
        let grad = apart.logits.as_ref().unwrap().grad();
        let least: i64 = grad.get(0).argmin(None, false).int64_value(&[]);
        assert_eq!(least, 3, "{:?}", grad.get(0));
        assert!(
            largest(&grad.sum_dim_intlist([1].as_slice(), false, Kind::Float)) < 1e-4,
            "a constant of phi is nothing"
        );
    }

    /// From the reconstruction the encoder has the gradient that q has, and codewords none; from transport both have theirs. VQ-VAE
    /// reaches codewords that are taken, transport every one, moving means are not learned by gradient.
    #[test]
    fn codewords_are_moved_by_their_latent_term_alone() {
        for arm in ALL {
            let model = model(&Config { eps: 1.0, ..small() }, arm);
            let x = noisy(3, [1, 8, 8]).x;
            let z = model.latents(&x);
            let index = codebook::nearest(&z, model.codes());
            let q = model.codes().index_select(0, &index);
            model.decode(&codebook::straight_through(&z, &q)).square().sum(Kind::Float).backward();
            assert!(!model.codes().grad().defined(), "{arm:?}");
            let reached = |p: &str| {
                let of = |e: &pentimento_core::Param| e.name.starts_with(p) && largest(&e.tensor.grad()) > 0.0;
                model.params.entries().iter().any(of)
            };
            assert!(reached("encoder") && reached("decoder"));
            if let Book::Transport(m) = &model.book {
                solve(m, &z);
            }
            let rows = |z: &Tensor| {
                match &model.book {
                    Book::Gradient(_) => codebook::latent_terms(z, &q)[0].backward(),
                    Book::Transport(m) => m.terms(&m.problem(z))[0].backward(),
                    Book::Means(_) => return 0,
                }
                model.codes().grad().abs().amax([1].as_slice(), false).gt(0.0).sum(Kind::Int64).int64_value(&[])
            };
            let moved = rows(&z.detach());
            let taken = codebook::usage(&index, 24).gt(0.0).sum(Kind::Int64).int64_value(&[]);
            let want = [taken, 0, 24][ALL.iter().position(|a| *a == arm).unwrap()];
            assert!(moved == want && taken < 24, "{arm:?}: {moved} of {taken}");
        }
    }

    /// Counted over parts of 250 it is what all 600 at once give.
    #[test]
    fn use_is_counted_over_all_pictures() {
        let model = model(&small(), Arm::Transport);
        let batch = noisy(600, [1, 8, 8]);
        let (usage, error) = model.evaluate(&batch);
        assert_eq!(value(&usage.sum(Kind::Double)), 600.0 * 4.0);
        let (index, y) = model.read(&batch.x);
        assert_eq!(usage, codebook::usage(&index, 24));
        let want = ((y - &batch.x) * 0.5).square().mean(Kind::Double);
        assert!((error - value(&want)).abs() < 1e-6);
    }

    #[test]
    fn every_arm_learns_at_a_toy_size_and_transport_uses_the_codewords() {
        let config = Config { codes: 256, weight: 0.04, ..small() };
        let sets = config.data.open().unwrap();
        let of = |config: &Config, arm| {
            let metrics = try_run(|ctx| run(ctx, config, &sets, arm), 0, &mut Silent).unwrap();
            assert_eq!((metrics.pictures.len(), metrics.get("rate")), (2, Some(5e-3)));
            ["perplexity", "error"].map(|name| metrics.get(name).unwrap())
        };
        let (_, blank) = model(&config, Arm::Gradient).evaluate(&sets.tests(Device::Cpu).unwrap());
        let found = ALL.map(|arm| of(&config, arm));
        let ascent =
            Config { masses: Masses::ByPlace, solver: Solver::SemiDual, rounds: 3, kl_weight: 0.1, ..config.clone() };
        let by_ascent = of(&ascent, Arm::Transport);
        for [perplexity, error] in found.into_iter().chain([by_ascent]) {
            assert!(error < 0.4 * blank && perplexity > 1.5, "{perplexity} {error} of {blank}");
        }
        assert!(found[2][0] > 1.3 * found[0][0], "{found:?} {by_ascent:?}");
    }

    /// The released sizes, and a learned mass for each codeword at each of the 64 places.
    #[test]
    fn the_paper_scale_model_has_its_size_and_takes_a_step() {
        let config: Config = Recipe::of(&METHOD).unwrap().config(Budget::Paper).unwrap();
        let mut model = Model::new(&config, [3, 32, 32], Arm::Transport, Device::Cpu, 0).unwrap();
        let residual = 2 * (64 * 64 * 9 + 64 + 64 * 64 + 64);
        let encoder = 3 * 32 * 16 + 32 + 32 * 64 * 16 + 64 + 64 * 64 * 9 + 64 + residual + 64 * 64 + 64;
        let decoder = 64 * 64 * 9 + 64 + residual + 64 * 32 * 16 + 32 + 32 * 3 * 16 + 3;
        let counts: Vec<usize> = model.params().iter().map(|(_, p)| p.count()).collect();
        assert_eq!(counts, [encoder + decoder + 512 * 64 + 64 * 512, 64 * 512]);
        let [loss, moved] = try_step(&mut model, &noisy(2, [3, 32, 32]), 1e-3);
        assert!(loss.is_finite() && moved > 0.0);
    }
}
