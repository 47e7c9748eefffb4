//! A checkpoint with learned variance, end to end, against the loop of the paper in plain numbers.

use crate::fakes::FakeNetwork;
use pentimento_core::{Condition, Noise, Stream};
use pentimento_diffusion::{DiscreteVp, Parametrised, Path, Prediction, Sampler, Spacing, TimeInput, Walk, sample};
use tch::{Device, Kind, Tensor};

/// Noise and variance output of the fake network for one number at an index.
fn outputs(x: f64, i: f64) -> (f64, f64) {
    ((0.8 * x - 0.1).tanh() + 0.01 * i, (2.0 * x + i).sin())
}

#[test]
fn ancestral_with_learned_variance_is_the_loop_of_the_paper() {
    let steps = 25;
    let table = DiscreteVp::linear(steps, 1e-3, 0.3);
    let network = FakeNetwork::boxed(|x, t| {
        let i = t.view([-1, 1, 1, 1]);
        Tensor::cat(&[(x * 0.8 - 0.1).tanh() + &i * 0.01, (x * 2.0 + i).sin()], 1)
    });
    let d = Parametrised::new(network, Path::Flow, Prediction::Epsilon).timed(TimeInput::Index { steps });
    let (step, levels, noise) =
        (Sampler::Ancestral.step(), table.levels(steps, Spacing::Even), Noise::new(4, vec![3, 8]));
    let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
    let start = walk.start(&[2, 1, 2, 2], Device::Cpu).to_kind(Kind::Double);
    let drawn = sample(&d, &walk, start.shallow_clone(), &Condition::none(), &mut |_| ());

    // Nichol and Dhariwal 2021: eqs. 11 (mean), 10 (beta-tilde), 15 (variance), with beta and alpha-bar from scratch.
    let beta: Vec<f64> = (0..steps).map(|i| 1e-3 + (0.3 - 1e-3) * i as f64 / (steps - 1) as f64).collect();
    let mut abar = vec![1.0];
    for b in &beta {
        abar.push(abar.last().unwrap() * (1.0 - b));
    }
    let mut x = Vec::<f64>::try_from(start.flatten(0, -1)).unwrap();
    for (number, i) in (0..steps).rev().enumerate() {
        let z = noise.at_step(u32::try_from(number).unwrap()).normal(&[2, 1, 2, 2], Device::Cpu, Stream::Churn);
        let z = Vec::<f32>::try_from(z.flatten(0, -1)).unwrap();
        let (now, before) = (abar[i + 1], abar[i]);
        for (x, z) in x.iter_mut().zip(z) {
            let (eps, v) = outputs(*x, i as f64);
            let x0 = (*x - (1.0 - now).sqrt() * eps) / now.sqrt();
            let mean =
                before.sqrt() * beta[i] / (1.0 - now) * x0 + (1.0 - beta[i]).sqrt() * (1.0 - before) / (1.0 - now) * *x;
            *x = if i == 0 {
                mean
            } else {
                let tilde = (1.0 - before) / (1.0 - now) * beta[i];
                let fraction = (v + 1.0) / 2.0;
                mean + (0.5 * (fraction * beta[i].ln() + (1.0 - fraction) * tilde.ln())).exp() * f64::from(z)
            };
        }
    }
    let got = Vec::<f64>::try_from(drawn.flatten(0, -1)).unwrap();
    for (g, w) in got.iter().zip(&x) {
        assert!((g - w).abs() < 1e-9 * (1.0 + w.abs()), "{got:?} {x:?}");
    }
}
