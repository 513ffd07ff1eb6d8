//! `GET /v1/models`: base models and the caller's functions, as cards.

use super::app::{Base, Card};
use super::ask::Ask;
use super::body::{self, Reply};
use super::problem::{Problem, Result};
use super::router;
use serde_json::{Value, json};

/// Lists what the caller can name in `model`.
///
/// # Errors
/// None of its own.
pub async fn list(ask: Ask) -> Result<Reply> {
    let functions = &ask.app.behind.functions;
    let bases = functions.bases();
    let named = bases.iter().flat_map(|base| names(base).map(move |name| base_card(base, name)));
    let cards = functions.list(&ask.who().tenant);
    let data: Vec<Value> = named.chain(cards.iter().map(|card| function_card(card, &card.id))).collect();
    Ok(body::good(&json!({"object": "list", "data": data})))
}

/// One card.
///
/// # Errors
/// 404 `model_not_found`; 400 for a path that holds no name.
pub async fn one(ask: Ask) -> Result<Reply> {
    // Names of base models may have a slash, each part of which is a name.
    let parts: Vec<String> = ask.values[0].split('/').map(router::name).collect::<Result<_>>()?;
    let name = parts.join("/");
    let functions = &ask.app.behind.functions;
    if let Some(base) = functions.bases().iter().find(|base| names(base).any(|own| *own == name)) {
        return Ok(body::good(&base_card(base, &name)));
    }
    let tenant = &ask.who().tenant;
    let bound = functions.resolve(tenant, &name, &ask.id).ok_or_else(|| Problem::no_model(&name))?;
    let cards = functions.list(tenant);
    let card = cards.into_iter().find(|card| card.id == bound.names.function);
    let mut card = card.ok_or_else(|| Problem::no_model(&name))?;
    if card.id != name {
        // `name@alias` and `name@generation` mean one generation.
        card.generation = bound.generation.map(|generation| generation.id.clone());
    }
    Ok(body::good(&function_card(&card, &name)))
}

fn names(base: &Base) -> impl Iterator<Item = &String> {
    std::iter::once(&base.id).chain(&base.also)
}

fn base_card(base: &Base, name: &str) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": base.created_ms / 1000,
        "owned_by": "coldframe",
        "root": base.id,
        "parent": null,
        "max_model_len": base.max_model_len,
        "permission": [],
        "adapter_generation": null,
    })
}

fn function_card(card: &Card, name: &str) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": card.created_ms / 1000,
        "owned_by": "coldframe",
        "root": card.id,
        "parent": card.parent,
        "max_model_len": card.max_model_len,
        "permission": [],
        "adapter_generation": card.generation,
    })
}
