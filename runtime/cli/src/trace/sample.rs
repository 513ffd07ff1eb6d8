//! `trace sample`: parts of a trace.

use super::input::{InputArgs, nearest, parse_time, source_note};
use super::pump::{self, OutArgs};
use crate::ui::Ui;
use clap::Args;
use coldframe_traces::TraceStream;
use coldframe_traces::info::functions::CovClass;
use coldframe_traces::transform::{Choice, Repeat, Sample, SampleSpec, Spread, choose};

/// Cut a trace: a time window, some of the functions, another rate, several passes
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe trace sample day.csv.gz --from 8h --until 12h --top 20 -o morning.csv
  coldframe trace sample day.csv.gz --class bursty --random 8 --seed 7 -o bursty.csv
  coldframe trace sample conv.csv --thin 0.5 -o half.csv          # every second request, by draw
  coldframe trace sample conv.csv --compress 2 -o twice.csv       # twice the rate, same burstiness
  coldframe trace sample conv.csv --repeat 10 -o ten.csv.zst
  coldframe trace sample conversation_trace.jsonl --spread 3 -o smooth.csv

Functions are chosen by what they do over the whole trace, before the time window is cut: the class first, then
the number of functions.")]
pub struct SampleArgs {
    #[command(flatten)]
    input: InputArgs,
    /// First instant kept, which becomes 0 (90, 15m, 4h, 2d)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<u64>,
    /// First instant cut
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Keep the K functions with the most requests
    #[arg(long, value_name = "K", conflicts_with_all = ["names"])]
    top: Option<usize>,
    /// Keep K functions by draw
    #[arg(long, value_name = "K", conflicts_with_all = ["top", "names"])]
    random: Option<usize>,
    /// Keep the functions of one class: predictable, normal, bursty or sparse
    #[arg(long, value_parser = parse_class)]
    class: Option<CovClass>,
    /// Keep the functions of these names
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    names: Option<Vec<String>>,
    /// Keep each request with this probability (thinning)
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    thin: f64,
    /// Divide all times by this (time compression)
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    compress: f64,
    /// Play the trace N times end to end before cutting
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Spread requests of one instant over this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_time)]
    spread: Option<u64>,
    #[command(flatten)]
    out: OutArgs,
}

fn parse_class(text: &str) -> Result<CovClass, String> {
    let found = CovClass::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, c)| *c).ok_or_else(|| {
        let hint = nearest(text, CovClass::ALL.iter().map(|c| c.0));
        format!("no such class{hint} There are predictable, normal, bursty and sparse")
    })
}

impl SampleArgs {
    /// The whole trace, before cutting.
    fn open(&self) -> anyhow::Result<Box<dyn TraceStream>> {
        anyhow::ensure!(self.repeat >= 1, "--repeat must be at least 1: it counts the passes");
        let mut stream = self.input.open()?;
        if self.repeat > 1 {
            stream = Box::new(Repeat::of_file(&self.input.file, &self.input.options.resolve(), self.repeat)?);
        }
        if let Some(step_ns) = self.spread {
            stream = Box::new(Spread::new(stream, step_ns, self.input.options.seed));
        }
        Ok(stream)
    }

    /// One pass per choice; a class is chosen before a number of its functions.
    fn cut(&self, from: Box<dyn TraceStream>, choices: &[Choice]) -> anyhow::Result<Box<dyn TraceStream>> {
        let mut stream = from;
        for (i, choice) in choices.iter().enumerate() {
            let mut first = self.cut(self.open()?, &choices[..i])?;
            let chosen = choose(&mut first, choice)?;
            anyhow::ensure!(!chosen.is_empty(), "no function of the trace is left ({})", choice.note());
            stream = Box::new(Sample::new(stream, SampleSpec::default(), Some(chosen))?);
        }
        Ok(stream)
    }
}

pub fn run(args: SampleArgs, ui: &Ui) -> anyhow::Result<()> {
    let seed = args.input.options.seed;
    let mut choices: Vec<Choice> = args.class.map(Choice::Class).into_iter().collect();
    choices.extend(args.top.map(Choice::Top));
    choices.extend(args.random.map(|k| Choice::Random { k, seed }));
    choices.extend(args.names.clone().map(Choice::Named));
    if !choices.is_empty() {
        ui.say("reading once to choose the functions");
    }
    let chosen = args.cut(args.open()?, &choices)?;
    let spec = SampleSpec {
        from_ns: args.from.unwrap_or(0),
        until_ns: args.until.unwrap_or(u64::MAX),
        keep: args.thin,
        compress: args.compress,
        seed,
    };
    let mut stream = Sample::new(chosen, spec, None)?;
    let mut notes = vec![source_note("source", &args.input.file)?];
    notes.extend(choices.iter().map(Choice::note));
    pump::write(&mut stream, notes, &args.out, ui, "trace sample")
}
