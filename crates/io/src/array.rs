//! A host array: a shape and its values in row-major order.

/// Values of one element type, row-major.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// Bytes, also booleans.
    U8(Vec<u8>),
    /// 16-bit integers.
    I16(Vec<i16>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// IEEE half precision, as bits.
    F16(Vec<u16>),
    /// bfloat16, as bits.
    Bf16(Vec<u16>),
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F16(v) | Self::Bf16(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A shape and its values in row-major order; `shape.product() == values.len()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    values: Values,
}

impl Array {
    /// # Panics
    /// When the shape's product is not the number of values: that is a defect of the caller, who checked the bytes.
    pub fn new(shape: Vec<usize>, values: Values) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} against {} values", values.len());
        Self { shape, values }
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Takes the values out.
    pub fn into_values(self) -> Values {
        self.values
    }
}
