//! Weights in the layout the kernels want: panels of 16 output rows, quantised formats losslessly re-laid.
//!
//! A pack is a file made once for each (model, layout), mapped shared and read-only, so that every process that serves
//! the model reads the same physical pages. Rows of q and k are always in Hugging Face order here. The layout is the
//! same for every CPU; which kernels read it is decided at start.

pub mod blocks;
mod build;
mod file;
mod format;
mod merge;
mod open;
pub mod panels;

pub use file::VERSION;
pub use format::{Format, PANEL, Quant};

use crate::adapter::BaseWeights;
use crate::checkpoint::{Part, Weight};
use crate::error::{Error, Result};
use crate::mapping::Mapping;
use crate::model::ModelConfig;
use crate::site::Site;
use file::{Section, Sections};
use memmap2::{Mmap, MmapMut};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A matrix `[n, k]` in panels, borrowed from the map (or from private memory).
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Element format.
    pub format: Format,
    /// Output rows; the last panel is padded with zeros to [`PANEL`].
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// The panels.
    pub bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Panels of the matrix.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// The bytes of one panel.
    pub fn panel(&self, panel: usize) -> &'a [u8] {
        self.panel_range(panel..panel + 1)
    }

    /// The bytes of consecutive panels.
    ///
    /// # Panics
    /// Where the matrix has no such panels.
    pub fn panel_range(&self, panels: Range<usize>) -> &'a [u8] {
        let size = self.format.panel_bytes(self.k);
        &self.bytes[panels.start * size..panels.end * size]
    }

    /// Writes row `row`, dequantised, to `out` (`k` values).
    pub fn row(&self, row: usize, out: &mut [f32]) {
        panels::read_row(self, row, out);
    }
}

/// A model's packed weights: a mapped file, with private matrices over it where an adapter is merged.
#[derive(Debug)]
pub struct Pack {
    base: Arc<Base>,
    private: BTreeMap<Weight, Private>,
}

/// The shared part.
#[derive(Debug)]
struct Base {
    config: ModelConfig,
    bytes: Bytes,
    sections: Sections,
    /// The model's own files, watched for changes.
    sources: Vec<Mapping>,
}

/// Where the sections' bytes are.
#[derive(Debug)]
enum Bytes {
    File(Mapping),
    Memory(Mmap),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::File(mapping) => mapping.bytes(),
            Self::Memory(map) => map,
        }
    }
}

/// A section in private memory.
#[derive(Debug)]
enum Private {
    Draft(Section, MmapMut),
    Ready(Section, Mmap),
}

impl Private {
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Draft(section, map) => &mut map[..section.range.len()],
            Self::Ready(..) => &mut [],
        }
    }

    /// Makes the memory read-only.
    fn freeze(self) -> Result<Self> {
        match self {
            Self::Draft(section, map) => {
                let refused = |source| Error::Io { path: "memory of a merged adapter".into(), source };
                Ok(Self::Ready(section, map.make_read_only().map_err(refused)?))
            }
            ready @ Self::Ready(..) => Ok(ready),
        }
    }

    fn get(&self) -> (&Section, &[u8]) {
        match self {
            Self::Draft(section, map) => (section, &map[section.range.clone()]),
            Self::Ready(section, map) => (section, &map[section.range.clone()]),
        }
    }
}

impl Pack {
    /// The matrix at a site; `Site::Head` of a tied model is the embedding.
    ///
    /// # Panics
    /// Where the model has no such layer: every site of [`ModelConfig`] was checked when the model was opened.
    pub fn linear(&self, site: Site) -> Packed<'_> {
        let found = match site {
            Site::Embed => self.find(Weight::Embed),
            // A merged embedding is not the head: as in PEFT, each of the two modules is changed on its own.
            Site::Head => self.find(Weight::Head).or_else(|| self.base.find(Weight::Embed)),
            Site::Block(layer, module) => self.find(Weight::Block(layer, Part::Linear(module))),
        };
        let Some((section, bytes)) = found else { panic!("no matrix at {site} in this model") };
        Packed { format: section.format, n: section.n, k: section.k, bytes }
    }

    /// A norm's or bias's values, with every offset folded in; `None` where the model has none.
    pub fn vector(&self, weight: Weight) -> Option<&[f32]> {
        let (section, bytes) = self.find(weight)?;
        (section.k == 0).then(|| floats(bytes))
    }

    /// Checks that the mapped files are still what was mapped: the pack and the model it was made from.
    ///
    /// # Errors
    /// [`crate::Error::Changed`].
    pub fn fence(&self) -> Result<()> {
        self.base.sources.iter().try_for_each(Mapping::fence)?;
        match &self.base.bytes {
            Bytes::File(mapping) => mapping.fence(),
            Bytes::Memory(_) => Ok(()),
        }
    }

    /// Checks every section's bytes against its SHA-256. Reads all of the file.
    ///
    /// # Errors
    /// [`crate::Error::Digest`] naming the section; delete the file and it is made again.
    pub fn verify(&self) -> Result<()> {
        let path = self.path().unwrap_or(Path::new("memory"));
        file::verify(path, self.base.bytes.get(), &self.base.sections)
    }

    /// The pack file; `None` for one in memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.base.bytes {
            Bytes::File(mapping) => Some(mapping.path()),
            Bytes::Memory(_) => None,
        }
    }

    /// Bytes that are mapped and shared with other processes.
    pub fn mapped_bytes(&self) -> u64 {
        match &self.base.bytes {
            Bytes::File(mapping) => mapping.bytes().len() as u64,
            Bytes::Memory(_) => 0,
        }
    }

    /// Bytes of private matrices: a merged adapter's, or all of a pack in memory.
    pub fn private_bytes(&self) -> u64 {
        let merged: u64 = self.private.values().map(|private| private.get().1.len() as u64).sum();
        match &self.base.bytes {
            Bytes::File(_) => merged,
            Bytes::Memory(map) => merged + map.len() as u64,
        }
    }

    /// Bytes of weights that one token of decoding reads: every matrix once, an untied embedding not.
    pub fn bytes_per_token(&self) -> u64 {
        let tied = self.find(Weight::Head).is_none();
        let read = |weight: &&Weight| tied || **weight != Weight::Embed;
        self.base
            .sections
            .keys()
            .filter(read)
            .filter_map(|&weight| Some(self.find(weight)?.1.len() as u64))
            .sum()
    }

    /// The formats of its matrices and how many have each.
    pub fn formats(&self) -> Vec<(Format, usize)> {
        let matrices = self.base.sections.iter().filter(|(_, section)| section.k > 0);
        let mut counts = Vec::new();
        for (&weight, _) in matrices {
            let format = self.find(weight).map(|(section, _)| section.format);
            match counts.iter_mut().find(|(counted, _)| Some(*counted) == format) {
                Some((_, count)) => *count += 1,
                None => counts.extend(format.map(|format| (format, 1))),
            }
        }
        counts
    }

    /// Another handle on the same map, without private matrices.
    fn shared(&self) -> Self {
        Self { base: Arc::clone(&self.base), private: BTreeMap::new() }
    }

    fn put_private(&mut self, weight: Weight, private: Private) {
        self.private.insert(weight, private);
    }

    fn find(&self, weight: Weight) -> Option<(&Section, &[u8])> {
        match self.private.get(&weight) {
            Some(private) => Some(private.get()),
            None => self.base.find(weight),
        }
    }
}

impl Base {
    fn find(&self, weight: Weight) -> Option<(&Section, &[u8])> {
        let section = self.sections.get(&weight)?;
        Some((section, &self.bytes.get()[section.range.clone()]))
    }
}

/// A section of f32 as numbers.
#[expect(unsafe_code, reason = "a mapped file's bytes are read as the numbers they are")]
fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: every bit pattern is an f32; `align_to` keeps to the bytes that are aligned.
    let (before, values, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty(), "sections of vectors are aligned");
    values
}

impl BaseWeights for Pack {
    fn config(&self) -> &ModelConfig {
        &self.base.config
    }

    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        self.linear(site).row(row, out);
    }
}
