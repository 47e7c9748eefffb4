//! Choices that gradients pass through: the Gumbel-softmax relaxation of a categorical variable.

use pentimento_core::{Noise, Stream};
use tch::{Device, Kind, Tensor};

/// Keeps the logarithm of a uniform number finite (the reference's constant).
const EPS: f64 = 1e-20;

/// Standard Gumbel noise, -ln(-ln u).
///
/// # Shapes
/// - `size`: `[B, ...]` with B = number of samples of `noise`
pub fn noise(noise: &Noise, size: &[i64], device: Device, stream: Stream) -> Tensor {
    let u = noise.uniform(size, device, stream);
    -((-(u + EPS).log()) + EPS).log()
}

/// Relaxed choices: y = softmax((ln pi + g) / tau) over the last axis.
///
/// tau -> 0 gives one-hot vectors of exact frequencies pi, tau -> infinity the uniform vector.
///
/// # Shapes
/// - `logits`: `[..., K]`, ln pi up to a constant; `g`: the same
///
/// # Source
/// Jang et al. 2016 (arXiv 1611.01144), eq. 2.
pub fn relaxed(logits: &Tensor, g: &Tensor, tau: f64) -> Tensor {
    ((logits + g) / tau).softmax(-1, Kind::Float)
}

/// The one-hot vector of the largest entry, with the gradient of `y`: y_hard - stop(y) + y.
///
/// # Shapes
/// - `y`: `[..., K]`; returns the same
pub fn straight_through(y: &Tensor) -> Tensor {
    // Added in this order the forward value is one-hot to the bit.
    one_hot(y) + (y - y.detach())
}

/// The one-hot vector of the largest entry, without gradient.
pub fn one_hot(y: &Tensor) -> Tensor {
    let k = y.size().last().copied().unwrap_or(1);
    y.argmax(-1, false).one_hot(k).to_kind(y.kind())
}

/// ln of the density of a relaxed choice on the simplex, over the last axis.
///
/// p(y) = Gamma(K) tau^(K-1) (sum_i pi_i y_i^-tau)^-K prod_i pi_i y_i^(-tau-1)
///
/// # Shapes
/// - `y`: `[..., K]` inside the simplex, `logits`: `[..., K]`; returns `[...]`
///
/// # Source
/// Jang et al. 2016 (arXiv 1611.01144), appendix B.
pub fn log_density(y: &Tensor, logits: &Tensor, tau: f64) -> Tensor {
    let k = y.size().last().copied().unwrap_or(1) as f64;
    let log_pi = logits.log_softmax(-1, logits.kind());
    let scaled = &log_pi - y.log() * tau; // ln of pi_i y_i^-tau
    let front: f64 = (1..).map(f64::from).take_while(|i| *i < k).map(f64::ln).sum::<f64>() + (k - 1.0) * tau.ln();
    let norm = scaled.logsumexp(-1, false) * -k;
    norm + (scaled - y.log()).sum_dim_intlist(-1, false, y.kind()) + front
}

/// KL(q || uniform) of independent categorical variables in nats, summed over all but the first axis: `[B]`.
///
/// KL = sum_k q_k ln(K q_k)
///
/// # Shapes
/// - `logits`: `[B, ..., K]`
pub fn kl_to_uniform(logits: &Tensor) -> Tensor {
    let k = logits.size().last().copied().unwrap_or(1) as f64;
    let log_q = logits.log_softmax(-1, Kind::Float);
    (log_q.exp() * (&log_q + k.ln())).flatten(1, -1).sum_dim_intlist(1, false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(n: u64, k: i64) -> Tensor {
        noise(&Noise::new(3, (0..n).collect()), &[i64::try_from(n).unwrap(), k], Device::Cpu, Stream::Own)
    }

    const PI: [f64; 4] = [0.5, 0.3, 0.15, 0.05];

    fn log_pi() -> Tensor {
        Tensor::from_slice(&PI).log().to_kind(Kind::Float)
    }

    /// Chi-square with 3 degrees of freedom over 1e5 draws; 16.27 is passed once in a thousand times.
    #[test]
    fn the_largest_entry_has_the_frequencies_of_the_choice() {
        let n = 100_000;
        for tau in [0.1, 1.0, 5.0] {
            let y = relaxed(&log_pi(), &draws(n, 4), tau);
            let counts: Vec<f64> = Vec::try_from(one_hot(&y).sum_dim_intlist(0, false, Kind::Double)).unwrap();
            let chi2: f64 = counts.iter().zip(PI).map(|(c, p)| (c - p * n as f64).powi(2) / (p * n as f64)).sum();
            assert!(chi2 < 16.27, "{chi2}: {counts:?}");
        }
    }

    #[test]
    fn cold_choices_are_one_hot_and_hot_ones_uniform() {
        let g = draws(200, 4);
        let cold = relaxed(&log_pi(), &g, 1e-3);
        assert!((&cold - one_hot(&cold)).abs().mean(Kind::Double).double_value(&[]) < 1e-3);
        let hot = relaxed(&log_pi(), &g, 1e5);
        assert!((hot - 0.25).abs().max().double_value(&[]) < 1e-3);
        assert!(g.isfinite().all().int64_value(&[]) == 1);
    }

    /// With two classes the first entry is the logistic function of (l_1 - l_2 + g_1 - g_2) / tau.
    #[test]
    fn two_classes_are_the_logistic_relaxation() {
        let (logits, g) = (Tensor::from_slice(&[0.3_f32, -0.4]), draws(50, 2));
        let y = relaxed(&logits, &g, 0.7).select(1, 0);
        let want = ((g.select(1, 0) - g.select(1, 1) + 0.7) / 0.7).sigmoid();
        assert!((y - want).abs().max().double_value(&[]) < 1e-6);
    }

    /// The midpoint rule on the 1-simplex and on the 2-simplex.
    #[test]
    fn the_density_integrates_to_one() {
        let n = 20_000;
        let grid = (Tensor::arange(n, (Kind::Double, Device::Cpu)) + 0.5) / n as f64;
        let y = Tensor::stack(&[&grid, &(1.0 - &grid)], 1);
        for (tau, p) in [(0.8, 0.3_f64), (1.0, 0.5), (2.0, 0.9)] {
            let logits = Tensor::from_slice(&[p.ln(), (1.0 - p).ln()]);
            let total = log_density(&y, &logits, tau).exp().mean(Kind::Double).double_value(&[]);
            assert!((total - 1.0).abs() < 2e-2, "tau {tau}: {total}");
        }
        let m = 600;
        let side = (Tensor::arange(m, (Kind::Double, Device::Cpu)) + 0.5) / m as f64;
        let (a, b) = (side.view([m, 1]).expand([m, m], false), side.view([1, m]).expand([m, m], false));
        let c: Tensor = 1.0 - &a - &b;
        let inside = c.gt(1e-9);
        let y = Tensor::stack(&[a, b, c.clamp_min(1e-9)], 2);
        let logits = Tensor::from_slice(&[0.5_f64, 0.3, 0.2]).log();
        let p = log_density(&y, &logits, 1.5).exp() * inside;
        let total = p.sum(Kind::Double).double_value(&[]) / (m * m) as f64;
        assert!((total - 1.0).abs() < 2e-2, "{total}");
    }

    /// For a linear function the true gradient is pi_i (a_i - pi . a). The relaxation's mean gradient approaches it as it cools.
    #[test]
    fn gradients_of_a_linear_function_approach_the_exact_ones_as_it_cools() {
        let (pi, a) = ([0.5, 0.3, 0.2], [1.0, -2.0, 0.5]);
        let mean: f64 = pi.iter().zip(a).map(|(p, a)| p * a).sum();
        let exact: Vec<f64> = pi.iter().zip(a).map(|(p, a)| p * (a - mean)).collect();
        let weights = Tensor::from_slice(&a).to_kind(Kind::Float);
        let gap = |tau: f64| {
            let logits = Tensor::from_slice(&pi).log().to_kind(Kind::Float).set_requires_grad(true);
            let y = straight_through(&relaxed(&logits, &draws(100_000, 3), tau));
            y.matmul(&weights).mean(Kind::Float).backward();
            let found: Vec<f64> = Vec::try_from(logits.grad().to_kind(Kind::Double)).unwrap();
            found.iter().zip(&exact).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max)
        };
        let (cold, warm, hot) = (gap(0.1), gap(1.0), gap(5.0));
        assert!(cold < 0.03 && cold < warm && warm < hot && hot > 0.2, "{cold} {warm} {hot}");
    }

    #[test]
    fn straight_through_is_one_hot_forward_and_soft_backward() {
        let logits = log_pi().set_requires_grad(true);
        let y = straight_through(&logits.softmax(-1, Kind::Float));
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [1.0, 0.0, 0.0, 0.0]);
        y.get(1).backward();
        let grad: Vec<f32> = Vec::try_from(logits.grad()).unwrap();
        // d softmax_1 / d l = pi_1 (delta - pi)
        for (g, (i, p)) in grad.iter().zip(PI.iter().enumerate()) {
            assert!((f64::from(*g) - 0.3 * (f64::from(i == 1) - p)).abs() < 1e-6, "{grad:?}");
        }
    }

    #[test]
    fn the_divergence_is_zero_at_uniform_and_ln_k_at_certainty() {
        let logits = Tensor::from_slice(&[2.0_f32, 2.0, 2.0, 90.0, 0.0, 0.0]).view([2, 1, 3]);
        let kl: Vec<f32> = Vec::try_from(kl_to_uniform(&logits)).unwrap();
        assert!(kl[0].abs() < 1e-6 && (f64::from(kl[1]) - 3.0_f64.ln()).abs() < 1e-5, "{kl:?}");
    }
}
