//! Bytes that several threads may read at once: a file read by position, or memory.
//!
//! A shared `File` has one cursor, so two threads that seek it read each other's bytes. Everything that reads single
//! items out of a large file (zip, tar, Parquet) therefore goes through [`Source`], which knows no cursor, and gets
//! its own [`Cursor`] where a format's library wants one. The same readers then work on memory, which is how they
//! are tested and fuzzed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::limits::{self, Limits};
use crate::{Error, Result};

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

/// A file or a piece of memory under the name that errors show; cloning is cheap and shares it.
#[derive(Clone, Debug)]
pub struct Source {
    path: Arc<Path>,
    bytes: Bytes,
    len: u64,
}

impl Source {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When the file cannot be opened or is a folder.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::os(path, "open", e))?;
        let about = file.metadata().map_err(|e| Error::os(path, "read", e))?;
        if !about.is_file() {
            let found = if about.is_dir() { "a folder, expected a file" } else { "not a regular file" };
            return Err(Error::bad(path, "path", found, "name the file itself"));
        }
        Ok(Self { path: path.into(), bytes: Bytes::File(Arc::new(file)), len: about.len() })
    }

    /// Memory that stands for a file of this name.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        let len = bytes.len() as u64;
        Self { path: name.as_ref().into(), bytes: Bytes::Memory(bytes), len }
    }

    /// The name that errors show.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of something inside this archive: `archive.zip!member.png`.
    pub fn member_path(&self, member: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push("!");
        name.push(member);
        name.into()
    }

    /// Length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads into `into` from byte `at` on; returns how many bytes there were.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Bytes::File(file) => file.read_at(into, at),
            Bytes::Memory(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let n = rest.len().min(into.len());
                into[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            }
        }
    }

    /// Exactly `len` bytes from `at` on; `place` names them in the error. The caller has checked `len` against a limit.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub fn bytes(&self, at: u64, len: usize, place: &str) -> Result<Vec<u8>> {
        let end = at.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            let found = format!("{len} bytes from byte {at} on are needed, but the file has {} bytes", self.len);
            return Err(Error::bad(&self.path, place, found, "the file is cut short: copy or download it again"));
        }
        let mut cursor = self.cursor();
        cursor.at = at;
        let bytes = limits::read_up_to(&mut cursor, len).map_err(|e| Error::os(&self.path, "read", e))?;
        if bytes.len() < len {
            let found = format!("{} of {len} bytes could be read", bytes.len());
            return Err(Error::bad(&self.path, place, found, "the file changed while it was read: start again"));
        }
        Ok(bytes)
    }

    /// The first bytes, at most `len` of them: what a format is recognised by.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn head(&self, len: usize) -> Result<Vec<u8>> {
        limits::read_up_to(self.cursor(), len).map_err(|e| Error::os(&self.path, "read", e))
    }

    /// The whole contents, at most `limit` bytes.
    ///
    /// # Errors
    /// When the file is larger than the limit, or cannot be read.
    pub fn whole(&self, limit: u64) -> Result<Vec<u8>> {
        let len = limits::admit(&self.path, "whole file", self.len, limit)?;
        self.bytes(0, len, "whole file")
    }

    /// A reader with a position of its own, at the start.
    pub fn cursor(&self) -> Cursor {
        Cursor { source: self.clone(), at: 0 }
    }

    /// The contents from the start on, decompressed when they are gzip.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stream(&self) -> Result<Stream<'static>> {
        let buffered = BufReader::with_capacity(1 << 16, self.cursor());
        if self.head(2)? == [0x1f, 0x8b] {
            let reader = Box::new(MultiGzDecoder::new(buffered));
            return Ok(Stream::new(&self.path, reader, None));
        }
        Ok(Stream::new(&self.path, Box::new(buffered), Some(self.len)))
    }
}

/// A reading position in a [`Source`].
#[derive(Clone, Debug)]
pub struct Cursor {
    source: Source,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(self.at, into)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the start"))?;
        Ok(self.at)
    }
}

/// Bytes read once from front to end, decompressed when the file is gzip.
pub struct Stream<'a> {
    path: Arc<Path>,
    reader: Box<dyn Read + 'a>,
    at: u64,
    /// Bytes to come, where that is known before they are read.
    left: Option<u64>,
}

impl<'a> Stream<'a> {
    /// A stream whose name in errors is `path` and that declares `left` bytes, where that is known.
    pub(crate) fn new(path: &Path, reader: Box<dyn Read + 'a>, left: Option<u64>) -> Self {
        Self { path: path.into(), reader, at: 0, left }
    }

    /// Where the next byte stands in the decompressed contents.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Exactly `len` bytes, refused before they are read when they are more than `limit` or more than the file has.
    ///
    /// # Errors
    /// When they are too many, when the contents end before, or when compressed data are broken.
    pub fn exactly(&mut self, len: u64, what: &str, limit: u64) -> Result<Vec<u8>> {
        let place = format!("byte {}", self.at);
        let wanted = limits::admit(&self.path, &place, len, limit)?;
        if let Some(left) = self.left.filter(|&left| left < len) {
            return Err(self.cut_short(place, left, len, what));
        }
        let bytes = limits::read_up_to(&mut self.reader, wanted).map_err(|e| broken_stream(&self.path, self.at, e))?;
        self.at += bytes.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        if bytes.len() < wanted {
            return Err(self.cut_short(place, bytes.len() as u64, len, what));
        }
        Ok(bytes)
    }

    /// Everything that is left, at most `limit` bytes.
    ///
    /// # Errors
    /// When there is more, or when compressed data are broken.
    pub fn rest(&mut self, limit: u64) -> Result<Vec<u8>> {
        let place = format!("byte {}", self.at);
        if let Some(left) = self.left {
            limits::admit(&self.path, &place, left, limit)?;
        }
        let most = usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX);
        let bytes = limits::read_up_to(&mut self.reader, most).map_err(|e| broken_stream(&self.path, self.at, e))?;
        limits::admit(&self.path, &place, bytes.len() as u64, limit)?;
        self.at += bytes.len() as u64;
        self.left = Some(0);
        Ok(bytes)
    }

    /// Checks that nothing follows; for gzip this also checks the stored checksum.
    ///
    /// # Errors
    /// When there are more bytes than the header declared.
    pub fn end(&mut self, what: &str) -> Result<()> {
        let more = limits::read_up_to(&mut self.reader, 1).map_err(|e| broken_stream(&self.path, self.at, e))?;
        if more.is_empty() {
            return Ok(());
        }
        let found = format!("bytes follow after {what}");
        let advice = "the header declares fewer items than the file holds: make or download it again";
        Err(Error::bad(&self.path, format!("byte {}", self.at), found, advice))
    }

    fn cut_short(&self, place: String, there: u64, needed: u64, what: &str) -> Error {
        let found = format!("{there} bytes left, {needed} expected for {what}");
        Error::bad(&self.path, place, found, "the file is cut short: copy or download it again")
    }
}

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("path", &self.path).field("at", &self.at).field("left", &self.left).finish()
    }
}

/// A read error of a stream: broken compressed data are the file's fault, everything else the system's.
fn broken_stream(path: &Path, at: u64, e: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if matches!(e.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        let advice = "the compressed data are damaged or cut short: copy or download the file again";
        return Error::bad(
            path,
            format!("byte {at} of the decompressed data"),
            format!("broken compressed data ({e})"),
            advice,
        );
    }
    Error::os(path, "read", e)
}

/// Text that must be UTF-8.
///
/// # Errors
/// When it is not; the place of the first wrong byte is named.
pub(crate) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::bad(path, format!("byte {at}"), "text that is not UTF-8", "save the file in UTF-8")
    })
}

/// The standard limits, for readers that are given a path only.
pub(crate) const STANDARD: &Limits = &Limits::STANDARD;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn cursors_of_one_file_do_not_disturb_each_other() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let source = Source::open(file.path()).unwrap();
        let (mut a, mut b) = (source.cursor(), source.cursor());
        a.seek(SeekFrom::End(-2)).unwrap();
        let (mut x, mut y) = ([0; 2], [0; 2]);
        b.read_exact(&mut y).unwrap();
        a.read_exact(&mut x).unwrap();
        assert_eq!((&x, &y), (b"89", b"01"));
        assert!(a.seek(SeekFrom::Current(-11)).is_err());
        assert_eq!(source.bytes(3, 4, "middle").unwrap(), b"3456");
    }

    #[test]
    fn gzip_is_undone_and_a_bomb_stops_at_the_limit() {
        let source = Source::from_bytes("x.gz", gz(&[0; 100_000]));
        assert!(source.len() < 1000);
        assert_eq!(source.stream().unwrap().rest(100_000).unwrap().len(), 100_000);
        let said = source.stream().unwrap().rest(99_999).unwrap_err();
        assert!(matches!(said, Error::TooLarge { asked: 100_000, .. }), "{said}");
    }

    #[test]
    fn cut_and_damaged_gzip_is_named() {
        let mut bytes = gz(b"hello hello hello hello");
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        let mut stream = Source::from_bytes("x.gz", bytes.clone()).stream().unwrap();
        assert_eq!(stream.exactly(5, "word", 10).unwrap(), b"hello");
        let said = stream.rest(100).unwrap_err().to_string();
        assert!(said.starts_with("x.gz: byte 5 of the decompressed data: broken compressed data"), "{said}");
        bytes.truncate(last - 4);
        assert!(Source::from_bytes("x.gz", bytes).stream().unwrap().rest(100).is_err());
    }

    #[test]
    fn a_plain_file_that_is_too_short_is_refused_before_it_is_read() {
        let mut stream = Source::from_bytes("x", *b"abc").stream().unwrap();
        let said = stream.exactly(4, "the header", 100).unwrap_err().to_string();
        assert_eq!(
            said,
            "x: byte 0: 3 bytes left, 4 expected for the header; the file is cut short: copy or download it again"
        );
        assert_eq!(stream.exactly(3, "the header", 100).unwrap(), b"abc");
        stream.end("the header").unwrap();
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let said = Source::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("a folder, expected a file"), "{said}");
        assert!(matches!(Source::open(Path::new("/nowhere/x")), Err(Error::Os { what: "open", .. })));
    }
}
