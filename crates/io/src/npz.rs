//! NumPy's `npz`: a zip of npy arrays, and the ADM layout of picture batches in it.
//!
//! # Source
//! `numpy.savez`; the batch layout is that of openai/guided-diffusion's `evaluations`: `arr_0` holds `[N, H, W, 3]`
//! bytes and `arr_1`, where it is there, `N` labels.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::limits::Limits;
use crate::scalar;
use crate::source::{STANDARD, Source};
use crate::zip_members::ZipMembers;
use crate::{Array, Error, Result, Values, npy};

/// An opened npz file: its names are known, its arrays are read when asked for.
#[derive(Clone, Debug)]
pub struct Npz {
    members: ZipMembers,
    limits: Limits,
    names: Vec<(String, usize)>,
}

impl Npz {
    /// Opens an npz file.
    ///
    /// # Errors
    /// When it cannot be opened or is no zip archive.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_source(&Source::open(path)?, STANDARD)
    }

    /// Opens an npz in a source.
    ///
    /// # Errors
    /// As [`Npz::open`].
    pub fn from_source(source: &Source, limits: &Limits) -> Result<Self> {
        let members = ZipMembers::open(source, limits)?;
        let mut names = Vec::new();
        for i in 0..members.len() {
            if let Some(name) = members.name(i)?
                && let Some(name) = name.strip_suffix(".npy")
            {
                names.push((name.to_owned(), i));
            }
        }
        if names.is_empty() {
            let found = format!("{} members, none of them an npy array", members.len());
            return Err(Error::bad(source.path(), "zip directory", found, "save arrays with numpy.savez"));
        }
        Ok(Self { members, limits: *limits, names })
    }

    /// Names of the arrays, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// Reads one array.
    ///
    /// # Errors
    /// When there is none of this name (the error lists those there are), or as [`npy::read`].
    pub fn array(&self, name: &str) -> Result<Array> {
        let Some((_, i)) = self.names.iter().find(|(n, _)| n == name) else {
            let there: Vec<&str> = self.names().take(8).collect();
            let found = format!("no array '{name}'; there are {}", there.join(", "));
            return Err(Error::bad(self.members.source().path(), "names", found, "check which file is meant"));
        };
        self.members.with(*i, &format!("{name}.npy"), |stream, path| npy::parse_stream(stream, path, &self.limits))
    }

    /// Reads every array, in the order of the file.
    ///
    /// # Errors
    /// As [`npy::read`].
    pub fn arrays(&self) -> Result<Vec<(String, Array)>> {
        self.names().map(|name| Ok((name.to_owned(), self.array(name)?))).collect()
    }

    /// The file that this was opened from.
    pub fn source(&self) -> &Source {
        self.members.source()
    }

    /// The pictures and labels of a batch in the ADM layout.
    ///
    /// # Shapes
    /// - returns: `[N, H, W, C]` bytes with 1, 3 or 4 channels, and `N` labels where `arr_1` is there
    ///
    /// # Errors
    /// When there is no `arr_0`, it is not a batch of pictures, or the labels are not `N` whole numbers.
    pub fn batch(&self) -> Result<(Array, Option<Vec<i64>>)> {
        let path = self.source().path();
        let images = self.array("arr_0")?;
        let good = matches!((images.shape(), images.values()), ([_, _, _, 1 | 3 | 4], Values::U8(_)));
        if !good {
            let found = format!("shape {:?}, expected [N, H, W, 3] bytes", images.shape());
            return Err(Error::bad(path, "array arr_0", found, "save a uint8 batch of pictures, channels last"));
        }
        if !self.has("arr_1") {
            return Ok((images, None));
        }
        let labels = self.array("arr_1")?;
        let n = images.shape()[0];
        match scalar::integers(labels.values()) {
            Some(numbers) if labels.shape() == [n] => Ok((images, Some(numbers))),
            _ => {
                let found = format!("shape {:?}, expected [{n}] whole numbers", labels.shape());
                Err(Error::bad(path, "array arr_1", found, "save one integer label a picture"))
            }
        }
    }
}

/// Writes arrays as npz, uncompressed as `numpy.savez` does; the same arrays give the same bytes.
///
/// # Errors
/// When the writer refuses.
pub fn write<'a>(to: impl Write + Seek, arrays: impl IntoIterator<Item = (&'a str, &'a Array)>) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(to);
    for (name, array) in arrays {
        // Sizes beyond 32 bits need the wider header from the start, since the member is written as it comes.
        let large = array.values().len() >= 1 << 28;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(large);
        zip.start_file(format!("{name}.npy"), options)?;
        npy::write(&mut zip, array)?;
    }
    zip.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn open(bytes: Vec<u8>) -> Result<Npz> {
        Npz::from_source(&Source::from_bytes("a.npz", bytes), &Limits::TIGHT)
    }

    fn npz(arrays: &[(&str, &Array)]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        write(&mut bytes, arrays.iter().copied()).unwrap();
        bytes.into_inner()
    }

    fn deflated(name: &str, contents: &[u8]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)).unwrap();
        zip.write_all(contents).unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn a_batch_in_the_adm_layout_comes_back() {
        let images = Array::new(vec![2, 1, 2, 3], Values::U8((0..12).collect()));
        let labels = Array::new(vec![2], Values::I64(vec![7, 3]));
        let back = open(npz(&[("arr_0", &images), ("arr_1", &labels)])).unwrap();
        assert_eq!(back.names().collect::<Vec<_>>(), ["arr_0", "arr_1"]);
        assert_eq!(back.batch().unwrap(), (images.clone(), Some(vec![7, 3])));
        assert_eq!(open(npz(&[("arr_0", &images)])).unwrap().batch().unwrap(), (images.clone(), None));

        let said = open(npz(&[("arr_0", &labels)])).unwrap().batch().unwrap_err().to_string();
        assert!(said.contains("array arr_0: shape [2], expected [N, H, W, 3] bytes"), "{said}");
        let one = Array::new(vec![1], Values::I64(vec![7]));
        let said = open(npz(&[("arr_0", &images), ("arr_1", &one)])).unwrap().batch().unwrap_err().to_string();
        assert!(said.contains("array arr_1: shape [1], expected [2] whole numbers"), "{said}");
        let said = open(npz(&[("mu", &one)])).unwrap().batch().unwrap_err().to_string();
        assert!(said.contains("no array 'arr_0'; there are mu"), "{said}");
    }

    #[test]
    fn deflated_members_are_read_and_bombs_are_stopped() {
        let mut npy = Vec::new();
        npy::write(&mut npy, &Array::new(vec![1000], Values::U8(vec![5; 1000]))).unwrap();
        let bytes = deflated("x.npy", &npy);
        assert!(bytes.len() < 600);
        assert_eq!(open(bytes).unwrap().array("x").unwrap().shape(), [1000]);

        let mut bomb = Vec::new();
        npy::write(&mut bomb, &Array::new(vec![4 << 20], Values::U8(vec![0; 4 << 20]))).unwrap();
        let said = open(deflated("x.npy", &bomb)).unwrap().array("x").unwrap_err();
        assert!(matches!(said, Error::TooLarge { asked: 4_194_304, .. }), "{said}");
        assert!(said.to_string().starts_with("a.npz!x.npy: "), "{said}");
    }

    #[test]
    fn other_zips_and_damage_are_named() {
        assert!(open(deflated("a.txt", b"hello")).unwrap_err().to_string().contains("none of them an npy array"));
        assert!(open(b"PK\x03\x04 not really".to_vec()).unwrap_err().to_string().contains("zip directory"));
        let array = Array::new(vec![64], Values::U8(vec![1; 64]));
        let mut bytes = npz(&[("x", &array)]);
        let data = bytes.len() - 120; // inside the values: the stored checksum no longer fits
        bytes[data] ^= 0xff;
        assert!(open(bytes).and_then(|n| n.array("x")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_written_is_read(arrays in prop::collection::vec(
            prop::collection::vec(any::<i32>(), 0..20).prop_map(|v| Array::new(vec![v.len()], Values::I32(v))), 1..5))
        {
            let names: Vec<String> = (0..arrays.len()).map(|i| format!("arr_{i}")).collect();
            let pairs: Vec<(&str, &Array)> = names.iter().map(String::as_str).zip(&arrays).collect();
            let back = open(npz(&pairs)).unwrap().arrays().unwrap();
            prop_assert_eq!(back, names.iter().cloned().zip(arrays.iter().cloned()).collect::<Vec<_>>());
        }
    }
}
