//! NumPy's `npy`: one array with a header that is a Python dictionary.
//!
//! The header is parsed here, and not by the `npyz` crate: that one allocates what the header declares (up to 4 GiB for
//! the header alone) before it has read it, and there are just three keys with three kinds of values.
//!
//! # Source
//! NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays", and `numpy/lib/_format_impl.py`.

use std::io::{self, Write};
use std::path::Path;

use crate::limits::{self, Limits};
use crate::scalar::{Endian, Scalar};
use crate::source::{STANDARD, Source, Stream};
use crate::{Array, Error, Result, Values};

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MAX_HEADER: u64 = 1 << 16;
const MAX_RANK: usize = 32;

/// Reads an npy file: booleans, integers and floats of any byte order and axis order.
///
/// Types that [`Values`] lacks are widened: `i1` to `i2`, `u2` to `i4`, `u4` and `u8` to `i8`; booleans become bytes.
///
/// # Errors
/// When it cannot be opened, is cut short or malformed, or holds text, records or pickled objects.
pub fn read(path: &Path) -> Result<Array> {
    parse(&Source::open(path)?, STANDARD)
}

/// Reads npy from a source.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source, limits: &Limits) -> Result<Array> {
    parse_stream(&mut source.stream()?, source.path(), limits)
}

/// Reads npy from a stream whose name in errors is `path`.
pub(crate) fn parse_stream(stream: &mut Stream<'_>, path: &Path, limits: &Limits) -> Result<Array> {
    let start = stream.exactly(8, "the magic number", 8)?;
    if &start[..6] != MAGIC {
        let found = format!("magic number {:02x?}, expected \\x93NUMPY", &start[..6]);
        return Err(Error::bad(path, "byte 0", found, "this is not an npy array: check the name"));
    }
    let header_len = match start[6] {
        1 => {
            let b = stream.exactly(2, "the header's length", 2)?;
            u64::from(u16::from_le_bytes([b[0], b[1]]))
        }
        2 | 3 => {
            let b = stream.exactly(4, "the header's length", 4)?;
            u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        }
        other => {
            let found = format!("format version {other}, expected 1, 2 or 3");
            return Err(Error::bad(path, "byte 6", found, "save the array again with numpy.save"));
        }
    };
    let text = stream.exactly(header_len, "the header", MAX_HEADER)?;
    let header = Header::parse(&text).map_err(|found| {
        Error::bad(path, "header", found, "save a plain numeric array with numpy.save(..., allow_pickle=False)")
    })?;
    let bytes = limits::array_bytes(&header.shape, header.scalar.size()).unwrap_or(u64::MAX);
    let what = format!("an array of shape {:?}", header.shape);
    let data = stream.exactly(bytes, &what, limits.array_bytes)?;
    stream.end(&what)?;
    let values = header.scalar.values(data, header.endian).map_err(|i| {
        Error::bad(path, format!("value {i}"), "a number beyond the signed 64-bit range", "store it as a signed type")
    })?;
    let values = if header.fortran { in_c_order(values, &header.shape) } else { values };
    Ok(Array::new(header.shape, values))
}

/// Writes an array as npy, little-endian and row-major; bfloat16, which NumPy lacks, is widened to `f4`.
///
/// # Errors
/// When the writer refuses.
pub fn write(mut to: impl Write, array: &Array) -> io::Result<()> {
    let descr = match array.values() {
        Values::U8(_) => "|u1",
        Values::I16(_) => "<i2",
        Values::I32(_) => "<i4",
        Values::I64(_) => "<i8",
        Values::F16(_) => "<f2",
        Values::Bf16(_) | Values::F32(_) => "<f4",
        Values::F64(_) => "<f8",
    };
    let sides: Vec<String> = array.shape().iter().map(usize::to_string).collect();
    let shape = if sides.len() == 1 { format!("({},)", sides[0]) } else { format!("({})", sides.join(", ")) };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Values start at a multiple of 64 bytes: 10 bytes stand before the text and a line feed ends it.
    let padding = (10 + text.len() + 1).next_multiple_of(64) - (10 + text.len() + 1);
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let len =
        u16::try_from(text.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many axes for npy"))?;
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(text.as_bytes())?;
    match array.values() {
        Values::U8(v) => to.write_all(v),
        Values::I16(v) => write_each(to, v, |x| x.to_le_bytes()),
        Values::I32(v) => write_each(to, v, |x| x.to_le_bytes()),
        Values::I64(v) => write_each(to, v, |x| x.to_le_bytes()),
        Values::F16(v) => write_each(to, v, |x| x.to_le_bytes()),
        Values::Bf16(v) => write_each(to, v, |x| f32::from_bits(u32::from(x) << 16).to_le_bytes()),
        Values::F32(v) => write_each(to, v, |x| x.to_le_bytes()),
        Values::F64(v) => write_each(to, v, |x| x.to_le_bytes()),
    }
}

fn write_each<T: Copy, const N: usize>(
    mut to: impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    for part in values.chunks(1 << 14) {
        let block: Vec<u8> = part.iter().flat_map(|&x| bytes(x)).collect();
        to.write_all(&block)?;
    }
    Ok(())
}

/// Values stored with the first axis running fastest, in the order where the last one does.
fn in_c_order(values: Values, shape: &[usize]) -> Values {
    match values {
        Values::U8(v) => Values::U8(transposed(&v, shape)),
        Values::I16(v) => Values::I16(transposed(&v, shape)),
        Values::I32(v) => Values::I32(transposed(&v, shape)),
        Values::I64(v) => Values::I64(transposed(&v, shape)),
        Values::F16(v) => Values::F16(transposed(&v, shape)),
        Values::Bf16(v) => Values::Bf16(transposed(&v, shape)),
        Values::F32(v) => Values::F32(transposed(&v, shape)),
        Values::F64(v) => Values::F64(transposed(&v, shape)),
    }
}

fn transposed<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &side in shape {
        strides.push(stride);
        stride *= side;
    }
    let mut index = vec![0; shape.len()];
    let mut from = 0;
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[from]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            from += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            from -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

#[derive(Debug, PartialEq)]
struct Header {
    scalar: Scalar,
    endian: Endian,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `Err` says what was found and what was expected.
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a header that is not text".to_owned())?;
        let mut words = Words { rest: text };
        words.expect('{')?;
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !words.take('}') {
            let key = words.string()?;
            words.expect(':')?;
            match key {
                "descr" if words.sees('[') => {
                    return Err("records (several named fields), expected one number type".into());
                }
                "descr" => descr = Some(element_type(words.string()?)?),
                "fortran_order" => fortran = Some(words.boolean()?),
                "shape" => shape = Some(words.shape()?),
                other => return Err(format!("unknown key '{}', expected descr, fortran_order, shape", brief(other))),
            }
            if !words.take(',') && !words.sees('}') {
                return Err(format!("'{}', expected ',' or '}}'", brief(words.rest)));
            }
        }
        if !words.rest.trim().is_empty() {
            return Err(format!("'{}' after the header's closing bracket", brief(words.rest.trim())));
        }
        let missing = |key: &str| format!("no key '{key}' in the header");
        let (scalar, endian) = descr.ok_or_else(|| missing("descr"))?;
        let fortran = fortran.ok_or_else(|| missing("fortran_order"))?;
        Ok(Self { scalar, endian, fortran, shape: shape.ok_or_else(|| missing("shape"))? })
    }
}

/// A piece of foreign text that is short enough for an error.
fn brief(text: &str) -> String {
    text.chars().take(24).filter(|c| !c.is_control()).collect()
}

fn element_type(descr: &str) -> std::result::Result<(Scalar, Endian), String> {
    let (order, code) = match descr.as_bytes().first() {
        Some(b'<' | b'|' | b'=') => (Endian::Little, &descr[1..]),
        Some(b'>') => (Endian::Big, &descr[1..]),
        _ => (Endian::Little, descr),
    };
    let scalar = match code {
        "b1" | "?" => Scalar::Bool,
        "u1" => Scalar::U8,
        "i1" => Scalar::I8,
        "u2" => Scalar::U16,
        "i2" => Scalar::I16,
        "u4" => Scalar::U32,
        "i4" => Scalar::I32,
        "u8" => Scalar::U64,
        "i8" => Scalar::I64,
        "f2" => Scalar::F16,
        "f4" => Scalar::F32,
        "f8" => Scalar::F64,
        _ if code.starts_with('O') => {
            return Err("pickled Python objects, which can run code and are never read".into());
        }
        _ => {
            return Err(format!("element type '{}', expected b1, u1 to u8, i1 to i8, f2, f4 or f8", brief(descr)));
        }
    };
    Ok((scalar, order))
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn sees(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(c)
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.sees(c);
        if there {
            self.rest = &self.rest[c.len_utf8()..];
        }
        there
    }

    fn expect(&mut self, c: char) -> std::result::Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(format!("'{}', expected '{c}'", brief(self.rest))) }
    }

    fn string(&mut self) -> std::result::Result<&'a str, String> {
        let quote = if self.take('\'') {
            '\''
        } else if self.take('"') {
            '"'
        } else {
            return Err(format!("'{}', expected a quoted word", brief(self.rest)));
        };
        let (word, rest) = self.rest.split_once(quote).ok_or("a quoted word that does not end")?;
        self.rest = rest;
        Ok(word)
    }

    fn boolean(&mut self) -> std::result::Result<bool, String> {
        let rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(format!("'{}', expected True or False", brief(rest)))
    }

    fn shape(&mut self) -> std::result::Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut sides = Vec::new();
        while !self.take(')') {
            let rest = self.rest.trim_start();
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let side =
                rest[..digits].parse().map_err(|_| format!("'{}', expected the size of an axis", brief(rest)))?;
            sides.push(side);
            // Python 2 wrote sizes as long integers: `60000L`.
            self.rest = rest[digits..].strip_prefix('L').unwrap_or(&rest[digits..]);
            if sides.len() > MAX_RANK {
                return Err(format!("more than {MAX_RANK} axes"));
            }
            if !self.take(',') && !self.sees(')') {
                return Err(format!("'{}', expected ',' or ')'", brief(self.rest)));
            }
        }
        Ok(sides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_bytes(bytes: Vec<u8>) -> Result<Array> {
        parse(&Source::from_bytes("a.npy", bytes), &Limits::TIGHT)
    }

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0][..], &len, header.as_bytes(), data].concat()
    }

    #[test]
    fn the_header_is_the_one_numpy_writes() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Array::new(vec![3], Values::F32(vec![1.0, 2.0, 3.0]))).unwrap();
        // numpy.save(f, numpy.array([1, 2, 3], 'f4')): 128 bytes before the values
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(u16::from_le_bytes([bytes[8], bytes[9]]), 118);
        assert_eq!(&bytes[10..10 + text.len()], text.as_bytes());
        assert_eq!((bytes[127], bytes.len()), (b'\n', 128 + 12));
    }

    #[test]
    fn fortran_order_and_big_endian_are_converted() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        // [[1, 2, 3], [4, 5, 6]] column by column
        let data: Vec<u8> = [1_i16, 4, 2, 5, 3, 6].iter().flat_map(|x| x.to_be_bytes()).collect();
        let array = parse_bytes(npy(header, &data)).unwrap();
        assert_eq!(array, Array::new(vec![2, 3], Values::I16(vec![1, 2, 3, 4, 5, 6])));
        let v: Vec<usize> = (0..24).collect(); // numpy: arange(24).reshape(2,3,4, order='F')[1, 2, 3] = 23, [0, 1, 0] = 2
        let c = transposed(&v, &[2, 3, 4]);
        assert_eq!((c[23], c[4], c[1]), (23, 2, 6));
    }

    #[test]
    fn a_scalar_has_no_axes_and_python_2_sizes_are_read() {
        let array = parse_bytes(npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", &2.5_f64.to_le_bytes()));
        assert_eq!(array.unwrap(), Array::new(vec![], Values::F64(vec![2.5])));
        let old = npy("{'shape': (2L, 1L), 'fortran_order': False, 'descr': \"|b1\"}", &[1, 0]);
        assert_eq!(parse_bytes(old).unwrap(), Array::new(vec![2, 1], Values::U8(vec![1, 0])));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |header: &str| parse_bytes(npy(header, &[0; 8])).unwrap_err().to_string();
        let head = |d: &str| format!("{{'descr': {d}, 'fortran_order': False, 'shape': (1,)}}");
        assert!(said(&head("'|O'")).contains("pickled Python objects, which can run code and are never read"));
        assert!(said(&head("[('a', '<f4')]")).contains("records (several named fields)"));
        assert!(said(&head("'<U5'")).contains("element type '<U5', expected b1"));
        assert!(said(&head("'<c8'")).contains("element type '<c8'"));
        assert!(said(&head("'<f4'")).contains("bytes follow after an array of shape [1]"));
        assert!(said("{'descr': '<f4', 'fortran_order': False}").contains("no key 'shape'"));
        assert!(said("{'descr': '<f4', 'fortran_order': 0}").contains("expected True or False"));
        assert!(
            said("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}").contains("'-1,)}', expected the size")
        );
        assert!(said("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}").contains("8 bytes left, 16 expected"));
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 16)}";
        assert!(said(huge).contains("more than the limit"));
        assert!(said(&"(".repeat(60_000)).contains("expected '{'"));
        assert!(parse_bytes(b"NUMPY...".to_vec()).unwrap_err().to_string().contains("not an npy array"));
        assert!(parse_bytes(b"\x93NUMPY\x07\0".to_vec()).unwrap_err().to_string().contains("format version 7"));
    }

    fn values(n: usize) -> impl Strategy<Value = Values> {
        use prop::collection::vec;
        prop_oneof![
            vec(any::<u8>(), n).prop_map(Values::U8),
            vec(any::<i16>(), n).prop_map(Values::I16),
            vec(any::<i32>(), n).prop_map(Values::I32),
            vec(any::<i64>(), n).prop_map(Values::I64),
            vec(any::<u16>(), n).prop_map(Values::F16),
            vec(-1e30_f32..1e30, n).prop_map(Values::F32),
            vec(-1e300_f64..1e300, n).prop_map(Values::F64),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            array in prop::collection::vec(0_usize..4, 0..4)
                .prop_flat_map(|s| (Just(s.clone()), values(s.iter().product())))
                .prop_map(|(shape, values)| Array::new(shape, values))
        ) {
            let mut bytes = Vec::new();
            write(&mut bytes, &array).unwrap();
            prop_assert_eq!(parse_bytes(bytes).unwrap(), array);
        }
    }
}
