//! The one measured timeline of ServerlessLoRA that is public: eight requests of three functions under two systems.
//!
//! Source: the project page's figure "Time breakdown of LoRA functions' invocations", bar lengths read to ±0.05 s. The
//! component times go in as a profile; which of them a request pays is the policies' own decision. Keep-alive times
//! are not in the figure: they are chosen inside the bounds that its warm and cold requests leave (`docs/validation.md`).

use super::Held;
use crate::profile::{Profiles, RowTimes, StepProfile};
use crate::report::per_request::{RequestRow, RowSink};
use crate::run::{Hooks, run};
use crate::setup::{FunctionTimes, Model, RunError, Setup};
use coldframe_policy::config::{from_table, preset_toml, set};
use coldframe_traces::{FunctionInfo, Record};
use serde::Serialize;
use std::collections::BTreeMap;

/// Function and arrival, seconds after the first.
pub const ARRIVALS: [(&str, f64); 8] = [
    ("A", 0.0),
    ("B", 10.0),
    ("B", 21.0),
    ("C", 21.95),
    ("A", 31.9),
    ("C", 33.95),
    ("B", 36.95),
    ("A", 44.9),
];

/// Totals read off the figure, seconds, by arrival.
pub const MEASURED: [(&str, [f64; 8]); 2] = [
    ("serverlessllm", [7.4, 7.1, 0.22, 6.1, 7.0, 0.19, 7.0, 0.22]),
    ("serverlesslora", [9.8, 4.8, 0.22, 4.5, 1.8, 0.19, 0.56, 0.17]),
];

/// What the scenario sets beside the presets' values.
const SETTINGS: [(&str, &[(&str, &str)]); 2] = [
    // Warm after 6.2 s of idleness, cold after 15.7 s; second loads took as long as first ones, so no host copy.
    (
        "serverlessllm",
        &[
            (
                "keep_alive",
                "{ kind = 'fixed', container_s = 10.0, runtime_s = 10.0, backbone_s = 10.0, adapter_s = 10.0, kernel_s = 10.0 }",
            ),
            ("loader.host_cache", "false"),
        ],
    ),
    // Kernels: warm after 11.2 s, copied back after 15.7 s. Adapter: kept 15.7 s, gone after 22 s. Libraries stay.
    (
        "serverlesslora",
        &[
            (
                "keep_alive",
                "{ kind = 'fixed', container_s = 600.0, runtime_s = 600.0, backbone_s = 60.0, adapter_s = 20.0, kernel_s = 13.0 }",
            ),
            ("batching.delay", "'none'"), // its warm requests wait for no batch
            ("preload.window_s", "20.0"),
            ("preload.classes", "['container', 'runtime', 'backbone', 'adapter']"),
        ],
    ),
];

/// Warm inference of A, B and C in milliseconds, as each system's warm bars show it.
const WARM_MS: [[u32; 3]; 2] = [[220, 220, 190], [170, 220, 190]];

/// One request of one system.
#[derive(Clone, Debug, Serialize)]
pub struct TimelineRow {
    /// The system.
    pub system: &'static str,
    /// The function.
    pub function: &'static str,
    /// Arrival, seconds.
    pub arrival_s: f64,
    /// Total read off the figure, seconds.
    pub measured_s: f64,
    /// Total simulated, seconds.
    pub simulated_s: f64,
    /// Simulated over measured, less one.
    pub error: f64,
    /// Stages the simulated request paid: container, runtime, backbone, adapter, kernel, seconds.
    pub stages_s: [f64; 5],
}

struct Rows(Vec<RequestRow>);

impl RowSink for Rows {
    fn row(&mut self, row: &RequestRow) -> std::io::Result<()> {
        self.0.push(row.clone());
        Ok(())
    }
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

/// Replays the scenario under both systems.
pub fn timeline() -> Result<Vec<TimelineRow>, RunError> {
    let mut all = Vec::new();
    for (n, (system, measured)) in MEASURED.into_iter().enumerate() {
        let setup = setup(system, SETTINGS[n].1)?;
        let mut rows = Rows(Vec::new());
        let hooks = Hooks { rows: Some(&mut rows), ..Hooks::default() };
        run(&setup, &[], &mut trace(WARM_MS[n]), hooks)?;
        rows.0.sort_by_key(|r| r.arrival_ns);
        for ((row, measured_s), (function, arrival_s)) in rows.0.iter().zip(measured).zip(ARRIVALS) {
            let simulated_s = row.e2e_ns as f64 / 1e9;
            let stages = [row.container_ns, row.runtime_ns, row.backbone_ns, row.adapter_ns, row.kernel_ns];
            let error = simulated_s / measured_s - 1.0;
            let stages_s = stages.map(|ns| ns as f64 / 1e9);
            all.push(TimelineRow { system, function, arrival_s, measured_s, simulated_s, error, stages_s });
        }
    }
    Ok(all)
}

/// A prompt of n tokens takes n milliseconds under the scenario's step times.
fn trace(warm_ms: [u32; 3]) -> Held {
    let function = |name: &str| FunctionInfo {
        name: name.to_owned(),
        adapter: name.to_owned(),
        ..FunctionInfo::default()
    };
    let record = |(name, at): (&str, f64)| Record {
        arrival_ns: (at * 1e9) as u64,
        function: u32::from(name.as_bytes()[0] - b'A'),
        prompt_tokens: warm_ms[usize::from(name.as_bytes()[0] - b'A')],
        output_tokens: 1,
        ..Record::default()
    };
    Held::new(["A", "B", "C"].map(function), ARRIVALS.map(record).to_vec())
}

fn setup(system: &str, settings: &[(&str, &str)]) -> Result<Setup, RunError> {
    let failed = |e: &dyn std::fmt::Display| RunError::Setup(e.to_string());
    let mut table = preset_toml(system).map_err(|e| failed(&e))?;
    for (key, value) in settings {
        set(&mut table, key, value).map_err(|e| failed(&e))?;
    }
    let gpu = Profiles::gpu("l40s").map_err(|e| failed(&e))?;
    let profile = Profiles::model("llama-2-7b").map_err(|e| failed(&e))?;
    let step = StepProfile {
        name: "timeline".to_owned(),
        gpu: gpu.name.clone(),
        model: profile.name.clone(),
        source: "the figure's warm requests".to_owned(),
        prefill_floor_ps: 0,
        prefill_a_ps: 0,
        prefill_b_ps: 1_000_000_000,
        prefill_c_ps: 0,
        decode_a_ps: 1,
        decode_b_ps: 0,
        decode_rows_ps: RowTimes::default(),
        decode_c_ps: 0,
        host_ps: 0,
        adapter_layer_ps: 0,
        adapter_token_ps: 0,
        serving_row_ps: 0,
        engine: None,
        edge: None,
    };
    // C needs fewer libraries and less first-inference work than A and B in both systems' bars.
    let lighter = FunctionTimes { runtime_ns: Some(2_690_000_000), kernel_ns: Some(800_000_000) };
    Ok(Setup {
        policy: from_table(table, system).map_err(|e| failed(&e))?,
        gpu,
        workers: 1,
        gpus_per_worker: 4,
        host_memory_bytes: 256_000_000_000,
        vcpus: 16,
        models: vec![Model { profile, step }],
        cold: Profiles::cold_start("timeline").map_err(|e| failed(&e))?,
        rank: 16,
        slo_ttft_ns: 2_000_000_000,
        slo_tpot_ns: 200_000_000,
        function_times: BTreeMap::from([("C".to_owned(), lighter)]),
        seed: 1,
        jitter_permille: 0,
        any_backbone: false,
        start: None,
        sent_late_us: Vec::new(),
        keep_log: false,
    })
}
