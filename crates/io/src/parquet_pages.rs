//! A look at a Parquet file's metadata and at the page headers of a column, before a library decodes them.
//!
//! The decoder allocates what a page header declares: up to 2 GiB of decompressed bytes, and a dictionary of up to 2^31
//! entries; its gzip codec even ignores what is declared; its walk over metadata it does not know has no bound on its time.
//! This walk refuses such files first. It knows just enough of
//! Thrift's compact protocol to read four numbers and skip the rest.
//!
//! # Source
//! apache/parquet-format `parquet.thrift` (`PageHeader`, `DataPageHeader`, `DictionaryPageHeader`, `DataPageHeaderV2`)
//! and apache/thrift `doc/specs/thrift-compact-protocol.md`.

use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;

use crate::limits::{self, Limits};
use crate::source::Source;
use crate::{Error, Result};

const MAX_HEADER: u64 = 1 << 20;
const MAX_DEPTH: usize = 16;
const DICTIONARY_PAGE: i64 = 2;
/// `PLAIN_DICTIONARY` and `RLE_DICTIONARY`.
const DICTIONARY_CODED: [i64; 2] = [2, 8];
/// `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY`: the decoder allocates what the coded data declare, without a bound.
const DELTA_BYTES: [i64; 2] = [6, 7];

/// A column chunk as the file's metadata describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) rows: u64,
    pub(crate) gzip: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Header {
    uncompressed: i64,
    compressed: i64,
    values: i64,
    dictionary: bool,
    kind: i64,
    encoding: i64,
}

/// Whether metadata are one whole Thrift struct in which every item of every list takes a byte at least: then what a reader
/// does with them is bounded by their length.
pub(crate) fn is_bounded(metadata: &[u8]) -> bool {
    Thrift { from: metadata, read: 0 }.skip(12, MAX_DEPTH).is_some()
}

/// Checks every page header of a column chunk; `place` names the column in errors.
pub(crate) fn check(source: &Source, chunk: Chunk, place: &str, limits: &Limits) -> Result<()> {
    let path = source.path();
    let bad = |at: u64, found: String| {
        let advice = "the file is damaged: copy or download it again";
        Err(Error::bad(path, format!("{place}, page at byte {at}"), found, advice))
    };
    let end = match chunk.start.checked_add(chunk.len) {
        Some(end) if end <= source.len() => end,
        _ => return bad(chunk.start, format!("{} bytes of pages, but the file has {}", chunk.len, source.len())),
    };
    let mut at = chunk.start;
    let mut dictionary = false;
    while at < end {
        let mut cursor = source.cursor();
        cursor.seek(SeekFrom::Start(at)).map_err(|e| Error::os(path, "read", e))?;
        let mut thrift = Thrift { from: BufReader::with_capacity(512, cursor.take(MAX_HEADER.min(end - at))), read: 0 };
        let Some(header) = thrift.page_header() else {
            return bad(at, "no valid page header".into());
        };
        let data = at + thrift.read;
        let compressed = u64::try_from(header.compressed).unwrap_or(u64::MAX);
        let uncompressed = u64::try_from(header.uncompressed).unwrap_or(u64::MAX);
        let values = u64::try_from(header.values).unwrap_or(u64::MAX);
        if compressed > end - data {
            return bad(at, format!("a page of {} bytes, of which {} are there", header.compressed, end - data));
        }
        limits::admit(path, &format!("{place}, page at byte {at}"), uncompressed, limits.member_bytes)?;
        // A dictionary entry takes at least four bytes; a data page holds at most the rows of its group.
        let most = if header.dictionary { uncompressed >> 2 } else { chunk.rows };
        if values > most {
            return bad(at, format!("{} values, expected at most {most}", header.values));
        }
        if DELTA_BYTES.contains(&header.encoding) {
            let advice = "write the file with plain or dictionary encoding, as PyArrow does unless told otherwise";
            let place = format!("{place}, page at byte {at}");
            return Err(Error::bad(path, place, "delta-coded byte strings, which are not read", advice));
        }
        // The decoder takes the page type at its word and panics when the dictionary that a page needs never came.
        dictionary |= header.dictionary && header.kind == DICTIONARY_PAGE;
        if !header.dictionary && DICTIONARY_CODED.contains(&header.encoding) && !dictionary {
            return bad(at, "values coded by a dictionary, and no dictionary before them".into());
        }
        if chunk.gzip {
            check_gzip(source, data, compressed, uncompressed).or_else(|found| bad(at, found))?;
        }
        at = data + compressed;
    }
    Ok(())
}

/// Decompresses a page into nothing, to see that it is as long as declared and not a bomb.
fn check_gzip(source: &Source, at: u64, compressed: u64, uncompressed: u64) -> std::result::Result<(), String> {
    let mut cursor = source.cursor();
    cursor.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
    // In version 2 pages the levels stand uncompressed before the values: then this is no gzip, and is left to the decoder,
    // which checks lengths there.
    let mut magic = [0; 2];
    if source.read_at(at, &mut magic).map_err(|e| e.to_string())? < 2 || magic != [0x1f, 0x8b] {
        return Ok(());
    }
    let mut decoder = MultiGzDecoder::new(BufReader::new(cursor.take(compressed))).take(uncompressed.saturating_add(1));
    match std::io::copy(&mut decoder, &mut std::io::sink()) {
        Ok(n) if n <= uncompressed => Ok(()),
        Ok(_) => Err(format!("a gzip page that holds more than the {uncompressed} bytes it declares")),
        Err(e) => Err(format!("broken compressed data ({e})")),
    }
}

struct Thrift<R> {
    from: R,
    read: u64,
}

impl<R: Read> Thrift<R> {
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte).ok()?;
        self.read += 1;
        Some(byte[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1).cast_signed() ^ -(v & 1).cast_signed())
    }

    /// The next field's type and id; type 0 ends the struct.
    fn field(&mut self, last: i64) -> Option<(u8, i64)> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        if kind == 0 {
            return Some((0, 0));
        }
        let delta = i64::from(byte >> 4);
        let id = if delta == 0 { self.zigzag()? } else { last.checked_add(delta)? };
        Some((kind, id))
    }

    fn page_header(&mut self) -> Option<Header> {
        let mut header = Header::default();
        let mut last = 0;
        loop {
            let (kind, id) = self.field(last)?;
            match (kind, id) {
                (0, _) => return Some(header),
                (5, 1) => header.kind = self.zigzag()?,
                (5, 2) => header.uncompressed = self.zigzag()?,
                (5, 3) => header.compressed = self.zigzag()?,
                (12, 5 | 7 | 8) => {
                    // The encoding is field 4 of a version 2 page, else field 2.
                    let (values, encoding) = self.numbers(if id == 8 { 4 } else { 2 })?;
                    header.values = values.max(header.values);
                    header.encoding = encoding;
                    header.dictionary |= id == 7;
                }
                _ => self.skip(kind, MAX_DEPTH)?,
            }
            last = id;
        }
    }

    /// Field 1 of a struct and the given one, i32 both, skipping the others.
    fn numbers(&mut self, second: i64) -> Option<(i64, i64)> {
        let mut numbers = (0, 0);
        let mut last = 0;
        loop {
            let (kind, id) = self.field(last)?;
            match (kind, id) {
                (0, _) => return Some(numbers),
                (5, 1) => numbers.0 = self.zigzag()?,
                (5, id) if id == second => numbers.1 = self.zigzag()?,
                _ => self.skip(kind, MAX_DEPTH)?,
            }
            last = id;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => Some(()),
            3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.skip_bytes(8),
            8 => {
                let len = self.varint()?;
                self.skip_bytes(len)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                let item = head & 0x0f;
                // The decoder takes no bytes for a list of truth values, so that a few bytes declare endless work; none stands
                // in a page header or in a file's metadata.
                if item <= 2 {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip(item, depth))
            }
            12 => {
                let mut last = 0;
                loop {
                    let (kind, id) = self.field(last)?;
                    if kind == 0 {
                        return Some(());
                    }
                    self.skip(kind, depth)?;
                    last = id;
                }
            }
            _ => None,
        }
    }

    fn skip_bytes(&mut self, len: u64) -> Option<()> {
        let skipped = std::io::copy(&mut self.from.by_ref().take(len), &mut std::io::sink()).ok()?;
        self.read += skipped;
        (skipped == len).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> Option<Header> {
        Thrift { from: bytes, read: 0 }.page_header()
    }

    // PageHeader { type: DATA_PAGE, uncompressed: 100, compressed: 60, data_page_header: { num_values: 7, encoding: 0,
    // definition: 3, repetition: 3 } }, written out by the compact protocol: zigzag doubles positive numbers.
    const PAGE: [u8; 19] = [0x15, 0, 0x15, 200, 1, 0x15, 120, 0x2c, 0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0, 99];

    #[test]
    fn a_page_header_is_read_and_what_follows_is_left() {
        let mut thrift = Thrift { from: &PAGE[..], read: 0 };
        let want = Header { uncompressed: 100, compressed: 60, values: 7, dictionary: false, kind: 0, encoding: 0 };
        assert_eq!((thrift.page_header(), thrift.read), (Some(want), 18));
        assert_eq!(header(&PAGE[..17]), None);
    }

    #[test]
    fn endless_nesting_and_lengths_are_refused() {
        assert_eq!(header(&[0x1c; 4000]), None);
        assert_eq!(header(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        assert_eq!(header(&[0x19, 0xf8, 0xff, 0xff, 0xff, 0x0f]), None);
        assert_eq!(header(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }

    /// A list of lists of 2^31 truth values each: the decoder would count them all.
    #[test]
    fn lists_without_bytes_are_refused() {
        assert!(is_bounded(&[0x19, 0x25, 2, 4, 0]), "a list of two numbers");
        assert!(!is_bounded(&[0x19, 0x25, 2, 4]), "without an end");
        let many = [0xf1, 0xff, 0xff, 0xff, 0xff, 7];
        let nested = [&[0x19, 0x29][..], &many, &many, &[0]].concat();
        assert!(!is_bounded(&nested));
        assert_eq!(header(&nested), None);
    }

    #[test]
    fn pages_larger_than_declared_or_allowed_are_refused() {
        let chunk = |len| Chunk { start: 0, len, rows: 7, gzip: false };
        let mut bytes = [&PAGE[..18], &[0; 60]].concat();
        let check = |bytes: &[u8], chunk| check(&Source::from_bytes("t", bytes), chunk, "column x", &Limits::TIGHT);
        check(&bytes, chunk(78)).unwrap();
        let said = check(&bytes, Chunk { rows: 6, ..chunk(78) }).unwrap_err().to_string();
        assert!(said.contains("column x, page at byte 0: 7 values, expected at most 6"), "{said}");
        assert!(
            check(&bytes, chunk(77)).unwrap_err().to_string().contains("a page of 60 bytes, of which 59 are there")
        );
        assert!(check(&bytes, chunk(79)).unwrap_err().to_string().contains("but the file has 78"));
        bytes[11] = 16; // encoding 8
        assert!(check(&bytes, chunk(78)).unwrap_err().to_string().contains("no dictionary before them"));
        (bytes[3], bytes[4]) = (0xff, 0x7f); // 16383 unzigzagged is -8192: negative sizes are refused too
        assert!(check(&bytes, chunk(78)).unwrap_err().to_string().contains("more than the limit"));
    }
}
