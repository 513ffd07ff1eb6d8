//! `coldframe function check`: the manifest, the adapters it names and the component, held against each other before a
//! server does it. All problems are told at once.

use super::manifest::{Manifest, Place, Project};
use crate::backbone::size;
use crate::ui::{Ui, print};
use anyhow::{Result, ensure};
use clap::Args;
use coldframe_host::live::component::grants;
use coldframe_host::records::Settings;
use coldframe_sandbox::{Checked, ModuleLimits, World};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Hold a function's component and adapters against its manifest
#[derive(Args)]
pub struct CheckArgs {
    /// The function's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

/// What was found.
#[derive(Default)]
struct Found {
    problems: Vec<String>,
    warnings: Vec<String>,
    checked: Option<Checked>,
}

/// Runs the command.
pub fn run(args: &CheckArgs, ui: &Ui) -> Result<()> {
    let project = Project::open(&args.folder)?;
    let mut found = Found::default();
    adapters(&project, &mut found);
    component(&project, &mut found);
    match ui.json {
        true => print(&format!("{}\n", report(&project, &found)))?,
        false => print(&table(&project, &found))?,
    }
    found.warnings.iter().for_each(|warning| ui.warn(warning));
    ensure!(found.problems.is_empty(), "{}", found.problems.join("\nerror: "));
    Ok(())
}

fn adapters(project: &Project, found: &mut Found) {
    for adapter in &project.manifest.adapters {
        let Place::Path(path) = &adapter.place else { continue };
        let path = project.folder.join(path);
        if !path.exists() {
            found.problems.push(format!("adapter `{}`: {} is not there", adapter.name.0, path.display()));
        }
    }
}

fn component(project: &Project, found: &mut Found) {
    let settings = project.manifest.settings();
    let granted = match grants(&settings) {
        Ok(granted) => granted,
        Err(error) => return found.problems.push(error.to_string()),
    };
    let bytes = match project.component() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return,
        Err(error) => return found.problems.push(format!("{error:#}")),
    };
    match coldframe_sandbox::check(&bytes, &ModuleLimits::default()) {
        Ok(checked) => {
            for import in checked.not_granted(&granted) {
                found
                    .problems
                    .push(format!("the component imports `{import}`, which the manifest does not ask for"));
            }
            let unused =
                asked(&project.manifest).into_iter().filter(|asked| !checked.capabilities().contains(asked));
            let told = unused
                .map(|word| format!("the manifest asks for `{word}`, which the component does not use"));
            found.warnings.extend(told);
            found.checked = Some(checked);
        }
        Err(error) => found.problems.push(error.to_string()),
    }
}

/// Capabilities that the manifest asks for, hosts included.
fn asked(manifest: &Manifest) -> Vec<&'static str> {
    let mut words: Vec<_> = manifest.capabilities.iter().map(|capability| capability.name()).collect();
    if !manifest.allowed_outbound_hosts.is_empty() {
        words.push("http");
    }
    words
}

fn world(checked: &Checked) -> &'static str {
    match checked.world {
        World::Function => "coldframe",
        World::FunctionWithHook => "coldframe+hook",
        World::Http => "wasi-http",
    }
}

fn report(project: &Project, found: &Found) -> Value {
    let component = found.checked.as_ref().map(|checked| {
        json!({ "world": world(checked), "bytes": checked.bytes, "sha256": checked.digest, "imports": checked.imports,
                "functions": checked.functions })
    });
    let names: Vec<_> = project.manifest.adapters.iter().map(|adapter| &adapter.name.0).collect();
    json!({ "name": project.manifest.name.0, "backbone": project.manifest.backbone, "adapters": names,
            "component": component, "problems": found.problems, "warnings": found.warnings })
}

fn table(project: &Project, found: &Found) -> String {
    let manifest = &project.manifest;
    let names: Vec<_> = manifest.adapters.iter().map(|adapter| adapter.name.0.as_str()).collect();
    let listed = |words: &[&str]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    let mut rows = vec![
        ["function".to_owned(), manifest.name.0.clone()],
        ["backbone".to_owned(), manifest.backbone.clone()],
        ["adapters".to_owned(), listed(&names)],
    ];
    match &found.checked {
        None if manifest.module.is_none() => {
            rows.push(["code".to_owned(), "none: the built-in handler".to_owned()])
        }
        None => {}
        Some(checked) => {
            let what = format!(
                "{}, {}, {} functions",
                world(checked),
                size(checked.bytes as u64),
                checked.functions
            );
            rows.push(["code".to_owned(), what]);
            rows.push(["uses".to_owned(), listed(&checked.capabilities())]);
            rows.push(["sha256".to_owned(), checked.digest.clone()]);
        }
    }
    crate::backbone::columns(&rows)
}

impl Manifest {
    /// The part that the host reads.
    pub fn settings(&self) -> Settings {
        let defaults = serde_json::to_value(&self.defaults).expect("numbers and texts");
        Settings {
            slo_ttft_ms: self.slo_ttft_ms,
            keep_alive_s: self.keep_alive_s,
            max_concurrency: self.limits.max_concurrency,
            memory_limit_mb: self.limits.memory_limit_mb,
            fuel: self.limits.fuel,
            timeout_ms: self.limits.timeout_ms,
            token_budget: self.limits.token_budget,
            max_generations: self.limits.max_generations,
            output_bytes: self.limits.output_bytes,
            log_bytes: self.limits.log_bytes,
            allowed_outbound_hosts: self.allowed_outbound_hosts.iter().map(|host| host.0.clone()).collect(),
            capabilities: self.capabilities.iter().map(|capability| capability.name().to_owned()).collect(),
            defaults: defaults.as_object().cloned().unwrap_or_default(),
        }
    }
}
