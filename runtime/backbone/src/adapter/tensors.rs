//! The file that holds an adapter's tensors: safetensors or GGUF behind one list.
//!
//! The header is read through a map, the tensors by positioned reads: a file that is cut short or swapped while it is
//! loaded gives an error, never a signal.

use super::Dtype;
use super::limits::Limits;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::mapping::{Mapping, open_regular};
use crate::safetensors::{self, Safetensors};
use candle_core::quantized::GgmlDType;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Element type in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// A weight.
    Weight(Dtype),
    /// An index of MoS.
    I32,
    /// An index of MoS.
    I64,
    /// Anything else, by name.
    Other(&'static str),
}

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub name: String,
    pub element: Element,
    /// Dimensions, the contiguous one last.
    pub shape: Vec<usize>,
    /// Where its bytes begin in the file.
    pub at: u64,
}

impl Tensor {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An opened tensor file.
#[derive(Debug)]
pub(crate) struct TensorFile {
    mapping: Mapping,
    file: File,
    pub tensors: Vec<Tensor>,
}

impl TensorFile {
    /// Opens a safetensors file.
    pub fn safetensors(path: &Path, limits: &Limits) -> Result<Self> {
        let bounds = safetensors::Limits { file: limits.file_bytes_max, ..safetensors::Limits::ADAPTER };
        let opened = Safetensors::open(path, &bounds)?;
        let tensors = opened.tensors().iter().map(|(name, info)| Tensor {
            name: name.clone(),
            element: element(info.dtype.dtype, info.dtype.name),
            shape: info.shape.clone(),
            at: info.range.start as u64,
        });
        let tensors = tensors.collect();
        Self::over(Mapping::open(path)?, path, tensors).and_then(|file| {
            // The header came from the first map, the tensors come from the second.
            opened.mapping().fence().map(|()| file)
        })
    }

    /// Takes the tensors of an opened GGUF file.
    pub fn gguf(gguf: &Gguf, path: &Path) -> Result<Self> {
        let tensors = gguf.tensors().iter().map(|info| Tensor {
            name: info.name.clone(),
            element: element(info.kind.dtype, info.kind.name),
            shape: info.dims.iter().rev().copied().collect(),
            at: info.range.start as u64,
        });
        let tensors = tensors.collect();
        let file = Self::over(Mapping::open(path)?, path, tensors)?;
        gguf.mapping().fence().map(|()| file)
    }

    fn over(mapping: Mapping, path: &Path, tensors: Vec<Tensor>) -> Result<Self> {
        let file = open_regular(path)?;
        let there = file.metadata().map_err(Error::io(path))?;
        let identity = mapping.identity();
        if (there.ino(), there.dev(), there.size()) != (identity.inode, identity.device, identity.size) {
            let what = "another file is in its place".to_owned();
            return Err(Error::Changed { path: path.to_owned(), what });
        }
        Ok(Self { mapping, file, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.mapping.path()
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.mapping.identity().size
    }

    /// Reads bytes at an offset.
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, at).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => {
                Error::Changed { path: self.path().to_owned(), what: "it became shorter".to_owned() }
            }
            _ => Error::Io { path: self.path().to_owned(), source },
        })
    }

    /// Checks that the file is still the one that was opened.
    pub fn fence(&self) -> Result<()> {
        self.mapping.fence()
    }
}

fn element(dtype: Option<GgmlDType>, name: &'static str) -> Element {
    match (dtype, name) {
        (Some(GgmlDType::F32), _) => Element::Weight(Dtype::F32),
        (Some(GgmlDType::F16), _) => Element::Weight(Dtype::F16),
        (Some(GgmlDType::BF16), _) => Element::Weight(Dtype::Bf16),
        (_, "I32") => Element::I32,
        (_, "I64") => Element::I64,
        (_, name) => Element::Other(name),
    }
}
