//! `metadata.csv` and `metadata.jsonl`: one row a picture, with label, caption and factor columns.
//!
//! # Source
//! Hugging Face `datasets`, "ImageFolder with metadata": the column `file_name` is required, all others are free.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};

use crate::limits::Limits;
use crate::source::{Source, utf8};
use crate::{Error, Result};

const MAX_COLUMNS: usize = 1024;
const LABELS: [&str; 3] = ["label", "labels", "class"];
const CAPTIONS: [&str; 4] = ["text", "caption", "prompt", "captions"];

/// What a table says about one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its path relative to the table, with forward slashes.
    pub file: String,
    /// Its class.
    pub label: Option<i64>,
    /// A sentence about it.
    pub caption: Option<String>,
    /// One value for every name of [`Table::factor_names`].
    pub factors: Vec<f64>,
}

/// The rows of a metadata file and the meaning of its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// One a picture, in the order of the file.
    pub rows: Vec<Row>,
    /// Sorted names of the classes when the label column holds words; empty when it holds numbers.
    pub classes: Vec<String>,
    /// Columns that hold a number in every row, in the order of the file.
    pub factor_names: Vec<String>,
    /// Columns that are neither.
    pub ignored: Vec<String>,
}

/// How the rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Comma-separated with a header line; quotes as in RFC 4180.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

/// One column, only the cells that are there: a file of rows with a key each must not become a square.
struct Column {
    name: String,
    cells: Vec<(usize, String)>,
}

/// Reads a metadata table.
///
/// # Errors
/// When it is too large, no UTF-8, malformed, has no rows, no `file_name`, or a path that leaves its folder.
pub fn parse(source: &Source, syntax: Syntax, limits: &Limits) -> Result<Table> {
    let path = source.path();
    let text = utf8(path, source.whole(limits.table_bytes)?)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (columns, rows) = match syntax {
        Syntax::Csv => csv(path, text, limits.items)?,
        Syntax::JsonLines => json_lines(path, text, limits.items)?,
    };
    if rows == 0 {
        return Err(Error::bad(path, "whole file", "no rows", "write one row a picture"));
    }
    meaning(path, columns, rows)
}

fn meaning(path: &Path, columns: Vec<Column>, rows: usize) -> Result<Table> {
    let mut table = Table::default();
    let mut files: Option<Vec<String>> = None;
    let mut labels = vec![None; rows];
    let mut captions: Option<Vec<Option<String>>> = None;
    let mut factors: Vec<Vec<f64>> = Vec::new();
    let label_name = LABELS.into_iter().find(|name| columns.iter().any(|c| c.name == *name));
    let caption_name = CAPTIONS.into_iter().find(|name| columns.iter().any(|c| c.name == *name));
    for column in columns {
        if column.name == "file_name" {
            if column.cells.len() < rows {
                let missing = column
                    .cells
                    .iter()
                    .enumerate()
                    .find(|(i, (row, _))| i != row)
                    .map_or(column.cells.len(), |(i, _)| i);
                return Err(Error::bad(path, row_place(missing), "no file_name", "give every row its picture"));
            }
            files =
                Some(column.cells.into_iter().map(|(row, file)| checked_file(path, row, file)).collect::<Result<_>>()?);
        } else if Some(column.name.as_str()) == label_name {
            table.classes = read_labels(&column.cells, &mut labels);
        } else if Some(column.name.as_str()) == caption_name {
            let mut all = vec![None; rows];
            column.cells.into_iter().for_each(|(row, text)| all[row] = Some(text));
            captions = Some(all);
        } else {
            let numbers: Option<Vec<f64>> = column.cells.iter().map(|(_, cell)| number(cell)).collect();
            match numbers.filter(|n| n.len() == rows) {
                Some(numbers) => {
                    factors.push(numbers);
                    table.factor_names.push(column.name);
                }
                None => table.ignored.push(column.name),
            }
        }
    }
    let Some(files) = files else {
        return Err(Error::bad(path, "columns", "no column file_name", "add one that names the picture of each row"));
    };
    let mut captions = captions.unwrap_or_else(|| vec![None; rows]);
    table.rows = files
        .into_iter()
        .enumerate()
        .map(|(i, file)| Row {
            file,
            label: labels[i],
            caption: captions[i].take(),
            factors: factors.iter().map(|column| column[i]).collect(),
        })
        .collect();
    Ok(table)
}

fn row_place(row: usize) -> String {
    format!("row {}", row + 1)
}

fn checked_file(path: &Path, row: usize, file: String) -> Result<String> {
    let inside = !file.is_empty()
        && Path::new(&file).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside && !file.contains('\0') {
        return Ok(file);
    }
    let found = format!("file_name {file:?}, expected a path inside the folder");
    Err(Error::bad(path, row_place(row), found, "write paths relative to the table, without '..'"))
}

/// Whole numbers stay as they are; any other word makes the column one of class names, sorted.
fn read_labels(cells: &[(usize, String)], labels: &mut [Option<i64>]) -> Vec<String> {
    let numbers: Option<Vec<i64>> = cells.iter().map(|(_, cell)| cell.trim().parse().ok()).collect();
    if let Some(numbers) = numbers {
        cells.iter().zip(numbers).for_each(|((row, _), label)| labels[*row] = Some(label));
        return Vec::new();
    }
    let names: BTreeSet<&str> = cells.iter().map(|(_, cell)| cell.as_str()).collect();
    let index: HashMap<&str, i64> = names.iter().copied().zip(0..).collect();
    cells.iter().for_each(|(row, cell)| labels[*row] = index.get(cell.as_str()).copied());
    names.into_iter().map(String::from).collect()
}

fn number(cell: &str) -> Option<f64> {
    match cell.trim() {
        "true" | "True" => Some(1.0),
        "false" | "False" => Some(0.0),
        other => other.parse().ok().filter(|x: &f64| x.is_finite()),
    }
}

fn csv(path: &Path, text: &str, most: usize) -> Result<(Vec<Column>, usize)> {
    let mut columns: Vec<Column> = Vec::new();
    let mut rows = 0;
    let mut cells = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let started = line;
        rest = csv_record(path, rest, &mut line, &mut cells)?;
        if cells.iter().all(String::is_empty) && cells.len() == 1 {
            continue;
        }
        if columns.is_empty() {
            for name in cells.drain(..) {
                add_column(path, &mut columns, name.trim(), format!("line {started}"))?;
            }
            continue;
        }
        if cells.len() != columns.len() {
            let found = format!("{} cells, expected {} as in the first line", cells.len(), columns.len());
            return Err(Error::bad(path, format!("line {started}"), found, "quote cells that hold commas or quotes"));
        }
        check_rows(path, rows, most)?;
        for (column, cell) in columns.iter_mut().zip(cells.drain(..)) {
            if !cell.is_empty() {
                column.cells.push((rows, cell));
            }
        }
        rows += 1;
    }
    Ok((columns, rows))
}

/// Reads one record into `cells`; returns what follows it.
fn csv_record<'a>(path: &Path, text: &'a str, line: &mut usize, cells: &mut Vec<String>) -> Result<&'a str> {
    cells.clear();
    let mut rest = text;
    loop {
        let cell;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut from = quoted;
            loop {
                let Some((part, after)) = from.split_once('"') else {
                    let advice = "close the quote, and write a quote inside a cell twice";
                    return Err(Error::bad(path, format!("line {line}"), "a quote that does not end", advice));
                };
                value.push_str(part);
                from = after;
                match from.strip_prefix('"') {
                    Some(after) => {
                        value.push('"');
                        from = after;
                    }
                    None => break,
                }
            }
            *line += value.matches('\n').count();
            cell = value;
            rest = from;
        } else {
            let end = rest.find([',', '\n']).unwrap_or(rest.len());
            cell = rest[..end].trim_end_matches('\r').to_owned();
            rest = &rest[end..];
        }
        cells.push(cell);
        rest = rest.strip_prefix('\r').unwrap_or(rest);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\n') {
            *line += 1;
            return Ok(after);
        } else if rest.is_empty() {
            return Ok(rest);
        } else {
            let advice = "put the whole cell into quotes, and write a quote inside it twice";
            return Err(Error::bad(path, format!("line {line}"), "text after a closing quote", advice));
        }
    }
}

fn json_lines(path: &Path, text: &str, most: usize) -> Result<(Vec<Column>, usize)> {
    let mut columns: Vec<Column> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut rows = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).map_err(|e| {
            let found = format!("no JSON object ({e})");
            Error::bad(path, format!("line {}", i + 1), found, "write one JSON object a line")
        })?;
        check_rows(path, rows, most)?;
        for (key, value) in object {
            let cell = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(n) => n.to_string(),
                serde_json::Value::Bool(b) => b.to_string(),
                // Lists and objects leave a hole, and so the column is among those that are ignored.
                _ => String::new(),
            };
            let at = match index.get(&key) {
                Some(&at) => at,
                None => {
                    add_column(path, &mut columns, &key, format!("line {}", i + 1))?;
                    index.insert(key, columns.len() - 1);
                    columns.len() - 1
                }
            };
            if !cell.is_empty() {
                columns[at].cells.push((rows, cell));
            }
        }
        rows += 1;
    }
    Ok((columns, rows))
}

fn add_column(path: &Path, columns: &mut Vec<Column>, name: &str, place: String) -> Result<()> {
    let found = if columns.len() >= MAX_COLUMNS {
        format!("more than {MAX_COLUMNS} columns")
    } else if columns.iter().any(|c| c.name == name) {
        format!("two columns of the name {name:?}")
    } else {
        columns.push(Column { name: name.to_owned(), cells: Vec::new() });
        return Ok(());
    };
    Err(Error::bad(path, place, found, "give each column a name of its own, and only those that are needed"))
}

fn check_rows(path: &Path, rows: usize, most: usize) -> Result<()> {
    if rows < most {
        return Ok(());
    }
    Err(Error::bad(path, row_place(rows), format!("more than {most} rows"), "split the data set"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, syntax: Syntax) -> Result<Table> {
        parse(&Source::from_bytes("metadata", text.as_bytes()), syntax, &Limits::TIGHT)
    }

    #[test]
    fn labels_captions_and_factors_are_told_apart() {
        let table = read(
            "file_name,label,text,x,split\r\na.png,cat,\"a \"\"cat\"\", here\",0.5,train\r\nb/c.png,ant,two\nlines,1,2\n",
            Syntax::Csv,
        );
        assert!(table.unwrap_err().to_string().contains("line 3: 3 cells, expected 5 as in the first line"));
        let table = read(
            "file_name,label,text,x,split\r\na.png,cat,\"a \"\"cat\"\",\nhere\",0.5,train\r\n\r\nb/c.png,ant,,1,2",
            Syntax::Csv,
        )
        .unwrap();
        assert_eq!(table.classes, ["ant", "cat"]);
        assert_eq!((&table.factor_names[..], &table.ignored[..]), (&["x".to_owned()][..], &["split".to_owned()][..]));
        let row = |file: &str, label, caption: Option<&str>, x| Row {
            file: file.into(),
            label: Some(label),
            caption: caption.map(String::from),
            factors: vec![x],
        };
        assert_eq!(table.rows, [row("a.png", 1, Some("a \"cat\",\nhere"), 0.5), row("b/c.png", 0, None, 1.0)]);
    }

    #[test]
    fn json_lines_say_the_same() {
        let table = read(
            "{\"file_name\": \"a.png\", \"label\": 3, \"caption\": \"x\", \"lit\": true, \"box\": [1, 2]}\n\n\
             {\"label\": 7, \"file_name\": \"b.png\", \"lit\": false}\n",
            Syntax::JsonLines,
        )
        .unwrap();
        assert_eq!(table.classes, [""; 0]);
        assert_eq!(table.rows.iter().map(|r| r.label).collect::<Vec<_>>(), [Some(3), Some(7)]);
        assert_eq!(table.rows.iter().map(|r| r.factors[0]).collect::<Vec<_>>(), [1.0, 0.0]);
        assert_eq!((table.rows[0].caption.as_deref(), table.rows[1].caption.as_deref()), (Some("x"), None));
        assert_eq!((&table.factor_names[..], &table.ignored[..]), (&["lit".to_owned()][..], &["box".to_owned()][..]));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |text: &str| read(text, Syntax::Csv).unwrap_err().to_string();
        assert_eq!(
            said("file_name\n../x.png\n"),
            "metadata: row 1: file_name \"../x.png\", expected a path inside the folder; \
             write paths relative to the table, without '..'"
        );
        assert!(said("file_name\n/x.png\n").contains("inside the folder"));
        assert!(said("file_name,x\n").contains("no rows"));
        assert!(said("").contains("no rows"));
        assert!(said("name,x\na,1\n").contains("no column file_name"));
        assert!(said("file_name,x\n,1\n").contains("row 1: no file_name"));
        assert!(said("file_name,x\na,1\n,1\nb,2").contains("row 2: no file_name"));
        assert!(said("file_name,x,x\na,1,2\n").contains("two columns of the name \"x\""));
        assert!(said("file_name\n\"a\n").contains("a quote that does not end"));
        assert!(said("file_name\n\"a\"b\n").contains("text after a closing quote"));
        let said = read("{\"file_name\": \"a\"}\n[1]\n", Syntax::JsonLines).unwrap_err().to_string();
        assert!(said.contains("line 2: no JSON object"), "{said}");
        let bytes = Source::from_bytes("m", *b"file_name\n\xff\n");
        let said = parse(&bytes, Syntax::Csv, &Limits::TIGHT).unwrap_err().to_string();
        assert_eq!(said, "m: byte 10: text that is not UTF-8; save the file in UTF-8");
    }

    proptest! {
        #[test]
        fn quoted_cells_come_back(rows in prop::collection::vec(("[a-z]{1,8}", "[ -~\n\"]{1,20}", -1e6_f64..1e6), 1..8)) {
            let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
            let mut text = String::from("x,text,file_name\n");
            let mut lines = String::new();
            for (file, caption, x) in &rows {
                text += &format!("{x},{},{file}\n", quote(caption));
                lines += &serde_json::json!({"x": x, "text": caption, "file_name": file}).to_string();
                lines.push('\n');
            }
            let table = read(&text, Syntax::Csv).unwrap();
            for (row, (file, caption, x)) in table.rows.iter().zip(&rows) {
                prop_assert_eq!((&row.file, row.caption.as_ref(), row.factors[0]), (file, Some(caption), *x));
            }
            prop_assert_eq!(table.rows.len(), rows.len());
            prop_assert_eq!(read(&lines, Syntax::JsonLines).unwrap().rows, table.rows);
        }
    }
}
