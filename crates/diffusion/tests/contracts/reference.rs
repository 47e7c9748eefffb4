//! Trajectories of the schedulers of diffusers (`fixtures/samplers/make.py`), on tables in f64.

use crate::fakes::gap;
use pentimento_core::{Condition, Denoised, Denoiser, Level, Noise, Stream};
use pentimento_diffusion::{
    Ancestral, Ddim, DiscreteVp, Dpmpp2m, Euler, Heun, History, Path, ReverseVariance, Spacing, Step, Walk, sample,
};
use std::collections::HashMap;
use tch::Tensor;

/// Relative to the largest number; f64 on both sides.
const EXACT: f64 = 1e-10;
/// Where the scheduler casts its state to f32 at every step: multistep DPM-Solver and the flow schedulers.
const SINGLE: f64 = 1e-6;

fn numbers() -> HashMap<String, Tensor> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/samplers/trajectories.safetensors");
    Tensor::read_safetensors(file).unwrap().into_iter().collect()
}

/// The script's network: noise as a function of the state at unit variance and s.
struct NoiseNet;

impl Denoiser for NoiseNet {
    fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> Denoised {
        let unit = Level::times(&level.map(|a, s| 1.0 / a.hypot(s)), x);
        let s = level.s()[0];
        let eps = (&unit * 1.3 + 0.7).tanh() - &unit * (0.3 / (1.0 + s));
        let x0 = (x - Level::times(&level.sigma, &eps)) / level.alpha[0];
        Denoised { x0, variance: Some(((&unit * 3.0).sin() + 1.0) * 0.5) }
    }
}

/// The script's velocity.
struct VelocityNet;

impl Denoiser for VelocityNet {
    fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> Denoised {
        let t = level.t[0];
        let u = (x * 1.3 - 0.4).tanh() - x * (0.5 * t);
        Denoised { x0: x - u * t, variance: None }
    }
}

fn table() -> DiscreteVp {
    DiscreteVp::linear(1000, 1e-4, 0.02)
}

fn run(d: &dyn Denoiser, step: &dyn Step, levels: &[Level], x: Tensor) -> Tensor {
    sample(d, &Walk { step, levels, noise: &Noise::new(0, vec![0, 1]) }, x, &Condition::none(), &mut |_| ())
}

fn close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) {
    let scale = 1.0 + want.abs().max().double_value(&[]);
    assert!(gap(got, want) < tolerance * scale, "{what}: off by {}", gap(got, want));
}

fn indices(numbers: &HashMap<String, Tensor>, name: &str) -> Vec<usize> {
    Vec::<i64>::try_from(&numbers[name]).unwrap().into_iter().map(|i| usize::try_from(i).unwrap()).collect()
}

#[test]
fn ddim_and_dpm_solver_follow_their_schedulers() {
    let n = numbers();
    assert_eq!(table().indices(8, Spacing::Leading), indices(&n, "ddim.indices"));
    assert_eq!(table().indices(8, Spacing::Trailing), indices(&n, "dpmpp_2m.indices"));
    let start = || n["start"].shallow_clone();
    let x = run(&NoiseNet, &Ddim { eta: 0.0 }, &table().levels(8, Spacing::Leading), start());
    close(&x, &n["ddim"], EXACT, "ddim");
    let x = run(&NoiseNet, &Dpmpp2m, &table().levels(8, Spacing::Trailing), start());
    close(&x, &n["dpmpp_2m"], SINGLE, "dpmpp_2m");
}

#[test]
fn heun_follows_the_scheduler_in_noise_levels() {
    let n = numbers();
    let s = Vec::<f64>::try_from(&n["heun.levels"]).unwrap();
    let levels: Vec<Level> = s.iter().map(|&s| Level::one(s / 80.0, 1.0, s)).collect();
    close(&run(&NoiseNet, &Heun, &levels, &n["start"] * s[0]), &n["heun"], EXACT, "heun");
}

#[test]
fn euler_and_heun_follow_the_flow_schedulers() {
    let n = numbers();
    for (name, step) in [("flow_euler", &Euler as &dyn Step), ("flow_heun", &Heun)] {
        let times = Vec::<f64>::try_from(&n[&format!("{name}.times")]).unwrap();
        let levels: Vec<Level> = times.iter().map(|&t| Path::Flow.level(t)).collect();
        close(&run(&VelocityNet, step, &levels, n["start"].shallow_clone()), &n[name], SINGLE, name);
    }
}

/// Mean and standard deviation of single random steps; ours is told from its own, known, noise.
#[test]
fn random_steps_have_the_mean_and_deviation_of_their_schedulers() {
    let n = numbers();
    let pairs = indices_of_pairs(&n["pairs"]);
    let steps: [(&str, &dyn Step); 4] = [
        ("ddim_eta", &Ddim { eta: 0.7 }),
        ("fixed_small", &Ancestral { variance: ReverseVariance::Small }),
        ("fixed_large", &Ancestral { variance: ReverseVariance::Large }),
        ("learned_range", &Ancestral { variance: ReverseVariance::Predicted }),
    ];
    let noise = Noise::new(1, vec![0, 1]);
    let x = &n["start"] * 0.8;
    let z = noise.normal_like(&x, Stream::Churn);
    for (k, (i, j)) in pairs.into_iter().enumerate() {
        for (name, step) in steps {
            let (y, _) = step.step(&NoiseNet, &x, &table().level(i), &table().level(j), History::default(), &noise);
            let want = &n[&format!("{name}.{k}.mean")] + &n[&format!("{name}.{k}.std")] * &z;
            close(&y, &want, EXACT, &format!("{name} {i} -> {j}"));
        }
    }
}

fn indices_of_pairs(pairs: &Tensor) -> Vec<(usize, usize)> {
    let flat = Vec::<i64>::try_from(pairs.flatten(0, -1)).unwrap();
    flat.chunks(2).map(|p| (usize::try_from(p[0]).unwrap(), usize::try_from(p[1]).unwrap())).collect()
}
