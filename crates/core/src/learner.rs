use crate::optim::Optimisers;
use crate::{Batch, Condition, Draw, Noise, Params};
use pentimento_torch_shim::Autocast;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Where training stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Seed of the run.
    pub seed: u64,
    /// Steps done before this one.
    pub step: u64,
    /// Images seen before this step.
    pub images: u64,
}

/// Named scalars that sum to a loss, in order.
#[derive(Debug, Default)]
pub struct Terms(pub Vec<(String, Tensor)>);

impl Terms {
    /// A single term.
    pub fn one(name: &str, value: Tensor) -> Self {
        Self(vec![(name.into(), value)])
    }

    /// The sum.
    ///
    /// # Panics
    /// When there are no terms.
    pub fn total(&self) -> Tensor {
        let mut terms = self.0.iter().map(|(_, v)| v);
        let Some(first) = terms.next() else { panic!("a loss without terms") };
        terms.fold(first.shallow_clone(), |sum, v| sum + v)
    }

    /// Values without their graph.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.iter().map(|(n, v)| (n.clone(), v.detach())).collect())
    }
}

/// Anything the loop can train: one call a step, and a visit to all that must be saved.
pub trait Learner: Send {
    /// One step of training on a batch; returns what to log.
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms;

    /// Every parameter set by name, for saving, averaging and counting.
    fn params(&self) -> Vec<(&'static str, &Params)>;

    /// State outside the parameters (queues, codebooks, counters): each tensor is read, or overwritten in place.
    fn visit_state(&mut self, _visit: &mut dyn FnMut(&str, &Tensor)) {}

    /// The random part, drawn by loader threads.
    fn draw(&self) -> Option<Arc<dyn Draw>> {
        None
    }

    /// The loss on a batch without learning from it.
    fn validate(&self, batch: &Batch, at: &At) -> Terms;

    /// What can be asked of it besides.
    fn trained(&self) -> Option<&dyn Trained> {
        None
    }
}

/// What can be asked of a model that has learned. What a model cannot do it leaves out; gradients are off while it is asked.
pub trait Trained {
    /// Features `[B, D]` of items `[B, C, H, W]`. A model that looks at items under noise takes it from `noise`.
    fn encode(&self, _x: &Tensor, _noise: &Noise) -> Option<Tensor> {
        None
    }

    /// Whether what it draws heeds classes.
    fn heeds_classes(&self) -> bool {
        false
    }

    /// Items `[B, C, H, W]` drawn anew, one for each sample of `noise`.
    fn generate(&self, _noise: &Noise, _c: &Condition) -> Option<Tensor> {
        None
    }

    /// Items `[B, C, H, W]` after the way through the narrowest place of the model.
    fn reconstruct(&self, _x: &Tensor, _noise: &Noise) -> Option<Tensor> {
        None
    }
}

/// The common case: one differentiable loss of one set of parameters.
pub trait Objective: Send {
    /// The loss on a batch.
    fn loss(&self, batch: &Batch, at: &At) -> Terms;

    /// What is learned.
    fn params(&self) -> &Params;

    /// The random part, drawn by loader threads.
    fn draw(&self) -> Option<Arc<dyn Draw>> {
        None
    }

    /// What can be asked of it besides.
    fn trained(&self) -> Option<&dyn Trained> {
        None
    }
}

/// An objective as a learner: forward under autocast, gradients summed over micro-batches, one optimiser step.
pub struct SingleLoss<O> {
    objective: O,
    precision: Kind,
}

impl<O: Objective> SingleLoss<O> {
    /// The name under which the loop finds the parameters and their optimiser.
    pub const NAME: &'static str = "net";

    /// `precision` is the kind of matrix products and convolutions; weights and optimiser stay in f32.
    pub fn new(objective: O, precision: Kind) -> Self {
        Self { objective, precision }
    }

    /// The loss inside.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// The loss, when training is over.
    pub fn into_objective(self) -> O {
        self.objective
    }

    fn terms(&self, batch: &Batch, at: &At) -> Terms {
        let device = self.objective.params().device();
        let _autocast =
            Autocast::new(device, self.precision).unwrap_or_else(|e| panic!("autocast to {:?}: {e}", self.precision));
        self.objective.loss(batch, at)
    }
}

impl<O: Objective> Learner for SingleLoss<O> {
    fn step(&mut self, batch: &Batch, at: &At, optimisers: &mut Optimisers) -> Terms {
        let (n, micro) = (batch.len(), optimisers.micro_batch.clamp(1, batch.len().max(1)));
        let mut sum: Option<Terms> = None;
        for from in (0..n).step_by(micro) {
            let to = (from + micro).min(n);
            let share = (to - from) as f64 / n as f64;
            let whole = from == 0 && to == n;
            let terms = if whole { self.terms(batch, at) } else { self.terms(&batch.slice(from, to), at) };
            let total = if whole { terms.total() } else { terms.total() * share };
            total.backward();
            let part = terms.detached();
            sum = Some(match sum {
                _ if whole => part,
                None => Terms(part.0.into_iter().map(|(k, v)| (k, v * share)).collect()),
                Some(s) => Terms(s.0.into_iter().zip(part.0).map(|((k, a), (_, b))| (k, a + b * share)).collect()),
            });
        }
        optimisers.step(Self::NAME);
        sum.unwrap_or_default()
    }

    fn params(&self) -> Vec<(&'static str, &Params)> {
        vec![(Self::NAME, self.objective.params())]
    }

    fn draw(&self) -> Option<Arc<dyn Draw>> {
        self.objective.draw()
    }

    fn validate(&self, batch: &Batch, at: &At) -> Terms {
        let _guard = tch::no_grad_guard();
        self.terms(batch, at).detached()
    }

    fn trained(&self) -> Option<&dyn Trained> {
        self.objective.trained()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostBatch;
    use crate::optim::{AdamW, AdamWConfig};
    use tch::Device;

    struct Line {
        params: Params,
        w: Tensor,
    }

    impl Line {
        fn new() -> Self {
            let params = Params::new(Device::Cpu, 0);
            let w = params.root().tensor("w", Tensor::from_slice(&[1.0_f32, -1.0]).view([2, 1]));
            Self { params, w }
        }
    }

    impl Objective for Line {
        fn loss(&self, batch: &Batch, _: &At) -> Terms {
            let error = batch.x.flatten(1, -1).matmul(&self.w) - 1.0;
            Terms::one("fit", error.square().mean(Kind::Float))
        }
        fn params(&self) -> &Params {
            &self.params
        }
    }

    /// Five rows in micro-batches of two: the last part is smaller and must weigh less.
    #[test]
    fn micro_batches_give_the_gradient_of_the_whole_batch() {
        let x: Vec<f32> = (0..10).map(|v| (v as f32 * 0.7).sin()).collect();
        let host = HostBatch { x, shape: [5, 1, 1, 2], index: (0..5).collect(), ..HostBatch::default() };
        let at = At { seed: 0, step: 0, images: 0 };
        let run = |micro| {
            let mut learner = SingleLoss::new(Line::new(), Kind::Float);
            let mut o = Optimisers::new(micro);
            o.lr = 0.1;
            o.add("net", AdamW::new(&learner.objective().params, AdamWConfig { eps: 1.0, ..Default::default() }));
            let loss = learner.step(&host.upload(Device::Cpu), &at, &mut o).total().double_value(&[]);
            (loss, learner.objective.w.shallow_clone())
        };
        let ((l5, w5), (l2, w2)) = (run(5), run(2));
        assert!((l5 - l2).abs() < 1e-6 && (w5 - w2).abs().max().double_value(&[]) < 1e-7, "{l5} {l2}");
    }
}
