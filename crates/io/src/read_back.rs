//! The readers of what this crate writes, each as one function of bytes, for the mutation test and the fuzz targets.

use std::path::Path;

use crate::features::Features;
use crate::fuzz::Reader;
use crate::limits::Limits;
use crate::source::Source;
use crate::{events, jsonl, png_out, safetensors};

fn safetensors(bytes: &[u8]) {
    if let Ok(mut reader) = safetensors::Reader::from_bytes(Path::new("input"), bytes) {
        let _ = reader.read_all();
    }
}

fn jsonl(bytes: &[u8]) {
    let _ = jsonl::from_bytes(Path::new("input"), bytes);
}

fn events(bytes: &[u8]) {
    let _ = events::from_bytes(Path::new("input"), bytes);
    // A checksum stops nearly all damage; with right ones it gets to the messages inside.
    let _ = events::from_bytes(Path::new("input"), &events::with_right_checksums(bytes));
}

fn png_text(bytes: &[u8]) {
    if let Ok(texts) = png_out::texts_from_bytes(Path::new("input"), bytes) {
        let _ = png_out::plan(Path::new("input"), &texts);
    }
}

fn features_parquet(bytes: &[u8]) {
    let _ = Features::parquet_from(&Source::from_bytes("input", bytes), &Limits::TIGHT);
}

fn features_npz(bytes: &[u8]) {
    let _ = Features::npz_from(&Source::from_bytes("input", bytes), &Limits::TIGHT);
}

/// Every one of them by the name of its fuzz target and corpus.
pub const READERS: [Reader; 6] = [
    ("safetensors", safetensors),
    ("jsonl", jsonl),
    ("events", events),
    ("png_text", png_text),
    ("features_parquet", features_parquet),
    ("features_npz", features_npz),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for (_, read) in READERS {
                read(&bytes);
            }
        }
    }
}
