//! Sets of picture files: read through when they are opened, so that what is wrong with them is known before training,
//! and kept in memory where they fit.

use crate::Error;
use crate::dataset::{Bytes, Dataset, Subset};
use crate::source::{Open, Opened, content_hash, unusable};
use crate::transform::fit;
use pentimento_core::NO_LABEL;
use pentimento_io::detect::open_items;
use pentimento_io::items::Items;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sets of up to so many pictures are read whole when they are opened, larger ones at [`SPACED`] places.
const READ_WHOLE: usize = 50_000;
const SPACED: usize = 1_000;
/// Pictures that need no more than this in all stay in memory.
const HELD_BYTES: usize = 1 << 30;

/// Pictures in their files, and in memory if they fit.
struct Pictures {
    items: Box<dyn Items>,
    path: PathBuf,
    px: usize,
    shape: [usize; 3],
    first: String,
    classes: Vec<String>,
    factors: Vec<String>,
    held: Option<Bytes>,
    fingerprint: String,
}

/// One picture at its final size.
struct Loaded {
    pixels: Vec<u8>,
    label: i64,
    factors: Vec<f32>,
    coloured: bool,
}

impl Pictures {
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 factors")]
    fn load(&self, i: usize) -> Result<Loaded, Error> {
        let item = self.items.read(i)?;
        let (pixels, shape) = fit(&item.picture, self.shape[0], self.px);
        if shape != self.shape {
            let ([_, h, w], [_, fh, fw]) = (shape, self.shape);
            let why = format!(
                "{} is {w}x{h} and {} is {fw}x{fh}; give data.px to bring all to one size",
                item.name, self.first
            );
            return Err(unusable(&self.path, &why));
        }
        let label = item.label.unwrap_or(NO_LABEL);
        if label >= self.classes.len() as i64 && !self.classes.is_empty() {
            return Err(unusable(
                &self.path,
                &format!("label {label} of {} is not in 0..{}", item.name, self.classes.len()),
            ));
        }
        let factors = item.factors.iter().map(|&f| f as f32).collect();
        Ok(Loaded { pixels, label, factors, coloured: item.picture.channels > 2 })
    }

    fn per_item(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Dataset for Pictures {
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
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        if let Some(held) = &self.held {
            return held.item(i, x, factors);
        }
        let number = usize::try_from(i).ok().filter(|&n| n < self.items.len());
        let number = number.ok_or_else(|| unusable(&self.path, &format!("item {i} of {}", self.items.len())))?;
        let loaded = self.load(number)?;
        for (x, p) in x.iter_mut().zip(loaded.pixels) {
            *x = f32::from(p) * (2.0 / 255.0) - 1.0;
        }
        factors.copy_from_slice(&loaded.factors);
        Ok(loaded.label)
    }
    fn caption(&self, i: u64) -> Option<String> {
        self.items.read(usize::try_from(i).ok().filter(|&n| n < self.items.len())?).ok()?.caption
    }
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// Opens a folder, zip, shards or Parquet of pictures.
///
/// Up to 50,000 pictures are all read here, so that broken ones, mixed sizes and wrong labels are known at once; of larger
/// sets 1,000 evenly spaced ones are, and the rest fails when it is met. With `skip_bad` all are read in either case.
///
/// # Errors
/// The first picture that cannot be used, unless `skip_bad`; a set in which none can.
pub(crate) fn open(path: &Path, options: &Open) -> Result<Opened, Error> {
    let items = open_items(path)?;
    let n = items.len();
    let readable = (0..n).find_map(|i| match items.read(i) {
        Ok(item) => Some(Ok(item)),
        Err(_) if options.skip_bad => None,
        Err(e) => Some(Err(e)),
    });
    let first = readable.ok_or_else(|| unusable(path, "holds no picture that can be read"))??;
    let channels = if first.picture.channels > 2 { 3 } else { 1 };
    let mut set = Pictures {
        shape: fit(&first.picture, channels, options.px).1,
        path: path.into(),
        px: options.px,
        first: first.name,
        classes: items.classes().to_vec(),
        factors: items.factor_names().to_vec(),
        held: None,
        fingerprint: String::new(),
        items,
    };
    let places: Vec<usize> = if options.skip_bad || n <= READ_WHOLE {
        (0..n).collect()
    } else {
        (0..SPACED).map(|k| (k * n).div_euclid(SPACED)).collect()
    };
    let mut read = pass(&set, &places);
    if channels == 1 && read.iter().any(|r| r.as_ref().is_ok_and(|l| l.coloured)) {
        set.shape[0] = 3;
        read = pass(&set, &places);
    }
    if set.classes.is_empty() {
        // Formats that carry numbers without names: the largest one tells how many there are.
        let largest = |labels: &mut dyn Iterator<Item = i64>| labels.max().unwrap_or(NO_LABEL);
        let top = if places.len() == n {
            largest(&mut read.iter().filter_map(|r| r.as_ref().ok()).map(|l| l.label))
        } else {
            (0..n).into_par_iter().filter_map(|i| set.items.read(i).ok()?.label).max().unwrap_or(NO_LABEL)
        };
        set.classes = (0..=top).map(|k| k.to_string()).collect();
    }
    let mut skipped: Vec<(u64, String)> = Vec::new();
    for (&i, r) in places.iter().zip(&mut read) {
        match r {
            Err(e) if options.skip_bad => skipped.push((i as u64, e.to_string())),
            Err(_) => {
                let bad = std::mem::replace(r, Err(unusable(path, "")));
                return bad.map(|_| Opened { data: Arc::new(set), skipped });
            }
            Ok(_) => {}
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if places.len() == n && held(n, set.per_item()) {
        let bytes = gather(read, &set);
        set.fingerprint = format!("{name} {:?} {}", set.shape, content_hash(&bytes.pixels));
        set.held = Some(bytes);
    } else {
        let names = (0..n).fold(blake3::Hasher::new(), |mut h, i| {
            h.update(set.items.name(i).as_bytes()).update(b"\n");
            h
        });
        set.fingerprint = format!("{name} {:?} {n} items {}", set.shape, &names.finalize().to_hex()[..16]);
    }
    let bad: Vec<u64> = skipped.iter().map(|(i, _)| *i).collect();
    let data: Arc<dyn Dataset> = Arc::new(set);
    let data = if bad.is_empty() { data } else { Arc::new(Subset::without(data, &bad)) };
    Ok(Opened { data, skipped })
}

fn held(n: usize, per_item: usize) -> bool {
    n <= READ_WHOLE && n.saturating_mul(per_item) <= HELD_BYTES
}

/// Reads the items at these places; pixels are kept only where the whole set will be.
fn pass(set: &Pictures, places: &[usize]) -> Vec<Result<Loaded, Error>> {
    let keep = held(set.items.len(), set.per_item());
    let one = |&i: &usize| set.load(i).map(|l| if keep { l } else { Loaded { pixels: Vec::new(), ..l } });
    places.par_iter().map(one).collect()
}

/// All items as bytes; those that are left out stay black and are never asked for.
fn gather(read: Vec<Result<Loaded, Error>>, set: &Pictures) -> Bytes {
    let (per, f) = (set.per_item(), set.factors.len());
    let mut bytes = Bytes {
        pixels: Vec::with_capacity(read.len() * per),
        shape: set.shape,
        white: 255,
        labels: Vec::with_capacity(read.len()),
        classes: set.classes.clone(),
        factors: Vec::with_capacity(read.len() * f),
        factor_names: set.factors.clone(),
        fingerprint: set.first.clone(),
    };
    for item in read {
        let item = item.unwrap_or_else(|_| Loaded {
            pixels: vec![0; per],
            label: NO_LABEL,
            factors: vec![0.0; f],
            coloured: false,
        });
        bytes.pixels.extend(item.pixels);
        bytes.labels.push(item.label);
        bytes.factors.extend(item.factors);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::open;
    use pentimento_io::{Array, Values, png_out};

    fn picture(folder: &Path, name: &str, [h, w, c]: [usize; 3], value: u8) {
        let array = Array::new(vec![h, w, c], Values::U8(vec![value; h * w * c]));
        png_out::save(&folder.join(name), &array, &[]).unwrap();
    }

    fn pets() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        for (class, value) in [("cats", 0), ("dogs", 255)] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            picture(&dir.path().join(class), "a.png", [2, 2, 3], value);
        }
        let name = dir.path().to_string_lossy().into_owned();
        (dir, name)
    }

    #[test]
    fn a_folder_opens_and_its_content_is_in_its_fingerprint() {
        let (dir, name) = pets();
        let set = open(&name, &Open::default()).unwrap().data;
        let mut x = vec![0.0; 12];
        assert_eq!((set.len(), set.shape(), set.classes()), (2, [3, 2, 2], &["cats".to_owned(), "dogs".into()][..]));
        assert_eq!(set.item(1, &mut x, &mut []).unwrap(), 1);
        assert!(x.iter().all(|v| (v - 1.0).abs() < 1e-6));
        assert!(set.item(2, &mut x, &mut []).is_err());
        picture(&dir.path().join("dogs"), "a.png", [2, 2, 3], 254);
        assert_ne!(open(&name, &Open::default()).unwrap().data.fingerprint(), set.fingerprint());
    }

    #[test]
    fn mixed_sizes_and_broken_pictures_are_refused_or_listed_when_the_set_is_opened() {
        let (dir, name) = pets();
        let said = |o: &Open| open(&name, o).err().map(|e| e.to_string()).unwrap_or_default();
        let (plain, at_2) = (Open::default(), Open { px: 2, ..Open::default() });
        picture(&dir.path().join("dogs"), "b.png", [2, 4, 3], 0);
        assert!(
            said(&plain).contains("b.png is 4x2 and ") && said(&plain).contains("a.png is 2x2; give data.px"),
            "{}",
            said(&plain)
        );
        assert_eq!(open(&name, &at_2).unwrap().data.len(), 3);

        std::fs::write(dir.path().join("cats/broken.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
        assert!(said(&at_2).contains("broken.png"), "{}", said(&at_2));
        let opened = open(&name, &Open { skip_bad: true, ..at_2 }).unwrap();
        assert_eq!((opened.data.len(), opened.skipped.len()), (3, 1));
        assert!(opened.skipped[0].1.contains("broken.png"), "{:?}", opened.skipped);
        let mut x = vec![0.0; 12];
        let labels: Vec<i64> = (0..3).map(|i| opened.data.item(i, &mut x, &mut []).unwrap()).collect();
        assert_eq!(labels, [0, 1, 1]);
        let opened = open(&name, &Open { skip_bad: true, ..plain }).unwrap();
        assert_eq!((opened.data.len(), opened.skipped.len()), (2, 2));
    }

    #[test]
    fn one_colour_picture_among_grey_ones_makes_the_set_coloured() {
        let dir = tempfile::tempdir().unwrap();
        picture(dir.path(), "a.png", [1, 1, 1], 51);
        let name = dir.path().to_string_lossy().into_owned();
        assert_eq!(open(&name, &Open::default()).unwrap().data.shape(), [1, 1, 1]);
        picture(dir.path(), "b.png", [1, 1, 3], 255);
        let set = open(&name, &Open::default()).unwrap().data;
        let mut x = [0.0; 3];
        assert_eq!((set.shape(), set.item(0, &mut x, &mut []).unwrap()), ([3, 1, 1], NO_LABEL));
        assert!(x.iter().all(|v| (v + 0.6).abs() < 1e-6), "{x:?}");
    }
}
