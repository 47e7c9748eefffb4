//! What a network says of pictures, for `pentimento measure`.

use crate::terminal::{Opened, Steps, open_any};
use anyhow::{bail, ensure};
use pentimento_core::Noise;
use pentimento_io::Values;
use pentimento_io::npz::Npz;
use pentimento_measure::{Features, Layer, Pictures, lpips};
use pentimento_train::{Range, Script, parse_device};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Pictures that pass together: memory only.
const TOGETHER: usize = 64;

/// Features of pictures by a TorchScript file or the model of a method, and what it is called.
pub fn features(
    extractor: &Path,
    range: Range,
    device: &str,
    pictures: &Pictures,
) -> anyhow::Result<(Features, String)> {
    let device = parse_device(device)?;
    let by = |look: &mut dyn FnMut(&Tensor, usize) -> anyhow::Result<Tensor>| -> anyhow::Result<Features> {
        let (mut width, mut values) = (0, Vec::new());
        each(pictures, &mut |x, first| {
            let found = look(x, first)?;
            width = usize::try_from(found.size()[1])?;
            values.extend(host(&found));
            Ok(())
        })?;
        Ok(Features::new(width, values)?)
    };
    if extractor.extension().is_some_and(|e| e == "pt" || e == "pth" || e == "jit") {
        let script = Script::open(extractor, range, device)?;
        return Ok((by(&mut |x, _| Ok(script.features(x)?))?, script.name()));
    }
    let Opened::Method(model) = open_any(extractor, "cpu")? else {
        bail!(
            "{}: is read at a block and a level; write tables with `pentimento encode` and compare these",
            extractor.display()
        );
    };
    let [c, h, w] = pictures.shape();
    let want = model.signature.input;
    ensure!(
        [c, h, w].map(|n| i64::try_from(n).unwrap_or(0)) == want,
        "{}: reads {want:?}, and the pictures are [{c}, {h}, {w}]; see --px",
        extractor.display()
    );
    let _guard = tch::no_grad_guard();
    let found = by(&mut |x, first| {
        let noise = Noise::new(0, (first as u64..).take(usize::try_from(x.size()[0])?).collect());
        match model.trained().and_then(|t| t.encode(x, &noise)) {
            Some(code) => Ok(code.flatten(1, -1)),
            None => bail!("{}: {} gives no features", extractor.display(), model.method.slug),
        }
    })?;
    Ok((found, format!("{} of {}", model.method.slug, extractor.display())))
}

/// LPIPS of each pair: maps by a TorchScript file that answers with one or more `[B, C, H, W]`; weights of the channels, an array a
/// layer in the order of names, or ones.
pub fn perceptual(
    extractor: &Path,
    range: Range,
    device: &str,
    weights: Option<&Path>,
    [a, b]: [&Pictures; 2],
) -> anyhow::Result<(Vec<f64>, String)> {
    let script = Script::open(extractor, range, parse_device(device)?)?;
    let [maps_a, maps_b] = [maps(&script, a)?, maps(&script, b)?];
    let given = match weights {
        None => maps_a.iter().map(|m| vec![1.0; m.shape()[0]]).collect(),
        Some(path) => channel_weights(path)?,
    };
    ensure!(given.len() == maps_a.len(), "{} layers of weights for {} layers of maps", given.len(), maps_a.len());
    let layers: Vec<Layer> =
        maps_a.iter().zip(&maps_b).zip(&given).map(|((a, b), weights)| Layer { a, b, weights }).collect();
    Ok((lpips(&layers)?.values, script.name()))
}

fn channel_weights(path: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut all = Npz::open(path)?.arrays()?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut weights = Vec::new();
    for (name, array) in all {
        let Values::F32(values) = array.into_values() else {
            bail!("{}: {name} is not of single floats; save it as float32", path.display());
        };
        weights.push(values);
    }
    Ok(weights)
}

fn maps(script: &Script, pictures: &Pictures) -> anyhow::Result<Vec<Pictures>> {
    let mut layers: Vec<([usize; 3], Vec<f32>)> = Vec::new();
    each(pictures, &mut |x, _| {
        for (i, map) in script.look(x)?.iter().enumerate() {
            ensure!(
                map.dim() == 4,
                "{}: answers with {:?}; LPIPS compares maps [B, C, H, W]",
                script.name(),
                map.size()
            );
            if layers.len() <= i {
                let side = |axis: usize| usize::try_from(map.size()[axis]);
                layers.push(([side(1)?, side(2)?, side(3)?], Vec::new()));
            }
            layers[i].1.extend(host(map));
        }
        Ok(())
    })?;
    layers.into_iter().map(|(shape, values)| Ok(Pictures::new(shape, values)?)).collect()
}

/// Batches `[B, C, H, W]` in order, each with the number of its first picture.
fn each(pictures: &Pictures, see: &mut dyn FnMut(&Tensor, usize) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let [c, h, w] = pictures.shape();
    let size = [c, h, w].map(|n| i64::try_from(n).unwrap_or(0));
    let mut bar = Steps::new("extracting");
    for (i, values) in pictures.values().chunks(TOGETHER * (c * h * w).max(1)).enumerate() {
        let x = Tensor::from_slice(values).view([-1, size[0], size[1], size[2]]);
        see(&x, i * TOGETHER)?;
        bar.at("extracting", ((i + 1) * TOGETHER).min(pictures.n()) as u64, pictures.n() as u64);
    }
    Ok(())
}

fn host(t: &Tensor) -> Vec<f32> {
    let t = t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0; t.numel()];
    t.copy_data(&mut values, t.numel());
    values
}
