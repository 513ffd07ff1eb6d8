//! What a step will do, worked out before the threads start: rows, groups of one adapter, attention tiles, logits.

use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::executor::{Chunk, PAGE_TOKENS, Wanted};
use crate::model::ModelConfig;
use crate::site::{Module, Site};
use std::ops::Range;
use std::sync::Arc;

/// Query vectors a tile aims at: enough to pay for bringing a page to f32, few enough for the first-level cache.
const TILE_VECTORS: usize = 24;

/// One token of a step.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Token id.
    pub token: u32,
    /// Position in its sequence.
    pub position: usize,
    /// Its chunk, an index into the batch.
    pub chunk: usize,
    /// Its adapter, an index into the plan's adapters.
    pub adapter: Option<usize>,
}

/// Consecutive rows of one chunk that attend together.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// First row.
    pub row: usize,
    /// Rows.
    pub rows: usize,
}

/// An adapter of the step with what the phases ask of it again and again.
#[derive(Debug)]
pub struct Tenant {
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// Whether it changes anything inside the blocks.
    pub blocks: bool,
}

/// A step's plan.
#[derive(Debug, Default)]
pub struct Plan {
    /// All tokens.
    pub rows: Vec<Row>,
    /// All adapters, each once.
    pub tenants: Vec<Tenant>,
    /// Attention tiles.
    pub tiles: Vec<Tile>,
    /// Rows whose logits are wanted.
    pub wanted: Vec<usize>,
    /// For each chunk, its rows in the logits.
    pub logits: Vec<Range<usize>>,
    /// Largest rank of the step.
    pub rank: usize,
}

impl Plan {
    /// Plans a batch.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an empty chunk, a token outside the vocabulary, or pages that do not cover the chunk.
    pub fn new(batch: &[Chunk<'_>], config: &ModelConfig, pages: usize) -> Result<Self> {
        let mut plan = Self::default();
        let tile_rows = (TILE_VECTORS / (config.heads / config.kv_heads)).max(1);
        for (index, chunk) in batch.iter().enumerate() {
            check(chunk, config, pages)?;
            let first = plan.rows.len();
            let adapter = chunk.adapter.as_ref().map(|adapter| plan.tenant(adapter, config));
            let row = |(at, token): (usize, &u32)| Row {
                token: *token,
                position: chunk.start + at,
                chunk: index,
                adapter,
            };
            plan.rows.extend(chunk.tokens.iter().enumerate().map(row));
            let end = plan.rows.len();
            let tile = |row: usize| Tile { row, rows: tile_rows.min(end - row) };
            plan.tiles.extend((first..end).step_by(tile_rows).map(tile));
            let before = plan.wanted.len();
            match chunk.wanted {
                Wanted::None => {}
                Wanted::Last => plan.wanted.push(end - 1),
                Wanted::All => plan.wanted.extend(first..end),
            }
            plan.logits.push(before..plan.wanted.len());
        }
        Ok(plan)
    }

    /// The place of an adapter among the step's, added when new.
    fn tenant(&mut self, adapter: &Arc<Adapter>, config: &ModelConfig) -> usize {
        if let Some(known) = self.tenants.iter().position(|tenant| Arc::ptr_eq(&tenant.adapter, adapter)) {
            return known;
        }
        let sites =
            (0..config.layers as u32).flat_map(|layer| Module::ALL.map(|module| Site::Block(layer, module)));
        let ranks = |site: Site| adapter.delta(site).map(|delta| delta.rank);
        let blocks = sites.filter_map(ranks).max();
        let edges = [Site::Embed, Site::Head].into_iter().filter_map(ranks).max();
        self.rank = self.rank.max(blocks.unwrap_or(0)).max(edges.unwrap_or(0));
        self.tenants.push(Tenant { adapter: Arc::clone(adapter), blocks: blocks.is_some() });
        self.tenants.len() - 1
    }
}

fn check(chunk: &Chunk<'_>, config: &ModelConfig, pages: usize) -> Result<()> {
    let bad = |field, problem| Err(Error::BadRequest { field, problem });
    let end = chunk.start.saturating_add(chunk.tokens.len());
    if chunk.tokens.is_empty() {
        return bad("tokens", "a chunk has no token".to_owned());
    }
    if end > config.context {
        return bad("tokens", format!("position {end} is past the context of {}", config.context));
    }
    if let Some(token) = chunk.tokens.iter().find(|token| **token as usize >= config.vocab) {
        return bad("tokens", format!("token {token} is outside the vocabulary of {}", config.vocab));
    }
    if chunk.pages.len() * PAGE_TOKENS < end {
        return bad("pages", format!("{} pages do not cover {end} positions", chunk.pages.len()));
    }
    if let Some(page) = chunk.pages.iter().find(|page| page.0 as usize >= pages) {
        return bad("pages", format!("page {} is not one of {pages}", page.0));
    }
    Ok(())
}
