//! Raw numbers to [`Values`]: element types and byte orders as IDX and npy files declare them.

use crate::Values;

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

/// An element type of a file. What [`Values`] lacks is widened to the next type that holds every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

fn each<const N: usize, T>(bytes: &[u8], endian: Endian, from_le: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (items, _) = bytes.as_chunks::<N>();
    match endian {
        Endian::Little => items.iter().map(|&item| from_le(item)).collect(),
        Endian::Big => items
            .iter()
            .map(|&(mut item)| {
                item.reverse();
                from_le(item)
            })
            .collect(),
    }
}

impl Scalar {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The numbers that these bytes hold; `Err` is the index of an unsigned 64-bit value beyond the signed range.
    pub(crate) fn values(self, bytes: Vec<u8>, endian: Endian) -> Result<Values, usize> {
        Ok(match self {
            Self::Bool => Values::U8(bytes.into_iter().map(|b| u8::from(b != 0)).collect()),
            Self::U8 => Values::U8(bytes),
            Self::I8 => Values::I16(each(&bytes, endian, |b| i16::from(i8::from_le_bytes(b)))),
            Self::U16 => Values::I32(each(&bytes, endian, |b| i32::from(u16::from_le_bytes(b)))),
            Self::I16 => Values::I16(each(&bytes, endian, i16::from_le_bytes)),
            Self::U32 => Values::I64(each(&bytes, endian, |b| i64::from(u32::from_le_bytes(b)))),
            Self::I32 => Values::I32(each(&bytes, endian, i32::from_le_bytes)),
            Self::I64 => Values::I64(each(&bytes, endian, i64::from_le_bytes)),
            Self::F16 => Values::F16(each(&bytes, endian, u16::from_le_bytes)),
            Self::F32 => Values::F32(each(&bytes, endian, f32::from_le_bytes)),
            Self::F64 => Values::F64(each(&bytes, endian, f64::from_le_bytes)),
            Self::U64 => {
                let signed: Vec<i64> = each(&bytes, endian, i64::from_le_bytes);
                if let Some(i) = signed.iter().position(|&v| v < 0) {
                    return Err(i);
                }
                Values::I64(signed)
            }
        })
    }
}

/// Whole numbers of any integer type as labels; `None` for fractions.
pub(crate) fn integers(values: &Values) -> Option<Vec<i64>> {
    match values {
        Values::U8(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        Values::I16(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        Values::I32(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        Values::I64(v) => Some(v.clone()),
        Values::F16(_) | Values::Bf16(_) | Values::F32(_) | Values::F64(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_give_the_same_numbers() {
        let v = Scalar::I16.values(vec![0xfe, 0xff, 0x02, 0x01], Endian::Little);
        assert_eq!(v, Ok(Values::I16(vec![-2, 258])));
        assert_eq!(Scalar::I16.values(vec![0xff, 0xfe, 0x01, 0x02], Endian::Big), v);
        assert_eq!(Scalar::F32.values(vec![0x3f, 0x80, 0, 0], Endian::Big), Ok(Values::F32(vec![1.0])));
    }

    #[test]
    fn unsigned_types_are_widened_and_never_wrap() {
        assert_eq!(Scalar::U16.values(vec![0xff, 0xff], Endian::Little), Ok(Values::I32(vec![65535])));
        assert_eq!(Scalar::U32.values(vec![0xff; 4], Endian::Little), Ok(Values::I64(vec![4_294_967_295])));
        assert_eq!(Scalar::I8.values(vec![0x80, 1], Endian::Little), Ok(Values::I16(vec![-128, 1])));
        assert_eq!(Scalar::U64.values([[0; 8], [0xff; 8]].concat(), Endian::Big), Err(1));
        assert_eq!(Scalar::Bool.values(vec![0, 1, 2], Endian::Little), Ok(Values::U8(vec![0, 1, 1])));
    }
}
