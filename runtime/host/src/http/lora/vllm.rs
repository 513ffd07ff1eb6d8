//! vLLM's and mistral.rs's routes: `/v1/load_lora_adapter`, `/v1/unload_lora_adapter`, `/v1/lora_adapters`.
//!
//! Controllers depend on the wording. KubeAI takes a repeated load as done on a 400 of type `InvalidUserInput` whose
//! message holds "already" and "loaded", and a repeated unload on one that holds "cannot be found"; so both say that
//! here, whatever the status elsewhere.

use super::check_gate;
use crate::http::app::{LoadAdapter, LoraAdapter, LoraList, UnloadAdapter};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use crate::records::Scope;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// Longest name, bytes, trimmed: mistral.rs's bound.
const NAME_BYTES_MAX: usize = 256;
/// Longest path or URI, bytes.
const PATH_BYTES_MAX: usize = 4096;
const INVALID: &str = "InvalidUserInput";

/// Registers an adapter.
///
/// # Errors
/// 400 `InvalidUserInput`, and the codes of `docs/api.md`.
pub async fn load(mut ask: Ask) -> Result<Reply> {
    check_gate(&ask)?;
    let (body, _read) = ask.object().await?;
    let asked = read_load(&Fields::top(&body)).map_err(|problem| problem.of_kind(INVALID))?;
    let name = asked.name.clone();
    let loaded =
        ask.app.behind.adapters.load(ask.who(), asked).await.map_err(|problem| load_words(problem, &name))?;
    if ask.accepts_json() {
        return Ok(body::good(&card(&loaded)));
    }
    Ok(body::text(StatusCode::OK, format!("Success: LoRA adapter '{name}' added successfully.")))
}

/// Removes an adapter.
///
/// # Errors
/// 400 `InvalidUserInput`, and the codes of `docs/api.md`.
pub async fn unload(mut ask: Ask) -> Result<Reply> {
    check_gate(&ask)?;
    let (body, _read) = ask.object().await?;
    let asked = read_unload(&Fields::top(&body)).map_err(|problem| problem.of_kind(INVALID))?;
    let name = asked.name.clone();
    let unloaded = ask.app.behind.adapters.unload(ask.who(), asked).await;
    let leases = unloaded.map_err(|problem| unload_words(problem, &name))?;
    if ask.accepts_json() {
        let object = json!({"id": name, "object": "lora_adapter", "deleted": true, "active_leases": leases});
        return Ok(body::good(&object));
    }
    Ok(body::text(StatusCode::OK, format!("Success: LoRA adapter '{name}' removed successfully.")))
}

/// Lists adapters and where they are.
///
/// # Errors
/// What the host says.
pub async fn list(ask: Ask) -> Result<Reply> {
    let mut list = ask.app.behind.adapters.list(ask.who()).await?;
    if ask.who().scope < Scope::Admin {
        for adapter in &mut list.adapters {
            adapter.source = None;
        }
    }
    Ok(body::good(&table(&list)))
}

/// Reads a load's body.
///
/// # Errors
/// 400 naming the field.
pub fn read_load(fields: &Fields<'_>) -> Result<LoadAdapter> {
    fields.flag("is_3d_lora_weight")?;
    let flag = |name: &str, otherwise: bool| fields.flag(name).map(|flag| flag.unwrap_or(otherwise));
    let asked = LoadAdapter {
        name: name(fields)?,
        path: required(fields, "lora_path", PATH_BYTES_MAX)?,
        in_place: flag("load_inplace", false)?,
        expected_generation: generation(fields)?,
        base: fields.text("model", PATH_BYTES_MAX)?.filter(|model| !model.is_empty()).map(str::to_owned),
        pinned: flag("pinned", false)?,
        load: flag("load", true)?,
    };
    if asked.expected_generation.is_some() && !asked.in_place {
        let problem = Problem::invalid("expected_generation", "needs `load_inplace` to be true");
        return Err(Problem { code: "invalid_lora_load_policy".into(), ..problem });
    }
    Ok(asked)
}

/// Reads an unload's body.
///
/// # Errors
/// 400 naming the field.
pub fn read_unload(fields: &Fields<'_>) -> Result<UnloadAdapter> {
    Ok(UnloadAdapter {
        name: name(fields)?,
        expected_generation: generation(fields)?,
        base: fields.text("model", PATH_BYTES_MAX)?.filter(|model| !model.is_empty()).map(str::to_owned),
    })
}

fn name(fields: &Fields<'_>) -> Result<String> {
    const FIELD: &str = "lora_name";
    let given = required(fields, FIELD, PATH_BYTES_MAX)?;
    let name = given.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let problem = Problem::invalid(
            FIELD,
            format!("must have 1 to {NAME_BYTES_MAX} bytes, and no control characters"),
        );
        return Err(Problem { code: "invalid_lora_name".into(), ..problem });
    }
    Ok(name.to_owned())
}

fn required(fields: &Fields<'_>, field: &str, max: usize) -> Result<String> {
    let text = fields.text(field, max)?.filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| Problem::missing(field))
}

fn generation(fields: &Fields<'_>) -> Result<Option<String>> {
    const FIELD: &str = "expected_generation";
    let digits = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match fields.text(FIELD, 64)? {
        Some(text) if !digits(text) => {
            Err(Problem::invalid(FIELD, "must have 64 lower-case hexadecimal digits"))
        }
        given => Ok(given.map(str::to_owned)),
    }
}

/// A failed load in the words that controllers look for.
pub fn load_words(problem: Problem, name: &str) -> Problem {
    if problem.code != "lora_adapter_already_loaded" {
        return vllm_kind(problem);
    }
    let message = format!(
        "The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
    );
    Problem { status: StatusCode::BAD_REQUEST, message, ..problem }.of_kind(INVALID)
}

/// A failed unload in the words that controllers look for.
pub fn unload_words(problem: Problem, name: &str) -> Problem {
    if problem.code != "lora_adapter_not_found" {
        return vllm_kind(problem);
    }
    let message = format!("The lora adapter '{name}' cannot be found.");
    Problem { status: StatusCode::BAD_REQUEST, message, ..problem }.of_kind(INVALID)
}

fn vllm_kind(problem: Problem) -> Problem {
    match problem.status.as_u16() {
        400 | 422 => problem.of_kind(INVALID),
        404 => problem.of_kind("NotFoundError"),
        500 => problem.of_kind("InternalServerError"),
        _ => problem,
    }
}

/// An adapter as JSON.
pub fn card(adapter: &LoraAdapter) -> Value {
    let mut card = json!(adapter);
    card["object"] = json!("lora_adapter");
    card
}

fn table(list: &LoraList) -> Value {
    let retired = list.generations.iter().filter(|generation| generation.retired).count();
    let resident = |tier: &&LoraAdapter| tier.tier == "device";
    let mut table = Map::new();
    let mut set = |name: &str, value: Value| drop(table.insert(name.to_owned(), value));
    set("object", json!("list"));
    set("data", list.adapters.iter().map(card).collect());
    set("generations", json!(list.generations));
    set("resident_generations", json!(list.generations.len() - retired));
    set("retired_generations", json!(retired));
    set(
        "resident_bytes",
        json!(list.adapters.iter().filter(resident).map(|adapter| adapter.bytes).sum::<u64>()),
    );
    set("max_adapters", json!(list.max_adapters));
    set("max_rank", json!(list.max_rank));
    set("max_bytes", json!(list.max_bytes));
    Value::Object(table)
}
