//! What was built: the libraries the program asks for, the commands it has.

use super::source::{Fault, Source};
use crate::Cli;
use crate::repo::on_path;
use crate::setup::dynamic;
use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use std::path::Path;
use std::process::Command;

/// The rule's name.
pub const LINKS: &str = "the program links no CUDA";

/// The built program's NEEDED entries; nothing when it is not built.
pub fn links_no_cuda(root: &Path) -> Result<Option<Vec<Fault>>> {
    let exe = std::env::current_exe().context("cannot find the running program")?;
    let program = exe.with_file_name("pentimento");
    if !program.is_file() {
        return Ok(None);
    }
    let Some(readelf) = on_path(&["readelf"]) else { bail!("readelf is missing; sudo apt-get install -y binutils") };
    let output = Command::new(readelf).arg("-d").arg(&program).output().context("readelf does not start")?;
    let shown = program.strip_prefix(root).unwrap_or(&program).display().to_string();
    Ok(Some(of_cuda(&shown, &dynamic(&String::from_utf8_lossy(&output.stdout)).0)))
}

fn of_cuda(program: &str, needed: &[String]) -> Vec<Fault> {
    let bad = needed.iter().filter(|n| n.contains("cuda") || n.starts_with("libtorch.so"));
    let fault = |n: &String| Fault {
        path: program.to_owned(),
        line: 0,
        what: format!("asks for {n}; only libtorch_cpu and libc10 are linked, CUDA is loaded when it is asked for"),
    };
    bad.map(fault).collect()
}

/// Every `cargo xtask` and `pentimento` command that the README types exists.
pub fn commands_are_there(sources: &[Source]) -> Vec<Fault> {
    let xtask = Cli::command();
    let tasks: Vec<&str> = xtask.get_subcommands().map(clap::Command::get_name).collect();
    let mut faults = Vec::new();
    for readme in sources.iter().filter(|s| s.path == "README.md") {
        for (i, line) in readme.text.lines().enumerate() {
            for (program, verb) in typed(line) {
                let there = match program {
                    "xtask" => tasks.contains(&verb),
                    _ => sources.iter().any(|s| is_verb(&s.path, verb)),
                };
                if !there {
                    faults.push(readme.fault(i + 1, format!("there is no `{program} {verb}`")));
                }
            }
        }
    }
    faults
}

/// One file per sub-command of the program, or a folder with its name.
fn is_verb(path: &str, verb: &str) -> bool {
    let file = path.strip_prefix("crates/cli/src/").map(|rest| rest.split(['/', '.']).next().unwrap_or(rest));
    file.is_some_and(|stem| stem == verb)
}

/// The commands in a line: a word after `xtask` or after the program, if it is a word and the line is one to type.
fn typed(line: &str) -> Vec<(&str, &str)> {
    let code: Vec<&str> = match line.contains('`') {
        true => line.split('`').skip(1).step_by(2).collect(),
        false => {
            line.strip_prefix("    ").or_else(|| line.strip_prefix("$ ")).or_else(|| starts(line)).into_iter().collect()
        }
    };
    let mut found = Vec::new();
    for part in code {
        let words: Vec<&str> = part.split_whitespace().collect();
        for pair in words.windows(2) {
            let program = pair[0].rsplit('/').next().unwrap_or(pair[0]);
            let is_word = pair[1].chars().all(|c| c.is_ascii_lowercase() || c == '-') && !pair[1].starts_with('-');
            if matches!(program, "xtask" | "pentimento") && is_word {
                found.push((program, pair[1]));
            }
        }
    }
    found
}

fn starts(line: &str) -> Option<&str> {
    ["cargo ", "pentimento ", "target/debug/pentimento "].iter().any(|p| line.starts_with(p)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_among_the_needed_is_found() {
        let needed = ["libtorch_cpu.so", "libtorch_cuda.so", "libc.so.6"].map(str::to_owned);
        assert_eq!(of_cuda("p", &needed).len(), 1);
        assert_eq!(of_cuda("p", &needed[..1]), []);
    }

    #[test]
    fn a_command_that_is_not_there_is_found() {
        let readme = "cargo xtask test\ncargo xtask dance\nthen `target/debug/pentimento train x` or `pentimento fly`\nthe pentimento of a painting\n";
        let sources = [Source::new("README.md", readme), Source::new("crates/cli/src/train.rs", "")];
        let faults = commands_are_there(&sources);
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [2, 3]);
    }
}
