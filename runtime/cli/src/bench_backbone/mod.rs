//! `coldframe bench`: how fast a backbone is here, with and without adapters, and how near to what the machine could do.

pub mod adapters;
pub mod memory;
pub mod speed;

use crate::opened::{BackboneArg, Opened};
use crate::ui::{Ui, print};
use anyhow::{Result, ensure};
use clap::Args;
use coldframe_backbone::adapter::Adapter;
use coldframe_backbone::engine::Engine;
use coldframe_backbone::kernels::peaks;
use coldframe_backbone::pack::Pack;
use coldframe_backbone::{Module, Site};
use serde_json::{Map, Value, json};
use speed::{Case, DECODE_PROMPT, Rates, Work};
use std::path::PathBuf;
use std::sync::Arc;

/// Measure a backbone: prefill, decode, many adapters in one batch
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe bench --backbone smollm2-135m-instruct --threads 2
  coldframe --json bench --backbone smollm2-135m-instruct --memory

Tokens a second, best and median of the rounds; the cases are interleaved in each round. \"one adapter\" runs the whole \
batch on each of the first three adapters in turn, so that it does the same work as the mixed batch.")]
pub struct BenchArgs {
    #[command(flatten)]
    model: BackboneArg,
    /// Adapters of the mixed batch [default: made for the measurement, with random weights]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    adapters: Vec<PathBuf>,
    /// Tokens of the longer prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    prefill: u32,
    /// Sequences of the batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// Steps of each decode
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    steps: u32,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Also measure what adapters and a second process cost, and how soon a fresh process is ready
    #[arg(long)]
    memory: bool,
    /// Measure only these cases, by the names that they have in the report (used by other benches)
    #[arg(long, hide = true, value_delimiter = ',')]
    only: Vec<String>,
    /// Do one thing in this process (used by the command itself)
    #[arg(long, hide = true)]
    task: Option<memory::Task>,
}

/// Measures and prints.
pub fn run(args: BenchArgs, ui: &Ui) -> Result<()> {
    if let Some(task) = args.task {
        return memory::run(task, &args, ui);
    }
    let opened = args.model.open(ui)?;
    let folder = tempfile::tempdir()?;
    let (paths, made) = match args.adapters.is_empty() {
        true => {
            let config = opened.checkpoint.config();
            (adapters::write_all(config, folder.path(), args.batch as usize)?, adapters::MADE)
        }
        false => (args.adapters.clone(), "given"),
    };
    let loaded = paths.iter().map(|path| opened.adapter(path, ui)).collect::<Result<Vec<_>>>()?;
    let mut engine = engine(&args, &opened)?;
    let cases = cases(&args, loaded.len());
    let rates = speed::settled(&mut engine, |engine| {
        speed::measure(engine, &cases, &loaded, args.repeat as usize, ui)
    })?;
    let mut report = figures(&rates, args.batch);
    report.insert("device".to_owned(), json!(engine.device()));
    report.insert("adapters".to_owned(), adapters_of(&loaded, made));
    report.insert("roofline".to_owned(), roofline(&rates, &opened.pack, &args));
    if args.memory {
        let memory = memory::measure(&args, &mut engine, args.repeat.max(5) as usize, ui)?;
        report.insert(
            "second_process_private_share".to_owned(),
            memory["second_process"]["private_share"].clone(),
        );
        report.insert("ready_ms".to_owned(), memory["ready"]["median_ms"].clone());
        report.insert("adapter_overhead_share".to_owned(), memory["adapters"]["overhead_share"].clone());
        report.insert("memory".to_owned(), memory);
    }
    if ui.json { print(&format!("{}\n", Value::Object(report))) } else { print(&table(&report)) }
}

/// An engine with the pages that the largest case needs.
fn engine(args: &BenchArgs, opened: &Opened) -> Result<Engine> {
    let (batch, steps, prefill) = (args.batch as usize, args.steps as usize, args.prefill as usize);
    let longest = prefill.max(DECODE_PROMPT + steps);
    let context = opened.checkpoint.config().context;
    ensure!(longest < context, "the model's context of {context} tokens is too short for this measurement");
    let tokens = (batch * (DECODE_PROMPT + steps)).max(prefill).max(DECODE_PROMPT + 2 * steps);
    speed::engine(&args.model, opened, tokens, prefill, batch.max(1))
}

fn cases(args: &BenchArgs, adapters: usize) -> Vec<Case> {
    let (batch, steps) = (args.batch as usize, args.steps as usize);
    let decode = |groups: Vec<Vec<Option<usize>>>, steps| Work::Decode { groups, steps };
    let one = (0..adapters.min(3)).map(|adapter| vec![Some(adapter); batch]).collect::<Vec<_>>();
    let mixed = (0..batch).map(|sequence| Some(sequence % adapters)).collect();
    let case = |name: String, work| Case { name, work };
    let mut cases = vec![
        case("prefill_128".to_owned(), Work::Prefill(128)),
        case(format!("prefill_{}", args.prefill), Work::Prefill(args.prefill as usize)),
        case("decode_1".to_owned(), decode(vec![vec![None]], steps * 2)),
        case(format!("decode_{batch}_none"), decode(vec![vec![None; batch]], steps)),
        case(format!("decode_{batch}_one"), decode(one, steps.div_ceil(3))),
        case(format!("decode_{batch}_mixed"), decode(vec![mixed], steps)),
    ];
    cases.dedup_by(|a, b| a.name == b.name);
    cases.retain(|case| args.only.is_empty() || args.only.contains(&case.name));
    cases
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    let (low, high) = (rates.len().saturating_sub(1) / 2, rates.len() / 2);
    rates.get(low).zip(rates.get(high)).map_or(0.0, |(low, high)| (low + high) / 2.0)
}

fn figures(rates: &Rates, batch: u32) -> Map<String, Value> {
    let round = |x: f64| (x * 10.0).round() / 10.0;
    let mut report = Map::new();
    for (name, rates) in rates {
        let entry = json!({ "best": round(best(rates)), "median": round(median(rates)) });
        report.insert(format!("{name}_tok_s"), entry);
    }
    let of = |kind: &str| rates.get(&format!("decode_{batch}_{kind}")).map_or(0.0, |rates| best(rates));
    for (name, under) in [("one_adapter", of("one")), ("no_adapter", of("none"))] {
        report.insert(format!("mixed{batch}_vs_{name}"), json!((of("mixed") / under * 1e4).round() / 1e4));
    }
    report
}

fn adapters_of(loaded: &[Arc<Adapter>], made: &str) -> Value {
    let bytes: u64 = loaded.iter().map(|adapter| adapter.bytes()).sum();
    let ranks: Vec<_> = loaded.iter().map(|adapter| adapter.rank_max()).collect();
    json!({ "count": loaded.len(), "made": made, "bytes": bytes, "ranks": ranks })
}

/// Bytes of the matrices that every token needs, and multiply-adds on them.
fn work_of(pack: &Pack) -> (f64, f64) {
    let layers = coldframe_backbone::adapter::BaseWeights::config(pack).layers as u32;
    let blocks = (0..layers).flat_map(|layer| Module::ALL.map(|module| Site::Block(layer, module)));
    let matrices = blocks.chain([Site::Head]).map(|site| pack.linear(site));
    matrices.fold((0.0, 0.0), |(bytes, macs), matrix| {
        (bytes + matrix.bytes.len() as f64, macs + (matrix.n * matrix.k) as f64)
    })
}

/// How near a decode is to reading its weights once, and a prefill to the peak of 8-bit products.
fn roofline(rates: &Rates, pack: &Pack, args: &BenchArgs) -> Value {
    let peaks = peaks::peaks();
    let threads = args.model.threads() as f64;
    let (bytes, macs) = work_of(pack);
    let head = pack.linear(Site::Head);
    // A prompt needs the head once, not for each token.
    let prefill_ops = 2.0 * (macs - (head.n * head.k) as f64);
    let of = |name: String| rates.get(&name).map_or(0.0, |rates| best(rates));
    let decode_read = of("decode_1".to_owned()) * bytes;
    let batch_ops = of(format!("decode_{}_none", args.batch)) * 2.0 * macs;
    json!({
        "weight_bytes_per_token": bytes,
        "weight_ops_per_token": 2.0 * macs,
        "read_bytes_s_one_core": peaks.read,
        "int8_ops_s_one_core": peaks.int8,
        "f32_ops_s_one_core": peaks.f32,
        "bf16_ops_s_one_core": peaks.bf16,
        "threads": threads,
        "decode_1_read_bytes_s": decode_read,
        "decode_1_of_read": decode_read / (peaks.read * threads),
        "prefill_of_int8": of(format!("prefill_{}", args.prefill)) * prefill_ops / (peaks.int8 * threads),
        "decode_batch_of_int8": batch_ops / (peaks.int8 * threads),
    })
}

fn table(report: &Map<String, Value>) -> String {
    let mut out = format!("{:22} {:>10} {:>10}\n", "tokens a second", "best", "median");
    for (name, value) in report {
        if let Some(name) = name.strip_suffix("_tok_s") {
            let number = |what: &str| value[what].as_f64().unwrap_or(0.0);
            out += &format!("{name:22} {:>10.1} {:>10.1}\n", number("best"), number("median"));
        }
    }
    for (name, value) in report {
        if let Some(value) = value.as_f64() {
            out += &format!("{name:32} {value:>8.3}\n");
        }
    }
    let roofline = &report["roofline"];
    let number = |name: &str| roofline[name].as_f64().unwrap_or(0.0);
    out += &format!(
        "one core: reads {:.1} GB/s, {:.0} G 8-bit operations a second; {} threads\n",
        number("read_bytes_s_one_core") / 1e9,
        number("int8_ops_s_one_core") / 1e9,
        number("threads")
    );
    out += &format!(
        "decode of one reads {:.1} MB of weights a token: {:.0} % of the bandwidth; prefill {:.0} %, decode of the \
         batch {:.0} % of the 8-bit peak\n",
        number("weight_bytes_per_token") / 1e6,
        number("decode_1_of_read") * 100.0,
        number("prefill_of_int8") * 100.0,
        number("decode_batch_of_int8") * 100.0
    );
    out +=
        &format!("adapters: {}; {}\n", report["adapters"]["made"].as_str().unwrap_or(""), report["device"]);
    out
}
