//! Compositions against Gaussians, of which the product is known.

use crate::fakes::{Counting, PATHS, gap, mixture, normal};
use pentimento_core::{Condition, Denoised, Denoiser, Level, Noise};
use pentimento_diffusion::{
    ClassifierFree, Composed, GaussianMixture, Grid, Interval, Mixed, Path, Prediction, Sampler, Term, Walk, sample,
};
use tch::{Kind, Tensor};

fn classes(y: i64) -> Condition {
    Condition::classes(&[y; 3])
}

fn term(weight: f64, y: i64) -> Term {
    Term { weight, condition: classes(y) }
}

/// The answer of a composition to three states, the evaluations and their rows.
fn asked(terms: Vec<Term>, level: &Level) -> (Tensor, usize, i64) {
    let counting = Counting::new(mixture());
    let out = Composed::new(&counting, terms).denoise(&normal(1, &[3, 2]), level, &Condition::none());
    (out.x0, counting.calls.get(), counting.rows.get())
}

fn plain(c: &Condition, level: &Level) -> Tensor {
    mixture().denoise(&normal(1, &[3, 2]), level, c).x0
}

#[test]
fn one_concept_is_classifier_free_guidance_bit_for_bit() {
    for path in PATHS {
        for level in [path.level(0.6), path.levels(&[0.2, 0.5, 0.9])] {
            for w in [-1.0, 0.0, 0.5, 1.0, 3.0] {
                let counting = Counting::new(mixture());
                let guided = ClassifierFree::new(&counting, w, Interval::ALL);
                let want = guided.denoise(&normal(1, &[3, 2]), &level, &classes(1)).x0;
                assert_eq!(asked(vec![term(w, 1)], &level), (want, 1, counting.rows.get()), "{path} {w}");
            }
        }
    }
}

#[test]
fn without_weights_there_is_only_the_base() {
    let level = Path::Flow.level(0.6);
    assert_eq!(asked(vec![term(0.0, 0), term(0.0, 2)], &level), (plain(&Condition::none(), &level), 1, 3));
    assert_eq!(asked(Vec::new(), &level), (plain(&Condition::none(), &level), 1, 3));
    // What the call says holds of the base.
    let composed = Composed::new(mixture(), vec![term(2.0, 0), term(-1.0, 2)]);
    let got = composed.denoise(&normal(1, &[3, 2]), &level, &classes(1)).x0;
    let [a, b, u] = [0, 2, 1].map(|y| plain(&classes(y), &level));
    assert!(gap(&got, &(&u + (a - &u) * 2.0 - (b - &u))) < 1e-12);
}

/// Three concepts, one negated: four passes in one batch, in any order of the concepts; other samples are other rows.
#[test]
fn all_concepts_run_in_one_batch_and_their_order_is_nothing() {
    for path in PATHS {
        let level = path.levels(&[0.3, 0.5, 0.8]);
        let (x0, calls, rows) = asked(vec![term(2.0, 0), term(-0.5, 1), term(1.5, 2)], &level);
        let u = plain(&Condition::none(), &level);
        let by_hand = [(2.0, 0), (-0.5, 1), (1.5, 2)]
            .iter()
            .fold(u.shallow_clone(), |sum, &(w, y)| sum + (plain(&classes(y), &level) - &u) * w);
        assert!(gap(&x0, &by_hand) < 1e-12 && (calls, rows) == (1, 12), "{path}");
        let (other, ..) = asked(vec![term(1.5, 2), term(2.0, 0), term(-0.5, 1)], &level);
        assert!(gap(&x0, &other) < 1e-12, "{path}");
    }
}

/// Weights that sum to 1 take u out of the sum, and no pass is made for it, nor for a concept of weight 0.
#[test]
fn what_has_no_part_is_not_evaluated() {
    let level = Path::Flow.level(0.4);
    let (x0, calls, rows) = asked(vec![term(0.25, 0), term(0.0, 1), term(0.75, 2)], &level);
    let mean = plain(&classes(0), &level) * 0.25 + plain(&classes(2), &level) * 0.75;
    assert!(gap(&x0, &mean) < 1e-12 && (calls, rows) == (1, 6));
}

/// One Gaussian N(m, s^2 I).
fn gaussian(m: [f64; 2], s: f64) -> GaussianMixture {
    GaussianMixture::new(&[1.0], &[m.to_vec()], &[s])
}

const WEIGHTS: [f64; 2] = [1.0, -0.3];

fn parts() -> [GaussianMixture; 3] {
    [gaussian([0.2, 0.1], 1.5), gaussian([1.0, -0.5], 0.6), gaussian([-0.4, 0.8], 0.9)]
}

/// p (p_1/p)^w_1 (p_2/p)^w_2 is a Gaussian with precision 1/v + sum w_i (1/v_i - 1/v).
fn product() -> GaussianMixture {
    let precision = |s: f64| 1.0 / (s * s);
    let (p, p1, p2) = (precision(1.5), precision(0.6), precision(0.9));
    let whole = p + WEIGHTS[0] * (p1 - p) + WEIGHTS[1] * (p2 - p);
    let mean =
        |m: f64, m1: f64, m2: f64| (m * p + WEIGHTS[0] * (m1 * p1 - m * p) + WEIGHTS[1] * (m2 * p2 - m * p)) / whole;
    gaussian([mean(0.2, 1.0, -0.4), mean(0.1, -0.5, 0.8)], (1.0 / whole).sqrt())
}

/// Clean densities: the sum of scores is the score of the product. Noised ones: it is that of another density, and how far off
/// they are has a closed form.
#[test]
fn scores_compose_to_the_product_without_noise_and_miss_it_with_noise() {
    let (x, [base, one, two]) = (normal(2, &[5, 2]), parts());
    let sum = |level: &Level| {
        let u = base.score(&x, level);
        let add = |d: &GaussianMixture, w: f64| (d.score(&x, level) - &u) * w;
        &u + add(&one, WEIGHTS[0]) + add(&two, WEIGHTS[1])
    };
    for path in PATHS {
        let clean = path.level(0.0);
        assert!(gap(&sum(&clean), &product().score(&x, &clean)) < 1e-12, "{path}");
        let level = path.level(path.t_of_s(1.0));
        let (found, want) = (sum(&level), product().score(&x, &level));
        // The slope of a Gaussian's score is minus its precision: 1 / (a^2 v + s^2) each.
        let (a, s) = (level.alpha[0], level.sigma[0]);
        let p = |v: f64| 1.0 / (a * a * v + s * s);
        let slope = p(2.25) + WEIGHTS[0] * (p(0.36) - p(2.25)) + WEIGHTS[1] * (p(0.81) - p(2.25));
        let rise = |score: &Tensor| (score.get(0) - score.get(1)) / (x.get(0) - x.get(1));
        assert!(gap(&rise(&found), &(rise(&found).zeros_like() - slope)) < 1e-9, "{path}");
        let apart = (gap(&found, &want), want.abs().max().double_value(&[]));
        assert!(apart.0 > 0.01 * apart.1, "{path}: {apart:?}");
    }
}

/// A composition of denoisers is the composition of their scores at every level.
#[test]
fn models_compose_as_their_scores() {
    let (x, [base, one, two]) = (normal(2, &[5, 2]), parts());
    let mixed = Mixed { base: &base, terms: vec![(WEIGHTS[0], &one as &dyn Denoiser), (WEIGHTS[1], &two)] };
    for path in PATHS {
        let level = path.levels(&[0.05, 0.2, 0.5, 0.7, 0.9]);
        let x0 = mixed.denoise(&x, &level, &Condition::none()).x0;
        let u = base.score(&x, &level);
        let want = &u + (one.score(&x, &level) - &u) * WEIGHTS[0] + (two.score(&x, &level) - &u) * WEIGHTS[1];
        assert!(gap(&Prediction::Sample.score(&x0, &x, &level), &want) < 1e-7, "{path}");
    }
}

/// Equal models: u cancels, and their sum of weights stands alone. One model with conditions does the same as two models.
#[test]
fn mixing_one_model_is_composing_it() {
    struct Under(Condition);
    impl Denoiser for Under {
        fn denoise(&self, x: &Tensor, level: &Level, _: &Condition) -> Denoised {
            mixture().denoise(x, level, &self.0)
        }
    }
    let (x, level) = (normal(1, &[3, 2]), Path::Flow.level(0.5));
    let (a, b, base) = (Under(classes(0)), Under(classes(2)), mixture());
    let mixed = Mixed { base: &base, terms: vec![(2.0, &a as &dyn Denoiser), (1.5, &b)] };
    let (composed, ..) = asked(vec![term(2.0, 0), term(1.5, 2)], &level);
    assert!(gap(&mixed.denoise(&x, &level, &Condition::none()).x0, &composed) < 1e-12);
    let same = Mixed { base: &base, terms: vec![(3.0, &base as &dyn Denoiser), (-7.0, &base)] };
    assert!(gap(&same.denoise(&x, &level, &Condition::none()).x0, &plain(&Condition::none(), &level)) < 1e-12);
}

/// p_1 p_2 / p for variances 1, 1 and 2: the product has the precision 1 + 1 - 1/2, so the variance 2/3. The walk follows
/// dy/ds = s P(s) y for y = x / a with P the sum of precisions of noised densities, and ends at 1 * 1 / 2.
#[test]
fn a_walk_ends_at_the_geometric_mean_of_variances() {
    let (base, one) = (gaussian([0.0, 0.0], 2.0_f64.sqrt()), gaussian([0.0, 0.0], 1.0));
    let mixed = Mixed { base: &base, terms: vec![(1.0, &one as &dyn Denoiser), (1.0, &one)] };
    let noise = Noise::new(3, (0..8000).collect());
    let path = Path::VpCosine { s: 0.008 };
    let (step, levels) = (Sampler::Heun.step(), Grid::LogSnr { s_min: 1e-3 }.levels(&path, 80));
    let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
    let start = walk.start(&[8000, 2], tch::Device::Cpu).to_kind(Kind::Double);
    let drawn = sample(&mixed, &walk, start, &Condition::none(), &mut |_| ());
    let variance = drawn.square().mean(Kind::Double).double_value(&[]);
    assert!((variance - 0.5).abs() < 0.02, "{variance}");
}
