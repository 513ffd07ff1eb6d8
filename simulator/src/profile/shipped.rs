//! The files that come with the program, as text. Order matters for steps: the first row that fits a pair is preferred.

/// A shipped file: its name without `.toml`, and its text.
pub type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../profiles/", $folder, "/", $name, ".toml")))),+]
    };
}

/// GPUs.
pub const GPUS: &[File] = files!("gpus": "a10g", "a30", "a40", "a100-40", "a100-80", "a100-80-pcie", "b200", "h100",
    "h100-pcie", "h200", "l4", "l40s", "rtx-4090", "rtx-pro-6000");

/// Backbones.
pub const MODELS: &[File] = files!("models": "codellama-34b", "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b",
    "llama-3.1-8b", "llama-3-70b");

/// Step times. Profiles of whole engines' layers come before sums over single kernels.
pub const STEPS: &[File] = files!("steps": "vidur", "llmservingsim", "aiconfigurator");

/// Cold-start regimes.
pub const COLD_STARTS: &[File] = files!("cold": "container", "engine", "timeline");

/// Fleets.
pub const FLEETS: &[File] =
    files!("fleets": "a10g-2x4", "a100-80-1x8", "h100-1x8", "l4-x8", "l40s-x8", "l40s-4x4");

/// Tariffs; the first is the usual primary one.
pub const TARIFFS: &[File] =
    files!("tariffs": "gpu-second", "memory-share", "modal", "runpod-flex", "cerebrium", "cloud-run");
