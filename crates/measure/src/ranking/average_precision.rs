use super::rankings::Rankings;

impl Rankings {
    /// Mean average precision: per query the precision at each relevant item, averaged over its relevant items.
    pub fn mean_average_precision(&self) -> f64 {
        self.mean(|places| precisions(places).sum::<f64>() / places.len() as f64)
    }

    /// MAP@R: average precision over the first R places only, R the number of the query's relevant items.
    ///
    /// 1/R sum over relevant places r < R of precision at r. Unlike Recall@1 it sees the order of all that should come first.
    ///
    /// # Source
    /// Musgrave, Belongie and Lim 2020 (arXiv 2003.08505).
    pub fn mean_average_precision_at_r(&self) -> f64 {
        self.mean(|places| {
            let r = places.len();
            let early = places.partition_point(|&p| p < r);
            precisions(&places[..early]).sum::<f64>() / r as f64
        })
    }
}

/// Precision at each relevant place: relevant items so far over items so far.
fn precisions(places: &[usize]) -> impl Iterator<Item = f64> {
    places.iter().enumerate().map(|(before, &place)| (before + 1) as f64 / (place + 1) as f64)
}

#[cfg(test)]
mod tests {
    use crate::fixture::{Fixture, assert_close};
    use crate::{Features, Metric, Rankings};

    #[test]
    fn equals_scikit_learn_and_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (x, labels) = (file.features("retrieval.x"), file.labels("retrieval.labels"));
        let got = Rankings::within(&x, &labels, Metric::Cosine).unwrap();
        let want = file.f64s("retrieval.precision");
        assert_close(got.mean_average_precision(), want[0], 1e-9);
        assert_close(got.mean_average_precision_at_r(), want[1], 1e-9);
    }

    #[test]
    fn places_one_and_three_of_four() {
        let q = Features::new(1, vec![0.0]).unwrap();
        let gallery = Features::new(1, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let got = Rankings::between((&q, &[1]), (&gallery, &[1, 0, 1, 0]), Metric::Euclidean).unwrap();
        assert_close(got.mean_average_precision(), (1.0 + 2.0 / 3.0) / 2.0, 1e-15);
        // R = 2: only the first place counts.
        assert_close(got.mean_average_precision_at_r(), 0.5, 1e-15);
    }
}
