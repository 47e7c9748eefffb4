use crate::fakes::{Counting, PATHS, gap, mixture, normal};
use pentimento_core::{Condition, Denoised, Denoiser, Level};
use pentimento_diffusion::{ClassifierFree, Clipped, Interval, Path, Prediction};
use tch::Tensor;

fn guided(scale: f64, interval: Interval, level: &Level) -> (Tensor, usize, i64) {
    let counting = Counting::new(mixture());
    let x = normal(1, &[3, 2]);
    let out = ClassifierFree::new(&counting, scale, interval).denoise(&x, level, &Condition::classes(&[0, 1, 2]));
    (out.x0, counting.calls.get(), counting.rows.get())
}

fn plain(c: &Condition, level: &Level) -> Tensor {
    mixture().denoise(&normal(1, &[3, 2]), level, c).x0
}

#[test]
fn scale_one_is_the_conditional_model_bit_for_bit_in_one_evaluation() {
    let level = Path::Flow.level(0.6);
    let (x0, calls, rows) = guided(1.0, Interval::ALL, &level);
    assert_eq!((x0, calls, rows), (plain(&Condition::classes(&[0, 1, 2]), &level), 1, 3));
    let (x0, calls, rows) = guided(0.0, Interval::ALL, &level);
    assert_eq!((x0, calls, rows), (plain(&Condition::none(), &level), 1, 3));
}

#[test]
fn both_halves_run_in_one_batch() {
    for path in PATHS {
        let level = path.level(0.5);
        let (x0, calls, rows) = guided(3.0, Interval::ALL, &level);
        let (c, u) = (plain(&Condition::classes(&[0, 1, 2]), &level), plain(&Condition::none(), &level));
        assert!(gap(&x0, &(&u + (c - &u) * 3.0)) < 1e-12 && (calls, rows) == (1, 6), "{path}");
    }
}

#[test]
fn outside_the_interval_one_evaluation_and_no_guidance() {
    let free = plain(&Condition::classes(&[0, 1, 2]), &Path::Flow.level(0.6));
    for (interval, inside) in [
        (Interval::Time(0.6, 0.8), true),
        (Interval::Time(0.3, 0.6), true),
        (Interval::Time(0.61, 1.0), false),
        (Interval::Time(0.0, 0.59), false),
        (Interval::NoiseLevel(1.0, 2.0), true), // s = 0.6/0.4
        (Interval::NoiseLevel(0.1, 1.4), false),
    ] {
        let (x0, _, rows) = guided(2.0, interval, &Path::Flow.level(0.6));
        assert_eq!(rows, if inside { 6 } else { 3 }, "{interval:?}");
        assert_eq!(x0 == free, !inside, "{interval:?}");
    }
    // Rows at different levels: each by its own side of the bound.
    let (x0, calls, _) = guided(2.0, Interval::Time(0.5, 1.0), &Path::Flow.levels(&[0.6, 0.4, 0.7]));
    let without = plain(&Condition::classes(&[0, 1, 2]), &Path::Flow.levels(&[0.6, 0.4, 0.7]));
    let moved: Vec<bool> = (0..3).map(|i| gap(&x0.get(i), &without.get(i)) > 1e-6).collect();
    assert_eq!((moved, calls), (vec![true, false, true], 1));
}

/// Guidance of the noise estimates, turned into x0, is guidance of x0.
#[test]
fn guiding_x0_is_guiding_every_prediction() {
    let x = normal(1, &[3, 2]);
    for path in PATHS {
        let level = path.levels(&[0.3, 0.5, 0.8]);
        let (x0, ..) = guided(2.5, Interval::ALL, &level);
        let (c, u) = (plain(&Condition::classes(&[0, 1, 2]), &level), plain(&Condition::none(), &level));
        for p in Prediction::ALL {
            let [c, u] = [&c, &u].map(|x0| Prediction::Sample.convert(p, x0, &x, &level));
            let mixed = &u + (c - &u) * 2.5;
            assert!(gap(&p.x0(&mixed, &x, &level), &x0) < 1e-9, "{path} {p}");
        }
    }
}

#[test]
fn without_a_condition_there_is_nothing_to_guide() {
    let counting = Counting::new(mixture());
    let x = normal(1, &[3, 2]);
    let level = Path::Flow.level(0.5);
    let out = ClassifierFree::new(&counting, 4.0, [0.0, 1.0]).denoise(&x, &level, &Condition::none());
    assert_eq!((out.x0, counting.rows.get()), (plain(&Condition::none(), &level), 3));
}

#[test]
fn a_predicted_variance_is_that_of_the_conditional_half() {
    struct Both;
    impl Denoiser for Both {
        fn denoise(&self, x: &Tensor, _: &Level, c: &Condition) -> Denoised {
            let y = c.y.as_ref().unwrap().view([-1, 1]).to_kind(x.kind());
            Denoised { x0: x * &y * 10.0, variance: Some(x.zeros_like() + y) }
        }
    }
    let x = normal(2, &[2, 2]);
    let guided = ClassifierFree::new(Both, 2.0, Interval::ALL);
    let clipped = Clipped::new(guided, 1.0).denoise(&x, &Path::Flow.level(0.5), &Condition::classes(&[3, 4]));
    assert_eq!(clipped.variance.unwrap(), x.zeros_like() + Tensor::from_slice(&[3.0, 4.0]).view([2, 1]));
    assert!((clipped.x0.abs().max().double_value(&[]) - 1.0).abs() < 1e-12);
}
