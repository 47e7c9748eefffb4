use pentimento_core::Level;

/// The table of a variance-preserving chain in discrete time, as DDPM, ADM and DiT checkpoints were trained with: index i in
/// 0..steps has alpha-bar_i; time t = (i + 1)/steps, and t = 0 is clean data.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscreteVp {
    abar: Vec<f64>,
}

/// Which indices a sampler of fewer steps visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly from steps - 1 to 0, both included, rounded half to even (ADM, and `linspace` of diffusers).
    Even,
    /// Multiples of steps/n, from 0 (DDIM; `leading` of diffusers without offset). Misses the noisiest levels.
    Leading,
    /// steps - 1 downwards in strides of steps/n (`trailing` of diffusers).
    Trailing,
}

/// How much of the variance a chain in discrete time replaces by noise in each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Betas {
    /// Evenly spaced; 1e-4 to 0.02 over 1000 steps in Ho et al. 2020 (arXiv 2006.11239).
    Linear {
        /// beta of index 0.
        first: f64,
        /// beta of the last index.
        last: f64,
    },
    /// Square roots evenly spaced, as latent diffusion has them (0.00085 to 0.012 in Stable Diffusion).
    ScaledLinear {
        /// beta of index 0.
        first: f64,
        /// beta of the last index.
        last: f64,
    },
    /// beta_i = 1 - f((i + 1)/steps)/f(i/steps), at most 0.999, f(t) = cos^2(pi/2 (t + 0.008)/1.008)
    /// (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17 and the line below).
    Cosine,
}

impl Betas {
    /// beta of index i in 0..steps.
    pub fn of(self, i: usize, steps: usize) -> f64 {
        let part = i as f64 / (steps.max(2) - 1) as f64;
        match self {
            Self::Linear { first, last } => first + (last - first) * part,
            Self::ScaledLinear { first, last } => {
                let (a, b) = (first.sqrt(), last.sqrt());
                (a + (b - a) * part).powi(2)
            }
            Self::Cosine => {
                let f = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                let n = steps as f64;
                (1.0 - f((i as f64 + 1.0) / n) / f(i as f64 / n)).min(0.999)
            }
        }
    }
}

impl Spacing {
    /// The indices of a table of `all` levels that n steps visit, noisiest first; every one if n is `all` or more.
    pub fn indices(self, all: usize, n: usize) -> Vec<usize> {
        let n = n.clamp(1, all);
        if n == 1 {
            return vec![if self == Self::Leading { 0 } else { all - 1 }];
        }
        let up: Vec<f64> = match self {
            Self::Even => {
                let stride = (all - 1) as f64 / (n - 1) as f64;
                (0..n).map(|i| (i as f64 * stride).round_ties_even()).collect()
            }
            Self::Leading => {
                let stride = (all as f64 / n as f64).floor();
                (0..n).map(|i| i as f64 * stride).collect()
            }
            Self::Trailing => {
                let stride = all as f64 / n as f64;
                (0..n).rev().map(|i| (all as f64 - i as f64 * stride).round_ties_even() - 1.0).collect()
            }
        };
        up.into_iter().rev().map(|v| whole(v).min(all - 1)).collect()
    }
}

impl DiscreteVp {
    /// A table of so many levels.
    pub fn new(betas: Betas, steps: usize) -> Self {
        Self::from_betas((0..steps).map(|i| betas.of(i, steps)))
    }

    /// [`Betas::Linear`]
    pub fn linear(steps: usize, first: f64, last: f64) -> Self {
        Self::new(Betas::Linear { first, last }, steps)
    }

    /// [`Betas::ScaledLinear`]
    pub fn scaled_linear(steps: usize, first: f64, last: f64) -> Self {
        Self::new(Betas::ScaledLinear { first, last }, steps)
    }

    /// [`Betas::Cosine`]
    pub fn cosine(steps: usize) -> Self {
        Self::new(Betas::Cosine, steps)
    }

    /// alpha-bar as the running product of 1 - beta.
    pub fn from_betas(betas: impl IntoIterator<Item = f64>) -> Self {
        let mut product = 1.0;
        let abar = betas.into_iter().map(|beta| {
            product *= 1.0 - beta;
            product
        });
        Self { abar: abar.collect() }
    }

    /// Number of noisy levels.
    pub fn steps(&self) -> usize {
        self.abar.len()
    }

    /// alpha-bar = alpha^2 per index.
    pub fn abar(&self) -> &[f64] {
        &self.abar
    }

    /// The level of an index.
    pub fn level(&self, index: usize) -> Level {
        let abar = self.abar[index];
        Level::one((index as f64 + 1.0) / self.steps() as f64, abar.sqrt(), (1.0 - abar).sqrt())
    }

    /// Clean data.
    pub fn clean(&self) -> Level {
        Level::one(0.0, 1.0, 0.0)
    }

    /// The index of a time of this table; None for clean data and for times between indices.
    pub fn index(&self, t: f64) -> Option<usize> {
        (0..self.steps()).find(|&i| ((i as f64 + 1.0) / self.steps() as f64 - t).abs() < 1e-9)
    }

    /// The indices that n steps visit, noisiest first; all of them if n is the length of the table or more.
    pub fn indices(&self, n: usize, spacing: Spacing) -> Vec<usize> {
        spacing.indices(self.steps(), n)
    }

    /// The levels of n steps from noise to clean data, n + 1 in all.
    pub fn levels(&self, n: usize, spacing: Spacing) -> Vec<Level> {
        let noisy = self.indices(n, spacing).into_iter().map(|i| self.level(i));
        noisy.chain(std::iter::once(self.clean())).collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number, not negative")]
fn whole(v: f64) -> usize {
    v.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Path, Posterior};

    #[test]
    fn tables_are_the_published_ones() {
        let ddpm = DiscreteVp::linear(1000, 1e-4, 0.02);
        assert!((ddpm.abar()[0] - 0.9999).abs() < 1e-15);
        // numpy: np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[[499, 999]]
        assert!((ddpm.abar()[499] - 0.07864).abs() < 1e-4 && (ddpm.abar()[999] / 4.0358e-5 - 1.0).abs() < 1e-3);
        let cosine = DiscreteVp::cosine(1000);
        let path = Path::VpCosine { s: 0.008 };
        // The cap of 0.999 acts on the last beta only.
        for i in [0, 250, 998] {
            assert!((cosine.abar()[i].sqrt() - path.alpha((i as f64 + 1.0) / 1000.0)).abs() < 1e-12, "{i}");
        }
        assert!((cosine.abar()[999] / cosine.abar()[998] - 0.001).abs() < 1e-12);
    }

    /// DDPM's own formulas (eqs. 6, 7) with beta_t, not abar, against the general posterior.
    #[test]
    fn posterior_of_neighbours_is_that_of_ddpm() {
        let table = DiscreteVp::linear(1000, 1e-4, 0.02);
        for i in [1, 10, 500, 999] {
            let beta = 1e-4 + (0.02 - 1e-4) * i as f64 / 999.0;
            let (now, before) = (table.abar()[i], table.abar()[i - 1]);
            let q = Posterior::between(&table.level(i), &table.level(i - 1));
            let rel = |a: f64, b: f64| (a / b - 1.0).abs();
            assert!(rel(q.upper[0], beta) < 1e-10, "{i}");
            assert!(rel(q.variance[0], (1.0 - before) / (1.0 - now) * beta) < 1e-10, "{i}");
            assert!(rel(q.data[0], before.sqrt() * beta / (1.0 - now)) < 1e-10, "{i}");
            assert!(rel(q.state[0], (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - now)) < 1e-10, "{i}");
        }
    }

    #[test]
    fn indices_and_times_map_exactly() {
        let table = DiscreteVp::cosine(1000);
        for i in [0, 1, 123, 999] {
            let level = table.level(i);
            assert_eq!(table.index(level.t[0]), Some(i));
            let told = crate::TimeInput::Index { steps: 1000 }.of(&level)[0];
            assert!((told - i as f64).abs() < 1e-9);
        }
        assert_eq!((table.index(0.0), table.index(0.00105)), (None, None));
    }

    #[test]
    fn spacings_are_those_of_the_reference_samplers() {
        let table = DiscreteVp::linear(1000, 1e-4, 0.02);
        assert_eq!(table.indices(4, Spacing::Even), [999, 666, 333, 0]);
        assert_eq!(table.indices(4, Spacing::Leading), [750, 500, 250, 0]);
        assert_eq!(table.indices(4, Spacing::Trailing), [999, 749, 499, 249]);
        for spacing in [Spacing::Even, Spacing::Leading, Spacing::Trailing] {
            assert_eq!(table.indices(5000, spacing), (0..1000).rev().collect::<Vec<_>>());
            assert_eq!(table.levels(1, spacing).len(), 2);
        }
    }
}
