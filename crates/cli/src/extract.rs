//! What a network says of pictures, for `pentimento measure`.

use crate::terminal::{Opened, Steps, open_any};
use anyhow::{bail, ensure};
use pentimento_io::Values;
use pentimento_io::npz::Npz;
use pentimento_measure::{Features, Pictures};
use pentimento_train::{Error, Range, Script, features_of, parse_device};
use std::path::Path;

/// Features of pictures by a TorchScript file or the model of a method, and what it is called.
pub fn features(
    extractor: &Path,
    range: Range,
    device: &str,
    pictures: &Pictures,
) -> anyhow::Result<(Features, String)> {
    let mut bar = Steps::new("extracting");
    let mut observe = |done, all| bar.at("extracting", done, all);
    let on = parse_device(device)?;
    if extractor.extension().is_some_and(|e| e == "pt" || e == "pth" || e == "jit") {
        let script = Script::open(extractor, range, on)?;
        let found = features_of(pictures, on, &mut observe, &mut |x, _| script.features(x))?;
        return Ok((found, script.name()));
    }
    let Opened::Method(model) = open_any(extractor, device)? else {
        bail!(
            "{}: is read at a block and a level; write tables with `pentimento encode` and compare these",
            extractor.display()
        );
    };
    let (shape, want) = (pictures.shape(), model.signature.input);
    ensure!(
        shape.map(|n| i64::try_from(n).unwrap_or(0)) == want,
        "{}: reads {want:?}, and the pictures are {shape:?}; see --px",
        extractor.display()
    );
    let found = features_of(pictures, on, &mut observe, &mut |x, noise| {
        model.trained().and_then(|t| t.encode(x, noise)).ok_or(Error::Cannot { what: "features" })
    })?;
    Ok((found, format!("{} of {}", model.method.slug, extractor.display())))
}

/// LPIPS of each pair; weights of the channels from an .npz with an array a map, in the order of names, or ones.
pub fn perceptual(
    extractor: &Path,
    range: Range,
    device: &str,
    weights: Option<&Path>,
    pictures: [&Pictures; 2],
) -> anyhow::Result<Vec<f64>> {
    let mut bar = Steps::new("extracting");
    let script = Script::open(extractor, range, parse_device(device)?)?;
    let weights = weights.map(channel_weights).transpose()?;
    Ok(script.perceptual(pictures, weights.as_deref(), &mut |done, all| bar.at("extracting", done, all))?)
}

fn channel_weights(path: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut all = Npz::open(path)?.arrays()?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let each = all.into_iter().map(|(name, array)| match array.into_values() {
        Values::F32(values) => Ok(values),
        _ => bail!("{}: {name} is not of single floats; save it as float32", path.display()),
    });
    each.collect()
}
