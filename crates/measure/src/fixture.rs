//! Reads the reference numbers of `fixtures/` for the tests.

use crate::{Features, Pictures};
use safetensors::{Dtype, SafeTensors};

pub(crate) struct Fixture {
    bytes: Vec<u8>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
        Self { bytes: std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    pub(crate) fn f64s(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        match tensor.dtype() {
            Dtype::F64 => tensor.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => tensor.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::I32 => tensor.data().chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::U8 => tensor.data().iter().map(|&b| b.into()).collect(),
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        self.f64s(name).into_iter().map(|v| v as f32).collect()
    }

    pub(crate) fn labels(&self, name: &str) -> Vec<u32> {
        self.f64s(name).into_iter().map(|v| v as u32).collect()
    }

    /// Names X of the pairs of sets `X.a`, `X.b` of rank 2.
    pub(crate) fn cases(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let names = file.names().into_iter().filter(|n| file.tensor(n).unwrap().shape().len() == 2);
        let mut cases: Vec<String> =
            names.filter_map(|n| n.strip_suffix(".a")).filter(|c| !c.contains('.')).map(str::to_owned).collect();
        cases.sort();
        assert!(!cases.is_empty());
        cases
    }

    pub(crate) fn features(&self, name: &str) -> Features {
        Features::new(self.shape(name)[1], self.f32s(name)).unwrap()
    }

    pub(crate) fn pictures(&self, name: &str) -> Pictures {
        let shape = self.shape(name)[1..].try_into().unwrap();
        Pictures::new(shape, self.f32s(name)).unwrap()
    }
}

/// Panics unless `got` is within `tolerance` of `want`, relative to the larger of 1 and |want|.
pub(crate) fn assert_close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} against {want}");
}
