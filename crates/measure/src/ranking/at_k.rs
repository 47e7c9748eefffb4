use super::rankings::Rankings;
use crate::neighbours::want_neighbours;
use crate::{Proportion, Result};

impl Rankings {
    /// Recall@k as retrieval papers report it: the share of queries with a relevant item among the first k, with its interval.
    ///
    /// With one relevant item per query (pairs of image and text) it is also the share of relevant items found.
    ///
    /// # Errors
    /// `k` is 0 or larger than the gallery.
    pub fn recall_at(&self, k: usize) -> Result<Proportion> {
        want_neighbours(k, self.gallery)?;
        Proportion::wilson(self.places.iter().filter(|p| p[0] < k).count(), self.places.len())
    }

    /// Mean share of relevant items among the first k.
    ///
    /// # Errors
    /// `k` is 0 or larger than the gallery.
    pub fn precision_at(&self, k: usize) -> Result<f64> {
        want_neighbours(k, self.gallery)?;
        Ok(self.mean(|places| found(places, k) / k as f64))
    }

    /// Mean share of a query's relevant items that are among the first k.
    ///
    /// # Errors
    /// `k` is 0 or larger than the gallery.
    pub fn coverage_at(&self, k: usize) -> Result<f64> {
        want_neighbours(k, self.gallery)?;
        Ok(self.mean(|places| found(places, k) / places.len() as f64))
    }
}

/// Relevant items among the first k.
fn found(places: &[usize], k: usize) -> f64 {
    places.partition_point(|&p| p < k) as f64
}

#[cfg(test)]
mod tests {
    use crate::fixture::{Fixture, assert_close};
    use crate::{Error, Features, Metric, Rankings};

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (x, labels) = (file.features("retrieval.x"), file.labels("retrieval.labels"));
        let got = Rankings::within(&x, &labels, Metric::Cosine).unwrap();
        let want = file.f64s("retrieval.at");
        for (i, k) in [1, 5, 20].into_iter().enumerate() {
            assert_close(got.recall_at(k).unwrap().value, want[3 * i], 1e-12);
            assert_close(got.precision_at(k).unwrap(), want[3 * i + 1], 1e-12);
            assert_close(got.coverage_at(k).unwrap(), want[3 * i + 2], 1e-12);
        }
    }

    #[test]
    fn the_whole_gallery_holds_everything() {
        let x = Features::new(1, vec![0.0, 1.0, 3.0, 7.0]).unwrap();
        let got = Rankings::within(&x, &[0, 1, 0, 1], Metric::Euclidean).unwrap();
        assert_eq!(got.recall_at(1).unwrap().value, 0.0);
        assert_eq!(got.recall_at(3).unwrap().value, 1.0);
        assert_close(got.precision_at(3).unwrap(), 1.0 / 3.0, 1e-15);
        assert_eq!(got.recall_at(4).unwrap_err(), Error::Neighbours { k: 4, available: 3 });
        assert!(got.precision_at(0).is_err());
    }
}
