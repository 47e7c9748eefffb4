use pentimento_core::Level;

/// q(x_s | x_t, x0) of a Gaussian path between a noisier level t and a cleaner level s: a normal with mean
/// `state * x_t + data * x0`, per entry of the levels.
///
/// With r = alpha_t / alpha_s and u = sigma_t^2 - r^2 sigma_s^2 (the variance of x_t given x_s; beta_t of a
/// variance-preserving path): state = r sigma_s^2 / sigma_t^2, data = alpha_s u / sigma_t^2, variance
/// u sigma_s^2 / sigma_t^2. At alpha_t = 0 the state tells nothing; at sigma_s = 0 the mean is x0.
///
/// # Source
/// Ho et al. 2020 (arXiv 2006.11239), eqs. 6 and 7; Kingma et al. 2021 (arXiv 2107.00630), appendix A for any alpha, sigma.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// Coefficient of x_t in the mean.
    pub state: Vec<f64>,
    /// Coefficient of x0 in the mean.
    pub data: Vec<f64>,
    /// Variance: the lower bound for the reverse step (beta-tilde).
    pub variance: Vec<f64>,
    /// Variance of x_t given x_s: the upper bound (beta).
    pub upper: Vec<f64>,
}

impl Posterior {
    /// Between the level where a step starts and the one where it ends.
    ///
    /// # Panics
    /// When the levels have different numbers of entries.
    pub fn between(from: &Level, to: &Level) -> Self {
        assert_eq!(from.len(), to.len(), "levels of {} and {} entries", from.len(), to.len());
        let mut p = Self { state: vec![], data: vec![], variance: vec![], upper: vec![] };
        for i in 0..from.len() {
            let (at, st, a, s) = (from.alpha[i], from.sigma[i], to.alpha[i], to.sigma[i]);
            let r = at / a;
            let u = (st * st - r * r * s * s).max(0.0);
            let share = (s / st).powi(2);
            p.state.push(r * share);
            p.data.push(a * u / (st * st));
            p.variance.push(u * share);
            p.upper.push(u);
        }
        p
    }
}

/// (SNR(s) - SNR(t)) / 2: what the squared error of x0 costs in the variational bound, in nats, for the reverse step from
/// t to s (Kingma et al. 2021, arXiv 2107.00630, eq. 14).
pub fn elbo_weight(from: &Level, to: &Level) -> Vec<f64> {
    let snr = |l: &Level| l.map(|a, s| (a / s).powi(2));
    snr(to).iter().zip(snr(from)).map(|(s, t)| 0.5 * (s - t)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-10 * (1.0 + a.abs())
    }

    /// Against the product of the two Gaussians N(x_s; alpha_s x0, sigma_s^2) and N(x_t; r x_s, u), which needs no
    /// formula of the posterior.
    #[test]
    fn the_posterior_is_bayes_rule() {
        for p in path::ALL {
            let (from, to) = (p.level(0.7), p.level(0.4));
            let q = Posterior::between(&from, &to);
            let (r, s2) = (from.alpha[0] / to.alpha[0], to.sigma[0].powi(2));
            let u = from.sigma[0].powi(2) - r * r * s2;
            let precision = 1.0 / s2 + r * r / u;
            assert!(close(q.variance[0], 1.0 / precision), "{p}");
            assert!(close(q.state[0], r / u / precision), "{p}");
            assert!(close(q.data[0], to.alpha[0] / s2 / precision), "{p}");
        }
    }

    /// Forward then back leaves the marginal as it was: mean alpha_s x0, variance sigma_s^2.
    #[test]
    fn the_posterior_keeps_the_marginal() {
        for p in path::ALL {
            for (t, s) in [(1.0, 0.6), (0.5, 0.499), (0.1, 0.0)] {
                let (from, to) = (p.level(t), p.level(s));
                let q = Posterior::between(&from, &to);
                assert!(close(q.state[0] * from.alpha[0] + q.data[0], to.alpha[0]), "{p}");
                let var = (q.state[0] * from.sigma[0]).powi(2) + q.variance[0];
                assert!(close(var, to.sigma[0].powi(2)), "{p}");
            }
        }
    }

    /// KL of two normals with the posterior's variance, means apart by `data` times the error of x0.
    #[test]
    fn the_kl_of_a_step_is_half_the_drop_of_snr() {
        for p in path::ALL {
            let (from, to) = (p.level(0.7), p.level(0.55));
            let q = Posterior::between(&from, &to);
            let kl = q.data[0].powi(2) / (2.0 * q.variance[0]);
            assert!(close(kl, elbo_weight(&from, &to)[0]), "{p}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let flow = path::Path::Flow;
        let first = Posterior::between(&flow.level(1.0), &flow.level(0.75));
        assert!(first.state[0] == 0.0 && close(first.data[0], 0.25) && close(first.variance[0], 0.5625));
        let last = Posterior::between(&flow.level(0.25), &flow.level(0.0));
        assert!(last.state[0] == 0.0 && last.variance[0] == 0.0 && close(last.data[0], 1.0));
    }
}
