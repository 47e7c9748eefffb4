//! Folders of pictures: class folders, folders with a metadata table, flat folders.
//!
//! # Source
//! torchvision `ImageFolder` (class folders sorted by name give the labels, searched to any depth) and Hugging Face
//! `ImageFolder` (`metadata.csv` or `metadata.jsonl` with a `file_name` column).

use std::path::{Path, PathBuf};

use crate::items::{Item, Items, checked_label};
use crate::limits::{self, Limits};
use crate::picture::{self, Picture};
use crate::source::{STANDARD, Source};
use crate::table::{self, Row, Syntax};
use crate::{Error, Result};

const MAX_DEPTH: usize = 32;
const TABLES: [(&str, Syntax); 2] = [("metadata.csv", Syntax::Csv), ("metadata.jsonl", Syntax::JsonLines)];

/// How a folder says what its pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One folder a class.
    Classes,
    /// A table of metadata.
    Table,
    /// Pictures only.
    Flat,
}

struct Entry {
    file: PathBuf,
    label: Option<i64>,
    caption: Option<String>,
    factors: Vec<f64>,
}

/// An opened folder: its files are listed, its pictures are read when asked for.
pub struct Folder {
    root: PathBuf,
    layout: Layout,
    limits: Limits,
    entries: Vec<Entry>,
    classes: Vec<String>,
    factor_names: Vec<String>,
    ignored: Vec<String>,
}

impl Folder {
    /// Lists a folder of pictures. Hidden files and files without a picture's ending are passed over.
    ///
    /// # Errors
    /// When it cannot be read, holds no picture, has an empty class folder, pictures beside class folders, a class whose
    /// name is not UTF-8, or a broken table.
    pub fn open(root: &Path) -> Result<Self> {
        let mut folder = Self {
            root: root.to_owned(),
            layout: Layout::Flat,
            limits: *STANDARD,
            entries: Vec::new(),
            classes: Vec::new(),
            factor_names: Vec::new(),
            ignored: Vec::new(),
        };
        let tables: Vec<_> = TABLES.iter().filter(|(name, _)| root.join(name).is_file()).collect();
        match tables[..] {
            [] => folder.list()?,
            [&(name, syntax)] => folder.read_table(&root.join(name), syntax)?,
            _ => {
                let advice = "keep the one that is right";
                return Err(Error::bad(root, "folder", "both metadata.csv and metadata.jsonl", advice));
            }
        }
        Ok(folder)
    }

    /// How the folder says what its pictures are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn read_table(&mut self, path: &Path, syntax: Syntax) -> Result<()> {
        let table = table::parse(&Source::open(path)?, syntax, &self.limits)?;
        self.layout = Layout::Table;
        self.classes = table.classes;
        self.factor_names = table.factor_names;
        self.ignored = table.ignored;
        let entry =
            |row: Row| Entry { file: row.file.into(), label: row.label, caption: row.caption, factors: row.factors };
        self.entries = table.rows.into_iter().map(entry).collect();
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        let (folders, pictures) = read_folder(&self.root, Path::new(""))?;
        let mut by_class = Vec::new();
        for folder in folders {
            let mut files = Vec::new();
            gather(&self.root, &folder, 0, self.limits.items, &mut files)?;
            by_class.push((folder, files));
        }
        if by_class.iter().all(|(_, files)| files.is_empty()) {
            if pictures.is_empty() {
                let endings = picture::ENDINGS.map(|e| format!(".{e}")).join(", ");
                let found = format!("no pictures ({endings})");
                return Err(Error::bad(
                    &self.root,
                    "folder",
                    found,
                    "name a folder that holds pictures or class folders",
                ));
            }
            self.add(pictures, None);
            return Ok(());
        }
        if !pictures.is_empty() {
            let found = format!("pictures beside class folders, the first is {:?}", pictures[0]);
            return Err(Error::bad(&self.root, "folder", found, "move each picture into the folder of its class"));
        }
        self.layout = Layout::Classes;
        for (label, (folder, files)) in (0..).zip(by_class) {
            let Some(name) = folder.to_str() else {
                let found = format!("a class folder {folder:?} whose name is not UTF-8");
                return Err(Error::bad(&self.root, "folder", found, "rename it"));
            };
            if files.is_empty() {
                let found = format!("class folder {name:?} holds no pictures");
                return Err(Error::bad(&self.root, "folder", found, "put pictures into it or remove it"));
            }
            self.classes.push(name.to_owned());
            self.add(files, Some(label));
        }
        Ok(())
    }

    fn add(&mut self, files: Vec<PathBuf>, label: Option<i64>) {
        let entry = |file| Entry { file, label, caption: None, factors: Vec::new() };
        self.entries.extend(files.into_iter().map(entry));
    }
}

/// Sub-folders and pictures of one folder, sorted, as paths relative to `root`.
fn read_folder(root: &Path, inside: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let path = root.join(inside);
    let (mut folders, mut pictures) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&path).map_err(|e| Error::os(&path, "read", e))? {
        let entry = entry.map_err(|e| Error::os(&path, "read", e))?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if shown.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(|e| Error::os(&entry.path(), "read", e))?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
        if is_folder {
            folders.push(inside.join(&name));
        } else if picture::has_picture_ending(&shown) {
            pictures.push(inside.join(&name));
        }
    }
    folders.sort();
    pictures.sort();
    Ok((folders, pictures))
}

/// All pictures below a class folder.
fn gather(root: &Path, inside: &Path, depth: usize, most: usize, into: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        let found = format!("folders nested more than {MAX_DEPTH} deep");
        return Err(Error::bad(
            &root.join(inside),
            "folder",
            found,
            "look for a link that leads back into its own folder",
        ));
    }
    let (folders, mut pictures) = read_folder(root, inside)?;
    into.append(&mut pictures);
    if into.len() > most {
        return Err(Error::bad(root, "folder", format!("more than {most} pictures"), "split the data set"));
    }
    folders.iter().try_for_each(|folder| gather(root, folder, depth + 1, most, into))
}

impl Items for Folder {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, i: usize) -> String {
        self.entries[i].file.to_string_lossy().into_owned()
    }

    fn read(&self, i: usize) -> Result<Item> {
        let entry = &self.entries[i];
        let path = self.root.join(&entry.file);
        let Some(name) = entry.file.to_str() else {
            let found = "a file name that is not UTF-8";
            return Err(Error::bad(&path, "name", found, "rename it, or leave it out with --skip-bad"));
        };
        let label = entry.label.map(|l| checked_label(l, &self.classes, &path, || "label".into())).transpose()?;
        let source = Source::open(&path)?;
        limits::admit(&path, "whole file", source.len(), self.limits.member_bytes)?;
        let picture = Picture::decode(&path, &source.whole(self.limits.member_bytes)?, &self.limits)?;
        Ok(Item {
            name: name.to_owned(),
            picture,
            label,
            factors: entry.factors.clone(),
            caption: entry.caption.clone(),
        })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn factor_names(&self) -> &[String] {
        &self.factor_names
    }

    fn ignored_columns(&self) -> &[String] {
        &self.ignored
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (root, layout, items) = (&self.root, self.layout, self.entries.len());
        f.debug_struct("Folder").field("root", root).field("layout", &layout).field("items", &items).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    fn png(value: u8) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::GrayImage::from_raw(1, 1, vec![value]).unwrap();
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn put(root: &Path, file: impl AsRef<Path>, bytes: &[u8]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn class_folders_give_sorted_labels_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "dog/b.png", &png(2));
        put(root.path(), "dog/a.PNG", &png(1));
        put(root.path(), "cat/deep/c.png", &png(3));
        put(root.path(), "cat/notes.txt", b"-");
        put(root.path(), ".hidden/x.png", &png(9));
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!((folder.layout(), folder.classes()), (Layout::Classes, &["cat".to_owned(), "dog".to_owned()][..]));
        let got: Vec<_> = (0..folder.len()).map(|i| folder.read(i).unwrap()).collect();
        let seen: Vec<_> = got.iter().map(|i| (i.name.as_str(), i.label, i.picture.pixels[0])).collect();
        assert_eq!(seen, [("cat/deep/c.png", Some(0), 3), ("dog/a.PNG", Some(1), 1), ("dog/b.png", Some(1), 2)]);
    }

    #[test]
    fn a_table_gives_labels_captions_and_factors() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "train/a.png", &png(1));
        put(
            root.path(),
            "metadata.csv",
            b"file_name,label,text,x\ntrain/a.png,1,one,0.5\nmissing.png,0,two,1\nb.png,-4,,2\n",
        );
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!((folder.layout(), folder.len(), folder.factor_names()), (Layout::Table, 3, &["x".to_owned()][..]));
        let item = folder.read(0).unwrap();
        assert_eq!((item.label, item.caption.as_deref(), &item.factors[..]), (Some(1), Some("one"), &[0.5][..]));
        assert!(matches!(folder.read(1), Err(Error::Os { what: "open", .. })));
        assert!(folder.read(2).unwrap_err().to_string().contains("label -4, expected 0 or more"));
        put(root.path(), "metadata.jsonl", b"{\"file_name\": \"train/a.png\"}");
        assert!(Folder::open(root.path()).unwrap_err().to_string().contains("both metadata.csv and metadata.jsonl"));
    }

    #[test]
    fn a_broken_picture_among_good_ones_is_an_error_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "a.png", &png(1));
        put(root.path(), "b.png", &png(2)[..30]);
        put(root.path(), "c.png", b"");
        put(root.path(), std::ffi::OsStr::from_bytes(b"d\xff.png"), &png(4));
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!((folder.layout(), folder.len()), (Layout::Flat, 4));
        assert_eq!(folder.read(0).unwrap().label, None);
        let said = |i: usize| folder.read(i).unwrap_err().to_string();
        assert!(said(1).contains("b.png: contents: a damaged or cut-short PNG"), "{}", said(1));
        assert!(said(2).contains("c.png: byte 0: an empty file"), "{}", said(2));
        assert!(said(3).contains("a file name that is not UTF-8; rename it"), "{}", said(3));
        assert_eq!(folder.name(3), "d\u{fffd}.png");
    }

    #[test]
    fn empty_mixed_and_endless_folders_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let said = || Folder::open(root.path()).unwrap_err().to_string();
        assert!(said().contains("no pictures (.png, .jpg, .jpeg, .webp); name a folder"), "{}", said());
        put(root.path(), "cat/a.png", &png(1));
        fs::create_dir(root.path().join("dog")).unwrap();
        assert!(said().contains("class folder \"dog\" holds no pictures"), "{}", said());
        put(root.path(), "x.png", &png(1));
        assert!(said().contains("pictures beside class folders, the first is \"x.png\""), "{}", said());
        fs::remove_file(root.path().join("x.png")).unwrap();
        std::os::unix::fs::symlink("..", root.path().join("dog/back")).unwrap();
        assert!(said().contains("nested more than 32 deep"), "{}", said());
        assert!(matches!(Folder::open(Path::new("/nowhere/at/all")), Err(Error::Os { what: "read", .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn what_was_written_is_read(counts in prop::collection::vec(1_usize..4, 1..4)) {
            let root = tempfile::tempdir().unwrap();
            let mut want = Vec::new();
            for (class, &count) in counts.iter().enumerate() {
                for k in 0..count {
                    put(root.path(), format!("class{class}/{k}.png"), &png((10 * class + k) as u8));
                    want.push((Some(class as i64), (10 * class + k) as u8));
                }
            }
            let folder = Folder::open(root.path()).unwrap();
            let got: Vec<_> = (0..folder.len()).map(|i| folder.read(i).unwrap()).map(|i| (i.label, i.picture.pixels[0])).collect();
            prop_assert_eq!(got, want);
        }
    }
}
