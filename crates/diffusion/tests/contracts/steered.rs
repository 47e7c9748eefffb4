//! Steps that an energy of the clean estimate draws along.

use crate::fakes::{Counting, PATHS, Shrink, gap, mixture, normal};
use pentimento_core::{Condition, Denoiser, Level, Noise};
use pentimento_diffusion::{Grid, History, Path, Sampler, Steered, Step, Walk, sample};
use tch::{Kind, Tensor};

fn norms(x: &Tensor) -> Tensor {
    x.flatten(1, -1).norm_scalaropt_dim(2, [1].as_slice(), false)
}

/// What a step loses to the energy, at one pair of levels.
fn pull(d: &dyn Denoiser, energy: &dyn Fn(&Tensor) -> Tensor, x: &Tensor, levels: [&Level; 2]) -> Tensor {
    let _guard = tch::no_grad_guard();
    let (step, n) = (Sampler::Ancestral.step(), Noise::new(1, (0..x.size()[0].unsigned_abs()).collect()));
    let free = step.step(d, x, levels[0], levels[1], History::default(), &n).0;
    let steered = Steered::new(step.as_ref(), energy);
    let drawn = steered.step(d, x, levels[0], levels[1], History::default(), &n).0;
    assert!(!drawn.requires_grad() && steered.order() == 1);
    free - drawn
}

#[test]
fn an_energy_that_is_flat_changes_nothing_and_costs_no_evaluation() {
    for path in PATHS {
        for sampler in Sampler::ALL {
            let (levels, noise) = (Grid::Uniform.levels(&path, 5), Noise::new(2, vec![0, 1, 2]));
            let walk = |step: &dyn Step| {
                let d = Counting::new(mixture());
                let walk = Walk { step, levels: &levels, noise: &noise };
                let x = Level::times(&levels[0].map(f64::hypot), &normal(3, &[3, 2]));
                (sample(&d, &walk, x, &Condition::none(), &mut |_| ()), d.calls.get())
            };
            let step = sampler.step();
            let (free, calls) = walk(step.as_ref());
            let (drawn, again) = walk(&Steered::new(step.as_ref(), &|x0| norms(x0) * 0.0));
            assert!(gap(&free, &drawn) < 1e-12, "{path} {sampler}");
            assert_eq!((calls, again), (sampler.evaluations(5), sampler.evaluations(5)), "{path} {sampler}");
        }
    }
}

/// x0_hat = k x: the gradient of |y - k x| is a direction times k, that of half its square is k (k x - y).
#[test]
fn the_pull_of_a_linear_denoiser_has_its_closed_form() {
    let (x, y) = (normal(1, &[4, 3]), normal(2, &[4, 3]));
    for path in PATHS {
        let levels = [&path.level(0.6), &path.level(0.5)];
        let k = levels[0].map(|a, s| a * 0.7 / (a * a * 0.7 + s * s))[0];
        let off = &x * k - &y;
        let norm = pull(&Shrink(0.7), &|x0| norms(&(x0 - &y)) * 0.3, &x, levels);
        assert!(gap(&norm, &(&off * (0.3 * k) / norms(&off).unsqueeze(1))) < 1e-12, "{path}");
        let half = |x0: &Tensor| (x0 - &y).square().sum_dim_intlist(1, false, Kind::Double) * 0.5;
        assert!(gap(&pull(&Shrink(0.7), &half, &x, levels), &(off * k)) < 1e-12, "{path}");
        // At the bottom of a norm there is no direction, and no NaN.
        let bottom = pull(&Shrink(0.7), &|x0| norms(&(x0 - &x * k)), &x, levels);
        assert!(bottom.abs().max().double_value(&[]) < 1e-12, "{path}");
    }
}

/// Through a denoiser that bends: finite differences of the energy of the whole, and each row by itself.
#[test]
fn the_pull_passes_through_the_denoiser() {
    let (d, path, y) = (mixture(), Path::VpCosine { s: 0.008 }, normal(5, &[3, 2]));
    let levels = [&path.level(0.5), &path.level(0.4)];
    let (x, h) = (normal(6, &[3, 2]), 1e-5);
    let energy = |x0: &Tensor| norms(&(x0.sin() - y.narrow(0, 0, x0.size()[0])));
    let found = pull(&d, &energy, &x, levels);
    let value = |x: &Tensor| energy(&d.denoise(x, levels[0], &Condition::none()).x0);
    let mut through = 0.0_f64;
    for j in 0..2 {
        let shift = Tensor::from_slice(&[f64::from(u8::from(j == 0)), f64::from(u8::from(j == 1))]) * h;
        let quotient = (value(&(&x + &shift)) - value(&(&x - &shift))) / (2.0 * h);
        assert!(gap(&quotient, &found.select(1, j)) < 1e-8, "{j}");
        through = through.max(quotient.abs().max().double_value(&[]));
    }
    assert!(through > 0.05, "{through}");
    assert!(gap(&pull(&d, &energy, &x.narrow(0, 0, 1), levels), &found.narrow(0, 0, 1)) < 1e-12);
}
