//! Decompositions of dense matrices in f64. faer's are generic and compile where they are used: here that happens once, for everyone above
//! and for their tests.
//!
//! Each gives `None` where an iteration did not come to its end.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatMut, Side};

/// Vectors, one a column, and the value that belongs to each.
#[derive(Clone, Debug)]
pub struct Spectral {
    /// Orthonormal columns.
    pub vectors: Mat<f64>,
    /// One a column.
    pub values: Vec<f64>,
}

/// Eigenvectors and eigenvalues, in rising order, of a symmetric matrix, of which the lower half is read.
///
/// # Shapes
/// - `symmetric`: `[D, D]`
/// - returns: vectors `[D, D]`
pub fn eigen(symmetric: &Mat<f64>) -> Option<Spectral> {
    let all = symmetric.self_adjoint_eigen(Side::Lower).ok()?;
    Some(Spectral { vectors: all.U().to_owned(), values: all.S().column_vector().iter().copied().collect() })
}

/// The eigenvalues of [`eigen`] alone.
pub fn eigenvalues(symmetric: &Mat<f64>) -> Option<Vec<f64>> {
    symmetric.self_adjoint_eigenvalues(Side::Lower).ok()
}

/// Left singular vectors and singular values, in falling order.
///
/// # Shapes
/// - `matrix`: `[N, D]`
/// - returns: vectors `[N, min(N, D)]`
pub fn left_singular(matrix: &Mat<f64>) -> Option<Spectral> {
    let all = matrix.thin_svd().ok()?;
    Some(Spectral { vectors: all.U().to_owned(), values: all.S().column_vector().iter().copied().collect() })
}

/// The singular values of [`left_singular`] alone.
pub fn singular_values(matrix: &Mat<f64>) -> Option<Vec<f64>> {
    matrix.singular_values().ok()
}

/// L L^T of a symmetric matrix, of which the lower half is read.
#[derive(Clone, Debug)]
pub struct Cholesky(Llt<f64>);

impl Cholesky {
    /// `None` where the matrix is not positive definite.
    ///
    /// # Shapes
    /// - `symmetric`: `[D, D]`
    pub fn new(symmetric: &Mat<f64>) -> Option<Self> {
        symmetric.llt(Side::Lower).ok().map(Self)
    }

    /// L: `[D, D]`.
    pub fn factor(&self) -> Mat<f64> {
        self.0.L().to_owned()
    }

    /// `v`, `[D]`, becomes the solution of A x = v.
    ///
    /// # Panics
    /// Another length than D.
    pub fn solve(&self, v: &mut [f64]) {
        let d = v.len();
        self.0.solve_in_place(MatMut::from_column_major_slice_mut(v, d, 1));
    }
}
