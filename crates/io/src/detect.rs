//! What a path holds, decided by its contents and never by its name alone.

use std::path::{Path, PathBuf};

use crate::edm_zip::EdmZip;
use crate::folder::Folder;
use crate::hf_parquet::HfParquet;
use crate::items::Items;
use crate::limits;
use crate::npz::Npz;
use crate::shards::{self, Shards};
use crate::source::{STANDARD, Source};
use crate::zip_members::ZipMembers;
use crate::{Error, Result, cifar, dsprites, npy, picture};

/// The kinds of data that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// IDX, plain or gzip: [`crate::idx`]. A folder of them holds MNIST's four files.
    Idx,
    /// CIFAR-10 binary batches, plain or gzip, or their folder: [`crate::cifar`].
    Cifar10,
    /// One NumPy array: [`crate::npy`].
    Npy,
    /// NumPy arrays, also picture batches in the ADM layout: [`crate::npz`].
    Npz,
    /// dSprites: [`crate::dsprites`].
    DSprites,
    /// One picture: [`crate::picture`].
    Picture,
    /// A folder of pictures: [`crate::folder`].
    Folder,
    /// A zip of pictures, with `dataset.json` or without: [`crate::edm_zip`].
    EdmZip,
    /// WebDataset tar shards: [`crate::shards`].
    Shards,
    /// Hugging Face Parquet: [`crate::hf_parquet`].
    HfParquet,
}

impl Format {
    /// Every format, in the order in which they are told to the user.
    pub const ALL: [Self; 10] = [
        Self::Idx,
        Self::Cifar10,
        Self::Npy,
        Self::Npz,
        Self::DSprites,
        Self::Picture,
        Self::Folder,
        Self::EdmZip,
        Self::Shards,
        Self::HfParquet,
    ];

    /// What to call it in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "IDX (also gzip)",
            Self::Cifar10 => "CIFAR-10 binary (also gzip)",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::DSprites => "dSprites npz",
            Self::Picture => "PNG, JPEG or WebP",
            Self::Folder => "a folder of pictures",
            Self::EdmZip => "a zip of pictures",
            Self::Shards => "WebDataset tar shards",
            Self::HfParquet => "Parquet with a picture column",
        }
    }

    /// All of them as a list for an error.
    pub fn understood() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// Decides what a path holds: a file, a folder, or a brace pattern of shards.
///
/// # Errors
/// When nothing is there, or it is none of the formats; the error lists them.
pub fn sniff(path: &Path) -> Result<Format> {
    if !path.exists() && path.to_str().is_some_and(|p| p.contains('{')) {
        let files = shards::expand(&path.to_string_lossy())?;
        return files.first().map_or(Ok(Format::Shards), |first| sniff(first));
    }
    if path.is_dir() {
        return sniff_folder(path);
    }
    sniff_source(&Source::open(path)?)
}

/// Files of a folder whose names end so, sorted.
fn files_ending(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::os(folder, "read", e))? {
        let path = entry.map_err(|e| Error::os(folder, "read", e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if path.is_file() && !name.starts_with('.') && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn sniff_folder(folder: &Path) -> Result<Format> {
    if [cifar::Split::Train, cifar::Split::Test].into_iter().any(|split| cifar::files(folder, split).is_ok()) {
        return Ok(Format::Cifar10);
    }
    let kinds: [(&[&str], Format); 3] =
        [(&[".tar"], Format::Shards), (&[".parquet"], Format::HfParquet), (&["-ubyte", "-ubyte.gz"], Format::Idx)];
    for (endings, format) in kinds {
        if !files_ending(folder, endings)?.is_empty() {
            return Ok(format);
        }
    }
    Ok(Format::Folder)
}

/// Decides what a source holds.
///
/// # Errors
/// When it is none of the formats; the error lists them.
pub fn sniff_source(source: &Source) -> Result<Format> {
    // 512 bytes reach the mark of a tar header; of gzip as many are decompressed and no more.
    let head = source.head(512)?;
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    let inner =
        if gzip { limits::read_up_to(GzipHead(source.stream()?), 512).unwrap_or_default() } else { head.clone() };
    if head.starts_with(b"PAR1") {
        return Ok(Format::HfParquet);
    }
    if inner.get(257..262) == Some(b"ustar") {
        return Ok(Format::Shards);
    }
    if inner.starts_with(npy::MAGIC) {
        return Ok(Format::Npy);
    }
    if picture::recognise(&head) {
        return Ok(Format::Picture);
    }
    if let [0, 0, 8 | 9 | 11..=14, 1..=8, ..] = inner[..] {
        return Ok(Format::Idx);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return sniff_zip(source);
    }
    let whole_records = !source.is_empty() && source.len().is_multiple_of(cifar::RECORD as u64);
    let small_label = inner.first().is_some_and(|&label| usize::from(label) < cifar::CLASSES);
    let called_bin = source.path().to_string_lossy().ends_with(".bin.gz");
    if small_label && inner.len() == 512 && (whole_records && !gzip || gzip && called_bin) {
        return Ok(Format::Cifar10);
    }
    let found = if head.is_empty() {
        "an empty file".to_owned()
    } else {
        format!("a file that begins with {:02x?}", &head[..head.len().min(8)])
    };
    Err(Error::bad(source.path(), "byte 0", found, format!("these formats are read: {}", Format::understood())))
}

fn sniff_zip(source: &Source) -> Result<Format> {
    if let Ok(npz) = Npz::from_source(source, STANDARD) {
        return Ok(if dsprites::recognise(&npz) { Format::DSprites } else { Format::Npz });
    }
    let zip = ZipMembers::open(source, STANDARD)?;
    for i in 0..zip.len() {
        if zip.name(i).ok().flatten().is_some_and(|name| picture::has_picture_ending(&name)) {
            return Ok(Format::EdmZip);
        }
    }
    let found = "a zip without npy arrays or pictures";
    Err(Error::bad(source.path(), "zip directory", found, format!("these formats are read: {}", Format::understood())))
}

/// Reads a stream as far as it goes, so that a gzip file that is cut short is still recognised by its start.
struct GzipHead(crate::source::Stream<'static>);

impl std::io::Read for GzipHead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Some(first) = into.first_mut() else { return Ok(0) };
        let byte = self.0.exactly(1, "the next byte", 1).unwrap_or_default();
        byte.first().map_or(Ok(0), |&b| {
            *first = b;
            Ok(1)
        })
    }
}

/// Opens whatever indexed set of pictures a path holds: a folder, a zip, shards (also a brace pattern or a folder of them),
/// or Parquet (also a folder of it).
///
/// # Errors
/// When [`sniff`] or the reader refuses, or when the path holds whole arrays instead (IDX, CIFAR-10, npy, npz, dSprites).
pub fn open_items(path: &Path) -> Result<Box<dyn Items>> {
    let files = |ending: &str| {
        if path.is_dir() {
            return files_ending(path, &[ending]);
        }
        if path.exists() { Ok(vec![path.to_owned()]) } else { shards::expand(&path.to_string_lossy()) }
    };
    match sniff(path)? {
        Format::Folder => Ok(Box::new(Folder::open(path)?)),
        Format::EdmZip => Ok(Box::new(EdmZip::open(path)?)),
        Format::Shards => Ok(Box::new(Shards::open(&files(".tar")?)?)),
        Format::HfParquet => Ok(Box::new(HfParquet::open(&files(".parquet")?)?)),
        other => {
            let found = format!("{}, expected a folder, zip, tar or Parquet of pictures", other.name());
            Err(Error::bad(path, "contents", found, "read it as an array"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, Values, npz};
    use std::io::{Cursor, Write};

    fn kind(name: &str, bytes: Vec<u8>) -> Format {
        sniff_source(&Source::from_bytes(name, bytes)).unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    fn png() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::GrayImage::new(1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn tar(member: &str, contents: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, member, contents).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn contents_decide() {
        let idx = vec![0, 0, 8, 1, 0, 0, 0, 1, 5];
        assert_eq!(kind("wrong.png", idx.clone()), Format::Idx);
        assert_eq!(kind("x", gz(&idx)), Format::Idx);
        assert_eq!(kind("x", vec![3; 2 * cifar::RECORD]), Format::Cifar10);
        assert_eq!(kind("x.bin.gz", gz(&[3; cifar::RECORD])), Format::Cifar10);
        assert_eq!(kind("x", png()), Format::Picture);
        assert_eq!(kind("x", tar("a.png", &png())), Format::Shards);
        assert_eq!(kind("x", b"PAR1 and more".to_vec()), Format::HfParquet);
        let one = Array::new(vec![1], Values::U8(vec![1]));
        let mut bytes = Vec::new();
        npy::write(&mut bytes, &one).unwrap();
        assert_eq!(kind("x", bytes), Format::Npy);
        let arrays = |names: &[&'static str]| {
            let mut to = Cursor::new(Vec::new());
            npz::write(&mut to, names.iter().map(|n| (*n, &one))).unwrap();
            to.into_inner()
        };
        assert_eq!(kind("x", arrays(&["arr_0"])), Format::Npz);
        assert_eq!(kind("x", arrays(&["imgs", "latents_values", "latents_classes"])), Format::DSprites);
    }

    #[test]
    fn what_is_unknown_is_told_what_is_known() {
        let said = |bytes: Vec<u8>| sniff_source(&Source::from_bytes("x", bytes)).unwrap_err().to_string();
        let text = said(b"hello world".to_vec());
        assert!(
            text.starts_with("x: byte 0: a file that begins with [68, 65, 6c, 6c, 6f, 20, 77, 6f]; these formats"),
            "{text}"
        );
        assert!(Format::ALL.iter().all(|f| text.contains(f.name())), "{text}");
        assert!(said(vec![]).contains("an empty file"));
        assert!(said(gz(b"some text")).contains("these formats are read"));
        assert!(said(vec![0x1f, 0x8b, 8]).contains("these formats are read"));
        assert!(matches!(sniff(Path::new("/nowhere/x")), Err(Error::Os { what: "open", .. })));
    }

    #[test]
    fn folders_and_patterns_open_as_items() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("tars/s-0.tar", &tar("a.png", &png()));
        put("tars/s-1.tar", &tar("b.png", &png()));
        put("flat/a.png", &png());
        put("mnist/t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 5]);
        put("cifar/test_batch.bin", &[1; cifar::RECORD]);
        std::fs::create_dir(root.path().join("empty")).unwrap();
        let kind = |name: &str| sniff(&root.path().join(name)).unwrap();
        let len = |name: &str| open_items(&root.path().join(name)).unwrap().len();
        assert_eq!(
            (kind("tars"), len("tars"), len("tars/s-{0..1}.tar"), len("tars/s-1.tar")),
            (Format::Shards, 2, 2, 1)
        );
        assert_eq!((kind("flat"), len("flat")), (Format::Folder, 1));
        assert_eq!((kind("mnist"), kind("cifar")), (Format::Idx, Format::Cifar10));
        let said = |name: &str| open_items(&root.path().join(name)).err().unwrap().to_string();
        assert!(said("empty").contains("no pictures"));
        assert!(said("cifar").contains("read it as an array"));
        assert!(said("tars/s-{0..2}.tar").contains("cannot open"));
    }
}
