//! From a stream to a file: writes records, gathers refused rows, keeps the promise that a file is whole or absent.
//!
//! Refused rows make the command fail (exit 1, nothing written) unless the user skips them knowingly.

use crate::ui::{Ui, WholeFile, print};
use anyhow::{Context, bail};
use clap::Args;
use coldframe_traces::write::{Packing, Shape};
use coldframe_traces::{Item, Refusal, TraceStream, TraceWriter, WriteFormat};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

/// Items between looks at Ctrl-C and the progress bar.
const POLL_ITEMS: u64 = 4096;
/// Refused rows shown on the terminal.
const SHOWN: usize = 5;

/// Where records go.
#[derive(Args, Clone)]
#[command(next_help_heading = "Output")]
pub struct OutArgs {
    /// File to write, format by its ending: .csv, .jsonl (each also .gz or .zst), .parquet; stdout as CSV without it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub refused: RefusedArgs,
}

/// What happens with refused rows.
#[derive(Args, Clone)]
pub struct RefusedArgs {
    /// Go on without the rows that can't be read, instead of failing
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Write every refused row to FILE as file:line: column: reason
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
}

/// Counts refused rows, keeps the first few, lists all where asked.
pub struct Refusals {
    count: u64,
    first: Vec<String>,
    list: Option<WholeFile>,
    skip: bool,
}

fn shown(refusal: &Refusal) -> String {
    let place = format!("{}:{}", refusal.file.display(), refusal.line);
    if refusal.column.is_empty() {
        format!("{place}: the row {}", refusal.reason)
    } else {
        format!("{place}: {}: {}", refusal.column, refusal.reason)
    }
}

impl Refusals {
    /// Starts the list file where asked.
    pub fn new(args: &RefusedArgs) -> anyhow::Result<Self> {
        let list = args.refused.as_deref().map(WholeFile::create).transpose()?;
        Ok(Self { count: 0, first: vec![], list, skip: args.skip_bad_rows })
    }

    /// Takes one refused row.
    pub fn add(&mut self, refusal: &Refusal) -> anyhow::Result<()> {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(shown(refusal));
        }
        if let Some(list) = &mut self.list {
            writeln!(list, "{}", shown(refusal)).context("cannot write the list of refused rows")?;
        }
        Ok(())
    }

    /// Ends the list file and tells the user; fails on refused rows when they may not be skipped.
    pub fn finish(self, ui: &Ui, fatal: bool) -> anyhow::Result<u64> {
        if let Some(list) = self.list {
            list.finish()?;
        }
        if self.count == 0 {
            return Ok(0);
        }
        let mut text = format!("{} {} refused", self.count, if self.count == 1 { "row" } else { "rows" });
        for line in &self.first {
            text.push_str("\n  ");
            text.push_str(line);
        }
        if self.count > self.first.len() as u64 {
            text.push_str("\n  ... (--refused FILE lists all)");
        }
        if fatal && !self.skip {
            bail!("{text}\nmend them, or go on without them with --skip-bad-rows");
        }
        ui.warn(&text);
        Ok(self.count)
    }
}

/// Runs through a stream, with progress and Ctrl-C.
pub fn each(
    stream: &mut dyn TraceStream,
    ui: &Ui,
    what: &str,
    mut take: impl FnMut(Item, &dyn TraceStream) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let bar = ui.progress(what);
    let mut items = 0u64;
    while let Some(item) = stream.next_item()? {
        items += 1;
        if items.is_multiple_of(POLL_ITEMS) {
            ui.check()?;
            stream.progress().inspect(|p| bar.set_position((p * 1000.0) as u64));
        }
        take(item, stream)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// stdout or a file that appears when it is whole.
enum Target {
    Stdout(BufWriter<io::Stdout>),
    File(WholeFile),
}

impl Write for Target {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(buf),
            Self::File(out) => out.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out) => out.flush(),
        }
    }
}

/// Writes a stream out; `notes` go before the stream's own into the file's head.
pub fn write(
    stream: &mut dyn TraceStream,
    notes: Vec<String>,
    out: &OutArgs,
    ui: &Ui,
    what: &str,
) -> anyhow::Result<()> {
    if let (Some(output), Some(list)) = (&out.output, &out.refused.refused)
        && output == list
    {
        bail!("--output and --refused name one file: give two");
    }
    let (target, format) = match &out.output {
        Some(path) => (Target::File(WholeFile::create(path)?), WriteFormat::by_name(path)?),
        None => {
            let shape = if ui.json { Shape::Jsonl } else { Shape::Csv };
            let stdout = BufWriter::with_capacity(1 << 16, io::stdout());
            (Target::Stdout(stdout), WriteFormat { shape, packing: Packing::Plain })
        }
    };
    stream.warnings().iter().for_each(|w| ui.warn(w));
    let mut all = vec![format!("made by coldframe {}: {what}", env!("CARGO_PKG_VERSION"))];
    all.extend(notes);
    all.extend(stream.notes());
    let mut refusals = Refusals::new(&out.refused)?;
    let mut writer = match TraceWriter::new(target, format, &all) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        started => started.context("cannot write the trace")?,
    };
    let mut broken_pipe = false;
    each(stream, ui, what, |item, stream| {
        match item {
            Item::Refused(refusal) => refusals.add(&refusal)?,
            Item::Record(record) if !broken_pipe => match writer.write(&record, stream.catalog()) {
                // A reader such as `head` has enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => broken_pipe = true,
                result => result.context("cannot write the trace")?,
            },
            Item::Record(_) => {}
        }
        Ok(())
    })?;
    let refused = refusals.finish(ui, true)?;
    let rows = writer.rows();
    if broken_pipe {
        return Ok(());
    }
    match writer.finish() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        finished => {
            if let Target::File(file) = finished.context("cannot write the trace")? {
                file.finish()?;
            }
        }
    }
    let Some(path) = &out.output else { return Ok(()) };
    ui.say(&format!("{rows} requests written to {}", path.display()));
    if ui.json {
        let report = serde_json::json!({
            "file": path.display().to_string(),
            "records": rows,
            "rows_in": stream.rows_in(),
            "refused": refused,
            "notes": all,
        });
        print(&format!("{report}\n"))?;
    }
    Ok(())
}
