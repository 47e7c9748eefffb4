//! A file as the rules see it: its text, its code without comments and strings, and its code without tests.

use std::path::Path;
use std::process::Command;

/// One text file of the checkout.
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
    /// For Rust: comments and the insides of strings are blanks; same lines. Otherwise empty.
    pub code: String,
    /// `code` with the test modules blanked as well.
    pub shipped: String,
}

/// What stands before the items that only tests have.
const TEST: &str = "#[cfg(test)]";

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a path, relative to the root.
    pub path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl Source {
    /// From a path and its text.
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        let shipped = without_tests(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The crate's folder name, for files under `crates/<name>/src/`.
    pub fn library(&self) -> Option<&str> {
        let (name, rest) = self.path.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(name)
    }

    /// Whether this is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A fault at the line that holds byte `at` of `code` or `shipped`.
    pub fn fault_at(&self, at: usize, what: impl Into<String>) -> Fault {
        let line = self.code.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        Fault { path: self.path.clone(), line, what: what.into() }
    }

    /// A fault at a line, from 1; 0 for the whole file.
    pub fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, what: what.into() }
    }
}

/// Every text file that git tracks or would add.
pub fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| anyhow::anyhow!("git does not start ({error}); sudo apt-get install -y git"))?;
    anyhow::ensure!(output.status.success(), "git ls-files fails in {}", root.display());
    let mut sources = Vec::new();
    for path in output.stdout.split(|&b| b == 0).filter(|p| !p.is_empty()) {
        let path = String::from_utf8_lossy(path);
        // Not text, or deleted but not yet from the index: nothing to read.
        if let Ok(text) = std::fs::read_to_string(root.join(path.as_ref())) {
            sources.push(Source::new(&path, &text));
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    blank_test_files(&mut sources);
    Ok(sources)
}

/// Files that are test modules of another file, as in `#[cfg(test)] mod fixture;`, ship nothing.
pub fn blank_test_files(sources: &mut [Source]) {
    let mut tests = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust()) {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let stem = file.trim_end_matches(".rs");
        let folder =
            if matches!(stem, "lib" | "main" | "mod") { folder.to_owned() } else { format!("{folder}/{stem}") };
        for (at, _) in source.code.match_indices(TEST) {
            let item = source.code[at + TEST.len()..].split([';', '{']).next().unwrap_or_default();
            if let Some((_, name)) = item.split_once("mod ") {
                tests.push(format!("{folder}/{}", name.trim()));
            }
        }
    }
    for source in sources.iter_mut() {
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if source.is_rust() && tests.iter().any(|t| t == module || module.starts_with(&format!("{t}/"))) {
            source.shipped.clear();
        }
    }
}

/// Every place in `code` where `word` stands as a whole identifier.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let part = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        !part(before) && !part(bytes.get(at + word.len()))
    })
}

/// The identifiers of `code`, with where they begin.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let is = |c: char| c.is_alphanumeric() || c == '_';
        let start = rest + code[rest..].find(is)?;
        let end = code[start..].find(|c| !is(c)).map_or(code.len(), |n| start + n);
        rest = end;
        Some((start, &code[start..end]))
    })
}

/// Rust with comments and the insides of strings and characters as blanks, byte for byte and line for line.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let (skip, keep) = match rest {
            [b'/', b'/', ..] => (rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()), 0),
            [b'/', b'*', ..] => (block_comment(rest), 0),
            [b'"', ..] => (quoted(rest), 1),
            [b'r', b'"' | b'#', ..] if !after_word => raw_string(rest).map_or((0, 0), |n| (n, 1)),
            [b'b', b'r', b'"' | b'#', ..] if !after_word => raw_string(&rest[1..]).map_or((0, 0), |n| (n + 1, 1)),
            [b'\'', ..] => (character(rest), 1),
            _ => (0, 0),
        };
        if skip == 0 {
            code.push(bytes[at]);
            at += 1;
            continue;
        }
        for (i, &b) in rest[..skip].iter().enumerate() {
            // The outer quotes stay, so that a string is still seen as one.
            let edge = i < keep || i + keep >= skip;
            code.push(if b == b'\n' || edge && b.is_ascii() { b } else { b' ' });
        }
        at += skip;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of `r#"..."#`, or nothing for a raw identifier.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes[1..].iter().take_while(|&&b| b == b'#').count();
    (bytes.get(1 + hashes) == Some(&b'"')).then_some(())?;
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = 2 + hashes;
    let close = bytes[body..].windows(end.len()).position(|w| w == end);
    Some(close.map_or(bytes.len(), |n| body + n + end.len()))
}

/// The length of a character such as `'x'` or `'\n'`; 0 for a lifetime.
fn character(bytes: &[u8]) -> usize {
    match bytes {
        [_, b'\\', _, rest @ ..] => rest.iter().position(|&b| b == b'\'').map_or(0, |n| n + 4),
        [_, first, ..] => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xE0 => 2,
                0xE0..0xF0 => 3,
                _ => 4,
            };
            if bytes.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// `code` with every item under `#[cfg(test)]` blanked, to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    let mut shipped = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(TEST) {
        let start = from + found;
        let mut depth = 0usize;
        let mut end = code.len();
        for (i, b) in code.bytes().enumerate().skip(start + TEST.len()) {
            match b {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(b, b'}' | b';') {
                end = i + 1;
                break;
            }
        }
        for b in shipped[start..end].iter_mut().filter(|b| **b != b'\n') {
            *b = b' ';
        }
        from = end;
    }
    String::from_utf8_lossy(&shipped).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blank_and_lines_stay() {
        let text =
            "let a = \"rand(\\\"x\"; // rand(\n/* rand /* ( */ */ let b = r#\"ra\"nd\"#;\nlet c: &'a u8 = 'x'; '\\''";
        let code = code_of(text);
        assert!(!code.contains("rand") && !code.contains("nd"), "{code}");
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(code.contains("let b = r") && code.contains("let c: &'a u8 = ' ';"), "{code}");
    }

    #[test]
    fn tests_are_not_shipped() {
        let source = Source::new(
            "x.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { {} }\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}\n",
        );
        assert!(!source.shipped.contains("fn b") && !source.shipped.contains("mod d"));
        assert!(source.shipped.contains("fn a") && source.shipped.contains("fn c") && source.shipped.contains("fn e"));
    }

    #[test]
    fn a_file_that_is_a_test_module_ships_nothing() {
        let mut sources = [
            Source::new("crates/x/src/lib.rs", "#[cfg(test)]\nmod fixture;\nmod real;\n"),
            Source::new("crates/x/src/fixture.rs", "fn f() {}\n"),
            Source::new("crates/x/src/real.rs", "#[cfg(test)]\nmod tests { fn g() {} }\nfn h() {}\n"),
        ];
        blank_test_files(&mut sources);
        assert_eq!(sources[1].shipped, "");
        assert!(sources[2].shipped.contains("fn h") && !sources[2].shipped.contains("fn g"));
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("rand randn _rand a.rand(", "rand").collect::<Vec<_>>(), [0, 19]);
        let all: Vec<_> = identifiers("a.b_c(1)").map(|(_, w)| w).collect();
        assert_eq!(all, ["a", "b_c", "1"]);
    }
}
