//! JSON lines that survive a kill: appended whole, read with a torn end, cut back to a checkpoint.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::atomic::write_atomic;
use crate::{Error, Result};

/// A last line that a killed writer did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Its number, counted from 1.
    pub line: usize,
    /// How many of its bytes are there.
    pub bytes: usize,
}

/// What a file of JSON lines holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// One value a line; blank lines are left out.
    pub values: Vec<Value>,
    /// The unfinished end, if there is one; it is not among the values.
    pub torn: Option<Torn>,
}

/// What [`cut_back`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Lines that are still there.
    pub kept: usize,
    /// Complete lines that were dropped.
    pub dropped: usize,
    /// The unfinished end that was dropped.
    pub torn: Option<Torn>,
}

/// A file to which lines are appended.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Opens a file for appending, and creates it if need be.
    ///
    /// # Errors
    /// When it cannot be opened, or ends in a torn line: a new line would be glued to it.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(torn) = path.exists().then(|| read(path)).transpose()?.and_then(|lines| lines.torn) {
            let found = format!("{} bytes of an unfinished line", torn.bytes);
            return Err(Error::bad(path, format!("line {}", torn.line), found, "resume the run, which cuts it back"));
        }
        let open = OpenOptions::new().create(true).append(true).read(true).open(path);
        Ok(Self { file: open.map_err(|e| Error::os(path, "open", e))?, path: path.to_owned() })
    }

    /// Appends one line with a single write, so that a kill tears at most the last line. JSON has no number for NaN
    /// and infinity: they become `null`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_vec(value).map_err(|e| Error::os(&self.path, "write", e.into()));
        let mut line = line?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| Error::os(&self.path, "write", e))
    }

    /// Waits until every line is on the disk.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::os(&self.path, "sync", e))
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::os(path, "read", e))
}

/// Reads a file of JSON lines.
///
/// # Errors
/// When it cannot be read, or a line that is not the last is no JSON.
pub fn read(path: &Path) -> Result<Lines> {
    from_bytes(path, &bytes_of(path)?)
}

/// Reads JSON lines from memory; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Lines> {
    let (lines, torn) = split(path, bytes)?;
    Ok(Lines { values: lines.into_iter().map(|(_, value)| value).collect(), torn })
}

type Line<'a> = (&'a [u8], Value);

fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Vec<Line<'a>>, Option<Torn>)> {
    let mut lines = Vec::new();
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Value>(text) {
            // Without its newline, `12` may be the start of `123`; an object or array is complete when it parses.
            Ok(value) if line.ends_with(b"\n") || value.is_object() || value.is_array() => lines.push((text, value)),
            Err(e) if line.ends_with(b"\n") => {
                let place = format!("line {}, column {}", i + 1, e.column());
                return Err(Error::bad(path, place, format!("no JSON: {e}"), "mend or remove this line"));
            }
            _ => return Ok((lines, Some(Torn { line: i + 1, bytes: line.len() }))),
        }
    }
    Ok((lines, None))
}

/// Drops the lines that `keep` refuses and a torn end, all or nothing. The kept lines stay byte for byte, so that a
/// resumed run's file equals an uninterrupted one's.
///
/// # Errors
/// When the file cannot be read or rewritten, or a line that is not the last is no JSON; it is then untouched.
pub fn cut_back(path: &Path, keep: impl Fn(&Value) -> bool) -> Result<Cut> {
    let bytes = bytes_of(path)?;
    let (lines, torn) = split(path, &bytes)?;
    let all = lines.len();
    let kept: Vec<&[u8]> = lines.into_iter().filter(|(_, value)| keep(value)).map(|(text, _)| text).collect();
    write_atomic(path, |w| {
        for line in &kept {
            w.write_all(line)?;
            w.write_all(b"\n")?;
        }
        Ok(())
    })?;
    Ok(Cut { kept: kept.len(), dropped: all - kept.len(), torn })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats.jsonl");
        (dir, path)
    }

    #[test]
    fn lines_are_appended_and_read_in_order() {
        let (_dir, path) = file();
        let mut w = Writer::open(&path).unwrap();
        w.append(&json!({"z": 1, "a": 0.1})).unwrap();
        w.append(&json!({"z": f64::NAN})).unwrap();
        w.sync().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"z\":1,\"a\":0.1}\n{\"z\":null}\n");
        drop(w);
        Writer::open(&path).unwrap().append(&json!([3])).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.values, [json!({"z": 1, "a": 0.1}), json!({"z": null}), json!([3])]);
        assert_eq!(lines.torn, None);
    }

    #[test]
    fn a_torn_end_is_reported_and_a_broken_middle_is_refused() {
        let p = Path::new("s.jsonl");
        let lines = from_bytes(p, b"{\"a\":1}\n\n{\"a\":2").unwrap();
        assert_eq!((lines.values.len(), lines.torn), (1, Some(Torn { line: 3, bytes: 6 })));
        assert_eq!(from_bytes(p, b"1\n12").unwrap().torn, Some(Torn { line: 2, bytes: 2 }));
        assert_eq!(from_bytes(p, b"{\"a\":1}").unwrap(), Lines { values: vec![json!({"a": 1})], torn: None });
        assert_eq!(from_bytes(p, b"{}\n\0\0\0").unwrap().torn, Some(Torn { line: 2, bytes: 3 }));
        let said = from_bytes(p, b"{}\n{\"a\":}\n{}\n").unwrap_err().to_string();
        assert!(said.starts_with("s.jsonl: line 2, column 6: no JSON"), "{said}");
    }

    #[test]
    fn cut_back_keeps_bytes_and_lets_the_writer_go_on() {
        let (_dir, path) = file();
        std::fs::write(&path, "{\"step\": 1, \"x\": 1.50}\r\n{\"step\":2}\n{\"step\":3}\n{\"st").unwrap();
        let said = Writer::open(&path).unwrap_err().to_string();
        assert!(said.contains("line 4: 4 bytes of an unfinished line; resume"), "{said}");
        let cut = cut_back(&path, |v| v["step"].as_i64() <= Some(2)).unwrap();
        assert_eq!(cut, Cut { kept: 2, dropped: 1, torn: Some(Torn { line: 4, bytes: 4 }) });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\": 1, \"x\": 1.50}\n{\"step\":2}\n");
        Writer::open(&path).unwrap().append(&json!({"step": 3})).unwrap();
        assert_eq!(read(&path).unwrap().values.len(), 3);
    }

    #[test]
    fn a_broken_middle_is_left_as_it_is() {
        let (_dir, path) = file();
        std::fs::write(&path, "oops\n{}\n").unwrap();
        assert!(cut_back(&path, |_| true).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "oops\n{}\n");
    }

    proptest! {
        #[test]
        fn any_cut_of_a_good_file_reads_as_a_prefix(n in 0_usize..6, at in 0_usize..200) {
            let text: String = (0..n).map(|i| format!("{}\n", json!({"step": i, "loss": 1.0 / (i as f64 + 3.0)}))).collect();
            let all = from_bytes(Path::new("s"), text.as_bytes()).unwrap().values;
            let part = from_bytes(Path::new("s"), &text.as_bytes()[..at.min(text.len())]).unwrap();
            prop_assert_eq!(&part.values[..], &all[..part.values.len()]);
            let end = &text.as_bytes()[..at.min(text.len())];
            let complete = end.is_empty() || matches!(end[end.len() - 1], b'\n' | b'}');
            prop_assert_eq!(part.torn.is_none(), complete);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes(Path::new("s"), &bytes);
        }
    }
}
