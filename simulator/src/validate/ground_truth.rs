//! Real vLLM runs replayed: arrival, tokens and measured latencies per request, against the simulated ones.
//!
//! Data: `calibration/vllm_ground_truth_llama-3.1-8b.csv` (vLLM 0.19.0, one RTX PRO 6000, at most 128 sequences, 2,048
//! tokens a step, 90 % of memory). The data is read where it is; nothing of it is in the program.

use super::Held;
use crate::profile::Profiles;
use crate::report::per_request::{RequestRow, RowSink};
use crate::run::{Hooks, run};
use crate::setup::{Model, RunError, Setup};
use coldframe_policy::config::{from_table, preset_toml, set};
use coldframe_traces::{FunctionInfo, Record};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One metric, measured and simulated.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// `ttft`, `tpot`, `e2e`.
    pub metric: &'static str,
    /// `mean`, `p50`, `p90`, `p99`.
    pub statistic: &'static str,
    /// Measured, milliseconds.
    pub measured_ms: f64,
    /// Simulated, milliseconds.
    pub simulated_ms: f64,
    /// Simulated over measured, less one.
    pub error: f64,
}

struct Row {
    arrival_ns: u64,
    prompt: u32,
    output: u32,
    measured_ms: [f64; 3],
}

#[derive(Default)]
struct Kept(Vec<RequestRow>);

impl RowSink for Kept {
    fn row(&mut self, row: &RequestRow) -> std::io::Result<()> {
        self.0.push(row.clone());
        Ok(())
    }
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

/// Replays the file and compares means and quantiles.
pub fn ground_truth(file: &Path) -> Result<Vec<Compared>, RunError> {
    let rows = read(file)?;
    let record = |r: &Row| Record {
        arrival_ns: r.arrival_ns,
        prompt_tokens: r.prompt,
        output_tokens: r.output,
        ..Record::default()
    };
    let mut trace = Held::new([FunctionInfo::default()], rows.iter().map(record).collect());
    let setup = setup()?;
    let mut kept = Kept::default();
    run(&setup, &[], &mut trace, Hooks { rows: Some(&mut kept), ..Hooks::default() })?;
    let ms = |ns: u64| ns as f64 / 1e6;
    let simulated = |metric: usize| -> Vec<f64> {
        let pick = |r: &RequestRow| [ms(r.ttft_ns), ms(r.tpot_ns), ms(r.e2e_ns)][metric];
        kept.0.iter().map(pick).collect()
    };
    let mut out = Vec::new();
    for (metric, name) in ["ttft", "tpot", "e2e"].into_iter().enumerate() {
        let real = statistics(rows.iter().map(|r| r.measured_ms[metric]).collect());
        let ours = statistics(simulated(metric));
        for ((statistic, measured_ms), (_, simulated_ms)) in real.into_iter().zip(ours) {
            out.push(Compared {
                metric: name,
                statistic,
                measured_ms,
                simulated_ms,
                error: simulated_ms / measured_ms - 1.0,
            });
        }
    }
    Ok(out)
}

fn statistics(mut values: Vec<f64>) -> [(&'static str, f64); 4] {
    values.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let at = |share: f64| values[((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
    [("mean", mean), ("p50", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99))]
}

fn read(file: &Path) -> Result<Vec<Row>, RunError> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        RunError::Setup(format!("{}: {e}. Set COLDFRAME_DATA to the data folder", file.display()))
    })?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let wanted = ["arrival_s", "prompt_tokens", "output_tokens", "ttft_ms", "tpot_ms", "e2e_ms"];
    let mut columns = [0; 6];
    for (at, name) in columns.iter_mut().zip(wanted) {
        let found = header.iter().position(|h| h == &name);
        *at = found.ok_or_else(|| RunError::Setup(format!("{}:1: no column `{name}`", file.display())))?;
    }
    let mut rows = Vec::new();
    for (n, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |c: usize| -> Result<f64, RunError> {
            let value = cells
                .get(columns[c])
                .and_then(|v| v.parse().ok())
                .filter(|v: &f64| v.is_finite() && *v >= 0.0);
            value.ok_or_else(|| {
                RunError::Setup(format!("{}:{}: column `{}` is no number", file.display(), n + 2, wanted[c]))
            })
        };
        rows.push(Row {
            arrival_ns: (cell(0)? * 1e9) as u64,
            prompt: cell(1)? as u32,
            output: cell(2)? as u32,
            measured_ms: [cell(3)?, cell(4)?, cell(5)?],
        });
    }
    if rows.is_empty() {
        return Err(RunError::Empty);
    }
    Ok(rows)
}

fn setup() -> Result<Setup, RunError> {
    let failed = |e: &dyn std::fmt::Display| RunError::Setup(e.to_string());
    let mut table = preset_toml("vllm").map_err(|e| failed(&e))?;
    for (key, value) in [
        ("engine.max_sequences", "128"),
        ("engine.max_batched_tokens", "2048"),
        ("engine.memory_permille", "900"),
    ] {
        set(&mut table, key, value).map_err(|e| failed(&e))?;
    }
    let gpu = Profiles::gpu("rtx-pro-6000").map_err(|e| failed(&e))?;
    let profile = Profiles::model("llama-3.1-8b").map_err(|e| failed(&e))?;
    let step = Profiles::step(&gpu, &profile).map_err(|e| failed(&e))?;
    Ok(Setup {
        policy: from_table(table, "vllm").map_err(|e| failed(&e))?,
        gpu,
        workers: 1,
        gpus_per_worker: 1,
        host_memory_bytes: 256_000_000_000,
        vcpus: 16,
        models: vec![Model { profile, step }],
        cold: Profiles::cold_start("container").map_err(|e| failed(&e))?,
        rank: 0, // the runs had no adapter
        slo_ttft_ns: 2_000_000_000,
        slo_tpot_ns: 200_000_000,
        function_times: BTreeMap::new(),
        seed: 1,
        jitter_permille: 0,
        any_backbone: false,
        start: None,
        sent_late_us: Vec::new(),
        keep_log: false,
    })
}
