//! WebDataset shards: tar files whose members `key.png`, `key.cls`, `key.txt`, `key.json` make one sample.
//!
//! The headers are read once, when the shards are opened; after that every sample is read by position.
//!
//! # Source
//! webdataset's file format: consecutive members that agree up to the first dot of their base name form a sample, what
//! follows the dot names the field. Shards are named by brace patterns, `name-{000000..000123}.tar`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, EntryType, PaxExtensions};

use crate::items::{Item, Items, checked_label};
use crate::limits::{self, Limits};
use crate::picture::{self, Picture};
use crate::source::{STANDARD, Source, utf8};
use crate::{Error, Result};

const MAX_NAME: u64 = 1 << 16;
const MAX_SHARDS: usize = 1 << 20;

/// Bytes of a shard that hold one field of a sample.
#[derive(Clone, Copy, Debug)]
struct Part {
    at: u64,
    len: u64,
}

#[derive(Debug)]
struct Sample {
    shard: usize,
    key: String,
    /// Whether the names in the archive are UTF-8; `key` is an approximation where they are not.
    named: bool,
    image: Option<Part>,
    class: Option<Part>,
    text: Option<Part>,
    json: Option<Part>,
}

/// Opened shards: their samples are listed, pictures are read when asked for.
#[derive(Debug)]
pub struct Shards {
    sources: Vec<Source>,
    limits: Limits,
    samples: Vec<Sample>,
    factor_names: Vec<String>,
}

/// The files that a brace pattern names: `a-{00..02}.tar` is `a-00.tar`, `a-01.tar` and `a-02.tar`; `{x,y}` lists words.
///
/// # Errors
/// When a brace does not close, a range is no pair of numbers with the smaller first, or there are over a million files.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let bad = |found: String| {
        Err(Error::bad(Path::new(pattern), "pattern", found, "write for instance name-{000000..000123}.tar"))
    };
    let mut done = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((inside, after)) = after.split_once('}') else {
            return bad("a brace that does not close".into());
        };
        let words: Vec<String> = if let Some((from, to)) = inside.split_once("..") {
            let (Ok(first), Ok(last)) = (from.parse::<u64>(), to.parse::<u64>()) else {
                return bad(format!("{inside:?}, expected two numbers"));
            };
            if last < first || last - first >= MAX_SHARDS as u64 {
                return bad(format!("{inside:?}, expected the smaller number first and at most {MAX_SHARDS} files"));
            }
            (first..=last).map(|n| format!("{n:0width$}", width = from.len())).collect()
        } else {
            inside.split(',').map(String::from).collect()
        };
        if done.len().saturating_mul(words.len()) > MAX_SHARDS {
            return bad(format!("more than {MAX_SHARDS} files"));
        }
        done = done.iter().flat_map(|d| words.iter().map(move |w| format!("{d}{before}{w}"))).collect();
        rest = after;
    }
    Ok(done.into_iter().map(|d| PathBuf::from(d + rest)).collect())
}

impl Shards {
    /// Opens shards, in this order.
    ///
    /// # Errors
    /// When one cannot be opened, is compressed, cut short or malformed, or there is no sample with a picture.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let sources = paths.iter().map(|path| Source::open(path)).collect::<Result<_>>()?;
        Self::from_sources(sources, STANDARD)
    }

    /// Opens shards in sources.
    ///
    /// # Errors
    /// As [`Shards::open`].
    pub fn from_sources(sources: Vec<Source>, limits: &Limits) -> Result<Self> {
        let mut samples = Vec::new();
        for (shard, source) in sources.iter().enumerate() {
            list(source, shard, limits, &mut samples)?;
        }
        if samples.iter().all(|s| s.image.is_none()) {
            let path = sources.first().map_or(Path::new("shards"), |s| s.path());
            let found = format!("{} samples, none with a picture (.png, .jpg, .jpeg, .webp)", samples.len());
            return Err(Error::bad(path, "whole file", found, "name shards that hold pictures"));
        }
        let mut shards = Self { sources, limits: *limits, samples, factor_names: Vec::new() };
        // What is a factor is decided by the first sample: its numbers, in the order it writes them.
        if let Some(first) = shards.samples.iter().find(|s| s.json.is_some()) {
            let json = shards.json(first)?.unwrap_or_default();
            shards.factor_names =
                json.iter().filter(|(k, v)| v.is_number() && !is_label(k)).map(|(k, _)| k.clone()).collect();
        }
        Ok(shards)
    }

    fn part(&self, sample: &Sample, part: Part, field: &str) -> Result<(PathBuf, Vec<u8>)> {
        let source = &self.sources[sample.shard];
        let path = source.member_path(&format!("{}.{field}", sample.key));
        let len = limits::admit(&path, "header", part.len, self.limits.member_bytes)?;
        Ok((path, source.bytes(part.at, len, &format!("{}.{field}", sample.key))?))
    }

    fn json(&self, sample: &Sample) -> Result<Option<serde_json::Map<String, Value>>> {
        let Some(part) = sample.json else { return Ok(None) };
        let (path, bytes) = self.part(sample, part, "json")?;
        let object = serde_json::from_slice(&bytes)
            .map_err(|e| Error::bad(&path, "contents", format!("no JSON object ({e})"), "make the shard again"))?;
        Ok(Some(object))
    }

    fn class(&self, sample: &Sample) -> Result<Option<i64>> {
        let Some(part) = sample.class else { return Ok(None) };
        let (path, bytes) = self.part(sample, part, "cls")?;
        let text = utf8(&path, bytes)?;
        match text.trim().parse() {
            Ok(label) => Ok(Some(checked_label(label, &[], &path, || "contents".into())?)),
            Err(_) => {
                let shown: String = text.chars().take(24).collect();
                let found = format!("{shown:?}, expected a whole number");
                Err(Error::bad(&path, "contents", found, "make the shard again"))
            }
        }
    }
}

fn is_label(key: &str) -> bool {
    matches!(key, "label" | "cls" | "class")
}

/// Lists the samples of one shard. Names are handled here, entry by entry, because a library that joins a long name to
/// its file reads as many bytes for it as the header asks.
fn list(source: &Source, shard: usize, limits: &Limits, samples: &mut Vec<Sample>) -> Result<()> {
    let path = source.path();
    let damaged = "the shard is damaged or cut short: copy or download it again";
    if source.head(2)? == [0x1f, 0x8b] {
        let found = "a compressed shard, in which samples cannot be found by position";
        return Err(Error::bad(path, "byte 0", found, "decompress it with gunzip"));
    }
    let mut archive = Archive::new(source.cursor());
    let entries = archive.entries_with_seek().map_err(|e| Error::os(path, "read", e))?.raw(true);
    let first = samples.len();
    let mut long_name: Option<Vec<u8>> = None;
    let mut end = 0;
    for entry in entries {
        let entry = entry
            .map_err(|e| Error::bad(path, format!("byte {end}"), format!("no valid tar header ({e})"), damaged))?;
        let (at, len) = (entry.raw_file_position(), entry.size());
        let place = format!("byte {}", entry.raw_header_position());
        end = at.checked_add(len).filter(|&end| end <= source.len()).ok_or_else(|| {
            let found = format!("a member of {len} bytes, of which {} are there", source.len().saturating_sub(at));
            Error::bad(path, place.clone(), found, damaged)
        })?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let len = limits::admit(path, &place, len, MAX_NAME)?;
                let mut name = source.bytes(at, len, "long name")?;
                name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
                long_name = Some(name);
            }
            EntryType::XHeader => {
                let len = limits::admit(path, &place, len, MAX_NAME)?;
                let bytes = source.bytes(at, len, "extended header")?;
                let name = PaxExtensions::new(&bytes).flatten().find(|e| e.key_bytes() == b"path");
                long_name = name.map(|e| e.value_bytes().to_vec()).or(long_name);
            }
            EntryType::Regular | EntryType::Continuous => {
                let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                add(samples, first, shard, &name, Part { at, len })
                    .map_err(|found| Error::bad(path, place, found, "give every file of the shard its own name"))?;
            }
            _ => long_name = None,
        }
        if samples.len() > limits.items {
            let found = format!("more than {} samples", limits.items);
            return Err(Error::bad(path, "whole file", found, "split the data set"));
        }
    }
    if samples.len() == first {
        let found = format!("{} bytes without a file", source.len());
        return Err(Error::bad(path, "whole file", found, "this is no tar file, or an empty one: check the name"));
    }
    Ok(())
}

fn add(
    samples: &mut Vec<Sample>,
    first: usize,
    shard: usize,
    name: &[u8],
    part: Part,
) -> std::result::Result<(), String> {
    let shown = String::from_utf8_lossy(name);
    let base = shown.rfind('/').map_or(0, |slash| slash + 1);
    let Some(dot) = shown[base..].find('.').map(|dot| base + dot).filter(|&dot| dot > base) else {
        return Ok(());
    };
    let (key, field) = (&shown[..dot], &shown[dot + 1..]);
    let fresh = samples.len() == first || samples.last().is_none_or(|last| last.key != key);
    if fresh {
        let named = std::str::from_utf8(name).is_ok();
        samples.push(Sample { shard, key: key.to_owned(), named, image: None, class: None, text: None, json: None });
    }
    let Some(sample) = samples.last_mut() else { return Ok(()) };
    let slot = match field.rsplit('.').next().unwrap_or(field) {
        "cls" => &mut sample.class,
        "txt" => &mut sample.text,
        "json" => &mut sample.json,
        ending if picture::ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) => &mut sample.image,
        _ => return Ok(()),
    };
    match slot.replace(part) {
        None => Ok(()),
        Some(_) => Err(format!("a second file for the same field of sample {key:?}")),
    }
}

impl Items for Shards {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn name(&self, i: usize) -> String {
        self.samples[i].key.clone()
    }

    fn read(&self, i: usize) -> Result<Item> {
        let sample = &self.samples[i];
        let whole = self.sources[sample.shard].member_path(&sample.key);
        if !sample.named {
            let found = "a file name that is not UTF-8";
            return Err(Error::bad(&whole, "name", found, "make the shard again, or leave it out with --skip-bad"));
        }
        let Some(image) = sample.image else {
            let found = "a sample without a picture (.png, .jpg, .jpeg, .webp)";
            return Err(Error::bad(&whole, "files", found, "make the shard again, or leave it out with --skip-bad"));
        };
        let json = self.json(sample)?.unwrap_or_default();
        let factor = |name: &String| {
            json.get(name).and_then(Value::as_f64).ok_or_else(|| {
                let found = format!("no number {name:?}, which other samples have");
                Error::bad(&whole, "json", found, "make the shard again, or leave it out with --skip-bad")
            })
        };
        let factors = self.factor_names.iter().map(factor).collect::<Result<_>>()?;
        let in_json = json.iter().find(|(k, v)| is_label(k) && v.is_i64()).and_then(|(_, v)| v.as_i64());
        let in_json = in_json.map(|l| checked_label(l, &[], &whole, || "json".into())).transpose()?;
        let label = self.class(sample)?.or(in_json);
        let caption = match sample.text {
            Some(part) => {
                let (path, bytes) = self.part(sample, part, "txt")?;
                Some(utf8(&path, bytes)?)
            }
            None => ["caption", "text"].iter().find_map(|k| json.get(*k)?.as_str().map(String::from)),
        };
        let (path, bytes) = self.part(sample, image, "picture")?;
        let picture = Picture::decode(&path, &bytes, &self.limits)?;
        Ok(Item { name: sample.key.clone(), picture, label, factors, caption })
    }

    fn factor_names(&self) -> &[String] {
        &self.factor_names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn png(value: u8) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::GrayImage::from_raw(1, 1, vec![value]).unwrap().write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn open(shards: Vec<Vec<u8>>) -> Result<Shards> {
        let named = |(i, bytes)| Source::from_bytes(format!("s-{i}.tar"), bytes);
        Shards::from_sources(shards.into_iter().enumerate().map(named).collect(), &Limits::TIGHT)
    }

    #[test]
    fn braces_expand_with_their_zeros() {
        let names = |p: &str| expand(p).unwrap().iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("a-{008..011}.tar"), ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]);
        assert_eq!(names("{x,y}/{0..1}.tar"), ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]);
        assert_eq!(names("plain.tar"), ["plain.tar"]);
        for wrong in ["a-{0..", "a-{x..y}", "a-{3..1}", "a-{0..99999999999}", "{0..9999}{0..9999}"] {
            assert!(expand(wrong).unwrap_err().to_string().contains("write for instance name-{000000..000123}.tar"));
        }
    }

    #[test]
    fn members_are_grouped_by_key_across_shards() {
        let long = format!("{}/c.png", "d".repeat(180));
        let first = tar(&[
            ("x/a.png", &png(1)),
            ("x/a.cls", b"4\n"),
            ("x/a.txt", b"one"),
            ("x/b.seg.jpg", b"skipped by no one"),
            ("x/b.json", br#"{"label": 2, "size": 0.5, "caption": "two"}"#),
        ]);
        let shards =
            open(vec![first, tar(&[(&long, &png(3)), (&long.replace("png", "json"), br#"{"size": 2}"#)])]).unwrap();
        assert_eq!((shards.len(), shards.factor_names()), (3, &["size".to_owned()][..]));
        let said = shards.read(0).unwrap_err().to_string();
        assert!(said.contains("s-0.tar!x/a: json: no number \"size\", which other samples have"), "{said}");
        assert!(shards.read(1).unwrap_err().to_string().contains("unknown bytes, expected a PNG"));
        let item = shards.read(2).unwrap();
        assert_eq!((item.name, item.picture.pixels, item.factors), ("d".repeat(180) + "/c", vec![3], vec![2.0]));
    }

    #[test]
    fn labels_and_captions() {
        let shards = open(vec![tar(&[
            ("a.cls", b"4\n"),
            ("a.png", &png(1)),
            ("a.txt", b"one"),
            ("b.png", &png(2)),
            ("b.cls", b"four"),
            ("c.png", &png(3)),
            ("c.cls", b"-1"),
            ("d.cls", b"0"),
        ])])
        .unwrap();
        let item = shards.read(0).unwrap();
        assert_eq!((item.label, item.caption.as_deref()), (Some(4), Some("one")));
        assert!(shards.read(1).unwrap_err().to_string().contains("\"four\", expected a whole number"));
        assert!(shards.read(2).unwrap_err().to_string().contains("label -1, expected 0 or more"));
        assert!(shards.read(3).unwrap_err().to_string().contains("a sample without a picture"));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |bytes: Vec<u8>| open(vec![bytes]).unwrap_err().to_string();
        let good = tar(&[("a.png", &png(1)), ("b.png", &[7; 2000])]);
        assert!(said(good[..2000].to_vec()).contains("byte 1024: a member of 2000 bytes, of which 464 are there"));
        assert!(said(good[..1300].to_vec()).contains("no valid tar header"));
        assert!(said(vec![0; 1024]).contains("1024 bytes without a file"));
        assert!(said(vec![5; 1024]).contains("byte 0: no valid tar header"));
        assert!(said(vec![0x1f, 0x8b, 8, 0]).contains("a compressed shard"));
        assert!(said(tar(&[("a.txt", b"x")])).contains("none with a picture"));
        assert!(
            said(tar(&[("a.png", b"x"), ("a.jpg", b"y")])).contains("a second file for the same field of sample \"a\"")
        );
        assert!(open(vec![]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_written_is_read(labels in prop::collection::vec(0_i64..1000, 1..12)) {
            let mut members = Vec::new();
            for (i, label) in labels.iter().enumerate() {
                members.push((format!("{i:06}.png"), png(i as u8)));
                members.push((format!("{i:06}.cls"), label.to_string().into_bytes()));
            }
            let members: Vec<(&str, &[u8])> = members.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            let shards = open(vec![tar(&members)]).unwrap();
            prop_assert_eq!(shards.len(), labels.len());
            for (i, &label) in labels.iter().enumerate() {
                let item = shards.read(i).unwrap();
                prop_assert_eq!((item.label, item.picture.pixels[0]), (Some(label), i as u8));
            }
        }
    }
}
