//! Which revision is running, and which one fixed a claim's margin.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands where no checkout can be asked.
pub const UNKNOWN: &str = "unknown";

/// Where the margin of a claim comes from.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Fixed {
    /// The newest commit that changed the predicate.
    pub revision: String,
    /// Every commit that changed it, oldest first: more than one means that it was edited.
    pub history: Vec<String>,
}

/// A git checkout of this program.
#[derive(Clone, Debug)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The checkout in which a folder lies, if it is one of this program.
    pub fn around(folder: &Path) -> Option<Self> {
        let root = PathBuf::from(git(folder, &["rev-parse", "--show-toplevel"])?);
        root.join("crates/methods").is_dir().then_some(Self { root })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that is checked out, with `+changes` where files differ from it.
    pub fn revision(&self) -> String {
        let Some(head) = git(&self.root, &["rev-parse", "HEAD"]) else { return UNKNOWN.into() };
        // Evidence that is being written is no change of what wrote it.
        let status = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!evidence", ":!README.md"];
        let changed = git(&self.root, &status).is_some_and(|s| !s.is_empty());
        if changed { format!("{head}+changes") } else { head }
    }

    /// Whether a file is committed with exactly this text.
    pub fn holds(&self, path: &str, text: &str) -> bool {
        let output = Command::new("git").arg("-C").arg(&self.root).args(["show", &format!("HEAD:{path}")]).output();
        output.is_ok_and(|o| o.status.success() && o.stdout == text.as_bytes())
    }

    /// The commits that changed the lines of a recipe, committed with this text, from `[holds]` on.
    pub fn fixed(&self, path: &str, text: &str) -> Fixed {
        let lines = format!(r"/^\[holds\]/,{}:{path}", text.lines().count());
        let log = git(&self.root, &["log", "--format=commit %H", "-L", &lines]).unwrap_or_default();
        let mut history: Vec<String> = log.lines().filter_map(|l| l.strip_prefix("commit ")).map(Into::into).collect();
        history.reverse();
        let revision = history.last().cloned().unwrap_or_else(|| UNKNOWN.into());
        Fixed { revision, history }
    }
}

impl Default for Fixed {
    fn default() -> Self {
        Self { revision: UNKNOWN.into(), history: Vec::new() }
    }
}

/// What git says, without the last line end; nothing where it fails or is not there.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    output.status.success().then_some(text)
}

/// The revision of a build outside a checkout: what the builder put into `PENTIMENTO_REVISION`.
pub fn of_build() -> String {
    option_env!("PENTIMENTO_REVISION").unwrap_or(UNKNOWN).into()
}

/// Refuses a judged run of a recipe that is not committed as it stands.
///
/// # Errors
/// [`Error::NotCommitted`].
pub fn demand_committed(checkout: &Checkout, path: &str, text: &str) -> Result<(), Error> {
    if checkout.holds(path, text) { Ok(()) } else { Err(Error::NotCommitted { path: path.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(root: &Path, text: &str) -> String {
        std::fs::create_dir_all(root.join("crates/methods")).unwrap();
        std::fs::write(root.join("r.toml"), text).unwrap();
        let run = |args: &[&str]| {
            let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
            assert!(Command::new("git").arg("-C").arg(root).args(who).args(args).output().unwrap().status.success());
        };
        run(&["init", "-q"]);
        run(&["add", "r.toml"]);
        run(&["commit", "-q", "-m", "x"]);
        git(root, &["rev-parse", "HEAD"]).unwrap()
    }

    #[test]
    fn the_commit_that_fixed_the_margin_is_found_and_later_edits_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let first = commit(dir.path(), "lr = 1\n[holds]\nmargin = 2\n");
        let budget = commit(dir.path(), "lr = 3\n[holds]\nmargin = 2\n");
        let checkout = Checkout::around(dir.path()).unwrap();
        let text = "lr = 3\n[holds]\nmargin = 2\n";
        assert_eq!(checkout.fixed("r.toml", text), Fixed { revision: first.clone(), history: vec![first.clone()] });
        assert_eq!(checkout.revision(), budget);
        let edit = commit(dir.path(), "lr = 3\n[holds]\nmargin = 1\n");
        assert_eq!(
            checkout.fixed("r.toml", text),
            Fixed { revision: edit.clone(), history: vec![first, edit.clone()] }
        );
        std::fs::write(dir.path().join("r.toml"), "lr = 3\n[holds]\nmargin = 9\n").unwrap();
        assert_eq!(checkout.revision(), format!("{edit}+changes"));
        assert!(checkout.holds("r.toml", "lr = 3\n[holds]\nmargin = 1\n"));
        assert!(demand_committed(&checkout, "r.toml", "lr = 3\n[holds]\nmargin = 9\n").is_err());
    }

    #[test]
    fn other_folders_are_no_checkout() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Checkout::around(dir.path()).is_none());
        assert_eq!(Fixed::default().revision, UNKNOWN);
    }
}
