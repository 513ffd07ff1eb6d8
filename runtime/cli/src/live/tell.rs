//! What a live run writes: the report, the page, a row a request, and what the reader should be warned of.

use super::drive::Driven;
use super::plan::Plan;
use crate::replay::ReplayArgs;
use crate::ui::{Ui, WholeFile};
use anyhow::{Result, bail, ensure};
use coldframe_simulator::measure::collect::{Collect, Limits};
use coldframe_simulator::observed::End;
use coldframe_simulator::report::model::Report;
use coldframe_simulator::report::per_request::{CsvSink, Lookup, NameKind, ParquetSink, RowSink};
use coldframe_simulator::report::{check, html, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Sent later than this after they were due, requests say more of the sender than of the host.
const LATE_NS: u64 = 20_000_000;

/// The report and the page.
pub fn write(
    report: &Report,
    args: &ReplayArgs,
    out: Option<WholeFile>,
    page: Option<WholeFile>,
    ui: &Ui,
) -> Result<()> {
    let problems = check::check(report);
    ensure!(
        problems.is_empty(),
        "the report contradicts itself (a defect of this program): {}",
        problems.join("; ")
    );
    if let (Some(path), Some(mut file)) = (&args.out, out) {
        file.write_all(json::to_string(report).as_bytes())?;
        file.finish()?;
        ui.say(&format!("report: {}", path.display()));
    }
    if let (Some(path), Some(mut file)) = (&args.html, page) {
        file.write_all(html::render(report).as_bytes())?;
        file.finish()?;
        ui.say(&format!("page: {}", path.display()));
    }
    Ok(())
}

/// A row a request, where asked for.
pub fn rows(args: &ReplayArgs, plan: &Plan, driven: &[Driven], seed: u64) -> Result<()> {
    let Some(path) = &args.requests else { return Ok(()) };
    ensure!(args.seeds == 1, "--requests is for one seed");
    let mut file = WholeFile::create(path)?;
    let mut bytes = Shared::default();
    let functions = plan.functions.clone();
    let label = args.live.label.clone();
    let lookup: Lookup = Box::new(move |kind, number| match kind {
        NameKind::Policy => Some(label.clone()),
        NameKind::Function => functions.get(number as usize).map(|f| f.name.clone()),
        NameKind::Adapter => functions.get(number as usize).map(|f| f.adapter.clone()),
        NameKind::BaseModel => functions.get(number as usize).map(|f| f.base_model.clone()),
    });
    let mut sink: Box<dyn RowSink> = match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Box::new(CsvSink::new(bytes.clone(), lookup)?),
        Some("parquet") => Box::new(ParquetSink::new(bytes.clone(), lookup)?),
        _ => bail!("--requests {}: name a .csv or a .parquet file", path.display()),
    };
    let limits = Limits { ttft_ns: (args.slo_ttft * 1e9) as u64, tpot_ns: (args.slo_tpot * 1e9) as u64 };
    let collect = Collect::new(limits);
    for one in driven {
        let met = one.observed.finished().map_or((false, false), |f| collect.met(&f));
        sink.row(&one.observed.row(met, seed))?;
    }
    sink.finish()?;
    file.write_all(&bytes.take())?;
    file.finish()
}

/// Bytes that a sink fills and the caller takes.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Shared {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().expect("no panics while held"))
    }
}

impl Write for Shared {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panics while held").extend_from_slice(piece);
        Ok(piece.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Failures by reason, and a sender that could not keep up.
pub fn warnings(plan: &Plan, driven: &[Driven]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for one in driven {
        match &one.observed.end {
            End::Completed => {}
            End::Refused => *reasons.entry("refused by the host").or_default() += 1,
            End::TimedOut => *reasons.entry("not answered in time").or_default() += 1,
            End::Failed(why) => *reasons.entry(why).or_default() += 1,
        }
    }
    let mut warnings: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} requests: {why}")).collect();
    let late = driven.iter().filter(|d| d.observed.sent_ns > d.observed.due_ns + LATE_NS).count();
    if late > 0 {
        warnings.push(format!(
            "seed {}: {late} of {} requests were sent more than {} ms late: the sender's machine was busy, and their times \
             count from when they were due",
            plan.seed,
            driven.len(),
            LATE_NS / 1_000_000
        ));
    }
    warnings
}
