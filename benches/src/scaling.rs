//! How the cost of a picture grows with tokens, width, batch and threads, beside what counting multiply-adds says.

use crate::ask::Work;
use crate::layers::middle;
use crate::networks::{Built, Forward, Shown, Train};
use anyhow::Result;
use pentimento_core::Params;
use pentimento_nn::{Cost, DitConfig};
use std::fmt::Write;
use std::time::Instant;
use tch::{Device, Kind};

/// Rounds over the points of a line, each point once a round: what drifts, drifts for all.
const ROUNDS: usize = 5;

/// Seconds that a turn takes at least.
const TURN_S: f64 = 0.1;

/// Threads that are compared.
const THREADS: [i32; 2] = [1, 2];

/// A DiT of six blocks with patches of 2 and heads of 32 numbers, on pictures of three channels.
#[derive(Clone, Copy)]
struct Point {
    tokens: i64,
    width: i64,
    batch: i64,
    threads: i32,
}

/// Row 1 of the comparison, a quarter of its batch.
const MIDDLE: Point = Point { tokens: 64, width: 256, batch: 16, threads: 2 };

impl Point {
    fn shape(self) -> [i64; 3] {
        #[expect(clippy::cast_possible_truncation, reason = "an edge of a small square")]
        let side = 2 * (self.tokens as f64).sqrt().round() as i64;
        [3, side, side]
    }

    fn network(self) -> Result<Built> {
        let config = DitConfig::sized([2, self.width, 6, self.width.div_euclid(32)]);
        let (params, plan) = (Params::new(Device::Cpu, 0), config.plan(self.shape(), 10)?);
        let network = plan.build(&params.root());
        Ok(Built { params, network: Box::new(network), cost: plan.cost() })
    }

    fn works(self) -> Result<(Cost, [Box<dyn Work>; 2])> {
        let shown = || Shown::waves(self.batch, self.shape());
        let (a, b) = (self.network()?, self.network()?);
        let cost = a.cost;
        Ok((cost, [Box::new(Forward::of(a, shown(), Kind::Float)?), Box::new(Train::of(b, shown(), Kind::Float))]))
    }
}

/// What is varied, and how its values are found at a point.
struct Line {
    name: &'static str,
    points: Vec<Point>,
    value: fn(&Point) -> f64,
}

fn lines() -> Vec<Line> {
    let of = |name, points: Vec<Point>, value| Line { name, points, value };
    let tokens = [64, 144, 256, 576, 1024].map(|tokens| Point { tokens, batch: 4, ..MIDDLE });
    let width = [128, 256, 384, 512].map(|width| Point { width, ..MIDDLE });
    let batch = [1, 4, 16, 64].map(|batch| Point { batch, ..MIDDLE });
    vec![
        of("tokens, batch 4", tokens.into(), |p| p.tokens as f64),
        of("width", width.into(), |p| p.width as f64),
        of("batch", batch.into(), |p| p.batch as f64),
        of("threads", THREADS.map(|threads| Point { threads, ..MIDDLE }).into(), |p| f64::from(p.threads)),
    ]
}

/// Seconds of an iteration, for every work of every point: medians over rounds.
fn measured(points: &[Point], works: &mut [[Box<dyn Work>; 2]]) -> Result<Vec<[f64; 2]>> {
    let mut repeats = Vec::new();
    let mut times = vec![[const { Vec::new() }; 2]; points.len()];
    for round in 0..=ROUNDS {
        for (i, point) in points.iter().enumerate() {
            tch::set_num_threads(point.threads);
            for (k, work) in works[i].iter_mut().enumerate() {
                if round == 0 {
                    work.run()?;
                    let start = Instant::now();
                    work.run()?;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=1000")]
                    repeats.push((TURN_S / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1000.0) as usize);
                    continue;
                }
                let n = repeats[2 * i + k];
                let start = Instant::now();
                for _ in 0..n {
                    work.run()?;
                }
                times[i][k].push(start.elapsed().as_secs_f64() / n as f64);
            }
        }
    }
    Ok(times.into_iter().map(|pair| pair.map(middle)).collect())
}

/// The exponent p of y = c x^p, by least squares on logarithms.
fn exponent(x: &[f64], y: &[f64]) -> f64 {
    let logs = |v: &[f64]| {
        let logs: Vec<f64> = v.iter().map(|a| a.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        logs.into_iter().map(|l| l - mean).collect::<Vec<f64>>()
    };
    let (x, y) = (logs(x), logs(y));
    x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>() / x.iter().map(|a| a * a).sum::<f64>()
}

/// Two Markdown tables: times, and the exponents fitted to them.
pub fn tables() -> Result<String> {
    let mut text = String::from(
        "| varied | value | forward, ms a picture | training step, ms a picture | 10^6 multiply-adds a picture, forward \
         | forward, GFLOP/s |\n|---|---|---|---|---|---|\n",
    );
    let mut fits =
        String::from("| varied | forward, fitted | training step, fitted | as counted |\n|---|---|---|---|\n");
    for line in lines() {
        let made: Vec<_> = line.points.iter().map(|p| p.works()).collect::<Result<_>>()?;
        let (costs, mut works): (Vec<Cost>, Vec<_>) = made.into_iter().unzip();
        let seconds = measured(&line.points, &mut works)?;
        let values: Vec<f64> = line.points.iter().map(line.value).collect();
        let each = |k: usize| -> Vec<f64> {
            line.points.iter().zip(&seconds).map(|(p, s)| s[k] / p.batch as f64 * 1e3).collect()
        };
        let (forward, train) = (each(0), each(1));
        // Threads share the work; nothing else changes how much there is.
        let counted: Vec<f64> =
            line.points.iter().zip(&costs).map(|(p, c)| c.macs as f64 / f64::from(p.threads)).collect();
        for i in 0..values.len() {
            let (macs, [a, b]) = (costs[i].macs as f64 / 1e6, [forward[i], train[i]]);
            let (name, value, rate) = (line.name, values[i], 2.0 * macs / a);
            let _ = writeln!(text, "| {name} | {value} | {a:.3} | {b:.3} | {macs:.1} | {rate:.0} |");
        }
        let [a, b, c] = [&forward, &train, &counted].map(|y| exponent(&values, y));
        let _ = writeln!(fits, "| {} | {a:.2} | {b:.2} | {c:.2} |", line.name);
    }
    Ok(format!("{text}\n{fits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_has_its_exponent() {
        let x = [1.0, 2.0, 5.0, 9.0];
        let y = x.map(|v: f64| 3.0 * v.powf(-1.7));
        assert!((exponent(&x, &y) + 1.7).abs() < 1e-12);
    }

    /// Multiply-adds of the largest line: linear in tokens but for attention, which is square.
    #[test]
    fn counted_costs_lie_between_their_two_terms() {
        let tokens = &lines()[0];
        let macs: Vec<f64> = tokens.points.iter().map(|p| p.network().unwrap().cost.macs as f64).collect();
        let x: Vec<f64> = tokens.points.iter().map(tokens.value).collect();
        assert!((1.0..2.0).contains(&exponent(&x, &macs)), "{macs:?}");
        assert_eq!(x, [64.0, 144.0, 256.0, 576.0, 1024.0]);
    }

    #[test]
    fn works_of_a_point_run_and_are_timed() {
        let points = [Point { width: 32, batch: 2, threads: 1, ..MIDDLE }];
        let (cost, works) = points[0].works().unwrap();
        let [least, most] = measured(&points, &mut [works]).unwrap()[0];
        assert!(cost.macs > 0 && least > 0.0 && most > least, "{least} {most}");
    }
}
