//! `trace generate`: presets, and a Zipf population of Gamma renewal processes by flags.

use super::compose::parse_law;
use super::input::{data_folder, nearest, parse_time};
use super::pump::{self, OutArgs, RefusedArgs};
use crate::ui::{Ui, print};
use anyhow::bail;
use clap::Args;
use coldframe_traces::generate::envelope::{ENVELOPES, Envelope};
use coldframe_traces::generate::presets::{ZipfSpec, zipf};
use coldframe_traces::generate::tokens::TokenLaw;
use coldframe_traces::{MapSpec, PRESETS, preset};
use std::path::PathBuf;

/// Generate a workload: a preset by name, or `zipf` with rates and laws by flags
#[derive(Args)]
#[command(
    after_help = "Presets (those marked * read public traces through COLDFRAME_DATA; paper-* do so where it is set):
  paper-predictable  paper-normal  paper-bursty  demo-bursty  demo-zipf
  mixed-tenants*  adapter-zoo*  spiky-code*  long-context*  cold-tail*

Examples:
  coldframe trace generate --list
  coldframe trace generate paper-bursty --seed 3 -o bursty.csv.gz
  coldframe trace generate zipf --functions 50 --rate 5 --cov 2 --span 4h --lengths gsm8k -o mine.csv
  coldframe trace generate zipf --envelope burstgpt --span 2d -o days.parquet"
)]
pub struct GenerateArgs {
    /// Preset, or `zipf`
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the presets
    #[arg(long)]
    list: bool,
    /// Seed; the same seed gives the same trace on every machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// zipf: number of functions
    #[arg(long, value_name = "N", default_value_t = 20)]
    functions: u32,
    /// zipf: exponent of popularity
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    zipf: f64,
    /// zipf: requests per second over all functions
    #[arg(long, value_name = "RPS", default_value_t = 1.0)]
    rate: f64,
    /// zipf: CoV of each function's gaps (1 is Poisson, above 4 bursty)
    #[arg(long, value_name = "C", default_value_t = 1.0)]
    cov: f64,
    /// zipf: length of the trace (90, 15m, 4h, 2d)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    span: u64,
    /// zipf: law of the token lengths
    #[arg(long, value_name = "LAW", default_value = "azure-conv", value_parser = parse_law)]
    lengths: TokenLaw,
    /// zipf: time of day: servegen-small, servegen-large, deepseek-r1 or burstgpt
    #[arg(long, value_name = "NAME", value_parser = parse_envelope)]
    envelope: Option<Envelope>,
    /// zipf: base models dealt to the functions in turn
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "llama-2-7b")]
    base_models: Vec<String>,
    /// File to write, format by its ending: .csv, .jsonl (each also .gz or .zst), .parquet; stdout as CSV without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn parse_envelope(text: &str) -> Result<Envelope, String> {
    Envelope::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = ENVELOPES.iter().map(|e| e.0).collect();
        format!("no such envelope{} There are: {}", nearest(text, names.iter().copied()), names.join(", "))
    })
}

fn list(ui: &Ui) -> anyhow::Result<()> {
    if ui.json {
        let rows: Vec<_> = PRESETS
            .iter()
            .map(|(name, data, what)| serde_json::json!({"name": name, "needs_data": data, "what": what}))
            .collect();
        return print(&format!("{}\n", serde_json::Value::from(rows)));
    }
    let needs = |data: bool| if data { " (needs COLDFRAME_DATA)" } else { "" };
    let lines = PRESETS.iter().map(|(name, data, what)| format!("{name:<18} {what}{}\n", needs(*data)));
    print(&lines.collect::<String>())
}

pub fn run(args: GenerateArgs, ui: &Ui) -> anyhow::Result<()> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else {
        return list(ui);
    };
    let mut stream = if name == "zipf" {
        zipf(&ZipfSpec {
            map: MapSpec {
                functions: args.functions,
                zipf_s: args.zipf,
                stickiness: 0.0,
                base_models: args.base_models.clone(),
                seed: args.seed,
            },
            rate_rps: args.rate,
            cov: args.cov,
            span_s: args.span as f64 / 1e9,
            tokens: args.lengths,
            envelope: args.envelope.clone(),
        })?
    } else if PRESETS.iter().any(|p| p.0 == name) {
        preset(name, data_folder()?.as_deref(), args.seed)?
    } else {
        let names = PRESETS.iter().map(|p| p.0).chain(["zipf"]);
        bail!(
            "no preset is called `{name}`{} `coldframe trace generate --list` shows all",
            nearest(name, names)
        );
    };
    let refused = RefusedArgs { skip_bad_rows: false, refused: None };
    let out = OutArgs { output: args.output.clone(), refused };
    pump::write(&mut stream, vec![], &out, ui, &format!("trace generate {name}"))
}
