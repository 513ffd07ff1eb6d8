//! The element types of GGUF tensors: all that llama.cpp writes are known by name and size, so that a file can be checked
//! and an unsupported type named; those that candle reads can be used.

use candle_core::quantized::GgmlDType;

/// How a tensor's elements are stored: in blocks of `block` elements and `bytes` bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its number in files.
    pub id: u32,
    /// Its name in llama.cpp.
    pub name: &'static str,
    /// Elements of a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// candle's name; `None` where this build cannot read it.
    pub dtype: Option<GgmlDType>,
}

impl Kind {
    /// The kind of a number, if llama.cpp knows one.
    pub fn of(id: u32) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.id == id)
    }
}

const fn kind(id: u32, name: &'static str, block: usize, bytes: usize, dtype: Option<GgmlDType>) -> Kind {
    Kind { id, name, block, bytes, dtype }
}

// Numbers and sizes: `ggml_type` in ggml.h and the block structs in ggml-common.h of llama.cpp.
const KINDS: &[Kind] = &[
    kind(0, "F32", 1, 4, Some(GgmlDType::F32)),
    kind(1, "F16", 1, 2, Some(GgmlDType::F16)),
    kind(2, "Q4_0", 32, 18, Some(GgmlDType::Q4_0)),
    kind(3, "Q4_1", 32, 20, Some(GgmlDType::Q4_1)),
    kind(6, "Q5_0", 32, 22, Some(GgmlDType::Q5_0)),
    kind(7, "Q5_1", 32, 24, Some(GgmlDType::Q5_1)),
    kind(8, "Q8_0", 32, 34, Some(GgmlDType::Q8_0)),
    kind(9, "Q8_1", 32, 36, Some(GgmlDType::Q8_1)),
    kind(10, "Q2_K", 256, 84, Some(GgmlDType::Q2K)),
    kind(11, "Q3_K", 256, 110, Some(GgmlDType::Q3K)),
    kind(12, "Q4_K", 256, 144, Some(GgmlDType::Q4K)),
    kind(13, "Q5_K", 256, 176, Some(GgmlDType::Q5K)),
    kind(14, "Q6_K", 256, 210, Some(GgmlDType::Q6K)),
    kind(15, "Q8_K", 256, 292, Some(GgmlDType::Q8K)),
    kind(16, "IQ2_XXS", 256, 66, None),
    kind(17, "IQ2_XS", 256, 74, None),
    kind(18, "IQ3_XXS", 256, 98, None),
    kind(19, "IQ1_S", 256, 50, None),
    kind(20, "IQ4_NL", 32, 18, None),
    kind(21, "IQ3_S", 256, 110, None),
    kind(22, "IQ2_S", 256, 82, None),
    kind(23, "IQ4_XS", 256, 136, None),
    kind(24, "I8", 1, 1, None),
    kind(25, "I16", 1, 2, None),
    kind(26, "I32", 1, 4, None),
    kind(27, "I64", 1, 8, None),
    kind(28, "F64", 1, 8, None),
    kind(29, "IQ1_M", 256, 56, None),
    kind(30, "BF16", 1, 2, Some(GgmlDType::BF16)),
    kind(34, "TQ1_0", 256, 54, None),
    kind(35, "TQ2_0", 256, 66, None),
    kind(39, "MXFP4", 32, 17, None),
    kind(40, "NVFP4", 64, 36, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_agree_with_candle() {
        let read: Vec<_> = KINDS.iter().filter_map(|kind| Some((kind, kind.dtype?))).collect();
        assert_eq!(read.len(), 15);
        for (kind, dtype) in read {
            assert_eq!((kind.block, kind.bytes), (dtype.block_size(), dtype.type_size()), "{}", kind.name);
        }
    }
}
