//! A procedural world of series: a noisy oscillator whose frequency jumps, at random times, between a few values: the regimes.
//! The regime behind every sample is exact, so a representation of a series can be held against it.
//!
//! The state u is a complex number. One sample later it is
//!     u' = r e^{i omega} u + sqrt(1 - r^2) e,    r = exp(-1 / memory),    Re e and Im e standard normal,
//! with omega that of the regime at hand. u begins in its stationary law, which is the same for every omega, so no jump takes it
//! out: Re u is a standard normal at all times, and given the regimes its values at two times have the covariance
//!     r^k cos(sum of omega over the k samples from one to the other).
//! Only frequency tells regimes apart, never size. To be seen is gain / 4 (Re u + noise), the gain being that of the series.
//!
//! As a data set an item is one series, `[1, 1, L]`; its class is the regime at its end, its factors the regimes on the way.

use crate::shape::{below, single};
use crate::{Dataset, Error};
use pentimento_core::{Draws, Stream};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Settings of the world.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RegimesConfig {
    /// L, the samples of a series.
    pub length: usize,
    /// Number of regimes.
    pub regimes: usize,
    /// Samples of one oscillation in the fastest and in the slowest regime; the others lie between them in equal ratios.
    pub periods: [f64; 2],
    /// Samples after which an oscillation has forgotten all but 1/e of itself.
    pub memory: f64,
    /// Samples that a regime lasts on average; when it ends, each of the others is as likely to follow.
    pub dwell: f64,
    /// Smallest and largest gain of a series.
    pub gain: [f64; 2],
    /// Standard deviation of what is added to every sample, where that of the oscillation is 1.
    pub noise: f64,
    /// Number of factors: the regime at the end of each of so many equal stretches of the series.
    pub readings: usize,
    /// Number of series.
    pub items: u64,
    /// Seed of the world.
    pub seed: u64,
}

impl Default for RegimesConfig {
    fn default() -> Self {
        Self {
            length: 512,
            regimes: 8,
            periods: [4.0, 32.0],
            memory: 48.0,
            dwell: 256.0,
            gain: [0.5, 1.0],
            noise: 0.5,
            readings: 32,
            items: 200_000,
            seed: 0,
        }
    }
}

/// A series before it is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Number of the regime behind each sample; 0 is the fastest.
    pub regimes: Vec<usize>,
    /// Re u at each sample.
    pub oscillation: Vec<f64>,
    /// What it is multiplied by.
    pub gain: f64,
}

/// The world.
#[derive(Debug)]
pub struct Regimes {
    config: RegimesConfig,
    classes: Vec<String>,
    names: Vec<String>,
}

/// Addresses of a series' draws: the regimes, the state, what is added to it.
const STEPS: [u32; 3] = [0, 1, 2];
/// What `regimes:test` changes in the seed: its series are none of `regimes`.
pub(crate) const OTHER_HALF: u64 = 1 << 63;

impl Regimes {
    /// Checks the settings.
    ///
    /// # Errors
    /// One sentence on the first that is out of its range.
    pub fn new(config: RegimesConfig) -> Result<Self, Error> {
        let need = |ok: bool, key: &str, want: &str| {
            if ok { Ok(()) } else { Err(Error::bad(format!("data.regimes.{key}"), want)) }
        };
        need((8..=1 << 20).contains(&config.length), "length", "must lie in 8..=1048576")?;
        let divides = config.readings > 0 && config.length.is_multiple_of(config.readings);
        need(divides, "readings", "must divide data.regimes.length")?;
        need((2..=64).contains(&config.regimes), "regimes", "must lie in 2..=64")?;
        let [fast, slow] = config.periods;
        need(2.0 <= fast && fast < slow && slow.is_finite(), "periods", "must be two rising numbers of at least 2")?;
        need(config.memory > 0.0, "memory", "must be above 0")?;
        need(config.dwell >= 1.0, "dwell", "must be at least 1")?;
        let [low, high] = config.gain;
        need(0.0 < low && low <= high && high <= 2.0, "gain", "must be two rising numbers in (0, 2]")?;
        need((0.0..=10.0).contains(&config.noise), "noise", "must lie in [0, 10]")?;
        need(config.items > 0 && config.items < 1 << 32, "items", "must lie in 1..2^32")?;
        let classes = (0..config.regimes).map(|k| format!("period {:.1}", period(&config, k))).collect();
        let names = (1..=config.readings).map(|k| format!("regime at {k}/{}", config.readings)).collect();
        Ok(Self { config, classes, names })
    }

    /// The settings.
    pub fn config(&self) -> &RegimesConfig {
        &self.config
    }

    /// Samples of one oscillation in a regime.
    pub fn period(&self, regime: usize) -> f64 {
        period(&self.config, regime)
    }

    /// What is behind series i. A longer series begins like a shorter one.
    pub fn describe(&self, i: u64) -> Series {
        let c = &self.config;
        let mut d = Draws::at(c.seed, i, STEPS[0], Stream::World);
        let gain = c.gain[0] + (c.gain[1] - c.gain[0]) * d.uniform();
        let mut now = below(&mut d, c.regimes);
        let mut regimes = Vec::with_capacity(c.length);
        for _ in 0..c.length {
            regimes.push(now);
            if d.uniform() < 1.0 / c.dwell {
                now = (now + 1 + below(&mut d, c.regimes - 1)) % c.regimes;
            }
        }
        let r = (-1.0 / c.memory).exp();
        let turns: Vec<_> =
            (0..c.regimes).map(|k| (TAU / self.period(k)).sin_cos()).map(|(sin, cos)| [r * cos, r * sin]).collect();
        let pushes = self.normals(i, STEPS[1], 2 * c.length);
        let mut pushes = pushes.chunks_exact(2).map(|e| [f64::from(e[0]), f64::from(e[1])]);
        let ([mut re, mut im], small) = (pushes.next().unwrap_or_default(), (1.0 - r * r).sqrt());
        let mut oscillation = Vec::with_capacity(c.length);
        oscillation.push(re);
        for (regime, [a, b]) in regimes.iter().zip(pushes) {
            let [cos, sin] = turns[*regime];
            (re, im) = (cos * re - sin * im + small * a, sin * re + cos * im + small * b);
            oscillation.push(re);
        }
        Series { regimes, oscillation, gain }
    }

    fn normals(&self, i: u64, step: u32, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        Draws::at(self.config.seed, i, step, Stream::World).fill_normal(&mut out);
        out
    }
}

fn period(c: &RegimesConfig, regime: usize) -> f64 {
    let [fast, slow] = c.periods;
    fast * (slow / fast).powf(regime as f64 / (c.regimes - 1) as f64)
}

impl Dataset for Regimes {
    fn len(&self) -> u64 {
        self.config.items
    }
    fn shape(&self) -> [usize; 3] {
        [1, 1, self.config.length]
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn factors(&self) -> &[String] {
        &self.names
    }
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        if i >= self.len() {
            return Err(Error::bad("regimes", format!("series {i} of {}", self.len())));
        }
        let series = self.describe(i);
        let noise = self.normals(i, STEPS[2], self.config.length);
        for ((x, u), e) in x.iter_mut().zip(&series.oscillation).zip(noise) {
            // Four standard deviations at full gain without noise: hardly a sample meets the ends.
            *x = single((0.25 * series.gain * (u + self.config.noise * f64::from(e))).clamp(-1.0, 1.0));
        }
        let stretch = self.config.length.div_euclid(self.config.readings);
        for (f, part) in factors.iter_mut().zip(series.regimes.chunks(stretch)) {
            *f = part.last().map_or(0.0, |r| single(*r as f64));
        }
        Ok(series.regimes.last().and_then(|r| i64::try_from(*r).ok()).unwrap_or(pentimento_core::NO_LABEL))
    }
    fn fingerprint(&self) -> String {
        format!("regimes v1 {}", serde_json::to_string(&self.config).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(config: RegimesConfig) -> Regimes {
        Regimes::new(config).unwrap()
    }

    /// Means over series of products of the state at two times, against r^k cos(the angle between), jumps included; the variance
    /// stays 1 through them.
    #[test]
    fn the_covariance_is_its_closed_form_across_jumps() {
        let w = world(RegimesConfig { length: 64, dwell: 20.0, memory: 40.0, ..Default::default() });
        let (n, at, r) = (20_000, 30, (-1.0_f64 / 40.0).exp());
        for k in [0, 1, 5, 20] {
            let (mut error, mut jumps) = (0.0, 0);
            for i in 0..n {
                let s = w.describe(i);
                let between = &s.regimes[at..at + k];
                let angle: f64 = between.iter().map(|g| TAU / w.period(*g)).sum();
                error += s.oscillation[at] * s.oscillation[at + k] - r.powi(k as i32) * angle.cos();
                jumps += usize::from(between.windows(2).any(|p| p[0] != p[1]));
            }
            // A product of two standard normals varies by at most 2.
            assert!((error / n as f64).abs() < 4.0 * (2.0 / n as f64).sqrt(), "{k}: {}", error / n as f64);
            assert!(k < 20 || jumps > 8000, "{jumps}");
        }
    }

    /// Without memory loss and noise it is the cosine of the regime's period.
    #[test]
    fn an_undisturbed_oscillation_is_a_cosine() {
        let config = RegimesConfig { memory: f64::INFINITY, dwell: f64::INFINITY, noise: 0.0, ..Default::default() };
        let w = world(config);
        let (mut x, mut f) = (vec![0.0; 512], vec![0.0; 32]);
        for i in 0..20 {
            let label = w.item(i, &mut x, &mut f).unwrap();
            let s = w.describe(i);
            assert!(s.regimes.iter().all(|g| *g as i64 == label));
            let turn = 2.0 * (TAU / w.period(s.regimes[0])).cos();
            for v in s.oscillation.windows(3) {
                assert!((v[2] - turn * v[1] + v[0]).abs() < 1e-9, "x_{{s+1}} = 2 cos(omega) x_s - x_{{s-1}}");
            }
            let seen = x.iter().zip(&s.oscillation).map(|(x, u)| f64::from(*x) - (0.25 * s.gain * u).clamp(-1.0, 1.0));
            assert!(seen.map(f64::abs).fold(0.0, f64::max) < 1e-6 && (0.5..=1.0).contains(&s.gain));
        }
        assert!((w.period(0) - 4.0).abs() < 1e-12 && (w.period(7) - 32.0).abs() < 1e-12);
        assert!((w.period(3) * w.period(3) - w.period(2) * w.period(4)).abs() < 1e-9);
    }

    #[test]
    fn regimes_last_their_time_and_factors_are_the_regimes_on_the_way() {
        let w = world(RegimesConfig { dwell: 50.0, ..Default::default() });
        let (mut x, mut f, n) = (vec![0.0; 512], vec![0.0; 32], 400);
        let (mut jumps, mut counts) = (0, [0; 8]);
        for i in 0..n {
            let label = w.item(i, &mut x, &mut f).unwrap();
            let s = w.describe(i);
            jumps += s.regimes.windows(2).filter(|p| p[0] != p[1]).count();
            counts[s.regimes[511]] += 1;
            assert!((0..32).all(|k| f[k] == s.regimes[16 * k + 15] as f32) && f[31] == label as f32);
            assert!(x.iter().all(|v| v.abs() <= 1.0));
        }
        // Every sample but the last ends its regime with chance 1/50.
        let (want, all) = (n as f64 * 511.0 / 50.0, jumps as f64);
        assert!((all - want).abs() < 4.0 * want.sqrt(), "{all} {want}");
        assert!(counts.iter().all(|c| (20..90).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_longer_series_begins_like_a_shorter_one_and_each_has_its_own() {
        let (short, long) =
            (world(RegimesConfig::default()), world(RegimesConfig { length: 1024, ..Default::default() }));
        let (a, b) = (short.describe(7), long.describe(7));
        assert_eq!((&a.regimes[..], &a.oscillation[..], a.gain), (&b.regimes[..512], &b.oscillation[..512], b.gain));
        assert_ne!(a, short.describe(8));
        assert_ne!(a, world(RegimesConfig { seed: OTHER_HALF, ..Default::default() }).describe(7));
        assert!(short.item(200_000, &mut [0.0; 512], &mut [0.0; 32]).is_err());
    }

    #[test]
    fn settings_out_of_range_are_one_sentence() {
        let bad = |c: RegimesConfig| Regimes::new(c).unwrap_err().to_string();
        let said = bad(RegimesConfig { length: 500, ..Default::default() });
        assert!(said.contains("data.regimes.readings: must divide data.regimes.length"), "{said}");
        assert!(bad(RegimesConfig { periods: [1.0, 9.0], ..Default::default() }).contains("periods"));
        assert!(bad(RegimesConfig { dwell: f64::NAN, ..Default::default() }).contains("dwell"));
        assert!(bad(RegimesConfig { memory: f64::NAN, ..Default::default() }).contains("memory"));
    }
}
