use crate::DiffusionLoss;
use pentimento_core::{At, Batch, Codec, Draw, Objective, Params, Stream, Terms};
use std::sync::Arc;
use tch::Kind;

/// The diffusion loss of what a codec makes of data: the second stage of a latent diffusion model. The codec learns nothing.
///
/// Levels are drawn by the loader as for data; the noise, of another shape than the data, at the same addresses when the latents
/// are there.
///
/// # Source
/// Rombach et al. 2022 (arXiv 2112.10752), eq. 2.
pub struct LatentLoss<C> {
    codec: C,
    loss: DiffusionLoss,
}

impl<C: Codec> LatentLoss<C> {
    /// `loss` is that of a network on latents, with the parameters that it learns.
    pub fn new(codec: C, loss: DiffusionLoss) -> Self {
        Self { codec, loss }
    }

    /// What leads to latents and back.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// The loss on latents, with the denoiser.
    pub fn diffusion(&self) -> &DiffusionLoss {
        &self.loss
    }
}

impl<C: Codec> Objective for LatentLoss<C> {
    fn loss(&self, batch: &Batch, at: &At) -> Terms {
        let x = {
            let _guard = tch::no_grad_guard();
            self.codec.encode(&batch.x)
        };
        let eps = Some(batch.noise(at.seed).normal_like(&x, Stream::Eps));
        let (index, t) = (batch.index.clone(), batch.t.clone());
        let y = batch.y.as_ref().map(tch::Tensor::shallow_clone);
        let latents = Batch { x, y, factors: None, index, first: batch.first, t, eps };
        Terms::one("diffusion", self.loss.per_sample(&latents).mean(None::<Kind>))
    }

    fn params(&self) -> &Params {
        self.loss.params()
    }

    fn draw(&self) -> Option<Arc<dyn Draw>> {
        self.loss.draw()
    }
}
