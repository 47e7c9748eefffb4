//! Where things are, and how cargo is called.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The checkout and its target folder.
pub struct Repo {
    /// Folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// The folder above `debug/`, from which a built program looks for `libtorch/lib`.
    pub target: PathBuf,
}

impl Repo {
    /// From cargo's environment, or from the current folder upwards.
    pub fn find() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(xtask) => PathBuf::from(xtask),
            None => std::env::current_dir().context("the current folder is gone")?,
        };
        let Some(root) = start.ancestors().find(|d| d.join("xtask/Cargo.toml").is_file()) else {
            bail!("{}: no xtask/Cargo.toml here or above; run this inside the checkout", start.display());
        };
        // The running program lies in <target>/debug, however the target folder was chosen.
        let exe = std::env::current_exe().context("cannot find the running program")?;
        let target = exe.parent().and_then(Path::parent).map_or_else(|| root.join("target"), Path::to_owned);
        Ok(Self { root: root.to_owned(), target })
    }

    /// Both places that may be looked at: `.cargo/config.toml` names the first, a moved target folder the second.
    pub fn links(&self) -> Vec<PathBuf> {
        let mut links = vec![self.root.join("target/libtorch")];
        let moved = self.target.join("libtorch");
        if !same_place(&self.root.join("target"), &self.target) {
            links.push(moved);
        }
        links
    }

    /// `LIBTORCH` as the user gave it: the value that `.cargo/config.toml` fills in is no choice.
    pub fn given_libtorch(&self) -> Option<PathBuf> {
        chosen(std::env::var_os("LIBTORCH"), &self.links())
    }

    /// Cargo in the root of the checkout, linking the curated libtorch whatever the caller's environment says.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).stdin(Stdio::null());
        for name in ["LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB", "LIBTORCH_USE_PYTORCH", "LIBTORCH_STATIC"] {
            cargo.env_remove(name);
        }
        cargo
    }

    /// The built `pentimento`.
    pub fn program(&self) -> PathBuf {
        self.target.join("debug/pentimento")
    }
}

fn same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn chosen(libtorch: Option<OsString>, links: &[PathBuf]) -> Option<PathBuf> {
    let path = PathBuf::from(libtorch.filter(|v| !v.is_empty())?);
    let own = path == Path::new("target/libtorch") || links.contains(&path);
    (!own).then_some(path)
}

/// The first of `names` that is an executable file on PATH.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| std::env::split_paths(&path).map(|d| d.join(name)).find(|p| is_program(p)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_the_cargo_config_is_no_choice() {
        let links = [PathBuf::from("/r/target/libtorch"), PathBuf::from("/t/libtorch")];
        assert_eq!(chosen(None, &links), None);
        assert_eq!(chosen(Some("".into()), &links), None);
        assert_eq!(chosen(Some("target/libtorch".into()), &links), None);
        assert_eq!(chosen(Some("/r/target/libtorch".into()), &links), None);
        assert_eq!(chosen(Some("/t/libtorch".into()), &links), None);
        assert_eq!(chosen(Some("/opt/libtorch".into()), &links), Some("/opt/libtorch".into()));
    }

    #[test]
    fn a_shell_is_on_the_path_and_nonsense_is_not() {
        assert!(on_path(&["no-such-program-anywhere", "sh"]).is_some());
        assert!(on_path(&["no-such-program-anywhere"]).is_none());
    }
}
