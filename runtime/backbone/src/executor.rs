//! The device seam: what an executor must do, whatever it runs on.
//!
//! An executor owns the weights' place and the KV pages' memory; who owns a page and what is in it is the business of
//! [`crate::kv`]. One test body runs over every executor.

use crate::adapter::Adapter;
use crate::error::Result;
use crate::model::ModelConfig;
use std::ops::Range;
use std::sync::Arc;

/// Tokens a KV page holds.
pub const PAGE_TOKENS: usize = 16;

/// A KV page of an executor: keys and values of [`PAGE_TOKENS`] consecutive positions, all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u32);

/// Which rows of a chunk get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: a prefill chunk that is not the last.
    None,
    /// The last token's.
    Last,
    /// Every token's (perplexity, prompt logprobs).
    All,
}

/// A run of tokens of one sequence in a step: a prefill chunk, or one token of decode.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    /// The adapter it runs under; `None` is the base model.
    pub adapter: Option<Arc<Adapter>>,
    /// Token ids, at least one.
    pub tokens: &'a [u32],
    /// Position of the first token in its sequence; the positions before it are in the pages already.
    pub start: usize,
    /// The sequence's pages in order; they cover `start + tokens.len()` positions. The step writes the new positions.
    pub pages: &'a [PageId],
    /// Which logits to give.
    pub wanted: Wanted,
}

/// Logits of a step, in the order of its chunks.
#[derive(Debug, Clone, Default)]
pub struct Logits {
    /// Entries a row has: the vocabulary.
    pub vocab: usize,
    /// All rows, one after the other.
    pub values: Vec<f32>,
    /// For each chunk, the range of its rows in `values`, counted in rows.
    pub rows: Vec<Range<usize>>,
}

impl Logits {
    /// The rows of chunk `chunk`: `Last` gives one, `All` one for each token, `None` none.
    pub fn of(&self, chunk: usize) -> impl Iterator<Item = &[f32]> {
        self.rows[chunk].clone().map(|row| &self.values[row * self.vocab..(row + 1) * self.vocab])
    }

    /// The last row of chunk `chunk`.
    pub fn last(&self, chunk: usize) -> Option<&[f32]> {
        self.of(chunk).last()
    }
}

/// A device that advances batches.
pub trait Executor: Send {
    /// The model it runs.
    fn config(&self) -> &ModelConfig;

    /// What it runs on, in words: `cpu (avx512-vnni, 2 threads)`.
    fn device(&self) -> String;

    /// Called once by the thread that will run every step, where one thread does.
    fn settle(&self) {}

    /// Bytes of one KV page.
    fn page_bytes(&self) -> u64;

    /// KV pages it has.
    fn pages(&self) -> u32;

    /// Advances every chunk. A row's numbers do not depend on the other rows of the batch.
    ///
    /// # Errors
    /// [`crate::Error::Changed`] when the mapped model changed underneath, [`crate::Error::BadRequest`] when a token or
    /// position is out of range. Non-finite logits of one chunk are given as they are: they are that sequence's own.
    fn step(&mut self, batch: &[Chunk<'_>]) -> Result<Logits>;

    /// Copies a page (copy-on-write).
    fn copy_page(&mut self, from: PageId, to: PageId);

    /// Appends a page's bytes to `out` (swap out).
    fn export_page(&self, page: PageId, out: &mut Vec<u8>);

    /// Fills a page from bytes that [`Executor::export_page`] gave (swap in).
    fn import_page(&mut self, page: PageId, bytes: &[u8]);

    /// Overwrites a page with zeros, before it goes to another owner.
    fn clear_page(&mut self, page: PageId);
}
