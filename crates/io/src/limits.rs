//! The one home of size limits: what a reader may allocate on the word of a file that nobody has checked yet.
//!
//! Two rules keep memory bounded. A *declared* size beyond its limit is refused before anything is allocated
//! ([`admit`]). A declared size within its limit still only buys memory as its bytes really arrive
//! ([`read_up_to`]), so that a header of 20 bytes cannot reserve gigabytes, and a compressed stream that goes on
//! beyond what it declared is stopped there.

use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

const MIB: u64 = 1 << 20;

/// How much one reader may allocate, each in bytes unless the name says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One array of an IDX, npy, npz or CIFAR file, decompressed.
    pub array_bytes: u64,
    /// One encoded picture, caption or label inside a folder, archive or table, decompressed.
    pub member_bytes: u64,
    /// One decoded picture: width x height x channels x bytes a channel.
    pub picture_bytes: u64,
    /// The longer side of a picture in pixels.
    pub picture_side: u32,
    /// One table of metadata: `metadata.csv`, `metadata.jsonl`, `dataset.json`.
    pub table_bytes: u64,
    /// The number of items (pictures, rows, samples) of one data set.
    pub items: usize,
}

impl Limits {
    /// What the program uses: one array of 8 GiB, pictures of 16,384 pixels a side and 512 MiB.
    pub const STANDARD: Self = Self {
        array_bytes: 8192 * MIB,
        member_bytes: 256 * MIB,
        picture_bytes: 512 * MIB,
        picture_side: 16_384,
        table_bytes: 512 * MIB,
        items: 1 << 30,
    };

    /// What tests and fuzzers use: nothing beyond one MiB.
    pub const TIGHT: Self = Self {
        array_bytes: MIB,
        member_bytes: MIB >> 2,
        picture_bytes: MIB >> 2,
        picture_side: 512,
        table_bytes: MIB >> 2,
        items: 4096,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// The declared size as a length in memory, or the refusal that names the limit.
///
/// # Errors
/// [`Error::TooLarge`] when `asked` is more than `limit` or than this machine can address.
pub fn admit(path: &Path, place: &str, asked: u64, limit: u64) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(len) if asked <= limit => Ok(len),
        _ => Err(Error::TooLarge {
            path: path.to_owned(),
            place: place.to_owned(),
            asked,
            limit,
            advice: "if the file is meant to be that large, split it into smaller files".to_owned(),
        }),
    }
}

/// Bytes of an array of this shape and element size; `None` when it does not fit in 64 bits.
pub fn array_bytes(shape: &[usize], item: usize) -> Option<u64> {
    let item = u64::try_from(item).ok()?;
    shape.iter().try_fold(item, |n, &side| n.checked_mul(u64::try_from(side).ok()?))
}

/// Reads up to `len` bytes; fewer when the stream ends before. Memory grows with what arrives, never to more than
/// twice that (and never beyond `len`).
///
/// # Errors
/// What the stream itself reports, for instance a broken compressed block.
pub fn read_up_to(mut from: impl Read, len: usize) -> io::Result<Vec<u8>> {
    const FIRST: usize = 1 << 16;
    let mut bytes = Vec::new();
    let mut filled = 0;
    while filled < len {
        if filled == bytes.len() {
            let target = len.min(bytes.len().saturating_mul(2).max(FIRST));
            bytes.reserve_exact(target - filled);
            bytes.resize(target, 0);
        }
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_at_the_limit_passes_and_one_more_is_refused_with_both_numbers() {
        let path = Path::new("a.npy");
        assert_eq!(admit(path, "header", 100, 100).unwrap(), 100);
        let said = admit(path, "header", 101, 100).unwrap_err().to_string();
        assert_eq!(
            said,
            "a.npy: header: 101 bytes are declared, more than the limit of 100; \
             if the file is meant to be that large, split it into smaller files"
        );
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        assert_eq!(array_bytes(&[3, 4], 8), Some(96));
        assert_eq!(array_bytes(&[], 8), Some(8));
        assert_eq!(array_bytes(&[usize::MAX, 2], 1), None);
        assert_eq!(array_bytes(&[usize::MAX, 0], 8), None);
    }

    #[test]
    fn memory_follows_the_bytes_that_arrive() {
        let short = read_up_to(&[7_u8; 10][..], 1 << 40).unwrap();
        assert_eq!(short, [7; 10]);
        assert!(short.capacity() <= 1 << 16);
        assert_eq!(read_up_to(io::repeat(1), 200_000).unwrap().len(), 200_000);
        assert!(read_up_to(io::repeat(1), 0).unwrap().is_empty());
    }
}
