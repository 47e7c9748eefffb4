use crate::read::{Ask, ReadOptions, Readings, check_shape, encode, read_items};
use crate::{Error, Model, Signature};
use pentimento_core::Learner;
use pentimento_data::Dataset;
use pentimento_io::features::{Baselines, Features};
use pentimento_io::{Array, Values};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whether a table of features carries what they are to be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The items themselves and the features of the untrained network.
    Baselines,
    /// Nothing: a smaller table, whose probes stand alone.
    Nothing,
}

/// The same network at the random start of its recipe, with opened gates: a gate that starts at zero would make its
/// blocks the identity, which nobody needs to beat.
///
/// # Errors
/// As [`Model::blank`].
pub fn untrained(model: &Model) -> Result<Model, Error> {
    let fresh = Model::blank(&model.recipe, &model.signature, model.device())?;
    pentimento_nn::open_gates(fresh.params(), model.recipe.seed);
    Ok(fresh)
}

/// Features of a data set at one block and level as a table to keep, with labels, factors and what they come from.
///
/// # Errors
/// As [`encode`]; more or fewer places than one.
pub fn features_table(
    model: &Model,
    data: &Arc<dyn Dataset>,
    options: &ReadOptions,
    beside: Beside,
    observe: &mut dyn FnMut(&str, u64, u64),
) -> Result<Features, Error> {
    let ([block], [level]) = (options.blocks.as_slice(), options.levels.as_slice()) else {
        let got = format!("{} blocks at {} levels", options.blocks.len(), options.levels.len());
        return Err(Error::Value { key: "--block", got, want: "a table holds the features of one place".into() });
    };
    let read = encode(model, data, options, &mut |a, b| observe("reading the model", a, b))?;
    let random = match beside {
        Beside::Nothing => None,
        Beside::Baselines => Some(encode(&untrained(model)?, data, options, &mut |a, b| {
            observe("reading a random network", a, b);
        })?),
    };
    let provenance = [
        ("features", format!("{block} @ {level}")),
        ("data", data.fingerprint()),
        ("images", model.images.to_string()),
        ("pool", options.pool.to_string()),
        ("seed", options.seed.to_string()),
    ];
    Ok(table(read, random, provenance))
}

/// What a learner makes of a data set as a table to keep; with another learner, as it is before training, beside it.
///
/// # Errors
/// A learner that has no features, data of another shape.
pub fn learner_table(
    learner: &dyn Learner,
    fresh: Option<&dyn Learner>,
    (signature, images): (&Signature, u64),
    data: &Arc<dyn Dataset>,
    ask: &Ask,
    observe: &mut dyn FnMut(&str, u64, u64),
) -> Result<Features, Error> {
    check_shape(data, signature.input)?;
    let mut read = |learner: &dyn Learner, what: &str| {
        read_items(data, ask, &mut |a, b| observe(what, a, b), &mut |x, noise, keep| {
            let found = learner.trained().and_then(|t| t.encode(x, noise)).ok_or(Error::Cannot { what: "features" })?;
            keep("code", "", &found.flatten(1, -1));
            Ok(())
        })
    };
    let ours = read(learner, "reading the model")?;
    let random = fresh.map(|f| read(f, "reading the model before training")).transpose()?;
    let provenance = [
        ("features", "code".to_owned()),
        ("data", data.fingerprint()),
        ("images", images.to_string()),
        ("seed", ask.seed.to_string()),
    ];
    Ok(table(ours, random, provenance))
}

fn table<const N: usize>(read: Readings, random: Option<Readings>, provenance: [(&str, String); N]) -> Features {
    let n = read.index.len();
    let array = |(width, values)| Array::new(vec![n, width], Values::F32(values));
    let one = |features: BTreeMap<_, _>| array(features.into_values().next().unwrap_or_default());
    let baselines = random.map(|r| Baselines { pixels: array(read.pixels), random: one(r.features) });
    Features {
        feature: one(read.features),
        index: read.index.iter().map(|i| i.cast_signed()).collect(),
        label: (!read.labels.is_empty()).then_some(read.labels),
        split: None,
        factors: read.factors.into_iter().map(|(name, v)| (name, v.into_iter().map(f64::from).collect())).collect(),
        baselines,
        provenance: provenance.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}
