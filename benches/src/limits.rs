//! What the machine can do at most: the rate of single and half precision matrix products, and the bandwidth of memory.

use crate::ask::waited;
use pentimento_torch_shim::{Autocast, Bf16, bf16, linear};
use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Entries of the arrays of the bandwidth test: 256 MiB each, far beyond any cache.
const ENTRIES: i64 = 1 << 26;

/// Each number is the best of so many tries: a limit is what was once reached.
const TRIES: usize = 5;

/// Seconds of the fastest of several runs, after one that is not counted.
fn fastest(device: Device, mut work: impl FnMut()) -> f64 {
    work();
    waited(device);
    let time = |_| {
        let start = Instant::now();
        work();
        waited(device);
        start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(time).fold(f64::INFINITY, f64::min)
}

/// 10^9 floating-point operations a second of a square product, libtorch's or, where there is one and it is the faster, our own.
fn product(device: Device, edge: i64, kind: Kind) -> f64 {
    let _guard = tch::no_grad_guard();
    let ramp = Tensor::arange(edge * edge, (Kind::Float, device)).view([edge, edge]);
    let (a, weight, none) = (ramp.sin().to_kind(kind), ramp.cos(), ramp.zeros_like().get(0));
    let b = weight.to_kind(kind);
    let mut seconds = fastest(device, || drop(a.mm(&b)));
    if let Ok(_kind) = Autocast::new(device, kind)
        && linear(&a, &weight, &none).is_some()
    {
        seconds = seconds.min(fastest(device, || drop(linear(&a, &weight, &none))));
    }
    2.0 * (edge as f64).powi(3) / seconds / 1e9
}

/// 10^9 bytes a second read and written by a copy, and by the triad a = b + s c.
fn bandwidth(device: Device) -> (f64, f64) {
    let b = Tensor::ones([ENTRIES], (Kind::Float, device));
    let (c, mut a, scale) = (b.copy(), b.zeros_like(), Tensor::from(3.0_f32).to_device(device));
    let bytes = ENTRIES as f64 * 4.0;
    let copy = fastest(device, || a.copy_(&b));
    let triad = fastest(device, || drop(Tensor::addcmul_out(&a, &b, &c, &scale)));
    (2.0 * bytes / copy / 1e9, 3.0 * bytes / triad / 1e9)
}

/// What was reached on so many threads.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Threads of libtorch.
    pub threads: i32,
    /// GFLOP/s of square f32 products, by edge.
    pub f32: Vec<(i64, f64)>,
    /// The same in bf16; empty where the processor does not multiply in it.
    pub bf16: Vec<(i64, f64)>,
    /// GB/s of a copy.
    pub copy: f64,
    /// GB/s of the triad.
    pub triad: f64,
}

impl Limits {
    /// Measures, up to an edge of `largest`.
    pub fn reached(device: Device, threads: i32, largest: i64) -> Self {
        tch::set_num_threads(threads);
        let edges = || [1024, 2048, 4096, 8192].into_iter().filter(move |&e| e <= largest);
        let f32 = edges().map(|e| (e, product(device, e, Kind::Float))).collect();
        // Imitated products would take hours and limit nothing.
        let half = bf16(device) != Bf16::Imitated;
        let bf16 = edges().filter(|_| half).map(|e| (e, product(device, e, Kind::BFloat16))).collect();
        let (copy, triad) = bandwidth(device);
        Self { threads, f32, bf16, copy, triad }
    }

    fn rows(&self) -> Vec<(String, f64)> {
        let products = |name: &'static str, all: &[(i64, f64)]| {
            all.iter().map(|(e, rate)| (format!("{name} product, {e} x {e}, GFLOP/s"), *rate)).collect::<Vec<_>>()
        };
        let bandwidths = [("copy, GB/s", self.copy), ("triad, GB/s", self.triad)].map(|(n, v)| (n.to_owned(), v));
        [products("f32", &self.f32), products("bf16", &self.bf16), bandwidths.into()].concat()
    }
}

/// A Markdown table over numbers of threads.
pub fn table(all: &[Limits]) -> String {
    let threads: Vec<String> =
        all.iter().map(|l| format!("{} thread{}", l.threads, if l.threads == 1 { "" } else { "s" })).collect();
    let mut text = format!("| limit | {} |\n|---|{}\n", threads.join(" | "), "---|".repeat(all.len()));
    let columns: Vec<_> = all.iter().map(Limits::rows).collect();
    for (i, (name, _)) in columns.first().into_iter().flatten().enumerate() {
        let cells: Vec<String> = columns.iter().map(|c| format!("{:.1}", c[i].1)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}
