//! Flags that say how a trace is read, shared by the commands that read one.
//!
//! It leaves out what is done with the records.

use crate::names::regular_file;
use clap::Args;
use coldframe_traces::{Format, OpenOptions, Placement, TraceStream, open, sha256_file};
use std::path::{Path, PathBuf};

/// How a trace is read.
#[derive(Args, Clone)]
pub struct InputArgs {
    /// Trace file, plain or packed with gzip or zstd
    pub file: PathBuf,
    #[command(flatten)]
    pub options: ReadArgs,
}

/// The reader's settings.
#[derive(Args, Clone)]
#[command(next_help_heading = "Reading")]
pub struct ReadArgs {
    /// Format of the file (see `coldframe trace formats`); told by the first line when left out
    #[arg(long, value_name = "NAME", value_parser = parse_format)]
    pub format: Option<Format>,
    /// Seed of everything drawn
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// azure-functions-2019: where in its minute a call goes: even, uniform or start
    #[arg(long, value_name = "WHERE", default_value = "uniform", value_parser = parse_placement)]
    pub placement: Placement,
    /// azure-functions-2019: turn each function's day by its own seeded number of minutes
    #[arg(long)]
    pub rotate: bool,
    /// azure-functions-2019: divide counts by N (14 for a sum over 14 days)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub divide: u32,
    /// azure-functions-2019: durations file; its averages become durations
    #[arg(long, value_name = "FILE")]
    pub durations: Option<PathBuf>,
    /// servegen: lengths file, when it is not beside the rates file
    #[arg(long, value_name = "FILE")]
    pub client_lengths: Option<PathBuf>,
    /// servegen: generate only these seconds of the rates, FROM:TO
    #[arg(long, value_name = "FROM:TO", value_parser = parse_span)]
    pub span: Option<(u64, u64)>,
    /// burstgpt: keep failed requests (0 response tokens), which are refused otherwise
    #[arg(long)]
    pub keep_failures: bool,
    /// Sort rows by arrival in memory; unsorted rows are refused otherwise
    #[arg(long)]
    pub sort: bool,
    /// Formats without times: Poisson arrivals of this rate, requests per second
    #[arg(long, value_name = "RPS", default_value_t = 1.0)]
    pub rate: f64,
    /// Base model of rows that name none
    #[arg(long, value_name = "NAME", default_value = "")]
    pub base_model: String,
}

/// The name among `names` nearest to `word`, as a hint; empty when none is near.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let scored = names.into_iter().map(|n| (strsim::jaro_winkler(word, n), n));
    // Below 0.7 a guess is more puzzling than helpful.
    let best = scored.filter(|s| s.0 > 0.7).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
        format!("no such format{} There are: {}", nearest(text, names.iter().copied()), names.join(", "))
    })
}

fn parse_placement(text: &str) -> Result<Placement, String> {
    let found = Placement::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, p)| *p).ok_or_else(|| "use even, uniform or start".to_owned())
}

fn parse_span(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.filter(|(a, b)| a < b).ok_or_else(|| "use FROM:TO in whole seconds, such as 0:86400".to_owned())
}

impl ReadArgs {
    /// The library's options.
    pub fn resolve(&self) -> OpenOptions {
        OpenOptions {
            format: self.format,
            seed: self.seed,
            placement: self.placement,
            rotate: self.rotate,
            divide: self.divide,
            durations: self.durations.clone(),
            lengths: self.client_lengths.clone(),
            window_s: self.span,
            keep_failures: self.keep_failures,
            sort: self.sort,
            rate_rps: self.rate,
            base_model: self.base_model.clone(),
            ..OpenOptions::default()
        }
    }
}

impl InputArgs {
    /// Opens the file.
    pub fn open(&self) -> anyhow::Result<Box<dyn TraceStream>> {
        regular_file(&self.file)?;
        Ok(open(&self.file, &self.options.resolve())?)
    }
}

/// The line that names a source: its file name and hash, never its folder.
pub fn source_note(role: &str, path: &Path) -> anyhow::Result<String> {
    regular_file(path)?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("trace");
    Ok(format!("{role}: {name} sha256 {}", sha256_file(path)?))
}

/// Seconds with an optional unit: `90`, `15m`, `4h`, `2d`; in nanoseconds.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let ns = coldframe_traces::fields::parse_seconds(number.as_bytes())
        .map_err(|reason| format!("the time {reason}"))?;
    ns.checked_mul(unit).ok_or_else(|| "the time is too long".to_owned())
}

/// The folder COLDFRAME_DATA names, if it is set and there.
pub fn data_folder() -> anyhow::Result<Option<PathBuf>> {
    crate::names::data_folder(std::env::var_os("COLDFRAME_DATA").as_deref().map(Path::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names() {
        assert_eq!(parse_time("90"), Ok(90_000_000_000));
        assert_eq!(parse_time("1.5m"), Ok(90_000_000_000));
        assert_eq!(parse_time("4h"), Ok(14_400_000_000_000));
        assert!(parse_time("x").is_err() && parse_time("").is_err());
        assert!(parse_format("azure-lm").expect_err("typo").contains("did you mean `azure-llm`"));
        assert_eq!(parse_span("0:10"), Ok((0, 10)));
        assert!(parse_span("10:0").is_err());
    }
}
