//! llama.cpp's routes: `GET` and `POST /lora-adapters`.
//!
//! A path would tell where files lie, so `path` is the function's name. See [`scales`].

use super::check_gate;
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::dialect::scales;
use crate::http::json;
use crate::http::problem::Result;
use serde_json::{Value, json};

/// Lists adapters with their scales.
///
/// # Errors
/// None of its own.
pub async fn list(ask: Ask) -> Result<Reply> {
    let tenant = &ask.who().tenant;
    let chosen = ask.app.scales.get(tenant);
    let cards = ask.app.behind.functions.list(tenant);
    let entry = |name: &String| {
        json!({
            "id": scales::number(name),
            "path": name,
            "scale": if chosen.as_ref() == Some(name) { 1.0 } else { 0.0 },
            "task_name": "",
            "prompt_prefix": "",
        })
    };
    Ok(body::good(&cards.iter().map(|card| entry(&card.id)).collect::<Value>()))
}

/// Sets the adapter that answers where a request of this tenant names none.
///
/// # Errors
/// See [`scales::chosen`].
pub async fn set(mut ask: Ask) -> Result<Reply> {
    check_gate(&ask)?;
    json::check_media(ask.headers())?;
    let read = ask.read().await?;
    let list = json::parse(&read.bytes)?;
    let tenant = ask.who().tenant.clone();
    let cards = ask.app.behind.functions.list(&tenant);
    let chosen = scales::chosen(&list, &cards, "body")?;
    ask.app.scales.set(&tenant, chosen);
    Ok(body::good(&json!({ "success": true })))
}
