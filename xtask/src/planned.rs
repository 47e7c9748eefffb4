//! `cargo xtask planned FOLDER`: the table of papers that the catalogue means to hold, from the headings of their cards.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use anyhow::{Context, Result, bail};
use std::path::Path;

/// Where the table is committed.
pub const TABLE: &str = "crates/methods/src/planned.tsv";

const HEADER: &str = "slug\ttitle\tarxiv\tfamily";

/// Reads every `FAMILY.md` of a folder of cards and writes the table.
pub fn run(root: &Path, cards: &Path) -> Result<()> {
    let entries = std::fs::read_dir(cards).with_context(|| format!("{}: cannot be listed", cards.display()))?;
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "md"));
    files.sort();
    let mut lines = vec![HEADER.to_owned()];
    for file in &files {
        let family = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
        for heading in text.lines().filter_map(|l| l.strip_prefix("## ")) {
            match line(heading, &family) {
                Some(line) => lines.push(line),
                None => bail!("{}: `{heading}` is not `slug · title (arXiv number, year)`", file.display()),
            }
        }
    }
    std::fs::write(root.join(TABLE), lines.join("\n") + "\n").with_context(|| format!("{TABLE}: cannot be written"))?;
    eprintln!("{TABLE}: {} papers in {} families", lines.len() - 1, files.len());
    Ok(())
}

/// `slug · title (arXiv number, year)` as a line of the table.
fn line(heading: &str, family: &str) -> Option<String> {
    let (slug, rest) = heading.split_once(" · ")?;
    let (title, paper) = rest.trim_end().rsplit_once(" (arXiv ")?;
    let (arxiv, year) = paper.strip_suffix(')')?.split_once(", ")?;
    let fine = !title.contains('\t') && year.len() == 4 && arxiv.contains('.');
    fine.then(|| format!("{slug}\t{title}\t{arxiv}\t{family}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_become_lines() {
        let heading = "a-b · Title: with (brackets) (arXiv 2401.01234, 2024)";
        assert_eq!(line(heading, "f").as_deref(), Some("a-b\tTitle: with (brackets)\t2401.01234\tf"));
        assert_eq!(line("a-b Title (arXiv 2401.01234, 2024)", "f"), None);
        assert_eq!(line("a-b · Title (2024)", "f"), None);
    }

    #[test]
    fn a_folder_of_cards_becomes_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cards) = (dir.path().join("root"), dir.path().join("cards"));
        std::fs::create_dir_all(root.join("crates/methods/src")).unwrap();
        std::fs::create_dir_all(&cards).unwrap();
        std::fs::write(cards.join("graphs.md"), "# Graphs\n\n## x · X (arXiv 1404.0001, 2014)\n- **id**: 1\n").unwrap();
        run(&root, &cards).unwrap();
        assert_eq!(std::fs::read_to_string(root.join(TABLE)).unwrap(), format!("{HEADER}\nx\tX\t1404.0001\tgraphs\n"));
    }
}
