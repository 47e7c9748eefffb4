//! Data sets by name or path.

use crate::dataset::{Bytes, Dataset, Subset};
use crate::digits::digits;
use crate::sprites::{Sprites, SpritesConfig};
use crate::transform::fit;
use crate::Error;
use pentimento_core::NO_LABEL;
use pentimento_io::cifar::{self, Split};
use pentimento_io::detect::{Format, open_items, sniff};
use pentimento_io::items::Items;
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
    /// Edge to which pictures are cropped and averaged; 0 = as they are.
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
pub const NAMES: [&str; 7] = ["sprites", "scenes", "digits", "mnist", "fashion-mnist", "cifar10", "dsprites"];

/// Opens a data set by name (`sprites`, `digits`, `mnist`, `mnist:test`, ...) or by path.
///
/// # Errors
/// One sentence: what is not there or cannot be used, where it was looked for, what to do.
pub fn open(name: &str, options: &Open) -> Result<Opened, Error> {
    let (plain, half) = name.split_once(':').unwrap_or((name, "train"));
    let whole = |data: Arc<dyn Dataset>| Opened { data, skipped: Vec::new() };
    let opened = match plain {
        "sprites" => whole(Arc::new(Sprites::new(options.sprites.clone().unwrap_or_default())?)),
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
        let near = NAMES.iter().find(|n| n.starts_with(plain.get(..3).unwrap_or(plain)));
        near.map_or(format!("; known names are {}", NAMES.join(", ")), |n| format!("; did you mean {n}?"))
    };
    let looked: Vec<_> = data_folders().iter().map(|f| f.display().to_string()).collect();
    Err(Error::Unknown { name: name.into(), looked: looked.join(", "), hint })
}

fn open_path(path: &Path, test: bool, options: &Open) -> Result<Opened, Error> {
    let array = match kind(path)? {
        Kind::Mnist => {
            let stem = if test { "t10k" } else { "train" };
            let images = ["", ".gz"].map(|e| path.join(format!("{stem}-images-idx3-ubyte{e}"))).into_iter().find(|p| p.is_file());
            let images = images.ok_or_else(|| Error::bad(path.display().to_string(), format!("holds no {stem}-images-idx3-ubyte or its .gz")))?;
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
            return Err(Error::bad(path.display().to_string(), format!("is {}, which holds no set of pictures", other.name())));
        }
        Kind::Items => return items(path, options),
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
        let list = ["dsprites_grid_46080.npz", "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", "dsprites_random_20000.npz"];
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
    let named = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
    let fashion = folder.file_name().is_some_and(|n| n == "fashion-mnist");
    let (array, labels) = match idx::labels_beside(images) {
        Some(l) => idx::read_pair(images, &l).map(|(a, l)| (a, Some(l)))?,
        None => (idx::read(images)?, None),
    };
    let n = labels.as_ref().and_then(|l| l.iter().max().copied()).unwrap_or(-1);
    let classes = (0..=n).map(|c| usize::try_from(c).ok().and_then(|i| named.get(i)).filter(|_| fashion).map_or(c.to_string(), |s| (*s).into()));
    let classes: Vec<String> = classes.collect();
    match *array.shape() {
        [_, _, _] => planes(images, array, labels, classes),
        _ => interleaved(images, &array, labels),
    }
}

fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::bad(path.display().to_string(), why)
}

/// `[N, H, W]` or `[N, C, H, W]` bytes.
fn planes(path: &Path, array: Array, labels: Option<Vec<i64>>, classes: Vec<String>) -> Result<Bytes, Error> {
    let shape = match *array.shape() {
        [_, h, w] => [1, h, w],
        [_, c, h, w] => [c, h, w],
        _ => return Err(unusable(path, "holds no pictures: their array needs 3 or 4 axes")),
    };
    let Values::U8(pixels) = array.into_values() else { return Err(unusable(path, "holds numbers that are not bytes; pictures are needed")) };
    check_labels(path, labels.as_deref(), classes.len())?;
    Ok(Bytes {
        fingerprint: format!("{} {shape:?} {}", path.file_name().unwrap_or_default().to_string_lossy(), content_hash(&pixels)),
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
        (Some(i), Some(l)) => Err(unusable(path, &format!("label {} of item {i} is not in 0..{classes}; correct the labels", l[i]))),
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
    let shrink = |plane: &[u8]| {
        let p = Picture { width: side(w), height: side(h), channels: 1, pixels: plane.to_vec() };
        fit(&p, 1, px).0
    };
    let pixels = set.pixels.par_chunks(h * w).flat_map_iter(shrink).collect();
    Bytes { pixels, shape: [c, px, px], fingerprint: format!("{} at {px} px", set.fingerprint), ..set }
}

/// Pictures that stay in their files.
struct Files {
    items: Box<dyn Items>,
    path: PathBuf,
    px: usize,
    shape: [usize; 3],
    first: String,
    classes: Vec<String>,
    factors: Vec<String>,
}

impl Dataset for Files {
    fn len(&self) -> u64 {
        self.items.len() as u64
    }
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn factors(&self) -> &[String] {
        &self.factors
    }
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 factors")]
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        let number = usize::try_from(i).ok().filter(|&n| n < self.items.len());
        let number = number.ok_or_else(|| unusable(&self.path, &format!("item {i} of {}", self.items.len())))?;
        let item = self.items.read(number)?;
        let (pixels, shape) = fit(&item.picture, self.shape[0], self.px);
        if shape != self.shape {
            let [_, h, w] = shape;
            let why = format!("{} is {w}x{h} and {} is {}x{}; give data.px to bring all to one size", item.name, self.first, self.shape[2], self.shape[1]);
            return Err(unusable(&self.path, &why));
        }
        for (x, p) in x.iter_mut().zip(pixels) {
            *x = f32::from(p) * (2.0 / 255.0) - 1.0;
        }
        for (to, from) in factors.iter_mut().zip(&item.factors) {
            *to = *from as f32;
        }
        let label = item.label.unwrap_or(NO_LABEL);
        if label >= self.classes.len() as i64 && !self.classes.is_empty() {
            return Err(unusable(&self.path, &format!("label {label} of {} is not in 0..{}", item.name, self.classes.len())));
        }
        Ok(label)
    }
    fn caption(&self, i: u64) -> Option<String> {
        self.items.read(usize::try_from(i).ok()?).ok()?.caption
    }
    fn fingerprint(&self) -> String {
        let names = (0..self.items.len()).fold(blake3::Hasher::new(), |mut h, i| {
            h.update(self.items.name(i).as_bytes()).update(b"\n");
            h
        });
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name} {:?} {} items {}", self.shape, self.items.len(), &names.finalize().to_hex()[..16])
    }
}

fn items(path: &Path, options: &Open) -> Result<Opened, Error> {
    let items = open_items(path)?;
    let readable = (0..items.len()).find_map(|i| match items.read(i) {
        Ok(item) => Some(Ok(item)),
        Err(_) if options.skip_bad => None,
        Err(e) => Some(Err(e)),
    });
    let first = readable.ok_or_else(|| unusable(path, "holds no picture that can be read"))??;
    let channels = if first.picture.channels == 1 { 1 } else { 3 };
    let shape = fit(&first.picture, channels, options.px).1;
    let mut classes = items.classes().to_vec();
    if classes.is_empty() && first.label.is_some() {
        // Formats that carry numbers without names: the largest one tells how many there are.
        let top = (0..items.len()).into_par_iter().filter_map(|i| items.read(i).ok()?.label).max().unwrap_or(-1);
        classes = (0..=top).map(|k| k.to_string()).collect();
    }
    let factors = items.factor_names().to_vec();
    let files = Files { first: first.name, path: path.into(), px: options.px, shape, classes, factors, items };
    if !options.skip_bad {
        return Ok(Opened { data: Arc::new(files), skipped: Vec::new() });
    }
    let mut skipped: Vec<(u64, String)> = (0..files.len())
        .into_par_iter()
        .filter_map(|i| {
            let (mut x, mut f) = (vec![0.0; shape.iter().product()], vec![0.0; files.factors.len()]);
            files.item(i, &mut x, &mut f).err().map(|e| (i, e.to_string()))
        })
        .collect();
    skipped.sort();
    let bad: Vec<u64> = skipped.iter().map(|(i, _)| *i).collect();
    let data: Arc<dyn Dataset> = Arc::new(files);
    let data = if bad.is_empty() { data } else { Arc::new(Subset::without(data, &bad)) };
    Ok(Opened { data, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_io::png_out;

    fn picture(folder: &Path, name: &str, w: usize, value: u8) {
        let array = Array::new(vec![2, w, 3], Values::U8(vec![value; 2 * w * 3]));
        png_out::save(&folder.join(name), &array, &[]).unwrap();
    }

    #[test]
    fn folders_of_pictures_open_and_say_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        for class in ["cats", "dogs"] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            picture(&dir.path().join(class), "a.png", 2, 255);
        }
        let name = dir.path().to_string_lossy().into_owned();
        let set = open(&name, &Open::default()).unwrap().data;
        let mut x = vec![0.0; 12];
        assert_eq!((set.len(), set.shape(), set.classes()), (2, [3, 2, 2], &["cats".to_owned(), "dogs".into()][..]));
        assert_eq!(set.item(1, &mut x, &mut []).unwrap(), 1);
        assert!(x.iter().all(|v| (v - 1.0).abs() < 1e-6));

        picture(&dir.path().join("dogs"), "b.png", 4, 0);
        let set = open(&name, &Open::default()).unwrap().data;
        let error = set.item(2, &mut x, &mut []).unwrap_err().to_string();
        assert!(error.contains("4x2") && error.contains("2x2") && error.contains("data.px"), "{error}");
        assert_eq!(open(&name, &Open { px: 2, ..Open::default() }).unwrap().data.len(), 3);

        std::fs::write(dir.path().join("cats/broken.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
        let opened = open(&name, &Open { px: 2, skip_bad: true, ..Open::default() }).unwrap();
        assert_eq!((opened.data.len(), opened.skipped.len()), (3, 1));
        assert!(opened.skipped[0].1.contains("broken.png"), "{:?}", opened.skipped);
    }

    #[test]
    fn unknown_names_suggest() {
        let say = |n: &str| open(n, &Open::default()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(say("mnistt").contains("did you mean mnist?"), "{}", say("mnistt"));
        assert!(say("digits:no").is_empty() || say("nothing").contains("known names are"));
    }

    #[test]
    fn real_sets_open() {
        let Some(mnist) = data_folders().into_iter().chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")]).map(|f| f.join("mnist")).find(|p| p.is_dir()) else {
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
