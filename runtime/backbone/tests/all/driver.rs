//! Runs sequences over an executor for tests: hands out pages, cuts prompts into chunks, gathers logits.
//!
//! No policy and no reuse of pages: a sequence keeps the pages it gets.

use coldframe_backbone::adapter::{Adapter, BaseWeights};
use coldframe_backbone::checkpoint::{Checkpoint, Part, Weight};
use coldframe_backbone::executor::{Chunk, Executor, PAGE_TOKENS, PageId, Wanted};
use coldframe_backbone::model::ModelConfig;
use coldframe_backbone::{Module, Site};
use std::sync::Arc;

/// Base weights straight from a checkpoint, in Hugging Face row order.
pub struct Files(pub Checkpoint);

impl BaseWeights for Files {
    fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        let weight = match site {
            Site::Block(layer, module) => Weight::Block(layer, Part::Linear(module)),
            Site::Embed => Weight::Embed,
            Site::Head if self.config().tied => Weight::Embed,
            Site::Head => Weight::Head,
        };
        let turned = matches!(site, Site::Block(_, Module::Q | Module::K)) && self.0.rows_interleaved();
        let row = if turned { interleaved(row, self.config().head_dim) } else { row };
        let view = self.0.weight(weight).expect("an open checkpoint").expect("every matrix is there");
        view.dequantise(row..row + 1, out);
    }
}

/// Where llama.cpp's interleaved order has a row of Hugging Face's.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
    head * head_dim + 2 * pair + half
}

/// A sequence that is being run.
#[derive(Debug)]
pub struct Sequence {
    /// What it runs under.
    pub adapter: Option<Arc<Adapter>>,
    /// Its tokens, prompt first.
    pub tokens: Vec<u32>,
    /// Logits of every position that has run.
    pub rows: Vec<Vec<f32>>,
    pages: Vec<PageId>,
}

/// An executor and the pages that are left of it.
pub struct Run<'e> {
    executor: &'e mut dyn Executor,
    next_page: u32,
}

impl Sequence {
    /// Positions that have run.
    pub fn done(&self) -> usize {
        self.rows.len()
    }

    /// The most likely next token.
    pub fn greedy(&self) -> u32 {
        let last = self.rows.last().expect("the sequence has run");
        let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b]));
        best.expect("a vocabulary") as u32
    }
}

impl<'e> Run<'e> {
    /// Starts on a fresh executor.
    pub fn new(executor: &'e mut dyn Executor) -> Self {
        Self { executor, next_page: 0 }
    }

    /// A sequence with pages for `room` tokens after its prompt.
    pub fn sequence(&mut self, adapter: Option<Arc<Adapter>>, prompt: &[u32], room: usize) -> Sequence {
        let pages = (prompt.len() + room).div_ceil(PAGE_TOKENS) as u32;
        assert!(
            self.next_page + pages <= self.executor.pages(),
            "the executor has too few pages for this test"
        );
        // Handed out backwards, so that a sequence's pages are not in the order of their numbers.
        let pages = (self.next_page..self.next_page + pages).rev().map(PageId).collect::<Vec<_>>();
        self.next_page += pages.len() as u32;
        Sequence { adapter, tokens: prompt.to_vec(), rows: Vec::new(), pages }
    }

    /// Advances each sequence by its number of tokens, all in one step; a sequence with 0 sits out.
    pub fn step(&mut self, batch: &mut [(&mut Sequence, usize)]) {
        let chunks: Vec<Chunk<'_>> = batch.iter().filter(|(_, count)| *count > 0).map(chunk).collect();
        if chunks.is_empty() {
            return;
        }
        let logits = self.executor.step(&chunks).expect("a valid step");
        let ran = batch.iter_mut().filter(|(_, count)| *count > 0);
        for (index, (sequence, count)) in ran.enumerate() {
            let before = sequence.done();
            sequence.rows.extend(logits.of(index).map(<[f32]>::to_vec));
            assert_eq!(sequence.done(), before + *count, "a row for each token");
        }
    }

    /// Runs one sequence to the end of its tokens, `size` tokens a step.
    pub fn finish(&mut self, sequence: &mut Sequence, size: usize) {
        while sequence.done() < sequence.tokens.len() {
            let count = size.min(sequence.tokens.len() - sequence.done());
            self.step(&mut [(sequence, count)]);
        }
    }
}

fn chunk<'a>((sequence, count): &'a (&mut Sequence, usize)) -> Chunk<'a> {
    let start = sequence.done();
    let pages = (start + count).div_ceil(PAGE_TOKENS);
    Chunk {
        adapter: sequence.adapter.clone(),
        tokens: &sequence.tokens[start..start + count],
        start,
        pages: &sequence.pages[..pages],
        wanted: Wanted::All,
    }
}
