//! Limited-memory BFGS with a caller's preconditioner: the minimiser under logistic regression.

use std::collections::VecDeque;

/// A positive definite guess of the inverse Hessian.
pub(crate) trait Guess {
    /// Makes the guess anew for this point.
    fn refresh(&mut self, point: &[f64]);
    /// Multiplies a vector by the guess, in place.
    fn apply(&self, v: &mut [f64]);
}

/// When to stop, and how often to guess again.
pub(crate) struct Limits {
    /// Largest entry of the gradient at which the point counts as the minimum.
    pub gradient: f64,
    /// Iterations (accepted steps) at most.
    pub iterations: usize,
    /// Iterations between two guesses.
    pub refresh: usize,
}

/// Where the minimiser stopped.
pub(crate) struct Minimum {
    pub point: Vec<f64>,
    pub value: f64,
    /// Largest entry of the gradient there.
    pub gradient: f64,
    pub iterations: usize,
    /// The gradient is below its limit, or no smaller value can be told apart in f64.
    pub converged: bool,
}

/// Correction pairs kept. Twenty vectors of classes x features are small beside the data.
const MEMORY: usize = 20;
/// Sufficient decrease and curvature of the strong Wolfe conditions (Nocedal and Wright, section 3.1, values for quasi-Newton).
const C1: f64 = 1e-4;
const C2: f64 = 0.9;
/// Changes of the value below this share are rounding: a sum of 10^5 losses in f64 is good to about that.
const ROUNDING: f64 = 1e-13;

/// One remembered step: s = x_new - x_old, y = g_new - g_old, rho = 1 / s.y.
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

/// Minimises a smooth function from `start`.
///
/// `objective(x, gradient)` returns the value and fills the gradient. The guess is made at the start and every `refresh`
/// iterations; its overall scale is corrected from the last pair.
///
/// # Source
/// Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5; the guess P enters as H0 = gamma P with
/// gamma = s.y / y.P y, which for P = 1 is their eq. 7.20.
pub(crate) fn minimise(
    start: Vec<f64>,
    limits: &Limits,
    objective: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
    guess: &mut dyn Guess,
) -> Minimum {
    let mut x = start;
    let mut gradient = vec![0.0; x.len()];
    let mut value = objective(&x, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let (mut iterations, mut fresh_until) = (0, 0);
    loop {
        let left = largest(&gradient);
        if left <= limits.gradient || iterations >= limits.iterations || !value.is_finite() {
            return Minimum { point: x, value, gradient: left, iterations, converged: left <= limits.gradient };
        }
        if iterations >= fresh_until {
            guess.refresh(&x);
            fresh_until = iterations + limits.refresh;
        }
        let direction = direction(&gradient, &pairs, guess);
        let Some((point, found, new_gradient)) = line_search(&x, value, &gradient, &direction, objective) else {
            // The pairs may have gone stale through rounding: once more without them, then this is as low as f64 can tell.
            if pairs.is_empty() {
                return Minimum { point: x, value, gradient: left, iterations, converged: true };
            }
            pairs.clear();
            continue;
        };
        let s: Vec<f64> = point.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        // Wolfe steps make s.y positive; rounding near the minimum may not.
        if sy > 0.0 {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { s, y, rho: 1.0 / sy });
        }
        (x, value, gradient) = (point, found, new_gradient);
        iterations += 1;
    }
}

/// -H g by the two-loop recursion.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>, guess: &dyn Guess) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.rho * dot(&pair.s, &q);
        add(&mut q, -share, &pair.y);
        shares.push(share);
    }
    guess.apply(&mut q);
    if let Some(last) = pairs.back() {
        let mut py = last.y.clone();
        guess.apply(&mut py);
        let gamma = 1.0 / (last.rho * dot(&last.y, &py));
        q.iter_mut().for_each(|v| *v *= gamma);
    }
    for (pair, share) in pairs.iter().zip(shares.iter().rev()) {
        let back = pair.rho * dot(&pair.y, &q);
        add(&mut q, share - back, &pair.s);
    }
    q.iter_mut().for_each(|v| *v = -*v);
    q
}

/// A place on the search line: its length, the value and the slope along the direction.
#[derive(Clone, Copy)]
struct Place {
    a: f64,
    value: f64,
    slope: f64,
}

/// A step that meets the strong Wolfe conditions, with value and gradient there; `None` when none can be told apart from standing still.
fn line_search(
    x: &[f64],
    value: f64,
    gradient: &[f64],
    direction: &[f64],
    objective: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<(Vec<f64>, f64, Vec<f64>)> {
    let zero = Place { a: 0.0, value, slope: dot(gradient, direction) };
    if zero.slope >= 0.0 || !zero.slope.is_finite() {
        return None;
    }
    let mut point = x.to_vec();
    let mut at = vec![0.0; x.len()];
    let mut try_length = |a: f64, point: &mut [f64], at: &mut [f64]| {
        point.iter_mut().zip(x).zip(direction).for_each(|((p, x), d)| *p = x + a * d);
        let value = objective(point, at);
        Place { a, value, slope: dot(at, direction) }
    };
    // Enough decrease, or (where values only differ by rounding) the slopes say so: the approximate Wolfe condition of Hager and Zhang 2005.
    let decreases = |p: Place| {
        p.value <= zero.value + C1 * p.a * zero.slope
            || (p.value <= zero.value + ROUNDING * zero.value.abs() && p.slope <= (2.0 * C1 - 1.0) * zero.slope)
    };
    let is_flat = |p: Place| p.slope.abs() <= -C2 * zero.slope;

    let mut low = zero;
    let mut high: Option<Place> = None;
    let mut length = 1.0;
    for _ in 0..60 {
        let here = try_length(length, &mut point, &mut at);
        if !here.value.is_finite() || !decreases(here) || (here.value > low.value && low.a > 0.0) {
            high = Some(here);
        } else if is_flat(here) {
            return Some((point, here.value, at));
        } else {
            let ahead = high.map_or(1.0, |h| h.a - low.a);
            if here.slope * ahead >= 0.0 {
                high = Some(low);
            }
            low = here;
        }
        length = match high {
            None => 2.0 * length,
            Some(high) if (high.a - low.a).abs() <= 1e-16 * low.a.abs().max(1e-16) => return None,
            Some(high) => between(low, high),
        };
    }
    None
}

/// Minimiser of the cubic through two places, kept off both ends; the middle where the cubic has none.
fn between(low: Place, high: Place) -> f64 {
    let gap = high.a - low.a;
    let middle = low.a + 0.5 * gap;
    if !high.value.is_finite() {
        return low.a + 0.1 * gap;
    }
    let d1 = low.slope + high.slope - 3.0 * (high.value - low.value) / gap;
    let d2 = gap.signum() * (d1 * d1 - low.slope * high.slope).sqrt();
    let cubic = high.a - gap * (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let share = (cubic - low.a) / gap;
    if share.is_finite() { low.a + gap * share.clamp(0.1, 0.9) } else { middle }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(t, w)| *t += scale * w);
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |m, v| v.abs().max(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { gradient: 1e-9, iterations: 500, refresh: 10 };

    /// A guess that stays as it is.
    struct Fixed<F>(F);

    impl<F: Fn(&mut [f64])> Guess for Fixed<F> {
        fn refresh(&mut self, _: &[f64]) {}
        fn apply(&self, v: &mut [f64]) {
            (self.0)(v);
        }
    }

    #[test]
    fn finds_the_valley_of_rosenbrock() {
        let mut calls = 0;
        let mut rosenbrock = |x: &[f64], g: &mut [f64]| {
            calls += 1;
            let bend = x[1] - x[0] * x[0];
            g[0] = -400.0 * x[0] * bend - 2.0 * (1.0 - x[0]);
            g[1] = 200.0 * bend;
            100.0 * bend * bend + (1.0 - x[0]).powi(2)
        };
        let found = minimise(vec![-1.2, 1.0], &LIMITS, &mut rosenbrock, &mut Fixed(|_: &mut [f64]| {}));
        assert!(found.converged && found.value < 1e-16);
        assert!((found.point[0] - 1.0).abs() < 1e-8 && (found.point[1] - 1.0).abs() < 1e-8, "{:?}", found.point);
        assert!(calls < 100, "{calls} evaluations");
    }

    #[test]
    fn the_exact_preconditioner_solves_a_quadratic_in_one_step() {
        // f = sum c_i (x_i - i)^2 / 2 with curvatures over twelve orders of magnitude.
        let c: Vec<f64> = (0..13).map(|i| 10f64.powi(i - 6)).collect();
        let mut quadratic = |x: &[f64], g: &mut [f64]| {
            (0..13).for_each(|i| g[i] = c[i] * (x[i] - i as f64));
            (0..13).map(|i| 0.5 * c[i] * (x[i] - i as f64).powi(2)).sum()
        };
        let inverse = |v: &mut [f64]| v.iter_mut().zip(&c).for_each(|(v, c)| *v /= c);
        let found = minimise(vec![0.0; 13], &LIMITS, &mut quadratic, &mut Fixed(inverse));
        assert!(found.converged && found.iterations == 1);
        (0..13).for_each(|i| assert!((found.point[i] - i as f64).abs() < 1e-9));
    }

    #[test]
    fn stops_at_the_limit_and_at_rounding() {
        let mut bowl = |x: &[f64], g: &mut [f64]| {
            g[0] = x[0].powi(3);
            0.25 * x[0].powi(4)
        };
        let short = minimise(
            vec![3.0],
            &Limits { gradient: 1e-30, iterations: 2, refresh: 10 },
            &mut bowl,
            &mut Fixed(|_: &mut [f64]| {}),
        );
        assert!(!short.converged && short.iterations == 2);

        // A value of 1e8 hides everything below 1e-8: the search must end instead of running on.
        let mut lifted = |x: &[f64], g: &mut [f64]| {
            g[0] = 2.0 * (x[0] - 1.0);
            1e8 + (x[0] - 1.0).powi(2)
        };
        let found = minimise(
            vec![0.0],
            &Limits { gradient: 0.0, iterations: 1000, refresh: 10 },
            &mut lifted,
            &mut Fixed(|_: &mut [f64]| {}),
        );
        assert!(found.converged && (found.point[0] - 1.0).abs() < 1e-4, "{:?}", found.point);
    }

    #[test]
    fn backs_out_of_overflow() {
        let mut steep = |x: &[f64], g: &mut [f64]| {
            let e = (50.0 * x[0]).exp();
            g[0] = 50.0 * e - 1.0;
            e - x[0]
        };
        let found = minimise(vec![-30.0], &LIMITS, &mut steep, &mut Fixed(|v: &mut [f64]| v[0] *= 1e3));
        assert!(found.converged && (found.point[0] + 50f64.ln() / 50.0).abs() < 1e-8, "{:?}", found.point);
    }
}
