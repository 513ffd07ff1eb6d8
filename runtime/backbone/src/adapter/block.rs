//! The one block of memory that holds an adapter.
//!
//! An anonymous map, so that dropping it gives every page back to the system at once whatever the allocator does; filled
//! by the loader, then made read-only for good. [`live_bytes`] counts all blocks of the process.

#![expect(unsafe_code, reason = "views bytes of the block as f32; the contract is written at the one call")]

use crate::error::{Error, Result};
use memmap2::{Mmap, MmapMut};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where matrices start: a cache line, and the width of the widest vector loads.
const ALIGN: usize = 64;

/// Blocks are whole pages, so that what is counted is what is taken.
const PAGE: usize = 4096;

static LIVE: AtomicU64 = AtomicU64::new(0);

/// Bytes of all adapters that are loaded in this process (whole pages of 4096).
pub fn live_bytes() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// Places things in a block to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layout {
    end: usize,
}

impl Layout {
    /// Room for `bytes` at the next aligned offset.
    pub fn place(&mut self, bytes: usize) -> Range<usize> {
        let start = self.end.next_multiple_of(ALIGN);
        self.end = start + bytes;
        start..self.end
    }

    /// Bytes of the whole block, whole pages.
    pub fn bytes(self) -> usize {
        self.end.max(1).next_multiple_of(PAGE)
    }
}

/// Counts its bytes from birth to drop.
#[derive(Debug)]
struct Counted(u64);

impl Counted {
    fn new(bytes: u64) -> Self {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// A block that is being filled.
#[derive(Debug)]
pub(crate) struct Draft {
    map: MmapMut,
    counted: Counted,
}

impl Draft {
    /// Zeroed memory for a layout.
    pub fn new(layout: Layout, adapter: &Path) -> Result<Self> {
        let map = MmapMut::map_anon(layout.bytes()).map_err(Error::io(adapter))?;
        Ok(Self { counted: Counted::new(layout.bytes() as u64), map })
    }

    /// Lends places to be written, in the order asked; no two of them overlap.
    pub fn split(&mut self, places: Vec<Range<usize>>) -> Vec<&mut [u8]> {
        let mut order: Vec<_> = places.iter().enumerate().collect();
        order.sort_by_key(|(_, place)| place.start);
        let (mut rest, mut passed): (&mut [u8], _) = (&mut self.map, 0);
        let mut parts = Vec::with_capacity(places.len());
        for (index, place) in order {
            let (_, from) = rest.split_at_mut(place.start - passed);
            let (part, behind) = from.split_at_mut(place.len());
            parts.push((index, part));
            (rest, passed) = (behind, place.end);
        }
        parts.sort_by_key(|(index, _)| *index);
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// Ends the filling: from here on nothing can write to the block.
    pub fn freeze(self, adapter: &Path) -> Result<Block> {
        let map = self.map.make_read_only().map_err(Error::io(adapter))?;
        Ok(Block { map, counted: self.counted })
    }
}

/// Writes numbers at a place of four bytes each.
pub(crate) fn write_f32(place: &mut [u8], values: &[f32]) {
    for (slot, value) in place.chunks_exact_mut(4).zip(values) {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
}

/// A filled block, read-only.
#[derive(Debug)]
pub(crate) struct Block {
    map: Mmap,
    counted: Counted,
}

impl Block {
    /// Bytes it occupies.
    pub fn len(&self) -> u64 {
        self.counted.0
    }

    /// Bytes at a place.
    pub fn bytes(&self, at: &Range<usize>) -> &[u8] {
        &self.map[at.clone()]
    }

    /// Numbers at a place.
    pub fn f32s(&self, at: &Range<usize>) -> &[f32] {
        let bytes = self.bytes(at);
        // SAFETY: every bit pattern is a valid f32, the block is never written after `freeze`, and `align_to` itself
        // gives only the aligned middle (all of it, since places start at multiples of 64).
        let (head, values, tail) = unsafe { bytes.align_to::<f32>() };
        assert!(head.is_empty() && tail.is_empty(), "places of f32 are aligned and whole");
        values
    }
}
