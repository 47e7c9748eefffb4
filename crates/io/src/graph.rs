//! Graphs as tables of text: `edges.tsv`, two vertices a line, and `nodes.tsv`, `node label ...` under a heading, both numbered
//! from 0, plain or gzipped.

use crate::limits::Limits;
use crate::source::{Source, utf8};
use crate::{Error, Result};

/// Vertices that a graph may have.
const VERTICES: u32 = 1 << 26;

fn text(source: &Source, limits: &Limits) -> Result<String> {
    utf8(source.path(), source.stream()?.rest(limits.table_bytes)?)
}

/// Lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, l)| (i + 1, l));
    numbered.filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'))
}

fn number(source: &Source, line: usize, cell: Option<&str>, what: &str) -> Result<u32> {
    let cell = cell.unwrap_or_default().trim();
    let bad = || {
        let found = format!("{what} is {cell:?}, expected a number below {VERTICES}");
        Error::bad(source.path(), format!("line {line}"), found, "number from 0 and set columns apart by tabs")
    };
    cell.parse().ok().filter(|&v| v < VERTICES).ok_or_else(bad)
}

/// The edges, as pairs of vertices in the order of the file; further columns are passed over.
///
/// # Errors
/// What is no pair of numbers, with its line; more text than the limits allow.
pub fn edges(source: &Source, limits: &Limits) -> Result<Vec<[u32; 2]>> {
    let text = text(source, limits)?;
    let read = |(i, line): (usize, &str)| {
        let mut cells = line.split('\t');
        Ok([
            number(source, i, cells.next(), "the first vertex")?,
            number(source, i, cells.next(), "the second vertex")?,
        ])
    };
    lines(&text).map(read).collect()
}

/// The label of every vertex, in order; `None` where it is negative. The first line is the heading.
///
/// # Errors
/// A vertex out of order, a label that is no number, with its line; more text than the limits allow.
pub fn labels(source: &Source, limits: &Limits) -> Result<Vec<Option<u32>>> {
    let text = text(source, limits)?;
    let read = |(k, (i, line)): (usize, (usize, &str))| {
        let mut cells = line.split('\t');
        let v = number(source, i, cells.next(), "the vertex")?;
        if v as usize != k {
            let found = format!("vertex {v}, expected {k}");
            return Err(Error::bad(source.path(), format!("line {i}"), found, "list every vertex once, in order"));
        }
        match cells.next().map(str::trim) {
            Some(cell) if cell.starts_with('-') => Ok(None),
            cell => number(source, i, cell, "the label").map(Some),
        }
    };
    lines(&text).skip(1).enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edges(text: &[u8]) -> Result<Vec<[u32; 2]>> {
        super::edges(&Source::from_bytes("g.tsv", text), &Limits::TIGHT)
    }

    fn labels(text: &str) -> Result<Vec<Option<u32>>> {
        super::labels(&Source::from_bytes("g.tsv", text.as_bytes()), &Limits::TIGHT)
    }

    #[test]
    fn edges_and_labels_are_read() {
        assert_eq!(edges("0\t3\n1\t2\tx\n\n".as_bytes()).unwrap(), [[0, 3], [1, 2]]);
        assert_eq!(labels("node\tlabel\n0\t3\ttrain\n1\t-1\n").unwrap(), [Some(3), None]);
        assert!(edges("".as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn bad_lines_are_named() {
        let said = edges("0\t1\n5\tx\n".as_bytes()).unwrap_err().to_string();
        assert!(said.starts_with("g.tsv: line 2: the second vertex is \"x\", expected a number"), "{said}");
        for broken in ["0", "0 1", "-1\t2", "99999999999\t1", "4294967295\t1"] {
            assert!(edges(broken.as_bytes()).is_err(), "{broken}");
        }
        let said = labels("node\tlabel\n0\t1\n2\t1\n").unwrap_err().to_string();
        assert!(said.contains("line 3: vertex 2, expected 1"), "{said}");
        assert!(labels("node\tlabel\n0\n").is_err());
        assert!(edges(&[0xff, 0xfe]).is_err());
        assert!(edges(&[0x1f, 0x8b, 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            pairs in prop::collection::vec([0..VERTICES, 0..VERTICES], 0..30),
            classes in prop::collection::vec(prop::option::of(0..VERTICES), 0..30),
            remark in "(|#[^\n]*\n|[ \t]*\n)",
        ) {
            let lines: String = pairs.iter().map(|[a, b]| format!("{a}\t{b}\n{remark}")).collect();
            prop_assert_eq!(edges(lines.as_bytes()).unwrap(), pairs);
            let label = |(v, class): (usize, &Option<u32>)| format!("{v}\t{}\n", class.map_or(-1, i64::from));
            let lines: String = classes.iter().enumerate().map(label).collect();
            prop_assert_eq!(labels(&format!("node\tlabel\n{remark}{lines}")).unwrap(), classes);
        }

        /// Lines of every kind: an answer or a sentence that names the file.
        #[test]
        fn any_text_is_an_answer_or_a_sentence(text in "([0-9a-z#\t \r\n-]|[0-9]+\t[0-9]+\n){0,60}") {
            for said in [edges(text.as_bytes()).err(), labels(&text).err()].into_iter().flatten() {
                prop_assert!(said.to_string().starts_with("g.tsv: line "), "{}", said);
            }
        }
    }
}
