//! IDX, the format of MNIST and its relatives, plain or gzip.
//!
//! Two zero bytes, a type code, the number of axes, one big-endian 32-bit size an axis, then the values, big-endian
//! and row-major.
//!
//! # Source
//! "The IDX file format" on Yann LeCun's MNIST page (<http://yann.lecun.com/exdb/mnist/>).

use std::path::{Path, PathBuf};

use crate::limits::{self, Limits};
use crate::scalar::{self, Endian, Scalar};
use crate::source::{STANDARD, Source};
use crate::{Array, Error, Result};

const MAX_RANK: u8 = 8;

/// Reads an IDX file.
///
/// # Errors
/// When it cannot be opened, is cut short, has another magic number, or holds more or less than its header declares.
pub fn read(path: &Path) -> Result<Array> {
    parse(&Source::open(path)?, STANDARD)
}

/// Reads the pictures and labels of one split, for instance `train-images-idx3-ubyte.gz` and its labels.
///
/// # Shapes
/// - returns: `[N, H, W]` or `[N, H, W, C]` bytes, and `N` labels
///
/// # Errors
/// As [`read`]; also when the counts differ, or the ranks are not those of pictures and labels.
pub fn read_pair(images: &Path, labels: &Path) -> Result<(Array, Vec<i64>)> {
    let pictures = read(images)?;
    if !matches!(pictures.shape().len(), 3 | 4) {
        let found = format!("shape {:?}, expected [N, H, W] or [N, H, W, C]", pictures.shape());
        return Err(Error::bad(images, "header", found, "name the file of pictures (idx3 or idx4)"));
    }
    let marks = read(labels)?;
    let Some(numbers) = scalar::integers(marks.values()).filter(|_| marks.shape().len() == 1) else {
        let found = format!("shape {:?}, expected [N] whole numbers", marks.shape());
        return Err(Error::bad(labels, "header", found, "name the file of labels (idx1)"));
    };
    if numbers.len() != pictures.shape()[0] {
        let found =
            format!("{} labels for the {} pictures of {}", numbers.len(), pictures.shape()[0], images.display());
        return Err(Error::bad(labels, "header", found, "take pictures and labels of the same split"));
    }
    Ok((pictures, numbers))
}

/// The file of labels that belongs to a file of pictures by MNIST's naming, if it is there.
pub fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let (split, rest) = name.split_once("images")?;
    let ending = if rest.ends_with(".gz") { ".gz" } else { "" };
    let other = if ending.is_empty() { ".gz" } else { "" };
    let mark = if rest.starts_with("-idx") { '-' } else { '.' };
    [ending, other]
        .iter()
        .map(|end| images.with_file_name(format!("{split}labels{mark}idx1-ubyte{end}")))
        .find(|p| p.is_file())
}

/// Reads IDX from a source.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source, limits: &Limits) -> Result<Array> {
    let path = source.path();
    let mut stream = source.stream()?;
    let magic = stream.exactly(4, "the magic number", 4)?;
    let scalar = match (magic[0], magic[1], magic[2]) {
        (0, 0, 0x08) => Scalar::U8,
        (0, 0, 0x09) => Scalar::I8,
        (0, 0, 0x0b) => Scalar::I16,
        (0, 0, 0x0c) => Scalar::I32,
        (0, 0, 0x0d) => Scalar::F32,
        (0, 0, 0x0e) => Scalar::F64,
        _ => {
            let found = format!(
                "magic number 0x{:02x}{:02x}{:02x}{:02x}, expected 0x0000 and a type 08, 09, 0b, 0c, 0d or 0e",
                magic[0], magic[1], magic[2], magic[3]
            );
            return Err(Error::bad(path, "byte 0", found, "this is not an IDX file: check the name"));
        }
    };
    let rank = magic[3];
    if rank == 0 || rank > MAX_RANK {
        let found = format!("{rank} axes, expected 1 to {MAX_RANK}");
        return Err(Error::bad(path, "byte 3", found, "the header is damaged: copy or download the file again"));
    }
    let sizes = stream.exactly(4 * u64::from(rank), "the sizes of the axes", 64)?;
    let shape: Vec<usize> = sizes.as_chunks::<4>().0.iter().map(|&b| u32::from_be_bytes(b) as usize).collect();
    let bytes = limits::array_bytes(&shape, scalar.size()).unwrap_or(u64::MAX);
    let data = stream.exactly(bytes, &format!("an array of shape {shape:?}"), limits.array_bytes)?;
    stream.end(&format!("the array of shape {shape:?}"))?;
    let values = scalar.values(data, Endian::Big).map_err(|i| {
        Error::bad(path, format!("value {i}"), "a number beyond the signed 64-bit range", "store it as a signed type")
    })?;
    Ok(Array::new(shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Values;
    use proptest::prelude::*;

    fn parse_bytes(bytes: &[u8]) -> Result<Array> {
        parse(&Source::from_bytes("a.idx", bytes), &Limits::TIGHT)
    }

    #[test]
    fn bytes_and_shorts_of_any_rank() {
        let array = parse_bytes(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(array, Array::new(vec![2, 3], Values::U8(vec![1, 2, 3, 4, 5, 6])));
        let array = parse_bytes(&[0, 0, 0x0b, 1, 0, 0, 0, 2, 0xff, 0xfe, 1, 2]).unwrap();
        assert_eq!(array, Array::new(vec![2], Values::I16(vec![-2, 258])));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |bytes: &[u8]| parse_bytes(bytes).unwrap_err().to_string();
        assert_eq!(
            said(&[0, 0, 7, 1, 0, 0, 0, 1, 9]),
            "a.idx: byte 0: magic number 0x00000701, expected 0x0000 and a type 08, 09, 0b, 0c, 0d or 0e; \
             this is not an IDX file: check the name"
        );
        assert_eq!(
            said(&[0, 0, 8, 1, 0, 0, 0, 4, 9]),
            "a.idx: byte 8: 1 bytes left, 4 expected for an array of shape [4]; \
             the file is cut short: copy or download it again"
        );
        assert!(said(&[0, 0, 8, 1, 0, 0, 0, 1, 9, 9]).contains("byte 9: bytes follow after the array of shape [1]"));
        assert!(said(&[0, 0, 8, 0]).contains("0 axes"));
        assert!(said(&[0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255]).contains("more than the limit"));
        assert!(said(&[0, 0]).contains("2 bytes left, 4 expected for the magic number"));
        assert!(said(&[]).contains("0 bytes left"));
    }

    #[test]
    fn labels_are_found_by_name_and_counts_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("train-images-idx3-ubyte");
        let labels = folder.path().join("train-labels-idx1-ubyte");
        std::fs::write(&images, [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 8]).unwrap();
        assert_eq!(labels_beside(&images), None);
        std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 2, 3, 4]).unwrap();
        assert_eq!(labels_beside(&images), Some(labels.clone()));
        let (array, numbers) = read_pair(&images, &labels).unwrap();
        assert_eq!((array.shape(), numbers), (&[2, 1, 1][..], vec![3, 4]));
        std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 1, 3]).unwrap();
        let said = read_pair(&images, &labels).unwrap_err().to_string();
        assert!(said.contains("1 labels for the 2 pictures of"), "{said}");
        assert!(read_pair(&labels, &labels).is_err());
        assert!(read_pair(&images, &images).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(shape in prop::collection::vec(0_usize..5, 1..5), seed: u8) {
            let n: usize = shape.iter().product();
            let values: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let mut bytes = vec![0, 0, 8, shape.len() as u8];
            shape.iter().for_each(|&s| bytes.extend((s as u32).to_be_bytes()));
            bytes.extend(&values);
            prop_assert_eq!(parse_bytes(&bytes).unwrap(), Array::new(shape, Values::U8(values)));
        }
    }
}
