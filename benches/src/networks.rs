//! Rows 1 to 3: forward passes and training steps of the DiT and of the U-Net, with the pieces the training loop is made
//! of: `SingleLoss`, fused AdamW, `Ema`.

use crate::ask::{self, Ask, Least, Work, input, inputs, numbers, waited, weights};
use anyhow::Result;
use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Batch, Condition, Learner, Network, Objective, Params, SingleLoss, Terms};
use pentimento_nn::diffusers::{self, unet_names};
use pentimento_nn::weights::load_params;
use pentimento_nn::{Cost, DitConfig, UnetConfig};
use pentimento_train::{Ema, Lowered};
use tch::{Kind, Reduction, Tensor};

/// As in `benches/peers/networks.py`.
pub const LEARNING_RATE: f64 = 1e-4;
const EMA_WEIGHT: f64 = 0.05;
pub const CHECKED_STEPS: u32 = 5;

/// A network with its weights.
pub struct Built {
    pub params: Params,
    pub network: Box<dyn Network>,
    /// Of a forward pass for one picture.
    pub cost: Cost,
}

/// Makes a network with the shared weights, for [`Forward`] and [`Train`].
pub type Make = fn(&Ask) -> Result<Built>;

/// The DiT under its original names.
pub fn dit(ask: &Ask) -> Result<Built> {
    let s = &ask.size;
    let config = DitConfig::sized([s.patch, s.width, s.depth, s.heads]);
    let params = Params::new(ask.device()?, 0);
    let plan = config.plan([s.channels, s.side, s.side], s.classes)?;
    let network = plan.build(&params.root());
    let saved = weights(ask)?;
    load_params(&params, |name| saved.get(name).cloned())?;
    Ok(Built { params, network: Box::new(network), cost: plan.cost() })
}

/// The U-Net of a diffusers configuration, under diffusers' names.
pub fn unet(ask: &Ask) -> Result<Built> {
    let (config, image, classes) = ask.size.unet()?.ours()?;
    let plan = UnetConfig { layout: ask.layout, ..config }.plan(image, classes)?;
    let params = Params::new(ask.device()?, 0);
    let network = plan.build(&params.root());
    let saved = weights(ask)?;
    diffusers::load(&params, |ours| unet_names(&plan, ours), |name| saved.get(name).cloned())?;
    Ok(Built { params, network: Box::new(network), cost: plan.cost() })
}

/// A batch that a network sees, and what it is to say of it.
pub struct Shown {
    x: Tensor,
    t: Tensor,
    y: Tensor,
    target: Tensor,
}

impl Shown {
    fn shared(ask: &Ask) -> Result<Self> {
        let all = inputs(ask)?;
        let take = |name| input(&all, name);
        Ok(Self { x: ask.layout.apply(&take("x")?), t: take("t")?, y: take("y")?, target: take("target")? })
    }

    /// One of its own, with labels of class 0.
    pub fn waves(batch: i64, [c, h, w]: [i64; 3]) -> Self {
        let wave = Tensor::arange(batch * c * h * w, tch::kind::FLOAT_CPU).sin().view([batch, c, h, w]);
        let t = Tensor::full([batch], 0.5, tch::kind::FLOAT_CPU);
        Self { x: wave.shallow_clone(), t, y: Tensor::zeros([batch], tch::kind::INT64_CPU), target: -wave }
    }
}

/// A forward pass without gradients, over and over as in sampling.
pub struct Forward {
    built: Built,
    x: Tensor,
    t: Tensor,
    condition: Condition,
    _lowered: Lowered,
}

impl Forward {
    /// With the shared weights and batch.
    pub fn new(ask: &Ask, make: Make) -> Result<Self> {
        Self::of(make(ask)?, Shown::shared(ask)?, ask.precision.kind())
    }

    /// Of a network, whose weights are learned no more.
    pub fn of(built: Built, shown: Shown, kind: Kind) -> Result<Self> {
        built.params.freeze();
        let (Shown { x, t, y, .. }, lowered) = (shown, Lowered::new(&built.params, kind)?);
        Ok(Self { built, x, t, condition: Condition { y: Some(y), c: None }, _lowered: lowered })
    }

    fn output(&self) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let y = self.built.network.forward(&self.x, &self.t, &self.condition);
        waited(self.built.params.device());
        Ok(y)
    }
}

impl Work for Forward {
    fn run(&mut self) -> Result<()> {
        self.output().map(drop)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        numbers(&self.output()?)
    }

    /// Weights are read once.
    fn least(&self) -> Option<Least> {
        Some(Least::of(self.built.cost, self.x.size()[0].unsigned_abs(), 1))
    }
}

/// Mean squared distance of the network's output from a target.
struct Regression {
    params: Params,
    network: Box<dyn Network>,
    t: Tensor,
    target: Tensor,
}

impl Objective for Regression {
    fn loss(&self, batch: &Batch, _: &At) -> Terms {
        let condition = Condition { y: batch.y.as_ref().map(Tensor::shallow_clone), c: None };
        let output = self.network.forward(&batch.x, &self.t, &condition).to_kind(Kind::Float);
        Terms::one("mse", output.mse_loss(&self.target, Reduction::Mean))
    }

    fn params(&self) -> &Params {
        &self.params
    }
}

/// Forward, backward, AdamW and moving average.
pub struct Train {
    learner: SingleLoss<Regression>,
    optimisers: Optimisers,
    ema: Ema,
    batch: Batch,
    step: u64,
    cost: Cost,
}

impl Train {
    /// With the shared weights and batch.
    pub fn new(ask: &Ask, make: Make) -> Result<Self> {
        Ok(Self::of(make(ask)?, Shown::shared(ask)?, ask.precision.kind()))
    }

    /// Of a network, from the weights that it has.
    pub fn of(built: Built, shown: Shown, kind: Kind) -> Self {
        let Built { params, network, cost } = built;
        let Shown { x, t, y, target } = shown;
        let rows = x.size()[0].unsigned_abs();
        let batch =
            Batch { x, y: Some(y), factors: None, index: (0..rows).collect(), first: 0, t: Vec::new(), eps: None };
        let mut optimisers = Optimisers::new(batch.len());
        optimisers.lr = LEARNING_RATE;
        optimisers.add(SingleLoss::<Regression>::NAME, AdamW::new(&params, AdamWConfig::default()));
        let ema = Ema::new(&params);
        let objective = Regression { params, network, t, target };
        Self { learner: SingleLoss::new(objective, kind), optimisers, ema, batch, step: 0, cost }
    }

    /// The averaged weights that are learned, as one vector.
    fn average(&self) -> Tensor {
        let learned = ask::learned(&self.learner.objective().params);
        let mut parts = Vec::new();
        self.ema.visit(&mut |name, t| {
            if learned.contains(name) {
                parts.push(t.to_kind(Kind::Double).flatten(0, -1));
            }
        });
        Tensor::cat(&parts, 0)
    }

    fn advance(&mut self) -> Terms {
        let at = At { seed: 0, step: self.step, images: self.step * self.batch.len() as u64 };
        let terms = self.learner.step(&self.batch, &at, &mut self.optimisers);
        self.optimisers.take_info();
        self.ema.update(EMA_WEIGHT);
        self.step += 1;
        waited(self.learner.objective().params.device());
        terms
    }
}

impl Work for Train {
    fn run(&mut self) -> Result<()> {
        self.advance();
        Ok(())
    }

    /// The losses of the first steps, then how far the average went, in steps of full size: about 1.
    fn check(&mut self) -> Result<Vec<f64>> {
        let before = self.average();
        let mut all: Vec<f64> = (0..CHECKED_STEPS).map(|_| self.advance().total().double_value(&[])).collect();
        let n = f64::from(CHECKED_STEPS);
        let full = EMA_WEIGHT * LEARNING_RATE * n * (n + 1.0) / 2.0;
        let count = self.learner.objective().params.count() as f64;
        all.push((self.average() - before).norm().double_value(&[]) / full / count.sqrt());
        Ok(all)
    }
    /// Each weight is read forward and backward and its gradient written; AdamW reads weight, gradient and moments and writes all
    /// but the gradient; the average reads weight and average and writes the average.
    fn least(&self) -> Option<Least> {
        const MOVED: u64 = 3 + 7 + 3;
        // Backward costs two products for each forward one.
        Some(Least::of(self.cost, 3 * self.batch.len() as u64, MOVED))
    }
}
