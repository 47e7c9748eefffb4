use crate::gram;
use crate::{Error, Features, Result};
use faer::Mat;
use pentimento_linalg::singular_values;
use serde::{Deserialize, Serialize};

/// Whether the mean of the features is taken off first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centring {
    /// Features as they are: effective rank and RankMe of the papers.
    #[default]
    Off,
    /// Mean taken off: directions in which items differ.
    On,
}

/// Singular values of a representation and the counts of directions made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// From the largest; min(N, D) of them, at least one above 0.
    pub values: Vec<f64>,
}

/// Singular values of the features, `[N, D]` as a matrix.
///
/// # Errors
/// Every value is 0 (after centring, where asked for: every item is the same).
///
/// # Cost
/// O(N D min(N, D)).
pub fn spectrum(x: &Features, centring: Centring) -> Result<Spectrum> {
    let mut rows = Vec::with_capacity(x.n() * x.d());
    let means = match centring {
        Centring::On => gram::means(x),
        Centring::Off => vec![0.0; x.d()],
    };
    gram::centre(x.values(), &means, &mut rows);
    // Equal rows less their rounded mean leave rounding, which has a spectrum of its own.
    let flat = match centring {
        Centring::On => x.values().chunks(x.d()).all(|row| row == x.row(0)),
        Centring::Off => rows.iter().all(|v| v.abs() <= 0.0),
    };
    if flat {
        return Err(Error::NoSpread { what: "features", measure: "a rank" });
    }
    let matrix = Mat::from_fn(x.n(), x.d(), |i, j| rows[i * x.d() + j]);
    let values = singular_values(&matrix).ok_or(Error::Eigen { what: "singular values of the features" })?;
    Ok(Spectrum { values })
}

impl Spectrum {
    /// Effective rank: exp of the entropy of the singular values divided by their sum; between 1 and min(N, D).
    ///
    /// # Source
    /// Roy and Vetterli 2007.
    pub fn effective_rank(&self) -> f64 {
        self.rank(0.0)
    }

    /// RankMe: the effective rank with 1e-7 added to each share, as its authors report it.
    ///
    /// # Source
    /// Garrido et al. 2023 (arXiv 2210.02885), eq. 1.
    pub fn rank_me(&self) -> f64 {
        self.rank(1e-7)
    }

    fn rank(&self, floor: f64) -> f64 {
        let sum: f64 = self.values.iter().sum();
        let shares = self.values.iter().map(|v| v / sum + floor).filter(|p| *p > 0.0);
        shares.map(|p| -p * p.ln()).sum::<f64>().exp()
    }

    /// Participation ratio (sum l)^2 / sum l^2 of the squared singular values l; of the covariance when centred.
    ///
    /// # Source
    /// Gao et al. 2017 (bioRxiv 214262).
    pub fn participation_ratio(&self) -> f64 {
        // Relative to the largest, whose fourth power may overflow.
        let squares = self.values.iter().map(|v| (v / self.values[0]).powi(2));
        let (sum, square) = squares.fold((0.0, 0.0), |(sum, square), l| (sum + l, square + l * l));
        sum * sum / square
    }

    /// Fewest leading directions that hold this share of the squared singular values.
    pub fn directions(&self, share: f64) -> usize {
        let total: f64 = self.values.iter().map(|v| v * v).sum();
        let mut held = 0.0;
        let enough = |v: &f64| {
            held += v * v;
            held >= share * total
        };
        self.values.iter().position(enough).map_or(self.values.len(), |i| i + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_numpy_tall_and_wide() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        for name in ["shape.tall", "shape.wide"] {
            let x = file.features(name);
            let want = file.f64s(&format!("{name}.spectrum"));
            for (i, centring) in [Centring::Off, Centring::On].into_iter().enumerate() {
                let got = spectrum(&x, centring).unwrap();
                assert_close(got.effective_rank(), want[3 * i], 1e-9);
                assert_close(got.rank_me(), want[3 * i + 1], 1e-9);
                assert_close(got.participation_ratio(), want[3 * i + 2], 1e-9);
            }
        }
    }

    #[test]
    fn equal_values_count_their_number_and_one_counts_one() {
        let even = Spectrum { values: vec![3.0; 5] };
        assert_close(even.effective_rank(), 5.0, 1e-12);
        assert_close(even.participation_ratio(), 5.0, 1e-12);
        assert_eq!((even.directions(0.8), even.directions(0.81), even.directions(1.0)), (4, 5, 5));
        let one = Spectrum { values: vec![2.0, 0.0, 0.0] };
        assert_eq!((one.effective_rank(), one.participation_ratio(), one.directions(1.0)), (1.0, 1.0, 1));
        // Two values 3:1: H = -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.5623.
        assert_close(Spectrum { values: vec![3.0, 1.0] }.effective_rank(), 1.754_765_350_603_323, 1e-12);
        assert_close(Spectrum { values: vec![1e200, 1e200] }.participation_ratio(), 2.0, 1e-12);
    }

    #[test]
    fn a_mean_hides_the_rest_until_it_is_taken_off() {
        let x = Features::new(4, normals(1, 2000).iter().map(|v| v + 100.0).collect()).unwrap();
        assert!(spectrum(&x, Centring::Off).unwrap().participation_ratio() < 1.1);
        assert!(spectrum(&x, Centring::On).unwrap().participation_ratio() > 3.8);
    }

    #[test]
    fn nothing_has_no_rank() {
        let same = Features::new(2, vec![0.1; 6]).unwrap();
        assert!(spectrum(&same, Centring::On).is_err());
        assert_close(spectrum(&same, Centring::Off).unwrap().effective_rank(), 1.0, 1e-6);
        assert!(spectrum(&Features::new(2, vec![0.0; 6]).unwrap(), Centring::Off).is_err());
        // One item: one direction.
        assert_eq!(spectrum(&Features::new(2, vec![3.0, 4.0]).unwrap(), Centring::Off).unwrap().values, [5.0]);
    }
}
