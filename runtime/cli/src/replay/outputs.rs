//! Files a run writes as it goes: rows per request and a timeline. Each appears whole or not at all.

use super::Plan;
use crate::ui::WholeFile;
use anyhow::{Result, bail};
use coldframe_policy::artifact::Class;
use coldframe_simulator::report::per_request::{CsvSink, Lookup, NameKind, ParquetSink, RowSink};
use coldframe_simulator::report::timeline::{Arg, Timeline, Track};
use coldframe_simulator::setup::Setup;
use coldframe_simulator::start::Start;
use coldframe_simulator::world::Watch;
use coldframe_traces::{Catalog, FunctionInfo, Item, TraceError, TraceStream};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Functions seen so far, for the writers.
pub type Names = Arc<Mutex<Vec<FunctionInfo>>>;

/// A stream that tells its new functions to the writers.
pub struct Tap {
    inner: Box<dyn TraceStream>,
    names: Names,
    told: usize,
    /// Functions of the host that is simulated, which have its numbers.
    host: BTreeSet<String>,
}

impl Tap {
    /// Around a stream; of a host's functions where one is simulated, those of the trace come behind them.
    pub fn new(inner: Box<dyn TraceStream>, names: Names, start: Option<&Start>) -> Self {
        let functions = start.map_or(&[][..], |start| &start.functions);
        names.lock().expect("no panics while held").extend_from_slice(functions);
        Self { inner, names, told: 0, host: functions.iter().map(|info| info.name.clone()).collect() }
    }
}

impl TraceStream for Tap {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        let next = self.inner.next_item()?;
        let known = self.inner.catalog().functions();
        if known.len() > self.told {
            let new = known[self.told..].iter().filter(|info| !self.host.contains(&info.name)).cloned();
            self.names.lock().expect("no panics while held").extend(new);
            self.told = known.len();
        }
        Ok(next)
    }
    fn catalog(&self) -> &Catalog {
        self.inner.catalog()
    }
    fn rows_in(&self) -> u64 {
        self.inner.rows_in()
    }
    fn progress(&self) -> Option<f64> {
        self.inner.progress()
    }
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }
}

/// A file shared with the writer that fills it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Option<WholeFile>>>);

impl Shared {
    fn create(path: &std::path::Path) -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Some(WholeFile::create(path)?)))))
    }
    fn finish(&self) -> Result<()> {
        self.0.lock().expect("no panics while held").take().map_or(Ok(()), WholeFile::finish)
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panics while held").as_mut().map_or(Ok(buf.len()), |f| f.write(buf))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().expect("no panics while held").as_mut().map_or(Ok(()), |f| f.flush())
    }
}

/// The files of one run; without options it writes nothing.
pub struct Outputs {
    rows: Option<(Box<dyn RowSink>, Shared)>,
    spans: Option<(Spans, Shared)>,
}

impl Outputs {
    /// Opens what the plan asks for.
    pub fn open(plan: &Plan, setup: &Setup, names: &Names) -> Result<Self> {
        let rows = match &plan.requests {
            None => None,
            Some(path) => {
                let file = Shared::create(path)?;
                let lookup = lookup(setup, names);
                let sink: Box<dyn RowSink> = match path.extension().and_then(|e| e.to_str()) {
                    Some("csv") => Box::new(CsvSink::new(io::BufWriter::new(file.clone()), lookup)?),
                    Some("parquet") => Box::new(ParquetSink::new(file.clone(), lookup)?),
                    _ => bail!("--requests {}: name a .csv or a .parquet file", path.display()),
                };
                Some((sink, file))
            }
        };
        let spans = match &plan.timeline {
            None => None,
            Some(path) => {
                let file = Shared::create(path)?;
                let mut out = Timeline::new(io::BufWriter::new(file.clone()))?;
                for gpu in 0..setup.workers * setup.gpus_per_worker {
                    out.process(gpu, &format!("{} {gpu}", setup.gpu.name))?;
                }
                let spans = Spans { out, names: names.clone(), lanes: Vec::new(), error: None };
                Some((spans, file))
            }
        };
        Ok(Self { rows, spans })
    }

    /// What the run is given.
    pub fn hooks(&mut self) -> (Option<&mut dyn RowSink>, Option<&mut dyn Watch>) {
        // A match, since only a coercion site shortens the lifetime inside the trait object.
        let rows: Option<&mut dyn RowSink> = match &mut self.rows {
            Some((sink, _)) => Some(sink.as_mut()),
            None => None,
        };
        let watch = self.spans.as_mut().map(|(spans, _)| spans as &mut dyn Watch);
        (rows, watch)
    }

    /// Completes the files.
    pub fn finish(self) -> Result<()> {
        if let Some((sink, file)) = self.rows {
            sink.finish()?;
            file.finish()?;
        }
        if let Some((spans, file)) = self.spans {
            if let Some(error) = spans.error {
                return Err(error.into());
            }
            spans.out.finish()?.flush()?;
            file.finish()?;
        }
        Ok(())
    }
}

fn lookup(setup: &Setup, names: &Names) -> Lookup {
    let (policy, names, setup) = (setup.policy.name.clone(), names.clone(), setup.clone());
    Box::new(move |kind, n| {
        if kind == NameKind::Policy {
            return Some(policy.clone());
        }
        let names = names.lock().expect("no panics while held");
        let info = names.get(n as usize)?;
        match kind {
            NameKind::Function => Some(info.name.clone()),
            NameKind::Adapter => Some(info.adapter.clone()),
            NameKind::BaseModel => setup.model_of(info).ok().map(|m| setup.models[m].profile.name.clone()),
            NameKind::Policy => None,
        }
    })
}

/// Spans by GPU; overlapping ones take rows of their own.
struct Spans {
    out: Timeline<io::BufWriter<Shared>>,
    names: Names,
    lanes: Vec<Vec<u64>>,
    error: Option<io::Error>,
}

/// Rows of stages come before rows of requests.
const STAGE_ROWS: u32 = 100;

impl Spans {
    /// The first row of the GPU that is free from `start` on.
    fn lane(&mut self, key: usize, start: u64, end: u64) -> u32 {
        if self.lanes.len() <= key {
            self.lanes.resize(key + 1, Vec::new());
        }
        let lanes = &mut self.lanes[key];
        let free = lanes.iter().position(|&busy_until| busy_until <= start);
        let n = free.unwrap_or_else(|| {
            lanes.push(0);
            lanes.len() - 1
        });
        lanes[n] = end;
        n as u32
    }

    fn name(&self, function: Option<u32>) -> String {
        let names = self.names.lock().expect("no panics while held");
        let info = function.and_then(|f| names.get(f as usize));
        info.map_or_else(|| "pool".to_owned(), |i| i.name.clone())
    }

    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }
}

impl Watch for Spans {
    fn stage(
        &mut self,
        device: u32,
        instance: u32,
        class: Class,
        function: Option<u32>,
        start: u64,
        end: u64,
    ) {
        let row = self.lane(2 * device as usize, start, end).min(STAGE_ROWS - 1);
        let name = format!("{} {}", class.name(), self.name(function));
        let args = [("instance", Arg::Whole(u64::from(instance)))];
        let written = self.out.span(Track { gpu: device, row }, &name, "load", start, end, &args);
        self.keep(written);
    }

    fn request(
        &mut self,
        device: u32,
        instance: u32,
        function: u32,
        arrival: u64,
        admitted: u64,
        first: u64,
        end: u64,
    ) {
        let row = STAGE_ROWS + self.lane(2 * device as usize + 1, arrival, end);
        let track = Track { gpu: device, row };
        let name = self.name(Some(function));
        let args = [("instance", Arg::Whole(u64::from(instance)))];
        let written = self
            .out
            .span(track, &name, "request", arrival, end, &args)
            .and_then(|()| self.out.span(track, "wait", "queue", arrival, admitted, &[]))
            .and_then(|()| self.out.span(track, "prefill", "compute", admitted, first, &[]))
            .and_then(|()| self.out.span(track, "decode", "compute", first, end, &[]));
        self.keep(written);
    }
}
