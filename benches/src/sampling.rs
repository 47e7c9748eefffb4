//! Row 3, end to end: DDIM with classifier-free guidance on a DiT with diffusers' weights.

use crate::ask::{Ask, Least, Work, input, inputs, numbers, waited, weights};
use anyhow::Result;
use pentimento_core::{Condition, Level, Noise, Params};
use pentimento_diffusion::{
    ClassifierFree, Ddim, DiscreteVp, Interval, Parametrised, Path, Prediction, Spacing, TimeInput, Walk, sample,
};
use pentimento_nn::Cost;
use pentimento_nn::diffusers::{self, dit_names};
use pentimento_train::Lowered;
use tch::{Kind, Tensor};

/// Length of the table of noise levels, with diffusers' default betas.
const TABLE: usize = 1000;

/// A whole drawing, from shared noise to latents.
pub struct Drawing {
    params: Params,
    cost: Cost,
    denoiser: ClassifierFree<Parametrised>,
    levels: Vec<Level>,
    noise: Noise,
    start: Tensor,
    condition: Condition,
    kind: Kind,
}

impl Drawing {
    /// With the shared weights, noise and labels.
    pub fn new(ask: &Ask) -> Result<Self> {
        let (config, image, classes) = ask.size.transformer()?.ours()?;
        let params = Params::new(ask.device()?, 0);
        let plan = config.plan(image, classes)?;
        let network = plan.build(&params.root());
        let saved = weights(ask)?;
        diffusers::load(&params, dit_names, |name| saved.get(name).cloned())?;
        params.freeze();
        // The path is not read: levels come from the table, and noise is what the network predicts.
        let time = TimeInput::Index { steps: TABLE };
        let network = Parametrised::new(Box::new(network), Path::Flow, Prediction::Epsilon).timed(time);
        let all = inputs(ask)?;
        Ok(Self {
            params,
            cost: plan.cost(),
            denoiser: ClassifierFree::new(network, ask.guidance, Interval::ALL),
            levels: DiscreteVp::linear(TABLE, 1e-4, 0.02).levels(ask.steps, Spacing::Leading),
            noise: Noise::new(0, (0..ask.batch.unsigned_abs()).collect()),
            start: input(&all, "x")?,
            condition: Condition { y: Some(input(&all, "y")?), c: None },
            kind: ask.precision.kind(),
        })
    }

    fn output(&self) -> Result<Tensor> {
        let _lowered = Lowered::new(&self.params, self.kind)?;
        let walk = Walk { step: &Ddim { eta: 0.0 }, levels: &self.levels, noise: &self.noise };
        let x = sample(&self.denoiser, &walk, self.start.shallow_clone(), &self.condition, &mut |_| ());
        waited(self.params.device());
        Ok(x)
    }
}

impl Work for Drawing {
    fn run(&mut self) -> Result<()> {
        self.output().map(drop)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        numbers(&self.output()?)
    }

    /// Two halves of guidance in one batch: weights are read once a step.
    fn least(&self) -> Option<Least> {
        let steps = self.levels.len().saturating_sub(1) as u64;
        let passes = steps * 2 * self.start.size()[0].unsigned_abs();
        Some(Least::of(self.cost, passes, steps))
    }
}
