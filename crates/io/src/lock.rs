//! One writer for a run folder: a lock that the system releases when its holder ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Who holds a lock, as written in the file `lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Version of this layout.
    pub format_version: u32,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// When it took the lock, `2026-11-21 08:02:01 UTC`.
    pub since: String,
}

/// The right to write into a run folder; dropping it (or dying) gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    holder: Holder,
}

impl Lock {
    /// Takes the lock of a run folder, at once or not at all.
    ///
    /// # Errors
    /// When another process has it (the sentence names that process), or the folder cannot be written to.
    pub fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| Error::os(&path, "lock", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&path, &file)),
            Err(TryLockError::Error(e)) => return Err(Error::os(&path, "lock", e)),
        }
        let holder = Holder { format_version: 1, pid: std::process::id(), host: host(), since: utc(SystemTime::now()) };
        let text = serde_json::to_string(&holder).map_err(|e| Error::os(&path, "lock", e.into()))?;
        file.set_len(0).and_then(|()| writeln!(file, "{text}")).map_err(|e| Error::os(&path, "lock", e))?;
        Ok(Self { _file: file, holder })
    }

    /// What the lock file says of this process.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

fn held(path: &Path, mut file: &File) -> Error {
    let mut text = String::new();
    // A holder that is just starting has not written its name yet.
    let read = Read::by_ref(&mut file).take(4096).read_to_string(&mut text).ok();
    let holder = read.and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let who = match holder {
        Some(h) => format!("process {} on {} has been writing here since {}", h.pid, h.host, h.since),
        None => "another process is writing here".to_owned(),
    };
    Error::Os {
        path: path.to_owned(),
        what: "lock",
        source: io::Error::new(io::ErrorKind::WouldBlock, who),
        advice: "wait for it, end it, or choose another folder".to_owned(),
    }
}

/// Name of this machine.
pub fn host() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = name.ok().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty());
    name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// A moment as `2026-11-21 08:02:01 UTC`.
#[expect(clippy::integer_division, reason = "calendar arithmetic counts whole days, hours and minutes")]
pub fn utc(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire(dir.path()).unwrap();
        let said = Lock::acquire(dir.path()).unwrap_err().to_string();
        let h = first.holder();
        let expected = format!(
            "{}/lock: cannot lock: process {} on {} has been writing here since {}; \
             wait for it, end it, or choose another folder",
            dir.path().display(),
            std::process::id(),
            h.host,
            h.since
        );
        assert_eq!(said, expected);
        drop(first);
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_without_a_holder_is_free_and_garbage_in_it_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "not json, and longer than what a holder writes ".repeat(20)).unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(&serde_json::from_str::<Holder>(&text).unwrap(), lock.holder());
    }

    #[test]
    fn a_missing_folder_is_one_sentence() {
        let said = Lock::acquire(Path::new("/no/such/run")).unwrap_err().to_string();
        assert!(said.starts_with("/no/such/run/lock: cannot lock: No such file"), "{said}");
    }

    #[test]
    fn moments_print_as_the_calendar_has_them() {
        let at = |s| utc(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(at(951_868_799), "2000-02-29 23:59:59 UTC");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59:59 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
