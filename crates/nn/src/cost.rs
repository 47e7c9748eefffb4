use std::iter::Sum;
use std::ops::{Add, Mul};

/// What a network costs, computed from its plan without making a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Learned scalars.
    pub params: u64,
    /// Multiply-adds of one forward pass for one image, in matrix products, convolutions and attention.
    pub macs: u64,
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl Cost {
    /// A linear layer with bias, run at so many positions.
    pub(crate) fn linear(inputs: i64, outputs: i64, positions: i64) -> Self {
        Self { params: count(inputs * outputs + outputs), macs: count(inputs * outputs * positions) }
    }

    /// A square convolution with bias, run at so many output positions.
    pub(crate) fn conv(inputs: i64, outputs: i64, kernel: i64, positions: i64) -> Self {
        let products = inputs * kernel * kernel * outputs;
        Self { params: count(products + outputs), macs: count(products * positions) }
    }

    /// Scale and shift of a normalisation.
    pub(crate) fn affine(channels: i64) -> Self {
        Self { params: count(2 * channels), macs: 0 }
    }

    /// A table of learned rows.
    pub(crate) fn table(rows: i64, width: i64) -> Self {
        Self { params: count(rows * width), macs: 0 }
    }

    /// The two products of attention.
    pub(crate) fn attention(tokens: i64, width: i64) -> Self {
        Self { params: 0, macs: count(2 * tokens * tokens * width) }
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { params: self.params + o.params, macs: self.macs + o.macs }
    }
}

impl Mul<i64> for Cost {
    type Output = Self;
    fn mul(self, n: i64) -> Self {
        Self { params: self.params * count(n), macs: self.macs * count(n) }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
