//! The order in which libtorch is looked for, and the one place where it is linked.

use super::curate::{self, VERSION};
use super::{needs, wheels};
use crate::repo::{Repo, on_path};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the user asked of the set-up.
#[derive(Default)]
pub struct Ask {
    /// A libtorch or a folder of wheels brought by hand.
    pub from: Option<PathBuf>,
    /// Look again although a good folder is linked.
    pub again: bool,
}

/// A linked libtorch.
pub struct Ground {
    folder: PathBuf,
    source: String,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libtorch {VERSION} in {} (from {})", self.folder.display(), self.source)
    }
}

/// A place that was looked at, and why it was not taken.
struct Tried {
    place: String,
    why: String,
}

/// Finds or fetches libtorch and links it; returns at once, without a process or a lock, when that is already done.
pub fn run(repo: &Repo, ask: &Ask) -> Result<Ground> {
    needs::to_build()?;
    let wanted = ask.from.clone().or_else(|| repo.given_libtorch());
    if !ask.again
        && let Some(ground) = linked(repo, wanted.as_deref())
    {
        return Ok(ground);
    }
    let cache = cache(repo);
    fs::create_dir_all(&cache).with_context(|| format!("{}: cannot make this folder", cache.display()))?;
    let _lock = lock(&cache)?;
    // Whoever held the lock before may have done it all.
    if !ask.again
        && let Some(ground) = linked(repo, wanted.as_deref())
    {
        return Ok(ground);
    }
    let (folder, tried) = search(repo, ask, &cache)?;
    let Some(folder) = folder else { bail!("{}", nothing_found(&tried)) };
    for link in repo.links() {
        place_link(&folder, &link)?;
    }
    let source = curate::source(&folder).unwrap_or_else(|| "the cache".to_owned());
    Ok(Ground { folder, source })
}

/// The folder that every link already points to, if it is good and is the one wanted.
fn linked(repo: &Repo, wanted: Option<&Path>) -> Option<Ground> {
    let mut folders = repo.links().into_iter().map(|l| l.canonicalize().ok());
    let folder = folders.next()??;
    if folders.any(|other| other.as_ref() != Some(&folder)) || curate::check_curated(&folder).is_err() {
        return None;
    }
    let source = curate::source(&folder);
    if let Some(wanted) = wanted {
        let taken = source.as_deref() == wanted.to_str() || wanted.canonicalize().is_ok_and(|w| w == folder);
        // A LIBTORCH of another version was refused before and would be again: it does not undo the link.
        if !taken && curate::check(wanted).is_ok() {
            return None;
        }
    }
    Some(Ground { folder, source: source.unwrap_or_else(|| "the cache".to_owned()) })
}

fn cache(repo: &Repo) -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = std::env::var_os("HOME").filter(|v| !v.is_empty()).map(|h| PathBuf::from(h).join(".cache"));
    base.or(home).unwrap_or_else(|| repo.target.clone()).join("pentimento")
}

/// Held until the set-up ends, and given back by the system if it is killed.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("{}: cannot write", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("another set-up is running; waiting for it");
            file.lock().with_context(|| format!("{}: cannot lock", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("{}: cannot lock", path.display()));
        }
    }
    Ok(file)
}

/// The first source that gives a good folder, and what was wrong with those before it.
fn search(repo: &Repo, ask: &Ask, cache: &Path) -> Result<(Option<PathBuf>, Vec<Tried>)> {
    sweep(cache);
    let mut tried = Vec::new();
    if let Some(from) = &ask.from {
        let from = from.canonicalize().with_context(|| format!("{}: cannot open", from.display()))?;
        return Ok((Some(by_hand(&from, cache)?), tried));
    }
    match repo.given_libtorch() {
        Some(given) => match from_folder(&given, cache) {
            Ok(folder) => return Ok((Some(folder), tried)),
            Err(error) => {
                say(&format!("LIBTORCH is set but not used: {error:#}"));
                tried.push(Tried { place: "LIBTORCH".into(), why: format!("{error:#}") });
            }
        },
        None => tried.push(Tried { place: "LIBTORCH".into(), why: "not set".into() }),
    }
    match python_torch().and_then(|torch| from_folder(&torch, cache)) {
        Ok(folder) => return Ok((Some(folder), tried)),
        Err(error) => tried.push(Tried { place: "torch in python3".into(), why: format!("{error:#}") }),
    }
    let fetched = cache.join(format!("libtorch-{VERSION}"));
    match curate::check_curated(&fetched) {
        Ok(()) => return Ok((Some(fetched), tried)),
        Err(_) if !fetched.exists() => {
            tried.push(Tried { place: "the cache".into(), why: format!("{} is not there", fetched.display()) });
        }
        Err(error) => tried.push(Tried { place: "the cache".into(), why: format!("{error:#}") }),
    }
    for set in [&wheels::CPU, &wheels::PYPI] {
        match fetch(set, cache, &fetched) {
            Ok(()) => return Ok((Some(fetched), tried)),
            Err(error) => {
                say(&format!("{}: {error:#}", set.name));
                tried.push(Tried { place: set.name.into(), why: format!("{error:#}") });
            }
        }
    }
    Ok((None, tried))
}

/// Removes what a killed set-up left; the lock is held, so nobody is using it.
fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".part-") {
            // Left-overs cost disk, not correctness.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn by_hand(from: &Path, cache: &Path) -> Result<PathBuf> {
    if from.join("lib/libtorch_cpu.so").is_file() {
        return from_folder(from, cache);
    }
    let Some(set) = [&wheels::CPU, &wheels::PYPI].into_iter().find(|set| wheels::all_in(set, from)) else {
        bail!("{}: neither a libtorch (lib/libtorch_cpu.so) nor {}", from.display(), wheels_needed());
    };
    let to = cache.join(format!("libtorch-{VERSION}"));
    made(cache, &to, |part| wheels::from_saved(set, from, part))?;
    Ok(to)
}

fn wheels_needed() -> String {
    let names: Vec<_> = wheels::PYPI.wheels.iter().map(|w| w.file).collect();
    format!("the wheel {}, nor the wheels {}", wheels::CPU.wheels[0].file, names.join(", "))
}

/// The curated folder of a libtorch elsewhere on this machine: the one made before, if it is still good.
fn from_folder(from: &Path, cache: &Path) -> Result<PathBuf> {
    curate::check(from)?;
    if curate::check_curated(from).is_ok() {
        return from.canonicalize().with_context(|| format!("{}: cannot follow", from.display()));
    }
    let to = curate::place_for(cache, from);
    let same = |lib: &str| {
        let size = |folder: &Path| folder.join("lib").join(lib).metadata().map(|m| m.len()).ok();
        size(from) == size(&to)
    };
    if curate::check_curated(&to).is_err() || !same("libtorch_cpu.so") {
        made(cache, &to, |part| curate::from_folder(from, part))?;
    }
    // The path is recorded as it was given, so that a later run knows it again.
    let source = to.join("SOURCE");
    fs::write(&source, format!("{}\n", from.display()))
        .with_context(|| format!("{}: cannot write", source.display()))?;
    Ok(to)
}

fn python_torch() -> Result<PathBuf> {
    let Some(python) = on_path(&["python3", "python"]) else { bail!("python3 is not installed") };
    // Finding the package does not run it: importing torch takes seconds.
    let script =
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new(python).args(["-c", script]).output().context("python3 does not start")?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() {
        bail!("python3 has no torch");
    }
    Ok(PathBuf::from(folder))
}

fn fetch(set: &wheels::Set, cache: &Path, to: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the pinned files are for Linux on x86-64");
    }
    let python = needs::python_with_pip().map_err(anyhow::Error::msg)?;
    let work = cache.join(format!(".part-fetch-{}", std::process::id()));
    let outcome = made(cache, to, |part| wheels::fetch(set, &python, &work, part));
    // Half a gigabyte of wheels that nobody needs once they are unpacked.
    let _ = fs::remove_dir_all(&work);
    outcome
}

/// Makes `to` whole or not at all: in a folder beside it, renamed when `make` has checked it.
fn made(cache: &Path, to: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = cache.join(format!(".part-{}", std::process::id()));
    let outcome = make(&part).and_then(|()| {
        if to.exists() {
            let old = cache.join(format!(".part-old-{}", std::process::id()));
            fs::rename(to, &old).with_context(|| format!("{}: cannot move away", to.display()))?;
            let _ = fs::remove_dir_all(old);
        }
        fs::rename(&part, to).with_context(|| format!("{}: cannot rename to {}", part.display(), to.display()))
    });
    if part.exists() {
        // The reason that is worth telling is in `outcome`.
        let _ = fs::remove_dir_all(part);
    }
    outcome
}

fn place_link(folder: &Path, link: &Path) -> Result<()> {
    match fs::symlink_metadata(link) {
        Ok(m) if m.is_symlink() && fs::read_link(link).is_ok_and(|at| at == folder) => return Ok(()),
        Ok(m) if m.is_symlink() => {
            fs::remove_file(link).with_context(|| format!("{}: cannot replace this link", link.display()))?;
        }
        Ok(_) => bail!("{}: a folder or file is in the way of the link to libtorch; move it away", link.display()),
        Err(_) => {}
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{}: cannot make this folder", parent.display()))?;
    }
    std::os::unix::fs::symlink(folder, link).with_context(|| format!("{}: cannot make this link", link.display()))
}

fn nothing_found(tried: &[Tried]) -> String {
    let list: String = tried.iter().map(|t| format!("\n  - {}: {}", t.place, t.why)).collect();
    let files: String = wheels::PYPI.wheels.iter().map(|w| format!("\n      {}  {}", w.sha256, w.file)).collect();
    format!(
        "no libtorch {VERSION} was found and none could be fetched. Tried, in this order:{list}\n\
         Do one of these, then run the command again:\n\
         \x20 - open a way to https://pypi.org or a mirror (pip reads PIP_INDEX_URL, PIP_CERT and HTTPS_PROXY);\n\
         \x20 - install torch {VERSION} where python3 finds it, or set LIBTORCH to an unpacked libtorch {VERSION};\n\
         \x20 - on a machine with a network, download these three files from PyPI, bring them here in one folder,\n\
         \x20   and run `cargo xtask setup --from FOLDER`:{files}"
    )
}

#[expect(clippy::print_stderr, reason = "a command line speaks")]
fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_what_was_tried_and_what_to_do() {
        let said = nothing_found(&[
            Tried { place: "LIBTORCH".into(), why: "not set".into() },
            Tried { place: "the cache".into(), why: "empty".into() },
        ]);
        for part in
            ["- LIBTORCH: not set", "- the cache: empty", "--from FOLDER", "PIP_INDEX_URL", "torch-2.11.0-cp311"]
        {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let cache = tempfile::tempdir().unwrap();
        let to = cache.path().join("made");
        let broken = made(cache.path(), &to, |part| {
            fs::create_dir_all(part)?;
            fs::write(part.join("half"), "x")?;
            bail!("power cut")
        });
        assert_eq!(broken.unwrap_err().to_string(), "power cut");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
        for text in ["first", "second"] {
            made(cache.path(), &to, |part| {
                fs::create_dir_all(part)?;
                Ok(fs::write(part.join("whole"), text)?)
            })
            .unwrap();
            assert_eq!(fs::read_to_string(to.join("whole")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_replaced_and_a_real_folder_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let (a, b, link) = (scratch.path().join("a"), scratch.path().join("b"), scratch.path().join("t/link"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        place_link(&a, &link).unwrap();
        place_link(&b, &link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), b);
        assert!(place_link(&a, &b).unwrap_err().to_string().contains("in the way"));
    }

    #[test]
    fn a_second_set_up_waits_for_the_first() {
        let cache = tempfile::tempdir().unwrap();
        let held = lock(cache.path()).unwrap();
        let path = cache.path().to_owned();
        let second = std::thread::spawn(move || lock(&path).map(|_| std::time::Instant::now()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        let released = std::time::Instant::now();
        drop(held);
        assert!(second.join().unwrap().unwrap() >= released);
    }

    #[test]
    fn left_overs_of_a_killed_run_are_swept() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir_all(cache.path().join(".part-77/include")).unwrap();
        fs::create_dir_all(cache.path().join("libtorch-2.11.0")).unwrap();
        sweep(cache.path());
        assert!(!cache.path().join(".part-77").exists());
        assert!(cache.path().join("libtorch-2.11.0").exists());
    }
}
