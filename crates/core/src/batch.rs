use crate::Noise;
use tch::{Device, Tensor};

/// A batch as loader threads make it: host memory, no libtorch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBatch {
    /// `[B, C, H, W]`, values in [-1, 1].
    pub x: Vec<f32>,
    /// Sizes of `x`.
    pub shape: [usize; 4],
    /// Class per sample; empty where the data has none.
    pub y: Vec<i64>,
    /// `[B, F]` factors; empty where the data has none.
    pub factors: Vec<f32>,
    /// Number F of factors.
    pub n_factors: usize,
    /// Number of each sample within its data set.
    pub index: Vec<u64>,
    /// Running number, in the order of training, of the batch's first sample.
    pub first: u64,
    /// Noise level time per sample, if the loss asked for it.
    pub t: Vec<f64>,
    /// `[B, C, H, W]` standard normals, if the loss asked for them.
    pub eps: Vec<f32>,
}

/// The random part of a loss, drawn on loader threads: levels, noise, dropped labels.
pub trait Draw: Send + Sync {
    /// Fills `t`, `eps` and drops labels in `y`, addressed by (seed, `first` + row).
    fn draw(&self, batch: &mut HostBatch, seed: u64);
}

/// A batch on its device.
#[derive(Debug)]
pub struct Batch {
    /// `[B, C, H, W]`, values in [-1, 1].
    pub x: Tensor,
    /// `[B]` int64, with [`crate::NO_LABEL`] where dropped.
    pub y: Option<Tensor>,
    /// `[B, F]`.
    pub factors: Option<Tensor>,
    /// Number of each sample within its data set.
    pub index: Vec<u64>,
    /// Running number of the first sample.
    pub first: u64,
    /// Time per sample; empty unless the loss draws it.
    pub t: Vec<f64>,
    /// Noise like `x`, if drawn.
    pub eps: Option<Tensor>,
}

impl Batch {
    /// Items by their numbers, without labels, factors or noise.
    pub fn of(x: Tensor, index: Vec<u64>) -> Self {
        Self { x, y: None, factors: None, index, first: 0, t: Vec::new(), eps: None }
    }
}

impl HostBatch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the batch to a device.
    pub fn upload(&self, device: Device) -> Batch {
        let size = self.shape.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let put = |v: &[f32], size: &[i64]| Tensor::from_slice(v).view(size).to_device(device);
        Batch {
            x: put(&self.x, &size),
            y: (!self.y.is_empty()).then(|| Tensor::from_slice(&self.y).to_device(device)),
            factors: (self.n_factors > 0).then(|| put(&self.factors, &[size[0], -1])),
            index: self.index.clone(),
            first: self.first,
            t: self.t.clone(),
            eps: (!self.eps.is_empty()).then(|| put(&self.eps, &size)),
        }
    }
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The noise of its rows, by their running numbers: the same in micro-batches and after a resume.
    pub fn noise(&self, seed: u64) -> Noise {
        Noise::new(seed, (self.first..).take(self.len()).collect())
    }

    /// The first rows, at most `n` of them.
    #[must_use]
    pub fn head(&self, n: usize) -> Self {
        self.slice(0, n.min(self.len()))
    }

    /// All rows in turn, at most `n` at a time: for passes that would not fit into memory at once.
    ///
    /// # Panics
    /// On parts of nothing.
    pub fn parts(&self, n: usize) -> impl Iterator<Item = Self> {
        (0..self.len()).step_by(n).map(move |from| self.slice(from, self.len().min(from + n)))
    }

    /// Rows `from..to` as a batch of their own; the tensors are views.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let (a, n) = (i64::try_from(from).unwrap_or(0), i64::try_from(to - from).unwrap_or(0));
        let cut = |t: &Option<Tensor>| t.as_ref().map(|t| t.narrow(0, a, n));
        Self {
            x: self.x.narrow(0, a, n),
            y: cut(&self.y),
            factors: cut(&self.factors),
            index: self.index[from..to].to_vec(),
            first: self.first + from as u64,
            t: if self.t.is_empty() { Vec::new() } else { self.t[from..to].to_vec() },
            eps: cut(&self.eps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_an_upload_keep_every_column_aligned() {
        let host = HostBatch {
            x: (0..6).map(|v| v as f32).collect(),
            shape: [3, 1, 1, 2],
            y: vec![4, 5, 6],
            factors: vec![0.1, 0.2, 0.3],
            n_factors: 1,
            index: vec![7, 8, 9],
            first: 100,
            t: vec![0.1, 0.2, 0.3],
            eps: vec![1.0; 6],
        };
        let part = host.upload(Device::Cpu).slice(1, 3);
        assert_eq!(
            (part.len(), part.first, part.t.as_slice(), part.index.as_slice()),
            (2, 101, &[0.2, 0.3][..], &[8, 9][..])
        );
        assert_eq!(part.noise(3).samples(), [101, 102]);
        assert_eq!(Vec::<f32>::try_from(part.x.flatten(0, -1)).unwrap(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(Vec::<i64>::try_from(part.y.unwrap()).unwrap(), [5, 6]);
    }
}
