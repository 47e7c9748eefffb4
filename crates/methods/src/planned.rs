//! Papers that the catalogue means to hold, from a table that `cargo xtask planned` makes from the cards.

use crate::all;

/// A paper without a page, or with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name in the catalogue.
    pub slug: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Its number.
    pub arxiv: &'static str,
    /// Its part of the catalogue.
    pub family: &'static str,
}

/// Papers that have no page yet, in the order of the table.
pub fn planned() -> impl Iterator<Item = Planned> {
    table().filter(|p| all().all(|m| m.slug != p.slug))
}

fn table() -> impl Iterator<Item = Planned> {
    include_str!("planned.tsv").lines().skip(1).filter_map(|line| {
        let mut cells = line.split('\t');
        Some(Planned { slug: cells.next()?, title: cells.next()?, arxiv: cells.next()?, family: cells.next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_whole_and_knows_every_page() {
        let lines = include_str!("planned.tsv").lines().count();
        let slugs: BTreeSet<&str> = table().map(|p| p.slug).collect();
        assert_eq!(
            (slugs.len() + 1, table().count() + 1),
            (lines, lines),
            "a line without four cells, or a slug twice"
        );
        for method in all() {
            let of_table = table().find(|p| p.slug == method.slug).unwrap();
            let card = method.card().unwrap();
            assert_eq!((of_table.family, of_table.arxiv), (method.family, card.arxiv.as_str()));
        }
        assert_eq!(planned().count() + all().count(), slugs.len());
    }
}
