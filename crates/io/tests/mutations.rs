//! A hundred thousand damaged files a reader: no panic, and no memory beyond a fixed bound.
//!
//! The files that are damaged are the committed seeds of the fuzz targets (`fuzz/corpus`): small files as NumPy, Pillow,
//! PyArrow, `tarfile` and `zipfile` write them, most of them cuts of real data sets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, says what it skips, and compares exactly"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

use pentimento_io::fuzz;

const RUNS: usize = 100_000;
/// What no reader may exceed under `Limits::TIGHT`. The largest by far is the WebP decoder, which allocates a partition of
/// the 24 bits that its header declares; all others stay below four MiB.
const MOST_BYTES: usize = 20 << 20;

/// Counts what the current thread holds and held at most.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more, and is not measured.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// splitmix64: one number decides a mutation, so a failure is repeated by its number.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    const TELLING: [u32; 10] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        match chance.below(8) {
            _ if bytes.is_empty() => bytes.push(0),
            0 | 1 => bytes[at] ^= 1 << chance.below(8),
            2 => bytes[at] = chance.next() as u8,
            3 | 4 => {
                let value = TELLING[chance.below(TELLING.len())];
                let value = if chance.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                let width = [1, 2, 4][chance.below(3)];
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            5 => bytes.truncate(at),
            6 => {
                let end = (at + 1 + chance.below(32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                match chance.below(2) {
                    0 => drop(bytes.drain(at..end)),
                    _ => drop(bytes.splice(at..at, part)),
                }
            }
            _ => {
                let from = chance.below(other.len());
                let part = &other[from..(from + 1 + chance.below(64)).min(other.len())];
                let end = (at + part.len()).min(bytes.len());
                bytes.splice(at..end, part.iter().copied());
            }
        }
    }
}

/// Makes the checksums of PNG chunks and tar headers right again, so that damage gets past them.
fn mend(bytes: &mut [u8]) {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let mut at = 8;
        while let Some(head) = bytes.get(at..at + 8) {
            let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(chunk) = bytes.get(at + 4..at + 8 + len) else { break };
            let sum = crc32fast::hash(chunk).to_be_bytes();
            let end = at + 8 + len;
            let Some(slot) = bytes.get_mut(end..end + 4) else { break };
            slot.copy_from_slice(&sum);
            at = end + 4;
        }
    }
    for header in bytes.chunks_exact_mut(512).filter(|h| h[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn seeds(reader: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(reader);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn survives(reader: &str) {
    let seeds = seeds(reader);
    assert!(!seeds.is_empty());
    let start = Instant::now();
    let mut worst = (0, 0);
    for k in 0..RUNS + seeds.len() {
        // The first runs are the seeds themselves.
        let mut chance = Chance(k as u64);
        let mut bytes = seeds[k % seeds.len()].clone();
        if k >= seeds.len() {
            damage(&mut bytes, &seeds[chance.below(seeds.len())], &mut chance);
            if chance.below(2) == 0 {
                mend(&mut bytes);
            }
        }
        let before = HELD.get();
        PEAK.set(before);
        let done = std::panic::catch_unwind(|| fuzz::run(reader, &bytes));
        let used = (PEAK.get() - before) as usize;
        worst = worst.max((used, k));
        assert!(
            done.is_ok(),
            "{reader}: mutation {k} panics, {} bytes: {:02x?}",
            bytes.len(),
            &bytes[..bytes.len().min(64)]
        );
        assert!(used <= MOST_BYTES, "{reader}: mutation {k} ({} bytes) allocates {used} bytes", bytes.len());
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{reader}: {RUNS} mutations of {} files in {seconds:.1} s, at most {} bytes (in {})",
        seeds.len(),
        worst.0,
        worst.1
    );
}

/// Names here are the names of the tests below; a new reader needs a seed, a fuzz target and a test.
const TESTED: [&str; 20] = [
    "idx",
    "cifar",
    "npy",
    "npz",
    "reference",
    "dsprites",
    "picture",
    "metadata_csv",
    "metadata_jsonl",
    "graph",
    "edm_zip",
    "shards",
    "hf_parquet",
    "sniff",
    "safetensors",
    "jsonl",
    "events",
    "png_text",
    "features_parquet",
    "features_npz",
];

#[test]
fn every_reader_is_tested_and_has_a_target() {
    let named: Vec<_> = fuzz::readers().map(|(name, _)| name).collect();
    assert_eq!(named, TESTED);
    let targets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    for name in named {
        assert!(targets.join(format!("{name}.rs")).is_file(), "no fuzz target {name}");
    }
}

#[test]
fn idx() {
    survives("idx");
}

#[test]
fn cifar() {
    survives("cifar");
}

#[test]
fn npy() {
    survives("npy");
}

#[test]
fn npz() {
    survives("npz");
}

#[test]
fn reference() {
    survives("reference");
}

#[test]
fn dsprites() {
    survives("dsprites");
}

#[test]
fn picture() {
    survives("picture");
}

#[test]
fn graph() {
    survives("graph");
}

#[test]
fn metadata_csv() {
    survives("metadata_csv");
}

#[test]
fn metadata_jsonl() {
    survives("metadata_jsonl");
}

#[test]
fn edm_zip() {
    survives("edm_zip");
}

#[test]
fn shards() {
    survives("shards");
}

#[test]
fn hf_parquet() {
    survives("hf_parquet");
}

#[test]
fn sniff() {
    survives("sniff");
}

#[test]
fn safetensors() {
    survives("safetensors");
}

#[test]
fn jsonl() {
    survives("jsonl");
}

#[test]
fn events() {
    survives("events");
}

#[test]
fn png_text() {
    survives("png_text");
}

#[test]
fn features_parquet() {
    survives("features_parquet");
}

#[test]
fn features_npz() {
    survives("features_npz");
}
