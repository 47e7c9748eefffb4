//! Densities in the plane whose values, scores and samples are exact: what a sampler, a flow or a score is held against.
//!
//! Rings, moons and spirals are fine mixtures of equal Gaussians spaced by their own standard deviation along a curve
//! (the ripple along the curve is below 1e-8), so nothing about them is an approximation: the mixture *is* the density.

use pentimento_core::{Draws, Stream};
use serde::{Deserialize, Serialize};
use std::f64::consts::{LN_2, PI, TAU};

/// The named densities, each of about unit scale around the origin.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ToyKind {
    /// Eight equal Gaussians of standard deviation 0.2 on a circle of radius 2.
    Gaussians,
    /// Circles of radius 1 and 2, of thickness 0.08.
    Rings,
    /// Two half circles of radius 1 that reach into each other, of thickness 0.08.
    Moons,
    /// Two arms that wind once and a half around the origin, from radius 0.3 to 2.5, of thickness 0.08.
    Spirals,
    /// Every other cell of a 4 x 4 board on [-2, 2]^2.
    Checkerboard,
}

impl ToyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gaussians, Self::Rings, Self::Moons, Self::Spirals, Self::Checkerboard];
}

/// Standard deviation across the curves.
const THICKNESS: f64 = 0.08;

/// One round Gaussian of a mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Share of the whole.
    pub weight: f64,
    /// Centre.
    pub mean: [f64; 2],
    /// Standard deviation along every axis.
    pub std: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// Weights sum to 1.
    Mixture(Vec<Part>),
    Board,
}

/// A density in the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Toy {
    form: Form,
}

impl Toy {
    /// A named density.
    pub fn new(kind: ToyKind) -> Self {
        let equal = |points: Vec<[f64; 2]>, std| {
            Self::mixture(points.into_iter().map(|mean| Part { weight: 1.0, mean, std }).collect())
        };
        let on_circle = |r: f64, t: f64| [r * t.cos(), r * t.sin()];
        match kind {
            ToyKind::Gaussians => equal((0..8).map(|k| on_circle(2.0, TAU * f64::from(k) / 8.0)).collect(), 0.2),
            ToyKind::Rings => {
                // Closed curves, evenly divided; the larger holds twice the points.
                let n = 79;
                let ring = |r: i32| (0..n * r).map(move |k| on_circle(r.into(), TAU * f64::from(k) / f64::from(n * r)));
                equal(ring(1).chain(ring(2)).collect(), THICKNESS)
            }
            ToyKind::Moons => {
                let upper = |t: f64| [(PI * t).cos() - 0.5, (PI * t).sin() - 0.25];
                let lower = |t: f64| [0.5 - (PI * t).cos(), 0.25 - (PI * t).sin()];
                equal([along(&upper), along(&lower)].concat(), THICKNESS)
            }
            ToyKind::Spirals => {
                let arm = |t: f64| on_circle(0.3 + 2.2 * t, 1.5 * TAU * t);
                let other = |t: f64| arm(t).map(|v| -v);
                equal([along(&arm), along(&other)].concat(), THICKNESS)
            }
            ToyKind::Checkerboard => Self { form: Form::Board },
        }
    }

    /// A mixture of round Gaussians; weights are brought to the sum 1.
    ///
    /// # Panics
    /// When there is no part, or a weight or standard deviation is not positive and finite.
    pub fn mixture(mut parts: Vec<Part>) -> Self {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        assert!(
            !parts.is_empty() && parts.iter().all(|p| positive(p.weight) && positive(p.std)),
            "a mixture of {parts:?}"
        );
        let total: f64 = parts.iter().map(|p| p.weight).sum();
        parts.iter_mut().for_each(|p| p.weight /= total);
        Self { form: Form::Mixture(parts) }
    }

    /// The Gaussians that make up the density; none for the checkerboard.
    pub fn parts(&self) -> &[Part] {
        match &self.form {
            Form::Mixture(parts) => parts,
            Form::Board => &[],
        }
    }

    /// The density of alpha x + sigma e with e standard normal: again a mixture. None for the checkerboard.
    pub fn diffused(&self, alpha: f64, sigma: f64) -> Option<Self> {
        let one = |p: &Part| Part { mean: p.mean.map(|m| alpha * m), std: (alpha * p.std).hypot(sigma), ..*p };
        match &self.form {
            Form::Mixture(parts) => Some(Self::mixture(parts.iter().map(one).collect())),
            Form::Board => None,
        }
    }

    /// The point at (seed, sample).
    pub fn sample(&self, seed: u64, sample: u64) -> [f64; 2] {
        let mut d = Draws::at(seed, sample, 0, Stream::World);
        match &self.form {
            Form::Mixture(parts) => {
                let mut u = d.uniform();
                let last = parts.len() - 1;
                let chosen = parts[..last].iter().find(|p| {
                    u -= p.weight;
                    u < 0.0
                });
                let Part { mean: [x, y], std, .. } = chosen.unwrap_or(&parts[last]);
                [x + std * d.normal(), y + std * d.normal()]
            }
            Form::Board => {
                let (row, pair) = (d.below(4) as f64, d.below(2) as f64);
                let column = 2.0 * pair + row % 2.0;
                [column - 2.0 + d.uniform(), row - 2.0 + d.uniform()]
            }
        }
    }

    /// Natural logarithm of the density; minus infinity off the filled cells of the checkerboard.
    pub fn log_density(&self, x: [f64; 2]) -> f64 {
        match &self.form {
            Form::Mixture(parts) => self.shares(parts, x).0,
            Form::Board if filled(x) => -3.0 * LN_2,
            Form::Board => f64::NEG_INFINITY,
        }
    }

    /// Gradient of [`Toy::log_density`]. The checkerboard is constant inside its cells: there, and where it has no
    /// density, the score is 0; at the edges it does not exist.
    pub fn score(&self, x: [f64; 2]) -> [f64; 2] {
        let Form::Mixture(parts) = &self.form else {
            return [0.0; 2];
        };
        let (total, logs) = self.shares(parts, x);
        parts.iter().zip(logs).fold([0.0; 2], |[a, b], (p, log)| {
            let pull = (log - total).exp() / (p.std * p.std);
            [a + pull * (p.mean[0] - x[0]), b + pull * (p.mean[1] - x[1])]
        })
    }

    /// Logarithm of the density and of each part's share in it.
    fn shares(&self, parts: &[Part], x: [f64; 2]) -> (f64, Vec<f64>) {
        let one = |p: &Part| {
            let (dx, dy) = ((x[0] - p.mean[0]) / p.std, (x[1] - p.mean[1]) / p.std);
            (p.weight / (TAU * p.std * p.std)).ln() - 0.5 * (dx * dx + dy * dy)
        };
        let logs: Vec<f64> = parts.iter().map(one).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (most + logs.iter().map(|l| (l - most).exp()).sum::<f64>().ln(), logs)
    }

    /// Mean and covariance (xx, xy, yy).
    pub fn moments(&self) -> ([f64; 2], [f64; 3]) {
        let Form::Mixture(parts) = &self.form else {
            // Two filled cells a row and column, in opposite order on odd rows: E[x y] = sum over cells of centre x centre / 8.
            let cells = (0..4_i32).flat_map(|r| (0..4_i32).filter(move |c| (r + c) % 2 == 0).map(move |c| (c, r)));
            let xy: f64 = cells.map(|(c, r)| (f64::from(c) - 1.5) * (f64::from(r) - 1.5)).sum();
            return ([0.0; 2], [4.0 / 3.0, xy / 8.0, 4.0 / 3.0]);
        };
        let sum = |f: &dyn Fn(&Part) -> f64| parts.iter().map(|p| p.weight * f(p)).sum::<f64>();
        let [mx, my] = [sum(&|p| p.mean[0]), sum(&|p| p.mean[1])];
        let spread = sum(&|p| p.std * p.std);
        let xx = sum(&|p| (p.mean[0] - mx).powi(2)) + spread;
        let yy = sum(&|p| (p.mean[1] - my).powi(2)) + spread;
        ([mx, my], [xx, sum(&|p| (p.mean[0] - mx) * (p.mean[1] - my)), yy])
    }
}

/// Whether a point lies on a filled cell; the board's lower-left cell is filled.
fn filled([x, y]: [f64; 2]) -> bool {
    let inside = |v: f64| (-2.0..2.0).contains(&v);
    inside(x) && inside(y) && (x.floor() + y.floor()).rem_euclid(2.0) < 0.5
}

/// Points along a curve over [0, 1], spaced evenly by length, about one thickness apart, ends included.
fn along(curve: &dyn Fn(f64) -> [f64; 2]) -> Vec<[f64; 2]> {
    const FINE: u32 = 4096;
    let at = |k: u32| curve(f64::from(k) / f64::from(FINE));
    let mut lengths = vec![0.0];
    for k in 0..FINE {
        let ([x, y], [u, v]) = (at(k), at(k + 1));
        lengths.push(lengths[lengths.len() - 1] + (u - x).hypot(v - y));
    }
    let total = lengths[lengths.len() - 1];
    let mut points = Vec::new();
    let steps = (total / THICKNESS).ceil();
    let mut k = 0;
    while points.len() as f64 <= steps {
        let want = total * points.len() as f64 / steps;
        while k + 2 < lengths.len() && lengths[k + 1] < want {
            k += 1;
        }
        let t = (want - lengths[k]) / (lengths[k + 1] - lengths[k]);
        points.push(curve((k as f64 + t.min(1.0)) / f64::from(FINE)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_integrate_to_one() {
        for kind in ToyKind::ALL {
            let toy = Toy::new(kind);
            // Midpoints: beyond all orders for the smooth ones, exact for the board, whose edges they miss.
            let (n, edge) = (128, 4.0);
            let h = 2.0 * edge / f64::from(n);
            let at = |k: i32| -edge + h * (f64::from(k) + 0.5);
            let total: f64 = (0..n * n).map(|k| toy.log_density([at(k % n), at(k.div_euclid(n))]).exp()).sum();
            assert!((total * h * h - 1.0).abs() < 1e-6, "{kind:?}: {}", total * h * h);
        }
    }

    #[test]
    fn scores_are_differences_of_the_log_density() {
        for kind in &ToyKind::ALL[..4] {
            for toy in [Toy::new(*kind), Toy::new(*kind).diffused(0.6, 0.8).unwrap()] {
                for i in 0..40 {
                    let [x, y] = toy.sample(1, i);
                    let s = toy.score([x, y]);
                    let h = 1e-5;
                    let dx = (toy.log_density([x + h, y]) - toy.log_density([x - h, y])) / (2.0 * h);
                    let dy = (toy.log_density([x, y + h]) - toy.log_density([x, y - h])) / (2.0 * h);
                    assert!((s[0] - dx).abs() < 1e-5 && (s[1] - dy).abs() < 1e-5, "{kind:?} {s:?} {dx} {dy}");
                }
            }
        }
        assert!(Toy::new(ToyKind::Checkerboard).score([0.5, 0.5]).iter().all(|v| v.abs() < f64::MIN_POSITIVE));
    }

    #[test]
    fn samples_have_the_moments() {
        for kind in ToyKind::ALL {
            let toy = Toy::new(kind);
            let n = 20_000;
            let points: Vec<_> = (0..n).map(|i| toy.sample(5, i)).collect();
            let mean = |f: &dyn Fn(&[f64; 2]) -> f64| points.iter().map(f).sum::<f64>() / n as f64;
            let ([mx, my], cov) = toy.moments();
            // Values are below 3.5 in size, so products spread by less than 6: five standard errors.
            let close = |a: f64, b: f64, spread: f64| (a - b).abs() < 5.0 * spread / (n as f64).sqrt();
            assert!(close(mean(&|p| p[0]), mx, cov[0].sqrt()) && close(mean(&|p| p[1]), my, cov[2].sqrt()), "{kind:?}");
            let got = [(0, 0), (0, 1), (1, 1)].map(|(a, b)| mean(&|p| (p[a] - [mx, my][a]) * (p[b] - [mx, my][b])));
            for (got, want) in got.iter().zip(cov) {
                assert!(close(*got, want, 2.5), "{kind:?}: {got} {want}");
            }
            assert!(points.iter().all(|p| toy.log_density(*p).is_finite()), "{kind:?}");
        }
    }

    #[test]
    fn samples_fall_as_densely_as_the_density_says() {
        // Mean of log p over samples is minus the entropy; for the board that is ln 8 without any error.
        let board = Toy::new(ToyKind::Checkerboard);
        assert!((0..1000).all(|i| (board.log_density(board.sample(0, i)) + 8.0_f64.ln()).abs() < 1e-12));
        assert!(board.log_density([-1.5, -0.5]).is_infinite() && board.log_density([2.5, 0.5]).is_infinite());
        // A quadrature of the share on the right of a line, against counts.
        for kind in &ToyKind::ALL[1..4] {
            let toy = Toy::new(*kind);
            let (h, cut) = (0.0625, 0.6);
            let cells = (0..64).flat_map(|a| (0..128).map(move |b| [a, b].map(f64::from)));
            let share: f64 =
                cells.map(|[a, b]| toy.log_density([cut + h * (a + 0.5), -4.0 + h * (b + 0.5)]).exp() * h * h).sum();
            let n = 20_000;
            let count = (0..n).filter(|&i| toy.sample(2, i)[0] > cut).count() as f64 / n as f64;
            // The midpoint rule cuts the density at the line: second order in h.
            assert!((share - count).abs() < 5.0 * 0.5 / (n as f64).sqrt() + 2e-3, "{kind:?}: {share} {count}");
        }
    }

    #[test]
    fn curves_are_smooth_along_their_length() {
        let ring = Toy::new(ToyKind::Rings);
        let on = |t: f64| ring.log_density([2.0 * t.cos(), 2.0 * t.sin()]);
        for k in 0..50 {
            assert!((on(f64::from(k) * 0.0137) - on(0.0)).abs() < 1e-7);
        }
        let spiral = Toy::new(ToyKind::Spirals);
        let n = spiral.parts().len();
        let gap = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        let arm = &spiral.parts()[..n.div_euclid(2)];
        let gaps: Vec<f64> = arm.windows(2).map(|w| gap(w[0].mean, w[1].mean)).collect();
        assert!(gaps.iter().all(|g| (g / gaps[0] - 1.0).abs() < 0.02 && *g < THICKNESS), "{gaps:?}");
        assert!(gap(arm[0].mean, [0.3, 0.0]) < 1e-12 && gap(arm[arm.len() - 1].mean, [-2.5, 0.0]) < 1e-9);
    }

    #[test]
    fn a_single_gaussian_has_its_textbook_values() {
        let toy = Toy::mixture(vec![Part { weight: 3.0, mean: [1.0, -2.0], std: 0.5 }]);
        assert!((toy.log_density([1.5, -2.0]) - (-(TAU * 0.25).ln() - 0.5)).abs() < 1e-12);
        let s = toy.score([1.5, -2.0]);
        assert!((s[0] + 2.0).abs() < 1e-12 && s[1].abs() < 1e-12);
        let wide = toy.diffused(0.6, 0.4).unwrap();
        assert!((wide.parts()[0].std - 0.5).abs() < 1e-12 && (wide.parts()[0].mean[0] - 0.6).abs() < 1e-12);
    }
}
