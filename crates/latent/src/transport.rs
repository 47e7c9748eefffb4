//! Optimal transport between weighted points, smoothed by entropy and solved in the logarithmic domain.

use tch::Tensor;

/// What is less than e^-60 of the largest summand counts as that much: it moves no digit, and keeps exponentials and their products
/// out of the denormal numbers, on which a processor is ten times slower.
const LEAST: f64 = -60.0;

/// ln of the sum of exp over an axis.
fn log_sum_exp(x: &Tensor, axis: i64) -> Tensor {
    let largest = x.detach().amax([axis].as_slice(), true);
    let sum = (x - &largest).clamp_min(LEAST).exp().sum_dim_intlist(axis, false, x.kind());
    sum.log() + largest.squeeze_dim(axis)
}

/// The same of a tensor that nothing needs afterwards and no gradient passes, in its own memory.
fn log_sum_exp_of(mut x: Tensor, axis: i64) -> Tensor {
    let largest = x.amax([axis].as_slice(), true);
    let _ = x.subtract_(&largest).clamp_min_(LEAST).exp_();
    x.sum_dim_intlist(axis, false, x.kind()).log() + largest.squeeze_dim(axis)
}

/// Squared Euclidean distances of every row of `x` to every row of `y`, by the expanded square.
///
/// # Shapes
/// - `x`: `[..., N, D]`, `y`: `[K, D]`
/// - returns: `[..., N, K]`, never negative
pub fn squared_distances(x: &Tensor, y: &Tensor) -> Tensor {
    let norm = |t: &Tensor| t.square().sum_dim_intlist(-1, false, t.kind());
    let apart = norm(x).unsqueeze(-1) + norm(y) - x.matmul(&y.tr()) * 2.0;
    // Rounding may leave a little less than nothing.
    apart.clamp_min(0.0)
}

/// The problem of carrying masses a of N points to masses b of K others at costs D,
///
/// W = min_P  <P, D> + eps KL(P || a b^T),   P 1 = a,  P^T 1 = b
///
/// by its semi-dual, whose unknowns are K potentials phi:
///
/// W = max_phi  sum_k b_k phi_k - eps sum_n a_n ln( sum_k b_k exp((phi_k - D_nk) / eps) )
///
/// As eps -> 0 it is the linear programme, as eps -> infinity P = a b^T. Leading axes are problems of their own.
///
/// # Source
/// Genevay et al. 2016 (arXiv 1605.08527), section 2, eq. S_eps.
#[derive(Debug)]
pub struct Transport {
    /// D, `[..., N, K]`.
    pub cost: Tensor,
    /// ln a, `[..., N]` or `[N]`.
    pub log_a: Tensor,
    /// ln b, `[..., K]`.
    pub log_b: Tensor,
    /// eps, above zero, in the unit of the costs.
    pub eps: f64,
}

impl Transport {
    /// From N points of equal mass.
    pub fn from_equal(cost: Tensor, log_b: Tensor, eps: f64) -> Self {
        let n = cost.size()[cost.dim() - 2];
        let log_a = Tensor::full([n], -(n as f64).ln(), (cost.kind(), cost.device()));
        Self { cost, log_a, log_b, eps }
    }

    /// The same problem as a constant.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { cost: self.cost.detach(), log_a: self.log_a.detach(), log_b: self.log_b.detach(), eps: self.eps }
    }

    /// ln of b_k exp((phi_k - D_nk) / eps), `[..., N, K]`.
    fn scores(&self, phi: &Tensor) -> Tensor {
        self.log_b.unsqueeze(-2) + (phi.unsqueeze(-2) - &self.cost) / self.eps
    }

    /// The semi-dual at phi: W at its maximum, below it elsewhere.
    ///
    /// Its derivatives are those of W once phi is the maximum, however that was found: in D the plan of phi, in b phi itself but
    /// for a constant, in phi what is missing of b in the plan's columns. So phi may be held fixed, and no solver is passed through
    /// backward.
    ///
    /// # Shapes
    /// - `phi`: `[..., K]`
    /// - returns: `[...]`
    pub fn semi_dual(&self, phi: &Tensor) -> Tensor {
        let rows = log_sum_exp(&self.scores(phi), -1); // [..., N]
        let sum = |t: Tensor| t.sum_dim_intlist(-1, false, phi.kind());
        sum(self.log_b.exp() * phi) - sum(self.log_a.exp() * rows) * self.eps
    }

    /// P_nk = a_n b_k exp((phi_k - D_nk) / eps) / (its sum over k): rows have their masses at any phi, columns at the maximum.
    ///
    /// # Shapes
    /// - `phi`: `[..., K]`
    /// - returns: `[..., N, K]`
    pub fn plan(&self, phi: &Tensor) -> Tensor {
        (self.scores(phi).log_softmax(-1, phi.kind()) + self.log_a.unsqueeze(-1)).exp()
    }

    /// Better potentials by rounds of Sinkhorn's iteration, each of which gives the columns their masses and then the rows:
    ///
    /// phi_k <- phi_k + eps (ln b_k - ln sum_n P_nk)
    ///
    /// Records no gradient.
    ///
    /// # Shapes
    /// - `phi`: `[..., K]`, zeros, or where the last batch ended; returns the same
    ///
    /// # Cost
    /// Two passes over the costs a round; the number of rounds to a given accuracy grows as 1 / eps.
    ///
    /// # Source
    /// Cuturi 2013 (arXiv 1306.0895), algorithm 1, in logarithms.
    pub fn sinkhorn(&self, phi: &Tensor, rounds: usize) -> Tensor {
        let _guard = tch::no_grad_guard();
        let near = &self.cost * (-1.0 / self.eps);
        let mut scaled = phi / self.eps;
        for _ in 0..rounds {
            let rows = log_sum_exp_of(&near + (&scaled + &self.log_b).unsqueeze(-2), -1); // [..., N]
            scaled = -log_sum_exp_of(&near + (&self.log_a - rows).unsqueeze(-1), -2); // [..., K]
        }
        scaled * self.eps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;
    use tch::{Device, Kind};

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);
    const COST: [f64; 20] =
        [0.4, 1.9, 3.1, 0.7, 2.2, 0.3, 1.5, 2.8, 1.1, 0.9, 0.2, 1.6, 0.6, 2.5, 1.3, 0.1, 1.7, 0.8, 2.4, 1.2];

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(3, name, size).to_kind(Kind::Double)
    }

    fn value(t: &Tensor) -> f64 {
        t.double_value(&[])
    }

    fn largest(t: &Tensor) -> f64 {
        value(&t.abs().max())
    }

    fn logs(masses: &[f64]) -> Tensor {
        Tensor::from_slice(masses).log()
    }

    fn five_to_four(eps: f64) -> Transport {
        let cost = Tensor::from_slice(&COST).view([5, 4]);
        Transport { cost, log_a: logs(&[0.1, 0.3, 0.2, 0.25, 0.15]), log_b: logs(&[0.4, 0.3, 0.2, 0.1]), eps }
    }

    fn zeros(k: i64) -> Tensor {
        Tensor::zeros([k], OPTIONS)
    }

    /// POT 0.9.7: P = ot.sinkhorn(a, b, D, eps, stopThr=1e-15, numItermax=200000);
    /// (P * D).sum() + eps * (P * np.log(P / np.outer(a, b))).sum()
    #[test]
    fn the_semi_dual_and_the_plan_are_those_of_pot() {
        for (eps, want, corner) in [(1.0, 1.065_463_221_991_115_5, 0.076695), (0.1, 0.629_419_912_138_619_9, 0.099989)]
        {
            let problem = five_to_four(eps);
            let phi = problem.sinkhorn(&zeros(4), 1500);
            assert!((value(&problem.semi_dual(&phi)) - want).abs() < 1e-9, "{eps}");
            let plan = problem.plan(&phi);
            assert!((plan.double_value(&[0, 0]) - corner).abs() < 1e-6);
            let kl = (&plan * (plan.log() - problem.log_a.unsqueeze(-1) - &problem.log_b)).sum(Kind::Double);
            assert!((value(&((&plan * &problem.cost).sum(Kind::Double) + kl * eps)) - want).abs() < 1e-9);
            let columns = plan.sum_dim_intlist(0, false, Kind::Double) - problem.log_b.exp();
            let rows = plan.sum_dim_intlist(1, false, Kind::Double) - problem.log_a.exp();
            assert!(largest(&columns) < 1e-9 && largest(&rows) < 1e-12);
            let elsewhere = problem.semi_dual(&(&phi + draw("off", &[4]) * 0.1));
            assert!(value(&elsewhere) < want - 1e-5, "a maximum: {elsewhere:?}");
        }
    }

    /// The least cost of masses in units of 1 / n, by all orders of the units (Birkhoff: an optimum splits none).
    fn programme(cost: &[Vec<f64>], columns: &[usize]) -> f64 {
        fn best(cost: &[Vec<f64>], columns: &[usize], used: &mut [bool], row: usize) -> f64 {
            if row == cost.len() {
                return 0.0;
            }
            let mut least = f64::INFINITY;
            for i in 0..columns.len() {
                if !used[i] {
                    used[i] = true;
                    least = least.min(cost[row][columns[i]] + best(cost, columns, used, row + 1));
                    used[i] = false;
                }
            }
            least
        }
        best(cost, columns, &mut vec![false; columns.len()], 0) / cost.len() as f64
    }

    /// POT 0.9.7: ot.emd2(a, b, D) = 0.525 for the masses above.
    #[test]
    fn without_entropy_it_is_the_linear_programme() {
        let at = |eps: f64| {
            let problem = five_to_four(eps);
            let plan = problem.plan(&problem.sinkhorn(&zeros(4), 6000));
            value(&(plan * &problem.cost).sum(Kind::Double))
        };
        let (warm, cold) = (at(0.1), at(5e-3));
        assert!(warm > 0.529 && (cold - 0.525).abs() < 1e-4, "{warm} {cold}");

        for seed in ["one", "two", "three"] {
            let cost = draw(seed, &[7, 3]).square();
            let host: Vec<Vec<f64>> = Vec::try_from(&cost).unwrap();
            let want = programme(&host, &[0, 0, 0, 1, 1, 2, 2]);
            let problem = Transport::from_equal(cost, logs(&[3.0 / 7.0, 2.0 / 7.0, 2.0 / 7.0]), 2e-3);
            let found = value(&problem.semi_dual(&problem.sinkhorn(&zeros(3), 4000)));
            // The entropy term adds at most eps ln K.
            assert!(found >= want - 1e-6 && found < want + 2e-3 * 3.0_f64.ln() + 1e-6, "{found} {want}");
        }
    }

    #[test]
    fn with_endless_entropy_everything_is_carried_everywhere() {
        let problem = five_to_four(1e7);
        let phi = problem.sinkhorn(&zeros(4), 5);
        let spread = problem.log_a.exp().unsqueeze(-1) * problem.log_b.exp();
        assert!(largest(&(problem.plan(&phi) - &spread)) < 1e-6);
        assert!((value(&problem.semi_dual(&phi)) - value(&(spread * &problem.cost).sum(Kind::Double))).abs() < 1e-5);
    }

    /// Of every input: gradients at fixed potentials are the differences of problems solved anew.
    #[test]
    fn gradients_are_those_of_the_solved_problem() {
        let (z, c, m) = (draw("z", &[6, 2]), draw("c", &[3, 2]), draw("m", &[3]));
        let problem = |z: &Tensor, c: &Tensor, m: &Tensor| {
            Transport::from_equal(squared_distances(z, c), m.log_softmax(-1, Kind::Double), 0.3)
        };
        let solved = |z: &Tensor, c: &Tensor, m: &Tensor| {
            let p = problem(z, c, m);
            p.semi_dual(&p.sinkhorn(&zeros(3), 400))
        };
        let inputs = [&z, &c, &m].map(|t| t.copy().set_requires_grad(true));
        let live = problem(&inputs[0], &inputs[1], &inputs[2]);
        let phi = live.sinkhorn(&zeros(3), 400);
        assert!(!phi.requires_grad());
        live.semi_dual(&phi).backward();
        let h = 1e-5;
        for (which, input) in inputs.iter().enumerate() {
            for i in 0..i64::try_from(input.numel()).unwrap() {
                let at = |by: f64| {
                    let moved = [&z, &c, &m].map(Tensor::copy);
                    let _ = moved[which].view(-1).get(i).g_add_scalar_(by);
                    value(&solved(&moved[0], &moved[1], &moved[2]))
                };
                let quotient = (at(h) - at(-h)) / (2.0 * h);
                let found = input.grad().view(-1).double_value(&[i]);
                assert!((quotient - found).abs() < 1e-7, "input {which}, {i}: {found} {quotient}");
            }
        }
    }

    /// The gradient in phi is what the columns lack, and a round of Sinkhorn brings it down.
    #[test]
    fn ascent_and_sinkhorn_have_one_summit() {
        let problem = five_to_four(0.5);
        let phi = zeros(4).set_requires_grad(true);
        problem.semi_dual(&phi).backward();
        let lacking = problem.log_b.exp() - problem.plan(&phi.detach()).sum_dim_intlist(0, false, Kind::Double);
        assert!(largest(&(phi.grad() - lacking)) < 1e-12);

        let mut climbed = zeros(4);
        for _ in 0..4000 {
            let at = climbed.detach().set_requires_grad(true);
            problem.semi_dual(&at).backward();
            climbed = at.detach() + at.grad() * 0.5;
        }
        let found = problem.sinkhorn(&zeros(4), 2000);
        let shift = |t: &Tensor| t - t.mean(Kind::Double);
        assert!(largest(&(shift(&climbed) - shift(&found))) < 1e-6);
    }

    #[test]
    fn problems_beside_each_other_do_not_meet() {
        let cost = draw("cost", &[3, 5, 4]).square();
        let log_b = draw("b", &[3, 4]).log_softmax(-1, Kind::Double);
        let all = Transport::from_equal(cost.shallow_clone(), log_b.shallow_clone(), 0.2);
        let phi = all.sinkhorn(&Tensor::zeros([3, 4], OPTIONS), 50);
        assert_eq!(all.semi_dual(&phi).size(), [3]);
        for i in 0..3 {
            let one = Transport::from_equal(cost.get(i), log_b.get(i), 0.2);
            let alone = one.sinkhorn(&zeros(4), 50);
            assert!(largest(&(&alone - phi.get(i))) < 1e-12);
            assert!(largest(&(one.plan(&alone) - all.plan(&phi).get(i))) < 1e-12);
        }
    }

    /// Costs a thousand times eps, where exp alone would be zero, and started where the last batch ended.
    #[test]
    fn far_points_stay_finite_and_a_warm_start_is_ahead() {
        let problem = Transport::from_equal(draw("far", &[40, 8]).square() * 50.0, logs(&[0.125; 8]), 0.05);
        let off = |phi: &Tensor| largest(&(problem.plan(phi).sum_dim_intlist(0, false, Kind::Double) - 0.125));
        let cold = problem.sinkhorn(&zeros(8), 10);
        let warm = problem.sinkhorn(&problem.sinkhorn(&zeros(8), 2000), 10);
        assert!(
            cold.isfinite().all().int64_value(&[]) == 1 && off(&warm) < off(&cold),
            "{} {}",
            off(&warm),
            off(&cold)
        );
    }

    #[test]
    fn distances_are_their_sums_written_out() {
        let (x, y) = (draw("x", &[2, 3, 5]), draw("y", &[4, 5]));
        let want = (x.unsqueeze(-2) - &y).square().sum_dim_intlist(-1, false, Kind::Double);
        assert!(largest(&(squared_distances(&x, &y) - want)) < 1e-12);
        assert!(value(&squared_distances(&(&y * 1e3), &(&y * 1e3)).min()) >= 0.0);
    }
}
