use crate::target::{Predicted, floor};
use crate::{
    Bootstrap, Error, Features, FitOptions, Interval, Knn, Logistic, LogisticProblem, Metric, Neighbour, Outcomes,
    Part, Result, Ridge, RidgeProblem, ScoreName, Standardiser, Target, Vote,
};
use serde::{Deserialize, Serialize};

/// How the target is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// L2 logistic regression for labels, ridge regression for values, on features standardised by the training items.
    Linear {
        /// Penalties lambda per training item to choose from, any order: the loss is mean logloss + lambda/2 ||W||^2 (that is
        /// C = 1 / (N lambda)) or mean squared error + lambda ||w||^2, so a value means the same for any N.
        penalties: Vec<f64>,
    },
    /// Nearest neighbours on the features as they are.
    Knn {
        /// Numbers of neighbours to choose from, any order; those beyond the number of training items are passed over.
        ks: Vec<usize>,
        /// How near two items are.
        metric: Metric,
        /// How neighbours are weighed.
        vote: Vote,
    },
}

/// Everything a probe is told beside its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeConfig {
    /// How the target is read.
    pub kind: Kind,
    /// How the interval is made.
    pub bootstrap: Bootstrap,
}

impl ProbeConfig {
    /// A linear probe with penalties 10^1, 10^0, ..., 10^-6.
    pub fn linear() -> Self {
        let penalties = (-6..=1).rev().map(|e| 10f64.powi(e)).collect();
        Self { kind: Kind::Linear { penalties }, bootstrap: Bootstrap::default() }
    }

    /// Nearest neighbours as customary for self-supervised features: cosine, exp(similarity / 0.1), k = 200 or 20.
    pub fn knn() -> Self {
        let (metric, vote) = (Metric::Cosine, Vote::Exponential { temperature: 0.1 });
        Self { kind: Kind::Knn { ks: vec![200, 20], metric, vote }, bootstrap: Bootstrap::default() }
    }
}

/// A strength that was tried, with its score on the validation part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Penalty or number of neighbours.
    pub strength: f64,
    /// Score on the validation part.
    pub score: f64,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeResult {
    /// What `score` is.
    pub score_name: ScoreName,
    /// Score on the test part.
    pub score: f64,
    /// Bootstrap interval of the score over test items.
    #[serde(flatten)]
    pub interval: Interval,
    /// Test score of predicting the training part's commonest label, or its mean: what needs no features.
    pub floor: f64,
    /// Penalty or number of neighbours that was chosen.
    pub strength: f64,
    /// The choice fell on the smallest or largest strength tried, so a wider range might do better.
    pub at_edge: bool,
    /// All strengths tried, strongest smoothing first.
    pub validation: Vec<Choice>,
    /// Columns that were constant in training and say nothing (linear probes; 0 for neighbours).
    pub constant_columns: usize,
    /// Items fitted on.
    pub train_n: usize,
    /// Items chosen on.
    pub validation_n: usize,
    /// Items scored on.
    pub test_n: usize,
    /// Test targets and predictions, for paired comparison.
    #[serde(skip)]
    pub outcomes: Outcomes,
}

/// Difference of two probes' scores on the same test items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// First score minus second.
    pub value: f64,
    /// Bootstrap interval of the difference, both probes on the same resamples.
    #[serde(flatten)]
    pub interval: Interval,
}

/// Reads a target from features: fits on the training part, chooses the strength on the validation part, scores on the test part.
///
/// The fit that won on validation is the fit that is scored: it is not refitted with the validation items, so that the chosen
/// strength belongs to the number of items it was chosen for and probes of different features differ in nothing else. Of equal
/// validation scores the stronger smoothing wins.
///
/// # Errors
/// Parts that do not fit together, a single class, constant features (linear), a target that is constant in validation or test
/// (values), a grid without a usable strength, a fit that does not converge.
///
/// # Cost
/// Labels: one logistic fit per penalty, each started from the one before (20,000 x 128 features, 10 classes, 8 penalties: 0.9 s
/// on two cores; 50,000 x 512: 6 s). Values: one eigendecomposition of size min(N, D). Neighbours: O(N M D) once for all k.
pub fn probe(train: &Part, validation: &Part, test: &Part, config: &ProbeConfig) -> Result<ProbeResult> {
    for (what, part) in [("training targets", train), ("validation targets", validation), ("test targets", test)] {
        part.check(what)?;
    }
    for (what, part) in [("columns of the validation features", validation), ("columns of the test features", test)] {
        part.features.want_columns(what, train.features.d())?;
    }
    let parts = [train, validation, test];
    let found = match &config.kind {
        Kind::Linear { penalties } => linear(parts, penalties)?,
        Kind::Knn { ks, metric, vote } => neighbours(parts, ks, *metric, *vote)?,
    };
    let score = found.outcomes.score("test target")?;
    let interval = config.bootstrap.interval(test.features.n(), &|items| found.outcomes.score_of(items))?;
    let chosen = best(&found.validation);
    let Choice { strength, .. } = found.validation[chosen];
    Ok(ProbeResult {
        score_name: match train.target {
            Target::Labels(_) => ScoreName::Accuracy,
            Target::Values(_) => ScoreName::R2,
        },
        score,
        interval,
        floor: floor(train, test)?,
        strength,
        at_edge: found.validation.len() > 1 && (chosen == 0 || chosen + 1 == found.validation.len()),
        validation: found.validation,
        constant_columns: found.constant_columns,
        train_n: train.features.n(),
        validation_n: validation.features.n(),
        test_n: test.features.n(),
        outcomes: found.outcomes,
    })
}

/// Score of `a` minus score of `b`, with a paired bootstrap interval over their common test items.
///
/// # Errors
/// The probes have different test targets; see [`Bootstrap::interval`].
pub fn difference(a: &ProbeResult, b: &ProbeResult, bootstrap: &Bootstrap) -> Result<Difference> {
    let same = match (&a.outcomes, &b.outcomes) {
        (Outcomes::Labels { target: a, .. }, Outcomes::Labels { target: b, .. }) => a == b,
        (Outcomes::Values { target: a, .. }, Outcomes::Values { target: b, .. }) => a == b,
        _ => false,
    };
    if !same {
        return Err(Error::NotPaired);
    }
    let interval = bootstrap.interval(a.test_n, &|items| a.outcomes.score_of(items) - b.outcomes.score_of(items))?;
    Ok(Difference { value: a.score - b.score, interval })
}

/// What a kind of probe hands back: the strengths it tried and the test outcomes of the best.
struct Found {
    validation: Vec<Choice>,
    outcomes: Outcomes,
    constant_columns: usize,
}

fn linear([train, validation, test]: [&Part; 3], penalties: &[f64]) -> Result<Found> {
    if let Some(&got) = penalties.iter().find(|p| !(**p > 0.0 && p.is_finite())) {
        return Err(Error::Setting { name: "penalty", got, want: "positive and finite" });
    }
    let penalties = strongest_first(penalties.to_vec(), f64::total_cmp)?;
    let standard = Standardiser::fit(train.features)?;
    let x = standard.apply(train.features)?;
    let [validation_x, test_x] = [standard.apply(validation.features)?, standard.apply(test.features)?];
    let n = x.n() as f64;
    let mut fits = Vec::new();
    match train.target {
        Target::Labels(labels) => {
            let problem = LogisticProblem::new(&x, labels)?;
            let mut last: Option<Logistic> = None;
            for penalty in &penalties {
                let fit = problem.fit(1.0 / (n * penalty), last.as_ref(), &FitOptions::default())?;
                fits.push(Fit::Logistic(fit.clone()));
                last = Some(fit);
            }
        }
        Target::Values(values) => {
            let alphas: Vec<f64> = penalties.iter().map(|p| n * p).collect();
            fits.extend(RidgeProblem::new(&x)?.fit(values, &alphas)?.into_iter().map(Fit::Ridge));
        }
    }
    let mut choices = Vec::new();
    for (&strength, fit) in penalties.iter().zip(&fits) {
        let score = validation.outcomes(fit.predict(&validation_x)?)?.score("validation target")?;
        choices.push(Choice { strength, score });
    }
    let outcomes = test.outcomes(fits[best(&choices)].predict(&test_x)?)?;
    Ok(Found { validation: choices, outcomes, constant_columns: standard.constant_columns() })
}

/// A linear read-out of either kind.
enum Fit {
    Logistic(Logistic),
    Ridge(Ridge),
}

impl Fit {
    fn predict(&self, x: &Features) -> Result<Predicted> {
        match self {
            Self::Logistic(fit) => fit.predict(x).map(Predicted::Labels),
            Self::Ridge(fit) => fit.predict(x).map(Predicted::Values),
        }
    }
}

fn neighbours([train, validation, test]: [&Part; 3], ks: &[usize], metric: Metric, vote: Vote) -> Result<Found> {
    let bank = Knn::new(train.features, metric);
    let asked = ks.iter().copied().min().unwrap_or(0);
    let usable: Vec<usize> = ks.iter().copied().filter(|&k| k <= bank.n()).collect();
    if usable.is_empty() || asked == 0 {
        return Err(Error::Neighbours { k: asked, available: bank.n() });
    }
    let ks = strongest_first(usable, usize::cmp)?;
    let read = |near: &[Vec<Neighbour>], k: usize| -> Result<Predicted> {
        match train.target {
            Target::Labels(labels) => {
                near.iter().map(|n| vote.label(&n[..k], labels)).collect::<Result<_>>().map(Predicted::Labels)
            }
            Target::Values(values) => {
                near.iter().map(|n| vote.value(&n[..k], values)).collect::<Result<_>>().map(Predicted::Values)
            }
        }
    };
    let near = bank.neighbours(validation.features, ks[0])?;
    let mut choices = Vec::new();
    for &k in &ks {
        let score = validation.outcomes(read(&near, k)?)?.score("validation target")?;
        choices.push(Choice { strength: k as f64, score });
    }
    let k = ks[best(&choices)];
    let outcomes = test.outcomes(read(&bank.neighbours(test.features, k)?, k)?)?;
    Ok(Found { validation: choices, outcomes, constant_columns: 0 })
}

/// The grid, largest first (more penalty or more neighbours are more smoothing), without repeats.
fn strongest_first<T: PartialEq>(mut grid: Vec<T>, order: fn(&T, &T) -> std::cmp::Ordering) -> Result<Vec<T>> {
    grid.sort_by(|a, b| order(b, a));
    grid.dedup();
    if grid.is_empty() { Err(Error::TooFew { what: "strengths to choose from", need: 1, got: 0 }) } else { Ok(grid) }
}

/// Place of the first of the best scores.
fn best(choices: &[Choice]) -> usize {
    (1..choices.len()).fold(0, |best, i| if choices[i].score > choices[best].score { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};
    use crate::{Fractions, split};

    struct Set {
        x: Vec<Features>,
        labels: Vec<Vec<u32>>,
        values: Vec<Vec<f32>>,
    }

    impl Set {
        /// Training, validation and test parts of some items.
        fn new(x: &Features, labels: &[u32], values: &[f32]) -> Self {
            let parts = split(x.n(), Fractions { validation: 0.2, test: 0.3 }, 1).unwrap();
            let parts = [parts.train, parts.validation, parts.test];
            Self {
                x: parts.iter().map(|p| x.select(p).unwrap()).collect(),
                labels: parts.iter().map(|p| p.iter().map(|&i| labels[i]).collect()).collect(),
                values: parts.iter().map(|p| p.iter().map(|&i| values[i]).collect()).collect(),
            }
        }

        fn labelled(&self, i: usize) -> Part<'_> {
            Part { features: &self.x[i], target: Target::Labels(&self.labels[i]) }
        }

        fn valued(&self, i: usize) -> Part<'_> {
            Part { features: &self.x[i], target: Target::Values(&self.values[i]) }
        }

        fn classify(&self, config: &ProbeConfig) -> Result<ProbeResult> {
            probe(&self.labelled(0), &self.labelled(1), &self.labelled(2), config)
        }

        fn regress(&self, config: &ProbeConfig) -> Result<ProbeResult> {
            probe(&self.valued(0), &self.valued(1), &self.valued(2), config)
        }
    }

    /// Features with one informative direction: label = its sign, value = 3 times it plus noise of variance 1.
    fn planted(n: usize, d: usize) -> Set {
        let (noise, x) = (normals(9, n), Features::new(d, normals(8, n * d)).unwrap());
        let labels: Vec<u32> = (0..n).map(|i| u32::from(x.row(i)[0] > 0.0)).collect();
        let values: Vec<f32> = (0..n).map(|i| 3.0 * x.row(i)[0] + noise[i]).collect();
        Set::new(&x, &labels, &values)
    }

    #[test]
    fn digits_are_read_as_well_as_they_are_known_to_be() {
        let file = Fixture::open("logistic/digits.safetensors");
        let (x, labels) = (file.features("images"), file.labels("labels"));
        let set = Set::new(&x, &labels, &vec![0.0; labels.len()]);
        let linear = set.classify(&ProbeConfig::linear()).unwrap();
        assert_eq!(
            (linear.constant_columns, linear.validation.len()),
            (Standardiser::fit(&set.x[0]).unwrap().constant_columns(), 8)
        );
        assert!(linear.score > 0.94 && linear.score < 0.99, "{linear:?}");
        assert!(linear.interval.low < linear.score && linear.score < linear.interval.high);
        assert!(linear.interval.high - linear.interval.low < 0.05 && linear.floor < 0.2);
        let near = set.classify(&ProbeConfig::knn()).unwrap();
        assert!(near.score > 0.94 && near.strength == 20.0, "{:?}", near.validation);

        let same = difference(&linear, &linear, &Bootstrap::default()).unwrap();
        assert_eq!((same.value, same.interval.low, same.interval.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_planted_signal_gets_its_known_score() {
        let set = planted(4000, 20);
        // R^2 = 9 / (9 + 1); the sign itself is linear.
        let ridge = set.regress(&ProbeConfig::linear()).unwrap();
        assert!(ridge.interval.low < 0.9 && 0.9 < ridge.interval.high, "{ridge:?}");
        assert!(ridge.floor.abs() < 0.01 && ridge.score_name == ScoreName::R2);
        let linear = set.classify(&ProbeConfig::linear()).unwrap();
        assert!(linear.score > 0.98 && (linear.floor - 0.5).abs() < 0.05, "{linear:?}");

        // Without the informative column nothing is left, and the paired difference says so.
        let blind: Vec<Features> = set
            .x
            .iter()
            .map(|x| Features::new(19, x.values().chunks(20).flat_map(|row| &row[1..]).copied().collect()).unwrap())
            .collect();
        let blind = Set { x: blind, labels: set.labels.clone(), values: set.values.clone() };
        let nothing = blind.regress(&ProbeConfig::linear()).unwrap();
        assert!(nothing.score < 0.02, "{nothing:?}");
        let gain = difference(&ridge, &nothing, &Bootstrap::default()).unwrap();
        assert_close(gain.value, ridge.score - nothing.score, 1e-15);
        assert!(gain.interval.low > 0.8 && gain.interval.low < gain.value && gain.value < gain.interval.high);
        assert_eq!(difference(&ridge, &linear, &Bootstrap::default()).unwrap_err(), Error::NotPaired);
    }

    #[test]
    fn pairing_narrows_the_interval() {
        let set = planted(2000, 5);
        let one =
            |penalty: f64| ProbeConfig { kind: Kind::Linear { penalties: vec![penalty] }, ..ProbeConfig::linear() };
        let (a, b) = (set.regress(&one(1e-4)).unwrap(), set.regress(&one(0.1)).unwrap());
        let paired = difference(&a, &b, &Bootstrap::default()).unwrap().interval;
        assert!(paired.high - paired.low < 0.5 * (a.interval.high - a.interval.low), "{paired:?} {:?}", a.interval);
        assert!(!a.at_edge && a.strength == 1e-4);
    }

    #[test]
    fn fewer_items_than_columns_and_overlarge_ks_work() {
        let set = planted(120, 300);
        assert!(set.x[0].n() < 300);
        let ridge = set.regress(&ProbeConfig::linear()).unwrap();
        assert!(ridge.score > 0.0 && ridge.score < 0.9, "{ridge:?}");
        assert!(set.classify(&ProbeConfig::linear()).unwrap().score > 0.4);
        // Of k = 200 and 20 only 20 can be had from 60 items.
        let near = set.classify(&ProbeConfig::knn()).unwrap();
        assert_eq!(near.validation.len(), 1);
        assert!(set.regress(&ProbeConfig::knn()).is_ok());
    }

    #[test]
    fn the_penalty_means_the_same_for_twice_the_items() {
        let set = planted(400, 4);
        let twice = |x: &Features| Features::new(4, [x.values(), x.values()].concat()).unwrap();
        let both = Set {
            x: vec![twice(&set.x[0]), set.x[1].clone(), set.x[2].clone()],
            labels: vec![set.labels[0].repeat(2), set.labels[1].clone(), set.labels[2].clone()],
            values: vec![set.values[0].repeat(2), set.values[1].clone(), set.values[2].clone()],
        };
        let config = ProbeConfig::linear();
        let (once, twice) = (set.regress(&config).unwrap(), both.regress(&config).unwrap());
        once.validation.iter().zip(&twice.validation).for_each(|(a, b)| assert_close(a.score, b.score, 1e-9));
        assert_eq!(set.classify(&config).unwrap().outcomes, both.classify(&config).unwrap().outcomes);
    }

    #[test]
    fn what_cannot_be_probed_is_named() {
        let set = planted(200, 3);
        let linear = ProbeConfig::linear();
        let values = probe(&set.labelled(0), &set.valued(1), &set.labelled(2), &linear).unwrap_err();
        assert_eq!(values, Error::MixedTargets { what: "the validation or test part" });
        let short = Part { features: &set.x[0], target: Target::Labels(&[0, 1]) };
        assert!(matches!(
            probe(&short, &set.labelled(1), &set.labelled(2), &linear),
            Err(Error::LengthMismatch { what: "training targets", got: 2, .. })
        ));
        let ones = vec![1; set.x[0].n()];
        let one = Part { features: &set.x[0], target: Target::Labels(&ones) };
        assert!(matches!(
            probe(&one, &set.labelled(1), &set.labelled(2), &linear),
            Err(Error::OneClass { label: 1, .. })
        ));
        let flat = vec![2.0; set.x[2].n()];
        let flat = Part { features: &set.x[2], target: Target::Values(&flat) };
        assert_eq!(
            probe(&set.valued(0), &set.valued(1), &flat, &linear).unwrap_err(),
            Error::ConstantTarget { what: "test target" }
        );
        let still = Features::new(3, vec![1.0; set.x[0].values().len()]).unwrap();
        let still = Part { features: &still, ..set.labelled(0) };
        assert!(matches!(
            probe(&still, &set.labelled(1), &set.labelled(2), &linear),
            Err(Error::ConstantFeatures { .. })
        ));
        for (kind, message) in [
            (Kind::Linear { penalties: vec![] }, "strengths to choose from: 0 found, at least 1 are needed; give more"),
            (Kind::Linear { penalties: vec![-1.0] }, "penalty = -1; it must be positive and finite"),
        ] {
            let config = ProbeConfig { kind, ..ProbeConfig::linear() };
            assert_eq!(set.classify(&config).unwrap_err().to_string(), message);
        }
        let kind = Kind::Knn { ks: vec![5000], metric: Metric::Cosine, vote: Vote::Plain };
        let error = set.classify(&ProbeConfig { kind, ..ProbeConfig::knn() }).unwrap_err();
        assert_eq!(error, Error::Neighbours { k: 5000, available: set.x[0].n() });
    }

    #[test]
    fn a_label_unseen_in_training_counts_as_wrong() {
        let set = planted(300, 2);
        let odd = vec![7; set.x[2].n()];
        let test = Part { features: &set.x[2], target: Target::Labels(&odd) };
        let got = probe(&set.labelled(0), &set.labelled(1), &test, &ProbeConfig::linear()).unwrap();
        assert_eq!((got.score, got.interval), (0.0, Interval { low: 0.0, high: 0.0 }));
    }

    /// One item of each part: nothing to standardise, but a neighbour can be found.
    #[test]
    fn single_items() {
        let x = Features::new(2, vec![1.0, 2.0]).unwrap();
        let part = Part { features: &x, target: Target::Labels(&[3]) };
        assert!(matches!(probe(&part, &part, &part, &ProbeConfig::linear()), Err(Error::ConstantFeatures { .. })));
        let kind = Kind::Knn { ks: vec![1], metric: Metric::Euclidean, vote: Vote::Plain };
        let got = probe(&part, &part, &part, &ProbeConfig { kind, ..ProbeConfig::knn() }).unwrap();
        assert_eq!((got.score, got.interval), (1.0, Interval { low: 1.0, high: 1.0 }));
    }
}
