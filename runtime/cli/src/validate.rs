//! `coldframe validate`: the simulator against published measurements, row by row.
//!
//! The checks are in the simulator; here they are printed.

use crate::names::{data_folder, data_value};
use crate::ui::{Ui, print};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use coldframe_simulator::validate::{ground_truth, timeline};
use std::fmt::Write;
use std::path::PathBuf;

/// Score the simulator against published measurements
#[derive(Args)]
pub struct ValidateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Eight requests of three functions under ServerlessLLM and ServerlessLoRA, against the paper's measured figure
    Timeline,
    /// 300 requests of a real vLLM run: TTFT, TPOT and E2E, mean and quantiles
    GroundTruth {
        /// Folder with the public data (its calibration/ holds the run)
        #[arg(long, env = "COLDFRAME_DATA", value_parser = data_value)]
        data: Option<PathBuf>,
    },
}

/// Prints the rows; fails when a promised bound is missed.
pub fn run(args: ValidateArgs, ui: &Ui) -> Result<()> {
    match args.what {
        What::Timeline => show_timeline(ui),
        What::GroundTruth { data } => {
            let data = data_folder(data.as_deref())?;
            let data =
                data.context("set COLDFRAME_DATA, or give --data, to the folder that holds calibration/")?;
            show_ground_truth(&ground_truth_file(&data), ui)
        }
    }
}

/// Where the real run lies in the data folder.
pub fn ground_truth_file(data: &std::path::Path) -> PathBuf {
    data.join("calibration/vllm_ground_truth_llama-3.1-8b.csv")
}

fn show_timeline(ui: &Ui) -> Result<()> {
    let rows = timeline::timeline()?;
    let worst = rows.iter().map(|r| r.error.abs()).fold(0.0, f64::max);
    if ui.json {
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else {
        let mut text = String::from(
            "system          request     measured  simulated   error   container  libraries  backbone  adapter  kernels  (s)\n",
        );
        for r in &rows {
            let [c, l, b, a, k] = r.stages_s;
            writeln!(
                text,
                "{:15} {}@{:<7} {:9.2}  {:9.2}  {:+5.1} %  {c:9.2}  {l:9.2}  {b:8.2}  {a:7.2}  {k:7.2}",
                r.system,
                r.function,
                r.arrival_s,
                r.measured_s,
                r.simulated_s,
                100.0 * r.error
            )?;
        }
        writeln!(
            text,
            "worst error {:.1} %; measured totals were read off a figure to about 0.05 s",
            100.0 * worst
        )?;
        print(&text)?;
    }
    ensure!(worst <= 0.10, "a total is off by more than 10 %");
    Ok(())
}

fn show_ground_truth(file: &std::path::Path, ui: &Ui) -> Result<()> {
    let rows = ground_truth::ground_truth(file)?;
    if ui.json {
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else {
        let mut text = String::from(
            "Llama-3.1-8B on one RTX PRO 6000, vLLM 0.19.0, 300 requests\nmetric  statistic  measured ms  simulated ms   error\n",
        );
        for r in &rows {
            writeln!(
                text,
                "{:6}  {:9}  {:11.2}  {:12.2}  {:+5.1} %",
                r.metric,
                r.statistic,
                r.measured_ms,
                r.simulated_ms,
                100.0 * r.error
            )?;
        }
        print(&text)?;
    }
    let missed = rows.iter().find(|r| r.statistic == "mean" && r.error.abs() > 0.05);
    ensure!(missed.is_none(), "a mean is off by more than 5 %");
    Ok(())
}
