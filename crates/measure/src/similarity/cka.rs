use super::hsic::unbiased;
use super::kernel::{Gram, Kernel, want_same_items};
use crate::{Error, Features, Result};
use serde::{Deserialize, Serialize};

/// Whether dependence is estimated with or without bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Centred kernels; in [0, 1] but drawn to 1 as the width grows against the number of items.
    #[default]
    Biased,
    /// Without the diagonal; near 0 for unrelated representations of any width, and at times below.
    Unbiased,
}

impl Estimator {
    /// Fewest items it can be taken on.
    pub(super) fn least(self) -> usize {
        match self {
            Self::Biased => 2,
            Self::Unbiased => 4,
        }
    }
}

/// Centred kernel alignment of two representations of the same items: 1 if they agree up to rotation and scale (linear kernel).
///
/// HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).
///
/// # Errors
/// Different numbers of items; fewer than 2 (biased) or 4 (unbiased); a representation that is the same for all items, or whose
/// unbiased HSIC with itself is not positive; a bandwidth that is not positive.
///
/// # Cost
/// O(N^2 D) and four N x N matrices.
///
/// # Source
/// Kornblith et al. 2019 (arXiv 1905.00414); without bias as in Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327).
pub fn cka(a: &Features, b: &Features, kernel: Kernel, estimator: Estimator) -> Result<f64> {
    want_same_items(a, b, estimator.least())?;
    let [mut k, mut l] = [Gram::new(a, kernel)?, Gram::new(b, kernel)?];
    let (kl, kk, ll) = match estimator {
        Estimator::Biased => {
            let (k, l) = (k.centred(), l.centred());
            (k.product(&l), k.product(&k), l.product(&l))
        }
        Estimator::Unbiased => {
            let kl = unbiased(&mut k, &mut l);
            let own = |gram: &mut Gram| {
                let mut copy = Gram { n: gram.n, values: gram.values.clone() };
                unbiased(gram, &mut copy)
            };
            (kl, own(&mut k), own(&mut l))
        }
    };
    for (what, x, own) in [("first representation", a, kk), ("second representation", b, ll)] {
        // Equal rows leave rounding alone, which must not be divided by.
        if x.values().chunks(x.d()).all(|row| row == x.row(0)) || own <= 0.0 {
            return Err(Error::NoSpread { what, measure: "an alignment" });
        }
    }
    Ok(kl / (kk.sqrt() * ll.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};
    use crate::similarity::KernelLength;

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("similar.a"), file.features("similar.b"));
        let want = file.f64s("similar.cka");
        let rbf = Kernel::Rbf(KernelLength::Absolute(2.0));
        let cases = [(Kernel::Linear, Estimator::Biased), (Kernel::Linear, Estimator::Unbiased)]
            .into_iter()
            .chain([(rbf, Estimator::Biased), (rbf, Estimator::Unbiased)]);
        for (i, (kernel, estimator)) in cases.enumerate() {
            assert_close(cka(&a, &b, kernel, estimator).unwrap(), want[i], 1e-9);
        }
        // More columns than items.
        let (wide, b) = (file.features("similar.wide"), file.features("similar.b"));
        assert_close(cka(&wide, &b, Kernel::Linear, Estimator::Biased).unwrap(), want[4], 1e-9);
    }

    #[test]
    fn rotation_and_scale_do_not_matter_and_other_linear_maps_do() {
        let values = normals(1, 120);
        let x = Features::new(2, values.clone()).unwrap();
        let map = |m: [f32; 4]| {
            let rows = values.chunks(2).flat_map(|r| [m[0] * r[0] + m[1] * r[1] + 1.0, m[2] * r[0] + m[3] * r[1]]);
            Features::new(2, rows.collect()).unwrap()
        };
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let turned = cka(&x, &map([0.6, -0.8, 0.8, 0.6]), Kernel::Linear, estimator).unwrap();
            assert_close(turned, 1.0, 1e-6);
            let stretched = cka(&x, &map([9.0, 0.0, 0.0, 0.1]), Kernel::Linear, estimator).unwrap();
            assert!(stretched < 0.9, "{stretched}");
        }
    }

    #[test]
    fn width_inflates_the_biased_estimate_alone() {
        let [a, b] = [1, 2].map(|seed| Features::new(400, normals(seed, 40 * 400)).unwrap());
        assert!(cka(&a, &b, Kernel::Linear, Estimator::Biased).unwrap() > 0.8);
        assert!(cka(&a, &b, Kernel::Linear, Estimator::Unbiased).unwrap().abs() < 0.05);
    }

    #[test]
    fn what_has_no_alignment_is_named() {
        let x = Features::new(1, vec![1.0, 2.0, 4.0, 8.0]).unwrap();
        let flat = Features::new(2, vec![0.1; 8]).unwrap();
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let error = cka(&x, &flat, Kernel::Linear, estimator).unwrap_err();
            assert_eq!(error, Error::NoSpread { what: "second representation", measure: "an alignment" });
        }
        let one = Features::new(1, vec![1.0]).unwrap();
        assert!(cka(&one, &one, Kernel::Linear, Estimator::Biased).is_err());
    }
}
