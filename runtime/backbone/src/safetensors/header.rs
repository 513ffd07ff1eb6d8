//! The bounded parser of safetensors headers, over bytes that may hold anything.

use super::{Dtype, Header, Limits, TensorInfo, refuse_foreign};
use crate::error::{Error, Result};
use candle_core::quantized::GgmlDType;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Bytes of a tensor's name: arbitrary; real ones stay below 100.
const NAME_BYTES_MAX: usize = 512;

/// Entries of the free-form metadata: arbitrary; real ones hold a handful.
const METADATA_ENTRIES_MAX: usize = 1_024;

// Names and sizes: `Dtype` of the safetensors crate 0.8.
const DTYPES: &[(&str, usize, Option<GgmlDType>)] = &[
    ("F32", 32, Some(GgmlDType::F32)),
    ("F16", 16, Some(GgmlDType::F16)),
    ("BF16", 16, Some(GgmlDType::BF16)),
    ("BOOL", 8, None),
    ("F4", 4, None),
    ("F6_E2M3", 6, None),
    ("F6_E3M2", 6, None),
    ("U8", 8, None),
    ("I8", 8, None),
    ("F8_E5M2", 8, None),
    ("F8_E4M3", 8, None),
    ("F8_E8M0", 8, None),
    ("F8_E4M3FNUZ", 8, None),
    ("F8_E5M2FNUZ", 8, None),
    ("I16", 16, None),
    ("U16", 16, None),
    ("I32", 32, None),
    ("U32", 32, None),
    ("C64", 64, None),
    ("F64", 64, None),
    ("I64", 64, None),
    ("U64", 64, None),
];

/// Reads the header of a safetensors file. `path` is for messages only.
///
/// # Errors
/// [`Error::Forbidden`] for other formats, [`Error::TooLarge`] past a limit, [`Error::Corrupt`] with the place.
pub fn parse(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Header> {
    refuse_foreign(path, bytes)?;
    let too_large = |what: &str, size: u64, limit: u64| {
        Err(Error::TooLarge { what: format!("{}: {what}", path.display()), size, limit })
    };
    if bytes.len() as u64 > limits.file {
        return too_large("file", bytes.len() as u64, limits.file);
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Error::corrupt(path, "header length", "the file ends before it; download it again"));
    };
    let length = u64::from_le_bytes(*length);
    if length > rest.len() as u64 {
        let problem = format!("{length} bytes, the file has {} left; download it again", rest.len());
        return Err(Error::corrupt(path, "header length", problem));
    }
    if length > limits.header {
        return too_large("header", length, limits.header);
    }
    let (json, data) = rest.split_at(length as usize);
    if json.first() != Some(&b'{') {
        return Err(Error::corrupt(path, "header", "it does not begin with a brace"));
    }
    let parsed = read_json(path, json, limits)?;
    place(path, parsed, 8 + json.len(), data.len())
}

/// Streams the JSON; what exceeds a limit stops it.
fn read_json(path: &Path, json: &[u8], limits: &Limits) -> Result<Parsed> {
    let mut over = None;
    let mut stream = serde_json::Deserializer::from_slice(json);
    let parsed = Entries { limits, over: &mut over }.deserialize(&mut stream);
    let parsed = parsed.and_then(|parsed| stream.end().map(|()| parsed));
    parsed.map_err(|error| match over {
        Some((what, size, limit)) => {
            let what = format!("{}: {what}", path.display());
            Error::TooLarge { what, size: size as u64, limit: limit as u64 }
        }
        None => Error::corrupt(path, "header", error.to_string()),
    })
}

/// Checks shapes against offsets, and that the tensors tile the data without holes or overlaps.
fn place(path: &Path, parsed: Parsed, data_start: usize, data: usize) -> Result<Header> {
    let mut header = Header { metadata: parsed.metadata, data_start, ..Header::default() };
    for (name, entry) in parsed.tensors {
        let (start, end) = (entry.offsets.start, entry.offsets.end);
        let corrupt = |problem: String| Err(Error::corrupt(path, name.clone(), problem));
        if start > end || end > data {
            return corrupt(format!("offsets {start}..{end} are not within the {data} bytes of data"));
        }
        let bits = entry.shape.iter().try_fold(entry.dtype.bits, |product, &dim| product.checked_mul(dim));
        let Some(bits) = bits.filter(|bits| bits.is_multiple_of(8)) else {
            return corrupt(format!("shape {:?} overflows or ends within a byte", entry.shape));
        };
        if bits / 8 != end - start {
            let (shape, dtype) = (&entry.shape, entry.dtype.name);
            return corrupt(format!(
                "shape {shape:?} of {dtype} needs {} bytes, has {}",
                bits / 8,
                end - start
            ));
        }
        let range = data_start + start..data_start + end;
        header.tensors.insert(name, TensorInfo { dtype: entry.dtype, shape: entry.shape, range });
    }
    refuse_gaps(path, &header, data_start + data)?;
    Ok(header)
}

fn refuse_gaps(path: &Path, header: &Header, end: usize) -> Result<()> {
    let mut order: Vec<(&String, &Range<usize>)> =
        header.tensors.iter().map(|(name, tensor)| (name, &tensor.range)).collect();
    order.sort_unstable_by_key(|(_, range)| (range.start, range.end));
    let mut at = header.data_start;
    for (name, range) in order {
        if range.start != at {
            let what =
                if range.start < at { "overlaps the tensor before it" } else { "leaves a hole before it" };
            let problem = format!("it begins at byte {}, which {what} (byte {at})", range.start);
            return Err(Error::corrupt(path, name.clone(), problem));
        }
        at = range.end;
    }
    if at != end {
        return Err(Error::corrupt(path, "data", format!("{} bytes belong to no tensor", end - at)));
    }
    Ok(())
}

/// The header's JSON, offsets still relative to the data.
#[derive(Default)]
struct Parsed {
    tensors: BTreeMap<String, Described>,
    metadata: BTreeMap<String, String>,
}

struct Described {
    dtype: Dtype,
    shape: Vec<usize>,
    offsets: Range<usize>,
}

/// Something that exceeds a limit: what, its size, the limit.
type Over = Option<(String, usize, usize)>;

/// Visitor of the header's object.
struct Entries<'l> {
    limits: &'l Limits,
    over: &'l mut Over,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut parsed = Parsed::default();
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut metadata_seen, true) {
                    return Err(de::Error::custom("__metadata__ is there twice"));
                }
                parsed.metadata = map.next_value_seed(Metadata { over: self.over })?;
                continue;
            }
            check_name(&name).map_err(de::Error::custom)?;
            if parsed.tensors.len() == self.limits.tensors {
                let limit = self.limits.tensors;
                return Err(exceeded(self.over, "number of tensors".to_owned(), limit + 1, limit));
            }
            let entry: Entry = map.next_value()?;
            let described = describe(&name, entry, self.limits, self.over)?;
            if parsed.tensors.insert(name.clone(), described).is_some() {
                return Err(de::Error::custom(format!("two tensors have the name {name}")));
            }
        }
        Ok(parsed)
    }
}

fn exceeded<E: de::Error>(over: &mut Over, what: String, size: usize, limit: usize) -> E {
    *over = Some((what, size, limit));
    E::custom("limit")
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "{shown:?}, {} bytes, is no tensor name (1 to {NAME_BYTES_MAX} printable)",
            name.len()
        ));
    }
    Ok(())
}

fn describe<E: de::Error>(
    name: &str,
    entry: Entry,
    limits: &Limits,
    over: &mut Over,
) -> Result<Described, E> {
    let Some(&(dtype, bits, candle)) = DTYPES.iter().find(|known| known.0 == entry.dtype) else {
        let shown: String = entry.dtype.chars().take(40).collect();
        return Err(E::custom(format!("tensor {name} has the unknown type {shown:?}")));
    };
    if entry.shape.rank > limits.rank {
        return Err(exceeded(over, format!("rank of tensor {name}"), entry.shape.rank, limits.rank));
    }
    let dtype = Dtype { name: dtype, bits, dtype: candle };
    let [start, end] = entry.data_offsets;
    Ok(Described { dtype, shape: entry.shape.dims, offsets: start..end })
}

/// One tensor of the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: [usize; 2],
}

/// Dimensions: the first few are kept, the rest only counted.
struct Shape {
    dims: Vec<usize>,
    rank: usize,
}

/// Dimensions that are kept; no limit of rank is higher.
const DIMS_KEPT: usize = 8;

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape { dims: Vec::new(), rank: 0 };
                while let Some(dim) = seq.next_element()? {
                    shape.rank += 1;
                    if shape.dims.len() < DIMS_KEPT {
                        shape.dims.push(dim);
                    }
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}

/// Visitor of `__metadata__`.
struct Metadata<'l> {
    over: &'l mut Over,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.len() == METADATA_ENTRIES_MAX {
                let what = "entries of __metadata__".to_owned();
                return Err(exceeded(self.over, what, METADATA_ENTRIES_MAX + 1, METADATA_ENTRIES_MAX));
            }
            if entries.insert(key, value).is_some() {
                return Err(de::Error::custom("__metadata__ has a key twice"));
            }
        }
        Ok(entries)
    }
}
