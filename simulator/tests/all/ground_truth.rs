//! Real vLLM runs are reproduced within 5 % on means.

use coldframe_simulator::validate::ground_truth::ground_truth;
use std::path::PathBuf;

#[test]
fn means_of_the_real_runs_within_five_percent() {
    let Some(data) = std::env::var_os("COLDFRAME_DATA").map(PathBuf::from) else {
        eprintln!("COLDFRAME_DATA is not set: skipped");
        return;
    };
    let rows =
        ground_truth(&data.join("calibration/vllm_ground_truth_llama-3.1-8b.csv")).expect("the runs replay");
    for r in &rows {
        eprintln!(
            "{} {:4} {:10.2} {:10.2} {:+.3}",
            r.metric, r.statistic, r.measured_ms, r.simulated_ms, r.error
        );
    }
    for row in rows.iter().filter(|r| r.statistic == "mean") {
        assert!(row.error.abs() <= 0.05, "{row:?}");
    }
}
