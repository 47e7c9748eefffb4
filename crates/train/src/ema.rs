use pentimento_core::{Error, Params, Role};
use pentimento_torch_shim as shim;
use tch::Tensor;

/// A moving average of the weights, in one pass over all tensors per step.
#[derive(Debug)]
pub struct Ema {
    names: Vec<String>,
    source: Vec<Tensor>,
    average: Vec<Tensor>,
}

impl Ema {
    /// Starts as a copy. Buffers are copied too and never averaged.
    pub fn new(params: &Params) -> Self {
        let _guard = tch::no_grad_guard();
        let all = params.entries();
        let average = all
            .iter()
            .map(|p| if p.role == Role::Trainable { p.tensor.detach().copy() } else { p.tensor.shallow_clone() });
        Self {
            average: average.collect(),
            names: all.iter().map(|p| p.name.clone()).collect(),
            source: all.iter().map(|p| p.tensor.detach()).collect(),
        }
    }

    /// An average that lives in another network: the target of methods that bootstrap. It starts where that network is.
    ///
    /// # Panics
    /// When `follower` has a parameter that `leader` lacks.
    pub fn onto(follower: &Params, leader: &Params) -> Self {
        let leaders = leader.entries();
        let find = |name: &str| leaders.iter().find(|p| p.name == name).map(|p| p.tensor.detach());
        let all: Vec<_> = follower.entries().into_iter().filter(|p| p.role == Role::Trainable).collect();
        let source = all.iter().map(|p| find(&p.name).unwrap_or_else(|| panic!("nothing to follow for {}", p.name)));
        Self {
            source: source.collect(),
            average: all.iter().map(|p| p.tensor.detach()).collect(),
            names: all.into_iter().map(|p| p.name).collect(),
        }
    }

    /// Moves the average toward the weights by a share.
    ///
    /// # Panics
    /// When libtorch refuses, which equal shapes exclude.
    pub fn update(&self, weight: f64) {
        shim::foreach_lerp(&self.average, &self.source, weight).unwrap_or_else(|e| panic!("moving average: {e}"));
    }

    /// The averaged tensors by name, to be saved or overwritten in place.
    pub fn visit(&self, visit: &mut dyn FnMut(&str, &Tensor)) {
        for (name, tensor) in self.names.iter().zip(&self.average) {
            visit(name, tensor);
        }
    }

    /// Copies the average into a network of the same form.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn copy_into(&self, other: &Params) -> Result<(), Error> {
        other.load(|name| self.names.iter().position(|n| n == name).map(|i| self.average[i].shallow_clone()))
    }

    /// Euclidean distance between weights and average over the norm of the weights: 0 would mean that nothing is averaged.
    pub fn distance(&self) -> f64 {
        let _guard = tch::no_grad_guard();
        let gaps: Vec<Tensor> = self.source.iter().zip(&self.average).map(|(a, b)| a - b).collect();
        let norm = |t: &[Tensor]| shim::global_norm(t).map_or(f64::NAN, |n| n.double_value(&[]));
        norm(&gaps) / norm(&self.source).max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_average_follows_the_weights_and_copies_out() {
        let p = Params::new(Device::Cpu, 0);
        let mut w = p.root().zeros("w", &[2]);
        let ema = Ema::new(&p);
        {
            let _guard = tch::no_grad_guard();
            let _ = w.fill_(8.0);
        }
        ema.update(0.25);
        assert!((ema.distance() - 0.75).abs() < 1e-6);
        let q = Params::new(Device::Cpu, 1);
        let copy = q.root().ones("w", &[2]);
        ema.copy_into(&q).unwrap();
        assert_eq!(Vec::<f32>::try_from(copy).unwrap(), [2.0, 2.0]);
        assert_eq!(w.kind(), Kind::Float);
    }
}
