//! Compositions: a denoiser of several concepts made of denoisers of one.
//!
//! Concepts c_i that are independent given x have p(x | c_1, .., c_n) ~ p(x) prod_i p(x | c_i) / p(x). With a weight for each, the
//! scores add up, and so do all predictions, which are affine in x0 with coefficients of the level only:
//!
//! x0_hat = u + sum_i w_i (x_i - u),   u without and x_i with concept i
//!
//! (Liu et al. 2022, arXiv 2206.01714: conjunction, w_i > 0; negation, w_i < 0). With one concept it is classifier-free guidance.
//!
//! At t = 0 this is the score of the product. At t > 0 it is a sum of scores of *noised* densities, which is not the score of the
//! noised product, so that a walk ends near the product and not at it: for centred Gaussians of variances v and v_i the ODE ends at
//! the variance v prod_i (v_i / v)^w_i, a geometric mean, where that of the product is the harmonic one.

use pentimento_core::{Condition, Denoised, Denoiser, Level};
use tch::Tensor;

/// A concept of a composition.
#[derive(Clone, Debug)]
pub struct Term {
    /// w: above 0 the concept is asked for, below 0 it is kept away.
    pub weight: f64,
    /// The concept of each sample.
    pub condition: Condition,
}

/// One model under several conditions at once.
///
/// The condition of a call holds for u and is none where u knows nothing. A predicted variance is that of the first concept, as in
/// the authors' code.
///
/// # Cost
/// One evaluation of (n + 1) B rows; B fewer for every weight of 0, and for u where the weights sum to 1.
pub struct Composed<D> {
    inner: D,
    terms: Vec<Term>,
}

impl<D: Denoiser> Composed<D> {
    /// All the concepts together.
    pub fn new(inner: D, terms: Vec<Term>) -> Self {
        Self { inner, terms }
    }
}

impl<D: Denoiser> Denoiser for Composed<D> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        let base = match self.terms.first() {
            Some(term) if !c.says_anything() => term.condition.dropped(),
            _ => c.clone(),
        };
        let entries = level.len();
        let weights: Vec<Vec<f64>> = self.terms.iter().map(|t| vec![t.weight; entries]).collect();
        let asked: Vec<_> = weights.iter().map(Vec::as_slice).zip(self.terms.iter().map(|t| &t.condition)).collect();
        compose(&self.inner, x, level, &base, &asked)
    }
}

/// Several models of one data space, each for a concept of its own: what is composed across checkpoints.
///
/// All hear the condition of the call. The variance is that of the first model with a weight.
///
/// # Cost
/// One evaluation of every model; u is left out where the weights sum to 1.
pub struct Mixed<'a> {
    /// u.
    pub base: &'a dyn Denoiser,
    /// Weights and models.
    pub terms: Vec<(f64, &'a dyn Denoiser)>,
}

impl Denoiser for Mixed<'_> {
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        let weights: Vec<Vec<f64>> = self.terms.iter().map(|(w, _)| vec![*w; level.len()]).collect();
        let lists: Vec<&[f64]> = weights.iter().map(Vec::as_slice).collect();
        let used = Used::of(&lists);
        let parts = used.terms.iter().map(|&i| self.terms[i].1).chain(used.base.then_some(self.base));
        combine(&used, &lists, parts.map(|d| d.denoise(x, level, c)).collect())
    }
}

/// Which estimates enter a sum: those of zero weight are not made.
struct Used {
    terms: Vec<usize>,
    base: bool,
}

impl Used {
    fn of(weights: &[&[f64]]) -> Self {
        let terms: Vec<usize> = (0..weights.len()).filter(|&i| weights[i].iter().any(|&w| w != 0.0)).collect();
        let rows = weights.first().map_or(0, |w| w.len());
        let whole = |row: usize| (weights.iter().map(|w| w[row]).sum::<f64>() - 1.0).abs() < f64::EPSILON;
        let base = terms.is_empty() || !(0..rows).all(whole);
        Self { terms, base }
    }
}

/// u + sum_i w_i (x_i - u) from the estimates in use, u the last of them if it is there. Without u the weights sum to 1.
fn combine(used: &Used, weights: &[&[f64]], parts: Vec<Denoised>) -> Denoised {
    let (x0, variances): (Vec<Tensor>, Vec<Option<Tensor>>) = parts.into_iter().map(|d| (d.x0, d.variance)).unzip();
    let asked = || used.terms.iter().map(|&i| weights[i]).zip(&x0);
    let sum = match x0.last() {
        Some(only) if x0.len() == 1 => only.shallow_clone(),
        Some(u) if used.base => asked().fold(u.shallow_clone(), |sum, (w, x)| sum + Level::times(w, &(x - u))),
        _ => asked().map(|(w, x)| Level::times(w, x)).sum(),
    };
    Denoised { x0: sum, variance: variances.into_iter().next().flatten() }
}

/// One model under conditions with weights, one weight per entry of the level; `base` is what u is told.
pub(crate) fn compose(
    inner: &impl Denoiser,
    x: &Tensor,
    level: &Level,
    base: &Condition,
    terms: &[(&[f64], &Condition)],
) -> Denoised {
    let weights: Vec<&[f64]> = terms.iter().map(|(w, _)| *w).collect();
    let used = Used::of(&weights);
    let mut asked = used.terms.iter().map(|&i| terms[i].1).chain(used.base.then_some(base));
    let first = asked.next().map_or_else(|| base.clone(), Condition::clone);
    let (mut c, mut n) = (first, 1);
    for other in asked {
        (c, n) = (c.then(other), n + 1);
    }
    if n == 1 {
        return combine(&used, &weights, vec![inner.denoise(x, level, &c)]);
    }
    let b = x.size()[0];
    let all = inner.denoise(&Tensor::cat(&vec![x; n], 0), &level.repeat(n), &c);
    let cut = |t: &Tensor| t.split(b, 0).into_iter();
    let mut variances = all.variance.as_ref().map(cut);
    let parts = cut(&all.x0).map(|x0| Denoised { x0, variance: variances.as_mut().and_then(Iterator::next) });
    combine(&used, &weights, parts.collect())
}
