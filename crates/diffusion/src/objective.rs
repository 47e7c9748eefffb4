use crate::{Parametrised, Path, Preconditioning, Prediction, Spread, Times, Weighting};
use pentimento_core::{
    At, Batch, Condition, Draw, Draws, HostBatch, Level, NO_LABEL, Network, Objective, Params, Stream, Tap, Terms,
};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// What a diffusion loss measures, and on what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossConfig {
    /// In whose units the error is measured under [`Weighting::Plain`]; the network's own output if absent. The other
    /// weightings fix the weight of the x0 error and so do not depend on it.
    pub target: Option<Prediction>,
    /// Weight of each level.
    pub weighting: Weighting,
    /// Distribution of levels.
    pub times: Times,
    /// How levels are spread over a batch.
    pub spread: Spread,
    /// Share of labels dropped, for classifier-free guidance.
    pub label_dropout: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            target: None,
            weighting: Weighting::Plain,
            times: Times::Uniform,
            spread: Spread::Independent,
            label_dropout: 0.1,
        }
    }
}

/// Largest factor between the error of the output and that of another prediction: x0 predicted, velocity measured, has
/// 1/t, cut at t = 0.05 as in Li and He 2025 (arXiv 2511.13720, which clips the denominator there).
pub const MAX_GAIN: f64 = 20.0;

/// Denoising loss: `weight(t) * mean (output - target)^2`, averaged over the batch.
///
/// Levels, noise and dropped labels come with the batch ([`DiffusionLoss::draw`]), addressed by the running number of
/// the sample. A learned variance gets no gradient.
pub struct DiffusionLoss {
    denoiser: Parametrised,
    params: Params,
    config: LossConfig,
}

impl DiffusionLoss {
    /// The loss of a network with the parameters that it learns.
    pub fn new(denoiser: Parametrised, params: Params, config: LossConfig) -> Self {
        Self { denoiser, params, config }
    }

    /// The loss of a network on all times alike, spread evenly over every batch, in the units of what it predicts.
    pub fn stratified(
        network: Box<dyn Network>,
        params: Params,
        (path, prediction): (Path, Prediction),
        label_dropout: f64,
    ) -> Self {
        let config = LossConfig { spread: Spread::Stratified, label_dropout, ..LossConfig::default() };
        Self::new(Parametrised::new(network, path, prediction), params, config)
    }

    /// The denoiser that is trained.
    pub fn denoiser(&self) -> &Parametrised {
        &self.denoiser
    }

    /// Factor on the squared error of the raw output.
    pub fn factor(&self, alpha: f64, sigma: f64) -> f64 {
        let gain = |to| self.denoiser.gain(to, alpha, sigma);
        match (self.config.weighting, self.config.target) {
            (Weighting::Plain, None) => 1.0,
            (Weighting::Plain, Some(to)) => gain(to).abs().min(MAX_GAIN).powi(2),
            // Measured in a space where the weight is finite at both ends.
            (w, _) => match self.denoiser.preconditioning() {
                Preconditioning::None => w.of(self.denoiser.prediction(), alpha, sigma),
                Preconditioning::Edm { .. } => {
                    w.of(Prediction::VPrediction, alpha, sigma) * gain(Prediction::VPrediction).powi(2)
                }
            },
        }
    }

    /// Loss of each sample, `[B]`, in f32 (f64 for data in f64).
    ///
    /// # Panics
    /// When the batch carries no times and noise: a defect of the loader.
    pub fn per_sample(&self, batch: &Batch) -> Tensor {
        self.per_sample_with(batch, &mut |_, _| {})
    }

    /// As [`DiffusionLoss::per_sample`], showing each block's activation to `tap`: for losses on hidden layers beside this one.
    ///
    /// # Panics
    /// As there.
    pub fn per_sample_with(&self, batch: &Batch, tap: Tap<'_>) -> Tensor {
        let c = Condition { y: batch.y.as_ref().map(Tensor::shallow_clone), c: None };
        self.per_sample_under(batch, &c, tap)
    }

    /// As [`DiffusionLoss::per_sample_with`], the network being told `c` and not the labels.
    ///
    /// # Panics
    /// As there.
    pub fn per_sample_under(&self, batch: &Batch, c: &Condition, tap: Tap<'_>) -> Tensor {
        let Some(eps) = batch.eps.as_ref().filter(|_| batch.t.len() == batch.len()) else {
            panic!("a batch without times and noise; the loader must run this loss's draw")
        };
        let level = self.denoiser.path().levels(&batch.t);
        let xt = level.mix(&batch.x, eps);
        let (raw, _) = self.denoiser.raw_with(&xt, &level, c, tap);
        let error = raw - self.denoiser.raw_target(&batch.x, eps, &level);
        let factor = level.map(|a, s| self.factor(a, s));
        let mean = error.square().flatten(1, -1).mean_dim(1_i64, false, None::<Kind>); // [B]
        Level::times(&factor, &mean)
    }

    /// The random part of validation: levels and noise by the sample's number in its data set, evenly spread, labels
    /// kept. The same samples meet the same noise at every validation.
    pub fn validation_draw(&self) -> Arc<dyn Draw> {
        Arc::new(LossDraw {
            path: *self.denoiser.path(),
            times: self.config.times,
            spread: Spread::Stratified,
            label_dropout: 0.0,
            address: Address::Item,
        })
    }
}

impl Objective for DiffusionLoss {
    fn loss(&self, batch: &Batch, _: &At) -> Terms {
        let per_sample = self.per_sample(batch);
        let kind = per_sample.kind();
        Terms::one("diffusion", per_sample.mean(kind))
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn draw(&self) -> Option<Arc<dyn Draw>> {
        Some(Arc::new(LossDraw {
            path: *self.denoiser.path(),
            times: self.config.times,
            spread: self.config.spread,
            label_dropout: self.config.label_dropout,
            address: Address::Running,
        }))
    }
}

/// What a sample's random numbers are addressed by.
#[derive(Clone, Copy, Debug)]
enum Address {
    /// The running number in the order of training.
    Running,
    /// The number of the item within its data set, at a step apart from training's.
    Item,
}

#[derive(Debug)]
struct LossDraw {
    path: Path,
    times: Times,
    spread: Spread,
    label_dropout: f64,
    address: Address,
}

impl Draw for LossDraw {
    fn draw(&self, batch: &mut HostBatch, seed: u64) {
        let n = batch.len();
        let at = |row: usize| match self.address {
            Address::Running => (batch.first + row as u64, 0),
            Address::Item => (batch.index[row], u32::MAX),
        };
        let addresses: Vec<(u64, u32)> = (0..n).map(at).collect();
        batch.t = addresses
            .iter()
            .map(|&(sample, step)| self.times.quantile(self.spread.uniform(seed, sample, step), &self.path))
            .collect();
        batch.eps = vec![0.0; batch.x.len()];
        let row: usize = batch.shape[1..].iter().product();
        for (&(sample, step), out) in addresses.iter().zip(batch.eps.chunks_mut(row.max(1))) {
            Draws::at(seed, sample, step, Stream::Eps).fill_normal(out);
        }
        if self.label_dropout > 0.0 {
            for (&(sample, step), y) in addresses.iter().zip(&mut batch.y) {
                if Draws::at(seed, sample, step, Stream::Drop).uniform() < self.label_dropout {
                    *y = NO_LABEL;
                }
            }
        }
    }
}
