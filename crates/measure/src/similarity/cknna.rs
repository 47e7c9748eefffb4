use super::hsic::unbiased;
use super::kernel::{Gram, want_same_items};
use crate::neighbours::{nearest, want_neighbours};
use crate::{Error, Features, Result};

/// Centred kernel alignment restricted to pairs that are neighbours in both representations: CKA that looks at near items only.
///
/// Item pairs (i, j) count where j is among the k nearest of i by inner product in both; with M that mask,
/// CKNNA = h(a, b) / sqrt(h(a, a) h(b, b)), h(a, b) = unbiased HSIC(M * K, M * L). At k = N - 1 it is unbiased linear CKA.
/// Rows are taken as they come: scale them to unit length (and clip outliers, as REPA does) where the paper's number is wanted.
///
/// # Errors
/// Different numbers of items, fewer than 4; k below 2 or not below their number; an alignment with itself that is not positive.
///
/// # Cost
/// O(N^2 D) and four N x N matrices.
///
/// # Source
/// Huh et al. 2024 (arXiv 2405.07987), appendix A; used by REPA (arXiv 2410.06940) with k = 10. The released code adds 1e-6 to the
/// denominator; here nothing is added.
pub fn cknna(a: &Features, b: &Features, k: usize) -> Result<f64> {
    want_same_items(a, b, 4)?;
    want_neighbours(k, a.n() - 1)?;
    if k < 2 {
        return Err(Error::Setting { name: "k", got: k as f64, want: "at least 2" });
    }
    let grams = [Gram::linear(a), Gram::linear(b)];
    let near = grams.each_ref().map(|gram| {
        let rows = gram.values.chunks(gram.n).enumerate();
        rows.map(|(i, row)| nearest(row, k, Some(i))).collect::<Vec<_>>()
    });
    let aligned = |i: usize, j: usize| {
        let [mut first, mut second] = [i, j].map(|side| masked(&grams[side], &near[i], &near[j]));
        unbiased(&mut first, &mut second)
    };
    let (ab, aa, bb) = (aligned(0, 1), aligned(0, 0), aligned(1, 1));
    for (what, own) in [("first representation", aa), ("second representation", bb)] {
        if own <= 0.0 {
            return Err(Error::NoSpread { what, measure: "an alignment" });
        }
    }
    Ok(ab / (aa.sqrt() * bb.sqrt()))
}

/// The values at pairs that are in both lists of neighbours, 0 elsewhere.
fn masked(gram: &Gram, first: &[Vec<usize>], second: &[Vec<usize>]) -> Gram {
    let n = gram.n;
    let mut values = vec![0.0; n * n];
    for (i, (first, second)) in first.iter().zip(second).enumerate() {
        for &j in first.iter().filter(|j| second.binary_search(j).is_ok()) {
            values[i * n + j] = gram.values[i * n + j];
        }
    }
    Gram { n, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};
    use crate::similarity::{Estimator, Kernel, cka};

    #[test]
    fn equals_the_plain_loops() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("similar.a"), file.features("similar.b"));
        let want = file.f64s("similar.cknna");
        assert_close(cknna(&a, &b, 5).unwrap(), want[0], 1e-9);
        assert_close(cknna(&a, &b, 12).unwrap(), want[1], 1e-9);
    }

    #[test]
    fn all_neighbours_make_it_unbiased_cka_and_copies_align() {
        let [a, b] = [1, 2].map(|seed| Features::new(4, normals(seed, 160)).unwrap());
        let full = cka(&a, &b, Kernel::Linear, Estimator::Unbiased).unwrap();
        assert_close(cknna(&a, &b, 39).unwrap(), full, 1e-10);
        assert_close(cknna(&a, &a, 6).unwrap(), 1.0, 1e-12);
        assert!(cknna(&a, &b, 1).is_err() && cknna(&a, &b, 40).is_err());
        let zero = Features::new(1, vec![0.0; 40]).unwrap();
        assert!(cknna(&a, &zero, 5).is_err());
    }
}
