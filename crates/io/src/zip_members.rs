//! Zip archives whose members several threads read at once: what npz files and zips of pictures stand on.

use std::path::PathBuf;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::limits::{self, Limits};
use crate::source::{Cursor, Source, Stream};
use crate::{Error, Result};

/// An opened zip archive: its directory, and bounded access to its members.
#[derive(Clone)]
pub(crate) struct ZipMembers {
    source: Source,
    zip: ZipArchive<Cursor>,
}

impl ZipMembers {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// When it is no zip archive, is cut short, or has more members than the limit.
    pub(crate) fn open(source: &Source, limits: &Limits) -> Result<Self> {
        let zip = ZipArchive::new(source.cursor()).map_err(|e| refused(source, "zip directory", e))?;
        if zip.len() > limits.items {
            let found = format!("{} members, more than the limit of {}", zip.len(), limits.items);
            return Err(Error::bad(source.path(), "zip directory", found, "split the archive"));
        }
        if zip.has_duplicate_names() {
            let advice = "make the archive again, with every name once";
            return Err(Error::bad(source.path(), "zip directory", "two members of the same name", advice));
        }
        Ok(Self { source: source.clone(), zip })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Number of members, folders included.
    pub(crate) fn len(&self) -> usize {
        self.zip.len()
    }

    /// The name of a member; `None` for a folder.
    ///
    /// # Errors
    /// When the name is not text.
    pub(crate) fn name(&self, i: usize) -> Result<Option<String>> {
        let place = || format!("member {i}");
        let entry = self.zip.by_index_data(i).map_err(|e| refused(&self.source, &place(), e))?;
        if entry.is_dir() {
            return Ok(None);
        }
        match entry.name() {
            Ok(name) => Ok(Some(name.into_owned())),
            Err(_) => {
                let shown = String::from_utf8_lossy(entry.name_raw()).into_owned();
                let found = format!("the name {shown:?}, which is not UTF-8");
                Err(Error::bad(self.source.path(), place(), found, "make the archive again with UTF-8 names"))
            }
        }
    }

    /// Hands the decompressed contents of a member to `use_it`, together with its name in errors.
    ///
    /// # Errors
    /// When the member cannot be read (encrypted, an unknown compression, a damaged header), or as `use_it` says.
    pub(crate) fn with<T>(
        &self,
        i: usize,
        name: &str,
        use_it: impl FnOnce(&mut Stream<'_>, &PathBuf) -> Result<T>,
    ) -> Result<T> {
        let path = self.source.member_path(name);
        let mut zip = self.zip.clone();
        let member = zip.by_index(i).map_err(|e| refused(&self.source, &format!("member {name}"), e))?;
        let size = member.size();
        use_it(&mut Stream::new(&path, Box::new(member), Some(size)), &path)
    }

    /// The whole decompressed contents of a member.
    ///
    /// # Errors
    /// As [`ZipMembers::with`]; also when they are larger than `limit`.
    pub(crate) fn bytes(&self, i: usize, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.with(i, name, |stream, path| {
            let bytes = stream.rest(limit)?;
            limits::admit(path, "contents", bytes.len() as u64, limit)?;
            Ok(bytes)
        })
    }
}

impl std::fmt::Debug for ZipMembers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZipMembers").field("source", &self.source).field("members", &self.zip.len()).finish()
    }
}

fn refused(source: &Source, place: &str, e: ZipError) -> Error {
    let bad = |found: String, advice: &str| Error::bad(source.path(), place, found, advice);
    let damaged = "the archive is damaged or cut short: copy or download it again";
    match e {
        ZipError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            bad("the archive ends early".into(), damaged)
        }
        ZipError::Io(e) if e.raw_os_error().is_some() => Error::os(source.path(), "read", e),
        ZipError::Io(e) => bad(format!("a zip structure that cannot be read ({e})"), damaged),
        ZipError::InvalidArchive(why) => bad(format!("no valid zip structure ({why})"), damaged),
        ZipError::UnsupportedArchive(why) => {
            bad(format!("a kind of zip that is not read ({why})"), "make the archive again, without encryption")
        }
        ZipError::CompressionMethodNotSupported(method) => bad(
            format!("compression method {method}, expected stored or deflate"),
            "make the archive again with either",
        ),
        other => bad(format!("{other}"), damaged),
    }
}
