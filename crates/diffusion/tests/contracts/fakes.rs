//! Denoisers and networks with known answers.

use pentimento_core::{Condition, Denoised, Denoiser, Level, Network, Noise, Stream, Tap};
use pentimento_diffusion::{GaussianMixture, Path};
use std::cell::{Cell, RefCell};
use tch::{Device, Kind, Tensor};

pub const PATHS: [Path; 4] =
    [Path::Flow, Path::VpLinear { beta_min: 0.1, beta_max: 20.0 }, Path::VpCosine { s: 0.008 }, Path::Edm];

/// Normals in f64.
pub fn normal(seed: u64, size: &[i64]) -> Tensor {
    let samples = (0..size[0]).map(|i| u64::try_from(i).unwrap()).collect();
    Noise::new(seed, samples).normal(size, Device::Cpu, Stream::Own).to_kind(Kind::Double)
}

pub fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

pub fn mixture() -> GaussianMixture {
    let means = [vec![-1.0, 0.5], vec![0.8, -0.2], vec![0.3, 1.1]];
    GaussianMixture::new(&[0.3, 0.5, 0.2], &means, &[0.4, 0.3, 0.5])
}

/// The exact denoiser of N(0, v), by multiplication alone: the same bits in every batch.
pub struct Shrink(pub f64);

impl Denoiser for Shrink {
    fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> Denoised {
        let k = level.map(|a, s| a * self.0 / (a * a * self.0 + s * s));
        Denoised { x0: Level::times(&k, x), variance: None }
    }
}

/// Counts evaluations and rows.
pub struct Counting<D> {
    pub inner: D,
    pub calls: Cell<usize>,
    pub rows: Cell<i64>,
}

impl<D> Counting<D> {
    pub fn new(inner: D) -> Self {
        Self { inner, calls: Cell::new(0), rows: Cell::new(0) }
    }
}

impl<D: Denoiser> Denoiser for Counting<D> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        self.calls.set(self.calls.get() + 1);
        self.rows.set(self.rows.get() + x.size()[0]);
        self.inner.denoise(x, level, c)
    }
}

/// What a [`FakeNetwork`] computes from state and time.
pub type Function = Box<dyn Fn(&Tensor, &Tensor) -> Tensor + Send>;

/// A network that is a closed-form function, and remembers the times it was told.
pub struct FakeNetwork {
    pub f: Function,
    pub times: RefCell<Vec<f64>>,
}

impl FakeNetwork {
    pub fn boxed(f: impl Fn(&Tensor, &Tensor) -> Tensor + Send + 'static) -> Box<dyn Network> {
        Box::new(Self { f: Box::new(f), times: RefCell::default() })
    }
}

impl Network for FakeNetwork {
    fn forward_with(&self, x: &Tensor, t: &Tensor, _: &Condition, _: Tap<'_>) -> Tensor {
        assert_eq!(t.size(), [x.size()[0]]);
        self.times.borrow_mut().extend(Vec::<f64>::try_from(t.to_kind(Kind::Double)).unwrap());
        (self.f)(x, t)
    }
    fn blocks(&self) -> Vec<String> {
        Vec::new()
    }
    fn macs(&self) -> u64 {
        0
    }
}
