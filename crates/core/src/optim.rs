//! Optimisers with state that can be saved: AdamW in one fused kernel, with clipping and the test for non-finite
//! gradients folded into the same pass.

use crate::{Params, Role};
use pentimento_torch_shim as shim;
use tch::{Kind, Tensor};

/// Constants of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest Euclidean norm of the whole gradient; infinite for none.
    pub clip: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, weight_decay: 0.0, eps: 1e-8, clip: f64::INFINITY }
    }
}

/// What one optimiser step found, still on the device.
#[derive(Debug)]
pub struct StepInfo {
    /// Norm of the gradient before clipping.
    pub norm: Tensor,
    /// 1 where the gradient was not finite and the step was skipped, else 0.
    pub skipped: Tensor,
}

/// AdamW over the learned tensors of one parameter set.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    names: Vec<String>,
    params: Vec<Tensor>,
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    steps: Vec<Tensor>,
}

impl AdamW {
    /// Fresh moments for the learned tensors of `params`.
    pub fn new(params: &Params, config: AdamWConfig) -> Self {
        let learned: Vec<_> = params.entries().into_iter().filter(|p| p.role == Role::Trainable).collect();
        let zeros = || learned.iter().map(|p| p.tensor.zeros_like().set_requires_grad(false)).collect();
        let counter = |_| Tensor::zeros([], (Kind::Float, params.device()));
        Self {
            config,
            m: zeros(),
            v: zeros(),
            steps: learned.iter().map(counter).collect(),
            names: learned.iter().map(|p| p.name.clone()).collect(),
            params: learned.into_iter().map(|p| p.tensor).collect(),
        }
    }

    /// One update from the gradients that a backward pass left; clears them. A step whose gradient is not finite changes
    /// nothing. No value is read back from the device.
    ///
    /// # Panics
    /// When libtorch refuses, which equal shapes exclude.
    pub fn step(&mut self, lr: f64) -> StepInfo {
        let _guard = tch::no_grad_guard();
        let grads: Vec<Tensor> = self
            .params
            .iter()
            .map(|p| {
                let g = p.grad();
                if g.defined() { g } else { p.zeros_like() }
            })
            .collect();
        let c = self.config;
        let norm = shim::global_norm(&grads).unwrap_or_else(|e| panic!("gradient norm: {e}"));
        let skipped = norm.isfinite().logical_not().to_kind(Kind::Float);
        // The kernel divides gradients by this number, so clipping costs no pass of its own.
        let divisor = if c.clip.is_finite() { (&norm / c.clip).clamp_min(1.0) } else { norm.ones_like() };
        let constants = shim::AdamW { lr, beta1: c.beta1, beta2: c.beta2, weight_decay: c.weight_decay, eps: c.eps };
        shim::fused_adamw(&self.params, &grads, &self.m, &self.v, &self.steps, constants, &divisor, &skipped)
            .unwrap_or_else(|e| panic!("AdamW: {e}"));
        shim::drop_grads(&self.params);
        StepInfo { norm, skipped }
    }

    /// Visits the moments and counters by name, to be saved or overwritten in place.
    pub fn visit_state(&self, visit: &mut dyn FnMut(&str, &Tensor)) {
        for (what, list) in [("m", &self.m), ("v", &self.v), ("step", &self.steps)] {
            for (name, tensor) in self.names.iter().zip(list) {
                visit(&format!("{what}.{name}"), tensor);
            }
        }
    }
}

/// The optimisers of a learner, by the name of the parameter set, with the learning rate of the moment.
#[derive(Debug, Default)]
pub struct Optimisers {
    list: Vec<(String, AdamW)>,
    /// Learning rate of the next step; the loop sets it.
    pub lr: f64,
    /// Rows per backward pass; the gradient is that of the whole batch all the same.
    pub micro_batch: usize,
    /// What the steps since the last [`Optimisers::take_info`] found.
    info: Vec<StepInfo>,
}

impl Optimisers {
    /// No optimiser yet.
    pub fn new(micro_batch: usize) -> Self {
        Self { micro_batch: micro_batch.max(1), ..Self::default() }
    }

    /// Adds one under a name.
    pub fn add(&mut self, name: &str, optimiser: AdamW) {
        self.list.push((name.into(), optimiser));
    }

    /// Steps the named optimiser with the gradients that stand.
    ///
    /// # Panics
    /// When there is none of that name: a defect of the learner.
    pub fn step(&mut self, name: &str) {
        let Some((_, o)) = self.list.iter_mut().find(|(n, _)| n == name) else { panic!("no optimiser {name}") };
        let info = o.step(self.lr);
        self.info.push(info);
    }

    /// What the steps since the last call found.
    pub fn take_info(&mut self) -> Vec<StepInfo> {
        std::mem::take(&mut self.info)
    }

    /// Visits all states by name.
    pub fn visit_state(&self, visit: &mut dyn FnMut(&str, &Tensor)) {
        for (name, o) in &self.list {
            o.visit_state(&mut |inner, t| visit(&format!("{name}.{inner}"), t));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn problem() -> (Params, Tensor) {
        let p = Params::new(Device::Cpu, 0);
        let w = p.root().tensor("w", Tensor::from_slice(&[3.0_f32, -4.0]));
        (p, w)
    }

    #[test]
    fn clipping_scales_the_gradient_to_the_given_norm() {
        let (pa, wa) = problem();
        let (pb, wb) = problem();
        let mut a = AdamW::new(&pa, AdamWConfig { clip: 1.0, beta1: 0.0, eps: 1.0, ..Default::default() });
        let mut b = AdamW::new(&pb, AdamWConfig { beta1: 0.0, eps: 1.0, ..Default::default() });
        (wa.square().sum(Kind::Float) * 0.5).backward(); // gradient (3, -4), norm 5
        (wb.square().sum(Kind::Float) * 0.1).backward(); // gradient (0.6, -0.8), norm 1
        let info = a.step(0.1);
        b.step(0.1);
        assert!((info.norm.double_value(&[]) - 5.0).abs() < 1e-6);
        assert!((wa - wb).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let (p, w) = problem();
        let mut o = AdamW::new(&p, AdamWConfig::default());
        (&w * f64::NAN).sum(Kind::Float).backward();
        let info = o.step(0.1);
        assert!((info.skipped.double_value(&[]) - 1.0).abs() < 1e-9);
        assert_eq!(Vec::<f32>::try_from(&w).unwrap(), [3.0, -4.0]);
        o.visit_state(&mut |name, t| assert!(t.abs().max().double_value(&[]) < 1e-12, "{name} moved"));
        w.square().sum(Kind::Float).backward();
        assert!(o.step(0.1).skipped.double_value(&[]) < 0.5);
        assert_ne!(Vec::<f32>::try_from(&w).unwrap(), [3.0, -4.0]);
    }
}
