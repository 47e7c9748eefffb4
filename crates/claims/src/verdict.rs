//! The verdict on a claim: plain arithmetic on the differences between two arms, paired by seed.
//!
//! d_i = method - baseline on the primary metric of seed i, turned so that better is positive; of logarithms where the
//! claim is a ratio. After the looks of [`LOOKS`], L, U = mean -/+ c sd / sqrt(n), with m the margin:
//!
//! | claim | reproduced | not reproduced | else |
//! |---|---|---|---|
//! | superiority | L > 0 and mean >= m / 2 | U < m | go on; after the last look inconclusive |
//! | equivalence | -m < L and U < m | U < -m or L > m | the same |
//! | no worse | -m < L | U < -m | the same |

use serde::{Deserialize, Serialize};

/// After how many seeds a claim is looked at, and the width of the interval there: the two-sided 95 % quantiles of
/// Student's t with 4 and 9 degrees of freedom.
pub const LOOKS: [(usize, f64); 2] = [(5, 2.776), (10, 2.262)];

/// Which way the metric gets better.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// On which scale two values are compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// method - baseline, in the unit of the metric.
    #[default]
    Difference,
    /// ln(method / baseline); the margin is a factor above 1.
    Ratio,
}

/// What is claimed of the difference.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The method is better, by about the margin.
    #[default]
    Superiority,
    /// The two differ by less than the margin.
    Equivalence,
    /// The method is at most the margin worse; it may be any better.
    NoWorse,
}

/// How differences are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// What is claimed.
    pub kind: Kind,
    /// Which way is better.
    pub direction: Direction,
    /// Difference or ratio.
    pub scale: Scale,
    /// m: in the unit of the metric, or a factor above 1 for a ratio.
    pub margin: f64,
}

/// What was found.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The claim holds here.
    Reproduced,
    /// An effect of the size claimed is excluded.
    NotReproduced,
    /// All seeds are used up and the interval is too wide to say.
    Inconclusive,
    /// Too few seeds have run to look.
    Open,
}

impl Verdict {
    /// As it is printed.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::Inconclusive => "inconclusive",
            Self::Open => "open",
        }
    }
}

/// The interval at one number of seeds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub struct Interval {
    /// Seeds.
    pub n: usize,
    /// Mean of the differences.
    pub mean: f64,
    /// L.
    pub low: f64,
    /// U.
    pub high: f64,
}

/// A verdict with the looks that led to it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One interval per look, the deciding one last.
    pub looks: Vec<Interval>,
}

impl Rule {
    /// d of one seed. Not finite where a ratio is asked of numbers that have none.
    pub fn difference(&self, method: f64, baseline: f64) -> f64 {
        let d = match self.scale {
            Scale::Difference => method - baseline,
            Scale::Ratio => method.ln() - baseline.ln(),
        };
        match self.direction {
            Direction::Higher => d,
            Direction::Lower => -d,
        }
    }

    /// The margin on the scale of the differences.
    pub fn m(&self) -> f64 {
        match self.scale {
            Scale::Difference => self.margin,
            Scale::Ratio => self.margin.ln(),
        }
    }

    /// Judges finite differences in the order of their seeds. Seeds beyond the look that decides change nothing.
    pub fn judge(&self, d: &[f64]) -> Judgement {
        let mut looks = Vec::new();
        for (n, c) in LOOKS {
            let Some(seen) = d.get(..n) else { return Judgement { verdict: Verdict::Open, looks } };
            let interval = Interval::of(seen, c);
            looks.push(interval);
            if let Some(verdict) = self.decide(&interval) {
                return Judgement { verdict, looks };
            }
        }
        Judgement { verdict: Verdict::Inconclusive, looks }
    }

    /// How many seeds the next look needs, if these have not decided.
    pub fn wants(&self, d: &[f64]) -> Option<usize> {
        let open = self.judge(d).verdict == Verdict::Open;
        LOOKS.iter().map(|(n, _)| *n).find(|&n| open && n > d.len())
    }

    fn decide(&self, Interval { mean, low, high, .. }: &Interval) -> Option<Verdict> {
        let m = self.m();
        let (holds, fails) = match self.kind {
            Kind::Superiority => (*low > 0.0 && *mean >= 0.5 * m, *high < m),
            Kind::Equivalence => (-m < *low && *high < m, *high < -m || *low > m),
            Kind::NoWorse => (-m < *low, *high < -m),
        };
        if holds { Some(Verdict::Reproduced) } else { fails.then_some(Verdict::NotReproduced) }
    }
}

impl Interval {
    /// mean -/+ c sd / sqrt(n), with the unbiased variance.
    ///
    /// # Panics
    /// On fewer than two numbers: no look is that early.
    pub fn of(d: &[f64], c: f64) -> Self {
        assert!(d.len() > 1, "an interval of {} numbers", d.len());
        let n = d.len() as f64;
        let mean = d.iter().sum::<f64>() / n;
        let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = c * (variance / n).sqrt();
        Self { n: d.len(), mean, low: mean - half, high: mean + half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGHER: Rule =
        Rule { kind: Kind::Superiority, direction: Direction::Higher, scale: Scale::Difference, margin: 1.0 };

    fn verdict(rule: Rule, d: &[f64]) -> Verdict {
        rule.judge(d).verdict
    }

    /// python3 -c "import numpy as np; d = np.array([1, 2, 3, 4, 5.]); print(2.776 * d.std(ddof=1) / 5 ** .5)"
    #[test]
    fn the_interval_is_that_of_student() {
        let i = Interval::of(&[1.0, 2.0, 3.0, 4.0, 5.0], 2.776);
        assert!((i.mean - 3.0).abs() < 1e-12 && (i.high - 3.0 - 1.962_928_424_573_854_7).abs() < 1e-12);
        assert!((i.high + i.low - 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_clear_gain_is_reproduced_at_the_first_look_and_later_seeds_change_nothing() {
        let d = [1.1, 1.0, 0.9, 1.2, 1.0];
        assert_eq!(verdict(HIGHER, &d), Verdict::Reproduced);
        let more = [&d[..], &[-50.0; 5]].concat();
        assert_eq!(HIGHER.judge(&more), HIGHER.judge(&d));
        assert_eq!(HIGHER.wants(&d), None);
    }

    #[test]
    fn a_gain_far_below_the_margin_is_not_reproduced_even_where_it_is_certain() {
        assert_eq!(verdict(HIGHER, &[0.1, 0.11, 0.12, 0.1, 0.1]), Verdict::NotReproduced);
        assert_eq!(verdict(HIGHER, &[0.6, 0.61, 0.62, 0.6, 0.6]), Verdict::Reproduced, "half the margin and certain");
    }

    #[test]
    fn a_wide_interval_asks_for_ten_and_then_gives_up() {
        let d = [2.0, -1.0, 1.5, -0.5, 1.0];
        assert_eq!((verdict(HIGHER, &d), HIGHER.wants(&d)), (Verdict::Open, Some(10)));
        assert_eq!((verdict(HIGHER, &d[..3]), HIGHER.wants(&d[..3])), (Verdict::Open, Some(5)));
        let ten = d.repeat(2);
        assert_eq!((verdict(HIGHER, &ten), HIGHER.judge(&ten).looks.len()), (Verdict::Inconclusive, 2));
    }

    #[test]
    fn lower_is_better_turns_the_sign_and_ratios_do_not_see_the_unit() {
        let rule = Rule { direction: Direction::Lower, scale: Scale::Ratio, margin: 1.15, ..HIGHER };
        assert!((rule.difference(80.0, 100.0) - 1.25_f64.ln()).abs() < 1e-12);
        assert!((rule.difference(0.8, 1.0) - rule.difference(80.0, 100.0)).abs() < 1e-12);
        assert!((rule.m() - 1.15_f64.ln()).abs() < 1e-15);
        assert!(!rule.difference(0.0, 1.0).is_finite() && !rule.difference(-1.0, 1.0).is_finite());
    }

    #[test]
    fn equivalence_needs_the_whole_interval_inside_and_fails_only_outside() {
        let rule = Rule { kind: Kind::Equivalence, ..HIGHER };
        assert_eq!(verdict(rule, &[0.1, -0.1, 0.2, 0.0, -0.2]), Verdict::Reproduced);
        assert_eq!(verdict(rule, &[-3.0, -3.1, -3.2, -3.0, -2.9]), Verdict::NotReproduced);
        assert_eq!(verdict(rule, &[3.0, 3.1, 3.2, 3.0, 2.9]), Verdict::NotReproduced, "better is different, too");
        assert_eq!(verdict(rule, &[1.0, 0.8, 1.2, 0.9, 1.1]), Verdict::Open);
    }

    #[test]
    fn no_worse_asks_for_the_lower_end_alone() {
        let rule = Rule { kind: Kind::NoWorse, ..HIGHER };
        assert_eq!(verdict(rule, &[3.0, 3.1, 3.2, 3.0, 2.9]), Verdict::Reproduced, "better is no worse");
        assert_eq!(verdict(rule, &[-0.1, -0.2, 0.1, 0.0, -0.1]), Verdict::Reproduced);
        assert_eq!(verdict(rule, &[-3.0, -3.1, -3.2, -3.0, -2.9]), Verdict::NotReproduced);
        assert_eq!(verdict(rule, &[-1.0, -0.8, -1.2, -0.9, -1.1]), Verdict::Open);
    }
}
