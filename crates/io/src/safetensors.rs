//! Weights in safetensors: the same bytes for the same content, strings beside the tensors, read by name.
//!
//! Tensors lie by element size, largest first, then by name, so that each is aligned; metadata keys are sorted. The
//! key `format = "pt"` is added when the caller gives none, because `transformers` and `diffusers` refuse files without.
//! Booleans are read as bytes; element types that [`Values`] lacks are refused when they are asked for, not before.
//!
//! # Source
//! huggingface/safetensors, README "Format": 8 bytes of header length, JSON header, data without holes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata as Header;
use serde_json::{Map, Value, json};

use crate::atomic::write_atomic;
use crate::limits::read_up_to;
use crate::{Array, Error, Result, Values};

/// The format's own limit of the header.
const MAX_HEADER: u64 = 100_000_000;

/// Strings beside the tensors: plan, card, `images_seen`, `format_version` and the like.
pub type Metadata = BTreeMap<String, String>;

fn dtype(values: &Values) -> (&'static str, usize) {
    match values {
        Values::U8(_) => ("U8", 1),
        Values::I16(_) => ("I16", 2),
        Values::I32(_) => ("I32", 4),
        Values::I64(_) => ("I64", 8),
        Values::F16(_) => ("F16", 2),
        Values::Bf16(_) => ("BF16", 2),
        Values::F32(_) => ("F32", 4),
        Values::F64(_) => ("F64", 8),
    }
}

fn write_each<const N: usize, T: Copy>(w: &mut impl Write, items: &[T], le: impl Fn(T) -> [u8; N]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(N << 13);
    for chunk in items.chunks(1 << 13) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&x| le(x)));
        w.write_all(&buffer)?;
    }
    Ok(())
}

fn write_values(w: &mut impl Write, values: &Values) -> io::Result<()> {
    match values {
        Values::U8(v) => w.write_all(v),
        Values::I16(v) => write_each(w, v, i16::to_le_bytes),
        Values::I32(v) => write_each(w, v, i32::to_le_bytes),
        Values::I64(v) => write_each(w, v, i64::to_le_bytes),
        Values::F16(v) | Values::Bf16(v) => write_each(w, v, u16::to_le_bytes),
        Values::F32(v) => write_each(w, v, f32::to_le_bytes),
        Values::F64(v) => write_each(w, v, f64::to_le_bytes),
    }
}

fn write_to(w: &mut impl Write, tensors: &[(&str, &Array)], metadata: &Metadata) -> io::Result<()> {
    let mut order: Vec<_> = tensors.iter().map(|&(name, array)| (name, array, dtype(array.values()))).collect();
    order.sort_by(|a, b| b.2.1.cmp(&a.2.1).then(a.0.cmp(b.0)));
    let mut strings = metadata.clone();
    strings.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(strings));
    let mut at = 0;
    for (name, array, (dtype, size)) in &order {
        let end = at + array.values().len() * size;
        let entry = json!({"dtype": dtype, "shape": array.shape(), "data_offsets": [at, end]});
        if *name == "__metadata__" || header.insert((*name).to_owned(), entry).is_some() {
            let why = format!("the tensor name {name} is taken");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        at = end;
    }
    let mut header = serde_json::to_vec(&Value::Object(header))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    w.write_all(&(header.len() as u64).to_le_bytes())?;
    w.write_all(&header)?;
    order.iter().try_for_each(|(_, array, _)| write_values(w, array.values()))
}

/// Writes tensors by name, all or nothing.
///
/// # Errors
/// When a name appears twice, or the system refuses; what was at `path` is then untouched.
pub fn write(path: &Path, tensors: &[(&str, &Array)], metadata: &Metadata) -> Result<()> {
    write_atomic(path, |w| write_to(w, tensors, metadata))
}

/// The file's bytes in memory.
///
/// # Errors
/// When a name appears twice.
pub fn to_bytes(tensors: &[(&str, &Array)], metadata: &Metadata) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, tensors, metadata).map_err(|e| Error::os(Path::new("safetensors"), "write", e))?;
    Ok(bytes)
}

#[derive(Clone, Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    len: u64,
}

/// An opened file: its header is known and checked, each tensor is read when asked for.
#[derive(Debug)]
pub struct Reader<S> {
    path: PathBuf,
    from: S,
    entries: BTreeMap<String, Entry>,
    metadata: Metadata,
}

impl Reader<File> {
    /// Opens a file and checks its header against its size.
    ///
    /// # Errors
    /// When it cannot be opened, is cut off or is no safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, File::open(path).map_err(|e| Error::os(path, "open", e))?)
    }
}

impl<'a> Reader<Cursor<&'a [u8]>> {
    /// Reads from memory; `path` is for messages.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_bytes(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        Self::new(path, Cursor::new(bytes))
    }
}

impl<S: Read + Seek> Reader<S> {
    fn new(path: &Path, mut from: S) -> Result<Self> {
        const ADVICE: &str = "fetch or write the file again";
        let refused = |e| Error::os(path, "read", e);
        let size = from.seek(SeekFrom::End(0)).map_err(refused)?;
        from.rewind().map_err(refused)?;
        if size < 8 {
            return Err(Error::bad(path, "byte 0", format!("{size} bytes, too short for safetensors"), ADVICE));
        }
        let mut len = [0; 8];
        from.read_exact(&mut len).map_err(refused)?;
        let len = u64::from_le_bytes(len);
        if len > MAX_HEADER || len > size - 8 {
            let found = format!("a header of {len} bytes in a file of {size}: cut off, or no safetensors file");
            return Err(Error::bad(path, "byte 0", found, ADVICE));
        }
        let header = read_up_to(&mut from, usize::try_from(len).unwrap_or(0)).map_err(refused)?;
        let bad = |e: serde_json::Error| Error::bad(path, "header", format!("not a valid header: {e}"), ADVICE);
        let header: Header = serde_json::from_slice(&header).map_err(bad)?;
        let data = header.data_len() as u64;
        if data != size - 8 - len {
            let found = format!("{data} bytes of tensors are declared, {} are there", size - 8 - len);
            return Err(Error::bad(path, format!("byte {}", 8 + len), found, ADVICE));
        }
        let entries = header.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: 8 + len + start as u64,
                len: (end - start) as u64,
            };
            (name, entry)
        });
        let entries = entries.collect();
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self { path: path.to_owned(), from, entries, metadata })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Shape of a tensor, without reading it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// Strings beside the tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The file, as errors name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// When there is none of this name, its element type is none of ours, or the file cannot be read.
    pub fn read(&mut self, name: &str) -> Result<Array> {
        let place = format!("tensor {name}");
        let Some(entry) = self.entries.get(name) else {
            let near = nearest(name, self.names()).map_or(String::new(), |n| format!("; the nearest name is {n}"));
            let found = format!("no such tensor among {}{near}", self.entries.len());
            return Err(Error::bad(&self.path, place, found, "check that the weights belong to this network"));
        };
        let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
        let read = self.from.seek(SeekFrom::Start(entry.start)).and_then(|_| read_up_to(&mut self.from, len));
        let bytes = read.map_err(|e| Error::os(&self.path, "read", e))?;
        if bytes.len() != len {
            let found = format!("{} of its {len} bytes", bytes.len());
            return Err(Error::bad(&self.path, place, found, "the file was changed while it was read: try again"));
        }
        let Some(values) = values(entry.dtype, bytes) else {
            let found = format!("element type {:?}, which is not supported", entry.dtype);
            return Err(Error::bad(&self.path, place, found, "convert it to F32, BF16, F16, F64, I64, I32, I16 or U8"));
        };
        Ok(Array::new(entry.shape.clone(), values))
    }

    /// Reads every tensor, sorted by name.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_all(&mut self) -> Result<Vec<(String, Array)>> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        names.into_iter().map(|name| self.read(&name).map(|array| (name, array))).collect()
    }
}

fn each<const N: usize, T>(bytes: &[u8], le: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| le(b)).collect()
}

fn values(dtype: Dtype, bytes: Vec<u8>) -> Option<Values> {
    Some(match dtype {
        Dtype::U8 | Dtype::BOOL => Values::U8(bytes),
        Dtype::I16 => Values::I16(each(&bytes, i16::from_le_bytes)),
        Dtype::I32 => Values::I32(each(&bytes, i32::from_le_bytes)),
        Dtype::I64 => Values::I64(each(&bytes, i64::from_le_bytes)),
        Dtype::F16 => Values::F16(each(&bytes, u16::from_le_bytes)),
        Dtype::BF16 => Values::Bf16(each(&bytes, u16::from_le_bytes)),
        Dtype::F32 => Values::F32(each(&bytes, f32::from_le_bytes)),
        Dtype::F64 => Values::F64(each(&bytes, f64::from_le_bytes)),
        _ => return None,
    })
}

/// The name that shares the longest start and end with the one asked for, if they share half of it.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let shared = |other: &str| {
        let same = |(a, b): &(u8, u8)| a == b;
        let front = name.bytes().zip(other.bytes()).take_while(same).count();
        let back = name.bytes().rev().zip(other.bytes().rev()).take_while(same).count();
        (front + back).min(name.len())
    };
    names.max_by_key(|n| shared(n)).filter(|n| 2 * shared(n) >= name.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> Metadata {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn open(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>> {
        Reader::from_bytes(Path::new("w.safetensors"), bytes)
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn the_bytes_are_these() {
        let wide = Array::new(vec![2], Values::F32(vec![1.0, -2.0]));
        let narrow = Array::new(vec![1, 3], Values::U8(vec![7, 8, 9]));
        let bytes = to_bytes(&[("a", &narrow), ("b", &wide)], &strings(&[("z", "1"), ("a", "\"")])).unwrap();
        let header = concat!(
            r#"{"__metadata__":{"a":"\"","format":"pt","z":"1"},"#,
            r#""b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
            r#""a":{"dtype":"U8","shape":[1,3],"data_offsets":[8,11]}}"#
        );
        let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let data = [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 7, 8, 9];
        assert_eq!(bytes, with_header(&padded, &data));
        let reverse = to_bytes(&[("b", &wide), ("a", &narrow)], &strings(&[("a", "\""), ("z", "1")])).unwrap();
        assert_eq!(reverse, bytes);
    }

    #[test]
    fn the_reference_reader_agrees() {
        let array = Array::new(vec![2, 1], Values::I64(vec![-5, 1 << 40]));
        let bytes = to_bytes(&[("n", &array)], &Metadata::new()).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = theirs.tensor("n").unwrap();
        assert_eq!((view.dtype(), view.shape()), (Dtype::I64, &[2, 1][..]));
        assert_eq!(view.data(), [(-5_i64).to_le_bytes(), (1_i64 << 40).to_le_bytes()].concat());
    }

    #[test]
    fn a_file_is_read_by_name_and_a_missing_name_suggests_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let a = Array::new(vec![], Values::F64(vec![0.1]));
        let b = Array::new(vec![0, 4], Values::F16(vec![]));
        write(&path, &[("blocks.0.attn.qkv.weight", &a), ("empty", &b)], &strings(&[("format", "np")])).unwrap();
        let mut r = Reader::open(&path).unwrap();
        assert_eq!(r.metadata(), &strings(&[("format", "np")]));
        assert_eq!(r.shape("empty"), Some(&[0, 4][..]));
        assert_eq!(
            r.read_all().unwrap(),
            [("blocks.0.attn.qkv.weight".to_owned(), a.clone()), ("empty".to_owned(), b)]
        );
        let said = r.read("blocks.0.attn.qkv.bias").unwrap_err().to_string();
        assert!(said.contains("no such tensor among 2; the nearest name is blocks.0.attn.qkv.weight"), "{said}");
        assert!(write(&path, &[("x", &a), ("x", &a)], &Metadata::new()).is_err());
        assert_eq!(Reader::open(&path).unwrap().names().count(), 2);
    }

    #[test]
    fn every_lie_of_a_header_is_refused() {
        let f32s =
            |range: &str, shape: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{range}}}}}"#);
        assert!(open(&with_header(&f32s("[0,8]", "[2]"), &[0; 8])).is_ok());
        for (header, data, why) in [
            (f32s("[0,8]", "[2]"), 7, "8 bytes of tensors are declared, 7 are there"),
            (f32s("[0,8]", "[2]"), 9, "9 are there"),
            (f32s("[4,12]", "[2]"), 12, "not a valid header"),
            (f32s("[8,0]", "[2]"), 8, "not a valid header"),
            (f32s("[0,8]", "[3]"), 8, "not a valid header"),
            (f32s("[0,8]", "[18446744073709551615,2]"), 8, "not a valid header"),
            (f32s("[0,18446744073709551615]", "[2]"), 8, "not a valid header"),
            (f32s("[0,8]", "[-2]"), 8, "not a valid header"),
            ("{\"a\":{\"dtype\":\"F7\",\"shape\":[],\"data_offsets\":[0,0]}}".to_owned(), 0, "not a valid header"),
            ("[]".to_owned(), 0, "not a valid header"),
            (String::new(), 0, "not a valid header"),
        ] {
            let said = open(&with_header(&header, &vec![0; data])).unwrap_err();
            assert!(matches!(said, Error::Bad { .. }) && said.to_string().contains(why), "{said}");
        }
        let huge = [&u64::MAX.to_le_bytes()[..], &[0; 100]].concat();
        for (bytes, why) in [(&b"abc"[..], "too short"), (&huge, "cut off, or no safetensors file")] {
            let said = open(bytes).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        let mut complex = with_header(r#"{"c":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#, &[0; 8]);
        assert!(open(&complex).unwrap().read("c").unwrap_err().to_string().contains("element type C64"));
        complex.truncate(30);
        assert!(open(&complex).is_err());
    }

    fn any_array() -> impl Strategy<Value = Array> {
        let shape = prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![3]), Just(vec![2, 1, 2])];
        (shape, 0_u8..8, any::<u64>()).prop_map(|(shape, kind, seed)| {
            let n: usize = shape.iter().product();
            let bits = (0..n as u64).map(|i| seed.wrapping_mul(i.wrapping_mul(2) + 1));
            let values = match kind {
                0 => Values::U8(bits.map(|b| b as u8).collect()),
                1 => Values::I16(bits.map(|b| b as i16).collect()),
                2 => Values::I32(bits.map(|b| b as i32).collect()),
                3 => Values::I64(bits.map(|b| b as i64).collect()),
                4 => Values::F16(bits.map(|b| b as u16).collect()),
                5 => Values::Bf16(bits.map(|b| b as u16).collect()),
                6 => Values::F32(bits.map(|b| (b as i32) as f32).collect()),
                _ => Values::F64(bits.map(|b| (b as i64) as f64).collect()),
            };
            Array::new(shape, values)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(arrays in proptest::collection::btree_map("[a-z.\"é]{1,6}", any_array(), 0..5),
                                   notes in proptest::collection::btree_map(".{0,6}", ".{0,9}", 0..4)) {
            let list: Vec<(&str, &Array)> = arrays.iter().map(|(k, v)| (k.as_str(), v)).collect();
            let bytes = to_bytes(&list, &notes).unwrap();
            let mut reader = open(&bytes).unwrap();
            for (k, v) in &notes {
                prop_assert_eq!(reader.metadata().get(k), Some(v));
            }
            prop_assert_eq!(reader.read_all().unwrap(), arrays.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn damage_never_panics(at in 0_usize..200, flip in 1_u8.., cut in 0_usize..200) {
            let array = Array::new(vec![4], Values::F32(vec![1.0; 4]));
            let mut bytes = to_bytes(&[("a", &array), ("b", &array)], &strings(&[("plan", "{}")])).unwrap();
            let n = bytes.len();
            bytes[at % n] ^= flip;
            bytes.truncate(n - cut % n);
            if let Ok(mut r) = open(&bytes) {
                let _ = r.read_all();
            }
        }
    }
}
