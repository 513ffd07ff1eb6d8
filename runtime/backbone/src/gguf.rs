//! GGUF files: header, metadata and tensor index, bounded before they are believed.

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

/// An opened GGUF file. Contract: `open(path)`, `metadata() -> &BTreeMap<String, Value>`, typed getters
/// (`text(key)`, `unsigned(key)`, `float(key)`, `texts(key)`), `tensors()`, `tensor(name)`.
#[derive(Debug)]
pub struct Gguf {
    metadata: std::collections::BTreeMap<String, Value>,
}

impl Gguf {
    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }
}
