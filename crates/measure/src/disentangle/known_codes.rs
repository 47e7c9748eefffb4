//! Codes whose quality is known, ordered by every measure as the literature orders them.

use super::factors::Factors;
use super::groups::FixedFactor;
use super::{
    Codes, Correlation, beta_vae, dci_boosted, dci_lasso, explicitness, factor_vae, infomec, irs, mcc, mig, modularity,
    sap_classes, sap_values,
};
use crate::draw::{normals, unit};
use crate::{
    BoostOptions, Estimator, Features, Kernel, SignFlip, cka, cknna, ksg, silhouette, svcca, two_nn, uniformity,
};

const F: usize = 3;
const VALUES: u32 = 5;

/// Factors of 1500 items and one representation of them.
struct World {
    factors: Vec<u32>,
    codes: Vec<f32>,
    d: usize,
}

/// Factors drawn evenly and apart from each other.
fn factors() -> Vec<u32> {
    (0..1500 * F as u64).map(|i| (f64::from(VALUES) * unit(9, 4, i)) as u32).collect()
}

/// Codes made row by row from the factors, with a little noise so that they are not levels.
fn world(d: usize, code: impl Fn(&[f32]) -> Vec<f32>) -> World {
    let factors = factors();
    let centred: Vec<f32> = factors.iter().map(|&v| v as f32 - 2.0).collect();
    let noise = normals(11, 1500 * d);
    let codes = centred.chunks(F).flat_map(code).zip(noise).map(|(z, e)| z + 0.02 * e).collect();
    World { factors, codes, d }
}

fn perfect() -> World {
    world(F, |v| vec![-v[2], 3.0 * v[0], v[1]])
}

/// Every code an even mixture of all factors: an orthogonal turn of the perfect codes.
fn rotated() -> World {
    let third = 1.0 / 3.0;
    world(F, |v| {
        let sum = 2.0 * third * (v[0] + v[1] + v[2]);
        v.iter().map(|x| sum - x).collect()
    })
}

/// Every factor twice.
fn duplicated() -> World {
    world(2 * F, |v| vec![v[0], v[1], v[2], 2.0 * v[0], -v[1], v[2]])
}

/// Nothing of the factors.
fn noise() -> World {
    let codes = normals(12, 1500 * F);
    World { factors: factors(), codes, d: F }
}

impl World {
    fn all(&self) -> (Features, Factors) {
        self.part(0..1500)
    }

    fn part(&self, items: std::ops::Range<usize>) -> (Features, Factors) {
        let codes = self.codes[items.start * self.d..items.end * self.d].to_vec();
        let factors = self.factors[items.start * F..items.end * F].to_vec();
        (Features::new(self.d, codes).unwrap(), Factors::new(F, factors).unwrap())
    }

    fn numbers(&self) -> Features {
        Features::new(F, self.factors.iter().map(|&v| v as f32).collect()).unwrap()
    }

    /// A measure of codes and factors.
    fn whole(&self, measure: impl Fn(&Features, &Factors) -> f64) -> f64 {
        let (codes, factors) = self.all();
        measure(&codes, &factors)
    }

    /// A measure that is fitted on one part and scored on another.
    fn split(&self, measure: impl Fn((&Features, &Factors), (&Features, &Factors)) -> f64) -> f64 {
        let (train, test) = (self.part(0..1000), self.part(1000..1500));
        measure((&train.0, &train.1), (&test.0, &test.1))
    }
}

fn few() -> FixedFactor {
    FixedFactor { train: 600, test: 400, ..Default::default() }
}

#[test]
fn the_gap_is_wide_for_perfect_codes_and_shut_for_all_others() {
    let of = |world: World| world.whole(|x, v| mig(x, v, 20).unwrap().score);
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    assert!(good > 0.95 && turned < 0.25 && twice < 0.02 && nothing < 0.02, "{good} {turned} {twice} {nothing}");
}

#[test]
fn boosted_importances_see_mixtures_and_copies() {
    let options = BoostOptions { stages: 15, ..Default::default() };
    let of = |world: World| {
        let (train, test) = (world.part(0..1000), world.part(1000..1500));
        dci_boosted((&train.0, &train.1), (&test.0, &test.1), &options).unwrap()
    };
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    assert!(good.disentanglement > 0.98 && good.completeness > 0.98 && good.informativeness > 0.98, "{good:?}");
    assert!(turned.disentanglement < 0.4 && turned.completeness < 0.4, "{turned:?}");
    // Copies cost completeness alone: the importance shared evenly by two of six codes leaves 1 - ln 2 / ln 6 = 0.61.
    assert!(twice.disentanglement > 0.98 && (0.55..0.75).contains(&twice.completeness), "{twice:?}");
    assert!(
        nothing.disentanglement < 0.1 && nothing.completeness < 0.1 && nothing.informativeness < 0.3,
        "{nothing:?}"
    );
}

#[test]
fn lasso_importances_see_mixtures_and_read_rotations_in_full() {
    let of = |world: World| {
        let (train, test) = (world.part(0..1000), world.part(1000..1500));
        dci_lasso((&train.0, &train.1), (&test.0, &test.1), 0.02).unwrap()
    };
    let (good, turned, nothing) = (of(perfect()), of(rotated()), of(noise()));
    assert!(good.disentanglement > 0.95 && good.completeness > 0.95 && good.informativeness > 0.98, "{good:?}");
    assert!(turned.disentanglement < 0.3 && turned.completeness < 0.3 && turned.informativeness > 0.98, "{turned:?}");
    assert!(nothing.informativeness < 0.05, "{nothing:?}");
}

#[test]
fn one_code_predicts_a_factor_alone_or_not() {
    let of = |world: &World| sap_values(&world.all().0, &world.numbers()).unwrap().score;
    let (good, turned, twice, nothing) = (of(&perfect()), of(&rotated()), of(&duplicated()), of(&noise()));
    assert!(good > 0.9 && turned < 0.1 && twice < 0.02 && nothing < 0.02, "{good} {turned} {twice} {nothing}");
    let of = |world: World| world.split(|train, test| sap_classes(train, test).unwrap().score);
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    // A linear machine on one code parts five ordered values only in part.
    assert!(good > 0.2 && turned < 0.1 && twice < 0.05 && nothing < 0.06, "{good} {turned} {twice} {nothing}");
}

#[test]
fn groups_with_a_fixed_factor_are_named_surely_or_by_chance() {
    let of = |world: World| world.whole(|x, v| factor_vae(x, v, &few()).unwrap().score);
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    assert!(good > 0.999 && twice > 0.999 && turned < 0.9, "{good} {turned} {twice}");
    // Chance is a third; 400 groups have a standard error of 0.024.
    assert!((nothing - 1.0 / 3.0).abs() < 0.1, "{nothing}");
    let of = |world: World| world.whole(|x, v| beta_vae(x, v, &few()).unwrap());
    let (good, twice, nothing) = (of(perfect()), of(duplicated()), of(noise()));
    assert!(good > 0.999 && twice > 0.999, "{good} {twice}");
    assert!((nothing - 1.0 / 3.0).abs() < 0.1, "{nothing}");
}

#[test]
fn codes_of_one_factor_are_modular_however_often_it_comes() {
    let of = |world: World| world.whole(|x, v| modularity(x, v, 20).unwrap().score);
    let (good, turned, twice) = (of(perfect()), of(rotated()), of(duplicated()));
    assert!(good > 0.99 && twice > 0.99 && turned < 0.8, "{good} {turned} {twice}");
}

#[test]
fn explicitness_forgives_rotations_and_not_noise() {
    let of = |world: World| world.split(|train, test| explicitness(train, test).unwrap().score);
    let (good, turned, nothing) = (of(perfect()), of(rotated()), of(noise()));
    assert!(good > 0.99 && turned > 0.99 && (nothing - 0.5).abs() < 0.06, "{good} {turned} {nothing}");
}

#[test]
fn fixing_a_factor_fixes_its_code_or_nothing() {
    let of = |world: World| world.whole(|x, v| irs(x, v, 0.99).unwrap().score);
    let (good, turned, nothing) = (of(perfect()), of(rotated()), of(noise()));
    assert!(good > 0.95 && turned < 0.6 && nothing < 0.35, "{good} {turned} {nothing}");
}

#[test]
fn information_parts_modularity_from_compactness() {
    let of = |world: World| {
        let (x, v) = world.all();
        infomec(&x, &v, Codes::Continuous).unwrap()
    };
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    assert!(good.modularity > 0.95 && good.compactness > 0.95 && good.explicitness > 0.95, "{good:?}");
    assert!(turned.modularity < 0.4 && turned.compactness < 0.4 && turned.explicitness > 0.95, "{turned:?}");
    assert!(twice.modularity > 0.95 && twice.compactness < 0.45, "{twice:?}");
    assert!(nothing.explicitness < 0.05, "{nothing:?}");
}

#[test]
fn matched_correlations_forgive_copies_and_see_turns() {
    let of = |world: World| mcc(&world.all().0, &world.numbers(), Correlation::Pearson).unwrap().score;
    let (good, turned, twice, nothing) = (of(perfect()), of(rotated()), of(duplicated()), of(noise()));
    assert!(good > 0.99 && twice > 0.99 && turned < 0.75 && nothing < 0.1, "{good} {turned} {twice} {nothing}");
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let world = world(F, |v| vec![v[0] + v[1], v[1] - 0.3 * v[2], v[2]]);
    let (codes, factors) = world.part(0..400);
    let other = world.numbers().select(&(0..400).collect::<Vec<_>>()).unwrap();
    let options = BoostOptions { stages: 4, ..Default::default() };
    let all = || {
        let pair = (&codes, &factors);
        let boosted = dci_boosted(pair, pair, &options).unwrap();
        [
            mig(&codes, &factors, 20).unwrap().score,
            boosted.disentanglement,
            factor_vae(&codes, &factors, &few()).unwrap().score,
            beta_vae(&codes, &factors, &few()).unwrap(),
            infomec(&codes, &factors, Codes::Continuous).unwrap().compactness,
            mcc(&codes, &other, Correlation::Spearman).unwrap().score,
            cka(&codes, &other, Kernel::Linear, Estimator::Unbiased).unwrap(),
            cknna(&codes, &other, 10).unwrap(),
            svcca(&codes, &other, 0.99).unwrap().mean(),
            ksg(&codes, &other, 3).unwrap().value,
            two_nn(&codes, 0.1).unwrap().likelihood,
            uniformity(&codes, 2.0).unwrap(),
            silhouette(&codes, &factors.column(0)).unwrap(),
            SignFlip::default().test(&(0..40).map(|i| f64::from(codes.row(i)[0])).collect::<Vec<_>>()).unwrap().p,
        ]
    };
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
    assert_eq!(on(1).map(f64::to_bits), on(3).map(f64::to_bits));
}
