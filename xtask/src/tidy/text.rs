//! What stands in the lines: tests left out, work left over, paths of somebody's machine.

use super::source::{Fault, Source, words};

/// Where home folders and workplaces begin; in two parts, so that this file holds none.
const MACHINE_PATHS: [&str; 6] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/m", "nt/"),
    concat!("/t", "mp/"),
];

/// A slow test is a claim, and a known defect asserts today's value: nothing is `#[ignore]`d.
pub fn no_ignored_tests(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust()) {
        for (at, _) in source.code.match_indices("#[ignore") {
            faults.push(source.fault_at(at, "assert what happens today and say why, or remove the test"));
        }
    }
    faults
}

/// Work left over is an issue, and its mark in the code names it by number.
pub fn numbered_todos(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| is_ours(s)) {
        for (line, text) in lines(source) {
            for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
                let bare = words(text, mark).any(|at| !numbered(&text[at + mark.len()..]));
                if bare {
                    faults.push(source.fault(line, format!("{mark} without an issue number")));
                }
            }
        }
    }
    faults
}

fn numbered(after: &str) -> bool {
    let hash = after.trim_start_matches([' ', '(']).strip_prefix('#');
    hash.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
}

/// Every `unsafe` block and implementation has its argument within the lines above it.
pub fn argued_unsafe(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust()) {
        for at in words(&source.code, "unsafe") {
            let after = source.code[at + "unsafe".len()..].trim_start();
            if !(after.starts_with('{') || after.starts_with("impl")) {
                continue;
            }
            let fault = source.fault_at(at, "unsafe without a SAFETY comment above it");
            let above = source.text.lines().take(fault.line).skip(fault.line.saturating_sub(5));
            if !above.into_iter().any(|line| line.contains("SAFETY")) {
                faults.push(fault);
            }
        }
    }
    faults
}

/// Blanks at the end of a line are noise in every later change.
pub fn no_trailing_blanks(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| is_ours(s)) {
        for (line, text) in lines(source).filter(|(_, t)| t.ends_with([' ', '\t', '\r'])) {
            faults.push(source.fault(line, format!("blanks at the end, after `{}`", text.trim())));
        }
    }
    faults
}

/// A path that exists on one machine only.
pub fn no_machine_paths(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| is_ours(s)) {
        for (line, text) in lines(source) {
            for path in MACHINE_PATHS {
                // Part of a longer path or of an address is another matter.
                let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~/$}".contains(c));
                if text.match_indices(path).any(|(at, _)| begins(at)) {
                    faults.push(source.fault(line, format!("a path of one machine ({path}...)")));
                }
            }
        }
    }
    faults
}

/// Recipes, fixtures and crates that the documents name are there.
pub fn paths_are_there(sources: &[Source]) -> Vec<Fault> {
    const FOLDERS: [&str; 5] = ["recipes/", "crates/", "fixtures/", "xtask/", ".ci/"];
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| matches!(s.path.as_str(), "README.md" | "ARCHITECTURE.md")) {
        for (line, text) in lines(source) {
            for quoted in text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
                let pattern = quoted.contains(['*', '<', '{', '$']);
                let named =
                    FOLDERS.iter().any(|f| quoted.starts_with(f)) && !pattern && !quoted.starts_with("crates/x/");
                let path = quoted.trim_end_matches('/');
                let there = |s: &Source| s.path == path || s.path.starts_with(&format!("{path}/"));
                if named && !sources.iter().any(there) {
                    faults.push(source.fault(line, format!("{quoted} is not there")));
                }
            }
        }
    }
    faults
}

fn lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.text.split('\n').enumerate().map(|(i, text)| (i + 1, text))
}

/// Texts that people here write; licences and recorded data stay as they came.
fn is_ours(source: &Source) -> bool {
    let written = [".rs", ".toml", ".md", ".py", ".sh", ".cpp", ".h", ".html", ".css", ".js", ".yml"];
    written.iter().any(|end| source.path.ends_with(end)) || source.path.starts_with(".ci/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn found(rule: fn(&[Source]) -> Vec<Fault>, path: &str, text: &str) -> Vec<usize> {
        rule(&[Source::new(path, text)]).into_iter().map(|f| f.line).collect()
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(found(no_ignored_tests, "a.rs", "// #[ignore]\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n"), [3]);
    }

    #[test]
    fn a_bare_mark_is_found() {
        let mark = concat!("TO", "DO");
        let text = format!("// {mark} later\n// {mark}(#12) soon\n// {mark} #3\n// {mark}S\n");
        assert_eq!(found(numbered_todos, "a.rs", &text), [1]);
        assert_eq!(found(numbered_todos, "LICENSE", &text), NONE);
    }

    #[test]
    fn unsafe_without_its_argument_is_found() {
        let text = "fn f() {\n    // SAFETY: the pointer is fresh.\n    unsafe { g() }\n}\n\n\n\n\nfn h() { unsafe { g() } }\nunsafe extern \"C\" {}\n";
        assert_eq!(found(argued_unsafe, "a.rs", text), [9]);
    }

    #[test]
    fn trailing_blanks_are_found() {
        assert_eq!(found(no_trailing_blanks, "a.md", "a\nb \nc\t\n"), [2, 3]);
        assert_eq!(found(no_trailing_blanks, "NOTICE", "a \n"), NONE);
    }

    #[test]
    fn a_home_folder_is_found() {
        let home = concat!("/ho", "me/me/x");
        let text = format!("see \"{home}\"\nhttps://example.org{home}\n~/x\n");
        assert_eq!(found(no_machine_paths, "a.md", &text), [1]);
    }

    #[test]
    fn a_recipe_that_is_not_there_is_found() {
        let readme = Source::new(
            "README.md",
            "run `pentimento train recipes/a.toml`\nor `recipes/b.toml`, see `crates/x/src`\n",
        );
        let faults = paths_are_there(&[readme, Source::new("recipes/a.toml", "")]);
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [2]);
    }
}
