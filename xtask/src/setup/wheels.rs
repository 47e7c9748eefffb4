//! The pinned wheels: what they are called, what they must hash to, and which of their files are kept.

use super::curate::{self, VERSION, hex};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// One wheel, pinned.
pub struct Wheel {
    /// What pip is asked for: `name==version`, or an address.
    pub ask: &'static str,
    /// The file that pip saves.
    pub file: &'static str,
    /// Its SHA-256, as the index publishes it.
    pub sha256: &'static str,
    /// Its size, for the progress bar; 0 where it was not seen.
    pub bytes: u64,
}

/// A set of wheels that together hold the CPU libraries and what they need.
pub struct Set {
    /// How messages call it.
    pub name: &'static str,
    /// Python's version and ABI tag of the wheels; nothing of Python is kept.
    pub python: (&'static str, &'static str),
    /// The wheels.
    pub wheels: &'static [Wheel],
    /// Seconds without a byte after which pip gives up, and how often it tries again.
    pub patience: (&'static str, &'static str),
}

/// PyTorch's CPU build from its own server. The zip archive of the same build has no published checksum; this has one.
pub const CPU: Set = Set {
    name: "the official CPU archive (download.pytorch.org)",
    python: ("3.12", "cp312"),
    wheels: &[Wheel {
        ask: "https://download.pytorch.org/whl/cpu/torch-2.11.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        file: "torch-2.11.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        sha256: "f82e2ae20c1545bb03997d1cc3143d94e14b800038669ee1aca45808a9acc338",
        bytes: 0,
    }],
    patience: ("10", "1"),
};

/// The default build, as PyPI and every mirror of it serve it.
pub const PYPI: Set = Set {
    name: "the wheels of PyPI",
    python: ("3.11", "cp311"),
    wheels: &[
        Wheel {
            ask: "torch==2.11.0",
            file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            bytes: 530_604_548,
        },
        Wheel {
            ask: "nvidia-cuda-runtime==13.5.37",
            file: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
            bytes: 2_504_024,
        },
        Wheel {
            ask: "nvidia-cuda-cupti==13.5.25",
            file: "nvidia_cuda_cupti-13.5.25-py3-none-manylinux_2_25_x86_64.whl",
            sha256: "9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650",
            bytes: 12_592_974,
        },
    ],
    patience: ("30", "3"),
};

/// Downloads the set with pip into `work`, checks the sums and makes the curated folder at `to`.
pub fn fetch(set: &Set, python: &Path, work: &Path, to: &Path) -> Result<()> {
    let saved = work.join("wheels");
    let scratch = work.join("pip");
    for folder in [&saved, &scratch] {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot make this folder", folder.display()))?;
    }
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet", "--disable-pip-version-check"])
        .args([
            "--only-binary=:all:",
            "--implementation",
            "cp",
            "--python-version",
            set.python.0,
            "--abi",
            set.python.1,
        ])
        .args(["--timeout", set.patience.0, "--retries", set.patience.1]);
    // pip takes a platform at its word, so every one that the wheels are tagged with is named.
    for platform in ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"] {
        pip.arg("--platform").arg(format!("{platform}_x86_64"));
    }
    pip.arg("--dest").arg(&saved);
    for wheel in set.wheels {
        match wheel.ask.starts_with("https:") {
            true => pip.arg(format!("{}#sha256={}", wheel.ask, wheel.sha256)),
            false => pip.arg(wheel.ask),
        };
    }
    // pip writes to TMPDIR while it downloads, which is how the growing file can be watched.
    pip.env("TMPDIR", &scratch).stdin(Stdio::null()).stdout(Stdio::null());
    let log = work.join("pip.log");
    pip.stderr(File::create(&log).with_context(|| format!("{}: cannot write", log.display()))?);
    watch(pip, set, work).map_err(|error| match fs::read_to_string(&log).ok().and_then(|text| reason(&text)) {
        Some(reason) => anyhow::anyhow!("{reason}"),
        None => error,
    })?;
    from_saved(set, &saved, to)
}

/// Makes the curated folder at `to` from the wheels that lie in `saved`.
pub fn from_saved(set: &Set, saved: &Path, to: &Path) -> Result<()> {
    for wheel in set.wheels {
        verify(wheel, &saved.join(wheel.file))?;
    }
    unpack(set, saved, to)?;
    curate::finish(to, set.name)
}

/// Whether a folder holds every wheel of the set.
pub fn all_in(set: &Set, folder: &Path) -> bool {
    set.wheels.iter().all(|w| folder.join(w.file).is_file())
}

fn watch(mut pip: Command, set: &Set, work: &Path) -> Result<()> {
    let total = set.wheels.iter().map(|w| w.bytes).sum::<u64>();
    let bar = bar(total, format!("downloading {}", set.name));
    let mut child = pip.spawn().context("python3 does not start")?;
    let status = loop {
        if let Some(status) = child.try_wait().context("pip cannot be waited for")? {
            break status;
        }
        // A finished wheel is counted twice while pip copies it out of its scratch folder.
        let here = size_of(work);
        bar.set_position(if total > 0 { here.min(total) } else { here });
        std::thread::sleep(Duration::from_millis(200));
    };
    bar.finish_and_clear();
    ensure!(status.success(), "pip stopped with {status}");
    Ok(())
}

/// What pip says went wrong, in one line: its last error, and why the last connection broke.
fn reason(log: &str) -> Option<String> {
    let error = log.lines().filter_map(|l| l.strip_prefix("ERROR: ")).next_back()?.trim();
    let broken = log.lines().rev().find_map(|l| l.split_once("connection broken by ")).map(|(_, cause)| {
        // `'SomeError('<an object at 0x7f>: the cause')': /path`, or without the object.
        let cause = cause.rsplit_once("': /").map_or(cause, |(cause, _)| cause);
        let cause = cause.rsplit_once(">: ").map_or(cause, |(_, cause)| cause);
        cause.trim_matches(['\'', '"', '(', ')', ' '])
    });
    Some(match broken {
        // After the last retry pip prints a traceback under a bare `Exception:`.
        Some(cause) if error == "Exception:" => cause.to_owned(),
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_owned(),
    })
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => size_of(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

fn verify(wheel: &Wheel, path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("{}: cannot open", path.display()))?;
    let bytes = file.metadata().map(|m| m.len()).unwrap_or(0);
    let bar = bar(bytes, format!("checking {}", package(wheel.file)));
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("{}: cannot read", path.display()))?;
        if n == 0 {
            break;
        }
        sum.update(&buffer[..n]);
        bar.inc(n as u64);
    }
    bar.finish_and_clear();
    let got = hex(&sum.finalize());
    ensure!(
        got == wheel.sha256,
        "{}: SHA-256 is {got}, and {} is expected; the file is damaged or another one",
        path.display(),
        wheel.sha256
    );
    Ok(())
}

fn package(wheel: &str) -> &str {
    wheel.split('-').next().unwrap_or(wheel)
}

/// Where a member of a wheel goes in the curated folder; most go nowhere.
fn place(wheel: &str, member: &str) -> Option<String> {
    if member.ends_with('/') {
        return None;
    }
    if let Some(header) = member.strip_prefix("torch/include/") {
        return Some(format!("include/{header}"));
    }
    if let Some((_, licence)) = member.split_once(".dist-info/licenses/") {
        return match (package(wheel), licence) {
            ("torch", "LICENSE" | "NOTICE") => Some(licence.to_owned()),
            ("torch", _) => None,
            (package, _) => Some(format!("LICENSE-{package}")),
        };
    }
    let (folder, file) = member.rsplit_once('/')?;
    let library = match folder {
        "torch/lib" => matches!(file, "libtorch_cpu.so" | "libc10.so") || file.starts_with("libgomp"),
        _ => folder.ends_with("/lib") && (file.starts_with("libcupti.so.") || file.starts_with("libcudart.so.")),
    };
    library.then(|| format!("lib/{file}"))
}

fn unpack(set: &Set, saved: &Path, to: &Path) -> Result<()> {
    let mut jobs: Vec<(PathBuf, usize, String)> = Vec::new();
    let mut total = 0;
    for wheel in set.wheels {
        let path = saved.join(wheel.file);
        let mut zip = open(&path)?;
        for index in 0..zip.len() {
            let member = zip.by_index_raw(index).with_context(|| format!("{}: entry {index}", path.display()))?;
            let name = member.name().with_context(|| format!("{}: name of entry {index}", path.display()))?;
            if let Some(place) = place(wheel.file, &name) {
                ensure!(member.enclosed_name().is_some(), "{}: {name} leaves its folder", path.display());
                total += member.size();
                jobs.push((path.clone(), index, place));
            }
        }
        if wheel.file.starts_with("torch-") {
            let mut text = String::new();
            zip.by_name("torch/version.py").context("torch/version.py is missing")?.read_to_string(&mut text)?;
            let found = curate::version_in(&text).unwrap_or_default();
            ensure!(found == VERSION, "{}: holds torch {found}, and {VERSION} is needed", path.display());
        }
    }
    let bar = bar(total, "unpacking headers and CPU libraries".to_owned());
    let mut opened: Option<(PathBuf, zip::ZipArchive<File>)> = None;
    let mut buffer = vec![0; 1 << 20];
    for (path, index, place) in jobs {
        let zip = match &mut opened {
            Some((at, zip)) if *at == path => zip,
            _ => &mut opened.insert((path.clone(), open(&path)?)).1,
        };
        let mut member = zip.by_index(index).with_context(|| format!("{}: entry {index}", path.display()))?;
        write_member(&mut member, &to.join(place), &mut buffer, &bar)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn open(path: &Path) -> Result<zip::ZipArchive<File>> {
    let file = File::open(path).with_context(|| format!("{}: cannot open", path.display()))?;
    zip::ZipArchive::new(file).with_context(|| format!("{}: not a zip file", path.display()))
}

fn write_member(member: &mut impl Read, to: &Path, buffer: &mut [u8], bar: &ProgressBar) -> Result<()> {
    let Some(folder) = to.parent() else { bail!("{}: has no folder", to.display()) };
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make this folder", folder.display()))?;
    let mut file = File::create(to).with_context(|| format!("{}: cannot write", to.display()))?;
    loop {
        let n = member.read(buffer).with_context(|| format!("{}: the archive is damaged here", to.display()))?;
        if n == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..n]).with_context(|| format!("{}: cannot write; is the disk full?", to.display()))?;
        bar.inc(n as u64);
    }
}

/// A bar of `total` bytes, or a running count where the total is not known; says its line once where nobody watches.
#[expect(clippy::print_stderr, reason = "without a terminal the bar is hidden")]
fn bar(total: u64, what: String) -> ProgressBar {
    let (bar, form) = match total {
        0 => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes}"),
        _ => (ProgressBar::new(total), "{msg} [{wide_bar}] {bytes}/{total_bytes} {eta}"),
    };
    if bar.is_hidden() {
        eprintln!("{what}");
    }
    bar.with_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_cpu_libraries_and_licences_are_kept() {
        let torch = PYPI.wheels[0].file;
        assert_eq!(place(torch, "torch/include/ATen/ATen.h").as_deref(), Some("include/ATen/ATen.h"));
        assert_eq!(place(torch, "torch/lib/libtorch_cpu.so").as_deref(), Some("lib/libtorch_cpu.so"));
        assert_eq!(place(torch, "torch/lib/libgomp.so.1").as_deref(), Some("lib/libgomp.so.1"));
        assert_eq!(place(torch, "torch-2.11.0.dist-info/licenses/LICENSE").as_deref(), Some("LICENSE"));
        for left in ["torch/lib/libtorch_cuda.so", "torch/lib/libtorch.so", "torch/__init__.py", "torch/include/"] {
            assert_eq!(place(torch, left), None, "{left}");
        }
        let cupti = PYPI.wheels[2].file;
        assert_eq!(place(cupti, "nvidia/cu13/lib/libcupti.so.13").as_deref(), Some("lib/libcupti.so.13"));
        assert_eq!(place(cupti, "nvidia/cu13/lib/libnvperf_host.so"), None);
        let licence = place(cupti, "nvidia_cuda_cupti-13.5.25.dist-info/licenses/License.txt");
        assert_eq!(licence.as_deref(), Some("LICENSE-nvidia_cuda_cupti"));
    }

    #[test]
    fn a_wheel_with_another_sum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.whl");
        fs::write(&path, "abc").unwrap();
        // hashlib.sha256(b"abc").hexdigest()
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let wheel = Wheel { ask: "x", file: "x.whl", sha256, bytes: 3 };
        verify(&wheel, &path).unwrap();
        fs::write(&path, "abd").unwrap();
        assert!(verify(&wheel, &path).unwrap_err().to_string().contains("damaged or another one"));
    }

    #[test]
    fn the_reason_of_pip_is_one_line() {
        let broken = "WARNING: Retrying (Retry(total=0)) after connection broken by \
                      'NewConnectionError('<x.Connection object at 0x7f>: Failed: [Errno 111] Connection refused')': /simple\n";
        let none =
            "ERROR: Could not find a version (from versions: none)\nERROR: No matching distribution found for torch\n";
        let said = reason(&format!("{broken}{none}")).unwrap();
        assert_eq!(said, "No matching distribution found for torch (Failed: [Errno 111] Connection refused)");
        let said = reason(&format!("{broken}ERROR: Exception:\nTraceback (most recent call last):\n")).unwrap();
        assert_eq!(said, "Failed: [Errno 111] Connection refused");
        assert_eq!(reason(none).unwrap(), "No matching distribution found for torch");
        assert_eq!(reason("all went well"), None);
    }

    #[test]
    fn every_pin_is_a_whole_sum() {
        for wheel in CPU.wheels.iter().chain(PYPI.wheels) {
            assert_eq!(wheel.sha256.len(), 64, "{}", wheel.file);
            assert!(wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{}", wheel.file);
        }
    }
}
