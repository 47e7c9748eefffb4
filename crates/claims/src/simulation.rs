//! What the rule of `verdict` does to noise, by simulation. Differences have unit standard deviation, normal or Student's t
//! with three degrees of freedom (scaled to that deviation); 4000 trials, so that a rate is known within half a point.

use crate::verdict::{Direction, Kind, Rule, Scale, Verdict};
use pentimento_core::{Draws, Stream};

#[derive(Clone, Copy)]
enum Tails {
    Normal,
    StudentThree,
}

const TRIALS: u64 = 4000;

/// Two looks of 2.5 % on one side, and three deviations of what so many trials measure of 5 %.
const TWO_LOOKS: f64 = 0.06;

/// Shares of reproduced, not reproduced and inconclusive.
fn shares(kind: Kind, tails: Tails, effect: f64, margin: f64) -> [f64; 3] {
    let rule = Rule { kind, direction: Direction::Higher, scale: Scale::Difference, margin };
    let mut counts = [0.0; 3];
    for trial in 0..TRIALS {
        let mut draws = Draws::at(11, trial, 0, Stream::Own);
        let mut unit = || match tails {
            Tails::Normal => draws.normal(),
            // z / sqrt(chi2_3 / 3) has variance 3.
            Tails::StudentThree => {
                let z = draws.normal();
                let chi2: f64 = (0..3).map(|_| draws.normal().powi(2)).sum();
                z / chi2.sqrt()
            }
        };
        let d: Vec<f64> = (0..10).map(|_| effect + unit()).collect();
        let place = match rule.judge(&d).verdict {
            Verdict::Reproduced => 0,
            Verdict::NotReproduced => 1,
            Verdict::Inconclusive => 2,
            Verdict::Open => panic!("ten seeds leave nothing open"),
        };
        counts[place] += 1.0 / TRIALS as f64;
    }
    counts
}

const BOTH: [Tails; 2] = [Tails::Normal, Tails::StudentThree];

#[test]
fn an_effect_of_the_margin_is_found_where_it_is_at_least_1_2_deviations() {
    for tails in BOTH {
        for effect in [1.2, 1.5, 2.5] {
            let [yes, ..] = shares(Kind::Superiority, tails, effect, effect);
            assert!(yes >= 0.9, "effect {effect}: {yes}");
        }
    }
}

#[test]
fn no_effect_is_rarely_called_one_whatever_the_margin() {
    for tails in BOTH {
        for margin in [0.1, 0.3, 0.6, 1.2, 2.5] {
            let [yes, no, _] = shares(Kind::Superiority, tails, 0.0, margin);
            assert!(yes <= 0.05, "margin {margin}: {yes}");
            assert!(margin < 1.2 || no > 0.7, "margin {margin}: a clear absence is called one: {no}");
        }
    }
}

#[test]
fn where_the_noise_drowns_the_margin_most_claims_stay_inconclusive() {
    for tails in BOTH {
        for margin in [0.1, 0.2, 0.3] {
            for effect in [0.0, margin] {
                let [yes, no, unsure] = shares(Kind::Superiority, tails, effect, margin);
                assert!(unsure > yes + no, "margin {margin}, effect {effect}: {yes} {no} {unsure}");
            }
        }
        // Between there and 1.2 deviations a true effect is found or left open, and hardly ever denied.
        for margin in [0.5, 0.7, 0.9, 1.1] {
            let [_, no, unsure] = shares(Kind::Superiority, tails, margin, margin);
            assert!(no < TWO_LOOKS && unsure > 2.0 * no, "margin {margin}: {no} {unsure}");
        }
    }
}

#[test]
fn a_difference_of_the_margin_is_rarely_called_equivalence() {
    for tails in BOTH {
        for margin in [0.5, 1.0, 2.0] {
            let [yes, ..] = shares(Kind::Equivalence, tails, margin, margin);
            assert!(yes <= TWO_LOOKS, "margin {margin}: {yes}");
        }
        let [yes, ..] = shares(Kind::Equivalence, tails, 0.0, 1.5);
        assert!(yes >= 0.9, "no difference, margin 1.5: {yes}");
    }
}
