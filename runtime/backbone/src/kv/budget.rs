//! How memory is split between adapters and KV pages, before either is used.
//!
//! Adapters come first: KV sized to all of memory would leave none for them, and the host would find out under load.

use crate::error::{Error, Result};

/// Memory of a backbone beside its weights, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// All of it.
    pub total: u64,
    /// Kept for adapters.
    pub adapters: u64,
}

impl Budget {
    /// KV pages of `page_bytes` that fit beside the adapters.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when not even one page fits.
    pub fn pages(&self, page_bytes: u64) -> Result<u32> {
        let free = self.total.saturating_sub(self.adapters);
        match free.checked_div(page_bytes) {
            Some(0) | None => {
                let what = format!("KV pages beside {} bytes of adapters", self.adapters);
                Err(Error::NoRoom { what, needed: page_bytes, free })
            }
            Some(pages) => Ok(u32::try_from(pages).unwrap_or(u32::MAX)),
        }
    }
}
