//! Rows 1 to 3: forward passes and training steps of the DiT and of the U-Net, with the pieces the training loop is made
//! of: `SingleLoss`, fused AdamW, `Ema`.

use crate::ask::{self, Ask, Work, input, inputs, numbers, waited, weights};
use anyhow::Result;
use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Batch, Condition, Learner, Network, Objective, Params, SingleLoss, Terms};
use pentimento_nn::diffusers::{self, unet_names};
use pentimento_nn::weights::load_params;
use pentimento_nn::{DitConfig, UnetConfig};
use pentimento_torch_shim::Autocast;
use pentimento_train::Ema;
use tch::{Kind, Reduction, Tensor};

/// As in `benches/peers/networks.py`.
pub const LEARNING_RATE: f64 = 1e-4;
const EMA_WEIGHT: f64 = 0.05;
pub const CHECKED_STEPS: u32 = 5;

/// Makes a network with the shared weights, for [`Forward`] and [`Train`].
pub type Make = fn(&Ask) -> Result<(Params, Box<dyn Network>)>;

/// The DiT under its original names.
pub fn dit(ask: &Ask) -> Result<(Params, Box<dyn Network>)> {
    let s = &ask.size;
    let (patch, width, depth, heads) = (Some(s.patch), Some(s.width), Some(s.depth), Some(s.heads));
    let config = DitConfig { patch, width, depth, heads, ..DitConfig::default() };
    let params = Params::new(ask.device()?, 0);
    let network = config.plan([s.channels, s.side, s.side], s.classes)?.build(&params.root());
    let saved = weights(ask)?;
    load_params(&params, |name| saved.get(name).cloned())?;
    Ok((params, Box::new(network)))
}

/// The U-Net of a diffusers configuration, under diffusers' names.
pub fn unet(ask: &Ask) -> Result<(Params, Box<dyn Network>)> {
    let (config, image, classes) = ask.size.unet()?.ours()?;
    let plan = UnetConfig { layout: ask.layout, ..config }.plan(image, classes)?;
    let params = Params::new(ask.device()?, 0);
    let network = plan.build(&params.root());
    let saved = weights(ask)?;
    diffusers::load(&params, |ours| unet_names(&plan, ours), |name| saved.get(name).cloned())?;
    Ok((params, Box::new(network)))
}

/// A forward pass without gradients.
pub struct Forward {
    params: Params,
    network: Box<dyn Network>,
    x: Tensor,
    t: Tensor,
    condition: Condition,
    kind: Kind,
}

impl Forward {
    /// With the shared weights and batch.
    pub fn new(ask: &Ask, make: Make) -> Result<Self> {
        let (params, network) = make(ask)?;
        params.freeze();
        let all = inputs(ask)?;
        let condition = Condition { y: Some(input(&all, "y")?), c: None };
        let (x, t) = (ask.layout.apply(&input(&all, "x")?), input(&all, "t")?);
        Ok(Self { params, network, x, t, condition, kind: ask.precision.kind() })
    }

    fn output(&self) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let _autocast = Autocast::new(self.params.device(), self.kind)?;
        let y = self.network.forward(&self.x, &self.t, &self.condition);
        waited(self.params.device());
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
}

impl Train {
    /// With the shared weights and batch.
    pub fn new(ask: &Ask, make: Make) -> Result<Self> {
        let (params, network) = make(ask)?;
        let all = inputs(ask)?;
        let batch = Batch {
            x: ask.layout.apply(&input(&all, "x")?),
            y: Some(input(&all, "y")?),
            factors: None,
            index: (0..ask.batch.unsigned_abs()).collect(),
            first: 0,
            t: Vec::new(),
            eps: None,
        };
        let mut optimisers = Optimisers::new(batch.len());
        optimisers.lr = LEARNING_RATE;
        optimisers.add(SingleLoss::<Regression>::NAME, AdamW::new(&params, AdamWConfig::default()));
        let ema = Ema::new(&params);
        let objective = Regression { params, network, t: input(&all, "t")?, target: input(&all, "target")? };
        Ok(Self { learner: SingleLoss::new(objective, ask.precision.kind()), optimisers, ema, batch, step: 0 })
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
}
