//! How a matrix's elements lie in its panels: one format for each type a model file has, nothing rounded on the way.
//!
//! A panel is 16 output rows, k running on; the 16 lanes of a register are the 16 rows. A float panel holds for each k
//! its 16 elements. A quantised panel is a run of groups of 16 or 32 k: first the codes, then 16 scales, then 16 minimums
//! where the format has them. Codes come in 64-byte lines of four bytes for each row: an 8-bit line holds four
//! consecutive k; a 4-bit line holds four k in the low nibbles and the next four in the high ones. So one load gives the
//! operands of one or two byte dot products, and a panel is one linear stream.

use candle_core::quantized::GgmlDType;

/// Output rows a panel holds: the f32 lanes of a 512-bit register.
pub const PANEL: usize = 16;

/// How a matrix's elements are stored in its panels.
///
/// The quantised ones are named for the GGUF type they re-lay. Their value is `scale * (code - zero)` or
/// `scale * code + minimum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// 4-bit codes in groups of 32, f16 scale, zero at 8.
    Q4_0,
    /// 4-bit codes in groups of 32, f16 scale and minimum.
    Q4_1,
    /// 5-bit codes as bytes in groups of 32, f16 scale, zero at 16.
    Q5_0,
    /// 5-bit codes as bytes in groups of 32, f16 scale and minimum.
    Q5_1,
    /// 8-bit codes in groups of 32, f16 scale, zero at 128.
    Q8_0,
    /// 2-bit codes as nibbles in groups of 16, f32 scale and minimum.
    Q2K,
    /// 3-bit codes as nibbles in groups of 16, f32 scale, zero at 4.
    Q3K,
    /// 4-bit codes in groups of 32, f32 scale and minimum.
    Q4K,
    /// 5-bit codes as bytes in groups of 32, f32 scale and minimum.
    Q5K,
    /// 6-bit codes as bytes in groups of 16, f32 scale, zero at 32.
    Q6K,
}

/// The layout of a quantised format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quant {
    /// Bits a code occupies: 4 or 8.
    pub bits: usize,
    /// Consecutive k with one scale: 16 or 32.
    pub group: usize,
    /// Bytes of a scale, and of a minimum: 2 (f16) or 4 (f32).
    pub scale: usize,
    /// Whether a group has a minimum.
    pub min: bool,
    /// The code of the value 0 is `1 << zero`, where there is no minimum.
    pub zero: u32,
}

impl Quant {
    /// Bytes of a group's codes, all 16 rows.
    pub const fn codes_bytes(self) -> usize {
        PANEL * self.group * self.bits / 8
    }

    /// Bytes of a group, all 16 rows.
    pub const fn group_bytes(self) -> usize {
        self.codes_bytes() + PANEL * self.scale * (1 + self.min as usize)
    }
}

impl Format {
    /// Every format, in the order of the pack file's names.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Its layout, where it is quantised.
    pub const fn quant(self) -> Option<Quant> {
        let (bits, group, scale, min, zero) = match self {
            Self::F32 | Self::F16 | Self::Bf16 => return None,
            Self::Q4_0 => (4, 32, 2, false, 3),
            Self::Q4_1 => (4, 32, 2, true, 0),
            Self::Q5_0 => (8, 32, 2, false, 4),
            Self::Q5_1 => (8, 32, 2, true, 0),
            Self::Q8_0 => (8, 32, 2, false, 7),
            Self::Q2K => (4, 16, 4, true, 0),
            Self::Q3K => (4, 16, 4, false, 2),
            Self::Q4K => (4, 32, 4, true, 0),
            Self::Q5K => (8, 32, 4, true, 0),
            Self::Q6K => (8, 16, 4, false, 5),
        };
        Some(Quant { bits, group, scale, min, zero })
    }

    /// Whether its products use the f32 activations; quantised formats use 8-bit integer ones.
    pub const fn is_float(self) -> bool {
        self.quant().is_none()
    }

    /// Bytes of a panel of `k` columns. Quantised formats need `k` to be a multiple of 32.
    pub const fn panel_bytes(self, k: usize) -> usize {
        match (self, self.quant()) {
            (_, Some(quant)) => k / quant.group * quant.group_bytes(),
            (Self::F32, None) => k * PANEL * 4,
            (_, None) => k * PANEL * 2,
        }
    }

    /// Its name in a pack file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// The format of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format that holds a file's type as it is; `None` for types that are served as f32 (Q8_1 and Q8_K, which
    /// files do not use for weights).
    pub fn of(dtype: GgmlDType) -> Option<Self> {
        Some(match dtype {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q2K => Self::Q2K,
            GgmlDType::Q3K => Self::Q3K,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            GgmlDType::Q8_1 | GgmlDType::Q8K => return None,
        })
    }
}
