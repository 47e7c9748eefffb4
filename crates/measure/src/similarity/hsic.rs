use super::cka::Estimator;
use super::kernel::{Gram, Kernel, want_same_items};
use crate::{Features, Result};

/// Hilbert-Schmidt independence criterion: how much two representations of the same items depend on each other.
///
/// Biased: tr(K H L H) / (N - 1)^2, H = I - 1/N. Unbiased, with the diagonals of K and L set to 0:
/// (tr(K L) + 1'K1 1'L1 / ((N - 1)(N - 2)) - 2 1'K L1 / (N - 2)) / (N (N - 3)); it can be negative.
///
/// # Errors
/// Different numbers of items; fewer than 2 (biased) or 4 (unbiased); a bandwidth that is not positive.
///
/// # Cost
/// O(N^2 D) and three N x N matrices.
///
/// # Source
/// Gretton et al. 2005, eq. 9; Song et al. 2012 (J. Mach. Learn. Res. 13), eq. 5.
pub fn hsic(a: &Features, b: &Features, kernel: Kernel, estimator: Estimator) -> Result<f64> {
    want_same_items(a, b, estimator.least())?;
    let [k, l] = [Gram::new(a, kernel)?, Gram::new(b, kernel)?];
    Ok(match estimator {
        Estimator::Biased => k.centred().product(&l) / ((k.n - 1) as f64).powi(2),
        Estimator::Unbiased => unbiased(&mut { k }, &mut { l }),
    })
}

/// The unbiased estimate; the diagonals are set to 0 on the way. Symmetry is not needed: rows of K meet columns of L.
pub(super) fn unbiased(k: &mut Gram, l: &mut Gram) -> f64 {
    for gram in [&mut *k, &mut *l] {
        let step = gram.n + 1;
        gram.values.iter_mut().step_by(step).for_each(|v| *v = 0.0);
    }
    let n = k.n;
    let (mut trace, mut cross) = (0.0, 0.0);
    let mut column_sums = vec![0.0; n]; // 1'K
    for (i, row) in k.values.chunks(n).enumerate() {
        trace += row.iter().enumerate().map(|(j, v)| v * l.values[j * n + i]).sum::<f64>();
        column_sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    let row_sums: Vec<f64> = l.values.chunks(n).map(|row| row.iter().sum()).collect(); // L1
    cross += column_sums.iter().zip(&row_sums).map(|(a, b)| a * b).sum::<f64>();
    let (all_k, all_l) = (column_sums.iter().sum::<f64>(), row_sums.iter().sum::<f64>());
    let n = n as f64;
    (trace + all_k * all_l / ((n - 1.0) * (n - 2.0)) - 2.0 * cross / (n - 2.0)) / (n * (n - 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::normals;
    use crate::fixture::Fixture;
    use crate::similarity::KernelLength;

    #[test]
    fn equals_the_formula_in_numpy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let (a, b) = (file.features("similar.a"), file.features("similar.b"));
        let want = file.f64s("similar.hsic");
        let rbf = Kernel::Rbf(KernelLength::Absolute(2.0));
        for (i, (kernel, estimator)) in [
            (Kernel::Linear, Estimator::Biased),
            (Kernel::Linear, Estimator::Unbiased),
            (rbf, Estimator::Biased),
            (rbf, Estimator::Unbiased),
        ]
        .into_iter()
        .enumerate()
        {
            let got = hsic(&a, &b, kernel, estimator).unwrap();
            assert!((got / want[i] - 1.0).abs() < 1e-9, "{got} {}", want[i]);
        }
    }

    #[test]
    fn independent_representations_are_at_zero_only_without_bias() {
        let mean = |estimator| {
            let one = |seed| {
                let [a, b] = [seed, 1000 + seed].map(|s| Features::new(5, normals(s, 60)).unwrap());
                hsic(&a, &b, Kernel::Linear, estimator).unwrap()
            };
            (0..300).map(one).sum::<f64>() / 300.0
        };
        // 12 items: E[biased] = tr(Sa) tr(Sb) / (n - 1) = 25 / 11.
        assert!((mean(Estimator::Biased) - 25.0 / 11.0).abs() < 0.15);
        assert!(mean(Estimator::Unbiased).abs() < 0.15);
    }

    #[test]
    fn few_items_are_refused() {
        let x = Features::new(1, vec![1.0, 2.0, 4.0]).unwrap();
        assert!(hsic(&x, &x, Kernel::Linear, Estimator::Biased).is_ok());
        assert!(hsic(&x, &x, Kernel::Linear, Estimator::Unbiased).is_err());
        assert!(hsic(&x, &x.select(&[0, 1]).unwrap(), Kernel::Linear, Estimator::Biased).is_err());
    }
}
