//! A table of features: what an encoder said of each item, with labels, factors, split and where it all came from.
//!
//! As Parquet: `feature` (a list of D floats a row), `index`, and where known `label`, `split`, one column a factor, and
//! the [`Baselines`] as the lists `pixels` and `random`; provenance stands in the file's key-value metadata beside
//! `format_version`. Tables of other programs with columns `f0, f1, ...` are read too. As npz: `feature [N, D]`, `index`,
//! `label`, `split` (codes), `factor.NAME`, `pixels`, `random`, and `about`, the bytes of a JSON object with
//! `format_version`, the names of the splits and the provenance.
//!
//! Version 1 had no baselines; its tables are read as tables without them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::atomic::write_atomic;
use crate::hf_parquet::check_footer;
use crate::limits::{Limits, admit};
use crate::npz::{self, Npz};
use crate::parquet_pages::{self, Chunk};
use crate::source::Source;
use crate::{Array, Error, Result, Values};

/// Version of the table's layout.
pub const FORMAT_VERSION: u32 = 2;
const VERSION_KEY: &str = "format_version";
const ADVICE: &str = "write the table again with `pentimento encode`";

/// What stands beside features to judge them by: the same items as nobody's representation.
#[derive(Clone, Debug, PartialEq)]
pub struct Baselines {
    /// `[N, C H W]` the items themselves.
    pub pixels: Array,
    /// `[N, D]` the encoder at its random start, read at the same place.
    pub random: Array,
}

/// Features of N items.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// `[N, D]` single-precision features.
    pub feature: Array,
    /// `[N]` number of the item in its data set.
    pub index: Vec<i64>,
    /// `[N]` class, where the data has one.
    pub label: Option<Vec<i64>>,
    /// `[N]` `train`, `val` or `test`, where the data is split.
    pub split: Option<Vec<String>>,
    /// `[N]` each, in this order: factors of variation by name.
    pub factors: Vec<(String, Vec<f64>)>,
    /// What the features are to be compared with, where it was written along.
    pub baselines: Option<Baselines>,
    /// Run, data set, block, level, seed, git revision: what made this table.
    pub provenance: BTreeMap<String, String>,
}

impl Features {
    /// Number of items and width of a feature, when every column fits.
    fn size(&self, path: &Path) -> Result<(usize, usize)> {
        let bad = |place: &str, found: String| Err(Error::bad(path, place, found, ADVICE));
        let (n, d) = match (self.feature.shape(), self.feature.values()) {
            (&[n, d], Values::F32(_)) if d > 0 => (n, d),
            (shape, _) => return bad("feature", format!("shape {shape:?}, expected [N, D] of f32")),
        };
        let label = self.label.as_ref().map_or(n, Vec::len);
        let split = self.split.as_ref().map_or(n, Vec::len);
        for (name, len) in [("index", self.index.len()), ("label", label), ("split", split)] {
            if len != n {
                return bad(&format!("column {name}"), format!("{len} values, expected {n}"));
            }
        }
        for (name, array) in self.lists().skip(1) {
            match (array.shape(), array.values()) {
                (&[rows, wide], Values::F32(_)) if rows == n && wide > 0 => {}
                (shape, _) => return bad(name, format!("shape {shape:?}, expected [{n}, D] of f32")),
            }
        }
        let mut names = BTreeSet::new();
        for (name, values) in &self.factors {
            if values.len() != n {
                return bad(&format!("column {name}"), format!("{} values, expected {n}", values.len()));
            }
            let baseline = self.baselines.is_some() && BASELINES.contains(&name.as_str());
            if reserved(name) || baseline || !names.insert(name) {
                return bad(&format!("column {name}"), "a factor of a name that is taken".to_owned());
            }
        }
        Ok((n, d))
    }

    /// The columns of lists under their names: `feature`, then the baselines.
    fn lists(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let baselines = self.baselines.iter().flat_map(|b| BASELINES.into_iter().zip([&b.pixels, &b.random]));
        std::iter::once(("feature", &self.feature)).chain(baselines)
    }

    /// Writes the table as Parquet, all or nothing; the same table gives the same bytes.
    ///
    /// # Errors
    /// When the columns do not fit together, or the system refuses.
    pub fn write_parquet(&self, path: &Path) -> Result<()> {
        self.size(path)?;
        write_atomic(path, |w| self.parquet_to(w).map_err(io_of))
    }

    fn parquet_to(&self, to: impl io::Write + Send) -> std::result::Result<(), ParquetError> {
        let mut columns: Vec<(&str, ArrayRef)> = vec![("index", Arc::new(Int64Array::from(self.index.clone())))];
        if let Some(split) = &self.split {
            columns.push(("split", Arc::new(StringArray::from_iter_values(split))));
        }
        if let Some(label) = &self.label {
            columns.push(("label", Arc::new(Int64Array::from(label.clone()))));
        }
        for (name, values) in &self.factors {
            columns.push((name, Arc::new(Float64Array::from(values.clone()))));
        }
        let mut width = 0;
        for (name, array) in self.lists() {
            columns.push((name, Arc::new(list_of(array)?)));
            width += array.shape()[1];
        }
        let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), false);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, a)| a).collect())?;
        let mut notes = vec![KeyValue::new(VERSION_KEY.to_owned(), FORMAT_VERSION.to_string())];
        notes.extend(self.provenance.iter().map(|(k, v)| KeyValue::new(format!("provenance.{k}"), v.clone())));
        let lists = self.lists().map(|(name, _)| format!("{name}.list.element"));
        let properties = lists
            .fold(WriterProperties::builder(), |b, path| b.set_column_dictionary_enabled(path.as_str().into(), false))
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            // About 64 MiB of features a group: what a reader must hold at once.
            .set_max_row_group_row_count(Some(((1_usize << 24).div_ceil(width)).clamp(256, 1 << 20)))
            .set_key_value_metadata(Some(notes))
            .build();
        let mut writer = ArrowWriter::try_new(to, schema, Some(properties))?;
        writer.write(&batch)?;
        writer.close().map(drop)
    }

    /// Reads a Parquet table.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds no features.
    pub fn read_parquet(path: &Path) -> Result<Self> {
        Self::parquet_from(&Source::open(path)?, &Limits::STANDARD)
    }

    /// Reads a Parquet table from a source.
    ///
    /// # Errors
    /// As [`Features::read_parquet`].
    pub fn parquet_from(source: &Source, limits: &Limits) -> Result<Self> {
        // The decoder asserts what it finds in damaged pages. No state outlives the attempt, so the panic is an error here.
        catch_unwind(AssertUnwindSafe(|| Self::decoded(source, limits))).unwrap_or_else(|_| {
            Err(Error::bad(source.path(), "table", "not a valid Parquet table (its pages do not decode)", ADVICE))
        })
    }

    fn decoded(source: &Source, limits: &Limits) -> Result<Self> {
        let path = source.path();
        let bad =
            |e: &dyn std::fmt::Display| Error::bad(path, "table", format!("not a valid Parquet table ({e})"), ADVICE);
        check_footer(source, limits)?;
        // The embedded Arrow schema is a second description that could contradict the first.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder =
            ParquetRecordBatchReaderBuilder::try_new_with_options(source.clone(), options).map_err(|e| bad(&e))?;
        check_chunks(source, builder.metadata(), limits)?;
        let provenance = notes(path, builder.metadata())?;
        let schema = Arc::clone(builder.schema());
        let mut table = Collected::new(path, schema.fields().iter().map(|f| f.name().clone()).collect());
        let reader = builder.with_batch_size(1024).build().map_err(|e| bad(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| bad(&e))?;
            for (name, column) in table.names.clone().iter().zip(batch.columns()) {
                table.add(name, column)?;
            }
            admit(path, "table", 4 * table.list_values() as u64, limits.array_bytes)?;
        }
        table.finish(provenance)
    }

    /// Writes the table as npz, all or nothing; the same table gives the same bytes.
    ///
    /// # Errors
    /// When the columns do not fit together, there are more than 256 names of splits, or the system refuses.
    pub fn write_npz(&self, path: &Path) -> Result<()> {
        let (n, _) = self.size(path)?;
        let names: Vec<&String> = self.split.iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
        let about = json!({VERSION_KEY: FORMAT_VERSION, "split": names, "provenance": self.provenance});
        let about = about.to_string().into_bytes();
        let mut arrays: Vec<_> = self.lists().map(|(name, array)| (name.to_owned(), array.clone())).collect();
        arrays.extend([
            ("index".to_owned(), Array::new(vec![n], Values::I64(self.index.clone()))),
            ("about".to_owned(), Array::new(vec![about.len()], Values::U8(about))),
        ]);
        if let Some(label) = &self.label {
            arrays.push(("label".to_owned(), Array::new(vec![n], Values::I64(label.clone()))));
        }
        if let Some(split) = &self.split {
            let code = |s: &String| u8::try_from(names.iter().position(|n| *n == s).unwrap_or(usize::MAX));
            let codes: std::result::Result<Vec<u8>, _> = split.iter().map(code).collect();
            let codes =
                codes.map_err(|_| Error::bad(path, "column split", "more than 256 names", "use fewer splits"))?;
            arrays.push(("split".to_owned(), Array::new(vec![n], Values::U8(codes))));
        }
        for (name, values) in &self.factors {
            arrays.push((format!("factor.{name}"), Array::new(vec![n], Values::F64(values.clone()))));
        }
        write_atomic(path, |w| npz::write(w, arrays.iter().map(|(name, array)| (name.as_str(), array))))
    }

    /// Reads an npz table.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds no features.
    pub fn read_npz(path: &Path) -> Result<Self> {
        Self::npz_from(&Source::open(path)?, &Limits::STANDARD)
    }

    /// Reads an npz table from a source.
    ///
    /// # Errors
    /// As [`Features::read_npz`].
    pub fn npz_from(source: &Source, limits: &Limits) -> Result<Self> {
        let path = source.path();
        let npz = Npz::from_source(source, limits)?;
        let wrong = |name: &str| Error::bad(path, format!("array {name}"), "not the expected type or values", ADVICE);
        let Values::U8(about) = npz.array("about")?.into_values() else { return Err(wrong("about")) };
        let about: Value = serde_json::from_slice(&about).map_err(|_| wrong("about"))?;
        check_version(path, about[VERSION_KEY].as_u64())?;
        let strings = |v: &Value| v.as_str().map(str::to_owned);
        let provenance = about["provenance"].as_object().into_iter().flatten();
        let provenance = provenance.filter_map(|(k, v)| Some((k.clone(), strings(v)?))).collect();
        let names: Vec<String> = about["split"].as_array().into_iter().flatten().filter_map(strings).collect();
        let whole = |name: &str| match npz.array(name)?.into_values() {
            Values::I64(v) => Ok(v),
            _ => Err(wrong(name)),
        };
        let split = match npz.has("split").then(|| npz.array("split")).transpose()?.map(Array::into_values) {
            Some(Values::U8(codes)) => {
                let named: Option<Vec<String>> = codes.iter().map(|&c| names.get(usize::from(c)).cloned()).collect();
                Some(named.ok_or_else(|| wrong("split"))?)
            }
            Some(_) => return Err(wrong("split")),
            None => None,
        };
        let mut factors = Vec::new();
        for array in npz.names() {
            if let Some(name) = array.strip_prefix("factor.") {
                let Values::F64(values) = npz.array(array)?.into_values() else { return Err(wrong(array)) };
                factors.push((name.to_owned(), values));
            }
        }
        let label = npz.has("label").then(|| whole("label")).transpose()?;
        let list = |name: &str| npz.has(name).then(|| npz.array(name)).transpose();
        let baselines = both(path, list("pixels")?, list("random")?)?;
        let (feature, index) = (npz.array("feature")?, whole("index")?);
        let table = Self { feature, index, label, split, factors, baselines, provenance };
        table.size(path).map(|_| table)
    }
}

/// The names of the baselines' columns, in the order of the fields.
const BASELINES: [&str; 2] = ["pixels", "random"];

/// Both baselines or none.
fn both(path: &Path, pixels: Option<Array>, random: Option<Array>) -> Result<Option<Baselines>> {
    match (pixels, random) {
        (Some(pixels), Some(random)) => Ok(Some(Baselines { pixels, random })),
        (None, None) => Ok(None),
        _ => Err(Error::bad(path, "table", "one of the columns pixels and random without the other", ADVICE)),
    }
}

/// `[N, D]` as N lists of D floats.
fn list_of(array: &Array) -> std::result::Result<FixedSizeListArray, ParquetError> {
    let (&[_, width], Values::F32(values)) = (array.shape(), array.values()) else {
        return Err(ParquetError::General("lists are [N, D] of f32".to_owned()));
    };
    let side = i32::try_from(width).map_err(|e| ParquetError::General(e.to_string()))?;
    let item = Arc::new(Field::new("element", DataType::Float32, false));
    Ok(FixedSizeListArray::try_new(item, side, Arc::new(Float32Array::from(values.clone())), None)?)
}

fn io_of(e: ParquetError) -> io::Error {
    match e {
        // Keep the system's own reason: a full disk must be told as one.
        ParquetError::External(e) => e.downcast::<io::Error>().map_or_else(io::Error::other, |e| *e),
        e => io::Error::other(e),
    }
}

/// `f0`, `f12`: the place in a feature.
fn place_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix('f')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn reserved(name: &str) -> bool {
    ["feature", "index", "label", "split"].contains(&name) || place_of(name).is_some() || name.is_empty()
}

fn check_version(path: &Path, version: Option<u64>) -> Result<()> {
    match version {
        Some(v) if v > u64::from(FORMAT_VERSION) => {
            let found = format!("format_version {v}, this program knows {FORMAT_VERSION}");
            Err(Error::bad(path, "metadata", found, "use a newer version of this program"))
        }
        _ => Ok(()),
    }
}

fn notes(path: &Path, metadata: &ParquetMetaData) -> Result<BTreeMap<String, String>> {
    let pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let mut provenance = BTreeMap::new();
    for KeyValue { key, value } in pairs {
        let value = value.clone().unwrap_or_default();
        if key == VERSION_KEY {
            check_version(path, value.parse().ok())?;
        } else if let Some(key) = key.strip_prefix("provenance.") {
            provenance.insert(key.to_owned(), value);
        }
    }
    Ok(provenance)
}

/// Refuses pages that declare more than they hold, before the decoder allocates for them.
fn check_chunks(source: &Source, metadata: &ParquetMetaData, limits: &Limits) -> Result<()> {
    for (g, group) in metadata.row_groups().iter().enumerate() {
        for column in group.columns() {
            let place = format!("row group {g}, column {}", column.column_path().string());
            let first = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let positive = |n: i64| {
                u64::try_from(n).map_err(|_| Error::bad(source.path(), &place, "a negative size or position", ADVICE))
            };
            let chunk = Chunk {
                start: positive(first)?,
                len: positive(column.compressed_size())?,
                rows: positive(column.num_values())?,
                gzip: matches!(column.compression(), Compression::GZIP(_)),
            };
            parquet_pages::check(source, chunk, &place, limits)?;
        }
    }
    Ok(())
}

/// Columns as they come, batch after batch.
struct Collected<'a> {
    path: &'a Path,
    names: Vec<String>,
    lists: BTreeMap<&'static str, (usize, Vec<f32>)>,
    flat: BTreeMap<usize, Vec<f32>>,
    index: Option<Vec<i64>>,
    label: Option<Vec<i64>>,
    split: Option<Vec<String>>,
    factors: Vec<(String, Vec<f64>)>,
}

impl<'a> Collected<'a> {
    fn new(path: &'a Path, names: Vec<String>) -> Self {
        let (index, label, split) = (None, None, None);
        let (lists, flat) = (BTreeMap::new(), BTreeMap::new());
        Self { path, names, lists, flat, index, label, split, factors: Vec::new() }
    }

    fn list_values(&self) -> usize {
        let lists = self.lists.values().map(|(_, v)| v.len());
        lists.chain(self.flat.values().map(Vec::len)).sum()
    }

    fn add(&mut self, name: &str, column: &ArrayRef) -> Result<()> {
        let path = self.path;
        let kind = column.data_type();
        let bad = |expected: &str| {
            let found = format!("type {kind}, expected {expected}");
            Error::bad(path, format!("column {name}"), found, "drop the column or convert it")
        };
        if column.null_count() > 0 {
            let found = format!("{} empty cells", column.null_count());
            return Err(Error::bad(path, format!("column {name}"), found, "fill or drop those rows"));
        }
        // Another program's `random` may be a plain column of numbers: then it is a factor like others.
        if let Some(baseline) = BASELINES.into_iter().find(|b| *b == name && matches!(kind, DataType::List(_))) {
            return self.add_lists(baseline, column);
        }
        match name {
            "feature" => return self.add_lists("feature", column),
            "index" => self.index.get_or_insert_default().extend(whole(column).ok_or_else(|| bad("whole numbers"))?),
            "label" => self.label.get_or_insert_default().extend(whole(column).ok_or_else(|| bad("whole numbers"))?),
            "split" => {
                let strings = column.as_string_opt::<i32>().ok_or_else(|| bad("text"))?;
                self.split.get_or_insert_default().extend(strings.iter().flatten().map(str::to_owned));
            }
            _ => match place_of(name) {
                Some(k) => self.flat.entry(k).or_default().extend(single(column).ok_or_else(|| bad("floats"))?),
                None => {
                    let values = double(column).ok_or_else(|| bad("numbers"))?;
                    match self.factors.iter_mut().find(|(known, _)| known == name) {
                        Some((_, all)) => all.extend(values),
                        None => self.factors.push((name.to_owned(), values)),
                    }
                }
            },
        }
        Ok(())
    }

    fn add_lists(&mut self, name: &'static str, column: &ArrayRef) -> Result<()> {
        let bad = |found: String| Error::bad(self.path, format!("column {name}"), found, ADVICE);
        let lists = column
            .as_list_opt::<i32>()
            .ok_or_else(|| bad(format!("type {}, expected lists of floats", column.data_type())))?;
        for row in 0..lists.len() {
            let values = lists.value(row);
            let values = single(&values).filter(|v| !v.is_empty() && values.null_count() == 0);
            let values = values.ok_or_else(|| bad("a row that is no list of floats".to_owned()))?;
            let (width, all) = self.lists.entry(name).or_insert_with(|| (values.len(), Vec::new()));
            if values.len() != *width {
                return Err(bad(format!("{} floats in one row, {width} in the first", values.len())));
            }
            all.extend(values);
        }
        Ok(())
    }

    fn finish(mut self, provenance: BTreeMap<String, String>) -> Result<Features> {
        let bad =
            |found: &str| Error::bad(self.path, "table", found, "name a table with a column feature, or f0, f1, ...");
        let mut list = |name| {
            let found: Option<(usize, Vec<f32>)> = self.lists.remove(name);
            found.map(|(width, v)| Array::new(vec![v.len().div_euclid(width), width], Values::F32(v)))
        };
        let baselines = both(self.path, list("pixels"), list("random"))?;
        let feature = match list("feature") {
            Some(feature) => feature,
            None => {
                let width = self.flat.len();
                let rows = self.flat.get(&0).map_or(0, Vec::len);
                if rows == 0 || self.flat.keys().enumerate().any(|(i, &k)| i != k) {
                    return Err(bad("no rows of features"));
                }
                let columns: Vec<&Vec<f32>> = self.flat.values().collect();
                if columns.iter().any(|c| c.len() != rows) {
                    return Err(bad("columns of different lengths"));
                }
                let values = (0..rows).flat_map(|r| columns.iter().map(move |c| c[r])).collect();
                Array::new(vec![rows, width], Values::F32(values))
            }
        };
        let rows = feature.shape()[0];
        let index = match self.index {
            Some(index) => index,
            None => (0_i64..).take(rows).collect(),
        };
        let (label, split, factors) = (self.label, self.split, self.factors);
        let table = Features { feature, index, label, split, factors, baselines, provenance };
        table.size(self.path).map(|_| table)
    }
}

fn whole(column: &ArrayRef) -> Option<Vec<i64>> {
    let wide = column.as_primitive_opt::<Int64Type>().map(|v| v.values().to_vec());
    wide.or_else(|| Some(column.as_primitive_opt::<Int32Type>()?.values().iter().map(|&v| i64::from(v)).collect()))
}

#[expect(clippy::cast_possible_truncation, reason = "features of other programs in f64 are meant to become f32")]
fn single(column: &ArrayRef) -> Option<Vec<f32>> {
    let narrow = column.as_primitive_opt::<Float32Type>().map(|v| v.values().to_vec());
    narrow.or_else(|| Some(column.as_primitive_opt::<Float64Type>()?.values().iter().map(|&v| v as f32).collect()))
}

fn double(column: &ArrayRef) -> Option<Vec<f64>> {
    if let Some(v) = column.as_primitive_opt::<Float64Type>() {
        return Some(v.values().to_vec());
    }
    if let Some(v) = column.as_primitive_opt::<Float32Type>() {
        return Some(v.values().iter().map(|&v| f64::from(v)).collect());
    }
    if let Some(v) = column.as_boolean_opt() {
        return Some(v.iter().flatten().map(|b| f64::from(u8::from(b))).collect());
    }
    whole(column).map(|v| v.into_iter().map(|v| v as f64).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn table() -> Features {
        Features {
            feature: Array::new(vec![3, 2], Values::F32(vec![0.0, -1.5, f32::MAX, 1e-20, 4.0, 5.0])),
            index: vec![10, 11, 1 << 40],
            label: Some(vec![0, -1, 7]),
            split: Some(["train", "val", "train"].map(str::to_owned).to_vec()),
            factors: vec![("x".to_owned(), vec![0.1, 0.2, 0.3]), ("scale".to_owned(), vec![1.0, 2.0, 3.0])],
            baselines: Some(Baselines {
                pixels: Array::new(vec![3, 3], Values::F32(vec![-1.0, 0.0, 1.0, 0.5, 0.25, 0.0, -0.5, 1.0, -1.0])),
                random: Array::new(vec![3, 1], Values::F32(vec![7.0, 8.0, 9.0])),
            }),
            provenance: [("run".to_owned(), "runs/00001".to_owned()), ("block".to_owned(), "mid".to_owned())].into(),
        }
    }

    fn bytes(table: &Features) -> Vec<u8> {
        let mut out = Vec::new();
        table.parquet_to(&mut out).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Features> {
        Features::parquet_from(&Source::from_bytes("t.parquet", bytes), &Limits::TIGHT)
    }

    fn foreign(columns: Vec<(&str, ArrayRef)>) -> Result<Features> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        read(&out)
    }

    #[test]
    fn both_formats_give_back_the_table_and_are_deterministic() {
        let dir = tempfile::tempdir().unwrap();
        let bare = Features { label: None, split: None, factors: vec![], baselines: None, ..table() };
        for t in [table(), bare] {
            let (p, z) = (dir.path().join("t.parquet"), dir.path().join("t.npz"));
            t.write_parquet(&p).unwrap();
            t.write_npz(&z).unwrap();
            assert_eq!(Features::read_parquet(&p).unwrap(), t);
            assert_eq!(Features::read_npz(&z).unwrap(), t);
            assert_eq!(std::fs::read(&p).unwrap(), bytes(&t));
        }
    }

    #[test]
    fn many_rows_cross_batches() {
        let n = 3000;
        let feature = Array::new(vec![n, 3], Values::F32((0..3 * n).map(|i| i as f32).collect()));
        let t = Features {
            feature,
            index: (0..n as i64).collect(),
            label: None,
            split: None,
            factors: vec![],
            baselines: None,
            ..table()
        };
        assert_eq!(read(&bytes(&t)).unwrap(), t);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_before_a_byte_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let mut wrong = vec![table(); 7];
        wrong[0].index.pop();
        wrong[1].label = Some(vec![]);
        wrong[2].factors[1].0 = "x".to_owned();
        wrong[3].factors[1].0 = "f3".to_owned();
        wrong[4].feature = Array::new(vec![6], Values::F32(vec![0.0; 6]));
        wrong[5].factors[1].0 = "random".to_owned();
        wrong[6].baselines.as_mut().unwrap().pixels = Array::new(vec![2, 3], Values::F32(vec![0.0; 6]));
        for t in wrong {
            assert!(matches!(t.write_parquet(&path), Err(Error::Bad { .. })));
            assert!(matches!(t.write_npz(&path), Err(Error::Bad { .. })));
        }
        assert!(!path.exists());
    }

    #[test]
    fn tables_of_other_programs_are_read() {
        let f = |v: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(v)) };
        let ints: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![3, 4]));
        let yes: ArrayRef = Arc::new(arrow_array::BooleanArray::from(vec![true, false]));
        let t =
            foreign(vec![("f1", f(vec![1.0, 3.0])), ("f0", f(vec![0.0, 2.0])), ("label", ints), ("big", yes)]).unwrap();
        assert_eq!(t.feature, Array::new(vec![2, 2], Values::F32(vec![0.0, 1.0, 2.0, 3.0])));
        assert_eq!((t.index, t.label), (vec![0, 1], Some(vec![3, 4])));
        assert_eq!(t.factors, [("big".to_owned(), vec![1.0, 0.0])]);
        let t = foreign(vec![("f0", f(vec![1.0, 2.0])), ("random", f(vec![3.0, 4.0]))]).unwrap();
        assert_eq!((t.factors, t.baselines), (vec![("random".to_owned(), vec![3.0, 4.0])], None));
        let one_list: ArrayRef = Arc::new(list_of(&Array::new(vec![1, 2], Values::F32(vec![0.0, 1.0]))).unwrap());
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let nulls: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        for (columns, why) in [
            (vec![("x", f(vec![1.0, 2.0]))], "no rows of features"),
            (vec![("f0", f(vec![1.0, 2.0])), ("f2", f(vec![1.0, 2.0]))], "no rows of features"),
            (vec![("f0", f(vec![1.0, 2.0])), ("note", text)], "column note: type Utf8, expected numbers"),
            (vec![("f0", nulls)], "column f0: 1 empty cells"),
            (vec![("f0", f(vec![1.0])), ("pixels", one_list)], "one of the columns pixels and random"),
        ] {
            let said = foreign(columns).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_table_of_the_future_is_refused() {
        let said = check_version(Path::new("t"), Some(3)).unwrap_err().to_string();
        assert_eq!(said, "t: metadata: format_version 3, this program knows 2; use a newer version of this program");
        assert!(check_version(Path::new("t"), Some(2)).is_ok());
    }

    /// The committed seeds of the fuzz targets are of version 1.
    #[test]
    fn tables_of_version_1_are_read_without_baselines() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let parquet = Features::read_parquet(&corpus.join("features_parquet/zstd.parquet")).unwrap();
        let npz = Features::read_npz(&corpus.join("features_npz/stored.npz")).unwrap();
        for t in [&parquet, &npz] {
            assert_eq!((t.feature.shape(), &t.index, &t.baselines), ([3, 2].as_slice(), &vec![0, 1, 5], &None));
            assert_eq!(t.split.as_deref().unwrap(), ["train", "val", "test"]);
            assert_eq!(t.factors, [("x".to_owned(), vec![0.5, 1.5, 2.5])]);
            assert_eq!(t.provenance["block"], "mid");
        }
        assert_eq!(parquet, npz);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn damage_never_panics(flips in proptest::collection::vec((any::<usize>(), 1_u8..), 1..4),
                               cut in prop_oneof![Just(0), 0_usize..40]) {
            static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(&table()));
            let mut bytes = GOOD.clone();
            let n = bytes.len();
            for (at, flip) in flips {
                bytes[at % n] ^= flip;
            }
            bytes.truncate(n - cut);
            let _ = read(&bytes);
        }
    }
}
