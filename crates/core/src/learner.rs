use crate::optim::Optimisers;
use crate::{Batch, Draw, Params};
use std::sync::Arc;
use tch::Tensor;

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
    fn draw(&self) -> Option<Arc<dyn Draw>>;

    /// The loss on a batch without learning from it.
    fn validate(&self, batch: &Batch, at: &At) -> Terms;
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
}
