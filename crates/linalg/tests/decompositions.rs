//! Decompositions against what they put together again, and against closed forms.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use faer::Mat;
use pentimento_linalg::{Cholesky, eigen, eigenvalues, left_singular, singular_values};

/// Rough numbers that are the same each time.
fn rough(rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |i, j| ((i * i + 3 * i * j * j + 5 * j + 1) as f64).sin())
}

fn gap(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).norm_max()
}

fn scaled(vectors: &Mat<f64>, values: &[f64]) -> Mat<f64> {
    Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| vectors[(i, j)] * values[j])
}

#[test]
fn eigenvectors_put_a_symmetric_matrix_together_again() {
    // Values 1 and 3; what lies above the diagonal is not read.
    let small = Mat::from_fn(2, 2, |i, j| {
        if i == j {
            2.0
        } else if i > j {
            1.0
        } else {
            f64::NAN
        }
    });
    let values = eigenvalues(&small).unwrap();
    assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14, "{values:?}");
    let a = rough(40, 17);
    let symmetric = a.transpose() * &a;
    let all = eigen(&symmetric).unwrap();
    assert!(all.values.is_sorted());
    assert!(gap(&(scaled(&all.vectors, &all.values) * all.vectors.transpose()), &symmetric) < 1e-12);
    let alone = eigenvalues(&symmetric).unwrap();
    assert!(alone.iter().zip(&all.values).all(|(a, b)| (a - b).abs() < 1e-12), "{alone:?}");
}

#[test]
fn singular_vectors_span_what_a_matrix_reaches() {
    for (rows, columns) in [(23, 9), (9, 23)] {
        let a = rough(rows, columns);
        let all = left_singular(&a).unwrap();
        assert_eq!((all.vectors.shape(), all.values.len()), ((rows, 9), 9));
        assert!(all.values.is_sorted_by(|a, b| a >= b));
        // U S^2 U^T = A A^T.
        let squares: Vec<f64> = all.values.iter().map(|v| v * v).collect();
        assert!(gap(&(scaled(&all.vectors, &squares) * all.vectors.transpose()), &(&a * a.transpose())) < 1e-12);
        let alone = singular_values(&a).unwrap();
        assert!(alone.iter().zip(&all.values).all(|(a, b)| (a - b).abs() < 1e-12), "{alone:?}");
    }
}

#[test]
fn a_cholesky_factor_squares_to_its_matrix_and_solves_with_it() {
    let a = rough(30, 11);
    let symmetric = a.transpose() * &a;
    let cholesky = Cholesky::new(&symmetric).unwrap();
    let factor = cholesky.factor();
    assert!(gap(&(&factor * factor.transpose()), &symmetric) < 1e-12);
    assert!((0..11).all(|i| (i + 1..11).all(|j| factor[(i, j)].abs() <= 0.0)), "a lower triangle");
    let want = Mat::from_fn(11, 1, |i, _| i as f64 - 4.0);
    let right = &symmetric * &want;
    let mut v: Vec<f64> = (0..11).map(|i| right[(i, 0)]).collect();
    cholesky.solve(&mut v);
    assert!(v.iter().enumerate().all(|(i, v)| (v - want[(i, 0)]).abs() < 1e-8), "{v:?}");
    assert!(Cholesky::new(&Mat::from_fn(2, 2, |i, j| if i == j { 0.0 } else { 1.0 })).is_none());
}
