//! A policy by name or file, with the user's `--set` on top; errors say which setting, and the nearest key.

use crate::names::{nearest, unknown};
use anyhow::{Context, Result, bail};
use coldframe_policy::config::{PolicyConfig, PolicyError, from_table, preset_names, preset_toml, set};

/// A preset or file with the user's settings on top.
pub fn policy(name: &str, settings: &[String]) -> Result<PolicyConfig> {
    let known = preset_names();
    let is_file = name.ends_with(".toml") || name.contains('/');
    let mut table = if is_file {
        let text =
            std::fs::read_to_string(name).with_context(|| format!("cannot read policy file {name}"))?;
        text.parse().with_context(|| format!("policy file {name}"))?
    } else if known.iter().any(|k| k == name) {
        preset_toml(name)?
    } else {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        bail!(unknown("--policy", name, &known));
    };
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("--set {setting}: expected KEY=VALUE, e.g. keep_alive.adapter_s=300");
        };
        let (key, value) = (key.trim(), value.trim());
        if let Err(error) = set(&mut table, key, value) {
            let sections: Vec<&str> =
                table.iter().filter(|(_, v)| v.is_table()).map(|(k, _)| k.as_str()).collect();
            let hint = nearest(key.split('.').next().unwrap_or(key), &sections);
            let hint = hint.map(|near| format!(" — did you mean `{near}`?")).unwrap_or_default();
            bail!("--set {setting}: {error}{hint}\nthere are: {}", sections.join(", "));
        }
    }
    let kinds = table.clone();
    from_table(table, name).map_err(|e| explain(name, settings, &kinds, &e, is_file))
}

/// Says of a policy error which `--set` it comes from, the nearest known key, and where to look.
fn explain(
    policy: &str,
    settings: &[String],
    table: &toml::Table,
    error: &PolicyError,
    is_file: bool,
) -> anyhow::Error {
    let mut text = error.to_string().replace('\n', " ");
    for (rust, plain) in [
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected struct ", "expected a section "),
    ] {
        text = text.replace(rust, plain);
    }
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let section = text.rsplit_once(" in `").map(|(_, section)| section.trim_end_matches('`').to_owned());
    let unknown_field = text.contains("unknown field");
    let about_name = unknown_field || text.contains("unknown variant");
    let guess = match (about_name, quoted.split_first()) {
        (true, Some((wrong, known))) => {
            let known: Vec<&str> = known.iter().copied().filter(|k| Some(*k) != section.as_deref()).collect();
            nearest(wrong, &known)
        }
        _ => None,
    };
    let hint = guess.map(|g| format!(" — did you mean `{g}`?")).unwrap_or_default();
    // The setting whose key is the place, or the unknown field in it.
    let place = match (&section, unknown_field, quoted.first()) {
        (Some(section), true, Some(field)) => format!("{section}.{field}"),
        (Some(section), false, _) => section.clone(),
        (None, true, Some(field)) => (*field).to_owned(),
        _ => String::new(),
    };
    let from_key = |s: &&String| {
        s.split_once('=')
            .is_some_and(|(key, _)| key.trim() == place || text.contains(&format!(": {} =", key.trim())))
    };
    let from = settings.iter().find(from_key).map(|s| format!("--set {s}: ")).unwrap_or_default();
    let kind = section.as_deref().and_then(|s| table.get(s)?.get("kind")?.as_str());
    let kind = match kind {
        Some(kind) if unknown_field => format!(" (of kind `{kind}`; other kinds have other settings)"),
        _ => String::new(),
    };
    let resets_kind =
        |s: &&String| section.as_ref().is_some_and(|of| s.trim_start().starts_with(&format!("{of}.kind=")));
    let kind = match (settings.iter().find(resets_kind), &section) {
        (Some(setting), Some(of)) if unknown_field && from.is_empty() => {
            let to = setting.split_once('=').map_or("", |(_, to)| to);
            format!(
                "\n--set {setting}: another kind has other settings, so replace the whole section: --set \"{of}={{ kind = '{to}' }}\""
            )
        }
        _ => kind,
    };
    let show = if is_file { "NAME" } else { policy };
    anyhow::anyhow!(
        "{from}{text}{kind}{hint}\n`coldframe policies show {show}` prints every setting of a preset"
    )
}
