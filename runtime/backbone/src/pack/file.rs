//! The pack file: a header that is checked before it is believed, then sections that kernels read in place.
//!
//! Layout, little-endian: eight bytes of magic, a `u32` version, a `u32` length of the index, the index (JSON), then the
//! sections at the offsets the index gives, matrices aligned to 4096 bytes and vectors to 64. The index names the pack's
//! key, so that a file of another model or layout is never taken for this one's; each section has a SHA-256, checked on
//! demand and not at each start.

use super::format::Format;
use crate::checkpoint::{Part, Weight};
use crate::error::{Error, Result};
use crate::mapping::hex;
use crate::site::Module;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The first bytes of a pack file.
const MAGIC: [u8; 8] = *b"COLDPACK";
/// Version of the layout; part of the key.
pub const VERSION: u32 = 1;
/// Longest index that is believed, bytes: some 200,000 sections.
const INDEX_LIMIT: usize = 64 << 20;
/// Bytes before the index.
const HEAD: usize = 16;

/// A matrix or vector of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Element format; vectors are f32.
    pub format: Format,
    /// Rows of a matrix, values of a vector.
    pub n: usize,
    /// Columns of a matrix, 0 for a vector.
    pub k: usize,
    /// Its bytes in the file.
    pub range: Range<usize>,
    /// SHA-256 of its bytes, lower-case hex.
    pub sha256: String,
}

/// The sections of a pack.
pub type Sections = BTreeMap<Weight, Section>;

impl Section {
    /// A section without a place yet.
    pub fn new(format: Format, n: usize, k: usize) -> Self {
        Self { format, n, k, range: 0..0, sha256: "0".repeat(64) }
    }

    /// Bytes that its shape takes.
    fn size(&self) -> Option<usize> {
        if self.k == 0 {
            return self.n.checked_mul(4);
        }
        // A bound first: the sizes of a panel cannot overflow below it.
        if self.k > 1 << 32 || self.format.quant().is_some_and(|_| !self.k.is_multiple_of(32)) {
            return None;
        }
        self.n.div_ceil(super::PANEL).checked_mul(self.format.panel_bytes(self.k))
    }

    fn alignment(&self) -> usize {
        if self.k == 0 { 64 } else { 4096 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    key: String,
    sections: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    format: String,
    n: usize,
    k: usize,
    offset: usize,
    bytes: usize,
    sha256: String,
}

/// Gives every section its place behind an index of their number, and returns the size of the file.
pub fn place(key: &str, sections: &mut Sections) -> usize {
    let mut at = 0;
    // Offsets are digits of the index, whose length decides the offsets: after the first round a few digits more or less
    // are left, far fewer than the room that is kept.
    for _ in 0..3 {
        at = HEAD + index(key, sections).len() + 1024;
        for section in sections.values_mut() {
            let start = at.next_multiple_of(section.alignment());
            at = start + section.size().expect("the shape of a model's tensor has a size");
            section.range = start..at;
        }
    }
    at
}

/// The header of a pack with these sections.
pub fn header(key: &str, sections: &Sections) -> Vec<u8> {
    let index = index(key, sections);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((index.len() as u32).to_le_bytes());
    bytes.extend(index);
    bytes
}

fn index(key: &str, sections: &Sections) -> Vec<u8> {
    let entry = |(weight, section): (&Weight, &Section)| Entry {
        name: name(*weight),
        format: section.format.name().to_owned(),
        n: section.n,
        k: section.k,
        offset: section.range.start,
        bytes: section.range.len(),
        sha256: section.sha256.clone(),
    };
    let index = Index { key: key.to_owned(), sections: sections.iter().map(entry).collect() };
    serde_json::to_vec(&index).expect("strings and numbers are JSON")
}

/// Reads and checks a header.
///
/// # Errors
/// [`Error::Corrupt`] with the place; the pack can be made again.
pub fn read(path: &Path, bytes: &[u8], key: &str) -> Result<Sections> {
    let bad = |place: &str, problem: String| Error::corrupt(path, place, problem);
    let head = bytes.first_chunk::<HEAD>().filter(|head| head.starts_with(&MAGIC));
    let head = head.ok_or_else(|| bad("magic", "it is no pack file; delete it".to_owned()))?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if number(8) != VERSION {
        return Err(bad("version", format!("{} where this build writes {VERSION}", number(8))));
    }
    let length = number(12) as usize;
    let index = bytes[HEAD..].get(..length).filter(|index| index.len() <= INDEX_LIMIT);
    let index = index.ok_or_else(|| bad("index", format!("{length} bytes are not in the file")))?;
    let index: Index = serde_json::from_slice(index).map_err(|error| bad("index", error.to_string()))?;
    if index.key != key {
        return Err(bad("key", format!("it was made for {}, this is {key}", index.key)));
    }
    let mut sections = Sections::new();
    let mut end = HEAD + length;
    for entry in &index.sections {
        let (weight, section) =
            read_entry(entry, bytes.len()).map_err(|problem| bad(&entry.name, problem))?;
        if section.range.start < end {
            return Err(bad(&entry.name, "it overlaps what is before it".to_owned()));
        }
        end = section.range.end;
        if sections.insert(weight, section).is_some() {
            return Err(bad(&entry.name, "it is there twice".to_owned()));
        }
    }
    Ok(sections)
}

fn read_entry(entry: &Entry, file: usize) -> Result<(Weight, Section), String> {
    let weight = named(&entry.name).ok_or("no such weight")?;
    let format = Format::named(&entry.format).ok_or_else(|| format!("unknown format {:?}", entry.format))?;
    let mut section = Section::new(format, entry.n, entry.k);
    let end = entry.offset.checked_add(entry.bytes).filter(|&end| end <= file);
    section.range = entry.offset..end.ok_or("it reaches past the end of the file")?;
    section.sha256.clone_from(&entry.sha256);
    if section.size() != Some(entry.bytes) {
        return Err(format!("{} bytes are not what its shape takes", entry.bytes));
    }
    if !entry.offset.is_multiple_of(section.alignment()) {
        return Err(format!("offset {} is not aligned", entry.offset));
    }
    Ok((weight, section))
}

/// Checks the bytes of every section against its digest.
///
/// # Errors
/// [`Error::Digest`] naming the section.
pub fn verify(path: &Path, bytes: &[u8], sections: &Sections) -> Result<()> {
    for (weight, section) in sections {
        let found = hex(&Sha256::digest(&bytes[section.range.clone()]));
        if found != section.sha256 {
            let what = format!("{}, section {}", path.display(), name(*weight));
            return Err(Error::Digest { what, expected: section.sha256.clone(), found });
        }
    }
    Ok(())
}

/// Names of a block's parts other than its matrices.
const PARTS: [(Part, &str); 6] = [
    (Part::AttnNorm, "attn_norm"),
    (Part::FfnNorm, "ffn_norm"),
    (Part::PostAttnNorm, "post_attn_norm"),
    (Part::PostFfnNorm, "post_ffn_norm"),
    (Part::QNorm, "q_norm"),
    (Part::KNorm, "k_norm"),
];

/// The name of a section: `embed`, `blk.3.attn_q`, `blk.3.attn_q.bias`, …
pub fn name(weight: Weight) -> String {
    match weight {
        Weight::Embed => "embed".to_owned(),
        Weight::Head => "head".to_owned(),
        Weight::FinalNorm => "final_norm".to_owned(),
        Weight::Block(layer, Part::Linear(module)) => format!("blk.{layer}.{}", module.gguf_name()),
        Weight::Block(layer, Part::Bias(module)) => format!("blk.{layer}.{}.bias", module.gguf_name()),
        Weight::Block(layer, part) => {
            let name = PARTS.iter().find(|(named, _)| *named == part).map_or("", |(_, name)| name);
            format!("blk.{layer}.{name}")
        }
    }
}

fn named(name: &str) -> Option<Weight> {
    match name {
        "embed" => return Some(Weight::Embed),
        "head" => return Some(Weight::Head),
        "final_norm" => return Some(Weight::FinalNorm),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let module = |name: &str| Module::ALL.into_iter().find(|module| module.gguf_name() == name);
    let part = match part.strip_suffix(".bias") {
        Some(name) => Part::Bias(module(name)?),
        None => match module(part) {
            Some(module) => Part::Linear(module),
            None => PARTS.iter().find(|(_, named)| *named == part)?.0,
        },
    };
    Some(Weight::Block(layer.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let parts = PARTS.iter().map(|(part, _)| *part);
        let linear = Module::ALL.into_iter().flat_map(|module| [Part::Linear(module), Part::Bias(module)]);
        let weights = parts.chain(linear).map(|part| Weight::Block(17, part));
        for weight in weights.chain([Weight::Embed, Weight::Head, Weight::FinalNorm]) {
            assert_eq!(named(&name(weight)), Some(weight));
        }
        assert_eq!(named("blk.x.attn_q"), None);
        assert_eq!(named("blk.1.nothing"), None);
    }
}
