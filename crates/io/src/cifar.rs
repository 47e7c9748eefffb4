//! CIFAR-10 binary batches, plain or gzip: records of one label byte and 3 x 32 x 32 picture bytes.
//!
//! # Source
//! "Binary version" on <https://www.cs.toronto.edu/~kriz/cifar.html>: 1 label byte 0-9, then 1,024 red, 1,024 green and
//! 1,024 blue bytes, each row-major.

use std::path::{Path, PathBuf};

use crate::limits::Limits;
use crate::source::{STANDARD, Source, utf8};
use crate::{Array, Error, Result, Values};

/// Bytes of one record.
pub const RECORD: usize = 1 + 3 * 32 * 32;
/// Number of classes.
pub const CLASSES: usize = 10;
/// Names of the classes, by label.
pub const NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Pictures and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Cifar {
    /// `[N, 3, 32, 32]` bytes.
    pub images: Array,
    /// `N` labels, 0 to 9.
    pub labels: Vec<i64>,
}

/// Which of the two halves of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `data_batch_1` to `data_batch_5`.
    Train,
    /// `test_batch`.
    Test,
}

/// Reads one batch file.
///
/// # Errors
/// When it cannot be opened, is not a whole number of records, or a label is not 0 to 9.
pub fn read(path: &Path) -> Result<Cifar> {
    parse(&Source::open(path)?, STANDARD)
}

/// The batch files of a split in a folder, in order; a part of them is enough.
///
/// # Errors
/// When the folder cannot be read or holds none.
pub fn files(folder: &Path, split: Split) -> Result<Vec<PathBuf>> {
    let start = match split {
        Split::Train => "data_batch_",
        Split::Test => "test_batch",
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::os(folder, "read", e))? {
        let path = entry.map_err(|e| Error::os(folder, "read", e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(start) && (name.ends_with(".bin") || name.ends_with(".bin.gz")) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        let missing = format!("no file {start}*.bin or {start}*.bin.gz");
        return Err(Error::bad(folder, "folder", missing, "unpack cifar-10-binary.tar.gz there, or name its folder"));
    }
    Ok(found)
}

/// Reads several batch files as one set.
///
/// # Errors
/// As [`read`].
pub fn read_all(paths: &[PathBuf]) -> Result<Cifar> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let mut part = read(path)?;
        labels.append(&mut part.labels);
        if let Values::U8(mut bytes) = part.images.into_values() {
            pixels.append(&mut bytes);
        }
    }
    Ok(Cifar { images: Array::new(vec![labels.len(), 3, 32, 32], Values::U8(pixels)), labels })
}

/// The class names of a folder's `batches.meta.txt`, or the usual ones when there is none.
///
/// # Errors
/// When the file is there but does not hold ten lines of UTF-8.
pub fn class_names(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("batches.meta.txt");
    if !path.is_file() {
        return Ok(NAMES.map(String::from).to_vec());
    }
    let text = utf8(&path, Source::open(&path)?.whole(1 << 16)?)?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() != CLASSES {
        let found = format!("{} names, expected {CLASSES}", names.len());
        return Err(Error::bad(&path, "whole file", found, "write one class name a line, or remove the file"));
    }
    Ok(names)
}

/// Reads a batch from a source.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source, limits: &Limits) -> Result<Cifar> {
    let path = source.path();
    let bytes = source.stream()?.rest(limits.array_bytes)?;
    let (records, rest) = bytes.as_chunks::<RECORD>();
    if records.is_empty() || !rest.is_empty() {
        let found = format!("{} bytes, expected a multiple of {RECORD}", bytes.len());
        let advice = if !bytes.is_empty() && bytes.len().is_multiple_of(RECORD + 1) {
            "this looks like CIFAR-100, whose records have two labels: take CIFAR-10's binary version"
        } else {
            "the file is cut short or not CIFAR-10's binary version: copy or download it again"
        };
        return Err(Error::bad(path, "whole file", found, advice));
    }
    let mut pixels = Vec::with_capacity(records.len() * (RECORD - 1));
    let mut labels = Vec::with_capacity(records.len());
    for (i, record) in records.iter().enumerate() {
        if usize::from(record[0]) >= CLASSES {
            let place = format!("record {i} (byte {})", i * RECORD);
            let found = format!("label {}, expected 0 to {}", record[0], CLASSES - 1);
            return Err(Error::bad(path, place, found, "the file is damaged or not CIFAR-10's binary version"));
        }
        labels.push(i64::from(record[0]));
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(Cifar { images: Array::new(vec![labels.len(), 3, 32, 32], Values::U8(pixels)), labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(label: u8, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; RECORD];
        bytes[0] = label;
        bytes
    }

    fn parse_bytes(bytes: Vec<u8>) -> Result<Cifar> {
        parse(&Source::from_bytes("b.bin", bytes), &Limits::TIGHT)
    }

    #[test]
    fn labels_and_planes_come_apart() {
        let mut bytes = [record(3, 10), record(9, 20)].concat();
        bytes[1] = 1; // red of the first pixel
        bytes[1 + 1024] = 2; // green
        let cifar = parse_bytes(bytes).unwrap();
        assert_eq!(cifar.labels, [3, 9]);
        assert_eq!(cifar.images.shape(), [2, 3, 32, 32]);
        let Values::U8(pixels) = cifar.images.values() else { panic!("bytes") };
        assert_eq!((pixels[0], pixels[1], pixels[1024], pixels[3072]), (1, 10, 2, 20));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |bytes: Vec<u8>| parse_bytes(bytes).unwrap_err().to_string();
        assert_eq!(
            said([record(3, 0), record(10, 0)].concat()),
            "b.bin: record 1 (byte 3073): label 10, expected 0 to 9; \
             the file is damaged or not CIFAR-10's binary version"
        );
        assert!(said(vec![0; RECORD - 1]).contains("3072 bytes, expected a multiple of 3073; the file is cut short"));
        assert!(said(vec![0; 2 * (RECORD + 1)]).contains("CIFAR-100"));
        assert!(said(vec![]).contains("0 bytes"));
        assert!(said(vec![0; 2 << 20]).contains("more than the limit"));
    }

    #[test]
    fn a_folder_gives_its_batches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let said = files(folder.path(), Split::Test).unwrap_err().to_string();
        assert!(said.contains("no file test_batch*.bin"), "{said}");
        for (name, label) in [("data_batch_2.bin", 2), ("data_batch_1.bin", 1), ("test_batch.bin", 5)] {
            std::fs::write(folder.path().join(name), record(label, 0)).unwrap();
        }
        let train = read_all(&files(folder.path(), Split::Train).unwrap()).unwrap();
        assert_eq!((train.labels, train.images.shape()), (vec![1, 2], &[2, 3, 32, 32][..]));
        assert_eq!(class_names(folder.path()).unwrap()[3], "cat");
        std::fs::write(folder.path().join("batches.meta.txt"), "a\nb\n").unwrap();
        assert!(class_names(folder.path()).unwrap_err().to_string().contains("2 names, expected 10"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_was_written_is_read(items in prop::collection::vec((0_u8..10, any::<u8>()), 1..6)) {
            let bytes: Vec<u8> = items.iter().flat_map(|&(label, fill)| record(label, fill)).collect();
            let cifar = parse_bytes(bytes).unwrap();
            prop_assert_eq!(cifar.labels, items.iter().map(|&(l, _)| i64::from(l)).collect::<Vec<_>>());
            let pixels: Vec<u8> = items.iter().flat_map(|&(_, fill)| vec![fill; RECORD - 1]).collect();
            prop_assert_eq!(cifar.images.into_values(), Values::U8(pixels));
        }
    }
}
