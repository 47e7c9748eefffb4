use crate::neighbours::{Metric, Points, want_neighbours};
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// How neighbours are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// Each counts the same.
    Plain,
    /// Each counts exp(similarity / temperature); self-supervised work uses the cosine and a temperature of 0.1 (earlier 0.07).
    Exponential {
        /// The temperature, positive.
        temperature: f64,
    },
}

/// A bank of items to find neighbours in, by brute force.
#[derive(Clone)]
pub struct Knn {
    bank: Points,
    metric: Metric,
    d: usize,
}

/// One neighbour of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its row in the bank.
    pub item: usize,
    /// Its similarity to the query: the cosine, or minus the squared distance.
    pub similarity: f64,
}

impl Knn {
    /// Keeps the items, as f64.
    pub fn new(bank: &Features, metric: Metric) -> Self {
        Self { bank: Points::new(bank, metric), metric, d: bank.d() }
    }

    /// Number of items in the bank.
    pub fn n(&self) -> usize {
        self.bank.n()
    }

    /// The `k` nearest bank items of every query, nearest first; of equally near ones the earlier in the bank comes first.
    ///
    /// # Errors
    /// `k` is 0 or more than the bank holds; another number of columns.
    ///
    /// # Cost
    /// O(N M D).
    pub fn neighbours(&self, queries: &Features, k: usize) -> Result<Vec<Vec<Neighbour>>> {
        queries.want_columns("columns of the queries", self.d)?;
        want_neighbours(k, self.bank.n())?;
        let nearer = |a: &Neighbour, b: &Neighbour| b.similarity.total_cmp(&a.similarity).then(a.item.cmp(&b.item));
        Ok(Points::new(queries, self.metric).map(&self.bank, &|_, near| {
            let mut all: Vec<Neighbour> =
                near.iter().enumerate().map(|(item, &similarity)| Neighbour { item, similarity }).collect();
            all.select_nth_unstable_by(k - 1, nearer);
            all.truncate(k);
            all.sort_unstable_by(nearer);
            all
        }))
    }

    /// The label that most of the `k` nearest bear, for every query; `labels` are the bank's.
    ///
    /// # Errors
    /// As [`Knn::neighbours`].
    pub fn classify(&self, queries: &Features, labels: &[u32], k: usize) -> Result<Vec<u32>> {
        self.neighbours(queries, k)?.iter().map(|near| Vote::Plain.label(near, labels)).collect()
    }
}

impl Vote {
    /// The label with the most weight among the neighbours; of equal ones the smallest label.
    ///
    /// `labels` are the bank's.
    ///
    /// # Errors
    /// A temperature that is not positive and finite; no neighbours.
    pub fn label(self, neighbours: &[Neighbour], labels: &[u32]) -> Result<u32> {
        let mut ballots: Vec<(u32, f64)> =
            neighbours.iter().zip(self.weights(neighbours)?).map(|(n, weight)| (labels[n.item], weight)).collect();
        ballots.sort_by_key(|b| b.0); // stable: a label's weights are added nearest first
        let sums = ballots.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0, same.iter().map(|b| b.1).sum::<f64>()));
        let best = sums.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|b| b.0).ok_or(Error::TooFew { what: "neighbours", need: 1, got: 0 })
    }

    /// The weighted mean of the neighbours' values. `values` are the bank's.
    ///
    /// # Errors
    /// A temperature that is not positive and finite; no neighbours.
    pub fn value(self, neighbours: &[Neighbour], values: &[f32]) -> Result<f64> {
        let weights = self.weights(neighbours)?;
        let total: f64 = weights.iter().sum();
        Ok(neighbours.iter().zip(&weights).map(|(n, w)| w * f64::from(values[n.item])).sum::<f64>() / total)
    }

    /// One weight per neighbour, relative to the nearest's, which cannot overflow.
    fn weights(self, neighbours: &[Neighbour]) -> Result<Vec<f64>> {
        let nearest = neighbours.iter().map(|n| n.similarity).reduce(f64::max).ok_or(Error::TooFew {
            what: "neighbours",
            need: 1,
            got: 0,
        })?;
        match self {
            Self::Plain => Ok(vec![1.0; neighbours.len()]),
            Self::Exponential { temperature } if temperature > 0.0 && temperature.is_finite() => {
                Ok(neighbours.iter().map(|n| ((n.similarity - nearest) / temperature).exp()).collect())
            }
            Self::Exponential { temperature } => {
                Err(Error::Setting { name: "temperature", got: temperature, want: "positive and finite" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_the_references() {
        let file = Fixture::open("measure/numbers.safetensors");
        let (train, query, labels) =
            (file.features("knn.train"), file.features("knn.query"), file.labels("knn.labels"));
        let weighted = Vote::Exponential { temperature: 0.1 };
        let near = Knn::new(&train, Metric::Cosine).neighbours(&query, 20).unwrap();
        let got: Vec<u32> = near.iter().map(|n| weighted.label(n, &labels).unwrap()).collect();
        assert_eq!(got, file.labels("knn.weighted"));

        let near = Knn::new(&train, Metric::Euclidean).neighbours(&query, 7).unwrap();
        let got: Vec<u32> = near.iter().map(|n| Vote::Plain.label(n, &labels).unwrap()).collect();
        assert_eq!(got, file.labels("knn.plain"));
        assert_eq!(Knn::new(&train, Metric::Euclidean).classify(&query, &labels, 7).unwrap(), got);
        let values: Vec<f32> = (0..train.n()).map(|i| train.row(i)[0]).collect();
        for (near, want) in near.iter().zip(file.f64s("knn.mean")) {
            assert_close(Vote::Plain.value(near, &values).unwrap(), want, 1e-9);
        }
    }

    #[test]
    fn ties_go_to_the_earlier_item_and_the_smaller_label() {
        let bank = Features::new(1, vec![1.0, 3.0, 1.0, 3.0]).unwrap();
        let near = Knn::new(&bank, Metric::Euclidean).neighbours(&Features::new(1, vec![2.0]).unwrap(), 3).unwrap();
        assert_eq!(near[0].iter().map(|n| n.item).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(near[0][0].similarity, -1.0);
        assert_eq!(Vote::Plain.label(&near[0][..2], &[8, 4, 0, 0]).unwrap(), 4);
    }

    #[test]
    fn weights_of_far_neighbours_do_not_vanish() {
        // exp(-1e6 / 0.1) is 0 in f64; relative to the nearest the two weights are 1 and e^-1.
        let near = [Neighbour { item: 0, similarity: -1e6 }, Neighbour { item: 1, similarity: -1e6 - 0.1 }];
        let got = Vote::Exponential { temperature: 0.1 }.value(&near, &[0.0, 1.0]).unwrap();
        let e = (-1f64).exp();
        assert_close(got, e / (1.0 + e), 1e-8);
    }

    #[test]
    fn one_item_is_everyones_neighbour_and_bad_settings_are_named() {
        let bank = Knn::new(&Features::new(2, vec![1.0, 1.0]).unwrap(), Metric::Cosine);
        let query = Features::new(2, vec![-1.0, 5.0]).unwrap();
        assert_eq!(bank.neighbours(&query, 1).unwrap()[0][0].item, 0);
        assert_eq!(bank.neighbours(&query, 2).unwrap_err(), Error::Neighbours { k: 2, available: 1 });
        assert_eq!(bank.neighbours(&query, 0).unwrap_err(), Error::Neighbours { k: 0, available: 1 });
        assert!(bank.neighbours(&Features::new(3, vec![0.0; 3]).unwrap(), 1).is_err());
        let near = [Neighbour { item: 0, similarity: 1.0 }];
        assert!(Vote::Exponential { temperature: 0.0 }.label(&near, &[1]).is_err());
        assert!(Vote::Plain.label(&[], &[1]).is_err());
    }
}
