//! TensorBoard event files: scalars and PNG pictures out, cut back on resume so that no step appears twice.
//!
//! A record is `length: u64 | masked crc of those 8 bytes: u32 | data | masked crc of data: u32`, little-endian, with
//! `masked(c) = rotate_right(c, 15) + 0xa282ead8` of a CRC-32C; the data is an `Event` protobuf.
//!
//! # Source
//! tensorflow `core/lib/io/record_writer.h`, `core/lib/hash/crc32c.h`; tensorboard `compat/proto/{event,summary}.proto`.
//! `fixtures/tensorboard/make.py` writes the file that the test here equals byte for byte.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atomic::{write_atomic, write_bytes};
use crate::{Error, Result, lock};

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The mark at the start of a file.
    Version(String),
    /// One number of a curve.
    Scalar {
        /// `train/loss`
        tag: String,
        /// Its value.
        value: f32,
    },
    /// One picture.
    Image {
        /// `samples`
        tag: String,
        /// `[height, width, channels]`
        size: [u32; 3],
        /// The encoded picture.
        png: Vec<u8>,
    },
    /// Something that other programs write.
    Other,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// The step or image count at which it was written.
    pub step: i64,
    /// What it says.
    pub what: What,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// One entry for each value of each complete record.
    pub events: Vec<Event>,
    /// The byte at which a record begins that a killed writer did not finish.
    pub torn_at: Option<usize>,
}

const VERSION: &str = "brain.Event:2";

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut i: u32 = 0;
    while i < 256 {
        let mut c = i;
        let mut bit = 0;
        while bit < 8 {
            // The Castagnoli polynomial, bits reversed.
            c = if c & 1 == 1 { 0x82f6_3b78 ^ (c >> 1) } else { c >> 1 };
            bit += 1;
        }
        table[i as usize] = c;
        i += 1;
    }
    table
};

fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = !bytes.iter().fold(!0_u32, |c, &b| CRC32C[usize::from(c.to_le_bytes()[0] ^ b)] ^ (c >> 8));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    to.push(n.to_le_bytes()[0]);
}

fn number(to: &mut Vec<u8>, field: u64, n: u64) {
    varint(to, field << 3);
    varint(to, n);
}

fn chunk(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn encode(event: &Event) -> Vec<u8> {
    let mut to = Vec::new();
    // Proto3 leaves plain zeros out.
    if event.wall_time.to_bits() != 0 {
        varint(&mut to, 1 << 3 | 1);
        to.extend(event.wall_time.to_le_bytes());
    }
    if event.step != 0 {
        number(&mut to, 2, event.step.cast_unsigned());
    }
    let mut value = Vec::new();
    match &event.what {
        What::Version(version) => chunk(&mut to, 3, version.as_bytes()),
        What::Scalar { tag, value: x } => {
            chunk(&mut value, 1, tag.as_bytes());
            varint(&mut value, 2 << 3 | 5);
            value.extend(x.to_le_bytes());
        }
        What::Image { tag, size, png } => {
            let mut image = Vec::new();
            for (field, &n) in (1..).zip(size) {
                number(&mut image, field, u64::from(n));
            }
            chunk(&mut image, 4, png);
            chunk(&mut value, 1, tag.as_bytes());
            chunk(&mut value, 4, &image);
        }
        What::Other => {}
    }
    if !value.is_empty() {
        let mut summary = Vec::new();
        chunk(&mut summary, 1, &value);
        chunk(&mut to, 5, &summary);
    }
    to
}

fn record(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u64).to_le_bytes();
    let mut to = Vec::with_capacity(data.len() + 16);
    to.extend(len);
    to.extend(masked_crc(&len).to_le_bytes());
    to.extend(data);
    to.extend(masked_crc(data).to_le_bytes());
    to
}

/// The bytes of one record that holds this event.
pub fn to_bytes(event: &Event) -> Vec<u8> {
    record(&encode(event))
}

/// Fields of a protobuf message: number, and the value as a number or as bytes. `None` when it is not one.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(head)
}

fn fields(mut from: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut all = Vec::new();
    while !from.is_empty() {
        let key = take_varint(&mut from)?;
        let value = match key & 7 {
            0 => Field::Number(take_varint(&mut from)?),
            1 => Field::Number(u64::from_le_bytes(take(&mut from, 8)?.try_into().ok()?)),
            2 => {
                let n = usize::try_from(take_varint(&mut from)?).ok()?;
                Field::Bytes(take(&mut from, n)?)
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut from, 4)?.try_into().ok()?))),
            _ => return None,
        };
        all.push((key >> 3, value));
    }
    Some(all)
}

fn decode_value(bytes: &[u8]) -> Option<What> {
    let (mut tag, mut scalar, mut image) = (String::new(), None, None);
    for field in fields(bytes)? {
        match field {
            (1, Field::Bytes(b)) => tag = String::from_utf8(b.to_vec()).ok()?,
            (2, Field::Number(n)) => scalar = Some(f32::from_bits(u32::try_from(n).ok()?)),
            (4, Field::Bytes(b)) => {
                let (mut size, mut png) = ([0; 3], Vec::new());
                for field in fields(b)? {
                    match field {
                        (1, Field::Number(n)) => size[0] = u32::try_from(n).ok()?,
                        (2, Field::Number(n)) => size[1] = u32::try_from(n).ok()?,
                        (3, Field::Number(n)) => size[2] = u32::try_from(n).ok()?,
                        (4, Field::Bytes(b)) => png = b.to_vec(),
                        _ => {}
                    }
                }
                image = Some((size, png));
            }
            _ => {}
        }
    }
    Some(match (scalar, image) {
        (Some(value), _) => What::Scalar { tag, value },
        (None, Some((size, png))) => What::Image { tag, size, png },
        (None, None) => What::Other,
    })
}

fn decode(bytes: &[u8]) -> Option<Vec<Event>> {
    let (mut wall_time, mut step, mut whats) = (0.0, 0, Vec::new());
    for field in fields(bytes)? {
        match field {
            (1, Field::Number(n)) => wall_time = f64::from_bits(n),
            (2, Field::Number(n)) => step = n.cast_signed(),
            (3, Field::Bytes(b)) => whats.push(What::Version(String::from_utf8(b.to_vec()).ok()?)),
            (5, Field::Bytes(b)) => {
                for field in fields(b)? {
                    if let (1, Field::Bytes(b)) = field {
                        whats.push(decode_value(b)?);
                    }
                }
            }
            _ => {}
        }
    }
    if whats.is_empty() {
        whats.push(What::Other);
    }
    Some(whats.into_iter().map(|what| Event { wall_time, step, what }).collect())
}

type Record<'a> = (&'a [u8], Vec<Event>);

/// The complete records, each whole with its events, and where an unfinished one begins.
fn records<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Vec<Record<'a>>, Option<usize>)> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        // After a power cut the end of a file may be there as zeros.
        let torn = rest.iter().all(|&b| b == 0);
        let Some((&len, &crc)) = rest.first_chunk::<8>().zip(rest.get(8..12).and_then(|r| r.first_chunk::<4>())) else {
            return Ok((all, Some(at)));
        };
        if torn {
            return Ok((all, Some(at)));
        }
        let bad = |found: &str| {
            Error::bad(path, format!("byte {at}"), found, "not an event file, or damaged: move it out of the folder")
        };
        if masked_crc(&len) != u32::from_le_bytes(crc) {
            return Err(bad("the checksum of a record's length is wrong"));
        }
        let whole = usize::try_from(u64::from_le_bytes(len)).ok().and_then(|len| len.checked_add(16));
        let Some(record) = whole.and_then(|whole| rest.get(..whole)) else {
            return Ok((all, Some(at)));
        };
        let (data, crc) = record[12..].split_at(record.len() - 16);
        if masked_crc(data).to_le_bytes() != crc {
            return Err(bad("the checksum of a record is wrong"));
        }
        let events = decode(data).ok_or_else(|| bad("a record that is no event"))?;
        all.push((record, events));
        at += record.len();
    }
    Ok((all, None))
}

/// The same records with the checksums that their bytes should have, as far as whole records go.
pub(crate) fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((data, after)) = rest.split_first_chunk::<8>().and_then(|(len, after)| {
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let data = after.get(4..)?.get(..len)?;
        Some((data, after.get(8 + len..)?))
    }) {
        to.extend(record(data));
        rest = after;
    }
    to.extend(rest);
    to
}

/// Reads an event file.
///
/// # Errors
/// When it cannot be read, or a complete record is damaged.
pub fn read(path: &Path) -> Result<Events> {
    from_bytes(path, &fs::read(path).map_err(|e| Error::os(path, "read", e))?)
}

/// Reads events from memory; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Events> {
    let (records, torn_at) = records(path, bytes)?;
    Ok(Events { events: records.into_iter().flat_map(|(_, events)| events).collect(), torn_at })
}

/// Event files of a folder, oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::os(folder, "read", e))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("events.out.tfevents.")));
    files.sort();
    Ok(files)
}

/// Drops every event that is not to be kept, and torn ends, from all event files of a folder, each all or nothing. Returns
/// how many were dropped. Files that need no cut are not touched.
///
/// # Errors
/// When a file cannot be read or rewritten, or is damaged before its end.
pub fn cut_back(folder: &Path, keep: &dyn Fn(&Event) -> bool) -> Result<usize> {
    let mut dropped = 0;
    for path in files(folder)? {
        let bytes = fs::read(&path).map_err(|e| Error::os(&path, "read", e))?;
        let (records, torn_at) = records(&path, &bytes)?;
        let all = records.len();
        let kept: Vec<&[u8]> = records.iter().filter(|(_, events)| events.iter().all(keep)).map(|(r, _)| *r).collect();
        if kept.len() < all || torn_at.is_some() {
            dropped += all - kept.len() + usize::from(torn_at.is_some());
            write_atomic(&path, |w| kept.iter().try_for_each(|r| w.write_all(r)))?;
        }
    }
    Ok(dropped)
}

/// An event file that is being written.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Writer {
    /// Begins the event file of a run, or goes on with what is to be kept of it: the rest is cut first.
    ///
    /// # Errors
    /// As [`cut_back`], or when the file cannot be written.
    pub fn resume(folder: &Path, keep: &dyn Fn(&Event) -> bool) -> Result<Self> {
        cut_back(folder, keep)?;
        let now = now();
        let path = match files(folder)?.pop() {
            Some(path) => path,
            None => {
                let name =
                    format!("events.out.tfevents.{:010.0}.{}.{}.0", now.floor(), lock::host(), std::process::id());
                folder.join(name)
            }
        };
        // A file of the first moment may have been cut to nothing.
        if fs::metadata(&path).map_or(0, |m| m.len()) == 0 {
            let version = Event { wall_time: now, step: 0, what: What::Version(VERSION.to_owned()) };
            write_bytes(&path, &to_bytes(&version))?;
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| Error::os(&path, "open", e))?;
        Ok(Self { file: BufWriter::new(file), path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an event with its own time.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&to_bytes(event)).map_err(|e| Error::os(&self.path, "write", e))
    }

    /// Adds one number of a curve.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn scalar(&mut self, step: i64, tag: &str, value: f32) -> Result<()> {
        self.event(&Event { wall_time: now(), step, what: What::Scalar { tag: tag.to_owned(), value } })
    }

    /// Adds one PNG picture; its size is read from its header.
    ///
    /// # Errors
    /// When these bytes are no PNG, or the system refuses.
    pub fn image(&mut self, step: i64, tag: &str, png: &[u8]) -> Result<()> {
        let size = png_size(png).ok_or_else(|| {
            Error::bad(&self.path, format!("picture {tag}"), "bytes that are no PNG", "encode it as PNG first")
        })?;
        self.event(&Event {
            wall_time: now(),
            step,
            what: What::Image { tag: tag.to_owned(), size, png: png.to_vec() },
        })
    }

    /// Hands everything to the system, so that a reader sees it and a kill loses nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::os(&self.path, "write", e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// `[height, width, channels]` by the IHDR chunk.
fn png_size(png: &[u8]) -> Option<[u32; 3]> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let side = |at: usize| header.get(at..at + 4).and_then(|b| b.first_chunk()).map(|&b| u32::from_be_bytes(b));
    let channels = match header.get(9)? {
        0 => 1,
        4 => 2,
        6 => 4,
        _ => 3,
    };
    Some([side(4)?, side(0)?, channels])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: &[u8] = include_bytes!("../../../fixtures/tensorboard/small.tfevents");

    fn pixel() -> Vec<u8> {
        // IHDR of a 1x1 RGB picture, as in make.py; the rest is not looked at here.
        let Some(at) = SMALL.windows(8).position(|w| w == b"\x89PNG\r\n\x1a\n") else { panic!("no picture") };
        SMALL[at..SMALL.len() - 4].to_vec()
    }

    fn scalar(wall_time: f64, step: i64, tag: &str, value: f32) -> Event {
        Event { wall_time, step, what: What::Scalar { tag: tag.to_owned(), value } }
    }

    fn small() -> Vec<Event> {
        vec![
            Event { wall_time: 1_700_000_000.25, step: 0, what: What::Version(VERSION.to_owned()) },
            scalar(1_700_000_001.0, 0, "train/loss", 0.0),
            scalar(1_700_000_002.5, 1, "train/loss", 0.1),
            scalar(1_700_000_003.0, 300, "val/träge", f32::NAN),
            Event {
                wall_time: 1_700_000_004.0,
                step: 1 << 40,
                what: What::Image { tag: "samples".to_owned(), size: [1, 1, 3], png: pixel() },
            },
        ]
    }

    #[test]
    fn crc32c_is_castagnoli() {
        // RFC 3720 B.4, 32 zeros: 0x8a9136aa; and the usual check value of "123456789".
        let plain = |bytes: &[u8]| masked_crc(bytes).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(plain(&[0; 32]), 0x8a91_36aa);
        assert_eq!(plain(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_bytes_are_those_of_the_tensorboard_package() {
        let ours: Vec<u8> = small().iter().flat_map(to_bytes).collect();
        assert_eq!(ours, SMALL);
    }

    #[test]
    fn what_the_tensorboard_package_writes_is_read() {
        let read = from_bytes(Path::new("e"), SMALL).unwrap();
        assert_eq!(read.torn_at, None);
        // NaN differs from itself: compare as printed.
        assert_eq!(format!("{:?}", read.events), format!("{:?}", small()));
        assert_eq!(png_size(&pixel()), Some([1, 1, 3]));
    }

    #[test]
    fn resuming_leaves_no_step_twice_and_no_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = Writer::resume(dir.path(), &|_| true).unwrap();
        let path = w.path().to_owned();
        for step in 1..=5 {
            w.scalar(step, "train/loss", 1.0 / step as f32).unwrap();
        }
        w.image(5, "samples", &pixel()).unwrap();
        w.flush().unwrap();
        drop(w);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let torn = read(&path).unwrap();
        assert_eq!((torn.events.len(), torn.torn_at.is_some()), (6, true));
        let mut w = Writer::resume(dir.path(), &|e| e.step <= 3).unwrap();
        assert_eq!(w.path(), path);
        for step in 4..=6 {
            w.scalar(step, "train/loss", 0.0).unwrap();
        }
        w.flush().unwrap();
        let steps: Vec<i64> = read(&path).unwrap().events.iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(files(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_cut_of_every_length_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1.0");
        for len in [0, 1, 11, 12, 40, 41, 100, SMALL.len()] {
            fs::write(&path, &SMALL[..len]).unwrap();
            let mut w = Writer::resume(dir.path(), &|e| e.step <= 1).unwrap();
            w.scalar(2, "x", 2.0).unwrap();
            w.flush().unwrap();
            let read = read(&path).unwrap();
            assert_eq!(read.torn_at, None, "{len}");
            assert!(matches!(read.events[0].what, What::Version(_)), "{len}");
            assert!(read.events.iter().all(|e| e.step <= 2), "{len}");
        }
    }

    #[test]
    fn damage_inside_is_refused_with_its_place_and_zeros_at_the_end_are_torn() {
        let mut bytes = SMALL.to_vec();
        bytes.extend([0; 40]);
        assert_eq!(from_bytes(Path::new("e"), &bytes).unwrap().torn_at, Some(SMALL.len()));
        bytes[50] ^= 1;
        let said = from_bytes(Path::new("e"), &bytes).unwrap_err().to_string();
        assert!(said.starts_with("e: byte 40: the checksum of a record"), "{said}");
        assert!(Writer::resume(tempfile::tempdir().unwrap().path(), &|_| true).unwrap().image(1, "x", b"GIF").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(wall in 0.0_f64..1e10, step in any::<i64>(), tag in ".{0,12}", x in -1e30_f32..1e30) {
            let event = scalar(wall, step, &tag, x);
            prop_assert_eq!(from_bytes(Path::new("e"), &to_bytes(&event)).unwrap().events, vec![event]);
        }

        #[test]
        fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = from_bytes(Path::new("e"), &data);
            // A valid frame around garbage reaches the protobuf reader.
            let _ = from_bytes(Path::new("e"), &record(&data));
        }
    }
}
