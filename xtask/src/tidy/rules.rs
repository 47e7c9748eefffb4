//! The list of rules, and what is printed of them.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use super::source::{Fault, Source};
use super::{built, pages, shape, source, text, walls};
use crate::status;
use crate::tally::Totals;
use anyhow::{Context, Result};
use std::path::Path;

/// A rule over the texts of the checkout.
type Rule = (&'static str, fn(&[Source]) -> Vec<Fault>);

/// In the order of `ARCHITECTURE.md`: walls, shape, text.
const RULES: [Rule; 22] = [
    ("arrows between crates point one way", walls::arrows),
    ("what has no network does not name one", walls::no_networks),
    ("only io touches bytes", walls::only_io_touches_bytes),
    ("only core draws random numbers", walls::only_core_draws),
    ("no global state", walls::no_global_state),
    ("every crate takes the lints of the workspace", walls::lints_taken),
    ("no file is named for being left over", shape::names),
    ("crates/x/src/topic/thing.rs is the deepest", shape::depth),
    ("a folder has four files", shape::four_files),
    ("no file is longer than 700 lines", shape::length),
    ("mod.rs holds no code", shape::no_code_in_mod),
    ("no test is ignored", text::no_ignored_tests),
    ("what is to do has an issue number", text::numbered_todos),
    ("unsafe is argued for", text::argued_unsafe),
    ("no blanks at the end of a line", text::no_trailing_blanks),
    ("no path of one machine", text::no_machine_paths),
    ("a path in the documents is there", text::paths_are_there),
    ("a command in the README is there", built::commands_are_there),
    ("a page is registered and has its recipe", pages::registered),
    ("a page has its card and its checks", pages::carded),
    ("a page stands alone", pages::alone),
    ("the README's claims are those of the evidence", pages::claims_agree),
];

/// Prints every fault and a closing line; true if there is none.
pub fn run(root: &Path) -> Result<bool> {
    let totals = check(root)?;
    eprintln!("tidy: {totals}");
    Ok(totals.failed == 0)
}

/// Counts one check per rule, and prints the faults of those that do not hold.
pub fn check(root: &Path) -> Result<Totals> {
    let sources = source::read(root)?;
    let mut totals = Totals::default();
    for (name, rule) in RULES {
        totals += report(name, &rule(&sources));
    }
    match built::links_no_cuda(root)? {
        Some(faults) => totals += report(built::LINKS, &faults),
        None => {
            eprintln!("skipped: {}: the program is not built", built::LINKS);
            totals.skipped += 1;
        }
    }
    Ok(totals)
}

/// Puts the table of claims that the evidence gives into the README.
pub fn renew_readme(root: &Path) -> Result<()> {
    let sources = source::read(root)?;
    let evidence: Vec<_> =
        sources.iter().filter(|s| status::is_evidence(&s.path)).map(|s| (s.path.as_str(), s.text.as_str())).collect();
    let readme = sources.iter().find(|s| s.path == "README.md").context("README.md: is not there")?;
    let new = status::renewed(&readme.text, &status::table(&evidence))
        .with_context(|| format!("README.md: has no `{}`", status::MARKS[0]))?;
    std::fs::write(root.join("README.md"), new).context("README.md: cannot be written")
}

fn report(name: &str, faults: &[Fault]) -> Totals {
    if !faults.is_empty() {
        eprintln!("tidy: {name}:");
    }
    for Fault { path, line, what } in faults {
        match line {
            0 => eprintln!("  {path}: {what}"),
            _ => eprintln!("  {path}:{line}: {what}"),
        }
    }
    Totals::one(faults.is_empty())
}
