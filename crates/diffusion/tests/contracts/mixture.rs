//! The mixture's own exactness: everything else is checked against it.

use crate::fakes::{PATHS, gap, mixture, normal};
use pentimento_core::{Condition, Denoiser, Level, Noise};
use pentimento_diffusion::{GaussianMixture, Grid, Path, Prediction, Sampler, Walk, sample};
use tch::{Kind, Tensor};

#[test]
fn the_score_is_the_gradient_of_the_density() {
    let d = mixture();
    for path in PATHS {
        let level = path.levels(&[0.02, 0.1, 0.3, 0.5]);
        let x = normal(1, &[4, 2]).set_requires_grad(true);
        d.log_density(&x, &level).sum(Kind::Double).backward();
        assert!(gap(&x.grad(), &d.score(&x.detach(), &level)) < 1e-10, "{path}");
    }
}

/// E[x0 | xt] = (xt + sigma^2 score) / alpha.
#[test]
fn the_denoiser_obeys_tweedie() {
    let d = mixture();
    for path in PATHS {
        let level = path.levels(&[0.05, 0.3, 0.5, 0.8]);
        let x = level.mix(&d.draw(&Noise::new(1, (0..4).collect())).0, &normal(2, &[4, 2]));
        let tweedie = (&x + Level::times(&level.map(|_, s| s * s), &d.score(&x, &level)))
            * Level::column(&level.map(|a, _| 1.0 / a), &x);
        let x0 = d.denoise(&x, &level, &Condition::none()).x0;
        assert!(gap(&x0, &tweedie) < 1e-9, "{path}");
        assert!(gap(&Prediction::Sample.score(&x0, &x, &level), &d.score(&x, &level)) < 1e-7, "{path}");
    }
}

/// One Gaussian N(m, v): posterior precision 1/v + alpha^2/sigma^2, the textbook product of prior and likelihood.
#[test]
fn one_gaussian_gives_the_posterior_mean_of_bayes() {
    let (m, v) = (0.6, 0.25);
    let d = GaussianMixture::new(&[3.0], &[vec![m]], &[0.5]);
    let x = normal(3, &[5, 1]);
    for path in PATHS {
        let level = path.level(0.4);
        let (a, s2) = (level.alpha[0], level.sigma[0].powi(2));
        let bayes = (&x * (a / s2) + m / v) / (1.0 / v + a * a / s2);
        assert!(gap(&d.denoise(&x, &level, &Condition::none()).x0, &bayes) < 1e-12, "{path}");
    }
}

#[test]
fn a_class_is_its_component_and_a_dropped_one_the_whole() {
    let (d, x, level) = (mixture(), normal(4, &[3, 2]), Path::Flow.level(0.5));
    let one = GaussianMixture::new(&[1.0], &[vec![0.8, -0.2]], &[0.3]);
    let ask = |y: &[i64]| d.denoise(&x, &level, &Condition::classes(y)).x0;
    assert!(gap(&ask(&[1, 1, 1]), &one.denoise(&x, &level, &Condition::none()).x0) < 1e-12);
    assert!(gap(&ask(&[-1, -1, -1]), &d.denoise(&x, &level, &Condition::none()).x0) < 1e-12);
}

/// Drawn by the ODE and drawn directly, the mean and the covariance agree with the closed form.
#[test]
fn the_flow_carries_noise_to_the_mixture() {
    let (d, n) = (mixture(), 4000);
    let noise = Noise::new(2, (0..n).collect());
    let (step, levels) = (Sampler::Heun.step(), Grid::Uniform.levels(&Path::Flow, 16));
    let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
    let start = walk.start(&[4000, 2], tch::Device::Cpu).to_kind(Kind::Double);
    let drawn = sample(&d, &walk, start, &Condition::none(), &mut |_| ());
    // By hand: mean = sum of w m; E x^2 = sum of w (m^2 + s^2).
    let mean = [-0.3 + 0.4 + 0.06, 0.15 - 0.1 + 0.22];
    let square = [
        0.3 * (1.0 + 0.16) + 0.5 * (0.64 + 0.09) + 0.2 * (0.09 + 0.25),
        0.3 * (0.25 + 0.16) + 0.5 * (0.04 + 0.09) + 0.2 * (1.21 + 0.25),
    ];
    let near = |got: Tensor, want: &[f64]| gap(&got, &Tensor::from_slice(want)) < 0.05;
    for x in [drawn, d.draw(&noise).0] {
        assert!(near(x.mean_dim(0_i64, false, Kind::Double), &mean));
        assert!(near(x.square().mean_dim(0_i64, false, Kind::Double), &square));
    }
}
