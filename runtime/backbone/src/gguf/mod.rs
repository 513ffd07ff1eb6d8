//! GGUF files: header, metadata and tensor index, bounded before they are believed.
//!
//! Versions 2 and 3, little endian. Every count is held against the bytes that are left and against a budget of memory
//! before anything is allocated for it, and every tensor's range against the file and its neighbours, so that a header
//! that lies costs little and answers with the place of the lie. What the metadata mean is read elsewhere.

mod kind;
mod parse;

pub use kind::Kind;
pub use parse::{METADATA_BYTES_MAX, parse};

use crate::error::{Error, Result};
use crate::mapping::Mapping;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

/// A value of GGUF metadata; arrays are typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// bool.
    Bool(bool),
    /// string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of integers of any width.
    Integers(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f64>),
    /// An array of bools.
    Bools(Vec<bool>),
}

impl Value {
    /// An integer that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// A number, integers included.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value),
            Self::Unsigned(value) => Some(value as f64),
            Self::Signed(value) => Some(value as f64),
            _ => None,
        }
    }
}

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its dimensions as the file lists them: the contiguous one first.
    pub dims: Vec<usize>,
    /// How its elements are stored.
    pub kind: &'static Kind,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Rows: the product of all dimensions but the contiguous one.
    pub fn rows(&self) -> usize {
        self.dims.iter().skip(1).product()
    }

    /// Columns: the contiguous dimension.
    pub fn columns(&self) -> usize {
        self.dims.first().copied().unwrap_or(1)
    }
}

/// All that a GGUF file says before its tensors' bytes.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Version of the format.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors in the file's order.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' bytes begin.
    pub data_start: usize,
    by_name: HashMap<String, usize>,
}

/// An opened GGUF file, mapped.
#[derive(Debug)]
pub struct Gguf {
    mapping: Mapping,
    header: Header,
}

impl Gguf {
    /// Opens a model file; links on its path are followed.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`] or [`Error::TooLarge`] for what the header says, else as
    /// [`Mapping::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_mapping(Mapping::open_resolved(path)?)
    }

    /// Opens a file of a tenant: no link is followed, and at most `limit` bytes are taken.
    ///
    /// # Errors
    /// As [`Gguf::open`], and [`Error::TooLarge`] past `limit`.
    pub fn open_strict(path: &Path, limit: u64) -> Result<Self> {
        let mapping = Mapping::open(path)?;
        let size = mapping.identity().size;
        if size > limit {
            return Err(Error::TooLarge { what: path.display().to_string(), size, limit });
        }
        Self::from_mapping(mapping)
    }

    /// Reads the header of a mapped file.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_mapping(mapping: Mapping) -> Result<Self> {
        let header = parse(mapping.path(), mapping.bytes())?;
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

    /// All metadata.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header.get(key)
    }

    /// A string of the metadata; `None` where it is absent or no string. The getters below do likewise.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.header.text(key)
    }

    /// An integer that is not negative.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_unsigned()
    }

    /// A number.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_float()
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Texts(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.get(key)? {
            Value::Integers(values) => Some(values),
            _ => None,
        }
    }

    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f64]> {
        match self.get(key)? {
            Value::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// All tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensor(name)
    }

    /// A tensor's bytes, as they lie in the file.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.mapping.bytes()[tensor.range.clone()]
    }
}

impl Header {
    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A string of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }
}
