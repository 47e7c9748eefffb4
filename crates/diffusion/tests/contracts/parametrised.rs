use crate::fakes::{FakeNetwork, PATHS, gap, normal};
use pentimento_core::{Condition, Denoiser, Level};
use pentimento_diffusion::{DiscreteVp, Parametrised, Path, Preconditioning, Prediction, TimeInput, edm_coefficients};
use tch::Tensor;

const EDM: Preconditioning = Preconditioning::Edm { sigma_data: 0.5 };

/// A network that gives the exact output for known data and noise, whatever it is shown.
fn oracle(
    path: Path,
    prediction: Prediction,
    around: Preconditioning,
    level: &Level,
) -> (Parametrised, Tensor, Tensor) {
    let (x0, eps) = (normal(1, &[4, 3, 2, 2]), normal(2, &[4, 3, 2, 2]));
    let shell = |f| Parametrised::new(f, path, prediction).preconditioned(around);
    let answer = shell(FakeNetwork::boxed(|x, _| x.shallow_clone())).raw_target(&x0, &eps, level);
    let told = answer.shallow_clone();
    let network = FakeNetwork::boxed(move |_, _| told.shallow_clone());
    (shell(network), x0.shallow_clone(), level.mix(&x0, &eps))
}

#[test]
fn an_exact_output_gives_the_exact_data() {
    for path in PATHS {
        let level = path.levels(&[0.03, 0.2, 0.6, 0.9]);
        for prediction in Prediction::ALL {
            for around in [Preconditioning::None, EDM] {
                let (d, x0, xt) = oracle(path, prediction, around, &level);
                let out = d.denoise(&xt, &level, &Condition::none());
                assert!(gap(&out.x0, &x0) < 1e-9 && out.variance.is_none(), "{path} {prediction} {around:?}");
            }
        }
    }
}

#[test]
fn the_gain_is_how_an_error_of_the_output_appears() {
    let level = Path::VpCosine { s: 0.008 }.level(0.4);
    for prediction in Prediction::ALL {
        for around in [Preconditioning::None, EDM] {
            let x = normal(3, &[1, 1, 2, 2]);
            let at = |shift: f64| {
                let network = FakeNetwork::boxed(move |x, _| x * 0.0 + shift);
                let d = Parametrised::new(network, Path::Flow, prediction).preconditioned(around);
                let x0 = d.denoise(&x, &level, &Condition::none()).x0;
                (d, x0)
            };
            let ((d, high), (_, low)) = (at(0.25), at(0.0));
            for to in Prediction::ALL {
                let moved = Prediction::Sample.convert(to, &high, &x, &level)
                    - Prediction::Sample.convert(to, &low, &x, &level);
                let gain = d.gain(to, level.alpha[0], level.sigma[0]);
                assert!(gap(&(moved / 0.25), &(x.zeros_like() + gain)) < 1e-12, "{prediction} {around:?} {to}");
            }
        }
    }
}

#[test]
fn edm_coefficients_have_their_limits() {
    let near = |got: (f64, f64, f64), want: [f64; 3]| {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6 * (1.0 + b.abs());
        assert!(close(got.0, want[0]) && close(got.1, want[1]) && close(got.2, want[2]), "{got:?} {want:?}");
    };
    near(edm_coefficients(1.0, 1e-9, 0.5), [2.0, 1.0, 0.0]);
    near(edm_coefficients(1.0, 0.0, 0.5), [2.0, 1.0, 0.0]);
    near(edm_coefficients(1.0, 1e9, 0.5), [1e-9, 0.0, 0.5]);
    near(edm_coefficients(0.0, 1.0, 0.5), [1.0, 0.0, 0.5]); // the end of a straight flow
    // Table 1 of the paper at s = 3: c_in = 1/sqrt(9.25), c_skip = 0.25/9.25, c_out = 1.5/sqrt(9.25).
    near(edm_coefficients(1.0, 3.0, 0.5), [9.25_f64.powf(-0.5), 0.25 / 9.25, 1.5 * 9.25_f64.powf(-0.5)]);
}

#[test]
fn the_input_is_scaled_to_unit_variance() {
    let d = Parametrised::new(FakeNetwork::boxed(|x, _| x.shallow_clone()), Path::Edm, Prediction::Sample)
        .preconditioned(EDM);
    let level = Path::Edm.level(3.0 / 80.0);
    let xt = level.mix(&(normal(4, &[64, 4, 8, 8]) * 0.5), &normal(5, &[64, 4, 8, 8]));
    let (x, t) = d.input(&xt, &level);
    assert!((x.std(false).double_value(&[]) - 1.0).abs() < 0.02);
    assert!(gap(&t, &(t.zeros_like() + 3.0_f64.ln() / 4.0)) < 1e-12 && t.size() == [64]);
}

#[test]
fn time_is_told_as_the_network_expects() {
    let flow = Path::Flow.levels(&[0.0, 0.25, 1.0]);
    assert_eq!(TimeInput::Thousand.of(&flow), [0.0, 250.0, 1000.0]);
    let noise = TimeInput::CNoise.of(&flow);
    assert!((noise[1] - (1.0_f64 / 3.0).ln() / 4.0).abs() < 1e-12 && noise.iter().all(|v| v.is_finite()));
    let table = DiscreteVp::linear(1000, 1e-4, 0.02);
    assert!((TimeInput::Index { steps: 1000 }.of(&table.level(437))[0] - 437.0).abs() < 1e-9);
    assert!(TimeInput::Index { steps: 1000 }.of(&table.clean())[0].abs() < 1e-12);
    assert_eq!(TimeInput::for_path(&Path::Edm), TimeInput::CNoise);
}

#[test]
fn the_second_half_of_the_channels_is_the_variance_fraction() {
    let network = FakeNetwork::boxed(|x, _| Tensor::cat(&[x * 0.5, x * 0.0 + 0.5], 1));
    let d = Parametrised::new(network, Path::Flow, Prediction::Epsilon);
    let (x, level) = (normal(6, &[2, 3, 2, 2]), Path::Flow.level(0.5));
    let out = d.denoise(&x, &level, &Condition::none());
    assert!(gap(&out.variance.unwrap(), &(x.zeros_like() + 0.75)) < 1e-12);
    assert!(gap(&out.x0, &((&x - &x * 0.25) / 0.5)) < 1e-12);
}
