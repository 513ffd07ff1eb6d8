//! Which kernels this CPU runs, found out once.

use std::fmt;
use std::sync::OnceLock;

/// A set of kernels. The same inputs give the same integer sums in every tier; the f32 sums differ by rounding only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// 512-bit integer dot products (Intel since Ice Lake, AMD since Zen 4).
    Avx512Vnni,
    /// 256-bit integer dot products (Intel client CPUs since Alder Lake).
    AvxVnni,
    /// 256-bit multiply-adds (Intel since Haswell, AMD since Zen).
    Avx2,
    /// Plain Rust, whatever the CPU.
    Portable,
}

impl Tier {
    /// Every tier, best first.
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Portable];

    /// The best tier this CPU runs.
    pub fn best() -> Self {
        static BEST: OnceLock<Tier> = OnceLock::new();
        *BEST.get_or_init(|| Self::ALL.into_iter().find(|tier| tier.runs()).unwrap_or(Self::Portable))
    }

    /// Whether this CPU runs it.
    pub fn runs(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.runs()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.runs() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Its name: `avx512-vnni`, `avx-vnni`, `avx2`, `portable`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the kernels found.
#[derive(Debug, Clone)]
pub struct Features {
    /// The name of the tier in use.
    pub tier: &'static str,
    /// The CPU's flags that matter to the kernels, present ones only.
    pub flags: Vec<&'static str>,
}

/// The tier in use and the CPU's flags that matter.
pub fn features() -> Features {
    Features { tier: Tier::best().name(), flags: flags() }
}

#[cfg(target_arch = "x86_64")]
fn flags() -> Vec<&'static str> {
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", is_x86_feature_detected!("avx512fp16")),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn flags() -> Vec<&'static str> {
    Vec::new()
}
