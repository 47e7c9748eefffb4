//! Data sets by name or path.

use crate::bouncing::{Bouncing, BouncingConfig};
use crate::dataset::{Bytes, Dataset, Subset};
use crate::digits::digits;
use crate::regimes::{OTHER_HALF, Regimes, RegimesConfig};
use crate::scenes::{Scenes, ScenesConfig};
use crate::sprites::{Sprites, SpritesConfig};
use crate::transform::fit;
use crate::{Error, pictures};
use pentimento_io::cifar::{self, Split};
use pentimento_io::detect::{Format, sniff};
use pentimento_io::npz::Npz;
use pentimento_io::picture::Picture;
use pentimento_io::{Array, Values, dsprites, idx};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// Settings of the world `sprites`.
    pub sprites: Option<SpritesConfig>,
    /// Settings of the world `scenes`.
    pub scenes: Option<ScenesConfig>,
    /// Settings of the world `bouncing`.
    pub bouncing: Option<BouncingConfig>,
    /// Settings of the world `regimes`.
    pub regimes: Option<RegimesConfig>,
    /// Edge to which pictures are cropped and averaged, or at which a world is drawn, or length of its series; 0 = as they are.
    pub px: usize,
    /// Leave out items that cannot be read instead of refusing the set.
    pub skip_bad: bool,
    /// The first so many items; 0 = all.
    pub limit: u64,
}

/// A data set and what was left out of it.
pub struct Opened {
    /// The data set.
    pub data: Arc<dyn Dataset>,
    /// Numbers of the items left out, each with its sentence.
    pub skipped: Vec<(u64, String)>,
}

/// Folders in which named data sets are looked for, in order: `PENTIMENTO_DATA`, `./data`, `../shared/data`.
pub fn data_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("PENTIMENTO_DATA").map(PathBuf::from);
    named.into_iter().chain(["data", "../shared/data"].map(PathBuf::from)).collect()
}

/// Names that [`open`] understands besides paths; `name:test` is the other half of those that have one.
pub const NAMES: [&str; 9] =
    ["sprites", "scenes", "bouncing", "regimes", "digits", "mnist", "fashion-mnist", "cifar10", "dsprites"];

/// Opens a data set by name (`sprites`, `digits`, `mnist`, `mnist:test`, ...) or by path.
///
/// # Errors
/// One sentence: what is not there or cannot be used, where it was looked for, what to do.
pub fn open(name: &str, options: &Open) -> Result<Opened, Error> {
    let (plain, half) = name.split_once(':').unwrap_or((name, "train"));
    let whole = |data: Arc<dyn Dataset>| Opened { data, skipped: Vec::new() };
    let drawn_at = |px: &mut usize| *px = if options.px == 0 { *px } else { options.px };
    let opened = match plain {
        "sprites" => {
            let mut config = options.sprites.clone().unwrap_or_default();
            drawn_at(&mut config.px);
            whole(Arc::new(Sprites::new(config)?))
        }
        "scenes" => {
            let mut config = options.scenes.clone().unwrap_or_default();
            drawn_at(&mut config.px);
            whole(Arc::new(Scenes::new(config)?))
        }
        "bouncing" => {
            let mut config = options.bouncing.clone().unwrap_or_default();
            drawn_at(&mut config.px);
            whole(Arc::new(Bouncing::new(config)?))
        }
        "regimes" => {
            let mut config = options.regimes.clone().unwrap_or_default();
            drawn_at(&mut config.length);
            config.seed ^= if half == "test" { OTHER_HALF } else { 0 };
            whole(Arc::new(Regimes::new(config)?))
        }
        "digits" => whole(Arc::new(resized(digits(), options.px))),
        _ => {
            let test = match half {
                "train" => false,
                "test" => true,
                _ => return Err(Error::bad(name, "after the colon write train or test")),
            };
            open_path(&find(name, plain)?, test, options)?
        }
    };
    if options.limit > 0 && options.limit < opened.data.len() {
        return Ok(Opened { data: Arc::new(Subset::first(opened.data, options.limit)), ..opened });
    }
    Ok(opened)
}

/// The place of a named set, or the path itself.
fn find(name: &str, plain: &str) -> Result<PathBuf, Error> {
    if NAMES.contains(&plain) {
        if let Some(found) = data_folders().into_iter().map(|f| f.join(plain)).find(|p| p.is_dir()) {
            return Ok(found);
        }
    } else if Path::new(name).exists() || name.contains('{') {
        return Ok(name.into());
    } else if Path::new(plain).exists() {
        return Ok(plain.into());
    }
    let hint = if NAMES.contains(&plain) {
        format!("; fetch it with `pentimento data get {plain}`, or name its folder in PENTIMENTO_DATA")
    } else {
        let begins = NAMES.into_iter().find(|n| n.starts_with(plain.get(..3).unwrap_or(plain)));
        let near = pentimento_core::nearest(plain, &NAMES).or(begins);
        near.map_or(format!("; known names are {}", NAMES.join(", ")), |n| format!("; did you mean {n}?"))
    };
    let looked: Vec<_> = data_folders().iter().map(|f| f.display().to_string()).collect();
    Err(Error::Unknown { name: name.into(), looked: looked.join(", "), hint })
}

fn open_path(path: &Path, test: bool, options: &Open) -> Result<Opened, Error> {
    let array = match kind(path)? {
        Kind::Mnist => {
            let stem = if test { "t10k" } else { "train" };
            let images = ["", ".gz"]
                .map(|e| path.join(format!("{stem}-images-idx3-ubyte{e}")))
                .into_iter()
                .find(|p| p.is_file());
            let images = images.ok_or_else(|| {
                Error::bad(path.display().to_string(), format!("holds no {stem}-images-idx3-ubyte or its .gz"))
            })?;
            idx_file(&images, path)?
        }
        Kind::Cifar => {
            let split = if test { Split::Test } else { Split::Train };
            let set = if path.is_dir() { cifar::read_all(&cifar::files(path, split)?)? } else { cifar::read(path)? };
            let names = cifar::class_names(if path.is_dir() { path } else { path.parent().unwrap_or(path) });
            let classes = names.unwrap_or_else(|_| (0..10).map(|c| c.to_string()).collect());
            planes(path, set.images, Some(set.labels), classes)?
        }
        Kind::Sprites(file) => sprites_file(&file)?,
        Kind::Array(Format::Idx) => idx_file(path, path.parent().unwrap_or(path))?,
        Kind::Array(Format::Npz) => {
            let (images, labels) = Npz::open(path)?.batch()?;
            interleaved(path, &images, labels)?
        }
        Kind::Array(other) => {
            return Err(Error::bad(
                path.display().to_string(),
                format!("is {}, which holds no set of pictures", other.name()),
            ));
        }
        Kind::Items => return pictures::open(path, options),
    };
    Ok(Opened { data: Arc::new(resized(array, options.px)), skipped: Vec::new() })
}

enum Kind {
    Mnist,
    Cifar,
    Sprites(PathBuf),
    Array(Format),
    Items,
}

fn kind(path: &Path) -> Result<Kind, Error> {
    if path.is_dir() {
        let list =
            ["dsprites_grid_46080.npz", "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", "dsprites_random_20000.npz"];
        if let Some(file) = list.iter().map(|f| path.join(f)).find(|p| p.is_file()) {
            return Ok(Kind::Sprites(file));
        }
    }
    Ok(match sniff(path)? {
        Format::Idx if path.is_dir() => Kind::Mnist,
        Format::Cifar10 => Kind::Cifar,
        Format::DSprites => Kind::Sprites(path.into()),
        Format::Folder | Format::EdmZip | Format::Shards | Format::HfParquet => Kind::Items,
        other => Kind::Array(other),
    })
}

fn idx_file(images: &Path, folder: &Path) -> Result<Bytes, Error> {
    let named =
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
    let fashion = folder.file_name().is_some_and(|n| n == "fashion-mnist");
    let (array, labels) = match idx::labels_beside(images) {
        Some(l) => idx::read_pair(images, &l).map(|(a, l)| (a, Some(l)))?,
        None => (idx::read(images)?, None),
    };
    let n = labels.as_ref().and_then(|l| l.iter().max().copied()).unwrap_or(-1);
    let classes = (0..=n).map(|c| {
        usize::try_from(c).ok().and_then(|i| named.get(i)).filter(|_| fashion).map_or(c.to_string(), |s| (*s).into())
    });
    let classes: Vec<String> = classes.collect();
    match *array.shape() {
        [_, _, _] => planes(images, array, labels, classes),
        _ => interleaved(images, &array, labels),
    }
}

pub(crate) fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

pub(crate) fn unusable(path: &Path, why: &str) -> Error {
    Error::bad(path.display().to_string(), why)
}

/// `[N, H, W]` or `[N, C, H, W]` bytes.
fn planes(path: &Path, array: Array, labels: Option<Vec<i64>>, classes: Vec<String>) -> Result<Bytes, Error> {
    let shape = match *array.shape() {
        [_, h, w] => [1, h, w],
        [_, c, h, w] => [c, h, w],
        _ => return Err(unusable(path, "holds no pictures: their array needs 3 or 4 axes")),
    };
    let Values::U8(pixels) = array.into_values() else {
        return Err(unusable(path, "holds numbers that are not bytes; pictures are needed"));
    };
    check_labels(path, labels.as_deref(), classes.len())?;
    Ok(Bytes {
        fingerprint: format!(
            "{} {shape:?} {}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            content_hash(&pixels)
        ),
        pixels,
        shape,
        white: 255,
        labels: labels.unwrap_or_default(),
        classes,
        factors: Vec::new(),
        factor_names: Vec::new(),
    })
}

/// `[N, H, W, C]` bytes; opacity is laid over white.
fn interleaved(path: &Path, array: &Array, labels: Option<Vec<i64>>) -> Result<Bytes, Error> {
    let (&[n, h, w, c], Values::U8(from)) = (array.shape(), array.values()) else {
        return Err(unusable(path, "holds no pictures: bytes [N, H, W, C] are needed"));
    };
    let channels = if c == 1 { 1 } else { 3 };
    let mut pixels = Vec::with_capacity(n * h * w * channels);
    for picture in from.chunks((h * w * c).max(1)) {
        let side = |n: usize| u32::try_from(n).unwrap_or(0);
        let channels_in = u8::try_from(c).unwrap_or(0);
        let p = Picture { width: side(w), height: side(h), channels: channels_in, pixels: picture.to_vec() };
        pixels.extend(fit(&p, channels, 0).0);
    }
    let top = labels.as_ref().and_then(|l| l.iter().max().copied()).unwrap_or(-1);
    let classes: Vec<String> = (0..=top).map(|k| k.to_string()).collect();
    let array = Array::new(vec![n, channels, h, w], Values::U8(pixels));
    planes(path, array, labels, classes)
}

fn check_labels(path: &Path, labels: Option<&[i64]>, classes: usize) -> Result<(), Error> {
    let wrong = labels.unwrap_or_default().iter().position(|&l| usize::try_from(l).map_or(true, |l| l >= classes));
    match (wrong, labels) {
        (Some(i), Some(l)) => {
            Err(unusable(path, &format!("label {} of item {i} is not in 0..{classes}; correct the labels", l[i])))
        }
        _ => Ok(()),
    }
}

/// Ovals and hearts: the factors are all but the constant colour.
#[expect(clippy::cast_possible_truncation, reason = "f64 to f32 factors")]
fn sprites_file(path: &Path) -> Result<Bytes, Error> {
    let set = dsprites::read(path)?;
    let (Values::F64(values), Values::I64(classes)) = (set.values.values(), set.classes.values()) else {
        return Err(unusable(path, "has factors that are not numbers"));
    };
    let f = set.values.shape()[1];
    let labels: Vec<i64> = classes.chunks(f).map(|row| row[1]).collect();
    let factors = values.chunks(f).flat_map(|row| row[1..].iter().map(|&v| v as f32)).collect();
    let names = dsprites::FACTORS[1..].iter().map(ToString::to_string).collect();
    let shapes = ["square", "ellipse", "heart"].map(String::from).into();
    let mut bytes = planes(path, set.images, Some(labels), shapes)?;
    (bytes.white, bytes.factors, bytes.factor_names) = (1, factors, names);
    Ok(bytes)
}

fn resized(set: Bytes, px: usize) -> Bytes {
    let [c, h, w] = set.shape;
    if px == 0 || (h, w) == (px, px) {
        return set;
    }
    let side = |n: usize| u32::try_from(n).unwrap_or(0);
    // Few levels are spread over the byte first: averages of zeros and ones would round back to zeros and ones.
    let levels = 255_u8.div_euclid(set.white.max(1));
    let shrink = |plane: &[u8]| {
        let pixels = plane.iter().map(|&p| p.saturating_mul(levels)).collect();
        fit(&Picture { width: side(w), height: side(h), channels: 1, pixels }, 1, px).0
    };
    let pixels = set.pixels.par_chunks(h * w).flat_map_iter(shrink).collect();
    let (shape, white) = ([c, px, px], set.white * levels);
    Bytes { pixels, shape, white, fingerprint: format!("{} at {px} px", set.fingerprint), ..set }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_open_by_name_at_the_size_that_is_asked_for() {
        for name in ["sprites", "scenes", "bouncing"] {
            let open = |px| open(name, &Open { px, limit: 5, ..Open::default() }).unwrap().data;
            assert_eq!((open(0).len(), open(0).shape(), open(16).shape()), (5, [3, 32, 32], [3, 16, 16]));
        }
        let series = |name, px| {
            let set = open(name, &Open { px, limit: 3, ..Open::default() }).unwrap().data;
            let mut x = vec![0.0; set.shape()[2]];
            set.item(2, &mut x, &mut [0.0; 32]).unwrap();
            (set.len(), x)
        };
        let (learned, tests) = (series("regimes", 0), series("regimes:test", 0));
        assert_eq!((learned.0, learned.1.len(), series("regimes", 64).1.len()), (3, 512, 64));
        assert_ne!(learned.1, tests.1, "the other half holds other series");
    }

    #[test]
    fn resizing_keeps_the_mean_of_sets_with_few_levels() {
        let mean = |px| {
            let set = open("digits", &Open { px, limit: 50, ..Open::default() }).unwrap().data;
            let mut x = vec![0.0; set.shape().iter().product()];
            let sum = |i| {
                set.item(i, &mut x, &mut []).unwrap();
                f64::from(x.iter().sum::<f32>()) / x.len() as f64
            };
            (0..50).map(sum).sum::<f64>() / 50.0
        };
        assert!(
            (mean(0) - mean(4)).abs() < 2e-3 && (mean(0) - mean(16)).abs() < 1e-6,
            "{} {} {}",
            mean(0),
            mean(4),
            mean(16)
        );
        let board = Bytes { pixels: vec![0, 1, 1, 1], shape: [1, 2, 2], white: 1, ..digits() };
        let one = resized(board, 1);
        assert_eq!((one.pixels.as_slice(), one.white), ([191].as_slice(), 255));
    }

    #[test]
    fn unknown_names_suggest() {
        let say = |n: &str| open(n, &Open::default()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(say("mnistt").contains("did you mean mnist?"), "{}", say("mnistt"));
        assert!(say("digits:no").is_empty() || say("nothing").contains("known names are"));
    }

    #[test]
    fn real_sets_open() {
        let Some(mnist) = data_folders()
            .into_iter()
            .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")])
            .map(|f| f.join("mnist"))
            .find(|p| p.is_dir())
        else {
            println!("skipped: real data sets, no data folder");
            return;
        };
        let root = mnist.parent().unwrap();
        let get = |n: &str, test| open_path(&root.join(n), test, &Open::default()).unwrap().data;
        let (train, test) = (get("mnist", false), get("mnist", true));
        assert_eq!((train.len(), test.len(), train.shape()), (60_000, 10_000, [1, 28, 28]));
        let mut x = vec![0.0; 784];
        let labels: Vec<i64> = (0..5).map(|i| train.item(i, &mut x, &mut []).unwrap()).collect();
        assert_eq!(labels, [5, 0, 4, 1, 9]);
        let cifar = get("cifar10", false);
        assert_eq!((cifar.len(), cifar.shape(), cifar.classes()[0].as_str()), (20_000, [3, 32, 32], "airplane"));
        let sprites = get("dsprites", false);
        assert_eq!((sprites.len(), sprites.factors().len()), (46_080, 5));
    }
}
