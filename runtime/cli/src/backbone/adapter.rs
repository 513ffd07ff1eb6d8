//! `coldframe adapter check`: whether an adapter fits a model, what it would take, and all that stands in the way.

use super::{HomeArg, columns, size};
use crate::ui::{Ui, print};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use coldframe_backbone::adapter::{Adapter, BaseWeights, DryRun, Limits, OtherBase, Room, dry_run};
use coldframe_backbone::checkpoint::{Checkpoint, Part, Weight};
use coldframe_backbone::model::ModelConfig;
use coldframe_backbone::{Module, Site};
use std::path::PathBuf;

/// Check adapters against a model
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe adapter check ./my-lora --backbone smollm2-135m-instruct
  coldframe adapter check ./my-lora --backbone ./model.gguf --load     # reads every number, too

Exit code 1 means that the adapter would not load; the table (or --json) says everything that stands in the way.")]
pub struct AdapterArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say whether an adapter would load, its bytes, and what stands in the way
    Check(CheckArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// A PEFT folder, or a llama.cpp GGUF adapter
    path: PathBuf,
    /// The model: a name of the store, or a path
    #[arg(long)]
    backbone: String,
    /// Load it as well: finds NaN, deltas of zero and values out of bounds
    #[arg(long)]
    load: bool,
    /// Refuse an adapter whose configuration names another base model
    #[arg(long)]
    strict_base: bool,
    #[command(flatten)]
    home: HomeArg,
}

/// Runs the command.
pub fn run(args: AdapterArgs, ui: &Ui) -> Result<()> {
    let Action::Check(args) = args.action;
    let store = args.home.store()?;
    let checkpoint = Checkpoint::open(&store.resolve(&args.backbone)?)?;
    let limits = Limits {
        other_base: if args.strict_base { OtherBase::Refuse } else { OtherBase::Warn },
        base_names: store.named(&args.backbone).map_or_else(|_| Vec::new(), |manifest| vec![manifest.name]),
        ..Limits::default()
    };
    let answer = dry_run(&args.path, checkpoint.config(), &limits, Room::ANY);
    let loaded = (args.load && answer.fits).then(|| Adapter::load(&args.path, &Rows(&checkpoint), &limits));
    show(&answer, loaded.as_ref().and_then(|loaded| loaded.as_ref().ok()), ui)?;
    match loaded {
        Some(Err(error)) => Err(error.into()),
        _ if !answer.fits => {
            bail!("{} would not load: {} problems", args.path.display(), answer.problems.len())
        }
        _ => Ok(()),
    }
}

/// The base's rows straight from its file: a check makes no pack.
struct Rows<'a>(&'a Checkpoint);

impl BaseWeights for Rows<'_> {
    fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        let (weight, head) = match site {
            Site::Embed => (Weight::Embed, None),
            Site::Head if self.config().tied => (Weight::Embed, None),
            Site::Head => (Weight::Head, None),
            Site::Block(layer, module) => {
                let turned = matches!(module, Module::Q | Module::K) && self.0.rows_interleaved();
                (Weight::Block(layer, Part::Linear(module)), turned.then_some(self.config().head_dim))
            }
        };
        let row = head.map_or(row, |head| interleaved(row, head));
        let view = self.0.weight(weight).ok().flatten().expect("an opened model has every matrix");
        view.dequantise(row..row + 1, out);
    }
}

/// The row in a file with llama.cpp's order of q and k that holds Hugging Face's row `row`.
fn interleaved(row: usize, head: usize) -> usize {
    let (start, within) = (row - row % head, row % head);
    start + 2 * (within % (head / 2)) + within / (head / 2)
}

fn show(answer: &DryRun, loaded: Option<&Adapter>, ui: &Ui) -> Result<()> {
    if ui.json {
        let mut all = serde_json::to_value(answer)?;
        if let Some(adapter) = loaded {
            all["generation"] = adapter.generation().to_string().into();
            all["loaded_bytes"] = adapter.bytes().into();
        }
        return print(&(serde_json::to_string_pretty(&all)? + "\n"));
    }
    let mut rows = vec![
        ("fits", if answer.fits { "yes" } else { "no" }.to_owned()),
        ("kind", answer.kind.unwrap_or("unknown").to_owned()),
        ("rank", format!("{} at most", answer.rank_max)),
        ("modules", format!("{} changed, {} replaced", answer.sites.len(), answer.replaced.len())),
        ("on disk", size(answer.bytes.disk)),
        ("in memory", size(answer.bytes.host)),
        ("chat template", if answer.chat_template { "its own" } else { "the model's" }.to_owned()),
    ];
    rows.extend(loaded.map(|adapter| ("generation", adapter.generation().to_string())));
    rows.extend(answer.warnings.iter().map(|warning| ("warning", warning.clone())));
    let problem =
        |p: &coldframe_backbone::adapter::Problem| format!("{} [{}]: {}", p.place, p.code, p.problem);
    rows.extend(answer.problems.iter().map(|p| ("problem", problem(p))));
    print(&columns(&rows.into_iter().map(|(key, value)| [key.to_owned(), value]).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::interleaved;

    #[test]
    fn rows_of_q_and_k() {
        let rows: Vec<usize> = (0..8).map(|row| interleaved(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
