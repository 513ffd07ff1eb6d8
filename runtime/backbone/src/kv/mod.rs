//! KV pages: who owns which, what is in them, what may be shared.
//!
//! [`Book`] is pure bookkeeping: it decides, and hands out [`Effect`]s that the engine carries out on an executor. Pages
//! belong to a tenant and a generation, and nothing crosses that wall: a prefix is found only by its own owner, and a
//! page is cleared before another owner gets it. It knows no tensor and no adapter.

mod book;
mod budget;
mod chain;
mod shelf;

pub use book::{Book, BookOptions, BookStats, Reach};
pub use budget::Budget;
pub use chain::{Chain, Key};

use crate::adapter::Generation;
use crate::executor::PageId;

/// A tenant, as the host numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// Whom a page belongs to. A function's name is no part of it: a name can be replaced, a generation cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The adapter's generation; `None` is the base model.
    pub generation: Option<Generation>,
}

/// What must be done to the executor's pages, in this order, before they are read or written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Overwrite with zeros: the page held another owner's positions.
    Clear(PageId),
    /// Copy `from` to `to`: a shared page is about to be written.
    Copy {
        /// The shared page.
        from: PageId,
        /// The writer's own page.
        to: PageId,
    },
}
