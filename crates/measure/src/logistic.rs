use crate::curvature::Curvature;
use crate::gram;
use crate::lbfgs::{Limits, minimise};
use crate::{Error, Features, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// When a logistic fit counts as finished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// Largest entry of the gradient of the objective divided by `C * N` (scikit-learn's `tol` measures the same).
    pub tolerance: f64,
    /// Iterations after which the fit is given up as [`Error::NotConverged`].
    pub iterations: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { tolerance: 1e-7, iterations: 5000 }
    }
}

/// Training items of an L2-regularised logistic regression, ready to be fitted at any number of strengths.
///
/// The objective is scikit-learn's: F = C sum_i logloss_i + 0.5 ||W||^2 with the intercepts unpenalised. As in its default, two
/// classes have one row of coefficients (log-odds of the larger label, binomial loss), three or more have one row each (softmax).
pub struct LogisticProblem<'a> {
    pub(crate) x: &'a Features,
    /// Labels that occur, rising. One that never occurs would drive its unpenalised intercept to minus infinity.
    classes: Vec<u32>,
    /// For each item the place of its label in `classes`.
    target: Vec<usize>,
    pub(crate) means: Vec<f64>,
}

/// A fitted logistic regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// The labels it tells apart, rising.
    pub classes: Vec<u32>,
    /// `[R, D]`, R = 1 for two classes and the number of classes otherwise.
    pub coefficients: Vec<f64>,
    /// `[R]`; with three or more classes they have mean 0, since softmax does not see a common shift.
    pub intercepts: Vec<f64>,
    /// The objective F at the fit.
    pub objective: f64,
    /// Iterations made.
    pub iterations: usize,
}

/// Items as the fit sees them go through in blocks: centred, with a constant 1 appended, u_i = (x_i - m, 1). The penalty is on W
/// alone, so b' = b + W m changes nothing but the conditioning, which it mends.
impl<'a> LogisticProblem<'a> {
    /// Prepares a fit.
    ///
    /// # Errors
    /// Not one label per item, or a single class.
    pub fn new(x: &'a Features, labels: &[u32]) -> Result<Self> {
        x.want_targets("labels", labels.len())?;
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        if let [label] = classes[..] {
            return Err(Error::OneClass { what: "training labels", label });
        }
        let target = labels.iter().map(|l| classes.partition_point(|c| c < l)).collect();
        Ok(Self { x, classes, target, means: gram::means(x) })
    }

    /// Fits at inverse penalty `c`, from zero or from another fit of the same problem.
    ///
    /// # Errors
    /// `c` not positive and finite; no convergence within the allowed iterations.
    ///
    /// # Cost
    /// O(N D R) per iteration, and O(N D^2) (up to R times) every few iterations for the preconditioner.
    pub fn fit(&self, c: f64, from: Option<&Logistic>, options: &FitOptions) -> Result<Logistic> {
        if !(c > 0.0 && c.is_finite()) {
            return Err(Error::Setting { name: "C", got: c, want: "positive and finite" });
        }
        let (d, rows) = (self.x.d(), self.rows());
        let start = match from {
            Some(fit) if fit.classes == self.classes && fit.coefficients.len() == rows * d => self.centred(fit),
            _ => vec![0.0; rows * (d + 1)],
        };
        let mut curvature = Curvature::new(self, c);
        let limits = Limits {
            gradient: options.tolerance * c * self.x.n() as f64,
            iterations: options.iterations,
            refresh: curvature.period(),
        };
        let found = minimise(start, &limits, &mut |p, g| self.objective(c, p, g), &mut curvature);
        if !found.converged {
            let (iterations, gradient, tolerance) = (found.iterations, found.gradient, limits.gradient);
            return Err(Error::NotConverged { iterations, gradient, tolerance });
        }
        let mut coefficients = Vec::with_capacity(rows * d);
        let mut intercepts = Vec::with_capacity(rows);
        for row in found.point.chunks(d + 1) {
            coefficients.extend_from_slice(&row[..d]);
            intercepts.push(row[d] - dot(&row[..d], &self.means));
        }
        if rows > 1 {
            let mean = intercepts.iter().sum::<f64>() / rows as f64;
            intercepts.iter_mut().for_each(|b| *b -= mean);
        }
        let (objective, iterations) = (found.value, found.iterations);
        Ok(Logistic { classes: self.classes.clone(), coefficients, intercepts, objective, iterations })
    }

    fn rows(&self) -> usize {
        if self.classes.len() == 2 { 1 } else { self.classes.len() }
    }

    /// The fit's parameters for centred items: `[R, D + 1]`.
    fn centred(&self, fit: &Logistic) -> Vec<f64> {
        let rows = fit.coefficients.chunks(self.x.d()).zip(&fit.intercepts);
        rows.flat_map(|(w, b)| w.iter().copied().chain([b + dot(w, &self.means)])).collect()
    }

    /// F and its gradient at `p` = rows of (w, b'): `[R, D + 1]`.
    pub(crate) fn objective(&self, c: f64, p: &[f64], gradient: &mut [f64]) -> f64 {
        let (width, r) = (self.x.d() + 1, self.rows());
        let parts = self.sweep(p, |items, z, target, (loss, sums): &mut (f64, Vec<f64>)| {
            sums.resize(p.len(), 0.0);
            for (z, &t) in z.chunks_mut(r).zip(target) {
                *loss += if r == 1 { binomial(z, t) } else { softmax(z, t) };
            }
            let slopes = MatRef::from_row_major_slice(z, target.len(), r); // d loss / d logits, [N, R]
            let sums = MatMut::from_row_major_slice_mut(sums, r, width);
            matmul(sums, Accum::Add, slopes.transpose(), items, 1.0, Par::Seq);
        });
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (part, sums) in parts {
            loss += part;
            gradient.iter_mut().zip(sums).for_each(|(g, s)| *g += s);
        }
        gradient.iter_mut().for_each(|g| *g *= c);
        let mut penalty = 0.0;
        for (g, p) in gradient.chunks_mut(width).zip(p.chunks(width)) {
            let w = &p[..width - 1];
            g.iter_mut().zip(w).for_each(|(g, w)| *g += w);
            penalty += 0.5 * dot(w, w);
        }
        c * loss + penalty
    }

    /// Curvature of each item's loss in each logit, p (1 - p): R rows of `[N]`.
    pub(crate) fn weights(&self, p: &[f64]) -> Vec<Vec<f64>> {
        let r = self.rows();
        let parts = self.sweep(p, |_, z, target, out: &mut Vec<f64>| {
            for (z, &t) in z.chunks_mut(r).zip(target) {
                if r == 1 {
                    binomial(z, t)
                } else {
                    softmax(z, t)
                };
                // The slope is p - onehot, and |p - 1| (1 - |p - 1|) is p (1 - p) too.
                out.extend(z.iter().map(|s| s.abs() * (1.0 - s.abs())));
            }
        });
        let all: Vec<f64> = parts.concat();
        (0..r).map(|k| all.iter().skip(k).step_by(r).copied().collect()).collect()
    }

    /// Calls `visit(items [N, D + 1], logits [N, R], targets, sums)` on blocks of items in order; one `sums` per piece, pieces in order.
    fn sweep<T: Default + Send>(
        &self,
        p: &[f64],
        visit: impl Fn(MatRef<'_, f64>, &mut [f64], &[usize], &mut T) + Sync,
    ) -> Vec<T> {
        // More pieces than cores, but fixed, so that sums do not depend on the cores.
        const PIECES: usize = 32;
        let (n, d, r) = (self.x.n(), self.x.d(), self.rows());
        let step = gram::block_rows(d);
        let piece = n.div_ceil(PIECES).max(step);
        let w = MatRef::from_row_major_slice(p, r, d + 1);
        let one_piece = |(rows, target): (&[f32], &[usize])| {
            let (mut block, mut z, mut sums) = (Vec::new(), Vec::new(), T::default());
            for (rows, target) in rows.chunks(step * d).zip(target.chunks(step)) {
                gram::centre_with_one(rows, &self.means, &mut block);
                let items = MatRef::from_row_major_slice(&block, target.len(), d + 1);
                z.resize(target.len() * r, 0.0);
                let logits = MatMut::from_row_major_slice_mut(&mut z, target.len(), r);
                matmul(logits, Accum::Replace, items, w.transpose(), 1.0, Par::Seq);
                visit(items, &mut z, target, &mut sums);
            }
            sums
        };
        self.x.values().par_chunks(piece * d).zip(self.target.par_chunks(piece)).map(one_piece).collect()
    }
}

impl Logistic {
    /// Rows of coefficients: 1 for two classes.
    fn rows(&self) -> usize {
        self.intercepts.len()
    }

    /// Logits of every item: `[N, R]`, row-major.
    ///
    /// # Errors
    /// Another number of columns than was fitted.
    pub fn logits(&self, x: &Features) -> Result<Vec<f64>> {
        let (d, r) = (x.d(), self.rows());
        if d * r != self.coefficients.len() {
            x.want_columns("columns of the features", self.coefficients.chunks(r).len())?;
        }
        let step = gram::block_rows(d);
        let w = MatRef::from_row_major_slice(&self.coefficients, r, d);
        let (mut out, zero) = (vec![0.0; x.n() * r], vec![0.0; d]);
        out.par_chunks_mut(step * r).zip(x.values().par_chunks(step * d)).for_each(|(z, rows)| {
            let mut block = Vec::new();
            gram::centre(rows, &zero, &mut block);
            z.chunks_mut(r).for_each(|z| z.copy_from_slice(&self.intercepts));
            let n = z.chunks(r).len();
            let logits = MatMut::from_row_major_slice_mut(z, n, r);
            matmul(logits, Accum::Add, MatRef::from_row_major_slice(&block, n, d), w.transpose(), 1.0, Par::Seq);
        });
        Ok(out)
    }

    /// The most likely label of every item.
    ///
    /// # Errors
    /// Another number of columns than was fitted.
    pub fn predict(&self, x: &Features) -> Result<Vec<u32>> {
        let logits = self.logits(x)?;
        let pick = |z: &[f64]| match z {
            [one] => usize::from(*one > 0.0),
            many => (1..many.len()).fold(0, |best, k| if many[k] > many[best] { k } else { best }),
        };
        Ok(logits.chunks(self.rows()).map(|z| self.classes[pick(z)]).collect())
    }
}

/// Loss -ln p_t of softmax logits; `z` becomes p - onehot(t).
fn softmax(z: &mut [f64], t: usize) -> f64 {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = top - z[t];
    let mut sum = 0.0;
    for v in z.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    z.iter_mut().for_each(|v| *v /= sum);
    z[t] -= 1.0;
    margin + sum.ln()
}

/// Loss ln(1 + e^-m) of one log-odds, m = z for class 1 and -z for class 0; `z` becomes p - t.
fn binomial(z: &mut [f64], t: usize) -> f64 {
    let sign = if t == 1 { 1.0 } else { -1.0 };
    let m = sign * z[0];
    let e = (-m.abs()).exp();
    let miss = if m >= 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }; // 1 - p of the right class
    z[0] = -sign * miss;
    (-m).max(0.0) + e.ln_1p()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Standardiser;
    use crate::draw::normals;
    use crate::fixture::{Fixture, assert_close};

    const SHARP: FitOptions = FitOptions { tolerance: 1e-11, iterations: 5000 };

    fn compare(name: &str, x: &Features, labels: &[u32]) {
        let file = Fixture::open("logistic/digits.safetensors");
        let problem = LogisticProblem::new(x, labels).unwrap();
        let [objectives, coefficients, intercepts] =
            ["objective", "coefficients", "intercepts"].map(|part| file.f64s(&format!("{name}.{part}")));
        let mut last = None;
        for (i, c) in file.f64s("strengths").into_iter().enumerate() {
            let fit = problem.fit(c, last.as_ref(), &SHARP).unwrap();
            assert_close(fit.objective, objectives[i], 1e-8);
            let (w, b) = (fit.coefficients.len(), fit.intercepts.len());
            fit.coefficients.iter().zip(&coefficients[i * w..]).for_each(|(g, w)| assert_close(*g, *w, 1e-4));
            fit.intercepts.iter().zip(&intercepts[i * b..]).for_each(|(g, w)| assert_close(*g, *w, 1e-4));
            last = Some(fit);
        }
    }

    #[test]
    fn equals_scikit_learn_on_digits() {
        let file = Fixture::open("logistic/digits.safetensors");
        let (raw, labels) = (file.features("images"), file.labels("labels"));
        let standard = Standardiser::fit(&raw).unwrap().apply(&raw).unwrap();
        compare("raw", &raw, &labels);
        compare("standard", &standard, &labels);
    }

    #[test]
    fn two_classes_have_scikit_learns_single_row() {
        let file = Fixture::open("logistic/digits.safetensors");
        let (raw, labels) = (file.features("images"), file.labels("labels"));
        let standard = Standardiser::fit(&raw).unwrap().apply(&raw).unwrap();
        let pair: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == 3 || labels[i] == 8).collect();
        let labels: Vec<u32> = pair.iter().map(|&i| labels[i]).collect();
        let x = standard.select(&pair).unwrap();
        compare("pair", &x, &labels);
        let fit = LogisticProblem::new(&x, &labels).unwrap().fit(1.0, None, &SHARP).unwrap();
        assert_eq!((fit.classes.as_slice(), fit.coefficients.len()), ([3, 8].as_slice(), 64));
        assert_eq!(fit.predict(&x).unwrap(), labels);
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_objective() {
        let x = Features::new(3, normals(2, 60)).unwrap();
        for classes in [2, 4] {
            let labels: Vec<u32> = (0..20).map(|i| i % classes).collect();
            let problem = LogisticProblem::new(&x, &labels).unwrap();
            let size = 4 * problem.rows(); // three columns and the constant
            let mut p: Vec<f64> = normals(3, size).into_iter().map(f64::from).collect();
            let (mut gradient, mut spare) = (vec![0.0; size], vec![0.0; size]);
            problem.objective(0.7, &p, &mut gradient);
            for i in 0..size {
                let h = 1e-5;
                p[i] += h;
                let up = problem.objective(0.7, &p, &mut spare);
                p[i] -= 2.0 * h;
                let down = problem.objective(0.7, &p, &mut spare);
                p[i] += h;
                assert_close(gradient[i], (up - down) / (2.0 * h), 1e-7);
            }
        }
    }

    #[test]
    fn losses_do_not_overflow() {
        let mut z = [800.0, -800.0, 0.0];
        assert_eq!(softmax(&mut z, 1), 1600.0);
        assert_eq!(z, [1.0, -1.0, 0.0]);
        let mut z = [-800.0];
        assert_eq!(binomial(&mut z, 1), 800.0);
        assert_eq!(z, [-1.0]);
        let mut z = [0.0];
        assert_close(binomial(&mut z, 0), 2f64.ln(), 1e-15);
        assert_eq!(z, [0.5]);
    }

    #[test]
    fn constant_columns_and_more_columns_than_items_are_fine() {
        // Item i has its own column; a wide problem takes the diagonal preconditioner, a narrow one the full.
        for d in [30, 1500] {
            let values: Vec<f32> = (0..8).flat_map(|i| (0..d).map(move |j| if i == j { 1.0 } else { 0.0 })).collect();
            let x = Features::new(d, values).unwrap();
            let labels = [5, 9, 5, 9, 9, 7, 7, 5];
            let fit = LogisticProblem::new(&x, &labels).unwrap().fit(10.0, None, &SHARP).unwrap();
            assert_eq!(fit.predict(&x).unwrap(), labels);
            assert!(fit.coefficients.chunks(d).all(|w| w[8..].iter().all(|v| v.abs() < 1e-12)));
            // Softmax coefficients of an L2 fit sum to zero over the classes.
            (0..8).for_each(|j| assert!(fit.coefficients.chunks(d).map(|w| w[j]).sum::<f64>().abs() < 1e-6));
        }
    }

    #[test]
    fn constant_features_give_the_log_odds_of_the_classes() {
        let x = Features::new(1, vec![2.0; 8]).unwrap();
        let fit = LogisticProblem::new(&x, &[0, 0, 1, 1, 1, 1, 1, 1]).unwrap().fit(1.0, None, &SHARP).unwrap();
        assert_close(fit.intercepts[0], 3f64.ln(), 1e-7);
        assert_close(fit.coefficients[0], 0.0, 1e-12);
        assert_close(fit.objective, -(2.0 * 0.25f64.ln() + 6.0 * 0.75f64.ln()), 1e-12);
    }

    #[test]
    fn the_fit_has_the_same_bits_on_one_thread_and_on_three() {
        let x = Features::new(40, normals(7, 40 * 5000)).unwrap();
        let labels: Vec<u32> = (0..5000).map(|i| u32::from(x.row(i)[0] > 0.0) + u32::from(x.row(i)[1] > 0.5)).collect();
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| LogisticProblem::new(&x, &labels).unwrap().fit(0.1, None, &FitOptions::default()).unwrap())
        };
        assert_eq!(fit(1), fit(3));
    }

    #[test]
    fn what_cannot_be_fitted_is_named() {
        let x = Features::new(1, vec![1.0, 2.0]).unwrap();
        let error = LogisticProblem::new(&x, &[4, 4]).err().unwrap();
        assert_eq!(error, Error::OneClass { what: "training labels", label: 4 });
        let error = LogisticProblem::new(&x, &[4]).err().unwrap();
        assert_eq!(error, Error::LengthMismatch { what: "labels", want: 2, got: 1 });
        let problem = LogisticProblem::new(&x, &[0, 1]).unwrap();
        assert!(problem.fit(0.0, None, &SHARP).is_err() && problem.fit(f64::NAN, None, &SHARP).is_err());
        let short = FitOptions { iterations: 1, ..SHARP };
        assert!(matches!(problem.fit(100.0, None, &short), Err(Error::NotConverged { iterations: 1, .. })));
        let fit = problem.fit(1.0, None, &SHARP).unwrap();
        assert_eq!(
            fit.predict(&Features::new(2, vec![0.0; 2]).unwrap()).unwrap_err(),
            Error::LengthMismatch { what: "columns of the features", want: 1, got: 2 }
        );
    }
}
