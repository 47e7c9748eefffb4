//! Small text files: recipes, plans, reports.

use crate::{Error, Result};
use std::path::Path;

/// Larger text files are refused: a recipe is a page, not a data set.
const LIMIT: u64 = 16 << 20;

/// A whole UTF-8 file of at most 16 MiB.
///
/// # Errors
/// Unreadable, too large, or not UTF-8 (with the byte where it stops being so).
pub fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(|e| Error::os(path, "open", e))?;
    if size.is_dir() {
        return Err(Error::bad(path, "path", "a folder where a text file is needed", "name a file"));
    }
    if size.len() > LIMIT {
        let advice = "name a text file".into();
        return Err(Error::TooLarge {
            path: path.into(),
            place: "file".into(),
            asked: size.len(),
            limit: LIMIT,
            advice,
        });
    }
    let bytes = std::fs::read(path).map_err(|e| Error::os(path, "read", e))?;
    String::from_utf8(bytes).map_err(|e| {
        let place = format!("byte {}", e.utf8_error().valid_up_to());
        Error::bad(path, place, "not UTF-8 text", "save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_text_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, b"abc\xFF").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("byte 3: not UTF-8"));
        assert!(read(dir.path()).unwrap_err().to_string().contains("a folder"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("check the path"));
    }
}
