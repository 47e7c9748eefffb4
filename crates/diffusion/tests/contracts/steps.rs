//! One battery for every step of the registry.

use crate::fakes::{Counting, PATHS, Shrink, gap, mixture, normal};
use pentimento_core::{Condition, Denoiser, Level, Noise, Stream};
use pentimento_diffusion::{
    Ancestral, Ddim, Euler, GaussianMixture, Grid, History, Path, ReverseVariance, Sampler, Step, Walk, invert, sample,
};
use tch::{Device, Kind, Tensor};

fn noise(n: u64) -> Noise {
    Noise::new(11, (0..n).collect())
}

fn walk(d: &dyn Denoiser, sampler: Sampler, levels: &[Level], x: &Tensor) -> Tensor {
    let step = sampler.step();
    let rows = u64::try_from(x.size()[0]).unwrap();
    let walk = Walk { step: step.as_ref(), levels, noise: &noise(rows) };
    sample(d, &walk, x.shallow_clone(), &Condition::none(), &mut |_| ())
}

/// n equal steps of log-SNR between two noise levels away from the ends, where the equation is smooth.
fn interior(path: &Path, n: i32) -> Vec<Level> {
    let (a, b) = (-2.0 * 4.0_f64.ln(), -2.0 * 0.2_f64.ln());
    (0..=n).map(|i| path.level(path.t_of_logsnr(a + (b - a) * f64::from(i) / f64::from(n)))).collect()
}

#[test]
fn each_step_without_noise_converges_at_its_declared_order() {
    let d = mixture();
    for path in PATHS {
        let start = Level::times(&interior(&path, 1)[0].map(f64::hypot), &normal(1, &[6, 2]));
        let exact = walk(&d, Sampler::Heun, &interior(&path, 640), &start);
        for sampler in Sampler::ALL.into_iter().filter(|s| !s.is_random()) {
            let error = |n| gap(&walk(&d, sampler, &interior(&path, n), &start), &exact);
            let (coarse, fine) = (error(40), error(80));
            let order = (coarse / fine).log2();
            let declared = f64::from(sampler.step().order());
            assert!(
                (order - declared).abs() < 0.35,
                "{path} {sampler}: order {order:.2}, errors {coarse:.1e} {fine:.1e}"
            );
        }
    }
}

/// The step on Gaussian data is x' = a x + b z + c; found from three rows, it gives the sampler's law exactly.
fn affine(step: &dyn Step, d: &dyn Denoiser, from: &Level, to: &Level, i: u32) -> (f64, f64) {
    let n = Noise::new(5, vec![0, 1, 0]).at_step(i);
    let x = Tensor::from_slice(&[0.0, 0.0, 1.0]).view([3, 1]);
    let z = n.normal_like(&x, Stream::Churn);
    let (y, _) = step.step(d, &x, from, to, History::default(), &n);
    let at = |t: &Tensor, i| t.double_value(&[i, 0]);
    (at(&y, 2) - at(&y, 0), (at(&y, 0) - at(&y, 1)) / (at(&z, 0) - at(&z, 1)))
}

fn end_variance(step: &dyn Step, d: &dyn Denoiser, levels: &[Level], start: f64) -> f64 {
    levels.windows(2).zip(0..).fold(start, |v, (pair, i)| {
        let (a, b) = affine(step, d, &pair[0], &pair[1], i);
        a * a * v + b * b
    })
}

#[test]
fn steps_with_noise_converge_in_law_at_their_declared_order() {
    let (v, random) = (0.3, [Sampler::Ancestral, Sampler::EulerA, Sampler::Ddim { eta: 0.5 }]);
    for path in PATHS {
        for sampler in random {
            let step = sampler.step();
            let error = |n| {
                let levels = interior(&path, n);
                let law = |l: &Level| l.map(|a, s| a * a * v + s * s)[0];
                (end_variance(step.as_ref(), &Shrink(v), &levels, law(&levels[0])) / law(levels.last().unwrap()) - 1.0)
                    .abs()
            };
            let (coarse, fine) = (error(100), error(200));
            let order = (coarse / fine).log2();
            assert!((order - f64::from(step.order())).abs() < 0.2, "{path} {sampler}: {order:.2}, {coarse:.1e}");
            assert!(fine < 0.03, "{path} {sampler}: {fine}");
        }
    }
}

/// From pure noise to data, the ancestral law ends at the data's variance.
#[test]
fn ancestral_ends_at_the_variance_of_gaussian_data() {
    for path in PATHS {
        let levels = Grid::LogSnr { s_min: 0.01 }.levels(&path, 400);
        let start = levels[0].sigma[0].powi(2);
        let end = end_variance(&Ancestral::default(), &Shrink(0.3), &levels, start);
        assert!((end / 0.3 - 1.0).abs() < 0.05, "{path}: {end}");
        let large = Ancestral { variance: ReverseVariance::Large };
        let end = end_variance(&large, &Shrink(1.0), &levels, start);
        assert!((end - 1.0).abs() < 0.05, "{path}: {end}");
    }
}

#[test]
fn all_numbers_of_steps_end_finite_on_the_estimate() {
    let d = mixture();
    for path in PATHS {
        for grid in [Grid::Uniform, Grid::Karras { rho: 7.0, s_min: 0.002 }, Grid::LogSnr { s_min: 0.002 }] {
            for sampler in Sampler::ALL {
                for n in [1, 2, 7] {
                    let counting = Counting::new(&d);
                    let (step, levels, noise) = (sampler.step(), grid.levels(&path, n), noise(3));
                    let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
                    let (mut seen, mut last) = (Vec::new(), Tensor::new());
                    let start = walk.start(&[3, 2], Device::Cpu);
                    let x = sample(&counting, &walk, start, &Condition::none(), &mut |s| {
                        seen.push((s.i, s.n));
                        last = s.x0_hat.shallow_clone();
                    });
                    assert_eq!(x.kind(), Kind::Float);
                    assert!(x.isfinite().all().int64_value(&[]) == 1, "{path} {grid} {sampler} {n}");
                    assert!(gap(&x, &last) < 1e-5, "{path} {grid} {sampler} {n}: the last step lands on the estimate");
                    assert_eq!(seen, (1..=n).map(|i| (i, n)).collect::<Vec<_>>());
                    assert_eq!(counting.calls.get(), sampler.evaluations(n), "{sampler} {n}");
                }
            }
        }
    }
}

#[test]
fn a_batch_may_be_cut_anywhere() {
    for path in PATHS {
        for sampler in Sampler::ALL.into_iter().chain([Sampler::Ddim { eta: 1.0 }]) {
            let (step, levels) = (sampler.step(), Grid::Uniform.levels(&path, 5));
            let draw = |samples: Vec<u64>| {
                let (n, noise) = (samples.len(), Noise::new(3, samples));
                let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
                let start = walk.start(&[i64::try_from(n).unwrap(), 3, 5], Device::Cpu);
                sample(&Shrink(0.5), &walk, start, &Condition::none(), &mut |_| ())
            };
            let all = draw(vec![4, 17, 2, 9]);
            let cut = Tensor::cat(&[draw(vec![4]), draw(vec![17, 2, 9])], 0);
            assert_eq!(all, cut, "{path} {sampler}");
        }
    }
}

#[test]
fn rows_may_stand_at_different_levels() {
    let (d, x, n) = (mixture(), normal(2, &[3, 2]), noise(3));
    for path in PATHS {
        for sampler in Sampler::ALL {
            let (step, none) = (sampler.step(), History::default);
            let (t, s) = ([0.9, 0.5, 0.3], [0.6, 0.45, 0.0]);
            let (middle, _) = step.step(&d, &x, &path.levels(&t), &path.levels(&s), none(), &n);
            for i in 0..3 {
                let own = Noise::new(11, vec![n.samples()[i]]);
                let row = x.narrow(0, i64::try_from(i).unwrap(), 1);
                let (one, _) = step.step(&d, &row, &path.level(t[i]), &path.level(s[i]), none(), &own);
                assert!(gap(&one, &middle.narrow(0, i64::try_from(i).unwrap(), 1)) < 1e-12, "{path} {sampler} row {i}");
            }
        }
    }
}

/// d(x/alpha) / d(sigma/alpha) = eps_hat, stepped by hand.
#[test]
fn ddim_is_euler_in_its_own_variable() {
    let d = mixture();
    for path in PATHS {
        let levels = interior(&path, 12);
        let x = Level::times(&levels[0].sigma, &normal(3, &[4, 2]));
        let mut bar = &x / levels[0].alpha[0];
        for pair in levels.windows(2) {
            let (a, s) = (pair[0].alpha[0], pair[0].sigma[0]);
            let eps_hat = (&bar * a - d.denoise(&(&bar * a), &pair[0], &Condition::none()).x0 * a) / s;
            bar += eps_hat * (pair[1].s()[0] - pair[0].s()[0]);
        }
        let by_hand = bar * levels[12].alpha[0];
        assert!(gap(&walk(&d, Sampler::Ddim { eta: 0.0 }, &levels, &x), &by_hand) < 1e-12, "{path}");
        assert!(gap(&walk(&d, Sampler::Euler, &levels, &x), &by_hand) < 1e-12, "{path}");
    }
}

#[test]
fn ddim_with_all_fresh_noise_is_ancestral() {
    let d = mixture();
    for path in PATHS {
        let levels = Grid::Uniform.levels(&path, 6);
        let x = Level::times(&levels[0].sigma, &normal(4, &[4, 2]));
        let [full, ancestral, euler_a] =
            [Sampler::Ddim { eta: 1.0 }, Sampler::Ancestral, Sampler::EulerA].map(|s| walk(&d, s, &levels, &x));
        assert!(gap(&full, &ancestral) < 1e-11 && gap(&euler_a, &ancestral) == 0.0, "{path}");
    }
}

/// k-diffusion's euler_a in its own words: down to sigma_down, up by sigma_up (at alpha = 1).
#[test]
fn euler_a_goes_down_and_up() {
    let (d, x, n) = (mixture(), normal(5, &[4, 2]) * 3.0, noise(4));
    let (from, to) = (Path::Edm.level(3.0 / 80.0), Path::Edm.level(1.2 / 80.0));
    let (s, z) = (3.0_f64, 1.2_f64);
    let up = (z * z * (s * s - z * z) / (s * s)).sqrt();
    let down = (z * z - up * up).sqrt();
    let slope = (&x - d.denoise(&x, &from, &Condition::none()).x0) / s;
    let by_hand = &x + slope * (down - s) + n.normal_like(&x, Stream::Churn) * up;
    let (y, _) = Sampler::EulerA.step().step(&d, &x, &from, &to, History::default(), &n);
    assert!(gap(&y, &by_hand) < 1e-12);
}

#[test]
fn steps_are_exact_in_one_go_for_a_point_mass() {
    let point = GaussianMixture::new(&[1.0], &[vec![0.7, -0.4]], &[0.0]);
    let (x0, eps) = (Tensor::from_slice(&[0.7, -0.4]).view([1, 2]), normal(6, &[1, 2]));
    for path in PATHS {
        for sampler in [Sampler::Ddim { eta: 0.0 }, Sampler::Euler, Sampler::Heun, Sampler::Dpmpp2m] {
            for s in [0.3, 0.0] {
                let (from, to) = (path.level(0.95), path.level(s));
                let (x, _) =
                    sampler.step().step(&point, &from.mix(&x0, &eps), &from, &to, History::default(), &noise(1));
                assert!(gap(&x, &to.mix(&x0, &eps)) < 1e-11, "{path} {sampler} {s}");
            }
        }
    }
}

#[test]
fn inversion_and_euler_return_to_the_data() {
    let (d, x0) = (mixture(), normal(7, &[5, 2]));
    for path in [Path::Flow, Path::Edm] {
        let error = |n| {
            let levels = Grid::Karras { rho: 7.0, s_min: 0.01 }.levels(&path, n);
            let x1 = invert(&d, &x0, &levels, &Condition::none());
            let noise = noise(5);
            let walk = Walk { step: &Euler, levels: &levels, noise: &noise };
            gap(&sample(&d, &walk, x1, &Condition::none(), &mut |_| ()), &x0)
        };
        let (coarse, fine) = (error(40), error(160));
        assert!(fine < 0.1 && fine < 0.45 * coarse, "{path}: {coarse} {fine}");
    }
}

#[test]
fn ddim_eta_zero_draws_no_noise() {
    let (d, x) = (mixture(), normal(8, &[2, 2]));
    let (from, to) = (Path::Flow.level(0.8), Path::Flow.level(0.4));
    let run = |eta, seed| Ddim { eta }.step(&d, &x, &from, &to, History::default(), &Noise::new(seed, vec![0, 1])).0;
    assert_eq!(run(0.0, 1), run(0.0, 2));
    assert_ne!(run(0.3, 1), run(0.3, 2));
}

#[test]
fn names_are_those_users_know() {
    let names: Vec<String> = Sampler::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["euler", "heun", "ddim(0)", "ancestral", "euler_a", "dpmpp_2m"]);
    for s in Sampler::ALL {
        let json = serde_json::to_string(&s).unwrap();
        assert_eq!(serde_json::from_str::<Sampler>(&json).unwrap(), s);
    }
    assert_eq!("ddim(0.5)".parse::<Sampler>().unwrap(), Sampler::Ddim { eta: 0.5 });
    assert!("ddim(2)".parse::<Sampler>().unwrap_err().to_string().contains("eta of ddim = 2; must be in [0, 1]"));
    let e = serde_json::from_str::<Sampler>("\"plms\"").unwrap_err().to_string();
    assert!(e.contains("unknown sampler \"plms\"; choose one of euler, heun, ddim(0)"), "{e}");
}
