//! PNG, JPEG and WebP bytes to eight-bit pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::{DecodingError, ImageError};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::limits::{self, Limits};
use crate::{Error, Result};

/// A decoded picture: `height` rows of `width` pixels of `channels` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 is grey, 3 RGB, 4 RGB and opacity.
    pub channels: u8,
    /// `[height, width, channels]`, row-major.
    pub pixels: Vec<u8>,
}

/// File endings under which pictures are looked for in folders and archives.
pub const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Whether a file name ends like a picture's.
pub fn has_picture_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Which format the first bytes announce, if it is one that is read.
fn format_of(head: &[u8]) -> Option<ImageFormat> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if head.starts_with(b"\xff\xd8\xff") {
        Some(ImageFormat::Jpeg)
    } else if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        Some(ImageFormat::WebP)
    } else {
        None
    }
}

/// Whether the first bytes are those of a PNG, JPEG or WebP.
pub fn recognise(head: &[u8]) -> bool {
    format_of(head).is_some()
}

/// A format that is not read, by its first bytes: for a better sentence than "unknown".
fn foreign(head: &[u8]) -> &'static str {
    match head {
        [] => "an empty file",
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'B', b'M', ..] => "a BMP",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF or HEIF",
        [b'<', ..] => "a text or SVG",
        _ => "unknown bytes",
    }
}

impl Picture {
    /// Decodes a PNG, JPEG or WebP; `path` is its name in errors.
    ///
    /// 16-bit channels are rounded to 8, palettes and 1, 2 and 4-bit greys expanded, grey with opacity becomes RGB with
    /// opacity, CMYK becomes RGB. Animations give their first picture; orientation tags are not applied.
    ///
    /// # Errors
    /// When the bytes are no such picture, are damaged or cut short, or the picture is larger than the limits.
    pub fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Self> {
        let Some(format) = format_of(bytes) else {
            let found = format!("{}, expected a PNG, JPEG or WebP picture", foreign(bytes));
            return Err(Error::bad(path, "byte 0", found, "convert it, or leave it out with --skip-bad"));
        };
        let refused = |e: ImageError| refused(path, format, limits, &e);
        let mut allowed = image::Limits::no_limits();
        allowed.max_alloc = Some(limits.picture_bytes);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(allowed);
        let decoder = reader.into_decoder().map_err(refused)?;
        let (width, height) = decoder.dimensions();
        if width.max(height) > limits.picture_side || width == 0 || height == 0 {
            let found = format!("{width} x {height} pixels, expected 1 to {} a side", limits.picture_side);
            return Err(Error::bad(path, "header", found, "scale it down, or leave it out with --skip-bad"));
        }
        limits::admit(path, "header", decoder.total_bytes(), limits.picture_bytes)?;
        // Some damaged JPEGs run into an assertion of their decoder.
        let decoded = catch_unwind(AssertUnwindSafe(|| DynamicImage::from_decoder(decoder))).unwrap_or_else(|_| {
            let broken = DecodingError::new(format.into(), "its decoder gave up on damaged data");
            Err(ImageError::Decoding(broken))
        });
        let decoded = decoded.map_err(refused)?;
        let (channels, pixels) = match decoded {
            DynamicImage::ImageLuma8(p) => (1, p.into_raw()),
            DynamicImage::ImageRgb8(p) => (3, p.into_raw()),
            DynamicImage::ImageRgba8(p) => (4, p.into_raw()),
            other if other.color().has_alpha() => (4, other.into_rgba8().into_raw()),
            other if other.color().has_color() => (3, other.into_rgb8().into_raw()),
            other => (1, other.into_luma8().into_raw()),
        };
        Ok(Self { width, height, channels, pixels })
    }
}

fn refused(path: &Path, format: ImageFormat, limits: &Limits, e: &ImageError) -> Error {
    let name = match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        _ => "PNG",
    };
    match e {
        ImageError::Limits(_) => {
            let found = format!("a {name} that needs more than {} bytes", limits.picture_bytes);
            Error::bad(path, "header", found, "scale it down, or leave it out with --skip-bad")
        }
        ImageError::Unsupported(why) => {
            let found = format!("a kind of {name} that is not read ({why})");
            Error::bad(path, "contents", found, "save it as a plain PNG")
        }
        other => {
            let found = format!("a damaged or cut-short {name} ({other})");
            Error::bad(path, "contents", found, "make or download it again, or leave it out with --skip-bad")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, RgbaImage};
    use proptest::prelude::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn decode(bytes: &[u8]) -> Result<Picture> {
        Picture::decode(Path::new("p.png"), bytes, &Limits::TIGHT)
    }

    #[test]
    fn a_jpeg_on_which_its_decoder_panics_is_refused() {
        let bytes = include_bytes!("../../../fuzz/corpus/picture/upsampled-too-far.jpg");
        let said = decode(bytes).unwrap_err().to_string();
        assert!(said.starts_with("p.png: "), "{said}");
    }

    fn palette_png(depth: png::BitDepth, indices: &[u8], trns: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(depth);
        encoder.set_palette(vec![255, 0, 0, 0, 0, 255]);
        if let Some(t) = trns {
            encoder.set_trns(t.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(indices).unwrap();
        bytes
    }

    #[test]
    fn grey_colour_opacity_and_palette() {
        let grey = GrayImage::from_raw(2, 1, vec![3, 200]).unwrap();
        let want = Picture { width: 2, height: 1, channels: 1, pixels: vec![3, 200] };
        assert_eq!(decode(&encode(grey, ImageFormat::Png)).unwrap(), want);
        let both = GrayAlphaImage::from_raw(1, 1, vec![9, 128]).unwrap();
        assert_eq!(decode(&encode(both, ImageFormat::Png)).unwrap().pixels, [9, 9, 9, 128]);
        let rgba = RgbaImage::from_raw(1, 2, (0..8).collect()).unwrap();
        let got = decode(&encode(rgba, ImageFormat::WebP)).unwrap();
        assert_eq!((got.width, got.height, got.channels), (1, 2, 4));
        assert_eq!(
            decode(&palette_png(png::BitDepth::One, &[0b0100_0000], None)).unwrap().pixels,
            [255, 0, 0, 0, 0, 255]
        );
        let with_opacity = decode(&palette_png(png::BitDepth::Eight, &[1, 0], Some(&[7]))).unwrap();
        assert_eq!((with_opacity.channels, with_opacity.pixels), (4, vec![0, 0, 255, 255, 255, 0, 0, 7]));
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        let deep = ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0, 128, 129]).unwrap();
        // round(128 / 257) = 0, round(129 / 257) = 1
        assert_eq!(decode(&encode(deep, ImageFormat::Png)).unwrap().pixels, [0, 0, 1]);
        let deep = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![65535, 257, 514]).unwrap();
        assert_eq!(decode(&encode(deep, ImageFormat::Png)).unwrap().pixels, [255, 1, 2]);
    }

    #[test]
    fn jpeg_is_close() {
        let flat = RgbImage::from_pixel(8, 8, Rgb([200, 100, 50]));
        let got = decode(&encode(flat, ImageFormat::Jpeg)).unwrap();
        assert_eq!((got.width, got.height, got.channels), (8, 8, 3));
        assert!(got.pixels.chunks(3).all(|p| p.iter().zip([200_u8, 100, 50]).all(|(a, b)| a.abs_diff(b) <= 3)));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let said = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(
            said(b"GIF89a..."),
            "p.png: byte 0: a GIF, expected a PNG, JPEG or WebP picture; convert it, or leave it out with --skip-bad"
        );
        assert!(said(b"").contains("an empty file"));
        let good = encode(RgbImage::new(40, 40), ImageFormat::Png);
        assert!(said(&good[..good.len() - 20]).contains("a damaged or cut-short PNG"));
        assert!(said(&good[..12]).contains("PNG"));
        let mut wide = good.clone();
        wide[16..20].copy_from_slice(&1_000_000_u32.to_be_bytes());
        let crc = crc32fast::hash(&wide[12..29]);
        wide[29..33].copy_from_slice(&crc.to_be_bytes());
        let said_wide = said(&wide);
        assert!(
            said_wide.contains("pixels, expected 1 to 512") || said_wide.contains("needs more than"),
            "{said_wide}"
        );
    }

    #[test]
    fn endings_are_known_in_any_case() {
        assert!(has_picture_ending("a/b.PNG") && has_picture_ending("x.y.jpeg") && has_picture_ending("q.WebP"));
        assert!(!has_picture_ending("png") && !has_picture_ending("a.png.txt") && !has_picture_ending("a.gif"));
    }

    proptest! {
        #[test]
        fn lossless_formats_come_back(width in 1_u32..12, height in 1_u32..12, channels in 0_usize..3, seed: u8) {
            let channels = [1_u8, 3, 4][channels];
            let n = width * height * u32::from(channels);
            let pixels: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(37) ^ seed).collect();
            let image: DynamicImage = match channels {
                1 => GrayImage::from_raw(width, height, pixels.clone()).unwrap().into(),
                3 => RgbImage::from_raw(width, height, pixels.clone()).unwrap().into(),
                _ => RgbaImage::from_raw(width, height, pixels.clone()).unwrap().into(),
            };
            let want = Picture { width, height, channels, pixels };
            prop_assert_eq!(&decode(&encode(image.clone(), ImageFormat::Png)).unwrap(), &want);
            if channels > 1 {
                prop_assert_eq!(&decode(&encode(image, ImageFormat::WebP)).unwrap(), &want);
            }
        }
    }
}
