//! The bounded parser of GGUF headers, over bytes that may hold anything.

use super::{Header, Kind, TensorInfo, Value};
use crate::error::{Error, Result};
use std::collections::hash_map::Entry;
use std::path::Path;

/// Memory the metadata of one file may take, bytes. The largest known vocabularies (262,144 tokens with their merges)
/// take half of it.
pub const METADATA_BYTES_MAX: usize = 96 << 20;

/// Metadata keys and tensors a file may have: arbitrary, several times what the largest models of these families have.
const ENTRIES_MAX: u64 = 65_536;

/// Bytes of a key or a tensor's name; the format allows 65,535 and 64.
const NAME_BYTES_MAX: usize = 1_024;

/// Dimensions of a tensor: `GGML_MAX_DIMS`.
const DIMS_MAX: u32 = 4;

/// Alignment a file may ask for, bytes: arbitrary; files in the wild use 32.
const ALIGNMENT_MAX: u64 = 1 << 20;

/// Bytes that the smallest metadata entry takes: a key's length and a byte of it, a type, a value.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;

/// Bytes that the smallest tensor entry takes: a name's length and a byte of it, dimensions, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 4 + 8;

/// Memory that keeping a string costs beside its bytes: the `String` and the allocator's own.
const STRING_OVERHEAD: usize = size_of::<String>() + 16;

/// Reads the header of a GGUF file. `path` is for messages only.
///
/// # Errors
/// [`Error::Corrupt`] with the place; [`Error::Unsupported`] for version 1, big endian and nested arrays;
/// [`Error::TooLarge`] past a limit.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader { path, bytes, at: 0, budget: METADATA_BYTES_MAX };
    let version = reader.version()?;
    let tensors = reader.count("tensor count", TENSOR_BYTES_MIN)?;
    let entries = reader.count("metadata count", ENTRY_BYTES_MIN)?;
    let mut header = Header { version, ..Header::default() };
    for _ in 0..entries {
        reader.entry(&mut header)?;
    }
    let alignment = alignment(path, &header)?;
    let mut raw = Vec::new();
    for _ in 0..tensors {
        raw.push(reader.tensor()?);
    }
    header.data_start = reader.at.next_multiple_of(alignment);
    place(path, &mut header, raw, alignment, bytes.len())?;
    Ok(header)
}

/// A tensor entry before its offset is checked.
struct RawTensor {
    name: String,
    dims: Vec<usize>,
    kind: &'static Kind,
    bytes: usize,
    offset: u64,
}

fn alignment(path: &Path, header: &Header) -> Result<usize> {
    let Some(value) = header.get("general.alignment") else { return Ok(32) };
    match value.as_unsigned() {
        Some(n) if n.is_power_of_two() && (8..=ALIGNMENT_MAX).contains(&n) => Ok(n as usize),
        _ => {
            let problem = format!("{value:?} is no power of two between 8 and {ALIGNMENT_MAX}");
            Err(Error::corrupt(path, "general.alignment", problem))
        }
    }
}

/// Puts the tensors in their places: in the file, aligned, no two over each other.
fn place(path: &Path, header: &mut Header, raw: Vec<RawTensor>, alignment: usize, size: usize) -> Result<()> {
    for tensor in raw {
        let corrupt = |problem: String| Err(Error::corrupt(path, tensor.name.clone(), problem));
        if !tensor.offset.is_multiple_of(alignment as u64) {
            return corrupt(format!("offset {} is not a multiple of {alignment}", tensor.offset));
        }
        let start =
            usize::try_from(tensor.offset).ok().and_then(|offset| offset.checked_add(header.data_start));
        let end = start.and_then(|start| start.checked_add(tensor.bytes)).filter(|&end| end <= size);
        let (Some(start), Some(end)) = (start, end) else {
            let (bytes, offset) = (tensor.bytes, tensor.offset);
            return corrupt(format!(
                "its {bytes} bytes at offset {offset} end past the file's {size} bytes; download it again"
            ));
        };
        match header.by_name.entry(tensor.name.clone()) {
            Entry::Occupied(_) => return corrupt("two tensors have this name".to_owned()),
            Entry::Vacant(place) => place.insert(header.tensors.len()),
        };
        let RawTensor { name, dims, kind, .. } = tensor;
        header.tensors.push(TensorInfo { name, dims, kind, range: start..end });
    }
    refuse_overlaps(path, &header.tensors)
}

fn refuse_overlaps(path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let problem = format!("its bytes overlap those of {}", pair[0].name);
            return Err(Error::corrupt(path, pair[1].name.clone(), problem));
        }
    }
    Ok(())
}

/// A cursor that never reads past the end nor allocates past the budget.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    budget: usize,
}

impl<'a> Reader<'a> {
    fn corrupt<T>(&self, place: &str, problem: impl Into<String>) -> Result<T> {
        Err(Error::corrupt(self.path, format!("{place} (byte {})", self.at), problem))
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize, place: &str) -> Result<&'a [u8]> {
        if count > self.left() {
            let problem =
                format!("needs {count} bytes, the file has {} left; download it again", self.left());
            return self.corrupt(place, problem);
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, place: &str) -> Result<[u8; N]> {
        Ok(self.take(N, place)?.try_into().expect("take gives as many bytes as asked"))
    }

    fn u32(&mut self, place: &str) -> Result<u32> {
        self.array(place).map(u32::from_le_bytes)
    }

    fn u64(&mut self, place: &str) -> Result<u64> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// Takes memory from the budget before it is allocated.
    fn charge(&mut self, bytes: usize, place: &str) -> Result<()> {
        let Some(left) = self.budget.checked_sub(bytes) else {
            let what = format!("{}: memory of the metadata at {place}", self.path.display());
            let size = METADATA_BYTES_MAX.saturating_sub(self.budget).saturating_add(bytes) as u64;
            return Err(Error::TooLarge { what, size, limit: METADATA_BYTES_MAX as u64 });
        };
        self.budget = left;
        Ok(())
    }

    fn version(&mut self) -> Result<u32> {
        let unsupported = |what: String| Err(Error::Unsupported { path: self.path.to_owned(), what });
        if self.bytes.first_chunk() != Some(b"GGUF") {
            return self.corrupt("magic", "this is no GGUF file");
        }
        let Some(version) = self.bytes.get(4..).and_then(|rest| rest.first_chunk()) else {
            return self.corrupt("version", "the file ends here; download it again");
        };
        let version = u32::from_le_bytes(*version);
        match version {
            2 | 3 => {
                self.at = 8;
                Ok(version)
            }
            1 => unsupported("GGUF version 1; convert it with a newer llama.cpp".to_owned()),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                unsupported("a big-endian GGUF; convert it to little endian".to_owned())
            }
            _ => unsupported(format!("GGUF version {version}; this build reads 2 and 3")),
        }
    }

    /// A number of entries that take at least `bytes_min` each.
    fn count(&mut self, place: &str, bytes_min: u64) -> Result<u64> {
        let count = self.u64(place)?;
        if count > self.left() as u64 / bytes_min {
            return self.corrupt(place, format!("{count} entries cannot fit in {} bytes", self.left()));
        }
        if count > ENTRIES_MAX {
            let what = format!("{}: {place}", self.path.display());
            return Err(Error::TooLarge { what, size: count, limit: ENTRIES_MAX });
        }
        Ok(count)
    }

    /// A length that the rest of the file must be able to hold at `bytes_each` per element.
    fn length(&mut self, bytes_each: usize, place: &str) -> Result<usize> {
        let length = self.u64(place)?;
        match usize::try_from(length) {
            Ok(n) if n <= self.left() / bytes_each => Ok(n),
            _ => {
                self.corrupt(place, format!("length {length} exceeds the file's {} bytes left", self.left()))
            }
        }
    }

    fn string(&mut self, place: &str) -> Result<String> {
        let length = self.length(1, place)?;
        self.charge(length.saturating_add(STRING_OVERHEAD), place)?;
        match std::str::from_utf8(self.take(length, place)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => self.corrupt(place, format!("invalid UTF-8: {error}")),
        }
    }

    fn name(&mut self, place: &str) -> Result<String> {
        let name = self.string(place)?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            let shown: String = name.chars().take(40).collect();
            let problem =
                format!("{shown:?}, {} bytes, is no name (1 to {NAME_BYTES_MAX} printable)", name.len());
            return self.corrupt(place, problem);
        }
        Ok(name)
    }

    fn entry(&mut self, header: &mut Header) -> Result<()> {
        let key = self.name("metadata key")?;
        let kind = self.u32(&key)?;
        let value = match kind {
            9 => self.list(&key)?,
            _ => self.scalar(kind, &key)?,
        };
        if header.metadata.contains_key(&key) {
            return self.corrupt(&key, "the key is there twice");
        }
        header.metadata.insert(key, value);
        Ok(())
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.truth(key)?),
            8 => Value::Text(self.string(key)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => return self.corrupt(key, format!("unknown metadata type {kind}")),
        })
    }

    fn truth(&mut self, key: &str) -> Result<bool> {
        match self.array::<1>(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => self.corrupt(key, format!("{other} is neither true nor false")),
        }
    }

    fn list(&mut self, key: &str) -> Result<Value> {
        Ok(match self.u32(key)? {
            0 => Value::Integers(self.numbers(key, |b| u8::from_le_bytes(b).into())?),
            1 => Value::Integers(self.numbers(key, |b| i8::from_le_bytes(b).into())?),
            2 => Value::Integers(self.numbers(key, |b| u16::from_le_bytes(b).into())?),
            3 => Value::Integers(self.numbers(key, |b| i16::from_le_bytes(b).into())?),
            4 => Value::Integers(self.numbers(key, |b| u32::from_le_bytes(b).into())?),
            5 => Value::Integers(self.numbers(key, |b| i32::from_le_bytes(b).into())?),
            6 => Value::Floats(self.numbers(key, |b| f32::from_le_bytes(b).into())?),
            7 => {
                let length = self.length(1, key)?;
                self.charge(length, key)?;
                Value::Bools((0..length).map(|_| self.truth(key)).collect::<Result<_>>()?)
            }
            8 => Value::Texts(self.strings(key)?),
            9 => {
                let what = format!("{key} is an array of arrays, which no supported model has");
                return Err(Error::Unsupported { path: self.path.to_owned(), what });
            }
            10 => self.wide(key)?,
            11 => Value::Integers(self.numbers(key, i64::from_le_bytes)?),
            12 => Value::Floats(self.numbers(key, f64::from_le_bytes)?),
            other => return self.corrupt(key, format!("unknown metadata type {other} of an array")),
        })
    }

    fn numbers<const N: usize, T>(&mut self, key: &str, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let length = self.length(N, key)?;
        self.charge(length.saturating_mul(size_of::<T>()), key)?;
        let bytes = self.take(length * N, key)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| read(chunk)).collect())
    }

    fn wide(&mut self, key: &str) -> Result<Value> {
        let values = self.numbers(key, u64::from_le_bytes)?;
        match values.into_iter().map(i64::try_from).collect() {
            Ok(values) => Ok(Value::Integers(values)),
            Err(_) => self.corrupt(key, "an integer exceeds 63 bits"),
        }
    }

    fn strings(&mut self, key: &str) -> Result<Vec<String>> {
        let length = self.length(size_of::<u64>(), key)?;
        // Charged before the list is allocated; each string charges itself again, which errs on the safe side.
        self.charge(length.saturating_mul(size_of::<String>()), key)?;
        let mut texts = Vec::with_capacity(length);
        for _ in 0..length {
            texts.push(self.string(key)?);
        }
        Ok(texts)
    }

    fn tensor(&mut self) -> Result<RawTensor> {
        let name = self.name("tensor name")?;
        let rank = self.u32(&name)?;
        if rank > DIMS_MAX {
            return self.corrupt(&name, format!("{rank} dimensions; a tensor has at most {DIMS_MAX}"));
        }
        let mut dims = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            let dim = self.u64(&name)?;
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 => dims.push(dim),
                _ => return self.corrupt(&name, format!("a dimension of {dim}")),
            }
        }
        let id = self.u32(&name)?;
        let Some(kind) = Kind::of(id) else {
            return self
                .corrupt(&name, format!("unknown tensor type {id}; this build is older than the file"));
        };
        let bytes = self.size(&name, &dims, kind)?;
        Ok(RawTensor { name, dims, kind, bytes, offset: self.u64("tensor offset")? })
    }

    fn size(&self, name: &str, dims: &[usize], kind: &Kind) -> Result<usize> {
        let columns = dims.first().copied().unwrap_or(1);
        if !columns.is_multiple_of(kind.block) {
            let problem =
                format!("rows of {columns} elements do not divide in {} blocks of {}", kind.name, kind.block);
            return self.corrupt(name, problem);
        }
        let elements = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        match elements.and_then(|n| (n / kind.block).checked_mul(kind.bytes)) {
            Some(bytes) => Ok(bytes),
            None => self.corrupt(name, format!("shape {dims:?} overflows")),
        }
    }
}
