//! What the machine can do at most: the rate of single and half precision matrix products, and the bandwidth of memory.

use pentimento_torch_shim::multiplies_bf16;
use std::fmt::Write;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Entries of the arrays of the bandwidth test: 256 MiB each, far beyond any cache.
const ENTRIES: i64 = 1 << 26;

/// Each number is the best of so many tries: a limit is what was once reached.
const TRIES: usize = 5;

/// Seconds of the fastest of several runs, after one that is not counted.
fn fastest(mut work: impl FnMut()) -> f64 {
    work();
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(time).fold(f64::INFINITY, f64::min)
}

/// 10^9 floating-point operations a second of a square product.
fn product(edge: i64, kind: Kind) -> f64 {
    let ramp = Tensor::arange(edge * edge, (Kind::Float, Device::Cpu)).view([edge, edge]);
    let (a, b) = (ramp.sin().to_kind(kind), ramp.cos().to_kind(kind));
    let seconds = fastest(|| drop(a.mm(&b)));
    2.0 * (edge as f64).powi(3) / seconds / 1e9
}

/// 10^9 bytes a second read and written by a copy, and by the triad a = b + s c.
fn bandwidth() -> (f64, f64) {
    let b = Tensor::ones([ENTRIES], (Kind::Float, Device::Cpu));
    let (c, mut a, scale) = (b.copy(), b.zeros_like(), Tensor::from(3.0_f32));
    let bytes = ENTRIES as f64 * 4.0;
    let copy = fastest(|| a.copy_(&b));
    let triad = fastest(|| drop(Tensor::addcmul_out(&a, &b, &c, &scale)));
    (2.0 * bytes / copy / 1e9, 3.0 * bytes / triad / 1e9)
}

/// A Markdown table over one thread and two.
pub fn table(largest: i64) -> String {
    let edges: Vec<i64> = [1024, 2048, 4096].into_iter().filter(|&e| e <= largest).collect();
    let mut text = String::from("| limit | 1 thread | 2 threads |\n|---|---|---|\n");
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    for threads in [1, 2] {
        tch::set_num_threads(threads);
        let mut put = |name: String, value: f64| match rows.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => values.push(value),
            None => rows.push((name, vec![value])),
        };
        for (kind, name) in [(Kind::Float, "f32"), (Kind::BFloat16, "bf16")] {
            // Imitated products would take hours and limit nothing.
            if kind == Kind::BFloat16 && !multiplies_bf16(Device::Cpu) {
                continue;
            }
            for &edge in &edges {
                put(format!("{name} product, {edge} x {edge}, GFLOP/s"), product(edge, kind));
            }
        }
        let (copy, triad) = bandwidth();
        put("copy, GB/s".into(), copy);
        put("triad, GB/s".into(), triad);
    }
    for (name, values) in rows {
        let cells: Vec<String> = values.iter().map(|v| format!("{v:.1}")).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}
