//! One curated folder: what it holds, how it is made from a libtorch elsewhere, and how it is checked.

use crate::repo::on_path;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one libtorch that `tch` 0.24 speaks to.
pub const VERSION: &str = "2.11.0";

/// Two headers that every use of libtorch includes; a folder without them is no libtorch.
const HEADERS: [&str; 2] = ["include/torch/csrc/api/include/torch/all.h", "include/ATen/ATen.h"];

/// Always of the machine, never of libtorch.
const SYSTEM: [&str; 9] = [
    "ld-linux",
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libutil.so",
    "libstdc++.so",
    "libgcc_s.so",
];

/// The wheel's `libtorch.so` asks for `libtorch_cuda.so`; the linker reads this instead and asks for the CPU library.
const LINKER_SCRIPT: &str = "INPUT(-ltorch_cpu)\n";

/// Whether `folder` can be built against: right version, headers, libraries. A few file look-ups.
pub fn check(folder: &Path) -> Result<()> {
    let version = version(folder)?;
    ensure!(version == VERSION, "{} is libtorch {version}, and {VERSION} is needed", folder.display());
    for header in HEADERS {
        ensure!(folder.join(header).is_file(), "{}: {header} is missing", folder.display());
    }
    for library in ["libtorch_cpu.so", "libc10.so"] {
        let path = folder.join("lib").join(library);
        let bytes = path.metadata().map(|m| m.len()).unwrap_or(0);
        ensure!(bytes > 0, "{}: the library is missing or empty", path.display());
    }
    Ok(())
}

/// [`check`], and that `libtorch.so` is the linker script: only then is it safe to link as `target/libtorch`.
pub fn check_curated(folder: &Path) -> Result<()> {
    check(folder)?;
    let script = folder.join("lib/libtorch.so");
    let is_script = fs::read(&script).is_ok_and(|bytes| bytes == LINKER_SCRIPT.as_bytes());
    ensure!(is_script, "{}: not the linker script that leaves CUDA out", script.display());
    Ok(())
}

/// The version in `build-version` (archives) or `version.py` (wheels), without what follows a plus sign.
pub fn version(folder: &Path) -> Result<String> {
    let text = fs::read_to_string(folder.join("build-version"))
        .or_else(|_| fs::read_to_string(folder.join("version.py")))
        .with_context(|| format!("{}: neither build-version nor version.py can be read", folder.display()))?;
    version_in(&text).with_context(|| format!("{}: no version in its version file", folder.display()))
}

/// Reads `2.11.0+cpu` and `__version__ = '2.11.0+cpu'` alike.
pub fn version_in(text: &str) -> Option<String> {
    let line = text.lines().find_map(|l| l.strip_prefix("__version__ = ")).or_else(|| text.lines().next())?;
    let plain = line.trim().trim_matches(['\'', '"']);
    let plain = plain.split('+').next().unwrap_or(plain);
    plain.starts_with(|c: char| c.is_ascii_digit()).then(|| plain.to_owned())
}

/// Where a folder made from `source` is kept: beside the fetched one, under a name of its own.
pub fn place_for(cache: &Path, source: &Path) -> PathBuf {
    let digest = Sha256::digest(source.as_os_str().as_encoded_bytes());
    cache.join(format!("libtorch-{VERSION}-from-{}", &hex(&digest)[..12]))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes a curated folder at `to` from the libtorch at `from`, by hard links where the disk allows and copies elsewhere.
pub fn from_folder(from: &Path, to: &Path) -> Result<()> {
    check(from)?;
    let lib = to.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("{}: cannot make this folder", lib.display()))?;
    tree(&from.join("include"), &to.join("include"))?;
    for (name, path) in closure(&from.join("lib"))? {
        link_or_copy(&path, &lib.join(name))?;
    }
    for name in ["LICENSE", "NOTICE"] {
        let licence = from.join(name);
        if licence.is_file() {
            link_or_copy(&licence, &to.join(name))?;
        }
    }
    finish(to, &from.display().to_string())
}

/// Writes the small files that mark a folder as curated, then checks it.
pub fn finish(folder: &Path, source: &str) -> Result<()> {
    for (name, text) in [
        ("lib/libtorch.so", LINKER_SCRIPT.to_owned()),
        ("build-version", format!("{VERSION}\n")),
        ("SOURCE", format!("{source}\n")),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    check_curated(folder)?;
    closure(&folder.join("lib"))?;
    loads(folder)
}

/// What the folder was made from, as recorded in it.
pub fn source(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join("SOURCE")).ok().map(|s| s.trim_end().to_owned())
}

/// Every library that `libtorch_cpu.so` needs and the machine does not bring, by name, with the file it was found in.
fn closure(lib: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let Some(readelf) = on_path(&["readelf"]) else {
        bail!("readelf is not installed, so what libtorch needs cannot be read; sudo apt-get install -y binutils");
    };
    let mut found = BTreeMap::new();
    let mut open = vec![lib.join("libtorch_cpu.so"), lib.join("libc10.so")];
    while let Some(path) = open.pop() {
        let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else { continue };
        if found.contains_key(&name) {
            continue;
        }
        let output = Command::new(&readelf).arg("-d").arg(&path).output().context("readelf does not start")?;
        ensure!(output.status.success(), "{}: not a shared library that readelf reads", path.display());
        let (needed, runpath) = dynamic(&String::from_utf8_lossy(&output.stdout));
        found.insert(name, path);
        for need in needed.iter().filter(|n| !SYSTEM.iter().any(|s| n.starts_with(s))) {
            let places = std::iter::once(lib.to_owned())
                .chain(runpath.iter().map(|p| PathBuf::from(p.replace("$ORIGIN", &lib.to_string_lossy()))))
                .chain(beside(lib));
            match places.map(|p| p.join(need)).find(|p| p.is_file()) {
                Some(path) => open.push(path),
                // GCC brings its own libgomp; a folder without one is still complete.
                None if need.starts_with("libgomp.so") => {}
                None => bail!("{}: needs {need}, which is not beside it", lib.display()),
            }
        }
    }
    Ok(found)
}

/// In a Python environment the NVIDIA libraries lie in `site-packages/nvidia/*/lib`, two steps up from `torch/lib`.
fn beside(lib: &Path) -> Vec<PathBuf> {
    let nvidia = lib.join("../../nvidia");
    let packages = fs::read_dir(nvidia).into_iter().flatten().flatten();
    let mut libs: BTreeSet<PathBuf> = packages.map(|p| p.path().join("lib")).collect();
    libs.retain(|p| p.is_dir());
    libs.into_iter().collect()
}

/// The NEEDED names and the RPATH or RUNPATH entries in what `readelf -d` prints.
pub fn dynamic(readelf: &str) -> (Vec<String>, Vec<String>) {
    let mut needed = Vec::new();
    let mut runpath = Vec::new();
    for line in readelf.lines() {
        let Some(value) = line.split_once('[').and_then(|(_, v)| v.rsplit_once(']')).map(|(v, _)| v) else { continue };
        if line.contains("(NEEDED)") {
            needed.push(value.to_owned());
        } else if line.contains("(RPATH)") || line.contains("(RUNPATH)") {
            runpath.extend(value.split(':').map(str::to_owned));
        }
    }
    (needed, runpath)
}

/// Opens the library once, so that a folder which cannot run is found now and not after a long build.
fn loads(folder: &Path) -> Result<()> {
    let Some(python) = on_path(&["python3", "python"]) else { return Ok(()) };
    let library = folder.join("lib/libtorch_cpu.so");
    let script = "import ctypes, sys; ctypes.CDLL(sys.argv[1])";
    let output = Command::new(python).args(["-c", script]).arg(&library).env_remove("LD_LIBRARY_PATH").output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", library.display(), why.lines().last().unwrap_or("does not load"));
    Ok(())
}

fn tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{}: cannot make this folder", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("{}: cannot list", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            tree(&source, &target)?;
        } else {
            link_or_copy(&source, &target)?;
        }
    }
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let real = from.canonicalize().with_context(|| format!("{}: cannot follow", from.display()))?;
    if fs::hard_link(&real, to).is_err() {
        fs::copy(&real, to).with_context(|| format!("{}: cannot copy to {}", real.display(), to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_archives_and_wheels_are_read() {
        assert_eq!(version_in("2.11.0+cpu\n").as_deref(), Some("2.11.0"));
        let py = "from typing import Optional\n\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        assert_eq!(version_in(py).as_deref(), Some("2.11.0"));
        assert_eq!(version_in("nothing here"), None);
    }

    #[test]
    fn readelf_lines_give_names_and_paths() {
        let text = " 0x0001 (NEEDED)   Shared library: [libc10.so]\n 0x000f (RPATH)   Library rpath: [$ORIGIN/../x:$ORIGIN]\n \
                    0x000e (SONAME)  Library soname: [libtorch_cpu.so]\n";
        let (needed, runpath) = dynamic(text);
        assert_eq!(needed, ["libc10.so"]);
        assert_eq!(runpath, ["$ORIGIN/../x", "$ORIGIN"]);
    }

    #[test]
    fn a_folder_of_another_version_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("build-version"), "2.5.1+cpu").unwrap();
        let said = check(folder.path()).unwrap_err().to_string();
        assert!(said.ends_with("is libtorch 2.5.1, and 2.11.0 is needed"), "{said}");
        let empty = tempfile::tempdir().unwrap();
        assert!(check(empty.path()).is_err());
    }

    #[test]
    fn a_missing_header_or_library_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("build-version"), "2.11.0").unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("torch/all.h is missing"));
        for header in HEADERS {
            let path = folder.path().join(header);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert!(check(folder.path()).unwrap_err().to_string().contains("libtorch_cpu.so"));
    }

    #[test]
    fn different_sources_have_different_places() {
        let cache = Path::new("/c");
        let (a, b) = (place_for(cache, Path::new("/a")), place_for(cache, Path::new("/b")));
        assert_ne!(a, b);
        assert_eq!(a, place_for(cache, Path::new("/a")));
    }
}
