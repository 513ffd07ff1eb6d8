//! `open`: one door to every format.
//!
//! It finds the format by the first line unless told, and hands the file to that format's reader.

use crate::format::Format;
use crate::input::Lines;
use crate::placement::Placement;
use crate::readers;
use crate::record::{TraceError, TraceStream};
use std::path::{Path, PathBuf};

/// How a file is read. The default reads every format; single fields matter to the formats they name.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The format; `None` tells it by the first line.
    pub format: Option<Format>,
    /// Seed of everything drawn while reading (placement, rotation, generated arrivals).
    pub seed: u64,
    /// azure-functions-2019: where in its minute an invocation goes.
    pub placement: Placement,
    /// azure-functions-2019: turn each row by its own seeded number of minutes.
    pub rotate: bool,
    /// azure-functions-2019: divide counts by this; what is left over becomes a seeded draw, so means stay right.
    pub divide: u32,
    /// azure-functions-2019: the durations file; its averages become `duration_ns`.
    pub durations: Option<PathBuf>,
    /// servegen: the lengths file; by default the one beside the rates (`x.rates.csv` → `x.lengths.csv`).
    pub lengths: Option<PathBuf>,
    /// servegen: take only this span of the rates, seconds from the trace's start.
    pub window_s: Option<(u64, u64)>,
    /// burstgpt: keep failed requests (0 output tokens) as records; otherwise each is refused and counted.
    pub keep_failures: bool,
    /// Sort the rows by arrival in memory; without it a row earlier than the one before is refused.
    pub sort: bool,
    /// Most rows `sort` holds. About 100 bytes a row.
    pub sort_rows_max: u64,
    /// azure-functions-2021: how far rows may be out of order, ns; must reach the longest duration.
    pub reorder_window_ns: u64,
    /// Formats without times (lengths, gentd26-adapters): Poisson arrivals of this rate, requests per second.
    pub rate_rps: f64,
    /// Backbone of rows that name none.
    pub base_model: String,
    /// Function name of rows that name none.
    pub function: String,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            format: None,
            seed: 1,
            placement: Placement::Uniform,
            rotate: false,
            divide: 1,
            durations: None,
            lengths: None,
            window_s: None,
            keep_failures: false,
            sort: false,
            // Near 1 GB; a larger trace should be sorted once, not at every reading.
            sort_rows_max: 10_000_000,
            // Azure Functions end after an hour at the latest on most plans.
            reorder_window_ns: 3_600_000_000_000,
            rate_rps: 1.0,
            base_model: String::new(),
            function: "default".to_owned(),
        }
    }
}

/// Opens a trace as a stream of records in arrival order.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    check(options)?;
    let lines = Lines::open(path)?;
    open_lines(lines, path, options)
}

/// Opens any reader as a trace; Parquet needs a file and is refused.
pub fn open_reader<R: std::io::Read + Send + 'static>(
    reader: R,
    name: &Path,
    options: &OpenOptions,
) -> Result<Box<dyn TraceStream>, TraceError> {
    check(options)?;
    open_lines(Lines::from_reader(reader, name, 0)?, name, options)
}

fn check(options: &OpenOptions) -> Result<(), TraceError> {
    if options.divide == 0 {
        return Err(TraceError::Setting(
            "counts can't be divided by 0; use 1 to leave them as they are".into(),
        ));
    }
    if !(options.rate_rps.is_finite() && options.rate_rps > 0.0) {
        return Err(TraceError::Setting(format!(
            "a rate of {} requests/s makes no arrivals",
            options.rate_rps
        )));
    }
    Ok(())
}

fn open_lines(
    mut lines: Lines,
    path: &Path,
    options: &OpenOptions,
) -> Result<Box<dyn TraceStream>, TraceError> {
    let parquet = options.format == Some(Format::ColdframeParquet);
    if parquet || (options.format.is_none() && lines.begins_with(b"PAR1")?) {
        return readers::coldframe_parquet::open(path, options);
    }
    lines.take_comments()?;
    let format = match options.format {
        Some(format) => format,
        None => detect(&mut lines)?,
    };
    match format {
        Format::AzureFunctions2019 => readers::azure_functions_2019::open(lines, options),
        Format::AzureFunctions2021 => readers::azure_functions_2021::open(lines, options),
        Format::AzureLlm => readers::azure_llm::open(lines, options),
        Format::BurstGpt => readers::burstgpt::open(lines, options),
        Format::Mooncake => readers::mooncake::open(lines, options),
        Format::QwenBailian => readers::qwen_bailian::open(lines, options),
        Format::ServeGen => readers::servegen::open(lines, path, options),
        Format::GenTd26Adapters => readers::gentd26::open_adapters(lines, options),
        Format::GenTd26Requests => readers::gentd26::open_requests(lines, options),
        Format::Vidur => readers::vidur::open(lines, options),
        Format::Splitwise => readers::splitwise::open(lines, options),
        Format::Lengths => readers::lengths::open(lines, options),
        Format::LlmServingSim => readers::llmservingsim::open(lines, options),
        Format::ColdframeCsv => readers::coldframe_csv::open(lines, options),
        Format::ColdframeJsonl => readers::coldframe_jsonl::open(lines, options),
        Format::ColdframeParquet => unreachable!("opened above"),
    }
}

/// Finds the format and leaves `lines` at its first line.
fn detect(lines: &mut Lines) -> Result<Format, TraceError> {
    let Some(line) = lines.next_line()? else {
        return Err(
            lines.fault(format!("the file is empty; expected one of these formats:{}", Format::listing()))
        );
    };
    let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    let found = Format::detect(line);
    lines.unread();
    found.ok_or_else(|| {
        lines.fault(format!(
            "no known trace format starts with `{shown}`. Known formats:{}",
            Format::listing()
        ))
    })
}
