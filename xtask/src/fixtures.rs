//! `cargo xtask fixtures`: the Python of the reference numbers, pinned, and its scripts run again.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use crate::repo::{Repo, on_path};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The script of a topic.
const SCRIPT: &str = "make.py";

/// Makes `target/fixtures-env` if its pins changed, then runs `fixtures/<topic>/make.py` of each topic named.
pub fn run(repo: &Repo, topics: &[String]) -> Result<()> {
    let scripts = scripts(&repo.root.join("fixtures"), topics)?;
    ensure!(!scripts.is_empty(), "fixtures: no folder here holds a {SCRIPT}");
    let python = environment(repo, "fixtures-env", "fixtures/requirements.txt")?;
    for script in scripts {
        let folder = script.parent().unwrap_or(&repo.root);
        eprintln!("$ python {}", script.strip_prefix(&repo.root).unwrap_or(&script).display());
        let status = Command::new(&python).arg(SCRIPT).current_dir(folder).status().context("python does not start")?;
        ensure!(status.success(), "{} stopped with {status}", script.display());
    }
    eprintln!("compare with `git diff --stat fixtures`; numbers that move need a reason in the change that moves them");
    Ok(())
}

/// The scripts of the named topics, or of all.
fn scripts(fixtures: &Path, topics: &[String]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(fixtures).with_context(|| format!("{}: cannot list", fixtures.display()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path().join(SCRIPT)).filter(|p| p.is_file()).collect();
    all.sort();
    if topics.is_empty() {
        return Ok(all);
    }
    let mut named = Vec::new();
    for topic in topics {
        let script = fixtures.join(topic).join(SCRIPT);
        if !all.contains(&script) {
            let known: Vec<_> = all.iter().filter_map(|p| p.parent()?.file_name()?.to_str()).collect();
            bail!("fixtures/{topic}: no {SCRIPT} there; the topics are {}", known.join(", "));
        }
        named.push(script);
    }
    Ok(named)
}

/// The Python of the environment `target/<name>`; installs only when the requirements are other than those it was made from.
///
/// # Errors
/// No python3, no venv, or pip cannot install.
pub fn environment(repo: &Repo, name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = repo.target.join(name);
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let requirements = repo.root.join(requirements);
    let pins = fs::read(&requirements).with_context(|| format!("{}: cannot read", requirements.display()))?;
    if python.exists() && fs::read(&stamp).is_ok_and(|made_from| made_from == pins) {
        return Ok(python);
    }
    let Some(system) = on_path(&["python3"]) else {
        bail!("python3 is missing; on Debian or Ubuntu: sudo apt-get install -y python3 python3-venv");
    };
    eprintln!("making {} with {}", folder.display(), requirements.display());
    let made = Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder).status()?;
    ensure!(made.success(), "python3 -m venv failed; on Debian or Ubuntu: sudo apt-get install -y python3-venv");
    let installed =
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements).status()?;
    ensure!(installed.success(), "pip could not install {}", requirements.display());
    fs::write(&stamp, pins).with_context(|| format!("{}: cannot write", stamp.display()))?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_folders_with_a_script() {
        let folder = tempfile::tempdir().unwrap();
        for topic in ["b", "a", "empty"] {
            fs::create_dir(folder.path().join(topic)).unwrap();
        }
        for topic in ["a", "b"] {
            fs::write(folder.path().join(topic).join(SCRIPT), "").unwrap();
        }
        let all = scripts(folder.path(), &[]).unwrap();
        assert_eq!(all, [folder.path().join("a").join(SCRIPT), folder.path().join("b").join(SCRIPT)]);
        assert_eq!(scripts(folder.path(), &["b".into()]).unwrap(), all[1..]);
        let said = scripts(folder.path(), &["c".into()]).unwrap_err().to_string();
        assert!(said.ends_with("the topics are a, b"), "{said}");
    }
}
