//! Least squares with coefficients that are not negative, relative to each point's size.
//!
//! At most three coefficients, so every subset of them is tried and the best whose solution has no negative one is
//! taken. Times can't shrink with work, so a negative coefficient would be noise read as a law.

/// One equation: `k · x = y`, its error taken relative to `of`.
#[derive(Clone, Copy, Debug)]
pub struct Row<const N: usize> {
    /// Features.
    pub x: [f64; N],
    /// Measured value.
    pub y: f64,
    /// What an error is a share of; positive.
    pub of: f64,
}

/// How far a fit is from its points, as shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Points fitted.
    pub points: usize,
    /// Mean absolute error.
    pub mean: f64,
    /// Largest absolute error.
    pub worst: f64,
}

impl Errors {
    /// Errors of predictions: pairs of an absolute difference and what it is a share of.
    pub fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let shares: Vec<f64> = pairs.map(|(difference, of)| difference.abs() / of.max(1e-12)).collect();
        let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        Self { points: shares.len(), mean, worst: shares.iter().copied().fold(0.0, f64::max) }
    }
}

/// Coefficients and their errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit<const N: usize> {
    /// Coefficients in the order of the features.
    pub k: [f64; N],
    /// How well they fit.
    pub errors: Errors,
}

impl<const N: usize> Fit<N> {
    /// The value at some features.
    pub fn at(&self, x: [f64; N]) -> f64 {
        self.k.iter().zip(x).map(|(k, x)| k * x).sum()
    }
}

/// The best fit with no negative coefficient. Without rows all are zero.
pub fn fit<const N: usize>(rows: &[Row<N>]) -> Fit<N> {
    let zero = Fit { k: [0.0; N], errors: Errors::default() };
    let candidates = (1..1usize << N).filter_map(|subset| solve(rows, subset)).map(|k| Fit { k, ..zero });
    let usable = candidates.filter(|fit| fit.k.iter().all(|k| k.is_finite() && *k >= 0.0));
    let best = usable.min_by(|a, b| squares(rows, a).total_cmp(&squares(rows, b))).unwrap_or(zero);
    let errors = Errors::of(rows.iter().map(|row| (best.at(row.x) - row.y, row.of)));
    Fit { errors, ..best }
}

fn squares<const N: usize>(rows: &[Row<N>], fit: &Fit<N>) -> f64 {
    rows.iter().map(|row| (fit.at(row.x) - row.y) / row.of).map(|error| error * error).sum()
}

/// Normal equations over the features of a subset, the others zero; `None` where they have no single solution.
fn solve<const N: usize>(rows: &[Row<N>], subset: usize) -> Option<[f64; N]> {
    let used: Vec<usize> = (0..N).filter(|n| subset >> n & 1 == 1).collect();
    // Features differ by orders of magnitude: each is scaled by its largest value.
    let scale: Vec<f64> =
        used.iter().map(|&n| rows.iter().map(|r| (r.x[n] / r.of).abs()).fold(0.0, f64::max)).collect();
    if scale.iter().any(|s| *s <= 0.0) {
        return None;
    }
    let m = used.len();
    let mut a = vec![vec![0.0; m + 1]; m];
    for row in rows {
        let x: Vec<f64> = used.iter().zip(&scale).map(|(&n, s)| row.x[n] / row.of / s).collect();
        for i in 0..m {
            (0..m).for_each(|j| a[i][j] += x[i] * x[j]);
            a[i][m] += x[i] * row.y / row.of;
        }
    }
    let solved = eliminate(&mut a)?;
    let mut k = [0.0; N];
    used.iter().enumerate().for_each(|(i, &n)| k[n] = solved[i] / scale[i]);
    Some(k)
}

/// Gauss with pivots; `None` for a singular system.
fn eliminate(a: &mut [Vec<f64>]) -> Option<Vec<f64>> {
    let m = a.len();
    for column in 0..m {
        let pivot = (column..m).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
        if a[pivot][column].abs() < 1e-12 {
            return None;
        }
        a.swap(column, pivot);
        let head = a[column].clone();
        for (_, row) in a.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column] / head[column];
            row.iter_mut().zip(&head).for_each(|(cell, above)| *cell -= factor * above);
        }
    }
    Some((0..m).map(|i| a[i][m] / a[i][i]).collect())
}
