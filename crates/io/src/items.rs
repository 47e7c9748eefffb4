//! What every indexed set of pictures offers, whatever it is stored in.

use crate::picture::Picture;
use crate::{Error, Result};

/// One picture and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where it came from: the path inside the set.
    pub name: String,
    /// The decoded picture.
    pub picture: Picture,
    /// Its class, an index into [`Items::classes`] where that is not empty.
    pub label: Option<i64>,
    /// Its factors, one for every name of [`Items::factor_names`].
    pub factors: Vec<f64>,
    /// A sentence about it.
    pub caption: Option<String>,
}

/// A set of pictures that are read one at a time, by number, from any thread.
///
/// Opening reads the index only; a picture that is damaged is an error of its own [`Items::read`], so that a caller
/// may skip it and go on. A set has at least one item.
pub trait Items: Send + Sync {
    /// Number of items.
    fn len(&self) -> usize;

    /// Whether there are none; readers refuse an empty set when they open it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of item `i`, for messages.
    ///
    /// # Panics
    /// When `i` is not below [`Items::len`].
    fn name(&self, i: usize) -> String;

    /// Reads and decodes item `i`.
    ///
    /// # Errors
    /// When this one item cannot be read; the others still can.
    ///
    /// # Panics
    /// When `i` is not below [`Items::len`].
    fn read(&self, i: usize) -> Result<Item>;

    /// Names of the classes by label; empty when the format names none.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Names of the factors; empty when there are none.
    fn factor_names(&self) -> &[String] {
        &[]
    }

    /// Columns of metadata that are not read, because they are neither labels, captions nor numbers throughout.
    fn ignored_columns(&self) -> &[String] {
        &[]
    }
}

/// Checks a label against the names of the classes.
pub(crate) fn checked_label(
    label: i64,
    classes: &[String],
    path: &std::path::Path,
    place: impl FnOnce() -> String,
) -> Result<i64> {
    let known = usize::try_from(label).is_ok_and(|l| classes.is_empty() || l < classes.len());
    if known {
        return Ok(label);
    }
    let expected = if classes.is_empty() { "0 or more".to_owned() } else { format!("0 to {}", classes.len() - 1) };
    let found = format!("label {label}, expected {expected}");
    Err(Error::bad(path, place(), found, "correct the label, or leave the item out with --skip-bad"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn labels_out_of_range_are_named() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let check = |label, classes: &[String]| checked_label(label, classes, Path::new("x"), || "row 3".into());
        assert_eq!(check(1, &classes).unwrap(), 1);
        assert_eq!(check(900, &[]).unwrap(), 900);
        assert_eq!(
            check(2, &classes).unwrap_err().to_string(),
            "x: row 3: label 2, expected 0 to 1; correct the label, or leave the item out with --skip-bad"
        );
        assert!(check(-1, &[]).unwrap_err().to_string().contains("label -1, expected 0 or more"));
    }
}
