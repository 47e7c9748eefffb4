/// A linear support vector machine on one column, one against the rest.
pub(super) struct Svm {
    /// Weight and bias of each class; one pair, for the larger label, where there are two.
    planes: Vec<(f64, f64)>,
}

impl Svm {
    /// Fits values `x` to classes 0, 1, ..., each of which occurs, with classes balanced.
    ///
    /// Minimises 1/2 (w^2 + b^2) + sum_i C_i max(0, 1 - y_i (w x_i + b))^2 for each class against the rest. C_i is C N / (K N_c) for
    /// the items of the class; the rest have C when there are three or more classes and their own balanced weight when there are
    /// two: liblinear's rule, and so scikit-learn's `LinearSVC`.
    pub(super) fn fit(x: &[f64], classes: &[usize], sizes: &[usize], c: f64) -> Self {
        let balanced = |k: usize| c * x.len() as f64 / (sizes.len() as f64 * sizes[k] as f64);
        let plane = |k: usize| {
            let sides: Vec<(f64, f64)> = classes
                .iter()
                .map(|&class| match class == k {
                    true => (1.0, balanced(k)),
                    false if sizes.len() == 2 => (-1.0, balanced(class)),
                    false => (-1.0, c),
                })
                .collect();
            minimise(x, &sides)
        };
        let first = if sizes.len() == 2 { 1 } else { 0 };
        Self { planes: (first..sizes.len()).map(plane).collect() }
    }

    /// The class of a value; of equal votes the first.
    pub(super) fn predict(&self, x: f64) -> usize {
        let vote = |(w, b): &(f64, f64)| w * x + b;
        match &self.planes[..] {
            [one] => usize::from(vote(one) > 0.0),
            all => (1..all.len()).fold(0, |best, k| if vote(&all[k]) > vote(&all[best]) { k } else { best }),
        }
    }
}

/// Newton's method on the two numbers w and b; the objective is convex, piecewise quadratic and at least as curved as w^2 + b^2.
fn minimise(x: &[f64], sides: &[(f64, f64)]) -> (f64, f64) {
    const STEPS: usize = 200;
    let objective = |(w, b): (f64, f64)| {
        let hinge = |(x, (y, c)): (&f64, &(f64, f64))| c * (1.0 - y * (w * x + b)).max(0.0).powi(2);
        0.5 * (w * w + b * b) + x.iter().zip(sides).map(hinge).sum::<f64>()
    };
    let mut at = (0.0, 0.0);
    let mut value = objective(at);
    for _ in 0..STEPS {
        let (w, b) = at;
        let (mut gw, mut gb, mut ww, mut wb, mut bb) = (w, b, 1.0, 0.0, 1.0);
        for (x, (y, c)) in x.iter().zip(sides) {
            let short = 1.0 - y * (w * x + b);
            if short > 0.0 {
                gw -= 2.0 * c * short * y * x;
                gb -= 2.0 * c * short * y;
                ww += 2.0 * c * x * x;
                wb += 2.0 * c * x;
                bb += 2.0 * c;
            }
        }
        let det = ww * bb - wb * wb;
        let step = ((bb * gw - wb * gb) / det, (ww * gb - wb * gw) / det);
        let mut scale = 1.0;
        let next = loop {
            let there = (w - scale * step.0, b - scale * step.1);
            // Halved until it falls; at the minimum it no longer can.
            if scale < 1e-10 || objective(there) < value {
                break there;
            }
            scale *= 0.5;
        };
        let lower = objective(next);
        if lower >= value {
            break;
        }
        (at, value) = (next, lower);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::contingency::places;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_scikit_learn() {
        let file = Fixture::open("measure_representations/factors.safetensors");
        let codes = file.features("codes.mixed");
        let x: Vec<f64> = (0..codes.n()).map(|i| f64::from(codes.row(i)[0])).collect();
        let all = file.labels("factors");
        // Five values, then two.
        for (case, k, modulus) in [("five", 0, 5), ("two", 0, 2)] {
            let labels: Vec<u32> = all.iter().skip(k).step_by(3).map(|v| v % modulus).collect();
            let groups = places(&labels);
            let got = Svm::fit(&x, &groups.of, &groups.sizes, 0.01);
            let want = file.f64s(&format!("svm.{case}"));
            for (plane, want) in got.planes.iter().zip(want.chunks(2)) {
                assert_close(plane.0, want[0], 1e-7);
                assert_close(plane.1, want[1], 1e-7);
            }
        }
    }

    #[test]
    fn two_points_have_their_closed_form() {
        // x = -1, 1 with C = 1 on both: b = 0 and w + 4 (w - 1) = 0.
        let got = Svm::fit(&[-1.0, 1.0], &[0, 1], &[1, 1], 1.0);
        assert_close(got.planes[0].0, 0.8, 1e-9);
        assert_close(got.planes[0].1, 0.0, 1e-9);
        assert_eq!((got.predict(-0.5), got.predict(0.5)), (0, 1));
    }
}
