//! The embedding of a class label, with a place for "no label"; and of a vector, by the same table.

use crate::layers::Embedding;
use pentimento_core::{Condition, Scope};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// What a network adds where the label is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullLabel {
    /// A learned row after those of the classes: K + 1 rows. Needed for classifier-free guidance.
    #[default]
    Learned,
    /// Nothing: K rows, as in the published ADM weights.
    Absent,
}

impl NullLabel {
    /// Rows of the table of K classes.
    pub fn rows(self, classes: i64) -> i64 {
        match self {
            Self::Learned => classes + 1,
            Self::Absent => classes,
        }
    }
}

/// One learned vector per class.
///
/// A condition vector c `[B, K]` is embedded as the sum of the classes' vectors weighted by it: a linear layer without bias, for
/// which a class is the vector with a single one, and which needs nothing new in a network. Zeros are "no label".
#[derive(Debug)]
pub struct LabelEmbedding {
    table: Embedding,
    classes: i64,
    null: NullLabel,
}

impl LabelEmbedding {
    /// `p` is the place of the table itself: its tensor is `weight`.
    pub fn new(p: &Scope, classes: i64, width: i64, null: NullLabel, std: f64) -> Self {
        Self { table: Embedding::new(p, null.rows(classes), width, std), classes, null }
    }

    /// `[batch, width]` for the vector of a condition, or for its labels where there is none.
    pub fn forward(&self, c: &Condition, batch: i64, device: Device) -> Tensor {
        if let Some(vector) = &c.c {
            assert_eq!(vector.size(), [batch, self.classes], "a condition vector has a number for each class");
            let told = self.table.weighted(vector);
            return match self.null {
                NullLabel::Absent => told,
                NullLabel::Learned => {
                    let silent = vector.count_nonzero_dim_intlist([1].as_slice()).eq(0);
                    let null = Tensor::full([1], self.classes, (Kind::Int64, device));
                    told + self.table.forward(&null) * silent.unsqueeze(1)
                }
            };
        }
        match self.null {
            NullLabel::Learned => self.table.forward(&c.labels(batch, self.classes, device)),
            NullLabel::Absent => {
                let y = c.labels(batch, -1, device);
                self.table.forward(&y.clamp_min(0)) * y.ge(0).unsqueeze(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::{NO_LABEL, Params};

    #[test]
    fn a_dropped_label_is_the_last_row_or_nothing() {
        let y = Condition::classes(&[1, NO_LABEL]);
        for (null, rows) in [(NullLabel::Learned, 4), (NullLabel::Absent, 3)] {
            let p = Params::new(Device::Cpu, 0);
            let e = LabelEmbedding::new(&p.root(), 3, 2, null, 1.0);
            let table = &p.entries()[0].tensor;
            assert_eq!(table.size(), [rows, 2]);
            let got = e.forward(&y, 2, Device::Cpu);
            assert_eq!(got.get(0), table.get(1));
            assert_eq!(got.get(1), if null == NullLabel::Learned { table.get(3) } else { table.get(0).zeros_like() });
            assert_eq!(e.forward(&Condition::none(), 2, Device::Cpu).get(0), got.get(1));
        }
    }

    #[test]
    fn a_vector_is_a_sum_of_classes_and_zeros_are_no_label() {
        for null in [NullLabel::Learned, NullLabel::Absent] {
            let p = Params::new(Device::Cpu, 0);
            let e = LabelEmbedding::new(&p.root(), 3, 4, null, 1.0);
            let ask = |c: &Condition| e.forward(c, 2, Device::Cpu);
            let vector = |v: [f32; 6]| ask(&Condition::vectors(Tensor::from_slice(&v).view([2, 3])));
            let one = vector([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
            let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            assert!(gap(&one, &ask(&Condition::classes(&[1, NO_LABEL]))) < 1e-6, "{null:?}");
            let [a, b] = [0, 2].map(|k| ask(&Condition::classes(&[k, k])));
            assert!(gap(&vector([0.5, 0.0, -2.0, 0.5, 0.0, -2.0]), &(a * 0.5 - b * 2.0)) < 1e-6);
            // What guidance asks of a vector: the null of the labels.
            let dropped = Condition::vectors(Tensor::ones([2, 3], (Kind::Float, Device::Cpu))).dropped();
            assert!(gap(&ask(&dropped), &ask(&Condition::classes(&[NO_LABEL; 2]))) < 1e-6);
        }
    }
}
