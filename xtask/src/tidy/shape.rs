//! The shape of the tree: names, depth, size.

use super::source::{Fault, Source};
use std::collections::BTreeMap;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils", "common", "helpers", "misc", "base"];

/// Lines a source file may have.
const MOST_LINES: usize = 700;

/// Where a folder may begin with fewer files, and why.
const GROWING: [(&str, &str); 1] =
    [("crates/methods/src/", "a family of the catalogue has a folder from its first page on")];

/// Files a folder under `src` must have to be worth a folder.
const FEWEST_FILES: usize = 4;

/// A file or folder is named for what it is.
pub fn names(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources {
        for part in source.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if EMPTY_NAMES.contains(&stem) {
                faults.push(source.fault(0, format!("`{stem}` says nothing; name it for what it is")));
            }
        }
    }
    faults
}

/// One level of topics under `src`, no more.
pub fn depth(sources: &[Source]) -> Vec<Fault> {
    let deep = |s: &&Source| inside(s).is_some_and(|path| path.matches('/').count() > 1);
    sources.iter().filter(deep).map(|s| s.fault(0, "too deep; crates/x/src/topic/thing.rs is the deepest")).collect()
}

/// A folder under `src` holds at least four files.
pub fn four_files(sources: &[Source]) -> Vec<Fault> {
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        if inside(source).is_some_and(|path| path.contains('/'))
            && let Some((folder, _)) = source.path.rsplit_once('/')
        {
            *folders.entry(folder).or_default() += 1;
        }
    }
    let growing = |folder: &str| GROWING.iter().any(|(path, _)| folder.starts_with(path));
    let thin = folders.into_iter().filter(|(folder, files)| *files < FEWEST_FILES && !growing(folder));
    thin.map(|(folder, files)| Fault {
        path: folder.to_owned(),
        line: 0,
        what: format!("a folder of {files} files; {FEWEST_FILES} earn one"),
    })
    .collect()
}

/// No Rust, Python or C++ file grows past what one reader can hold.
pub fn length(sources: &[Source]) -> Vec<Fault> {
    let is_code = |s: &&Source| [".rs", ".py", ".cpp"].iter().any(|end| s.path.ends_with(end));
    let mut faults = Vec::new();
    for source in sources.iter().filter(is_code) {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            faults.push(source.fault(0, format!("{lines} lines; {MOST_LINES} is the most, 100 to 350 the aim")));
        }
    }
    faults
}

/// A `mod.rs` holds the topic's page, `mod` and `pub use`.
pub fn no_code_in_mod(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.path.ends_with("/mod.rs")) {
        let mut start = 0;
        for item in source.shipped.split_inclusive([';', '}']) {
            let blank = item.len() - item.trim_start().len();
            let text = item.trim();
            let text = strip_attributes(text);
            let text =
                text.strip_prefix("pub(crate)").or_else(|| text.strip_prefix("pub")).unwrap_or(text).trim_start();
            // A list of imports is cut at its closing brace; what follows it is a lone semicolon.
            let fine = text.is_empty()
                || text == ";"
                || text.starts_with("mod ") && text.ends_with(';')
                || text.starts_with("use ");
            if !fine {
                faults.push(source.fault_at(start + blank, "code in mod.rs; give it a file of its own"));
            }
            start += item.len();
        }
    }
    faults
}

fn strip_attributes(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix("#!").or_else(|| text.strip_prefix('#')) {
        let Some((_, after)) = rest.split_once(']') else { break };
        text = after.trim_start();
    }
    text
}

/// The path below `src` of a file in a crate or in xtask.
fn inside(source: &Source) -> Option<&str> {
    if let Some(rest) = source.path.strip_prefix("xtask/src/") {
        return Some(rest);
    }
    source.path.strip_prefix("crates/")?.split_once("/src/").map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(rule: fn(&[Source]) -> Vec<Fault>, paths: &[&str]) -> Vec<String> {
        let sources: Vec<_> = paths.iter().map(|p| Source::new(p, "")).collect();
        rule(&sources).into_iter().map(|f| f.path).collect()
    }

    #[test]
    fn empty_names_are_found() {
        let bad = paths(names, &["crates/x/src/utils.rs", "crates/x/src/helpers/a.rs", "crates/x/src/based.rs"]);
        assert_eq!(bad, ["crates/x/src/utils.rs", "crates/x/src/helpers/a.rs"]);
    }

    #[test]
    fn depth_is_counted_below_src() {
        let bad = paths(depth, &["crates/x/src/a/b/c.rs", "crates/x/src/a/b.rs", "fixtures/a/b/c/d.py"]);
        assert_eq!(bad, ["crates/x/src/a/b/c.rs"]);
    }

    #[test]
    fn thin_folders_are_found() {
        let four = ["crates/x/src/a/1.rs", "crates/x/src/a/2.rs", "crates/x/src/a/3.rs", "crates/x/src/a/mod.rs"];
        assert_eq!(paths(four_files, &four), Vec::<String>::new());
        assert_eq!(paths(four_files, &four[..3]), ["crates/x/src/a"]);
        assert_eq!(paths(four_files, &["crates/methods/src/geometry/one.rs"]), Vec::<String>::new());
    }

    #[test]
    fn long_files_are_found() {
        let long = Source::new("crates/x/src/a.rs", &"\n".repeat(MOST_LINES + 1));
        assert_eq!(length(&[long]).len(), 1);
        let fine = Source::new("crates/x/src/a.rs", &"\n".repeat(MOST_LINES));
        assert_eq!(length(&[fine]), []);
    }

    #[test]
    fn code_in_a_mod_file_is_found() {
        let fine = "//! Doc.\n#![expect(x)]\n\nmod a;\npub mod b;\n#[cfg(test)]\nmod tests;\npub use a::{B, C};\npub(crate) use b::D;\n";
        assert_eq!(no_code_in_mod(&[Source::new("crates/x/src/t/mod.rs", fine)]), []);
        let bad = "mod a;\n\nfn f() {}\n";
        let faults = no_code_in_mod(&[Source::new("crates/x/src/t/mod.rs", bad)]);
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [3]);
    }
}
