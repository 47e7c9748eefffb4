//! Results and shared weights by the hash of everything that decides them.

use crate::Error;
use pentimento_io::{atomic, source::Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger entries are refused: no small model or result comes near.
const LIMIT: u64 = 8 << 30;

/// Bytes by name: a folder, or memory that is gone with the process (estimates, tests).
#[derive(Debug)]
pub enum Store {
    /// One file per name.
    Folder(PathBuf),
    /// Nothing on disk.
    Memory(RefCell<HashMap<String, Vec<u8>>>),
}

impl Store {
    /// A folder, made if need be.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn folder(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|e| pentimento_io::Error::os(path, "make", e))?;
        Ok(Self::Folder(path.into()))
    }

    /// In memory.
    pub fn memory() -> Self {
        Self::Memory(RefCell::default())
    }

    /// What lies under a name, if anything does.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Memory(map) => Ok(map.borrow().get(name).cloned()),
            Self::Folder(folder) => {
                let path = folder.join(name);
                if !path.is_file() {
                    return Ok(None);
                }
                Ok(Some(Source::open(&path)?.whole(LIMIT)?))
            }
        }
    }

    /// Puts bytes under a name, whole or not at all.
    ///
    /// # Errors
    /// A full disk.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Memory(map) => {
                map.borrow_mut().insert(name.into(), bytes);
                Ok(())
            }
            Self::Folder(folder) => Ok(atomic::write_bytes(&folder.join(name), &bytes)?),
        }
    }
}

/// 16 hex digits of the hash of a JSON value. Keys keep their order, so equal values built alike hash alike.
pub fn key(of: &serde_json::Value) -> String {
    blake3::hash(of.to_string().as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_stores_keep_what_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        for store in [Store::folder(&dir.path().join("a/b")).unwrap(), Store::memory()] {
            assert_eq!(store.get("x").unwrap(), None);
            store.put("x", vec![1, 2]).unwrap();
            store.put("x", vec![3]).unwrap();
            assert_eq!(store.get("x").unwrap(), Some(vec![3]));
        }
    }

    #[test]
    fn keys_change_with_every_part() {
        let of = |seed, lr| key(&json!({"seed": seed, "config": {"lr": lr}}));
        assert_eq!(of(1, 0.1), of(1, 0.1));
        assert!(of(1, 0.1) != of(2, 0.1) && of(1, 0.1) != of(1, 0.2));
        assert_eq!(of(1, 0.1).len(), 16);
    }
}
