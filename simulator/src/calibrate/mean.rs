//! One calibration out of several runs on the same machine: the mean of each number.
//!
//! A machine that is shared with others has fast and slow minutes. Within a run a median leaves out what disturbed one
//! measurement; over runs at different times the mean is what work takes on the whole, slow minutes included. What is no
//! time and no bandwidth (sizes, settings, names) must be the same in all runs, or is that of the last.

use super::CalibrateError;
use super::measured::{AdapterLoad, BackboneLoad, Bandwidths, Measured, Sandbox, Shape};

/// The mean of runs of one machine and model, in order of time; machine, day and notes are those of the last.
///
/// # Errors
///
/// Without a run, and where runs did not measure the same things in the same order.
pub fn mean(runs: &[Measured]) -> Result<Measured, CalibrateError> {
    let last = runs.last().ok_or(CalibrateError::NoRun)?;
    for (n, run) in runs.iter().enumerate() {
        let differs = |what| Err(CalibrateError::Different { run: n + 1, of: runs.len(), what });
        // What the executor takes is measured, and no two runs find the same.
        let shape = Shape { context_bytes: last.shape.context_bytes, ..run.shape.clone() };
        if shape != last.shape {
            return differs("model, or in how it holds keys and values");
        }
        if (&run.machine.device, run.machine.threads) != (&last.machine.device, last.machine.threads) {
            return differs("machine or its threads");
        }
        if run.engine != last.engine {
            return differs("engine's rules: it is of a build that makes its steps otherwise");
        }
        if cases(run) != cases(last) {
            return differs("set of measurements: one is --quick, or has another --batch or --rank");
        }
    }
    let mut whole = last.clone();
    whole.machine.runs = runs.len() as u32;
    whole.machine.rounds = runs.iter().map(|run| run.machine.rounds).min().unwrap_or(0);
    let of = |value: &dyn Fn(&Measured) -> u64| average(runs.iter().map(|run| Some(value(run)))).unwrap_or(0);
    whole.shape.context_bytes = of(&|run| run.shape.context_bytes);
    for n in 0..whole.steps.len() {
        whole.steps[n].device_ns = of(&|run| run.steps[n].device_ns);
        whole.steps[n].host_ns = of(&|run| run.steps[n].host_ns);
    }
    for n in 0..whole.serving.len() {
        whole.serving[n].step_ns = of(&|run| run.serving[n].step_ns);
    }
    for n in 0..whole.firsts.len() {
        whole.firsts[n].ttft_ns = of(&|run| run.firsts[n].ttft_ns);
    }
    for n in 0..whole.served_loads.len() {
        whole.served_loads[n].load_ns = of(&|run| run.served_loads[n].load_ns);
    }
    for n in 0..whole.adapters.len() {
        let load = |run: &Measured| run.adapters[n];
        whole.adapters[n] = AdapterLoad {
            memory_ns: of(&|run| load(run).memory_ns),
            disk_ns: average(runs.iter().map(|run| load(run).disk_ns)),
            ..load(last)
        };
    }
    whole.backbone = BackboneLoad {
        map_ns: of(&|run| run.backbone.map_ns),
        disk_ns: average(runs.iter().map(|run| run.backbone.disk_ns)),
        first_step_ns: of(&|run| run.backbone.first_step_ns),
        usual_step_ns: of(&|run| run.backbone.usual_step_ns),
        ..last.backbone
    };
    whole.bandwidths = Bandwidths {
        disk_alone: average(runs.iter().map(|run| run.bandwidths.disk_alone)),
        disk_contended: average(runs.iter().map(|run| run.bandwidths.disk_contended)),
        memory_alone: of(&|run| run.bandwidths.memory_alone),
        memory_contended: of(&|run| run.bandwidths.memory_contended),
        copy_alone: of(&|run| run.bandwidths.copy_alone),
        copy_contended: of(&|run| run.bandwidths.copy_contended),
    };
    let code = |value: fn(&Sandbox) -> u64| average(runs.iter().map(|run| run.sandbox.as_ref().map(value)));
    whole.sandbox = last.sandbox.map(|last| Sandbox {
        compile_ns: code(|code| code.compile_ns).unwrap_or(last.compile_ns),
        load_ns: code(|code| code.load_ns).unwrap_or(last.load_ns),
        instantiate_ns: code(|code| code.instantiate_ns).unwrap_or(last.instantiate_ns),
    });
    Ok(whole)
}

/// What was measured, its times left out.
fn cases(run: &Measured) -> Vec<[u64; 5]> {
    let steps = run.steps.iter().map(|p| [p.prompt, p.rows, p.cached, p.adapters, p.adapter_bytes]);
    let serving = run.serving.iter().map(|p| [1, p.rows, p.cached, p.adapter_bytes, 0]);
    let firsts = run.firsts.iter().map(|p| [2, p.rows, p.cached, p.prompt, p.adapter_bytes]);
    let served_loads = run.served_loads.iter().map(|p| [3, p.rows, p.bytes, 0, 0]);
    let adapters = run.adapters.iter().map(|p| [4, u64::from(p.rank), p.bytes, 0, 0]);
    let whole = [5, u64::from(run.rank), run.files as u64, u64::from(run.sandbox.is_some()), 0];
    steps.chain(serving).chain(firsts).chain(served_loads).chain(adapters).chain([whole]).collect()
}

/// The mean of what there is.
fn average(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let all: Vec<u64> = values.flatten().collect();
    let sum: u128 = all.iter().map(|&value| u128::from(value)).sum();
    (!all.is_empty()).then(|| (sum as f64 / all.len() as f64).round() as u64)
}
