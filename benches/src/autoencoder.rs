//! Row 5: training steps of a fully connected variational autoencoder, where what lies between the products decides.

use crate::ask::{Ask, Work, input, inputs, waited, weights};
use crate::networks::{CHECKED_STEPS, LEARNING_RATE};
use anyhow::Result;
use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Batch, Learner, Objective, Params, SingleLoss, Stream, Terms};
use pentimento_latent::{Gaussian, bernoulli};
use pentimento_nn::layers::Init;
use pentimento_nn::weights::load_params;
use pentimento_nn::{Activation, Mlp};
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// The bound of Kingma and Welling 2013 on binary pictures.
struct Bound {
    params: Params,
    encoder: Mlp,
    decoder: Mlp,
    /// Draws that the check fixes.
    eps: RefCell<Option<Tensor>>,
}

impl Objective for Bound {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        let q = Gaussian::from_moments(&self.encoder.forward(&batch.x));
        let z = match &*self.eps.borrow() {
            Some(eps) => q.at(eps),
            None => q.sample(&batch.noise(at.seed + at.step), Stream::Eps),
        };
        let logits = self.decoder.forward(&z).to_kind(Kind::Float);
        Terms::one("bound", (q.kl() - bernoulli::log_prob(&batch.x, &logits)).mean(Kind::Float))
    }

    fn params(&self) -> &Params {
        &self.params
    }
}

/// Forward, backward and AdamW.
pub struct Train {
    learner: SingleLoss<Bound>,
    optimisers: Optimisers,
    batch: Batch,
    /// `[steps, B, Z]`
    eps: Tensor,
    step: u64,
}

impl Train {
    /// With the shared weights, pictures and draws.
    pub fn new(ask: &Ask) -> Result<Self> {
        let s = &ask.size;
        let params = Params::new(ask.device()?, 0);
        let down = [&[s.channels * s.side * s.side], &s.hidden[..]].concat();
        let up: Vec<i64> = std::iter::once(s.latent).chain(down.iter().rev().copied()).collect();
        let wide = [&down[..], &[2 * s.latent]].concat();
        let encoder = Mlp::new(&params.root().sub("encoder"), &wide, Activation::Relu, Init::Torch);
        let decoder = Mlp::new(&params.root().sub("decoder"), &up, Activation::Relu, Init::Torch);
        let (saved, all) = (weights(ask)?, inputs(ask)?);
        load_params(&params, |name| saved.get(name).cloned())?;
        let batch = Batch {
            x: input(&all, "x")?,
            y: None,
            factors: None,
            index: (0..ask.batch.unsigned_abs()).collect(),
            first: 0,
            t: Vec::new(),
            eps: None,
        };
        let mut optimisers = Optimisers::new(batch.len());
        optimisers.lr = LEARNING_RATE;
        optimisers.add(SingleLoss::<Bound>::NAME, AdamW::new(&params, AdamWConfig::default()));
        let bound = Bound { params, encoder, decoder, eps: RefCell::new(None) };
        let learner = SingleLoss::new(bound, ask.precision.kind());
        Ok(Self { learner, optimisers, batch, eps: input(&all, "eps")?, step: 0 })
    }

    fn advance(&mut self) -> Terms {
        let at = At { seed: 0, step: self.step, images: self.step * self.batch.len() as u64 };
        let terms = self.learner.step(&self.batch, &at, &mut self.optimisers);
        self.optimisers.take_info();
        self.step += 1;
        waited(self.learner.objective().params.device());
        terms
    }

    /// The weights as one vector.
    fn weights(&self) -> Tensor {
        let all = self.learner.objective().params.entries();
        let flat: Vec<Tensor> = all.iter().map(|p| p.tensor.detach().to_kind(Kind::Double).flatten(0, -1)).collect();
        Tensor::cat(&flat, 0)
    }
}

impl Work for Train {
    fn run(&mut self) -> Result<()> {
        self.advance();
        Ok(())
    }

    /// The losses of the first steps, then how far the weights went, in steps of full size times the first loss.
    fn check(&mut self) -> Result<Vec<f64>> {
        let before = self.weights();
        let mut all = Vec::new();
        for i in 0..i64::from(CHECKED_STEPS) {
            self.learner.objective().eps.replace(Some(self.eps.get(i)));
            all.push(self.advance().total().double_value(&[]));
        }
        self.learner.objective().eps.replace(None);
        let full = LEARNING_RATE * f64::from(CHECKED_STEPS) * (before.numel() as f64).sqrt();
        let moved = (self.weights() - before).norm().double_value(&[]);
        all.push(moved / full * all[0]);
        Ok(all)
    }
}
