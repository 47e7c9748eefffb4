use crate::neighbours::{Metric, Points};
use crate::{Error, Features, Result};

/// For every query the places of the relevant items (equal label) in the gallery, sorted by similarity.
///
/// Of equally near items the earlier in the gallery comes first. Queries without a relevant item cannot be scored: they are
/// counted in `without` and left out of every mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Rankings {
    /// Places from 0 of the relevant items, rising, of each query that has any.
    pub(super) places: Vec<Vec<usize>>,
    /// Items each query could retrieve.
    pub(super) gallery: usize,
    /// Queries without a relevant item.
    without: usize,
}

impl Rankings {
    /// Ranks the gallery for every query.
    ///
    /// For pairs (image and text of one scene) give both sides the labels 0, 1, 2, ...
    ///
    /// # Errors
    /// Different widths, not one label per item, no query with a relevant item.
    ///
    /// # Cost
    /// O(Q M (D + log M)).
    pub fn between(
        (queries, query_labels): (&Features, &[u32]),
        (gallery, gallery_labels): (&Features, &[u32]),
        metric: Metric,
    ) -> Result<Self> {
        gallery.want_columns("columns of the gallery", queries.d())?;
        queries.want_targets("query labels", query_labels.len())?;
        gallery.want_targets("gallery labels", gallery_labels.len())?;
        let (queries, gallery) = (Points::new(queries, metric), Points::new(gallery, metric));
        let places = queries.map(&gallery, &|i, near| relevant(near, gallery_labels, query_labels[i], None));
        Self::of(places, gallery.n())
    }

    /// Ranks all other items for every item, each never for itself.
    ///
    /// # Errors
    /// Not one label per item, fewer than two items, no two items of one label.
    ///
    /// # Cost
    /// O(N^2 (D + log N)).
    pub fn within(x: &Features, labels: &[u32], metric: Metric) -> Result<Self> {
        x.want_targets("labels", labels.len())?;
        if x.n() < 2 {
            return Err(Error::TooFew { what: "items to rank", need: 2, got: x.n() });
        }
        let points = Points::new(x, metric);
        let places = points.map(&points, &|i, near| relevant(near, labels, labels[i], Some(i)));
        Self::of(places, x.n() - 1)
    }

    fn of(mut places: Vec<Vec<usize>>, gallery: usize) -> Result<Self> {
        let all = places.len();
        places.retain(|p| !p.is_empty());
        if places.is_empty() {
            return Err(Error::TooFew { what: "queries with a relevant item", need: 1, got: 0 });
        }
        let without = all - places.len();
        Ok(Self { places, gallery, without })
    }

    /// Queries that are scored.
    pub fn queries(&self) -> usize {
        self.places.len()
    }

    /// Queries that have no relevant item and are left out.
    pub fn without(&self) -> usize {
        self.without
    }

    /// Mean of a score over the queries; the score sees a query's places.
    pub(super) fn mean(&self, score: impl Fn(&[usize]) -> f64) -> f64 {
        self.places.iter().map(|p| score(p)).sum::<f64>() / self.places.len() as f64
    }
}

/// Places of the items labelled `label` when sorted from the most similar, without item `skip`.
fn relevant(near: &[f64], labels: &[u32], label: u32, skip: Option<usize>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..near.len()).filter(|j| skip != Some(*j)).collect();
    order.sort_by(|&a, &b| near[b].total_cmp(&near[a])); // stable: the earlier of equals stays first
    order.iter().enumerate().filter(|(_, j)| labels[**j] == label).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_hand() {
        let x = Features::new(1, vec![0.0, 1.0, 3.0, 7.0]).unwrap();
        let got = Rankings::within(&x, &[0, 1, 0, 1], Metric::Euclidean).unwrap();
        // Item 0 sees 1, 3, 7; item 1 sees 0, 3, 7; item 3 sees 1, 0, 7; item 7 sees 3, 1, 0.
        assert_eq!(got.places, [[1], [2], [1], [1]]);
        assert_eq!((got.gallery, got.queries(), got.without()), (3, 4, 0));
        let got = Rankings::between((&x, &[9, 0, 5, 1]), (&x, &[0, 0, 1, 1]), Metric::Euclidean).unwrap();
        assert_eq!(got.places, [vec![0, 1], vec![0, 1]]);
        assert_eq!(got.without(), 2);
    }

    #[test]
    fn ties_go_to_the_earlier_item() {
        let q = Features::new(1, vec![0.0]).unwrap();
        let gallery = Features::new(1, vec![1.0, -1.0, 1.0]).unwrap();
        let got = Rankings::between((&q, &[4]), (&gallery, &[1, 4, 4]), Metric::Euclidean).unwrap();
        assert_eq!(got.places, [[1, 2]]);
    }

    #[test]
    fn what_cannot_be_ranked_is_named() {
        let x = Features::new(1, vec![0.0, 1.0]).unwrap();
        let error = Rankings::within(&x, &[0, 1], Metric::Cosine).unwrap_err();
        assert_eq!(error, Error::TooFew { what: "queries with a relevant item", need: 1, got: 0 });
        assert!(Rankings::within(&x.select(&[0]).unwrap(), &[0], Metric::Cosine).is_err());
        assert!(Rankings::within(&x, &[0], Metric::Cosine).is_err());
    }
}
