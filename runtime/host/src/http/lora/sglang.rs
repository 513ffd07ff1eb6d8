//! SGLang's routes: `/load_lora_adapter` and `/unload_lora_adapter`, which answer what is loaded afterwards.

use super::{check_gate, vllm};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::fields::Fields;
use crate::http::problem::Result;
use serde_json::{Map, Value, json};

/// Registers an adapter.
///
/// # Errors
/// As [`vllm::load`].
pub async fn load(mut ask: Ask) -> Result<Reply> {
    check_gate(&ask)?;
    let (body, _read) = ask.object().await?;
    let asked = vllm::read_load(&Fields::top(&body))?;
    let name = asked.name.clone();
    let loaded = ask.app.behind.adapters.load(ask.who(), asked).await;
    loaded.map_err(|problem| vllm::load_words(problem, &name))?;
    answer(&ask).await
}

/// Removes an adapter.
///
/// # Errors
/// As [`vllm::unload`].
pub async fn unload(mut ask: Ask) -> Result<Reply> {
    check_gate(&ask)?;
    let (body, _read) = ask.object().await?;
    let asked = vllm::read_unload(&Fields::top(&body))?;
    let name = asked.name.clone();
    let unloaded = ask.app.behind.adapters.unload(ask.who(), asked).await;
    unloaded.map_err(|problem| vllm::unload_words(problem, &name))?;
    answer(&ask).await
}

async fn answer(ask: &Ask) -> Result<Reply> {
    let list = ask.app.behind.adapters.list(ask.who()).await?;
    let source = |source: &Option<String>| source.clone().map_or(Value::Null, Value::String);
    let loaded: Map<String, Value> =
        list.adapters.iter().map(|adapter| (adapter.id.clone(), source(&adapter.source))).collect();
    Ok(body::good(&json!({"success": true, "error_message": "", "loaded_adapters": loaded})))
}
