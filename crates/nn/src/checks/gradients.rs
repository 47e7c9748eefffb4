//! Gradients against central differences in f64, along random directions.

use crate::weights::cast;
use crate::{DitConfig, NetworkConfig, UnetConfig, open_gates};
use pentimento_core::{Condition, Params, noise};
use tch::{Device, Kind, Tensor};

fn random(name: &str, size: &[i64]) -> Tensor {
    noise::init_normal(5, name, size).to_kind(Kind::Double)
}

/// d/dh f(w + h v) at 0, by autograd and by differences, for every tensor by itself and for the input.
fn check(config: &NetworkConfig) {
    let params = Params::new(Device::Cpu, 3);
    let network = config.build(&params.root(), [2, 4, 4], 3).unwrap();
    open_gates(&params, 4);
    cast(&params, Kind::Double);
    let x = random("x", &[2, 2, 4, 4]).set_requires_grad(true);
    let t = Tensor::from_slice(&[0.3_f32, 40.0]);
    let y = Condition::classes(&[1, -1]);
    let direction = random("out", &[2, 2, 4, 4]);
    let value = || (network.forward(&x, &t, &y) * &direction).sum(Kind::Double);
    value().backward();
    let mut all: Vec<(String, Tensor)> = params.entries().into_iter().map(|e| (e.name, e.tensor)).collect();
    all.retain(|(_, t)| t.requires_grad());
    all.push(("x".into(), x.shallow_clone()));
    for (name, tensor) in all {
        let v = random(&format!("v.{name}"), &tensor.size());
        let want = (tensor.grad() * &v).sum(Kind::Double).double_value(&[]);
        let _guard = tch::no_grad_guard();
        let h = 1e-5;
        let at = |step: f64| {
            let _ = tensor.shallow_clone().g_add_(&(&v * step));
            let f = value().double_value(&[]);
            let _ = tensor.shallow_clone().g_sub_(&(&v * step));
            f
        };
        let got = (at(h) - at(-h)) / (2.0 * h);
        assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{name}: {got} against {want}");
    }
}

#[test]
fn dit_gradients_equal_differences() {
    check(&NetworkConfig::Dit(DitConfig::sized([2, 8, 2, 2])));
}

#[test]
fn unet_gradients_equal_differences() {
    let config = UnetConfig {
        channels: Some(4),
        mult: Some(vec![1.0, 2.0]),
        blocks: Some(1),
        attention: Some(vec![2]),
        groups: Some(2),
        ..UnetConfig::default()
    };
    check(&NetworkConfig::Unet(config.clone()));
    let residual = Some(crate::unet_config::Resample::Residual);
    check(&NetworkConfig::Unet(UnetConfig { resample: residual, ..config }));
}
