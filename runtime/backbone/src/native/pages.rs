//! The memory of KV pages: one anonymous map, keys and values of sixteen positions side by side for the kernels.
//!
//! For each layer and KV head a page holds keys `[head_dim][16]`, so that positions are lanes, and values
//! `[16][head_dim]`; as f32, as f16, or as 8-bit integers with one scale for each position. Who owns a page is not known here.

#![expect(unsafe_code, reason = "threads write different positions of one map")]

use crate::error::{Error, Result};
use crate::executor::{PAGE_TOKENS, PageId};
use crate::model::ModelConfig;
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{MmapMut, MmapRaw};
use std::sync::{Arc, Weak};

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// As they are computed: twice the memory of f16, for numbers that are to be exact.
    F32,
    /// IEEE half.
    #[default]
    F16,
    /// 8-bit integers with an f32 scale for each position and head.
    Q8,
}

/// KV pages of one executor.
#[derive(Debug)]
pub struct KvPages {
    format: KvFormat,
    layers: usize,
    heads: usize,
    head_dim: usize,
    pages: usize,
    memory: Arc<MmapRaw>,
    base: *mut u8,
}

/// Bytes that [`Ahead::more`] asks for: a large page.
const AHEAD: usize = 2 << 20;

// SAFETY: the pointer is to `memory`, which moves with it; writers promise disjoint positions.
unsafe impl Send for KvPages {}
// SAFETY: as above.
unsafe impl Sync for KvPages {}

/// The work of having all pages' memory from the system before a prompt needs it; see [`super::Native::ahead`].
#[derive(Debug)]
pub struct Ahead {
    memory: Weak<MmapRaw>,
    /// Bytes that were asked for.
    done: usize,
}

impl Ahead {
    /// Asks the system for the next pages' memory, from the first page on; `false` once all is there, the pages are gone, or
    /// the system refuses (before Linux 5.14 it does so at once). Changes no byte.
    pub fn more(&mut self) -> bool {
        let left = |memory: &Arc<MmapRaw>| memory.len() > self.done;
        let Some(memory) = self.memory.upgrade().filter(left) else { return false };
        let bytes = AHEAD.min(memory.len() - self.done);
        let asked = populate(&memory, self.done, bytes);
        self.done += bytes;
        asked
    }
}

#[cfg(target_os = "linux")]
fn populate(memory: &MmapRaw, start: usize, bytes: usize) -> bool {
    memory.advise_range(memmap2::Advice::PopulateWrite, start, bytes).is_ok()
}

/// Elsewhere memory comes as it is touched.
#[cfg(not(target_os = "linux"))]
fn populate(_: &MmapRaw, _: usize, _: usize) -> bool {
    false
}

/// Keys and values of one page, layer and head.
#[derive(Debug)]
pub enum PageHead<'a> {
    /// Floats.
    F32 {
        /// `[head_dim][16]`.
        keys: &'a [f32],
        /// `[16][head_dim]`.
        values: &'a [f32],
    },
    /// Halves.
    F16 {
        /// `[head_dim][16]`.
        keys: &'a [f16],
        /// `[16][head_dim]`.
        values: &'a [f16],
    },
    /// Bytes and scales.
    Q8 {
        /// `[head_dim][16]`.
        keys: &'a [i8],
        /// `[16]`.
        key_scales: &'a [f32],
        /// `[16][head_dim]`.
        values: &'a [i8],
        /// `[16]`.
        value_scales: &'a [f32],
    },
}

impl KvPages {
    /// `pages` zeroed pages for a model; the system gives memory as they are touched.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when the system refuses the address space.
    pub fn new(config: &ModelConfig, format: KvFormat, pages: usize) -> Result<Self> {
        Self::sized([config.layers, config.kv_heads, config.head_dim], format, pages)
    }

    fn sized([layers, heads, head_dim]: [usize; 3], format: KvFormat, pages: usize) -> Result<Self> {
        let page_bytes = layers * heads * head_bytes(format, head_dim);
        let bytes = (page_bytes * pages).max(1);
        let refused = |_| Error::NoRoom { what: format!("{pages} KV pages"), needed: bytes as u64, free: 0 };
        let memory = Arc::new(MmapRaw::from(MmapMut::map_anon(bytes).map_err(refused)?));
        // A prompt of 128 tokens touches 3 MB for the first time: two large pages in place of 700 small ones. A hint; what does
        // not know it gives small ones.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let base = memory.as_mut_ptr();
        Ok(Self { format, layers, heads, head_dim, pages, memory, base })
    }

    /// What makes the system give all memory before it is used: the 3 MB that a prompt of 128 tokens touches for the first
    /// time took 5 ms of its first token on a virtual machine, whose own memory comes as it is touched.
    pub fn ahead(&self) -> Ahead {
        Ahead { memory: Arc::downgrade(&self.memory), done: 0 }
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.layers * self.heads * head_bytes(self.format, self.head_dim)
    }

    /// Pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// How keys and values are stored.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// Bytes of a page.
    pub fn page(&self, page: PageId) -> &[u8] {
        assert!((page.0 as usize) < self.pages, "a page of this executor");
        let bytes = self.page_bytes();
        // SAFETY: inside the map by the assertion; writers have the executor to themselves.
        unsafe { std::slice::from_raw_parts(self.base.add(page.0 as usize * bytes), bytes) }
    }

    /// Bytes of a page, to overwrite.
    pub fn page_mut(&mut self, page: PageId) -> &mut [u8] {
        let (start, bytes) = (page.0 as usize * self.page_bytes(), self.page_bytes());
        &mut self.all()[start..start + bytes]
    }

    /// Copies a page.
    pub fn copy(&mut self, from: PageId, to: PageId) {
        let (start, bytes) = (from.0 as usize * self.page_bytes(), self.page_bytes());
        let to = to.0 as usize * bytes;
        self.all().copy_within(start..start + bytes, to);
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: the whole map, which nobody else reads or writes while this is borrowed: [`Ahead`] changes no byte.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.memory.len()) }
    }

    fn at(&self, page: PageId, layer: usize, head: usize) -> *mut u8 {
        assert!(
            (page.0 as usize) < self.pages && layer < self.layers && head < self.heads,
            "a page of this executor"
        );
        let block = (page.0 as usize * self.layers + layer) * self.heads + head;
        // SAFETY: inside the map by the assertion.
        unsafe { self.base.add(block * head_bytes(self.format, self.head_dim)) }
    }

    /// Keys and values of one page, layer and head.
    pub fn head(&self, page: PageId, layer: usize, head: usize) -> PageHead<'_> {
        let (at, elements) = (self.at(page, layer, head), self.head_dim * PAGE_TOKENS);
        // SAFETY: the layout of `head_bytes`; blocks are multiples of 4 bytes, so all parts are aligned.
        unsafe {
            match self.format {
                KvFormat::F32 => PageHead::F32 {
                    keys: std::slice::from_raw_parts(at.cast(), elements),
                    values: std::slice::from_raw_parts(at.cast::<f32>().add(elements), elements),
                },
                KvFormat::F16 => PageHead::F16 {
                    keys: std::slice::from_raw_parts(at.cast(), elements),
                    values: std::slice::from_raw_parts(at.cast::<f16>().add(elements), elements),
                },
                KvFormat::Q8 => {
                    let scales = at.add(2 * elements).cast::<f32>();
                    PageHead::Q8 {
                        keys: std::slice::from_raw_parts(at.cast(), elements),
                        key_scales: std::slice::from_raw_parts(scales, PAGE_TOKENS),
                        values: std::slice::from_raw_parts(at.cast::<i8>().add(elements), elements),
                        value_scales: std::slice::from_raw_parts(scales.add(PAGE_TOKENS), PAGE_TOKENS),
                    }
                }
            }
        }
    }

    /// Stores the key and value of one position.
    ///
    /// # Safety
    /// No other thread reads this page, or writes this position of it, meanwhile.
    pub unsafe fn write(
        &self,
        page: PageId,
        layer: usize,
        head: usize,
        slot: usize,
        key: &[f32],
        value: &[f32],
    ) {
        assert!(
            slot < PAGE_TOKENS && key.len() == self.head_dim && value.len() == self.head_dim,
            "a position"
        );
        let (at, dim) = (self.at(page, layer, head), self.head_dim);
        let elements = dim * PAGE_TOKENS;
        // SAFETY: inside the block by the assertions; the caller keeps other threads away.
        unsafe {
            match self.format {
                KvFormat::F32 => {
                    let (keys, values) = (at.cast::<f32>(), at.cast::<f32>().add(elements + slot * dim));
                    key.iter().enumerate().for_each(|(d, key)| *keys.add(d * PAGE_TOKENS + slot) = *key);
                    std::slice::from_raw_parts_mut(values, dim).copy_from_slice(value);
                }
                KvFormat::F16 => {
                    let (keys, values) = (at.cast::<f16>(), at.cast::<f16>().add(elements));
                    let place = std::slice::from_raw_parts_mut(values.add(slot * dim), dim);
                    // The values' place serves as scratch for the keys before it gets its own.
                    place.convert_from_f32_slice(key);
                    place.iter().enumerate().for_each(|(d, key)| *keys.add(d * PAGE_TOKENS + slot) = *key);
                    place.convert_from_f32_slice(value);
                }
                KvFormat::Q8 => {
                    let scales = at.add(2 * elements).cast::<f32>();
                    let (keys, values) = (at.cast::<i8>(), at.cast::<i8>().add(elements + slot * dim));
                    *scales.add(slot) = quantise(key, |d, q| *keys.add(d * PAGE_TOKENS + slot) = q);
                    *scales.add(PAGE_TOKENS + slot) = quantise(value, |d, q| *values.add(d) = q);
                }
            }
        }
    }
}

/// Gives each value as an integer of 8 bits and returns the scale.
fn quantise(values: &[f32], mut put: impl FnMut(usize, i8)) -> f32 {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    values.iter().enumerate().for_each(|(d, value)| put(d, (value * inverse).round_ties_even() as i8));
    // A row that is not finite stays so.
    if values.iter().all(|value| value.is_finite()) { largest / 127.0 } else { f32::NAN }
}

/// Bytes of one page, layer and head.
fn head_bytes(format: KvFormat, head_dim: usize) -> usize {
    let elements = 2 * PAGE_TOKENS * head_dim;
    match format {
        KvFormat::F32 => 4 * elements,
        KvFormat::F16 => 2 * elements,
        KvFormat::Q8 => elements + 2 * PAGE_TOKENS * size_of::<f32>(),
    }
}

#[cfg(test)]
mod tests {
    use super::{KvFormat, KvPages};
    use crate::executor::PageId;

    #[test]
    fn memory_is_there_ahead_and_keeps_what_it_holds() {
        let mut pages = KvPages::sized([2, 3, 64], KvFormat::F16, 4096).unwrap();
        pages.page_mut(PageId(7)).fill(9);
        let resident = |pages: &KvPages| -> usize {
            let mut flags = vec![0_u8; pages.memory.len().div_ceil(4096)];
            // SAFETY: the map is alive, and there is a flag for each of its pages.
            let failed = unsafe { libc::mincore(pages.base.cast(), pages.memory.len(), flags.as_mut_ptr()) };
            assert_eq!(failed, 0);
            flags.iter().filter(|flag| **flag & 1 == 1).count()
        };
        let all = pages.memory.len().div_ceil(4096);
        assert!(resident(&pages) < all / 2, "only what was touched");
        let mut ahead = pages.ahead();
        while ahead.more() {}
        assert_eq!(resident(&pages), all);
        assert!(pages.page(PageId(7)).iter().all(|byte| *byte == 9), "it changes no byte");
        assert!(pages.page(PageId(8)).iter().all(|byte| *byte == 0));
        let mut ahead = pages.ahead();
        assert!(ahead.more());
        drop(pages);
        assert!(!ahead.more());
    }
}
