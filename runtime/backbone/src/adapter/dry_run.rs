//! Whether an adapter would load, what it would cost, and all that stands in the way, without reading a tensor.
//!
//! What only the numbers can tell is left to the load: NaN, values out of bounds, deltas of zero, indices of MoS.

use super::limits::{Findings, Limits, Problem};
use super::open::open;
use crate::error::Error;
use crate::model::ModelConfig;
use serde::Serialize;
use std::path::Path;

/// Room that an adapter may take, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In the host's memory.
    pub host: u64,
    /// On the device; the same memory where the device is the CPU.
    pub device: u64,
}

impl Room {
    /// No bound.
    pub const ANY: Self = Self { host: u64::MAX, device: u64::MAX };
}

/// Bytes of an adapter at each tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TierBytes {
    /// Its files.
    pub disk: u64,
    /// Its block of memory.
    pub host: u64,
    /// Its copy on a device.
    pub device: u64,
}

/// The answer of a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Whether it would load: no problems.
    pub fits: bool,
    /// `lora`, `rslora`, `dora`, `gguf`, `mos` or `adamix`; `None` where that cannot be told.
    pub kind: Option<&'static str>,
    /// What it takes.
    pub bytes: TierBytes,
    /// Largest rank.
    pub rank_max: usize,
    /// Modules with a low-rank change, by path.
    pub sites: Vec<String>,
    /// Modules that are replaced as a whole, by path.
    pub replaced: Vec<String>,
    /// Whether it brings a chat template.
    pub chat_template: bool,
    /// `task_type` of the configuration.
    pub task: Option<String>,
    /// All that stands in the way, at most 50.
    pub problems: Vec<Problem>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Looks an adapter over; see [`DryRun`].
pub fn dry_run(path: &Path, model: &ModelConfig, limits: &Limits, room: Room) -> DryRun {
    let mut findings = Findings::new(path);
    let opened = open(path, model, limits, &mut findings);
    let mut answer = DryRun {
        fits: false,
        kind: None,
        bytes: TierBytes::default(),
        rank_max: 0,
        sites: Vec::new(),
        replaced: Vec::new(),
        chat_template: false,
        task: None,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    if let Some(opened) = opened {
        let memory = opened.plan.layout.bytes() as u64;
        for (tier, free) in [("host memory", room.host), ("device memory", room.device)] {
            if memory > free {
                findings.push(Error::NoRoom { what: format!("the adapter in {tier}"), needed: memory, free });
            }
        }
        answer.kind = Some(opened.plan.kind);
        answer.bytes = TierBytes { disk: opened.disk_bytes, host: memory, device: memory };
        answer.rank_max = opened.plan.rank_max();
        answer.sites = opened.plan.sites.iter().map(|site| site.site.hf_path()).collect();
        answer.replaced = opened.plan.full.iter().map(|full| full.site.hf_path()).collect();
        answer.chat_template = opened.template.is_some();
        answer.task = opened.task;
    }
    let (errors, warnings) = findings.into_parts();
    answer.fits = errors.is_empty();
    answer.problems = errors.iter().map(Problem::from).collect();
    answer.warnings = warnings;
    answer
}
