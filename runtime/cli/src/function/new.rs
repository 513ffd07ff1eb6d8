//! `coldframe function new`: a folder with a manifest, a source, a README, ready for `build`.

use super::manifest::{FILE, Lang, Name, parse};
use super::templates::{IGNORED, files, sources};
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use std::path::{Path, PathBuf};

/// Make a function's folder: manifest, source, README
#[derive(Args)]
pub struct NewArgs {
    /// Its name, and the folder's
    #[arg(value_name = "NAME")]
    name: String,
    /// The language of its code
    #[arg(long, value_enum, required_unless_present = "no_code")]
    lang: Option<Lang>,
    /// A function of an adapter alone, answered by the built-in handler
    #[arg(long, conflicts_with = "lang")]
    no_code: bool,
    /// The model it is for
    #[arg(long, value_name = "NAME", default_value = "smollm2-135m-instruct")]
    backbone: String,
    /// Its adapter: a PEFT folder or a GGUF file; may be given several times, the default first
    #[arg(long, value_name = "PATH")]
    adapter: Vec<PathBuf>,
    /// The folder to make [default: NAME]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &NewArgs, ui: &Ui) -> Result<()> {
    let name = Name::try_from(args.name.clone()).map_err(|problem| anyhow!(problem))?;
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(&name.0));
    let empty = !folder.exists() || std::fs::read_dir(&folder).is_ok_and(|mut dir| dir.next().is_none());
    ensure!(empty, "{} is there already: name a new or an empty folder with --folder", folder.display());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let manifest = manifest(args, &name, &folder)?;
    parse(&manifest).context("the manifest would not be right: choose other names")?;
    write(&folder, (FILE, &manifest), &name)?;
    write(&folder, ("README.md", &readme(args.lang)), &name)?;
    if let Some(lang) = args.lang {
        files(lang).into_iter().try_for_each(|file| write(&folder, file, &name))?;
        write(&folder, (".gitignore", IGNORED), &name)?;
    }
    let shown = folder.display();
    let build =
        if args.lang.is_some() { format!("  coldframe function build {shown}\n") } else { String::new() };
    ui.say(&format!(
        "made {shown}\n\nNext:\n{build}  coldframe function check {shown}\n  coldframe function run {shown} --prompt 'What do penguins eat?'"
    ));
    Ok(())
}

/// Writes one file of the folder.
fn write(folder: &Path, (path, text): (&str, &str), name: &Name) -> Result<()> {
    let target = folder.join(path);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let text = text.replace("{{name}}", &name.0);
    std::fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))
}

fn manifest(args: &NewArgs, name: &Name, folder: &Path) -> Result<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("name = {}\nbackbone = {}\n", quoted(&name.0), quoted(&args.backbone));
    if let Some(lang) = args.lang {
        let (source, module) = (sources(lang), format!("target/{}.wasm", name.0));
        let lang = lang.name();
        text += &format!(
            "module = {}\n\n[build]\nlang = \"{lang}\"\nsources = [\"{source}\"]\n",
            quoted(&module)
        );
    }
    for path in &args.adapter {
        let (adapter, path) = adapter(path, folder)?;
        text += &format!("\n[[adapters]]\nname = {}\npath = {}\n", quoted(&adapter), quoted(&path));
    }
    text += "\n[limits]\ntoken_budget = 1024\ntimeout_ms = 120000\n\n[defaults]\nmax_tokens = 128\ntemperature = 0.0\n";
    Ok(text)
}

/// Name and path of an adapter, the path as seen from the new folder.
fn adapter(path: &Path, folder: &Path) -> Result<(String, String)> {
    let whole = |path: &Path| path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
    let (target, from) = (whole(path)?, whole(folder)?);
    let shared = target.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| std::path::Component::ParentDir);
    let relative: PathBuf = up.chain(target.components().skip(shared)).collect();
    let stem = target.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = stem.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "-");
    Ok((name, relative.display().to_string()))
}

fn readme(lang: Option<Lang>) -> String {
    let needs = match lang {
        None => "It has no code: the built-in handler answers.",
        Some(Lang::Rust) => "Needs Rust with the target: `rustup target add wasm32-wasip2`.",
        Some(Lang::Js) => "Needs Node.js and npm; componentize-js is installed by the first build.",
        Some(Lang::Py) => {
            "Needs Python 3.10 or newer with venv; componentize-py is installed by the first build."
        }
        Some(Lang::C) => "Needs clang and lld (Debian: `apt-get install clang lld`).",
    };
    let build = lang.map_or("", |_| "coldframe function build\n");
    format!(
        "# {{{{name}}}}\n\nA function of Coldframe. {needs}\n\n```sh\n{build}coldframe function check\n\
         coldframe function run --prompt \"What do penguins eat?\"\n```\n"
    )
}
