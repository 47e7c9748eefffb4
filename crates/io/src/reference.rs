//! Reference statistics of Frechet distances, and the picture batches that go with them, as the ADM and EDM evaluators exchange
//! them.
//!
//! An npz with `mu [D]` and `sigma [D, D]`: EDM's `fid-refs`. ADM's `VIRTUAL_*` files have, besides, `mu_s` and `sigma_s` of
//! spatial features (for sFID) and pictures `arr_0 [N, H, W, 3]` (for precision and recall), with labels `arr_1 [N]` in some.
//! None of them says of how many pictures the statistics are.
//!
//! # Source
//! openai/guided-diffusion `evaluations/evaluator.py`; NVlabs/edm `fid.py`.

use std::path::Path;

use crate::atomic::write_atomic;
use crate::npz::{self, Npz};
use crate::{Array, Error, Result, Values};

const ADVICE: &str = "save mu [D] and sigma [D, D] as floats with numpy.savez";

/// Mean and covariance of D features.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// `[D]`
    pub mean: Vec<f64>,
    /// `[D, D]`, row after row; symmetric.
    pub covariance: Vec<f64>,
}

/// Statistics of a reference file; its pictures, where there are some, are read by [`Npz::batch`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// `mu` and `sigma`: of the features pooled over a picture.
    pub pool: Moments,
    /// `mu_s` and `sigma_s`: of the features that keep their places.
    pub spatial: Option<Moments>,
}

impl Reference {
    /// Whether an npz holds statistics.
    pub fn recognise(npz: &Npz) -> bool {
        npz.has("mu") && npz.has("sigma")
    }

    /// Reads the statistics of a file.
    ///
    /// # Errors
    /// As [`Reference::from_npz`], and when the file cannot be opened.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_npz(&Npz::open(path)?)
    }

    /// Reads the statistics of an opened npz; single precision is widened.
    ///
    /// # Errors
    /// When `mu` or `sigma` is not there, one of `mu_s` and `sigma_s` comes without the other, shapes do not fit, values are no
    /// finite floats, or a covariance is not symmetric.
    pub fn from_npz(npz: &Npz) -> Result<Self> {
        let pool = moments(npz, "mu", "sigma")?;
        let any_spatial = npz.has("mu_s") || npz.has("sigma_s");
        let spatial = any_spatial.then(|| moments(npz, "mu_s", "sigma_s")).transpose()?;
        Ok(Self { pool, spatial })
    }

    /// Writes the statistics in double precision, all or nothing, with the pictures and labels they go with if given.
    ///
    /// # Shapes
    /// - `batch`: `[N, H, W, C]` bytes with 1, 3 or 4 channels, and N labels
    ///
    /// # Errors
    /// When the sizes do not fit together, or the system refuses.
    pub fn write(&self, path: &Path, batch: Option<(&Array, Option<&[i64]>)>) -> Result<()> {
        let mut arrays = Vec::new();
        let named = [(Some(&self.pool), "mu", "sigma"), (self.spatial.as_ref(), "mu_s", "sigma_s")];
        for (moments, mu, sigma) in named {
            let Some(Moments { mean, covariance }) = moments else { continue };
            let d = mean.len();
            if d == 0 || covariance.len() != d * d {
                let found = format!("{} values for a mean of {d}, expected {}", covariance.len(), d * d);
                return Err(Error::bad(path, format!("array {sigma}"), found, "give D means and D x D covariances"));
            }
            arrays.push((mu, Array::new(vec![d], Values::F64(mean.clone()))));
            arrays.push((sigma, Array::new(vec![d, d], Values::F64(covariance.clone()))));
        }
        if let Some((images, labels)) = batch {
            arrays.extend(batch_arrays(path, images, labels)?);
        }
        save(path, &arrays)
    }
}

/// Writes a batch of pictures in the ADM layout, all or nothing: `arr_0`, and labels as `arr_1`.
///
/// # Shapes
/// - `images`: `[N, H, W, C]` bytes with 1, 3 or 4 channels
/// - `labels`: `[N]`
///
/// # Errors
/// When the arrays are not such, or the system refuses.
pub fn write_batch(path: &Path, images: &Array, labels: Option<&[i64]>) -> Result<()> {
    save(path, &batch_arrays(path, images, labels)?)
}

fn batch_arrays(path: &Path, images: &Array, labels: Option<&[i64]>) -> Result<Vec<(&'static str, Array)>> {
    let ([n, _, _, 1 | 3 | 4], Values::U8(_)) = (images.shape(), images.values()) else {
        let found = format!("shape {:?}, expected [N, H, W, 3] bytes", images.shape());
        return Err(Error::bad(path, "array arr_0", found, "give a batch of 8-bit pictures, channels last"));
    };
    let mut arrays = vec![("arr_0", images.clone())];
    if let Some(labels) = labels {
        if labels.len() != *n {
            let found = format!("{} labels, expected {n}", labels.len());
            return Err(Error::bad(path, "array arr_1", found, "give one label a picture"));
        }
        arrays.push(("arr_1", Array::new(vec![*n], Values::I64(labels.to_vec()))));
    }
    Ok(arrays)
}

fn save(path: &Path, arrays: &[(&'static str, Array)]) -> Result<()> {
    write_atomic(path, |to| npz::write(to, arrays.iter().map(|(name, array)| (*name, array))))
}

fn moments(npz: &Npz, mu: &str, sigma: &str) -> Result<Moments> {
    let path = npz.source().path();
    let bad = |name: &str, found: String| Error::bad(path, format!("array {name}"), found, ADVICE);
    let (mean, covariance) = (npz.array(mu)?, npz.array(sigma)?);
    let d = match mean.shape() {
        &[d] if d > 0 => d,
        shape => return Err(bad(mu, format!("shape {shape:?}, expected [D]"))),
    };
    if covariance.shape() != [d, d] {
        return Err(bad(sigma, format!("shape {:?}, expected [{d}, {d}]", covariance.shape())));
    }
    let finite = |name: &str, array: Array| {
        let values = match array.into_values() {
            Values::F64(v) => v,
            Values::F32(v) => v.into_iter().map(f64::from).collect(),
            _ => return Err(bad(name, "values that are no floats, expected f4 or f8".to_owned())),
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(bad(name, format!("value {i} is {}, expected finite numbers", values[i]))),
            None => Ok(values),
        }
    };
    let (mean, covariance) = (finite(mu, mean)?, finite(sigma, covariance)?);
    // Statistics kept in single precision are symmetric to about 1e-7 of their largest entry.
    const TOLERANCE: f64 = 1e-5;
    let most = covariance.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for i in 0..d {
        if let Some(j) = (0..i).find(|&j| (covariance[i * d + j] - covariance[j * d + i]).abs() > TOLERANCE * most) {
            return Err(bad(sigma, format!("entries ({i}, {j}) and ({j}, {i}) differ, expected a symmetric matrix")));
        }
    }
    Ok(Moments { mean, covariance })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::source::Source;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn pair(d: usize) -> Moments {
        let covariance = (0..d * d).map(|k| (k.div_euclid(d) + k % d) as f64 * 0.25).collect();
        Moments { mean: (0..d).map(|k| k as f64 - 0.5).collect(), covariance }
    }

    fn read(arrays: &[(&str, Array)]) -> Result<Reference> {
        let mut bytes = Cursor::new(Vec::new());
        npz::write(&mut bytes, arrays.iter().map(|(n, a)| (*n, a))).unwrap();
        let source = Source::from_bytes("r.npz", bytes.into_inner());
        Reference::from_npz(&Npz::from_source(&source, &Limits::TIGHT)?)
    }

    fn floats(shape: &[usize], values: Vec<f64>) -> Array {
        Array::new(shape.to_vec(), Values::F64(values))
    }

    #[test]
    fn adm_and_edm_files_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ref.npz");
        let edm = Reference { pool: pair(3), spatial: None };
        edm.write(&path, None).unwrap();
        assert_eq!(Reference::read(&path).unwrap(), edm);
        assert_eq!(Npz::open(&path).unwrap().names().collect::<Vec<_>>(), ["mu", "sigma"]);

        let images = Array::new(vec![2, 1, 2, 3], Values::U8((0..12).collect()));
        let adm = Reference { spatial: Some(pair(2)), ..edm };
        adm.write(&path, Some((&images, Some(&[4, 9])))).unwrap();
        let npz = Npz::open(&path).unwrap();
        assert!(Reference::recognise(&npz));
        assert_eq!(npz.names().collect::<Vec<_>>(), ["mu", "sigma", "mu_s", "sigma_s", "arr_0", "arr_1"]);
        assert_eq!(Reference::from_npz(&npz).unwrap(), adm);
        assert_eq!(npz.batch().unwrap(), (images.clone(), Some(vec![4, 9])));

        write_batch(&path, &images, None).unwrap();
        let npz = Npz::open(&path).unwrap();
        assert_eq!(npz.batch().unwrap(), (images, None));
        assert!(!Reference::recognise(&npz));
    }

    #[test]
    fn single_precision_is_widened_and_its_rounding_is_not_asymmetry() {
        let sigma = Array::new(vec![2, 2], Values::F32(vec![1.0, 0.3, 0.300_000_03, 2.0]));
        let got = read(&[("sigma", sigma), ("mu", Array::new(vec![2], Values::F32(vec![0.5, 1.5])))]).unwrap();
        assert_eq!((got.pool.mean, got.pool.covariance[3]), (vec![0.5, 1.5], 2.0));
    }

    #[test]
    fn wrong_shapes_and_kinds_are_named() {
        let mu = || ("mu", floats(&[2], vec![0.0; 2]));
        let sigma = || ("sigma", floats(&[2, 2], vec![1.0, 0.0, 0.0, 1.0]));
        let cases = [
            (vec![mu()], "no array 'sigma'; there are mu"),
            (vec![sigma()], "no array 'mu'"),
            (vec![("mu", floats(&[1, 2], vec![0.0; 2])), sigma()], "array mu: shape [1, 2], expected [D]"),
            (
                vec![("mu", floats(&[0], vec![])), ("sigma", floats(&[0, 0], vec![]))],
                "array mu: shape [0], expected [D]",
            ),
            (vec![mu(), ("sigma", floats(&[4], vec![1.0; 4]))], "array sigma: shape [4], expected [2, 2]"),
            (
                vec![("mu", Array::new(vec![2], Values::I64(vec![1, 2]))), sigma()],
                "array mu: values that are no floats",
            ),
            (vec![mu(), ("sigma", floats(&[2, 2], vec![1.0, 0.5, -0.5, 1.0]))], "entries (1, 0) and (0, 1) differ"),
            (vec![("mu", floats(&[2], vec![0.0, f64::NAN])), sigma()], "array mu: value 1 is NaN"),
            (vec![mu(), sigma(), ("mu_s", floats(&[1], vec![0.0]))], "no array 'sigma_s'"),
        ];
        for (arrays, why) in cases {
            let said = read(&arrays).unwrap_err().to_string();
            assert!(said.starts_with("r.npz: ") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ref.npz");
        let short = Moments { mean: vec![0.0; 2], covariance: vec![1.0; 3] };
        assert!(Reference { pool: short, spatial: None }.write(&path, None).is_err());
        let images = Array::new(vec![2, 1, 1, 3], Values::U8(vec![0; 6]));
        assert!(write_batch(&path, &images, Some(&[1])).unwrap_err().to_string().contains("1 labels, expected 2"));
        let floats = Array::new(vec![2, 1, 1, 3], Values::F32(vec![0.0; 6]));
        assert!(write_batch(&path, &floats, None).is_err());
        assert!(!path.exists());
    }

    /// Mean and covariance from a mean and any square: the square and its transpose, summed.
    fn symmetric(d: usize) -> impl Strategy<Value = Moments> {
        let number = || -1e3..1e3_f64;
        (prop::collection::vec(number(), d), prop::collection::vec(number(), d * d)).prop_map(move |(mean, a)| {
            let at = |k: usize| (k.div_euclid(d), k % d);
            let covariance = (0..d * d).map(at).map(|(i, j)| a[i * d + j] + a[j * d + i]).collect();
            Moments { mean, covariance }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_written_is_read(
            pool in (1..7_usize).prop_flat_map(symmetric),
            spatial in prop::option::of((1..4_usize).prop_flat_map(symmetric)),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ref.npz");
            let reference = Reference { pool, spatial };
            reference.write(&path, None).unwrap();
            prop_assert_eq!(Reference::read(&path).unwrap(), reference);
        }

        /// One entry off the diagonal moved by more than rounding is refused.
        #[test]
        fn an_asymmetric_covariance_is_refused(
            (moments, at) in (2..6_usize).prop_flat_map(|d| (symmetric(d), (0..d, 1..d))), by in 0.1..9.0_f64,
        ) {
            let d = moments.mean.len();
            let (row, column) = (at.0, (at.0 + at.1) % d);
            let mut covariance = moments.covariance;
            let most = covariance.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
            covariance[row * d + column] += by * most;
            let arrays = [("mu", floats(&[d], moments.mean)), ("sigma", floats(&[d, d], covariance))];
            let said = read(&arrays).unwrap_err().to_string();
            prop_assert!(said.contains("array sigma: entries"), "{}", said);
        }
    }
}
