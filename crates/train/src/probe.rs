use crate::read::{Pool, ReadOptions, Readings, encode};
use crate::table::untrained;
use crate::{Error, Model};
use pentimento_core::choose;
use pentimento_data::Dataset;
use pentimento_io::features::Features as Table;
use pentimento_io::{Array, Values};
use pentimento_measure::{
    Bootstrap, Difference, Features, Fractions, Interval, Part, ProbeConfig, ProbeResult, Splits, Target, difference,
    probe, split,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One probe of one target at one place.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct ProbeRow {
    /// `label`, or the name of a factor.
    pub target: String,
    /// `block @ level`, `raw pixels`, `random network`.
    pub features: String,
    /// Width of the features.
    pub width: usize,
    /// Accuracy or R^2 on test items.
    pub score: f64,
    /// Its bootstrap interval over test items.
    pub interval: Interval,
    /// Score on validation items, by which the place was chosen.
    pub validation: f64,
}

/// The validation score of one target at one place.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Place {
    /// `label`, or the name of a factor.
    pub target: String,
    /// Block by name.
    pub block: String,
    /// Time of the noise.
    pub level: String,
    /// Score on validation items.
    pub score: f64,
}

/// Probes of features beside raw pixels and an untrained network; of a run, the chosen place, and every place on
/// validation items.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct ProbeReport {
    /// Model, raw pixels and random network for each target; the model alone where the others are not known.
    pub rows: Vec<ProbeRow>,
    /// Target, model minus raw pixels, model minus random network, on the same test items.
    pub gains: Vec<(String, Difference, Difference)>,
    /// Every place of a run: the heat map.
    pub map: Vec<Place>,
    /// How activations became vectors.
    pub pool: String,
    /// Items for training, validation and test.
    pub items: [usize; 3],
}

/// Fits probes at every block and level, chooses the place on validation items, and compares it on test items with raw
/// pixels and with the same network at its random start with opened gates, read at its own best place.
///
/// `targets` as typed: see [`resolve`].
///
/// # Errors
/// As [`encode`], and targets that are not there or cannot be fitted.
pub fn probe_run(
    model: &Model,
    data: &Arc<dyn Dataset>,
    options: &ReadOptions,
    targets: &[String],
    config: &ProbeConfig,
    observe: &mut dyn FnMut(&str, u64, u64),
) -> Result<ProbeReport, Error> {
    // What is not there is refused before minutes of reading.
    known(targets, !data.classes().is_empty(), data.factors())?;
    let trained = encode(model, data, options, &mut |a, b| observe("reading the model", a, b))?;
    let random = encode(&untrained(model)?, data, options, &mut |a, b| observe("reading a random network", a, b))?;
    let asked = targets;
    let mut targets = resolve(asked, !trained.labels.is_empty(), &trained.factors)?;
    // Many classes at every block and level take minutes: labels are probed when asked for, or where there is nothing
    // else.
    if asked.is_empty() && targets.len() > 1 {
        targets.retain(|t| t != LABEL);
    }
    let parts = parts(trained.index.len())?;
    let mut report = ProbeReport::new(options.pool.to_string(), &parts);
    let all = targets.len() as u64;
    for (t, target) in targets.iter().enumerate() {
        observe("fitting probes", t as u64, all);
        let column = Column::of(&trained.labels, &trained.factors, target)?;
        let fit = |(width, values): &(usize, Vec<f32>), name: String| column.fit(name, *width, values, &parts, config);
        let best = |readings: &Readings, map: &mut dyn FnMut(&str, &str, f64)| -> Result<Option<Fit>, Error> {
            let mut best: Option<Fit> = None;
            for ((block, level), features) in &readings.features {
                let found = fit(features, format!("{block} @ {level}"))?;
                let score = validation(&found.result);
                map(block, level, score);
                if best.as_ref().is_none_or(|b| score > validation(&b.result)) {
                    best = Some(found);
                }
            }
            Ok(best)
        };
        let map = &mut report.map;
        let ours = best(&trained, &mut |b, l, v| {
            map.push(Place { target: target.clone(), block: b.into(), level: l.into(), score: v })
        })?;
        let theirs = best(&random, &mut |_, _, _| {})?;
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            report.compare(target, ours, Some((fit(&trained.pixels, PIXELS.into())?, theirs.of_random())))?;
        }
    }
    Ok(report)
}

/// Probes a table of features beside the baselines that it carries; without them its rows stand alone and `gains` is
/// empty.
///
/// `targets` as typed: see [`resolve`].
///
/// # Errors
/// A target that is not in the table or cannot be fitted.
pub fn probe_features(table: &Table, targets: &[String], config: &ProbeConfig) -> Result<ProbeReport, Error> {
    let labels = table.label.as_deref().unwrap_or_default();
    let factors: Vec<(String, Vec<f32>)> =
        table.factors.iter().map(|(n, v)| (n.clone(), v.iter().map(|&x| single(x)).collect())).collect();
    let parts = parts(table.index.len())?;
    let said = |key: &str| table.provenance.get(key).cloned();
    let place = said("features").unwrap_or_else(|| "features".into());
    let mut report = ProbeReport::new(said("pool").unwrap_or_default(), &parts);
    for target in resolve(targets, !labels.is_empty(), &factors)? {
        let column = Column::of(labels, &factors, &target)?;
        let fit = |array: &Array, name: &str| {
            let (width, values) = rows(array)?;
            column.fit(name.to_owned(), width, values, &parts, config)
        };
        let ours = fit(&table.feature, &place)?;
        let beside = table
            .baselines
            .as_ref()
            .map(|b| -> Result<_, Error> { Ok((fit(&b.pixels, PIXELS)?, fit(&b.random, &place)?.of_random())) });
        report.compare(&target, ours, beside.transpose()?)?;
    }
    Ok(report)
}

/// The target that is a class.
const LABEL: &str = "label";
/// What is typed for all factors that take enough values.
const FACTOR: &str = "factor";
/// How the data itself is called among features.
const PIXELS: &str = "raw pixels";

/// One probe and what it read.
struct Fit {
    features: String,
    width: usize,
    result: ProbeResult,
}

impl Fit {
    fn of_random(self) -> Self {
        Self { features: format!("random network, {}", self.features), ..self }
    }

    fn row(self, target: &str) -> ProbeRow {
        let Self { features, width, result: r } = self;
        let validation = validation(&r);
        ProbeRow { target: target.into(), features, width, score: r.score, interval: r.interval, validation }
    }
}

impl ProbeReport {
    fn new(pool: String, parts: &Splits) -> Self {
        let items = [parts.train.len(), parts.validation.len(), parts.test.len()];
        Self { rows: Vec::new(), gains: Vec::new(), map: Vec::new(), pool, items }
    }

    /// Adds features of one target, beside raw pixels and a random network where they are known, with the differences on
    /// the same test items.
    fn compare(&mut self, target: &str, ours: Fit, beside: Option<(Fit, Fit)>) -> Result<(), Error> {
        let bootstrap = Bootstrap::default();
        if let Some((pixels, random)) = &beside {
            let gain = |other: &Fit| difference(&ours.result, &other.result, &bootstrap);
            self.gains.push((target.into(), gain(pixels)?, gain(random)?));
        }
        let beside = beside.into_iter().flat_map(|(pixels, random)| [pixels, random]);
        self.rows.extend(std::iter::once(ours).chain(beside).map(|fit| fit.row(target)));
        Ok(())
    }
}

/// The columns that typed targets mean: `label`, `factor` for every factor that takes at least 32 values, or names.
/// Nothing typed means both.
///
/// # Errors
/// What is not there, with what is.
pub fn resolve(typed: &[String], labels: bool, factors: &[(String, Vec<f32>)]) -> Result<Vec<String>, Error> {
    let names: Vec<String> = factors.iter().map(|(n, _)| n.clone()).collect();
    known(typed, labels, &names)?;
    let continuous = factors.iter().filter(|(_, v)| many(v)).map(|(n, _)| n);
    let mut all: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !all.iter().any(|a| a == name) {
            all.push(name.into())
        }
    };
    if typed.is_empty() && labels {
        add(LABEL);
    }
    if typed.is_empty() {
        continuous.clone().for_each(|name| add(name));
    }
    for name in typed {
        if name == FACTOR { continuous.clone().for_each(|name| add(name)) } else { add(name) }
    }
    if all.is_empty() {
        let want = "there is neither a label nor a factor that takes at least 32 values; name a factor".to_owned();
        return Err(Error::Value { key: "--target", got: typed.join(", "), want });
    }
    Ok(all)
}

/// Refuses targets that are not among these columns.
fn known(typed: &[String], labels: bool, factors: &[String]) -> Result<(), Error> {
    let generic =
        [(LABEL, labels), (FACTOR, !factors.is_empty())].into_iter().filter_map(|(n, there)| there.then_some(n));
    let choices: Vec<&str> = generic.chain(factors.iter().map(String::as_str)).collect();
    match typed.iter().find(|t| !choices.contains(&t.as_str())) {
        None => Ok(()),
        Some(_) if choices.is_empty() => {
            let want = "the data has neither labels nor factors".into();
            Err(Error::Value { key: "--target", got: typed.join(", "), want })
        }
        Some(got) => Err(Error::Value { key: "--target", got: got.clone(), want: choose(got, &choices) }),
    }
}

/// Whether a factor takes enough values for a regression.
fn many(values: &[f32]) -> bool {
    let mut seen: Vec<f32> = values.iter().take(1000).copied().collect();
    seen.sort_by(f32::total_cmp);
    seen.dedup();
    seen.len() >= 32
}

/// Training, validation and test items: half, a fifth, three tenths.
fn parts(n: usize) -> Result<Splits, Error> {
    Ok(split(n, Fractions { validation: 0.2, test: 0.3 }, 0)?)
}

fn rows(array: &Array) -> Result<(usize, &[f32]), Error> {
    match (array.shape(), array.values()) {
        (&[_, width], Values::F32(values)) => Ok((width, values)),
        (shape, _) => {
            let want = "must be [N, D] in single precision".into();
            Err(Error::Value { key: "FEATURES", got: format!("{shape:?}"), want })
        }
    }
}

/// Best score on validation items.
fn validation(r: &ProbeResult) -> f64 {
    r.validation.iter().map(|c| c.score).fold(f64::NEG_INFINITY, f64::max)
}

/// A target as the probes want it.
enum Column {
    Labels(Vec<u32>),
    Values(Vec<f32>),
}

impl Column {
    /// A column by its resolved name.
    fn of(labels: &[i64], factors: &[(String, Vec<f32>)], target: &str) -> Result<Self, Error> {
        if let Some((_, values)) = factors.iter().find(|(name, _)| name == target && target != LABEL) {
            return Ok(Self::Values(values.clone()));
        }
        let class = |(i, &y): (usize, &i64)| {
            u32::try_from(y).map_err(|_| Error::Value {
                key: "--target",
                got: LABEL.into(),
                want: format!("item {i} has none; probe a set in which every item has a label"),
            })
        };
        Ok(Self::Labels(labels.iter().enumerate().map(class).collect::<Result<_, _>>()?))
    }

    fn fit(
        &self,
        features: String,
        width: usize,
        values: &[f32],
        parts: &Splits,
        config: &ProbeConfig,
    ) -> Result<Fit, Error> {
        let all = Features::new(width, values.to_vec())?;
        let pick = |items: &[usize]| -> Result<(Features, Self), Error> {
            let target = match self {
                Self::Labels(l) => Self::Labels(items.iter().map(|&i| l[i]).collect()),
                Self::Values(v) => Self::Values(items.iter().map(|&i| v[i]).collect()),
            };
            Ok((all.select(items)?, target))
        };
        let (a, b, c) = (pick(&parts.train)?, pick(&parts.validation)?, pick(&parts.test)?);
        Ok(Fit { features, width, result: probe(&part(&a), &part(&b), &part(&c), config)? })
    }
}

fn part((features, target): &(Features, Column)) -> Part<'_> {
    let target = match target {
        Column::Labels(l) => Target::Labels(l),
        Column::Values(v) => Target::Values(v),
    };
    Part { features, target }
}

#[expect(clippy::cast_possible_truncation, reason = "features are f32")]
fn single(v: f64) -> f32 {
    v as f32
}

/// The usual places: every block, four levels, means over a 2 x 2 grid.
pub fn usual(items: u64) -> ReadOptions {
    ReadOptions { blocks: Vec::new(), levels: vec![0.05, 0.2, 0.4, 0.6], pool: Pool::Grid(2), items, seed: 0 }
}
