//! Weights as people have them: one safetensors file, or the shards of a Hugging Face index, read as one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::safetensors::{Metadata, Reader};
use crate::{Array, Error, Result};

const INDEX: &str = ".safetensors.index.json";

/// Opened weights; each tensor is read when asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<Reader<File>>,
    place: BTreeMap<String, usize>,
    metadata: Metadata,
    path: PathBuf,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens a `.safetensors` file, a `*.safetensors.index.json`, or a folder that holds exactly one of either.
    ///
    /// # Errors
    /// When a file is missing or not valid, or a shard lacks a tensor that the index places there.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { within(path)? } else { path.to_owned() };
        if path.to_string_lossy().ends_with(INDEX) {
            return Self::sharded(&path);
        }
        let reader = Reader::open(&path)?;
        let place = reader.names().map(|name| (name.to_owned(), 0)).collect();
        let metadata = reader.metadata().clone();
        Ok(Self { files: vec![reader], place, metadata, path })
    }

    fn sharded(path: &Path) -> Result<Self> {
        const ADVICE: &str = "fetch the whole folder again";
        let text = std::fs::read(path).map_err(|e| Error::os(path, "read", e))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|e| Error::bad(path, "weight_map", format!("not a valid index: {e}"), ADVICE))?;
        let mut files: Vec<Reader<File>> = Vec::new();
        let mut of_shard = BTreeMap::new();
        let mut place = BTreeMap::new();
        let mut metadata = Metadata::new();
        for (name, shard) in index.weight_map {
            let i = match of_shard.get(&shard) {
                Some(&i) => i,
                None => {
                    // An index comes from elsewhere: it may name files beside it and no others.
                    if Path::new(&shard).file_name() != Some(shard.as_ref()) {
                        let found = format!("the shard {shard:?}, which is not a plain file name");
                        return Err(Error::bad(path, "weight_map", found, ADVICE));
                    }
                    let reader = Reader::open(&path.with_file_name(&shard))?;
                    metadata.extend(reader.metadata().clone());
                    files.push(reader);
                    of_shard.insert(shard.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files[i].shape(&name).is_none() {
                let found = format!("no such tensor; {} places it here", path.display());
                return Err(Error::bad(files[i].path(), format!("tensor {name}"), found, ADVICE));
            }
            place.insert(name, i);
        }
        Ok(Self { files, place, metadata, path: path.to_owned() })
    }

    /// The file or index that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Shape of a tensor, without reading it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.files[*self.place.get(name)?].shape(name)
    }

    /// Strings beside the tensors, of all shards together.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// As [`Reader::read`]; a name that the index lacks is refused even if a shard holds it.
    pub fn read(&mut self, name: &str) -> Result<Array> {
        match self.place.get(name) {
            Some(&i) => self.files[i].read(name),
            None if self.files.len() == 1 => self.files[0].read(name),
            None => {
                let found = format!("no such tensor among {}", self.place.len());
                Err(Error::bad(
                    &self.path,
                    format!("tensor {name}"),
                    found,
                    "check that the weights belong to this network",
                ))
            }
        }
    }
}

/// The one index of a folder, or else its one safetensors file.
fn within(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::os(folder, "read", e))?;
    let mut names: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    names.sort();
    for ending in [INDEX, ".safetensors"] {
        let mut with_ending = names.iter().filter(|p| p.to_string_lossy().ends_with(ending));
        match (with_ending.next(), with_ending.next()) {
            (Some(one), None) => return Ok(one.clone()),
            (Some(one), Some(two)) => {
                let found = format!("both {} and {}", one.display(), two.display());
                return Err(Error::bad(folder, "folder", found, "name the file that you mean"));
            }
            _ => {}
        }
    }
    Err(Error::bad(folder, "folder", "no .safetensors file", "name a folder of weights"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Values;
    use crate::safetensors::write;

    fn array(x: f32) -> Array {
        Array::new(vec![1], Values::F32(vec![x]))
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let file = |i| dir.path().join(format!("model-0000{i}-of-00002.safetensors"));
        write(&file(1), &[("a", &array(1.0)), ("extra", &array(9.0))], &Metadata::new()).unwrap();
        write(&file(2), &[("b", &array(2.0))], &Metadata::new()).unwrap();
        dir
    }

    fn index(dir: &tempfile::TempDir, map: &str) -> PathBuf {
        let path = dir.path().join("model.safetensors.index.json");
        std::fs::write(&path, format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{map}}}"#)).unwrap();
        path
    }

    #[test]
    fn shards_read_as_one_by_index_or_folder() {
        let dir = folder();
        let path = index(&dir, r#"{"b":"model-00002-of-00002.safetensors","a":"model-00001-of-00002.safetensors"}"#);
        for open in [&path, dir.path()] {
            let mut w = Weights::open(open).unwrap();
            assert_eq!(w.names().collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!((w.read("a").unwrap(), w.read("b").unwrap()), (array(1.0), array(2.0)));
            assert_eq!(w.shape("b"), Some(&[1][..]));
            assert!(w.read("extra").unwrap_err().to_string().contains("no such tensor among 2"));
        }
        let mut one = Weights::open(&dir.path().join("model-00002-of-00002.safetensors")).unwrap();
        assert_eq!(one.read("b").unwrap(), array(2.0));
    }

    #[test]
    fn indices_that_lie_are_refused() {
        let dir = folder();
        for (map, why) in [
            (r#"{"a":"../other.safetensors"}"#, "not a plain file name"),
            (r#"{"a":"/etc/passwd"}"#, "not a plain file name"),
            (r#"{"a":"model-00009-of-00002.safetensors"}"#, "cannot open"),
            (r#"{"zz":"model-00002-of-00002.safetensors"}"#, "tensor zz: no such tensor"),
            (r#"[1]"#, "not a valid index"),
        ] {
            let said = Weights::open(&index(&dir, map)).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_folder_must_be_unambiguous() {
        let dir = folder();
        assert!(Weights::open(dir.path()).unwrap_err().to_string().contains("name the file that you mean"));
        let empty = tempfile::tempdir().unwrap();
        assert!(Weights::open(empty.path()).unwrap_err().to_string().contains("no .safetensors file"));
    }
}
