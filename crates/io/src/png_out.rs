//! Pictures out as PNG, with the plan that made them inside the file; grids of pictures.
//!
//! Plain ASCII goes into `tEXt`, anything else into `iTXt`, as Pillow does it. The key `parameters` is what other tools
//! read; the key `pentimento` holds the whole plan as JSON, with its `format_version`.

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use serde_json::Value;

use crate::atomic::write_bytes;
use crate::{Array, Error, Result, Values};

/// Key of the line that A1111's tools read.
pub const PARAMETERS: &str = "parameters";
/// Key of the whole plan as JSON.
pub const PLAN: &str = "pentimento";
/// Version of the plan's chunk.
pub const FORMAT_VERSION: u32 = 1;

/// Height, width, channels and bytes of a picture array.
fn parts(picture: &Array) -> (usize, usize, usize, &[u8]) {
    match (picture.shape(), picture.values()) {
        (&[h, w, c @ 1..=4], Values::U8(bytes)) if h > 0 && w > 0 => (h, w, c, bytes),
        (shape, _) => panic!("a picture is [H, W, C] bytes with 1 to 4 channels, not {shape:?}"),
    }
}

/// Encodes a picture with text chunks as PNG; the same input gives the same bytes.
///
/// # Shapes
/// - `picture`: `[H, W, C]` bytes, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
///
/// # Errors
/// When a key is no Latin-1 text of 1 to 79 characters.
///
/// # Panics
/// When the array is no picture.
pub fn encode(picture: &Array, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let (height, width, channels, bytes) = parts(picture);
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let refused = |e: png::EncodingError| {
        Error::bad(Path::new("png"), "text chunks", e.to_string(), "use Latin-1 keys of 1 to 79 characters")
    };
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side(width), side(height));
    encoder.set_color(match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    for (key, text) in texts {
        let (key, text) = ((*key).to_owned(), (*text).to_owned());
        // A zero byte ends a tEXt; iTXt has its text at the end, where it is harmless.
        if text.is_ascii() && !text.contains('\0') {
            encoder.add_text_chunk(key, text).map_err(refused)?;
        } else {
            encoder.add_itxt_chunk(key, text).map_err(refused)?;
        }
    }
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(bytes).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(out)
}

/// Writes a picture with text chunks, all or nothing.
///
/// # Errors
/// As [`encode`], or when the system refuses.
///
/// # Panics
/// When the array is no picture.
pub fn save(path: &Path, picture: &Array, texts: &[(&str, &str)]) -> Result<()> {
    write_bytes(path, &encode(picture, texts)?)
}

/// The `pentimento` chunk's text: the plan with its `format_version` in front.
pub fn plan_text(plan: &Value) -> String {
    serde_json::json!({"format_version": FORMAT_VERSION, "plan": plan}).to_string()
}

/// Reads the text chunks of a PNG file, `tEXt` first, then `zTXt`, then `iTXt`.
///
/// # Errors
/// When it cannot be read or is no PNG.
pub fn texts(path: &Path) -> Result<Vec<(String, String)>> {
    texts_from_bytes(path, &std::fs::read(path).map_err(|e| Error::os(path, "read", e))?)
}

/// Reads text chunks from memory; `path` is for messages. A chunk decompresses to at most 2 MiB.
///
/// # Errors
/// As [`texts`].
pub fn texts_from_bytes(path: &Path, bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let bad = |e: png::DecodingError| {
        Error::bad(path, "text chunks", format!("not a readable PNG: {e}"), "fetch or write the picture again")
    };
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(bad)?;
    // Chunks may follow the pixels too.
    reader.finish().map_err(bad)?;
    let info = reader.info();
    let mut all: Vec<(String, String)> =
        info.uncompressed_latin1_text.iter().map(|c| (c.keyword.clone(), c.text.clone())).collect();
    for c in &info.compressed_latin1_text {
        all.push((c.keyword.clone(), c.get_text().map_err(bad)?));
    }
    for c in &info.utf8_text {
        all.push((c.keyword.clone(), c.get_text().map_err(bad)?));
    }
    Ok(all)
}

/// The plan inside a PNG's texts, if this program wrote one.
///
/// # Errors
/// When the chunk is no JSON, or of a later version than this program knows.
pub fn plan(path: &Path, texts: &[(String, String)]) -> Result<Option<Value>> {
    let Some((_, text)) = texts.iter().find(|(key, _)| key == PLAN) else { return Ok(None) };
    let bad = |found: String| Error::bad(path, format!("text chunk {PLAN}"), found, "draw the picture again");
    let mut value: Value = serde_json::from_str(text).map_err(|e| bad(format!("no JSON: {e}")))?;
    match value["format_version"].as_u64() {
        Some(v) if v == u64::from(FORMAT_VERSION) => Ok(value.get_mut("plan").map(Value::take)),
        Some(v) => Err(bad(format!("format_version {v}, this program knows {FORMAT_VERSION}"))),
        None => Err(bad("no format_version".to_owned())),
    }
}

/// What A1111's `parameters` chunk says; [`Display`](fmt::Display) writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Caption or class.
    pub prompt: String,
    /// What to avoid; its line is left out when empty.
    pub negative: String,
    /// Sampler steps.
    pub steps: usize,
    /// `euler`, `dpmpp_2m` and the like.
    pub sampler: String,
    /// Guidance scale.
    pub cfg_scale: f64,
    /// Seed.
    pub seed: u64,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Further pairs, in this order.
    pub more: Vec<(String, String)>,
}

/// A value with a comma, colon or line break is quoted as JSON, which is what the readers of this line undo.
fn quoted(text: &str) -> String {
    if text.contains([',', ':', '\n']) { Value::from(text).to_string() } else { text.to_owned() }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.prompt)?;
        if !self.negative.is_empty() {
            writeln!(f, "Negative prompt: {}", self.negative)?;
        }
        let (w, h) = self.size;
        write!(f, "Steps: {}, Sampler: {}, CFG scale: {}", self.steps, quoted(&self.sampler), self.cfg_scale)?;
        write!(f, ", Seed: {}, Size: {w}x{h}", self.seed)?;
        self.more.iter().try_for_each(|(key, value)| write!(f, ", {key}: {}", quoted(value)))
    }
}

/// Puts pictures of one size side by side, row after row, with white gaps of 2 pixels between them.
///
/// # Shapes
/// - `pictures`: each `[H, W, C]`
/// - returns: `[rows (H + 2) - 2, columns (W + 2) - 2, C]`; fewer pictures than columns make one shorter row
///
/// # Panics
/// When there is no picture or column, or they differ in size.
pub fn grid(pictures: &[Array], columns: usize) -> Array {
    const GAP: usize = 2;
    assert!(columns > 0 && !pictures.is_empty(), "{} pictures in {columns} columns", pictures.len());
    let columns = columns.min(pictures.len());
    let (h, w, c, _) = parts(&pictures[0]);
    let rows = pictures.len().div_ceil(columns);
    let (height, width) = (rows * (h + GAP) - GAP, columns * (w + GAP) - GAP);
    let mut out = vec![255; height * width * c];
    for (i, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.shape(), [h, w, c], "picture {i} of a grid has another size");
        let (_, _, _, bytes) = parts(picture);
        let (row, column) = (i.div_euclid(columns), i % columns);
        for (y, line) in bytes.chunks(w * c).enumerate() {
            let at = ((row * (h + GAP) + y) * width + column * (w + GAP)) * c;
            out[at..at + w * c].copy_from_slice(line);
        }
    }
    Array::new(vec![height, width, c], Values::U8(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn picture(h: usize, w: usize, c: usize, first: u8) -> Array {
        let bytes = (0..h * w * c).map(|i| first.wrapping_add(i as u8)).collect();
        Array::new(vec![h, w, c], Values::U8(bytes))
    }

    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut r = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut out = vec![0; r.output_buffer_size().unwrap()];
        let info = r.next_frame(&mut out).unwrap();
        (info.height, info.width, out)
    }

    #[test]
    fn every_channel_count_comes_back() {
        for c in 1..=4 {
            let p = picture(2, 3, c, 250);
            let bytes = encode(&p, &[]).unwrap();
            let (h, w, out) = decoded(&bytes);
            assert_eq!((h, w, Values::U8(out)), (2, 3, p.into_values()));
        }
    }

    #[test]
    fn texts_come_back_whatever_their_letters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000000.png");
        let text = plan_text(&json!({"steps": 20, "name": "träge"}));
        save(&path, &picture(1, 1, 3, 0), &[(PLAN, &text), (PARAMETERS, "a red disc\nSteps: 20"), ("empty", "")])
            .unwrap();
        let read = texts(&path).unwrap();
        let get = |k: &str| read.iter().find(|(key, _)| key == k).map(|(_, v)| v.as_str());
        assert_eq!(get(PARAMETERS), Some("a red disc\nSteps: 20"));
        assert_eq!(get("empty"), Some(""));
        assert_eq!(plan(&path, &read).unwrap(), Some(json!({"steps": 20, "name": "träge"})));
        let raw = std::fs::read(&path).unwrap();
        let has = |kind: &[u8]| raw.windows(4).any(|w| w == kind);
        assert!(has(b"tEXt") && has(b"iTXt"));
        assert!(encode(&picture(1, 1, 1, 0), &[("", "x")]).is_err());
    }

    #[test]
    fn a_plan_of_the_future_and_garbage_are_refused() {
        let p = Path::new("x.png");
        let with = |text: &str| plan(p, &[(PLAN.to_owned(), text.to_owned())]).map_err(|e| e.to_string());
        assert!(with(r#"{"format_version":2}"#).unwrap_err().contains("format_version 2, this program knows 1"));
        assert!(with("{").unwrap_err().starts_with("x.png: text chunk pentimento: no JSON"));
        assert!(with("{}").unwrap_err().contains("no format_version"));
        assert_eq!(plan(p, &[]).unwrap(), None);
        let said = texts_from_bytes(p, b"GIF89a").unwrap_err().to_string();
        assert!(said.starts_with("x.png: text chunks: not a readable PNG"), "{said}");
    }

    #[test]
    fn parameters_read_as_the_tools_parse_them() {
        let mut p = Parameters {
            prompt: "a red disc".to_owned(),
            steps: 20,
            sampler: "dpmpp_2m".to_owned(),
            cfg_scale: 2.5,
            seed: 7,
            size: (32, 24),
            ..Parameters::default()
        };
        assert_eq!(p.to_string(), "a red disc\nSteps: 20, Sampler: dpmpp_2m, CFG scale: 2.5, Seed: 7, Size: 32x24");
        p.negative = "blur".to_owned();
        p.more = vec![("Interval".to_owned(), "0.2, 0.8".to_owned())];
        let text = p.to_string();
        assert!(text.contains("\nNegative prompt: blur\nSteps: "), "{text}");
        assert!(text.ends_with(", Interval: \"0.2, 0.8\""), "{text}");
    }

    #[test]
    fn a_grid_has_white_gaps_between_and_none_around() {
        let pictures = [picture(1, 2, 1, 10), picture(1, 2, 1, 20), picture(1, 2, 1, 30)];
        let g = grid(&pictures, 2);
        assert_eq!(g.shape(), [4, 6, 1]);
        let w = 255;
        let expected = vec![10, 11, w, w, 20, 21, w, w, w, w, w, w, w, w, w, w, w, w, 30, 31, w, w, w, w];
        assert_eq!(g.values(), &Values::U8(expected));
        assert_eq!(grid(&pictures[..1], 8), pictures[0]);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,40}", tail in "[\\x00-\\xff]{0,8}") {
            let text = text + &tail;
            let bytes = encode(&picture(1, 1, 1, 0), &[("k", &text)]).unwrap();
            prop_assert_eq!(texts_from_bytes(Path::new("p"), &bytes).unwrap(), vec![("k".to_owned(), text)]);
        }

        #[test]
        fn damage_never_panics(at in 0_usize..300, flip in 1_u8.., cut in 0_usize..300) {
            let mut bytes = encode(&picture(2, 2, 3, 0), &[("a", "b"), ("c", "ü")]).unwrap();
            let n = bytes.len();
            bytes[at % n] ^= flip;
            bytes.truncate(n - cut % n);
            let _ = texts_from_bytes(Path::new("p"), &bytes);
        }
    }
}
