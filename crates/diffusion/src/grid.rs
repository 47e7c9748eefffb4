use crate::choice::{Choices, by_name, checked};
use crate::{Path, Spacing};
use pentimento_core::{Error, Level};
use serde::{Deserialize, Serialize};

/// The levels at which a sampler evaluates. Every grid starts at the path's noise end and ends exactly at sigma = 0.
///
/// As text: `uniform`, `karras(rho, s_min)`, `logsnr(s_min)`, `even`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grid {
    /// Equal steps in t: the choice for straight flows; on the EDM path equal steps in s, which is poor.
    #[default]
    Uniform,
    /// s_i = (s_max^(1/rho) + i/(n-1) (s_min^(1/rho) - s_max^(1/rho)))^rho for i < n, then 0
    /// (Karras et al. 2022, arXiv 2206.00364, eq. 5).
    Karras {
        /// 7 in the paper.
        rho: f64,
        /// Last noise level before 0; 0.002 in the paper.
        s_min: f64,
    },
    /// n levels at equal steps of log-SNR down to s_min, then 0.
    LogSnr {
        /// Last noise level before 0.
        s_min: f64,
    },
    /// Indices of a table evenly from the last to the first, both included, then clean data: how ADM and DiT respace
    /// theirs ([`Spacing::Even`]). A path that is no table counts as one of 1000 levels; more steps than levels are
    /// `uniform`.
    Even,
}

/// Where a path ends beyond this noise level (straight flow, cosine), the spacings in s put their first level at the
/// path's end and reckon the others from here: the largest level of Karras et al.
pub const S_CAP: f64 = 80.0;

impl Grid {
    const CHOICES: Choices = Choices {
        what: "grid",
        list: &[("uniform", &[]), ("karras", &[7.0, 0.002]), ("logsnr", &[0.002]), ("even", &[])],
    };

    fn build(place: usize, n: &[f64]) -> Result<Self, Error> {
        let s_min = |v: f64| checked("s_min of a grid", v, v > 0.0 && v < 1.0, "above 0 and below 1");
        Ok(match place {
            0 => Self::Uniform,
            1 => Self::Karras { rho: checked("rho of karras", n[0], n[0] >= 1.0, "at least 1")?, s_min: s_min(n[1])? },
            2 => Self::LogSnr { s_min: s_min(n[0])? },
            _ => Self::Even,
        })
    }

    fn parts(self) -> (usize, Vec<f64>) {
        match self {
            Self::Uniform => (0, vec![]),
            Self::Karras { rho, s_min } => (1, vec![rho, s_min]),
            Self::LogSnr { s_min } => (2, vec![s_min]),
            Self::Even => (3, vec![]),
        }
    }

    /// n + 1 levels from noise to data, for n steps (at least 1).
    pub fn levels(self, path: &Path, n: usize) -> Vec<Level> {
        let n = n.max(1);
        let end = path.level(1.0);
        let s_max = end.s()[0].min(S_CAP);
        let all = if let Path::Table { steps, .. } = *path { steps } else { 1000 };
        let indices = if self == Self::Even && n <= all { Spacing::Even.indices(all, n) } else { Vec::new() };
        (0..=n)
            .map(|i| {
                let part = i as f64 / (n.max(2) - 1) as f64;
                match self {
                    _ if i == 0 => end.clone(),
                    _ if i == n => path.level(0.0),
                    Self::Even if n <= all => path.level((indices[i] as f64 + 1.0) / all as f64),
                    Self::Uniform | Self::Even => path.level((n - i) as f64 / n as f64),
                    Self::Karras { rho, s_min } => {
                        let (a, b) = (s_max.powf(1.0 / rho), s_min.powf(1.0 / rho));
                        path.level(path.t_of_s((a + part * (b - a)).powf(rho)))
                    }
                    Self::LogSnr { s_min } => path.level(path.t_of_s(s_max * (s_min / s_max).powf(part))),
                }
            })
            .collect()
    }
}

by_name!(Grid);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    const ALL: [Grid; 4] =
        [Grid::Uniform, Grid::Karras { rho: 7.0, s_min: 0.002 }, Grid::LogSnr { s_min: 0.002 }, Grid::Even];

    #[test]
    fn grids_fall_from_the_noise_end_to_exactly_no_noise() {
        for p in path::ALL {
            for grid in ALL {
                for n in [1, 2, 3, 50, 1000] {
                    let levels = grid.levels(&p, n);
                    assert_eq!((levels.len(), &levels[0]), (n + 1, &p.level(1.0)));
                    assert!(levels[n].sigma[0] == 0.0 && levels[n].t[0] == 0.0);
                    for w in levels.windows(2) {
                        assert!(w[1].t[0] < w[0].t[0] && w[1].s()[0] < w[0].s()[0], "{p} {grid} {n}: {w:?}");
                    }
                }
            }
        }
    }

    /// Python: [(80**(1/7) + i/4*(0.002**(1/7) - 80**(1/7)))**7 for i in range(5)]
    #[test]
    fn karras_levels_are_the_published_ones() {
        let levels = ALL[1].levels(&Path::Edm, 5);
        let want = [80.0, 17.52783196464411, 2.515218976147159, 0.16975275626876413, 0.002, 0.0];
        for (l, w) in levels.iter().zip(want) {
            assert!((l.s()[0] - w).abs() <= 1e-12 * w, "{} {w}", l.s()[0]);
        }
    }

    #[test]
    fn even_steps_visit_the_indices_of_the_reference_samplers() {
        let path: Path = "table_linear".parse().unwrap();
        let index = |l: &Level| crate::TimeInput::for_path(&path).of(l)[0];
        let levels = Grid::Even.levels(&path, 4);
        for (l, want) in levels.iter().zip([999.0, 666.0, 333.0, 0.0]) {
            assert!((index(l) - want).abs() < 1e-9, "{} {want}", index(l));
        }
        assert_eq!((levels.len(), levels[4].sigma[0]), (5, 0.0));
        // As many steps as levels: every index once, like the uniform grid.
        let (even, uniform) = (Grid::Even.levels(&path, 1000), Grid::Uniform.levels(&path, 1000));
        assert!(even.iter().zip(&uniform).all(|(a, b)| (a.t[0] - b.t[0]).abs() < 1e-12));
        assert_eq!(Grid::Even.levels(&path, 1001).len(), 1002);
    }

    #[test]
    fn log_snr_steps_are_equal() {
        let levels = ALL[2].levels(&path::ALL[1], 9);
        let steps: Vec<f64> = levels[..9].windows(2).map(|w| w[1].logsnr()[0] - w[0].logsnr()[0]).collect();
        assert!(steps[1..].iter().all(|s| (s - steps[1]).abs() < 1e-9), "{steps:?}");
    }

    #[test]
    fn names_round_trip() {
        for g in ALL {
            assert_eq!(g.to_string().parse::<Grid>().unwrap(), g);
        }
        assert!("exponential".parse::<Grid>().unwrap_err().to_string().contains("karras(7, 0.002)"));
    }
}
