//! `coldframe bench-host`: the figures of the host's promises (docs/spec.md); the last line is one JSON object.
//!
//! Servers are real ones, in processes of their own on free ports of this machine, with data folders that are thrown
//! away. Each part starts what it needs, so that `--only` measures one. What is not measured is left out.

pub mod client;
mod cold;
mod kill;
mod load;
pub mod numbers;
mod replay;
pub mod server;
mod speed;
mod streams;
mod styles;

use crate::opened::BackboneArg;
use crate::ui::{Ui, print};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use coldframe_backbone::model::ModelConfig;
use serde_json::{Map, Value};
use server::Settings;
use std::path::{Path, PathBuf};

/// Figures by name.
type Figures = Map<String, Value>;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Cold and warm first tokens, phases, the first call after a crash.
    Cold,
    /// Signed answers under load.
    Load,
    /// Fifty functions at saturation, and a trace sent to them.
    Replay,
    /// Tokens a second and first tokens beside the engine alone.
    Speed,
    /// Crashes at random moments.
    Kill,
}

/// Measure the host's promises
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: BackboneArg,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Functions registered for the cold start
    #[arg(long, default_value_t = 200)]
    functions: usize,
    /// How many of them memory holds
    #[arg(long, default_value_t = 20)]
    resident: usize,
    /// Seconds of mixed load
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Minutes of mixed load; the promise is about ten
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// Share of what the server can take that the mixed load asks for
    #[arg(long, default_value_t = 0.6)]
    share: f64,
    /// Rounds of the comparison with the engine alone
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Crashes; the promise is about 500
    #[arg(long, default_value_t = 50)]
    kill_rounds: usize,
    /// Folder of the adapters pirate, shout and json
    #[arg(long, default_value = "functions/adapters", value_name = "FOLDER")]
    signed: PathBuf,
    /// Seed of everything that chance decides
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What all parts need.
struct Bench<'a> {
    args: &'a BenchArgs,
    ui: &'a Ui,
    model: String,
    signed: PathBuf,
}

impl Bench<'_> {
    fn settings(&self, data: &Path, roots: &[&Path]) -> Settings {
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        Settings::new(&self.model, data, roots, Some(self.args.model.threads()))
    }

    /// The model's shape.
    fn config(&self) -> Result<ModelConfig> {
        Ok(self.args.model.open(self.ui)?.checkpoint.config().clone())
    }

    fn wants(&self, part: Part) -> bool {
        self.args.only.is_empty() || self.args.only.contains(&part)
    }
}

/// A part of the bench.
type Measure = fn(&Bench<'_>, &mut Figures) -> Result<()>;

/// Measures and prints.
pub fn run(args: BenchArgs, ui: &Ui) -> Result<()> {
    ensure!(
        args.functions > args.resident && args.resident > 0,
        "--resident is at least 1 and less than --functions"
    );
    ensure!(args.share > 0.0 && args.rounds > 0, "--share and --rounds are more than 0");
    let signed = std::path::absolute(&args.signed)?;
    let folder = signed.join("pirate");
    ensure!(folder.exists(), "{} is not there: --signed names the folder of the adapters", folder.display());
    let model = args.model.backbone.clone();
    let model = match Path::new(&model).exists() {
        true => std::path::absolute(&model)?.to_str().context("a path in UTF-8")?.to_owned(),
        false => model,
    };
    let bench = Bench { args: &args, ui, model, signed };
    let mut figures = Map::new();
    let parts: [(Part, Measure); 5] = [
        (Part::Cold, cold::measure),
        (Part::Load, load::measure),
        (Part::Replay, replay::measure),
        (Part::Speed, speed::measure),
        (Part::Kill, kill::measure),
    ];
    for (part, measure) in parts {
        if bench.wants(part) {
            measure(&bench, &mut figures)?;
        }
    }
    print(&format!("{}\n", Value::Object(figures)))
}
