//! Products of strided matrices: the only file that calls gemm.
//!
//! A transpose is a swap of strides, so no backward pass copies a matrix to transpose it. gemm takes
//! pointers: every view is checked against its slice when it is made.

use super::profile;
use gemm::Parallelism;

/// A matrix in a borrowed slice.
#[derive(Clone, Copy)]
pub struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A matrix to write to, row by row.
pub struct MatrixViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(rows > 0 && cols > 0, "a matrix has rows and columns");
    assert!(row_stride >= cols, "rows must not overlap");
    assert!(
        (rows - 1) * row_stride + cols <= len,
        "a {rows} x {cols} matrix with row stride {row_stride} does not fit {len} numbers"
    );
}

impl<'a> MatrixView<'a> {
    /// Rows of `cols` elements, `row_stride` apart.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Rows that follow each other.
    #[must_use]
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    /// The transpose, without a copy.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

impl<'a> MatrixViewMut<'a> {
    /// Rows of `cols` elements, `row_stride` apart.
    #[must_use]
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }

    /// Rows that follow each other.
    #[must_use]
    pub fn dense(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }
}

/// What happens to the destination's old elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// It is overwritten.
    Overwrite,
    /// The product is added to it.
    Accumulate,
}

/// Whether a product may use the pool's other threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// All threads of the current pool.
    Pool,
    /// The calling thread only: the caller is parallel already.
    Current,
}

/// `dst = scale * lhs * rhs`, or `dst += scale * lhs * rhs`.
///
/// # Panics
/// When the shapes do not match.
pub fn matmul(
    dst: MatrixViewMut<'_>,
    mode: WriteMode,
    scale: f32,
    lhs: MatrixView<'_>,
    rhs: MatrixView<'_>,
    on: Threads,
) {
    assert_eq!(lhs.cols, rhs.rows, "inner sizes differ");
    assert_eq!((dst.rows, dst.cols), (lhs.rows, rhs.cols), "outer sizes differ");
    let threads = match on {
        Threads::Pool => rayon::current_num_threads(),
        Threads::Current => 1,
    };
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let beside = if on == Threads::Current { rayon::current_num_threads() } else { 1 };
    let flops = 2 * (dst.rows * dst.cols * lhs.cols) as u64;
    profile::gemm(flops, beside, || multiply(dst, mode, scale, lhs, rhs, parallelism));
}

fn multiply(
    dst: MatrixViewMut<'_>,
    mode: WriteMode,
    scale: f32,
    lhs: MatrixView<'_>,
    rhs: MatrixView<'_>,
    parallelism: Parallelism,
) {
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; each view was checked against its slice, and dst is borrowed mutably"
    )]
    // SAFETY: all offsets reached are (rows-1)*row_stride + (cols-1)*col_stride at most, which `check`
    // bounded; dst can't alias lhs or rhs, because it is a mutable borrow, and its rows don't overlap.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            mode == WriteMode::Accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_products_agree_with_the_definition() {
        let (m, n, k) = (5, 7, 3);
        let a: Vec<f32> = (0..m * 4).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..n * 6).map(|i| (i as f32).sin()).collect();
        let mut out = vec![1f32; m * 9];
        matmul(
            MatrixViewMut::new(&mut out, m, n, 9),
            WriteMode::Accumulate,
            0.5,
            MatrixView::new(&a, m, k, 4),
            MatrixView::new(&b, n, k, 6).t(),
            Threads::Current,
        );
        for i in 0..m {
            for j in 0..9 {
                let expected = if j < n {
                    1.0 + 0.5 * (0..k).map(|l| a[i * 4 + l] * b[j * 6 + l]).sum::<f32>()
                } else {
                    1.0
                };
                assert!((out[i * 9 + j] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_view_past_its_slice_is_refused() {
        let _ = MatrixView::dense(&[0.0; 5], 2, 3);
    }
}
