//! `trace compose`: arrivals of one source, lengths of another, adapters of a third.

use super::input::{InputArgs, nearest, source_note};
use super::pump::{self, OutArgs};
use crate::ui::Ui;
use clap::Args;
use coldframe_traces::generate::tokens::{TOKEN_LAWS, TokenLaw};
use coldframe_traces::transform::compose::pool;
use coldframe_traces::transform::{Compose, Lengths, MapSpec, Popularity};
use coldframe_traces::{OpenOptions, open};
use std::path::PathBuf;

/// Compose a trace from arrivals, token lengths and adapter popularity
///
/// Every source's hash, every seed and mapping is written to the head of the output.
#[derive(Args)]
#[command(after_help = "Examples:
  # a trace without functions over 100 adapters
  coldframe trace compose AzureLLMInferenceTrace_conv.csv --functions 100 --zipf 1.0 -o replay.csv.gz
  # function arrivals with LLM lengths
  coldframe trace compose day1.invocations.csv.gz --lengths-from gsm8k_llama2_lengths.csv.gz -o functions.csv.gz
  # real adapter order on real arrivals
  coldframe trace compose conv.csv --adapters-from adapter_requests.csv.gz -o zoo.csv.gz
  # lengths of a law
  coldframe trace compose conv.csv --lengths-law gsm8k -o short.csv")]
pub struct ComposeArgs {
    /// Source of the arrivals
    #[command(flatten)]
    input: InputArgs,
    /// Resample (prompt, output) pairs of this file
    #[arg(long, value_name = "FILE", conflicts_with = "lengths_law")]
    lengths_from: Option<PathBuf>,
    /// Draw lengths from a fitted law (azure-conv, azure-code, gsm8k, sharegpt, ...)
    #[arg(long, value_name = "LAW", value_parser = parse_law)]
    lengths_law: Option<TokenLaw>,
    /// Take functions in the order of this trace, again from its start when it ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["zipf", "functions"])]
    adapters_from: Option<PathBuf>,
    /// Number of functions to map the requests to
    #[arg(long, value_name = "N")]
    functions: Option<u32>,
    /// Zipf exponent of their popularity (0 is uniform) [default: 1.0]
    #[arg(long, value_name = "S")]
    zipf: Option<f64>,
    /// Probability that a request repeats the function before it
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    sticky: f64,
    /// Base models dealt to the functions in turn
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "llama-2-7b")]
    base_models: Vec<String>,
    #[command(flatten)]
    out: OutArgs,
}

/// A token law by name.
pub fn parse_law(text: &str) -> Result<TokenLaw, String> {
    TokenLaw::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = TOKEN_LAWS.iter().map(|l| l.name).collect();
        format!("no such law{} There are: {}", nearest(text, names.iter().copied()), names.join(", "))
    })
}

pub fn run(args: ComposeArgs, ui: &Ui) -> anyhow::Result<()> {
    let seed = args.input.options.seed;
    let mut notes = vec![source_note("arrivals", &args.input.file)?];
    let lengths = match (&args.lengths_from, args.lengths_law) {
        (Some(path), _) => {
            notes.push(source_note("lengths", path)?);
            Lengths::Resample(pool(&mut open(path, &OpenOptions::default())?)?)
        }
        (None, Some(law)) => Lengths::Law(law),
        (None, None) => Lengths::Keep,
    };
    let zipf = args.functions.is_some() || args.zipf.is_some();
    let popularity = match &args.adapters_from {
        Some(path) => {
            notes.push(source_note("adapters", path)?);
            let (path, options) = (path.clone(), OpenOptions { seed, ..OpenOptions::default() });
            Popularity::Follow(Box::new(move || open(&path, &options)))
        }
        None if zipf => Popularity::Zipf(MapSpec {
            functions: args.functions.unwrap_or(100),
            zipf_s: args.zipf.unwrap_or(1.0),
            stickiness: args.sticky,
            base_models: args.base_models.clone(),
            seed,
        }),
        None => Popularity::Keep,
    };
    let mut stream = Compose::new(args.input.open()?, lengths, popularity, seed)?;
    pump::write(&mut stream, notes, &args.out, ui, "trace compose")
}
