//! InfoNCE: finding the partner of a code among noise, and the mutual information that the finding proves.

use tch::Tensor;

/// The loss of choosing, by a softmax over scores, the candidate that belongs to each anchor:
///
/// L_i = -ln( exp s_ii / sum_j exp s_ij )
///
/// It is ln N where all scores are equal, and least where s is ln p(candidate | anchor) / p(candidate) up to a number that may
/// differ between anchors. Candidates beyond the number of anchors belong to none: negatives from a queue or another batch.
///
/// # Shapes
/// - `scores`: `[..., B, N]` with N >= B, of anchor i and candidate j; candidate i is that of anchor i
/// - returns: `[..., B]`
///
/// # Source
/// van den Oord et al. 2018 (arXiv 1807.03748), eq. 4.
pub fn info_nce(scores: &Tensor) -> Tensor {
    scores.logsumexp(-1, false) - scores.diagonal(0, -2, -1)
}

/// ln N - L: a lower bound, in nats, on the mutual information of anchor and candidate. No more than ln N can be proved.
///
/// # Source
/// van den Oord et al. 2018 (arXiv 1807.03748), section 2.3 and appendix A.1.
pub fn information_bound(loss: f64, candidates: i64) -> f64 {
    (candidates as f64).ln() - loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;
    use tch::{Device, Kind};

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(5, name, size).to_kind(Kind::Double)
    }

    fn mean(t: &Tensor) -> f64 {
        t.mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn it_is_the_softmax_written_out_and_further_candidates_are_noise() {
        let s = draw("s", &[2, 3, 5]);
        let got = info_nce(&s);
        assert_eq!(got.size(), [2, 3]);
        for (k, i) in [(0, 0), (0, 2), (1, 1)] {
            let at = |j: i64| s.double_value(&[k, i, j]).exp();
            let want = -(at(i) / (0..5).map(at).sum::<f64>()).ln();
            assert!((got.double_value(&[k, i]) - want).abs() < 1e-12, "{k} {i}");
        }
    }

    #[test]
    fn equal_scores_give_ln_n_and_a_number_of_the_anchor_changes_nothing() {
        let flat = Tensor::full([4, 9], 700.0, (Kind::Double, Device::Cpu));
        assert!((mean(&info_nce(&flat)) - 9.0_f64.ln()).abs() < 1e-12, "also where exp would overflow");
        let s = draw("s", &[6, 6]);
        let own = draw("c", &[6, 1]) * 50.0;
        assert!((info_nce(&(&s + &own)) - info_nce(&s)).abs().max().double_value(&[]) < 1e-12);
        let of_candidates = info_nce(&(&s + own.tr())) - info_nce(&s);
        assert!(of_candidates.abs().max().double_value(&[]) > 1.0, "one of the candidate does");
        assert!(information_bound(9.0_f64.ln(), 9).abs() < 1e-12);
    }

    /// Standard normals of correlation rho: the density ratio is known, and so is the information, -1/2 ln(1 - rho^2). The bound
    /// rises to it with N, never passes it, and is lower for any other critic. The pairs are the same at every N, only grouped
    /// otherwise.
    #[test]
    fn of_correlated_normals_the_bound_rises_to_the_information() {
        let rho = 0.8_f64;
        let (noise, information) = (1.0 - rho * rho, -0.5 * (1.0 - rho * rho).ln());
        let bound = |n: i64, sharpness: f64| {
            let batches = 8192_i64.div_euclid(n);
            let x = draw("x", &[batches, n, 1]);
            let y = &x * rho + draw("e", &[batches, n, 1]) * noise.sqrt();
            let y = y.transpose(1, 2); // [batches, 1, n] beside [batches, n, 1]
            // ln p(y|x) - ln p(y)
            let ratio = y.square() * 0.5 - (&y - x * rho).square() / (2.0 * noise) - 0.5 * noise.ln();
            let loss = info_nce(&(ratio * sharpness));
            let error = loss.std(true).double_value(&[]) / (loss.numel() as f64).sqrt();
            (information_bound(mean(&loss), n), error)
        };
        let mut last = 0.0;
        for n in [2, 8, 64, 512] {
            let (found, error) = bound(n, 1.0);
            assert!(found > last && found < information + 4.0 * error, "{n}: {found} +- {error} of {information}");
            last = found;
        }
        let (found, error) = bound(512, 1.0);
        assert!(
            (found - information).abs() < 0.01 + 4.0 * error && error < 0.01,
            "{found} +- {error} of {information}"
        );
        assert!(bound(512, 0.5).0 < found - 0.02 && bound(512, 1.5).0 < found - 0.02);
    }
}
