//! The loss on latents against the loss on data.

use crate::fakes::{FakeNetwork, normal};
use pentimento_core::{At, Codec, HostBatch, Objective, Params};
use pentimento_diffusion::{DiffusionLoss, LatentLoss, LossConfig, Parametrised, Path, Prediction, TimeInput};
use tch::{Device, Tensor};

/// A codec that multiplies, and cuts away the columns beyond a few.
struct Scaled(f64, i64);

impl Codec for Scaled {
    fn encode(&self, x: &Tensor) -> Tensor {
        x.narrow(3, 0, self.1) * self.0
    }
    fn decode(&self, z: &Tensor) -> Tensor {
        z / self.0
    }
}

/// A codec that does nothing changes nothing, noise and levels included; one that scales is a loss on scaled data.
#[test]
fn the_loss_is_that_of_the_latents_as_data() {
    let host = |x: &Tensor| {
        let (flat, shape) = (Vec::try_from(x.to_kind(tch::Kind::Float).flatten(0, -1)).unwrap(), x.size());
        let shape = [0, 1, 2, 3].map(|i| usize::try_from(shape[i]).unwrap());
        HostBatch { x: flat, shape, y: vec![0; shape[0]], index: (0..5).collect(), first: 70, ..HostBatch::default() }
    };
    let loss = || {
        let network = FakeNetwork::boxed(|x, _| x * 0.3);
        let (path, prediction) = (Path::VpCosine { s: 0.008 }, Prediction::Epsilon);
        let denoiser = Parametrised::new(network, path, prediction).timed(TimeInput::Thousand);
        DiffusionLoss::new(denoiser, Params::new(Device::Cpu, 0), LossConfig::default())
    };
    let at = At { seed: 3, step: 9, images: 70 };
    let value = |objective: &dyn Objective, x: &Tensor| {
        let mut batch = host(x);
        objective.draw().unwrap().draw(&mut batch, at.seed);
        objective.loss(&batch.upload(Device::Cpu), &at).total().double_value(&[])
    };
    let x = normal(4, &[5, 1, 2, 3]);
    let plain = value(&loss(), &x);
    assert!((value(&LatentLoss::new(Scaled(1.0, 3), loss()), &x) - plain).abs() < 1e-7);
    for columns in [3, 2] {
        let scaled = value(&LatentLoss::new(Scaled(0.5, columns), loss()), &x);
        assert!((scaled - value(&loss(), &(x.narrow(3, 0, columns) * 0.5))).abs() < 1e-7, "{columns}");
        assert!((scaled - plain).abs() > 1e-3);
    }
}
