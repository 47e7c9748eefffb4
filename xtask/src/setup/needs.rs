//! What the machine must bring: a C++ compiler to build, Python with pip to fetch.

use crate::repo::on_path;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One thing that is missing: what for, and the Debian packages that bring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    what: &'static str,
    packages: &'static str,
}

/// Fails with all that is missing to compile the C++ parts, in one message.
pub fn to_build() -> Result<()> {
    let mut missing = Vec::new();
    let named = std::env::var_os("CXX").filter(|v| !v.is_empty());
    if named.is_none() && on_path(&["c++"]).is_none() {
        missing.push(Missing { what: "a C++ compiler, as `c++` or in CXX", packages: "g++" });
    }
    if on_path(&["readelf"]).is_none() {
        missing.push(Missing { what: "readelf", packages: "binutils" });
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}", sentence(&missing))
}

/// Python that has pip, or the sentence that says what to install.
pub fn python_with_pip() -> std::result::Result<PathBuf, String> {
    let Some(python) = on_path(&["python3", "python"]) else {
        return Err(sentence(&[Missing { what: "python3", packages: "python3 python3-pip" }]));
    };
    let mut pip = Command::new(&python);
    match pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(python),
        _ => Err(sentence(&[Missing { what: "pip for python3", packages: "python3-pip" }])),
    }
}

fn sentence(missing: &[Missing]) -> String {
    let whats: Vec<_> = missing.iter().map(|m| m.what).collect();
    let packages: Vec<_> = missing.iter().map(|m| m.packages).collect();
    format!("missing: {}; on Debian or Ubuntu: sudo apt-get install -y {}", whats.join(" and "), packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_everything_and_the_packages() {
        let said = sentence(&[Missing { what: "x", packages: "p q" }, Missing { what: "y", packages: "r" }]);
        assert_eq!(said, "missing: x and y; on Debian or Ubuntu: sudo apt-get install -y p q r");
    }
}
