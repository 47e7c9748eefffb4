use crate::Condition;
use tch::Tensor;

/// Receives the activation of each named block as a network runs.
pub type Tap<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// A backbone: state and time in, raw prediction out. What the prediction means is the business of a denoiser.
pub trait Network: Send {
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - `t`: `[B]`, the number the network's time embedding expects
    /// - returns: `[B, C', H, W]`, C' = C, or 2 C where the variance is learned
    fn forward(&self, x: &Tensor, t: &Tensor, c: &Condition) -> Tensor {
        self.forward_with(x, t, c, &mut |_, _| {})
    }

    /// As [`Network::forward`], showing each block's activation to `tap` under the names of [`Network::blocks`].
    fn forward_with(&self, x: &Tensor, t: &Tensor, c: &Condition, tap: Tap<'_>) -> Tensor;

    /// Names of the readable blocks, in the order in which they run.
    fn blocks(&self) -> Vec<String>;

    /// Multiply-adds of one forward pass for one image.
    fn macs(&self) -> u64;
}
