//! A sequence: its tokens, its pages, its voice.

use super::lanes::Lane;
use super::{SequenceId, Usage, Voice};
use crate::adapter::Adapter;
use crate::executor::{PAGE_TOKENS, PageId};
use crate::kv::Owner;
use std::sync::Arc;

/// Where a sequence is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// In its function's queue, without pages.
    Waiting,
    /// In its function's queue; its pages' bytes lie in host memory.
    Swapped(Vec<u8>),
    /// In the batch.
    Running,
}

/// A choice that will start from the same prompt once it is computed.
pub(super) struct Branch {
    pub(super) id: SequenceId,
    pub(super) voice: Box<dyn Voice>,
}

pub(super) struct Sequence {
    pub(super) owner: Owner,
    /// It gives way to those that do not.
    pub(super) yields: bool,
    pub(super) adapter: Option<Arc<Adapter>>,
    /// Prompt and what was generated.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt: usize,
    /// Positions whose keys and values are in the pages.
    pub(super) computed: usize,
    pub(super) pages: Vec<PageId>,
    /// Tokens it may have, the prompt included.
    pub(super) most: usize,
    pub(super) voice: Box<dyn Voice>,
    pub(super) branches: Vec<Branch>,
    pub(super) phase: Phase,
    /// Prompt tokens found in cached pages when it first ran; `None` before.
    pub(super) cached: Option<usize>,
    /// Held back: in no queue and no batch.
    pub(super) paused: bool,
}

impl Sequence {
    /// Where it waits.
    pub(super) fn lane(&self) -> Lane {
        Lane { owner: self.owner, yields: self.yields }
    }

    /// Tokens whose keys and values are still to be computed, at least one while it lives.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether it only needs its newest token computed.
    pub(super) fn decoding(&self) -> bool {
        self.pending() == 1 && self.tokens.len() > self.prompt
    }

    /// Seats it takes among the running: its choices run beside it.
    pub(super) fn seats(&self) -> usize {
        1 + self.branches.len()
    }

    /// Pages that hold its computed positions.
    pub(super) fn filled(&self) -> usize {
        self.computed.div_ceil(PAGE_TOKENS)
    }

    pub(super) fn usage(&self) -> Usage {
        let completion = self.tokens.len() - self.prompt;
        Usage { prompt: self.prompt, cached: self.cached.unwrap_or(0), completion }
    }
}
