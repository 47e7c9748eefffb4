//! Every reader of foreign bytes as one function of bytes: what the mutation test and the fuzz targets run.
//!
//! A run may refuse its input; it must neither panic nor allocate beyond [`Limits::TIGHT`] and a small multiple.

use std::path::Path;
use std::sync::Once;

use crate::items::Items;
use crate::limits::Limits;
use crate::picture::Picture;
use crate::source::Source;
use crate::{cifar, detect, dsprites, edm_zip, hf_parquet, idx, npy, npz, read_back, reference, shards, table};

const TIGHT: &Limits = &Limits::TIGHT;

fn source(bytes: &[u8]) -> Source {
    Source::from_bytes("input", bytes)
}

fn each_item(set: crate::Result<impl Items>) {
    if let Ok(set) = set {
        // Sixty-four items see every kind of damage; more would only make runs slow.
        for i in 0..set.len().min(64) {
            let _ = set.read(i);
            let _ = set.name(i);
        }
    }
}

fn idx(bytes: &[u8]) {
    let _ = idx::parse(&source(bytes), TIGHT);
}

fn cifar(bytes: &[u8]) {
    let _ = cifar::parse(&source(bytes), TIGHT);
}

fn npy(bytes: &[u8]) {
    let _ = npy::parse(&source(bytes), TIGHT);
}

fn npz(bytes: &[u8]) {
    if let Ok(npz) = npz::Npz::from_source(&source(bytes), TIGHT) {
        for name in npz.names().take(8) {
            let _ = npz.array(name);
        }
    }
}

fn reference(bytes: &[u8]) {
    if let Ok(npz) = npz::Npz::from_source(&source(bytes), TIGHT) {
        let _ = reference::Reference::from_npz(&npz);
        let _ = npz.batch();
    }
}

fn dsprites(bytes: &[u8]) {
    let _ = dsprites::parse(&source(bytes), TIGHT);
}

fn picture(bytes: &[u8]) {
    let _ = Picture::decode(Path::new("input"), bytes, TIGHT);
}

fn metadata_csv(bytes: &[u8]) {
    let _ = table::parse(&source(bytes), table::Syntax::Csv, TIGHT);
}

fn metadata_jsonl(bytes: &[u8]) {
    let _ = table::parse(&source(bytes), table::Syntax::JsonLines, TIGHT);
}

fn graph(bytes: &[u8]) {
    let _ = (crate::graph::edges(&source(bytes), TIGHT), crate::graph::labels(&source(bytes), TIGHT));
}

fn edm_zip(bytes: &[u8]) {
    each_item(edm_zip::EdmZip::from_source(&source(bytes), TIGHT));
}

fn shards(bytes: &[u8]) {
    each_item(shards::Shards::from_sources(vec![source(bytes)], TIGHT));
}

fn hf_parquet(bytes: &[u8]) {
    each_item(hf_parquet::HfParquet::from_sources(vec![source(bytes)], TIGHT));
}

fn sniff(bytes: &[u8]) {
    let _ = detect::sniff_source(&source(bytes));
}

/// A reader that parses bytes from memory; the name is that of its fuzz target and corpus.
pub type Reader = (&'static str, fn(&[u8]));

const DATA_SETS: [Reader; 14] = [
    ("idx", idx),
    ("cifar", cifar),
    ("npy", npy),
    ("npz", npz),
    ("reference", reference),
    ("dsprites", dsprites),
    ("picture", picture),
    ("metadata_csv", metadata_csv),
    ("metadata_jsonl", metadata_jsonl),
    ("graph", graph),
    ("edm_zip", edm_zip),
    ("shards", shards),
    ("hf_parquet", hf_parquet),
    ("sniff", sniff),
];

/// Every reader: of data sets, then of what this crate writes itself.
pub fn readers() -> impl Iterator<Item = Reader> {
    DATA_SETS.into_iter().chain(read_back::READERS)
}

/// Panics of decoders on damaged data are caught by the readers above them; a hook that prints or stops would see them before.
fn let_decoders_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|at| at.file().contains("/registry/src/")) {
                usual(info);
            }
        }));
    });
}

/// Runs the reader of this name.
///
/// # Panics
/// When there is none.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, reader) = readers().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no reader {name}"));
    let_decoders_panic();
    reader(bytes);
}
