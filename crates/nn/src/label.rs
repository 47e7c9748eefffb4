//! The embedding of a class label, with a place for "no label".

use crate::layers::Embedding;
use pentimento_core::{Condition, Scope};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

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

    /// `[batch, width]` for the labels of a condition.
    pub fn forward(&self, c: &Condition, batch: i64, device: Device) -> Tensor {
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
}
