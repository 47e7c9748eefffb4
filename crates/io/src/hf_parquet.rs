//! Hugging Face data sets in Parquet: a picture column, and label, caption and factor columns.
//!
//! Rows are decoded in small blocks when they are asked for, and the last blocks are kept: reading in order decodes every
//! row once, reading in any order never holds more than a few dozen pictures' bytes.
//!
//! # Source
//! Hugging Face `datasets`: an `Image` feature is stored as `struct<bytes: binary, path: string>`, a `ClassLabel` as an
//! integer whose names stand in the file's metadata under the key `huggingface`.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};

use crate::items::{Item, Items, checked_label};
use crate::limits::Limits;
use crate::parquet_pages::{self, Chunk};
use crate::picture::Picture;
use crate::source::{Cursor, STANDARD, Source};
use crate::{Error, Result};

/// Rows that are decoded together.
const BLOCK: usize = 16;
/// Blocks that are kept.
const KEPT: usize = 8;

const IMAGES: [&str; 6] = ["image", "img", "picture", "jpg", "png", "webp"];
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "class"];
const CAPTIONS: [&str; 4] = ["text", "caption", "prompt", "captions"];

impl Length for Source {
    fn len(&self) -> u64 {
        Source::len(self)
    }
}

impl ChunkReader for Source {
    type T = std::io::BufReader<Cursor>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        use std::io::{Seek, SeekFrom};
        let mut cursor = self.cursor();
        cursor.seek(SeekFrom::Start(start))?;
        Ok(std::io::BufReader::new(cursor))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        self.bytes(start, length, "bytes").map(Bytes::from).map_err(|e| ParquetError::EOF(e.to_string()))
    }
}

/// The leaf columns that are used, by number.
#[derive(Clone, Debug, PartialEq)]
struct Columns {
    image: usize,
    path: Option<usize>,
    label: Option<usize>,
    caption: Option<usize>,
    factors: Vec<usize>,
    factor_names: Vec<String>,
    ignored: Vec<String>,
}

struct File {
    source: Source,
    reader: SerializedFileReader<Source>,
    columns: Columns,
    /// Number of its first row in the whole set.
    first: usize,
    /// Row groups and columns whose page headers have been checked.
    checked: Mutex<HashSet<(usize, usize)>>,
}

/// A run of rows of one row group.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    file: usize,
    group: usize,
    /// First row within the row group, and their number.
    skip: usize,
    rows: usize,
    /// Number of the first row in the whole set.
    first: usize,
}

struct Decoded {
    images: Vec<Option<Bytes>>,
    paths: Vec<Option<Bytes>>,
    captions: Vec<Option<Bytes>>,
    labels: Vec<Option<i64>>,
    factors: Vec<Vec<Option<f64>>>,
}

/// An opened data set of one or more Parquet files.
pub struct HfParquet {
    files: Vec<File>,
    limits: Limits,
    /// In the order of the rows.
    runs: Vec<Run>,
    rows: usize,
    classes: Vec<String>,
    kept: Mutex<VecDeque<(usize, Arc<Decoded>)>>,
}

impl HfParquet {
    /// Opens Parquet files as one set, in this order.
    ///
    /// # Errors
    /// When one cannot be opened, is malformed, lacks a picture column, or has other columns than the first; or when
    /// there are no rows.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let sources = paths.iter().map(|path| Source::open(path)).collect::<Result<_>>()?;
        Self::from_sources(sources, STANDARD)
    }

    /// Opens Parquet in sources.
    ///
    /// # Errors
    /// As [`HfParquet::open`].
    pub fn from_sources(sources: Vec<Source>, limits: &Limits) -> Result<Self> {
        let name = sources.first().map_or_else(|| PathBuf::from("parquet"), |s| s.path().to_owned());
        let mut set = Self {
            files: Vec::new(),
            limits: *limits,
            runs: Vec::new(),
            rows: 0,
            classes: Vec::new(),
            kept: Mutex::new(VecDeque::new()),
        };
        for source in sources {
            set.add(source)?;
        }
        if set.rows == 0 {
            return Err(Error::bad(&name, "metadata", "no rows", "name a file that holds pictures"));
        }
        Ok(set)
    }

    fn add(&mut self, source: Source) -> Result<()> {
        let path = source.path();
        let refused = |e: ParquetError| {
            let advice = "the file is damaged, cut short or no Parquet: copy or download it again";
            Error::bad(path, "metadata", format!("no valid Parquet structure ({e})"), advice)
        };
        check_footer(&source, &self.limits)?;
        let first = self.rows;
        let reader = SerializedFileReader::new(source.clone()).map_err(refused)?;
        let columns = find_columns(path, &reader)?;
        if let Some(first) = self.files.first() {
            let same = first.columns.factor_names == columns.factor_names
                && first.columns.label.is_some() == columns.label.is_some();
            if !same {
                let found = format!("other columns than {}", first.source.path().display());
                return Err(Error::bad(path, "metadata", found, "name files of one data set"));
            }
        }
        for (group, about) in reader.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(about.num_rows()).ok();
            let Some(rows) = rows.filter(|&n| n <= self.limits.items - self.rows) else {
                let found = format!("{} rows, more than the limit of {}", about.num_rows(), self.limits.items);
                return Err(Error::bad(path, format!("row group {group}"), found, "split the data set"));
            };
            for skip in (0..rows).step_by(BLOCK) {
                let (file, rows) = (self.files.len(), BLOCK.min(rows - skip));
                self.runs.push(Run { file, group, skip, rows, first: self.rows });
                self.rows += rows;
            }
        }
        if self.files.is_empty() {
            self.classes = class_names(&reader, &columns);
        }
        self.files.push(File { source, reader, columns, first, checked: Mutex::default() });
        Ok(())
    }

    fn block(&self, at: usize) -> Result<Arc<Decoded>> {
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, block)) = kept.iter().find(|(run, _)| *run == at) {
                return Ok(Arc::clone(block));
            }
        }
        let run = self.runs[at];
        let block = Arc::new(self.files[run.file].decode(run, &self.limits)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((at, Arc::clone(&block)));
        Ok(block)
    }

    fn place(&self, i: usize) -> (usize, usize) {
        let at = self.runs.partition_point(|run| run.first <= i) - 1;
        (at, i - self.runs[at].first)
    }
}

/// The metadata at the end of the file must fit into the file, before a library allocates for it.
pub(crate) fn check_footer(source: &Source, limits: &Limits) -> Result<()> {
    let path = source.path();
    let no_parquet = |found: &str| {
        Err(Error::bad(path, "last 8 bytes", found, "the file is cut short or no Parquet: copy or download it again"))
    };
    if source.len() < 12 || source.head(4)? != b"PAR1" {
        return no_parquet("no mark PAR1 at the start");
    }
    let footer = source.bytes(source.len() - 8, 8, "last 8 bytes")?;
    if &footer[4..] != b"PAR1" {
        return no_parquet("no mark PAR1 at the end");
    }
    let len = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
    if len > source.len() - 12 {
        return no_parquet("metadata longer than the file");
    }
    let len = crate::limits::admit(path, "metadata", len, limits.table_bytes)?;
    let metadata = source.bytes(source.len() - 8 - len as u64, len, "metadata")?;
    if !parquet_pages::is_bounded(&metadata) {
        let advice = "the file is damaged: copy or download it again";
        return Err(Error::bad(path, "metadata", "no valid Thrift structure", advice));
    }
    Ok(())
}

fn find_columns(path: &Path, reader: &SerializedFileReader<Source>) -> Result<Columns> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let flat: Vec<(usize, Vec<String>, Physical)> = (schema.columns().iter().enumerate())
        .filter(|(_, c)| c.max_rep_level() == 0 && c.max_def_level() <= 2)
        .map(|(i, c)| (i, c.path().parts().to_vec(), c.physical_type()))
        .collect();
    let is = |p: &[String], words: &[&str]| p.iter().map(String::as_str).eq(words.iter().copied());
    let bytes_of =
        |words: &[&str]| flat.iter().find(|(_, p, t)| *t == Physical::BYTE_ARRAY && is(p, words)).map(|(i, ..)| *i);
    let any_struct = || flat.iter().find(|(_, p, t)| *t == Physical::BYTE_ARRAY && p.len() == 2 && p[1] == "bytes");
    let in_struct = IMAGES.iter().find_map(|name| bytes_of(&[name, "bytes"]));
    let Some(image) = in_struct
        .or_else(|| IMAGES.iter().find_map(|name| bytes_of(&[name])))
        .or_else(|| any_struct().map(|(i, ..)| *i))
    else {
        let names: Vec<String> = schema.columns().iter().take(12).map(|c| c.path().string()).collect();
        let found = format!("no column of pictures; there are {}", names.join(", "));
        let advice = "name a file with a column image of encoded pictures (binary, or a struct of bytes and path)";
        return Err(Error::bad(path, "metadata", found, advice));
    };
    let image_name = schema.column(image).path().parts()[0].clone();
    let number = |t: Physical| {
        matches!(t, Physical::BOOLEAN | Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE)
    };
    let whole = |t: Physical| matches!(t, Physical::INT32 | Physical::INT64);
    let label =
        LABELS.iter().find_map(|name| flat.iter().find(|(_, p, t)| whole(*t) && is(p, &[name])).map(|(i, ..)| *i));
    let mut columns = Columns {
        image,
        path: bytes_of(&[&image_name, "path"]),
        label,
        caption: CAPTIONS.iter().find_map(|name| bytes_of(&[name])),
        factors: Vec::new(),
        factor_names: Vec::new(),
        ignored: Vec::new(),
    };
    for (i, column) in schema.columns().iter().enumerate() {
        let name = &column.path().parts()[0];
        let used = Some(i) == columns.label || Some(i) == columns.caption || *name == image_name;
        match flat.iter().find(|(k, ..)| *k == i) {
            _ if used => {}
            Some((_, parts, kind)) if parts.len() == 1 && number(*kind) => {
                columns.factors.push(i);
                columns.factor_names.push(name.clone());
            }
            _ if columns.ignored.contains(name) => {}
            _ => columns.ignored.push(name.clone()),
        }
    }
    Ok(columns)
}

/// The names of the label column's classes, from the note that `datasets` leaves in the file.
fn class_names(reader: &SerializedFileReader<Source>, columns: &Columns) -> Vec<String> {
    let about = reader.metadata().file_metadata();
    let Some(label) = columns.label else { return Vec::new() };
    let label = &about.schema_descr().column(label).path().parts()[0].clone();
    let notes = about.key_value_metadata().into_iter().flatten();
    let note = notes.filter(|kv| kv.key == "huggingface").find_map(|kv| kv.value.as_deref());
    let json: serde_json::Value = note.and_then(|n| serde_json::from_str(n).ok()).unwrap_or_default();
    let names = json["info"]["features"][label]["names"].as_array();
    names.and_then(|n| n.iter().map(|v| v.as_str().map(String::from)).collect()).unwrap_or_default()
}

impl File {
    fn decode(&self, run: Run, limits: &Limits) -> Result<Decoded> {
        let c = &self.columns;
        let bytes = |column: Option<usize>| match column {
            Some(column) => self.bytes(run, column, limits),
            None => Ok(vec![None; run.rows]),
        };
        let (images, paths, captions) = (bytes(Some(c.image))?, bytes(c.path)?, bytes(c.caption)?);
        let labels = match c.label {
            Some(column) => self.column(run, column, limits, |reader, top| match reader {
                ColumnReader::Int32ColumnReader(r) => Some(rows(r, run, top, |v| i64::from(*v))),
                ColumnReader::Int64ColumnReader(r) => Some(rows(r, run, top, |v| *v)),
                _ => None,
            })?,
            None => vec![None; run.rows],
        };
        #[expect(clippy::cast_precision_loss, reason = "factors are measured or small numbers")]
        let factor = |&column: &usize| {
            self.column(run, column, limits, |reader, top| match reader {
                ColumnReader::BoolColumnReader(r) => Some(rows(r, run, top, |v| f64::from(u8::from(*v)))),
                ColumnReader::Int32ColumnReader(r) => Some(rows(r, run, top, |v| f64::from(*v))),
                ColumnReader::Int64ColumnReader(r) => Some(rows(r, run, top, |v| *v as f64)),
                ColumnReader::FloatColumnReader(r) => Some(rows(r, run, top, |v| f64::from(*v))),
                ColumnReader::DoubleColumnReader(r) => Some(rows(r, run, top, |v| *v)),
                _ => None,
            })
        };
        let factors = c.factors.iter().map(factor).collect::<Result<_>>()?;
        Ok(Decoded { images, paths, captions, labels, factors })
    }

    fn bytes(&self, run: Run, column: usize, limits: &Limits) -> Result<Vec<Option<Bytes>>> {
        self.column(run, column, limits, |reader, top| match reader {
            ColumnReader::ByteArrayColumnReader(r) => Some(rows(r, run, top, |v| Bytes::copy_from_slice(v.data()))),
            _ => None,
        })
    }

    /// Checks the pages of a column chunk, then decodes some of its rows.
    fn column<T>(
        &self,
        run: Run,
        column: usize,
        limits: &Limits,
        decode: impl FnOnce(ColumnReader, i16) -> Option<std::result::Result<Vec<Option<T>>, ParquetError>>,
    ) -> Result<Vec<Option<T>>> {
        let descriptor = self.reader.metadata().file_metadata().schema_descr().column(column);
        let place = {
            let name = descriptor.path().string();
            format!("row group {}, column {name}", run.group)
        };
        let bad = |found: String| {
            Error::bad(self.source.path(), &place, found, "the file is damaged: copy or download it again")
        };
        let group = self.reader.metadata().row_group(run.group);
        if column >= group.num_columns() {
            return Err(bad("the column is missing".into()));
        }
        self.check_pages(run.group, column, &place, limits)?;
        // The decoder asserts what it finds in damaged pages. No state outlives the attempt, so the panic is an error here.
        let attempt = AssertUnwindSafe(|| {
            let reader = self.reader.get_row_group(run.group).and_then(|g| g.get_column_reader(column))?;
            let other = || Err(ParquetError::General("another type".into()));
            decode(reader, descriptor.max_def_level()).unwrap_or_else(other)
        });
        let Ok(decoded) = catch_unwind(attempt) else {
            return Err(bad("no valid pages".into()));
        };
        match decoded {
            Ok(values) if values.len() == run.rows => Ok(values),
            Ok(values) => Err(bad(format!("{} rows, expected {}", values.len(), run.rows))),
            Err(e) => Err(bad(format!("no valid pages ({e})"))),
        }
    }

    fn check_pages(&self, group: usize, column: usize, place: &str, limits: &Limits) -> Result<()> {
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().contains(&(group, column)) {
            return Ok(());
        }
        let rows = u64::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0);
        let about = self.reader.metadata().row_group(group).column(column);
        let first = about.dictionary_page_offset().unwrap_or_else(|| about.data_page_offset());
        let (Ok(start), Ok(len)) = (u64::try_from(first), u64::try_from(about.compressed_size())) else {
            let advice = "the file is damaged: copy or download it again";
            return Err(Error::bad(self.source.path(), place, "a negative position", advice));
        };
        let gzip = matches!(about.compression(), Compression::GZIP(_));
        parquet_pages::check(&self.source, Chunk { start, len, rows, gzip }, place, limits)?;
        checked().insert((group, column));
        Ok(())
    }
}

/// Some rows of a column; a row is empty where its definition level is below `top`: it, or the struct around it, is null.
fn rows<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    run: Run,
    top: i16,
    value: impl Fn(&T::T) -> V,
) -> std::result::Result<Vec<Option<V>>, ParquetError> {
    let skipped = reader.skip_records(run.skip)?;
    let (mut defined, mut values) = (Vec::with_capacity(run.rows), Vec::with_capacity(run.rows));
    let (n, ..) = reader.read_records(run.rows, Some(&mut defined), None, &mut values)?;
    if skipped < run.skip || n < run.rows {
        return Err(ParquetError::EOF(format!("rows end at {}", skipped + n)));
    }
    let mut there = values.iter();
    if top == 0 {
        return Ok(there.map(|v| Some(value(v))).collect());
    }
    Ok(defined.iter().map(|&level| if level == top { there.next().map(&value) } else { None }).collect())
}

impl Items for HfParquet {
    fn len(&self) -> usize {
        self.rows
    }

    fn name(&self, i: usize) -> String {
        let (at, _) = self.place(i);
        let run = self.runs[at];
        let row = i - self.files[run.file].first;
        let path = self.files[run.file].source.path();
        format!("{}!row {row}", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
    }

    fn read(&self, i: usize) -> Result<Item> {
        let (at, k) = self.place(i);
        let file = &self.files[self.runs[at].file];
        let path = file.source.member_path(self.name(i).rsplit('!').next().unwrap_or_default());
        let block = self.block(at)?;
        let bad = |place: &str, found: &str| {
            Error::bad(&path, place, found, "correct the row, or leave it out with --skip-bad")
        };
        let text = |column: &[Option<Bytes>], name: &str| match &column[k] {
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(bad(name, "text that is not UTF-8")),
            },
            None => Ok(None),
        };
        let name = text(&block.paths, "image.path")?.filter(|n| !n.is_empty()).unwrap_or_else(|| self.name(i));
        let label = block.labels[k].map(|l| checked_label(l, &self.classes, &path, || "label".into())).transpose()?;
        let names = &file.columns.factor_names;
        let factor = |(column, name): (&Vec<Option<f64>>, &String)| {
            column[k].ok_or_else(|| bad(&format!("column {name}"), "null, expected a number"))
        };
        let factors = block.factors.iter().zip(names).map(factor).collect::<Result<_>>()?;
        let Some(bytes) = &block.images[k] else {
            return Err(bad("image", "null, expected the bytes of a picture"));
        };
        let picture = Picture::decode(&path, bytes, &self.limits)?;
        Ok(Item { name, picture, label, factors, caption: text(&block.captions, "caption")? })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn factor_names(&self) -> &[String] {
        self.files.first().map_or(&[], |f| &f.columns.factor_names)
    }

    fn ignored_columns(&self) -> &[String] {
        self.files.first().map_or(&[], |f| &f.columns.ignored)
    }
}

impl std::fmt::Debug for HfParquet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HfParquet").field("files", &self.files.len()).field("rows", &self.rows).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{BinaryBuilder, StringBuilder};
    use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StructArray};
    use arrow_schema::{DataType as Arrow, Field, Fields};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{GzipLevel, ZstdLevel};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use proptest::prelude::*;

    fn png(value: u8) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::GrayImage::from_raw(1, 1, vec![value]).unwrap().write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn write(batch: &RecordBatch, compression: Compression, notes: Option<&str>) -> Vec<u8> {
        let notes = notes.map(|n| vec![KeyValue::new("huggingface".to_owned(), n.to_owned())]);
        let props = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(20))
            .set_data_page_row_count_limit(7)
            .set_write_batch_size(7)
            .set_key_value_metadata(notes)
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(props)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    fn images(pictures: &[Option<Vec<u8>>]) -> ArrayRef {
        let (mut bytes, mut paths) = (BinaryBuilder::new(), StringBuilder::new());
        for (i, picture) in pictures.iter().enumerate() {
            bytes.append_option(picture.as_deref());
            paths.append_option((i % 2 == 0).then(|| format!("{i}.png")));
        }
        let fields =
            Fields::from(vec![Field::new("bytes", Arrow::Binary, true), Field::new("path", Arrow::Utf8, true)]);
        Arc::new(StructArray::new(fields, vec![Arc::new(bytes.finish()), Arc::new(paths.finish())], None))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
    }

    fn open(files: Vec<Vec<u8>>) -> Result<HfParquet> {
        let named = |(i, bytes)| Source::from_bytes(format!("dir/p{i}.parquet"), bytes);
        HfParquet::from_sources(files.into_iter().enumerate().map(named).collect(), &Limits::TIGHT)
    }

    fn set(n: usize, compression: Compression) -> Vec<u8> {
        let pictures: Vec<_> = (0..n).map(|i| Some(png(i as u8))).collect();
        let labels: ArrayRef = Arc::new(Int64Array::from_iter_values((0..n as i64).map(|i| i % 3)));
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64 / 2.0)));
        let notes = r#"{"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}"#;
        write(&batch(vec![("image", images(&pictures)), ("label", labels), ("x", x)]), compression, Some(notes))
    }

    #[test]
    fn rows_are_read_in_any_order_from_any_thread_and_file() {
        for codec in
            [Compression::SNAPPY, Compression::GZIP(GzipLevel::default()), Compression::ZSTD(ZstdLevel::default())]
        {
            let set = open(vec![set(50, codec), set(9, Compression::UNCOMPRESSED)]).unwrap();
            assert_eq!((set.len(), set.classes().len(), set.factor_names()), (59, 3, &["x".to_owned()][..]));
            std::thread::scope(|scope| {
                for t in 0..3 {
                    let set = &set;
                    scope.spawn(move || {
                        for k in 0..59 {
                            let i = (k * 17 + t * 5) % 59;
                            let row = if i < 50 { i } else { i - 50 };
                            let item = set.read(i).unwrap();
                            assert_eq!((item.label, item.picture.pixels[0]), (Some(row as i64 % 3), row as u8));
                            assert_eq!(item.factors, [row as f64 / 2.0]);
                            let unnamed = format!("p{}.parquet!row {row}", usize::from(i >= 50));
                            assert_eq!(item.name, if row % 2 == 0 { format!("{row}.png") } else { unnamed });
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn nulls_labels_out_of_range_and_broken_pictures_are_errors_of_their_rows() {
        let pictures = [Some(png(1)), None, Some(b"broken".to_vec()), Some(png(4))];
        let labels: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(0), Some(7)]));
        let captions: ArrayRef = Arc::new(arrow_array::StringArray::from(vec![Some("one"), None, None, None]));
        let notes = r#"{"info": {"features": {"label": {"names": ["a", "b"]}}}}"#;
        let rows = batch(vec![("image", images(&pictures)), ("label", labels), ("text", captions)]);
        let set = open(vec![write(&rows, Compression::SNAPPY, Some(notes))]).unwrap();
        let item = set.read(0).unwrap();
        assert_eq!((item.label, item.caption.as_deref(), item.name.as_str()), (Some(0), Some("one"), "0.png"));
        let said = |i| set.read(i).unwrap_err().to_string();
        assert!(
            said(1).starts_with("dir/p0.parquet!row 1: image: null, expected the bytes of a picture"),
            "{}",
            said(1)
        );
        assert!(said(2).contains("row 2: byte 0: unknown bytes"), "{}", said(2));
        assert!(said(3).contains("row 3: label: label 7, expected 0 to 1"), "{}", said(3));
    }

    #[test]
    fn a_plain_binary_column_is_enough_and_others_are_listed() {
        let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from_iter_values([png(5)]));
        let words: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["w"]));
        let set = open(vec![write(&batch(vec![("img", bytes), ("note", words.clone())]), Compression::SNAPPY, None)])
            .unwrap();
        assert_eq!((set.read(0).unwrap().picture.pixels, set.ignored_columns()), (vec![5], &["note".to_owned()][..]));
        assert!(words.len() == 1);
        let said = open(vec![write(&batch(vec![("note", words)]), Compression::SNAPPY, None)]).unwrap_err().to_string();
        assert!(said.contains("no column of pictures; there are note"), "{said}");
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let good = set(20, Compression::SNAPPY);
        let said = |bytes: &[u8]| open(vec![bytes.to_vec()]).unwrap_err().to_string();
        assert!(said(&good[..good.len() - 3]).contains("no mark PAR1 at the end"));
        assert!(said(b"PAR0........").contains("no mark PAR1 at the start"));
        let mut long = good.clone();
        let at = long.len() - 8;
        long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(said(&long).contains("metadata longer than the file"));
        assert!(open(vec![]).unwrap_err().to_string().contains("no rows"));
        let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from_iter_values([png(5)]));
        let other = write(&batch(vec![("img", bytes)]), Compression::SNAPPY, None);
        assert!(open(vec![good, other]).unwrap_err().to_string().contains("other columns than dir/p0.parquet"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_was_written_is_read(labels in prop::collection::vec(0_i64..3, 1..40)) {
            let pictures: Vec<_> = (0..labels.len()).map(|i| Some(png(i as u8))).collect();
            let column: ArrayRef = Arc::new(Int64Array::from(labels.clone()));
            let rows = batch(vec![("image", images(&pictures)), ("label", column)]);
            let set = open(vec![write(&rows, Compression::SNAPPY, None)]).unwrap();
            for (i, &label) in labels.iter().enumerate() {
                let item = set.read(i).unwrap();
                prop_assert_eq!((item.label, item.picture.pixels[0]), (Some(label), i as u8));
            }
        }
    }
}
