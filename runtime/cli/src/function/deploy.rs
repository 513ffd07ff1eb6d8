//! `coldframe function deploy`: a folder becomes a generation on a server.

use super::manifest::{Place, Project};
use crate::client::{Form, Part, ServerArg};
use crate::ui::{Ui, print};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Files of a PEFT folder that a server takes.
const FILES: [&str; 4] =
    ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer_config.json"];

/// Put a function on a server
#[derive(Args)]
pub struct DeployArgs {
    /// The function's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Name on the server [default: the manifest's]
    #[arg(long)]
    name: Option<String>,
    /// Backbone on the server [default: the server's only one, else the manifest's]
    #[arg(long)]
    backbone: Option<String>,
    /// Alias to point at it [default: live]
    #[arg(long)]
    alias: Option<String>,
    /// Never evict it
    #[arg(long)]
    pin: bool,
    /// Say whether it would work and what it would cost; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// Runs the command.
pub fn run(args: &DeployArgs, ui: &Ui) -> Result<()> {
    let project = Project::open(&args.folder)?;
    let server = args.server.server()?;
    let name = args.name.as_ref().unwrap_or(&project.manifest.name.0);
    let mut form = Form::default();
    let mut manifest = manifest(&project, &mut form)?;
    if let Some(backbone) = backbone(args, &project, &server.get("/admin/v1/backbones")?) {
        manifest["backbone"] = backbone.into();
    }
    if let Some(alias) = &args.alias {
        manifest["alias"] = alias.as_str().into();
    }
    if args.pin {
        manifest["pinned"] = true.into();
    }
    form.add("manifest", Part::Text(manifest.to_string()));
    let path = format!("/admin/v1/functions/{name}");
    if args.dry_run {
        return report(&server.send_form("POST", &format!("{path}/dry-run"), form)?, ui);
    }
    let done = server.send_form("PUT", &path, form)?;
    for warning in done["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        ui.warn(warning);
    }
    if ui.json {
        return print(&(serde_json::to_string_pretty(&done)? + "\n"));
    }
    let generation = done["generation"].as_str().unwrap_or_default();
    let what = if done["changed"] == true { "deployed" } else { "unchanged" };
    print(&format!("{name} {what}: {generation}\n"))
}

/// A server with one backbone needs no name; a path of this machine means nothing to it.
fn backbone(args: &DeployArgs, project: &Project, known: &Value) -> Option<String> {
    let one = known["data"].as_array().is_some_and(|all| all.len() == 1);
    args.backbone.clone().or_else(|| (!one).then(|| project.manifest.backbone.clone()))
}

/// The registration, with the files that go along.
fn manifest(project: &Project, form: &mut Form) -> Result<Value> {
    let mut adapters = Vec::new();
    for adapter in &project.manifest.adapters {
        let name = &adapter.name.0;
        match &adapter.place {
            Place::Path(path) => {
                upload(name, &project.folder.join(path), form)?;
                adapters.push(json!({"name": name}));
            }
            Place::Uri(uri) => {
                let (uri, digest) = uri
                    .split_once("#sha256=")
                    .map_or((uri.as_str(), None), |(uri, digest)| (uri, Some(digest)));
                adapters.push(json!({"name": name, "uri": uri, "digest": digest}));
            }
        }
    }
    if let Some(module) = project.module() {
        ensure!(
            module.is_file(),
            "{} is not there: make it with `coldframe function build`",
            module.display()
        );
        form.add("module", Part::File(module));
    }
    Ok(json!({"adapters": adapters, "settings": project.manifest.settings()}))
}

fn upload(name: &str, path: &Path, form: &mut Form) -> Result<()> {
    let part = format!("adapter.{name}");
    if path.is_file() {
        form.add(part, Part::File(path.to_owned()));
        return Ok(());
    }
    let there = FILES.iter().map(|file| path.join(file)).filter(|file| file.is_file());
    let mut count = 0;
    for file in there {
        form.add(part.clone(), Part::File(file));
        count += 1;
    }
    ensure!(count > 0, "{} holds no adapter: it needs {}", path.display(), FILES[..2].join(" and "));
    Ok(())
}

fn report(answer: &Value, ui: &Ui) -> Result<()> {
    if ui.json {
        print(&(serde_json::to_string_pretty(answer)? + "\n"))?;
    } else {
        let size = |name: &str| crate::backbone::size(answer[name].as_u64().unwrap_or(0));
        print(&format!("on disk {}, in memory {}\n", size("disk_bytes"), size("memory_bytes")))?;
    }
    let problems: Vec<String> = answer["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| format!("{}: {}", problem["place"].as_str().unwrap_or("-"), problem["message"]))
        .collect();
    ensure!(answer["fits"] == true, "it would not be taken:\n  {}", problems.join("\n  "));
    Ok(())
}
