//! An adapter's identity: SHA-256 over what it computes, in one canonical form.
//!
//! The form is that of the resolved adapter (rank, scale, type and numbers by site, in the order of [`Site`]), not of
//! its files: another key order, name, prefix or container of the same numbers gives the same generation, and so does a
//! pattern that resolves to the same ranks. The chat template belongs to it, the base does not.

use super::{Dtype, Generation, MatrixView};
use crate::site::Site;
use sha2::{Digest, Sha256};

/// Changes whenever the form does.
const VERSION: &[u8] = b"coldframe adapter 1\n";

/// The canonical form, hashed as it is told. Every part is preceded by a tag or its length, so that no two tellings
/// give the same bytes.
#[derive(Debug)]
pub(crate) struct Canon(Sha256);

impl Canon {
    /// Begins with the chat template.
    pub fn new(template: Option<&str>) -> Self {
        let mut canon = Self(Sha256::new());
        canon.0.update(VERSION);
        canon.text(if template.is_some() { "template" } else { "no template" });
        canon.text(template.unwrap_or_default());
        canon
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.update(text);
    }

    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    /// Begins a replacement.
    pub fn full(&mut self, site: Site, with_head: bool) {
        self.text("full");
        self.text(&site.hf_path());
        self.number(with_head.into());
    }

    /// Begins a low-rank change.
    pub fn site(&mut self, site: Site, rank: usize, scale: f32) {
        self.text("delta");
        self.text(&site.hf_path());
        self.number(rank);
        self.0.update(scale.to_bits().to_le_bytes());
    }

    /// A matrix, as stored.
    pub fn matrix(&mut self, matrix: MatrixView<'_>) {
        self.text(match matrix.dtype {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        });
        self.number(matrix.rows);
        self.number(matrix.columns);
        self.0.update(matrix.bytes);
    }

    /// A vector, as f32.
    pub fn vector(&mut self, name: &str, values: &[f32]) {
        self.text(name);
        self.number(values.len());
        for value in values {
            self.0.update(value.to_bits().to_le_bytes());
        }
    }

    /// The identity.
    pub fn finish(self) -> Generation {
        Generation(self.0.finalize().into())
    }
}
