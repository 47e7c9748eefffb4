//! A file, or a folder of files, appears complete or not at all.
//!
//! Order of events: write under a temporary name in the same folder, sync, rename over the final name, sync the
//! folder. A crash at any moment leaves either the old content or the new one, and at worst a leftover that
//! [`sweep`] removes. A symbolic link at the final name is replaced, not followed.
//!
//! # Kills for tests
//! `PENTIMENTO_FAULT=<point>[:<n>]` ends the process at the n-th (default first) passage of a point: `mid-write` (the
//! last buffer not yet handed to the system), `after-write`, `after-sync`, `before-rename`, `after-rename` (folder not
//! yet synced). The end is `abort`: as with kill -9 no destructor runs and no buffer is flushed. The variable is read
//! once; a value that is none of these aborts too, so that a misspelt test cannot pass.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Where a kill can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The content is given, its last buffer is not yet handed to the system.
    MidWrite,
    /// All bytes are with the system, none is known to be on the disk.
    AfterWrite,
    /// The content is on the disk under the temporary name.
    AfterSync,
    /// Everything is on the disk, the final name is still the old one.
    BeforeRename,
    /// The final name is new, the folder that says so may not be on the disk.
    AfterRename,
}

impl Point {
    /// Every point in the order in which a write passes them, with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::MidWrite, "mid-write"),
        (Self::AfterWrite, "after-write"),
        (Self::AfterSync, "after-sync"),
        (Self::BeforeRename, "before-rename"),
        (Self::AfterRename, "after-rename"),
    ];
}

/// A kill that is due at the n-th passage of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub point: Point,
    /// At which passage, counted from 1.
    pub passage: u64,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let (name, n) = s.split_once(':').unwrap_or((s, "1"));
        let point = Point::ALL.iter().find(|(_, known)| *known == name).map(|(point, _)| *point);
        match (point, n.parse()) {
            (Some(point), Ok(passage @ 1..)) => Ok(Self { point, passage }),
            _ => Err(format!("PENTIMENTO_FAULT = {s}; expected {}, then :<n>", Point::ALL.map(|(_, n)| n).join(", "))),
        }
    }
}

fn pass(point: Point) {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    static PASSAGES: AtomicU64 = AtomicU64::new(0);
    let fault = FAULT.get_or_init(|| {
        let value = std::env::var("PENTIMENTO_FAULT").ok()?;
        Some(value.parse().unwrap_or_else(|_| std::process::abort()))
    });
    if let Some(fault) = fault
        && fault.point == point
        && PASSAGES.fetch_add(1, Ordering::Relaxed) + 1 == fault.passage
    {
        std::process::abort();
    }
}

const LEFTOVER: &str = ".part";

/// The temporary name beside `path`; it is removed when dropped, unless it was renamed away.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = path.file_name() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
            return Err(Error::os(path, "write", source));
        };
        let mut hidden = OsStr::new(".").to_owned();
        hidden.push(name);
        hidden.push(format!(".{}-{}{LEFTOVER}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        Ok(Self(path.with_file_name(hidden)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed away: nothing is there. Else a failed write, and its own error is the one to report.
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::os(folder, "sync", e))
}

/// Replaces the file at `path` by what `write` puts into it, all or nothing.
///
/// # Errors
/// What `write` returns, or what the system says (no folder, no permission, no space); what was at `path` before is
/// then untouched and nothing is left behind.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let temporary = Temporary::beside(path)?;
    let file = File::create(&temporary.0).map_err(|e| Error::os(path, "write", e))?;
    let mut file = BufWriter::with_capacity(1 << 17, file);
    write(&mut file).map_err(|e| Error::os(path, "write", e))?;
    pass(Point::MidWrite);
    let file = file.into_inner().map_err(|e| Error::os(path, "write", e.into_error()))?;
    pass(Point::AfterWrite);
    file.sync_all().map_err(|e| Error::os(path, "sync", e))?;
    drop(file);
    pass(Point::AfterSync);
    pass(Point::BeforeRename);
    fs::rename(&temporary.0, path).map_err(|e| Error::os(path, "rename", e))?;
    pass(Point::AfterRename);
    sync_folder(folder_of(path))
}

/// Replaces the file at `path` by these bytes, all or nothing.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |w| w.write_all(bytes))
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Makes the folder `path` appear with everything that `fill` writes into the folder it is given, all or nothing.
///
/// # Errors
/// When `path` is already there (it is left as it is), what `fill` returns, or what the system says; nothing is left
/// behind then.
pub fn commit_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::os(path, "write", io::ErrorKind::AlreadyExists.into()));
    }
    let temporary = Temporary::beside(path)?;
    fs::create_dir(&temporary.0).map_err(|e| Error::os(path, "create", e))?;
    fill(&temporary.0)?;
    pass(Point::AfterWrite);
    sync_tree(&temporary.0).map_err(|e| Error::os(path, "sync", e))?;
    pass(Point::AfterSync);
    pass(Point::BeforeRename);
    fs::rename(&temporary.0, path).map_err(|e| Error::os(path, "rename", e))?;
    pass(Point::AfterRename);
    sync_folder(folder_of(path))
}

/// Removes what killed writers left in `folder` and returns its names. Call it under the folder's lock: a living
/// writer's temporary file looks the same.
///
/// # Errors
/// When the folder cannot be read or a leftover cannot be removed.
pub fn sweep(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::os(folder, "read", e))? {
        let path = entry.map_err(|e| Error::os(folder, "read", e))?.path();
        if path.file_name().and_then(OsStr::to_str).is_some_and(is_leftover) {
            let remove = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            remove.map_err(|e| Error::os(&path, "remove", e))?;
            gone.push(path);
        }
    }
    gone.sort();
    Ok(gone)
}

/// `.NAME.PID-COUNT.part`: nobody else's hidden files match.
fn is_leftover(name: &str) -> bool {
    let ours = name.strip_prefix('.').and_then(|n| n.strip_suffix(LEFTOVER)).and_then(|n| n.rsplit_once('.'));
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    ours.and_then(|(_, tail)| tail.split_once('-')).is_some_and(|(pid, count)| number(pid) && number(count))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_bytes(&path, b"old").unwrap();
        write_bytes(&path, &[7; 300_000]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; 300_000]);
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_bytes(&path, b"old").unwrap();
        let full = write_atomic(&path, |w| {
            w.write_all(b"half")?;
            // The system's own refusal, from a device that is always full.
            File::create("/dev/full")?.write_all(b"x")
        });
        let said = full.unwrap_err().to_string();
        assert!(said.contains("cannot write: No space left") && said.contains("free some space"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn an_unusable_folder_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let missing = write_bytes(&dir.path().join("no/a.bin"), b"x").unwrap_err();
        assert!(matches!(missing, Error::Os { what: "write", .. }), "{missing}");
        assert!(missing.to_string().ends_with("; check the path"), "{missing}");
        // /proc refuses new files even to root.
        let refused = write_bytes(Path::new("/proc/a.bin"), b"x").unwrap_err();
        assert!(matches!(refused, Error::Os { what: "write", .. }), "{refused}");
        assert!(matches!(write_bytes(Path::new("/"), b"x"), Err(Error::Os { .. })));
    }

    #[test]
    fn a_folder_appears_with_all_its_files_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("step-120");
        let fail = commit_folder(&path, |tmp| {
            write_bytes(&tmp.join("weights"), b"w")?;
            Err(Error::bad(tmp, "test", "a failure", "none"))
        });
        assert!(fail.is_err());
        assert_eq!(names(dir.path()), Vec::<String>::new());
        commit_folder(&path, |tmp| {
            write_bytes(&tmp.join("weights"), b"w")?;
            fs::create_dir(tmp.join("deep")).unwrap();
            write_bytes(&tmp.join("deep/state"), b"s")
        })
        .unwrap();
        assert_eq!(names(&path), ["deep", "weights"]);
        let again = commit_folder(&path, |_| panic!("must not be asked")).unwrap_err();
        assert!(again.to_string().contains("choose another name"), "{again}");
        assert_eq!(fs::read(path.join("deep/state")).unwrap(), b"s");
    }

    #[test]
    fn sweep_takes_our_leftovers_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".a.bin.12-0.part", "a.part", ".hidden", ".x.part", ".x.1-.part", "keep.1-2.part"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        fs::create_dir(dir.path().join(".step.7-3.part")).unwrap();
        let gone = sweep(dir.path()).unwrap();
        assert_eq!(gone, [dir.path().join(".a.bin.12-0.part"), dir.path().join(".step.7-3.part")]);
        assert_eq!(names(dir.path()), [".hidden", ".x.1-.part", ".x.part", "a.part", "keep.1-2.part"]);
    }

    #[test]
    fn faults_are_read_strictly() {
        assert_eq!("after-sync:3".parse(), Ok(Fault { point: Point::AfterSync, passage: 3 }));
        assert_eq!("mid-write".parse(), Ok(Fault { point: Point::MidWrite, passage: 1 }));
        for wrong in ["", "after", "after-sync:0", "after-sync:", "after-sync:x"] {
            assert!(wrong.parse::<Fault>().unwrap_err().contains("mid-write, after-write"), "{wrong}");
        }
    }

    /// Not a test by itself: `a_kill_at_any_point_...` runs it in a process of its own.
    #[test]
    fn child_that_is_killed() {
        let Ok(folder) = std::env::var("PENTIMENTO_TEST_FOLDER") else { return };
        let folder = Path::new(&folder);
        write_bytes(&folder.join("file"), b"second").unwrap();
        commit_folder(&folder.join("folder"), |tmp| {
            fs::write(tmp.join("a"), b"1").unwrap();
            fs::write(tmp.join("b"), b"2").unwrap();
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_kill_at_any_point_leaves_the_old_or_the_new() {
        for (point, name) in Point::ALL {
            for passage in 1..=2 {
                let dir = tempfile::tempdir().unwrap();
                write_bytes(&dir.path().join("file"), b"first").unwrap();
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "atomic::tests::child_that_is_killed"])
                    .env("PENTIMENTO_TEST_FOLDER", dir.path())
                    .env("PENTIMENTO_FAULT", format!("{name}:{passage}"))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
                // The folder's commit has no buffer of its own, so its second mid-write never comes.
                let killed = !(point == Point::MidWrite && passage == 2);
                assert_eq!(status.success(), !killed, "{name}:{passage}");
                let file = fs::read(dir.path().join("file")).unwrap();
                let renamed = passage == 2 || point == Point::AfterRename;
                assert_eq!(file, if renamed { &b"second"[..] } else { b"first" }, "{name}:{passage}");
                let complete = passage == 2 && (point == Point::AfterRename || !killed);
                assert_eq!(dir.path().join("folder").exists(), complete, "{name}:{passage}");
                if complete {
                    assert_eq!(names(&dir.path().join("folder")), ["a", "b"]);
                }
                let leftovers = sweep(dir.path()).unwrap().len();
                assert_eq!(leftovers, usize::from(killed && point != Point::AfterRename), "{name}:{passage}");
            }
        }
    }
}
