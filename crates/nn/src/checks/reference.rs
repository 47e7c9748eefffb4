//! Reference numbers made by `fixtures/{dit,unet}/make.py`.

use pentimento_core::{Condition, Network, Params};
use pentimento_io::{Array, Values};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

use crate::weights::tensor_from_array;

pub struct Reference(HashMap<String, Array>);

impl Reference {
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, safetensors::tensor::TensorView)| {
            let values = match view.dtype() {
                Dtype::F32 => Values::F32(words(view.data(), f32::from_le_bytes)),
                Dtype::I64 => Values::I64(words(view.data(), i64::from_le_bytes)),
                other => panic!("{name}: {other:?}"),
            };
            (name, Array::new(view.shape().to_vec(), values))
        };
        Self(file.tensors().into_iter().map(read).collect())
    }

    pub fn find(&self, name: &str) -> Option<Array> {
        self.0.get(name).cloned()
    }

    pub fn tensor(&self, name: &str) -> Tensor {
        tensor_from_array(self.0.get(name).unwrap_or_else(|| panic!("no {name}"))).unwrap()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names below a prefix, without it.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        self.0.keys().filter_map(|k| k.strip_prefix(prefix)).map(String::from).collect()
    }

    fn condition(&self) -> Condition {
        Condition { y: self.has("y").then(|| self.tensor("y")), c: None }
    }

    /// Runs the network forward and backward on the stored inputs and compares output, activations, and the gradients
    /// of the sum of squares. `names` gives the stored names of one of our tensors, stacked if several.
    ///
    /// The tolerance is relative to the largest entry of each tensor. References are f64, rounded to f32 when stored.
    pub fn check(
        &self,
        network: &dyn Network,
        params: &Params,
        tolerance: f64,
        names: impl Fn(&str) -> Vec<String>,
        blocks: &[String],
    ) {
        let kind = params.entries()[0].tensor.kind();
        let x = self.tensor("x").to_kind(kind).set_requires_grad(true);
        let mut seen = Vec::new();
        let out = network.forward_with(&x, &self.tensor("t"), &self.condition(), &mut |name, h| {
            seen.push((name.to_owned(), h.shallow_clone()));
        });
        assert_eq!(seen.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(), network.blocks());
        let mut worst = close("out", &out, &self.tensor("out"), tolerance);
        for name in blocks {
            let (_, h) = seen.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no block {name}"));
            worst = worst.max(close(name, h, &self.tensor(&format!("act.{name}")), tolerance));
        }
        out.square().sum(kind).backward();
        worst = worst.max(close("d x", &x.grad(), &self.tensor("grad.x"), tolerance));
        for e in params.entries().iter().filter(|e| e.tensor.requires_grad()) {
            let parts: Vec<Tensor> = names(&e.name).iter().map(|n| self.tensor(&format!("grad.{n}"))).collect();
            let want = Tensor::cat(&parts, 0).view(e.tensor.size().as_slice());
            worst = worst.max(close(&e.name, &e.tensor.grad(), &want, tolerance));
        }
        println!("{kind:?}: worst relative error {worst:.1e}");
    }
}

fn words<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|b| read(b.try_into().unwrap())).collect()
}

/// The largest difference over the largest entry.
pub fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) -> f64 {
    assert_eq!(got.size(), want.size(), "{what}");
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    let scale = want.abs().max().double_value(&[]).max(1e-6);
    let error = (got - want).abs().max().double_value(&[]) / scale;
    assert!(error <= tolerance, "{what}: relative error {error:.2e}");
    error
}
