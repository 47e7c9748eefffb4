use crate::read::{Pool, ReadOptions, Readings, encode};
use crate::{Error, Model};
use pentimento_data::Dataset;
use pentimento_measure::{
    Bootstrap, Difference, Features, Fractions, Interval, Part, ProbeConfig, ProbeResult, Target, difference, probe,
    split,
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

/// Probes of a run: the chosen place beside raw pixels and an untrained network, and every place on validation items.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct ProbeReport {
    /// Model, raw pixels and random network for each target.
    pub rows: Vec<ProbeRow>,
    /// Target, model minus raw pixels, model minus random network, on the same test items.
    pub gains: Vec<(String, Difference, Difference)>,
    /// Every place: the heat map.
    pub map: Vec<Place>,
    /// How activations became vectors.
    pub pool: String,
    /// Items for training, validation and test.
    pub items: [usize; 3],
}

/// Fits probes at every block and level, chooses the place on validation items, and compares it on test items with raw
/// pixels and with the same network at its random start with opened gates, read at its own best place.
///
/// # Errors
/// As [`encode`], and targets that cannot be fitted.
pub fn probe_run(
    model: &Model,
    data: &Arc<dyn Dataset>,
    options: &ReadOptions,
    targets: &[String],
    observe: &mut dyn FnMut(&str, u64, u64),
) -> Result<ProbeReport, Error> {
    let trained = encode(model, data, options, &mut |a, b| observe("reading the model", a, b))?;
    let fresh = Model::blank(&model.recipe, &model.signature, model.device())?;
    pentimento_nn::open_gates(fresh.params(), model.recipe.seed);
    let random = encode(&fresh, data, options, &mut |a, b| observe("reading a random network", a, b))?;
    let parts = split(trained.index.len(), Fractions { validation: 0.2, test: 0.3 }, 0)?;
    let mut report = ProbeReport {
        rows: Vec::new(),
        gains: Vec::new(),
        map: Vec::new(),
        pool: options.pool.to_string(),
        items: [parts.train.len(), parts.validation.len(), parts.test.len()],
    };
    let all = targets.len() as u64;
    for (t, target) in targets.iter().enumerate() {
        observe("fitting probes", t as u64, all);
        let column = Column::of(&trained, target)?;
        let fit = |(d, values): &(usize, Vec<f32>)| column.probe(*d, values, &parts);
        let best = |readings: &Readings,
                    map: &mut dyn FnMut(&str, &str, f64)|
         -> Result<Option<(String, usize, ProbeResult)>, Error> {
            let mut best: Option<(String, usize, ProbeResult)> = None;
            for ((block, level), features) in &readings.features {
                let found = fit(features)?;
                let score = validation(&found);
                map(block, level, score);
                if best.as_ref().is_none_or(|(_, _, b)| score > validation(b)) {
                    best = Some((format!("{block} @ {level}"), features.0, found));
                }
            }
            Ok(best)
        };
        let map = &mut report.map;
        let ours = best(&trained, &mut |b, l, v| {
            map.push(Place { target: target.clone(), block: b.into(), level: l.into(), score: v })
        })?;
        let theirs = best(&random, &mut |_, _, _| {})?;
        let pixels = fit(&trained.pixels)?;
        let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
        let bootstrap = Bootstrap::default();
        report.gains.push((
            target.clone(),
            difference(&ours.2, &pixels, &bootstrap)?,
            difference(&ours.2, &theirs.2, &bootstrap)?,
        ));
        let random_name = format!("random network, {}", theirs.0);
        for (name, width, r) in [
            (ours.0, ours.1, ours.2),
            ("raw pixels".into(), trained.pixels.0, pixels),
            (random_name, theirs.1, theirs.2),
        ] {
            report.rows.push(row(target, name, width, &r));
        }
    }
    Ok(report)
}

fn row(target: &str, features: String, width: usize, r: &ProbeResult) -> ProbeRow {
    ProbeRow { target: target.into(), features, width, score: r.score, interval: r.interval, validation: validation(r) }
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
    fn of(readings: &Readings, target: &str) -> Result<Self, Error> {
        Self::from_parts(&readings.labels, &readings.factors, target)
    }

    fn from_parts(labels: &[i64], factors: &[(String, Vec<f32>)], target: &str) -> Result<Self, Error> {
        if target == "label" && !labels.is_empty() {
            return Ok(Self::Labels(labels.iter().map(|&l| u32::try_from(l).unwrap_or(u32::MAX)).collect()));
        }
        if let Some((_, values)) = factors.iter().find(|(name, _)| name == target) {
            return Ok(Self::Values(values.clone()));
        }
        let mut known: Vec<&str> = factors.iter().map(|(n, _)| n.as_str()).collect();
        if !labels.is_empty() {
            known.insert(0, "label");
        }
        Err(Error::Value { key: "--target", got: target.into(), want: format!("choose from {}", known.join(", ")) })
    }

    fn probe(&self, d: usize, values: &[f32], parts: &pentimento_measure::Splits) -> Result<ProbeResult, Error> {
        self.probe_with(&Features::new(d, values.to_vec())?, parts, &ProbeConfig::linear())
    }

    fn probe_with(
        &self,
        all: &Features,
        parts: &pentimento_measure::Splits,
        config: &ProbeConfig,
    ) -> Result<ProbeResult, Error> {
        let pick = |items: &[usize]| -> Result<(Features, Self), Error> {
            let target = match self {
                Self::Labels(l) => Self::Labels(items.iter().map(|&i| l[i]).collect()),
                Self::Values(v) => Self::Values(items.iter().map(|&i| v[i]).collect()),
            };
            Ok((all.select(items)?, target))
        };
        let (a, b, c) = (pick(&parts.train)?, pick(&parts.validation)?, pick(&parts.test)?);
        Ok(probe(&part(&a), &part(&b), &part(&c), config)?)
    }
}

fn part((features, target): &(Features, Column)) -> Part<'_> {
    let target = match target {
        Column::Labels(l) => Target::Labels(l),
        Column::Values(v) => Target::Values(v),
    };
    Part { features, target }
}

/// Probes a table of features by itself; `pixels` adds the comparison where the table carries the data's own pixels.
///
/// # Errors
/// A target that is not in the table or cannot be fitted.
pub fn probe_features(
    table: &pentimento_io::features::Features,
    target: &str,
    config: &ProbeConfig,
) -> Result<ProbeRow, Error> {
    let (Some(&d), pentimento_io::Values::F32(values)) = (table.feature.shape().get(1), table.feature.values()) else {
        return Err(Error::Value {
            key: "FEATURES",
            got: format!("{:?}", table.feature.shape()),
            want: "must be [N, D] single precision".into(),
        });
    };
    let factors: Vec<(String, Vec<f32>)> =
        table.factors.iter().map(|(n, v)| (n.clone(), v.iter().map(|&x| single(x)).collect())).collect();
    let column = Column::from_parts(table.label.as_deref().unwrap_or_default(), &factors, target)?;
    let parts = split(table.index.len(), Fractions { validation: 0.2, test: 0.3 }, 0)?;
    let result = column.probe_with(&Features::new(d, values.clone())?, &parts, config)?;
    let name = table.provenance.get("features").cloned().unwrap_or_else(|| "features".into());
    Ok(row(target, name, d, &result))
}

#[expect(clippy::cast_possible_truncation, reason = "features are f32")]
fn single(v: f64) -> f32 {
    v as f32
}

/// The usual places: every block, four levels, means over a 2 x 2 grid.
pub fn usual(items: u64) -> ReadOptions {
    ReadOptions { blocks: Vec::new(), levels: vec![0.05, 0.2, 0.4, 0.6], pool: Pool::Grid(2), items, seed: 0 }
}
