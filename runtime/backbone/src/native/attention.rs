//! Attention of a tile of rows over paged keys and values, one KV head and its query heads at a time.
//!
//! Pages are taken in order with a running softmax, so a row's sum has one order whatever chunk or batch it came in.
//! Keys of a page lie `[head_dim][16]`, so that the sixteen lanes are its positions; values lie `[16][head_dim]`.

#![expect(unsafe_code, reason = "loops over raw rows, compiled for each tier")]

use super::pages::{KvPages, PageHead};
use super::simd::{LANES, Lanes};
use crate::executor::{PAGE_TOKENS, PageId};

/// Query vectors whose scores share the loads of a key page.
const SCORE_BLOCK: usize = 4;

/// A tile's work: rows of one sequence, one KV head, all query heads that read it.
pub struct Attend<'a> {
    /// The KV pages' memory.
    pub kv: &'a KvPages,
    /// Layer.
    pub layer: usize,
    /// KV head.
    pub head: usize,
    /// The sequence's pages.
    pub pages: &'a [PageId],
    /// Position of the tile's first row.
    pub start: usize,
    /// Rows of the tile.
    pub rows: usize,
    /// Query heads of this KV head.
    pub group: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Positions a row sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// First query head of the first row; rows are `stride` apart, heads `head_dim`.
    pub q: *const f32,
    /// Where the outputs go, in the layout of `q`.
    pub out: *mut f32,
    /// Distance of rows in `q` and `out`.
    pub stride: usize,
    /// Working memory of the thread.
    pub scratch: &'a mut Scratch,
}

/// Working memory of one thread; grows to what a tile needs.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    sums: Vec<f32>,
    weights: Vec<f32>,
    largest: Vec<f32>,
    outputs: Vec<f32>,
}

impl Scratch {
    fn fit(&mut self, vectors: usize, head_dim: usize, padded: usize) {
        let vectors = vectors.next_multiple_of(SCORE_BLOCK);
        self.keys.resize(head_dim * LANES, 0.0);
        self.values.clear();
        self.values.resize(PAGE_TOKENS * padded, 0.0);
        self.queries.clear();
        self.queries.resize(vectors * head_dim, 0.0);
        self.sums.clear();
        self.sums.resize(vectors * LANES, 0.0);
        self.weights.resize(vectors * LANES, 0.0);
        self.largest.clear();
        self.largest.resize(vectors, f32::NEG_INFINITY);
        self.outputs.clear();
        self.outputs.resize(vectors * padded, 0.0);
    }
}

/// Positions of a page that a row at `position` sees, as a range inside the page.
#[inline(always)]
fn visible(page: usize, position: usize, window: usize) -> (usize, usize) {
    let first = page * PAGE_TOKENS;
    let low = (position + 1).saturating_sub(window).saturating_sub(first).min(PAGE_TOKENS);
    let high = (position + 1).saturating_sub(first).min(PAGE_TOKENS);
    (low, high)
}

/// Runs a tile.
///
/// # Safety
/// The CPU has the features of `L`; `q` and `out` point to the tile's rows and no other thread writes them; the pages'
/// positions up to the last row are written and no thread writes them meanwhile.
#[inline(always)]
pub unsafe fn attend<L: Lanes>(tile: &mut Attend<'_>) {
    let (vectors, padded) = (tile.rows * tile.group, tile.head_dim.next_multiple_of(LANES));
    tile.scratch.fit(vectors, tile.head_dim, padded);
    unsafe { gather(tile) };
    let first = (tile.start + 1).saturating_sub(tile.window) / PAGE_TOKENS;
    let last = (tile.start + tile.rows - 1) / PAGE_TOKENS;
    for page in first..=last {
        let head = tile.kv.head(tile.pages[page], tile.layer, tile.head);
        unsafe {
            load_page::<L>(&head, tile.scratch, tile.head_dim, padded);
            for block in (0..vectors).step_by(SCORE_BLOCK) {
                scores::<L>(tile, block);
            }
            for vector in 0..vectors {
                let (low, high) = visible(page, tile.start + vector / tile.group, tile.window);
                if low < high {
                    soften::<L>(tile.scratch, vector, low, high, padded);
                    weigh::<L>(tile.scratch, vector, low, high, padded);
                }
            }
        }
    }
    unsafe { scatter::<L>(tile, padded) };
}

/// Copies the queries in, scaled.
#[inline(always)]
unsafe fn gather(tile: &mut Attend<'_>) {
    let dim = tile.head_dim;
    for vector in 0..tile.rows * tile.group {
        let (row, head) = (vector / tile.group, vector % tile.group);
        // SAFETY: the caller of `attend` gives these rows.
        let q = unsafe { std::slice::from_raw_parts(tile.q.add(row * tile.stride + head * dim), dim) };
        let to = &mut tile.scratch.queries[vector * dim..(vector + 1) * dim];
        to.iter_mut().zip(q).for_each(|(to, q)| *to = q * tile.scale);
    }
}

/// Brings a page's keys and values to f32.
#[inline(always)]
unsafe fn load_page<L: Lanes>(head: &PageHead<'_>, scratch: &mut Scratch, dim: usize, padded: usize) {
    unsafe {
        match head {
            PageHead::F32 { keys, values } => {
                scratch.keys[..dim * LANES].copy_from_slice(keys);
                for (from, to) in values.chunks_exact(dim).zip(scratch.values.chunks_exact_mut(padded)) {
                    to[..dim].copy_from_slice(from);
                }
            }
            PageHead::F16 { keys, values } => {
                for (from, to) in keys.chunks_exact(LANES).zip(scratch.keys.chunks_exact_mut(LANES)) {
                    L::load_f16(from.as_ptr()).store(to.as_mut_ptr());
                }
                for (from, to) in values.chunks_exact(dim).zip(scratch.values.chunks_exact_mut(padded)) {
                    widen(from, to, |from| L::load_f16(from), |value| value.to_f32());
                }
            }
            PageHead::Q8 { keys, key_scales, values, value_scales } => {
                let scales = L::load(key_scales.as_ptr());
                for (from, to) in keys.chunks_exact(LANES).zip(scratch.keys.chunks_exact_mut(LANES)) {
                    L::load_i8(from.as_ptr()).mul(scales).store(to.as_mut_ptr());
                }
                let rows = values.chunks_exact(dim).zip(scratch.values.chunks_exact_mut(padded));
                for ((from, to), &scale) in rows.zip(*value_scales) {
                    let lanes = L::splat(scale);
                    widen(from, to, |from| L::load_i8(from).mul(lanes), |value| f32::from(value) * scale);
                }
            }
        }
    }
}

/// Turns a row of stored values into floats: whole registers with `wide`, what is left over with `one`.
#[inline(always)]
unsafe fn widen<T: Copy, L: Lanes>(
    from: &[T],
    to: &mut [f32],
    wide: impl Fn(*const T) -> L,
    one: impl Fn(T) -> f32,
) {
    let whole = from.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: sixteen elements lie at `at` in both.
        unsafe { wide(from.as_ptr().add(at)).store(to.as_mut_ptr().add(at)) };
    }
    to[whole..].iter_mut().zip(&from[whole..]).for_each(|(to, from)| *to = one(*from));
}

/// Scores of four query vectors with the page's sixteen keys, into `weights`.
#[inline(always)]
unsafe fn scores<L: Lanes>(tile: &mut Attend<'_>, block: usize) {
    unsafe {
        let dim = tile.head_dim;
        let scratch = &mut *tile.scratch;
        let q = scratch.queries.as_ptr().add(block * dim);
        let mut sums = [L::splat(0.0); SCORE_BLOCK];
        for d in 0..dim {
            let keys = L::load(scratch.keys.as_ptr().add(d * LANES));
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = L::splat(*q.add(n * dim + d)).fma(keys, *sum);
            }
        }
        for (n, sum) in sums.into_iter().enumerate() {
            sum.store(scratch.weights.as_mut_ptr().add((block + n) * LANES));
        }
    }
}

/// Turns a vector's scores into softmax weights relative to its running maximum, and rescales what it has so far.
#[inline(always)]
unsafe fn soften<L: Lanes>(scratch: &mut Scratch, vector: usize, low: usize, high: usize, padded: usize) {
    unsafe {
        let weights = scratch.weights.as_mut_ptr().add(vector * LANES);
        let partial = low > 0 || high < PAGE_TOKENS;
        if partial {
            (0..low).chain(high..PAGE_TOKENS).for_each(|t| *weights.add(t) = f32::NEG_INFINITY);
        }
        let scores = L::load(weights);
        let before = scratch.largest[vector];
        let largest = scores.largest();
        let now = if largest > before { largest } else { before };
        scores.sub(L::splat(now)).exp().store(weights);
        if partial {
            (0..low).chain(high..PAGE_TOKENS).for_each(|t| *weights.add(t) = 0.0);
        }
        let sums = scratch.sums.as_mut_ptr().add(vector * LANES);
        if now > before {
            scratch.largest[vector] = now;
            let shrink = L::splat(before - now).exp();
            L::load(sums).fma(shrink, L::load(weights)).store(sums);
            let outputs = scratch.outputs.as_mut_ptr().add(vector * padded);
            for d in (0..padded).step_by(LANES) {
                L::load(outputs.add(d)).mul(shrink).store(outputs.add(d));
            }
        } else {
            L::load(sums).add(L::load(weights)).store(sums);
        }
    }
}

/// Adds the page's values, weighted, to a vector's output.
#[inline(always)]
unsafe fn weigh<L: Lanes>(scratch: &mut Scratch, vector: usize, low: usize, high: usize, padded: usize) {
    unsafe {
        let weights = scratch.weights.as_ptr().add(vector * LANES);
        let outputs = scratch.outputs.as_mut_ptr().add(vector * padded);
        let values = scratch.values.as_ptr();
        let mut d = 0;
        while d + 4 * LANES <= padded {
            let mut sums = [L::splat(0.0); 4];
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(outputs.add(d + n * LANES));
            }
            for t in low..high {
                let weight = L::splat(*weights.add(t));
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(values.add(t * padded + d + n * LANES)).fma(weight, *sum);
                }
            }
            for (n, sum) in sums.into_iter().enumerate() {
                sum.store(outputs.add(d + n * LANES));
            }
            d += 4 * LANES;
        }
        while d < padded {
            let mut sum = L::load(outputs.add(d));
            for t in low..high {
                sum = L::load(values.add(t * padded + d)).fma(L::splat(*weights.add(t)), sum);
            }
            sum.store(outputs.add(d));
            d += LANES;
        }
    }
}

/// Divides by the softmax's sum and copies the outputs to their rows.
#[inline(always)]
unsafe fn scatter<L: Lanes>(tile: &mut Attend<'_>, padded: usize) {
    let dim = tile.head_dim;
    for vector in 0..tile.rows * tile.group {
        let (row, head) = (vector / tile.group, vector % tile.group);
        // SAFETY: the caller of `attend` gives these rows, and this thread alone writes them.
        unsafe {
            let factor = 1.0 / L::load(tile.scratch.sums.as_ptr().add(vector * LANES)).sum();
            let out = std::slice::from_raw_parts_mut(tile.out.add(row * tile.stride + head * dim), dim);
            let from = &tile.scratch.outputs[vector * padded..vector * padded + dim];
            out.iter_mut().zip(from).for_each(|(out, from)| *out = from * factor);
        }
    }
}
