//! Zip archives of pictures with a `dataset.json` of labels, as NVIDIA's EDM and StyleGAN read them.
//!
//! # Source
//! NVlabs/edm `training/dataset.py` and `dataset_tool.py`: members `00000/img00000000.png` sorted by name, and
//! `dataset.json` with `{"labels": [["00000/img00000000.png", 3], ...]}` or `"labels": null`; a label may also be a list
//! of numbers.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::items::{Item, Items, checked_label};
use crate::limits::Limits;
use crate::picture::{self, Picture};
use crate::source::{STANDARD, Source};
use crate::zip_members::ZipMembers;
use crate::{Error, Result};

struct Entry {
    member: usize,
    name: String,
    label: Option<i64>,
    factors: Vec<f64>,
}

/// An opened zip of pictures.
pub struct EdmZip {
    members: ZipMembers,
    limits: Limits,
    entries: Vec<Entry>,
    factor_names: Vec<String>,
}

enum Label {
    Class(i64),
    Vector(Vec<f64>),
}

impl EdmZip {
    /// Opens a zip of pictures; without `dataset.json` the pictures have no labels.
    ///
    /// # Errors
    /// When it is no zip archive, holds no picture, or `dataset.json` is malformed or lacks a picture.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_source(&Source::open(path)?, STANDARD)
    }

    /// Opens a zip in a source.
    ///
    /// # Errors
    /// As [`EdmZip::open`].
    pub fn from_source(source: &Source, limits: &Limits) -> Result<Self> {
        let members = ZipMembers::open(source, limits)?;
        let mut entries = Vec::new();
        let mut table = None;
        for member in 0..members.len() {
            match members.name(member)? {
                Some(name) if name == "dataset.json" => table = Some(member),
                Some(name) if picture::has_picture_ending(&name) => {
                    entries.push(Entry { member, name, label: None, factors: Vec::new() });
                }
                _ => {}
            }
        }
        if entries.is_empty() {
            let found = format!("{} members, none of them a picture", members.len());
            return Err(Error::bad(
                source.path(),
                "zip directory",
                found,
                "make the archive from PNG, JPEG or WebP files",
            ));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut zip = Self { members, limits: *limits, entries, factor_names: Vec::new() };
        if let Some(member) = table {
            let bytes = zip.members.bytes(member, "dataset.json", limits.table_bytes)?;
            let labels = labels(&source.member_path("dataset.json"), &bytes)?;
            zip.add_labels(&labels)?;
        }
        Ok(zip)
    }

    fn add_labels(&mut self, labels: &HashMap<String, Label>) -> Result<()> {
        if labels.is_empty() {
            return Ok(());
        }
        let path = self.members.source().member_path("dataset.json");
        let mut width = None;
        for entry in &mut self.entries {
            let bad = |found: String| {
                Error::bad(
                    &path,
                    format!("label of {}", entry.name),
                    found,
                    "make the archive again with dataset_tool.py",
                )
            };
            match labels.get(&entry.name) {
                None => return Err(bad("none is given".into())),
                Some(Label::Class(label)) => entry.label = Some(*label),
                Some(Label::Vector(values)) => entry.factors.clone_from(values),
            }
            let n = entry.factors.len();
            let first = *width.get_or_insert(n);
            if n != first {
                return Err(bad(format!("{n} numbers, expected {first} as for the first picture")));
            }
        }
        self.factor_names = (0..width.unwrap_or(0)).map(|k| format!("label_{k}")).collect();
        Ok(())
    }
}

fn labels(path: &Path, bytes: &[u8]) -> Result<HashMap<String, Label>> {
    let bad = |place: String, found: String| {
        let advice = "write {\"labels\": [[\"00000/img00000000.png\", 3], ...]} or {\"labels\": null}";
        Error::bad(path, place, found, advice)
    };
    let json: Value =
        serde_json::from_slice(bytes).map_err(|e| bad("contents".into(), format!("no valid JSON ({e})")))?;
    let list = match &json["labels"] {
        Value::Null => return Ok(HashMap::new()),
        Value::Array(list) => list,
        _ => return Err(bad("labels".into(), "neither a list nor null".into())),
    };
    let mut labels = HashMap::new();
    for (i, pair) in list.iter().enumerate() {
        let name = pair[0].as_str().map(|name| name.replace('\\', "/"));
        let label = match &pair[1] {
            Value::Number(n) => n.as_i64().map(Label::Class),
            Value::Array(values) => values.iter().map(Value::as_f64).collect::<Option<Vec<_>>>().map(Label::Vector),
            _ => None,
        };
        match (name, label) {
            (Some(name), Some(label)) => labels.insert(name, label),
            _ => return Err(bad(format!("labels, entry {i}"), "no pair of a name and a whole number".into())),
        };
    }
    Ok(labels)
}

impl Items for EdmZip {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, i: usize) -> String {
        self.entries[i].name.clone()
    }

    fn read(&self, i: usize) -> Result<Item> {
        let entry = &self.entries[i];
        let path = self.members.source().member_path(&entry.name);
        let label = entry.label.map(|l| checked_label(l, &[], &path, || "label".into())).transpose()?;
        let bytes = self.members.bytes(entry.member, &entry.name, self.limits.member_bytes)?;
        let picture = Picture::decode(&path, &bytes, &self.limits)?;
        Ok(Item { name: entry.name.clone(), picture, label, factors: entry.factors.clone(), caption: None })
    }

    fn factor_names(&self) -> &[String] {
        &self.factor_names
    }
}

impl std::fmt::Debug for EdmZip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdmZip").field("members", &self.members).field("items", &self.entries.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};
    use zip::write::SimpleFileOptions;

    fn png(value: u8) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::GrayImage::from_raw(1, 1, vec![value]).unwrap().write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            let method =
                if name.ends_with("json") { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn open(bytes: Vec<u8>) -> Result<EdmZip> {
        EdmZip::from_source(&Source::from_bytes("a.zip", bytes), &Limits::TIGHT)
    }

    #[test]
    fn pictures_are_sorted_and_labelled_from_several_threads() {
        let json = br#"{"labels": [["00000/img1.png", 4], ["00000\\img0.png", 2]]}"#;
        let zip = open(archive(&[("00000/img1.png", &png(11)), ("dataset.json", json), ("00000/img0.png", &png(10))]))
            .unwrap();
        let read = |i: usize| zip.read(i).map(|item| (item.name, item.label, item.picture.pixels[0])).unwrap();
        let want = [("00000/img0.png".to_owned(), Some(2), 10), ("00000/img1.png".to_owned(), Some(4), 11)];
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|t| scope.spawn(move || (0..50).map(|k| read((t + k) % 2)).collect::<Vec<_>>())).collect();
            for (t, thread) in threads.into_iter().enumerate() {
                thread.join().unwrap().into_iter().enumerate().for_each(|(k, got)| assert_eq!(got, want[(t + k) % 2]));
            }
        });
    }

    #[test]
    fn null_labels_and_vectors() {
        let zip = open(archive(&[("a.png", &png(1)), ("dataset.json", br#"{"labels": null}"#)])).unwrap();
        assert_eq!(zip.read(0).unwrap().label, None);
        let zip =
            open(archive(&[("a.png", &png(1)), ("dataset.json", br#"{"labels": [["a.png", [0.5, 1]]]}"#)])).unwrap();
        assert_eq!((zip.read(0).unwrap().factors, zip.factor_names().len()), (vec![0.5, 1.0], 2));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let with = |json: &[u8]| archive(&[("a.png", &png(1)), ("b.png", &png(2)), ("dataset.json", json)]);
        let said = |json: &[u8]| open(with(json)).unwrap_err().to_string();
        assert_eq!(
            said(br#"{"labels": [["a.png", 1]]}"#),
            "a.zip!dataset.json: label of b.png: none is given; make the archive again with dataset_tool.py"
        );
        assert!(said(br#"{"labels": [["a.png", [1]], ["b.png", [1, 2]]]}"#).contains("2 numbers, expected 1"));
        assert!(said(br#"{"labels": [["a.png"]]}"#).contains("labels, entry 0: no pair"));
        assert!(said(br#"{"labels": 3}"#).contains("neither a list nor null"));
        assert!(said(b"[").contains("no valid JSON"));
        assert!(open(archive(&[("x.txt", b"")])).unwrap_err().to_string().contains("none of them a picture"));
        let negative = open(with(br#"{"labels": [["a.png", -1], ["b.png", 0]]}"#)).unwrap();
        assert!(negative.read(0).unwrap_err().to_string().contains("label -1"));
        let broken = open(archive(&[("a.png", &png(1)[..20]), ("b.png", &png(2))])).unwrap();
        assert!(broken.read(0).unwrap_err().to_string().starts_with("a.zip!a.png: "));
        assert!(broken.read(1).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_written_is_read(labels in prop::collection::vec(0_i64..1000, 1..12)) {
            let names: Vec<String> = (0..labels.len()).map(|i| format!("00000/img{i:08}.png")).collect();
            let json = serde_json::json!({"labels": names.iter().zip(&labels).collect::<Vec<_>>()}).to_string();
            let pictures: Vec<Vec<u8>> = (0..labels.len()).map(|i| png(i as u8)).collect();
            let mut members: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(pictures.iter().map(Vec::as_slice)).collect();
            members.push(("dataset.json", json.as_bytes()));
            let zip = open(archive(&members)).unwrap();
            for (i, &label) in labels.iter().enumerate() {
                let item = zip.read(i).unwrap();
                prop_assert_eq!((item.label, item.picture.pixels[0]), (Some(label), i as u8));
            }
        }
    }
}
