//! safetensors files, with the checks the format leaves out.
//!
//! The header is read as a stream, so that what exceeds a limit is refused before it is kept. Beyond the format's own
//! rules: limits by use ([`Limits::ADAPTER`], [`Limits::MODEL`]), no name twice, no empty or unprintable name. Types
//! other than F32, F16 and BF16 are named and sized but not read. Values (NaN, infinities) are their user's to check.

mod header;
mod magic;

pub use header::parse;
pub use magic::refuse_foreign;

use crate::error::{Error, Result};
use crate::mapping::Mapping;
use candle_core::quantized::GgmlDType;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// How much of a file is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file: u64,
    /// Bytes of the header.
    pub header: u64,
    /// Tensors.
    pub tensors: usize,
    /// Dimensions of a tensor.
    pub rank: usize,
}

impl Limits {
    /// For files of tenants.
    pub const ADAPTER: Self = Self { file: 512 << 20, header: 1 << 20, tensors: 4_096, rank: 2 };
    /// For models: the format's own limit of the header; vision towers have tensors of rank 4.
    pub const MODEL: Self = Self { file: u64::MAX, header: 100_000_000, tensors: 65_536, rank: 6 };
}

/// An element type of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype {
    /// Its name in headers.
    pub name: &'static str,
    /// Bits of an element.
    pub bits: usize,
    /// candle's name; `None` where this build does not read it.
    pub dtype: Option<GgmlDType>,
}

/// A tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, the contiguous one last. A tensor may have no elements.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file; at no particular alignment.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Rows and columns of a matrix; a vector is one row; `None` for any other rank.
    pub fn matrix(&self) -> Option<(usize, usize)> {
        match self.shape[..] {
            [columns] => Some((1, columns)),
            [rows, columns] => Some((rows, columns)),
            _ => None,
        }
    }
}

/// All that a safetensors file says before its tensors' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The free-form `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Where the tensors' bytes begin.
    pub data_start: usize,
}

/// An opened safetensors file, mapped.
#[derive(Debug)]
pub struct Safetensors {
    mapping: Mapping,
    header: Header,
}

impl Safetensors {
    /// Opens a file that must itself be regular: no link is followed.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for other formats and links, [`Error::TooLarge`] past a limit, [`Error::Corrupt`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::from_mapping(Mapping::open(path)?, limits)
    }

    /// Opens a file of a model's folder.
    ///
    /// # Errors
    /// As [`Safetensors::open`] and [`crate::mapping::resolve_in`].
    pub fn open_in(folder: &Path, name: &str, limits: &Limits) -> Result<Self> {
        Self::from_mapping(Mapping::open_in(folder, name)?, limits)
    }

    /// Reads the header of a mapped file.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn from_mapping(mapping: Mapping, limits: &Limits) -> Result<Self> {
        let header = parse(mapping.path(), mapping.bytes(), limits)?;
        Ok(Self { mapping, header })
    }

    /// The file.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.header.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// A tensor's bytes, as they lie in the file.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.mapping.bytes()[tensor.range.clone()]
    }

    /// The candle type of a tensor.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the type, where this build does not read it.
    pub fn dtype(&self, name: &str, tensor: &TensorInfo) -> Result<GgmlDType> {
        tensor.dtype.dtype.ok_or_else(|| Error::Unsupported {
            path: self.mapping.path().to_owned(),
            what: format!("tensor {name} is {}; convert it to F32, F16 or BF16", tensor.dtype.name),
        })
    }
}
