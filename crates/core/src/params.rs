use crate::{Error, noise};
use pentimento_torch_shim::{Held, Standing};
use std::cell::RefCell;
use tch::{Device, Tensor};

/// Whether a tensor is learned or only kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Learned by gradient.
    Trainable,
    /// Saved with the weights, never learned.
    Buffer,
}

/// One named tensor.
#[derive(Debug)]
pub struct Param {
    /// Full name, `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// The tensor, shared with the module that uses it.
    pub tensor: Tensor,
    /// Learned or kept.
    pub role: Role,
}

/// The tensors of a network, in order of creation, with the names of the PyTorch original.
#[derive(Debug)]
pub struct Params {
    entries: RefCell<Vec<Param>>,
    device: Device,
    seed: u64,
    standing: Standing,
}

/// A place in the tree of names, from which modules make their parameters.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    params: &'a Params,
    prefix: String,
}

impl Params {
    /// No tensors yet. Initial values are drawn on the host, by (seed, name), and then moved to the device.
    pub fn new(device: Device, seed: u64) -> Self {
        Self { entries: RefCell::default(), device, seed, standing: Standing::default() }
    }

    /// The root of the names.
    pub fn root(&self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// The device on which all tensors live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All entries in order; the tensors share storage with the network.
    pub fn entries(&self) -> Vec<Param> {
        let share = |p: &Param| Param { name: p.name.clone(), tensor: p.tensor.shallow_clone(), role: p.role };
        self.entries.borrow().iter().map(share).collect()
    }

    /// The learned tensors in order.
    pub fn trainable(&self) -> Vec<Tensor> {
        let all = self.entries.borrow();
        all.iter().filter(|p| p.role == Role::Trainable).map(|p| p.tensor.shallow_clone()).collect()
    }

    /// Values stay as they are until the result goes: passes without gradients may lay weights out once for all of them.
    pub fn stand(&self) -> Held {
        self.standing.hold()
    }

    /// Number of learned scalars.
    pub fn count(&self) -> usize {
        self.trainable().iter().map(Tensor::numel).sum()
    }

    /// Copies values by name; both sides must hold the same names and shapes.
    ///
    /// # Errors
    /// [`Error::MissingWeights`] and [`Error::ShapeMismatch`].
    pub fn load(&self, mut find: impl FnMut(&str) -> Option<Tensor>) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let all = self.entries.borrow();
        let mut values = Vec::with_capacity(all.len());
        let mut missing = Vec::new();
        for p in all.iter() {
            match find(&p.name) {
                Some(v) if v.size() == p.tensor.size() => values.push(v),
                Some(v) => {
                    return Err(Error::ShapeMismatch { what: p.name.clone(), want: p.tensor.size(), got: v.size() });
                }
                None => missing.push(p.name.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(Error::MissingWeights { missing, total: all.len() });
        }
        for (p, v) in all.iter().zip(&values) {
            p.tensor.shallow_clone().copy_(v);
        }
        Ok(())
    }

    /// Copies every value from a network of the same form.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn copy_from(&self, other: &Self) -> Result<(), Error> {
        let theirs: std::collections::HashMap<_, _> = other.entries().into_iter().map(|p| (p.name, p.tensor)).collect();
        self.load(|name| theirs.get(name).map(Tensor::shallow_clone))
    }

    /// Stops gradients to all entries, for networks that are only used.
    pub fn freeze(&self) {
        for p in self.entries.borrow().iter() {
            let _ = p.tensor.shallow_clone().set_requires_grad(false);
        }
    }

    fn add(&self, name: String, value: Tensor, role: Role) -> Tensor {
        let mut all = self.entries.borrow_mut();
        assert!(all.iter().all(|p| p.name != name), "two parameters are called {name}");
        let value = value.to_device(self.device);
        let tensor = if role == Role::Trainable { value.set_requires_grad(true) } else { value };
        all.push(Param { name, tensor: tensor.shallow_clone(), role });
        tensor
    }
}

impl<'a> Scope<'a> {
    /// The place below this one.
    #[must_use]
    pub fn sub(&self, name: impl std::fmt::Display) -> Scope<'a> {
        Scope { params: self.params, prefix: self.full(&name.to_string()) }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}.{name}", self.prefix) }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.params.device
    }

    /// Where layers leave weights that they laid out, while those stand ([`Params::stand`]).
    pub fn standing(&self) -> Standing {
        self.params.standing.clone()
    }

    /// A learned tensor with given values.
    pub fn tensor(&self, name: &str, value: Tensor) -> Tensor {
        self.params.add(self.full(name), value, Role::Trainable)
    }

    /// A kept tensor with given values.
    pub fn buffer(&self, name: &str, value: Tensor) -> Tensor {
        self.params.add(self.full(name), value, Role::Buffer)
    }

    /// A learned tensor of zeros.
    pub fn zeros(&self, name: &str, size: &[i64]) -> Tensor {
        self.tensor(name, Tensor::zeros(size, (tch::Kind::Float, Device::Cpu)))
    }

    /// A learned tensor of ones.
    pub fn ones(&self, name: &str, size: &[i64]) -> Tensor {
        self.tensor(name, Tensor::ones(size, (tch::Kind::Float, Device::Cpu)))
    }

    /// A learned tensor of normals with a standard deviation.
    pub fn normal(&self, name: &str, size: &[i64], std: f64) -> Tensor {
        self.tensor(name, noise::init_normal(self.params.seed, &self.full(name), size) * std)
    }

    /// A learned tensor, uniform in [-bound, bound).
    pub fn uniform(&self, name: &str, size: &[i64], bound: f64) -> Tensor {
        self.tensor(name, noise::init_uniform(self.params.seed, &self.full(name), size) * bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_values_depend_on_seed_and_name_only() {
        let make = |seed, extra| {
            let p = Params::new(Device::Cpu, seed);
            if extra {
                let _ = p.root().sub("other").zeros("bias", &[1]);
            }
            p.root().sub("a").sub(0).normal("weight", &[3, 2], 0.1)
        };
        assert_eq!(make(1, false), make(1, true));
        assert_ne!(make(1, false), make(2, false));
    }

    #[test]
    fn loading_reports_missing_and_misshapen_weights_and_changes_nothing() {
        let p = Params::new(Device::Cpu, 0);
        let w = p.root().ones("w", &[2]);
        let _ = p.root().buffer("b", Tensor::from(0.0_f32));
        let missing = p.load(|n| (n == "w").then(|| Tensor::from_slice(&[5.0_f32, 5.0]))).unwrap_err();
        assert!(missing.to_string().contains("1 of 2 weights are missing, first b"), "{missing}");
        assert!(p.load(|_| Some(Tensor::from_slice(&[1.0_f32, 2.0, 3.0]))).unwrap_err().to_string().contains("[3]"));
        assert_eq!(Vec::<f32>::try_from(&w).unwrap(), [1.0, 1.0]);
        let q = Params::new(Device::Cpu, 1);
        let _ = q.root().zeros("w", &[2]);
        let _ = q.root().buffer("b", Tensor::from(3.0_f32));
        p.copy_from(&q).unwrap();
        assert_eq!((Vec::<f32>::try_from(&w).unwrap(), p.count()), (vec![0.0, 0.0], 2));
    }
}
