//! What a result is a result of: machine, versions, revision, day.

use crate::repo::Repo;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// First line that a program prints; `unknown` if it does not run.
fn said(program: &str, arguments: &[&str], repo: &Repo) -> String {
    let output = Command::new(program).args(arguments).current_dir(&repo.root).output();
    let text = output.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    text.and_then(|t| t.lines().next().map(String::from)).unwrap_or_else(|| "unknown".into())
}

/// The processor's name and its number of threads.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {threads} threads", name.map_or("unknown processor", |(_, n)| n.trim()))
}

/// What a device is called.
pub fn device(repo: &Repo, name: &str) -> String {
    if name == "cpu" {
        return name.into();
    }
    format!("{name}, {}", said("nvidia-smi", &["--query-gpu=name,memory.total", "--format=csv,noheader"], repo))
}

/// The revision, marked when the tree differs from it.
pub fn revision(repo: &Repo) -> String {
    let revision = said("git", &["rev-parse", "--short=12", "HEAD"], repo);
    let changed = said("git", &["status", "--porcelain"], repo) != "unknown";
    if changed { format!("{revision} with changes") } else { revision }
}

/// The folder name of today's run here, `<date>-<machine>`.
pub fn folder(repo: &Repo) -> String {
    format!("{}-{}", said("date", &["+%F"], repo), slug(&processor()))
}

/// A folder of that name, or with a number behind it: no run replaces another.
pub fn unused(runs: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|n: u32| runs.join(format!("{name}-{n}")));
    std::iter::once(runs.join(name)).chain(numbered).find(|p| !p.exists()).unwrap_or_else(|| runs.join(name))
}

/// Lower case, digits and single hyphens.
fn slug(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_of_a_day_gets_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["day", "day-2", "day-3"] {
            let folder = unused(dir.path(), "day");
            assert_eq!(folder, dir.path().join(name));
            std::fs::create_dir(folder).unwrap();
        }
    }

    #[test]
    fn a_slug_is_a_folder_name() {
        assert_eq!(slug("AMD EPYC(TM) 9R14, 2 threads"), "amd-epyc-tm-9r14-2-threads");
        assert!(processor().ends_with("threads"));
    }
}
