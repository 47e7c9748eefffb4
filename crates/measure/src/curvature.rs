use crate::lbfgs::Guess;
use crate::{LogisticProblem, gram};
use pentimento_linalg::Cholesky;
use rayon::prelude::*;

/// The Hessian at a point without its blocks between classes, as the minimiser's preconditioner.
///
/// The block of row k is C sum_i p_ik (1 - p_ik) u_i u_i^T plus 1 for each penalised coefficient.
pub(crate) struct Curvature<'a> {
    problem: &'a LogisticProblem<'a>,
    c: f64,
    inverse: Inverse,
}

enum Inverse {
    /// A factor per row of coefficients, or one for all (weights averaged over the rows).
    Full(Vec<Cholesky>),
    /// Diagonals of the blocks only: `[R, D + 1]`.
    Diagonal(Vec<f64>),
}

/// Widest features that get a block per class, and a block at all: beyond, it would cost more than the iterations it saves.
const WIDEST_PER_CLASS: usize = 256;
const WIDEST_FULL: usize = 1024;

impl<'a> Curvature<'a> {
    /// Nothing is known before the first point.
    pub(crate) fn new(problem: &'a LogisticProblem<'a>, c: f64) -> Self {
        Self { problem, c, inverse: Inverse::Diagonal(vec![]) }
    }

    /// Iterations after which a new guess has cost no more than they did.
    pub(crate) fn period(&self) -> usize {
        match self.problem.x.d() {
            d if d <= WIDEST_PER_CLASS => 10usize.max(d.div_ceil(4)),
            _ => 30,
        }
    }

    fn block(&self, weights: &[f64]) -> Option<Cholesky> {
        let d = self.problem.x.d();
        let mut block = gram::weighted_scatter(self.problem.x, &self.problem.means, weights);
        for j in 0..=d {
            for i in 0..=d {
                block[(i, j)] *= self.c;
            }
            block[(j, j)] += if j < d { 1.0 } else { self.intercept_floor() };
        }
        Cholesky::new(&block)
    }

    /// Keeps the intercept's curvature off zero when all items are fitted perfectly.
    fn intercept_floor(&self) -> f64 {
        1e-9 * self.c * self.problem.x.n() as f64
    }

    fn diagonal(&self, weights: &[Vec<f64>]) -> Vec<f64> {
        let (x, means) = (self.problem.x, &self.problem.means);
        let row = |weights: &Vec<f64>| {
            let mut sums = vec![0.0; x.d() + 1];
            for (row, w) in x.values().chunks(x.d()).zip(weights) {
                let squares = row.iter().zip(means).map(|(&v, m)| (f64::from(v) - m).powi(2));
                sums.iter_mut().zip(squares.chain([1.0])).for_each(|(s, v)| *s += self.c * w * v);
            }
            sums.iter_mut().take(x.d()).for_each(|s| *s += 1.0);
            sums[x.d()] += self.intercept_floor();
            sums
        };
        weights.par_iter().flat_map_iter(row).collect()
    }
}

impl Guess for Curvature<'_> {
    fn refresh(&mut self, point: &[f64]) {
        let (d, weights) = (self.problem.x.d(), self.problem.weights(point));
        let pooled = || {
            let mut mean = vec![0.0; self.problem.x.n()];
            weights.iter().for_each(|w| mean.iter_mut().zip(w).for_each(|(m, w)| *m += w / weights.len() as f64));
            vec![mean]
        };
        // At zero all rows have the same weights.
        let at_zero = point.iter().all(|v| v.abs() <= 0.0);
        let blocks: Option<Vec<_>> = match d {
            d if d <= WIDEST_PER_CLASS && !at_zero => weights.iter().map(|w| self.block(w)).collect(),
            d if d <= WIDEST_FULL => pooled().iter().map(|w| self.block(w)).collect(),
            _ => None,
        };
        self.inverse = blocks.map_or_else(|| Inverse::Diagonal(self.diagonal(&weights)), Inverse::Full);
    }

    fn apply(&self, v: &mut [f64]) {
        match &self.inverse {
            Inverse::Diagonal(diagonal) => v.iter_mut().zip(diagonal).for_each(|(v, s)| *v /= s),
            Inverse::Full(blocks) => {
                let width = self.problem.x.d() + 1;
                for (v, block) in v.chunks_mut(width).zip(blocks.iter().cycle()) {
                    block.solve(v);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Features;
    use crate::draw::normals;
    use crate::fixture::assert_close;

    /// For two classes there is one block, the Hessian itself: the guess must undo it.
    #[test]
    fn the_guess_inverts_the_two_class_hessian() {
        let x = Features::new(3, normals(2, 90)).unwrap();
        let labels: Vec<u32> = (0..30).map(|i| i % 2).collect();
        let problem = LogisticProblem::new(&x, &labels).unwrap();
        let p = [0.4, -0.2, 0.1, 0.3];
        let mut curvature = Curvature::new(&problem, 2.5);
        curvature.refresh(&p);
        for j in 0..4 {
            // Column j of the Hessian by central differences of the gradient.
            let h = 1e-5;
            let slope = |step: f64| {
                let (mut at, mut gradient) = (p, [0.0; 4]);
                at[j] += step;
                problem.objective(2.5, &at, &mut gradient);
                gradient
            };
            let (up, down) = (slope(h), slope(-h));
            let mut column: Vec<f64> = (0..4).map(|i| (up[i] - down[i]) / (2.0 * h)).collect();
            curvature.apply(&mut column);
            (0..4).for_each(|i| assert_close(column[i], if i == j { 1.0 } else { 0.0 }, 1e-6));
        }
    }

    #[test]
    fn the_diagonal_guess_is_the_diagonal() {
        let x = Features::new(3, normals(3, 60)).unwrap();
        let labels: Vec<u32> = (0..20).map(|i| i % 3).collect();
        let problem = LogisticProblem::new(&x, &labels).unwrap();
        let curvature = Curvature::new(&problem, 0.5);
        let weights = problem.weights(&normals(4, 12).into_iter().map(f64::from).collect::<Vec<_>>());
        let got = curvature.diagonal(&weights);
        for k in 0..3 {
            let block = gram::weighted_scatter(&x, &problem.means, &weights[k]);
            (0..4).for_each(|j| {
                let penalty = if j < 3 { 1.0 } else { curvature.intercept_floor() };
                assert_close(got[4 * k + j], 0.5 * block[(j, j)] + penalty, 1e-12);
            });
        }
    }
}
