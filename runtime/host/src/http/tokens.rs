//! `/tokenize`, `/detokenize`, `/apply-template`, as vLLM and llama.cpp have them.
//!
//! The tokenizer's worst case is long; it runs off the threads that serve connections.

use super::app::{App, Bound, Chat};
use super::ask::Ask;
use super::body::{self, Reply};
use super::fields::Fields;
use super::infer::{chat, completion, messages, request};
use super::problem::{Problem, Result};
use crate::call::CallError;
use serde_json::json;
use std::sync::Arc;

/// Runs something slow beside the threads that serve connections.
async fn aside<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> std::result::Result<T, CallError> + Send + 'static,
) -> Result<T> {
    let app = app.clone();
    match tokio::task::spawn_blocking(move || work(&app)).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Problem::internal(&error.to_string())),
    }
}

/// Token ids to text.
///
/// # Errors
/// 400 for an id outside the vocabulary.
pub async fn detokenize(app: &Arc<App>, bound: &Bound, ids: Vec<u32>) -> Result<String> {
    let bound = bound.clone();
    aside(app, move |app| app.behind.functions.detokenize(&bound, &ids)).await
}

/// `POST /tokenize`: `prompt` or `messages` (vLLM), or `content` (llama.cpp), which answers in llama.cpp's form.
///
/// # Errors
/// 400 naming a field, 404 for an unknown model.
pub async fn tokenize_route(mut ask: Ask) -> Result<Reply> {
    let (body, _read) = ask.object().await?;
    let fields = Fields::top(&body);
    let named = request::named(&ask, &fields, true)?;
    let bound = named.bound.clone();
    let (text, special) = match (fields.text("content", usize::MAX)?, fields.text("prompt", usize::MAX)?) {
        (Some(content), None) => (content.to_owned(), fields.flag("add_special")?.unwrap_or(false)),
        (None, Some(prompt)) => (prompt.to_owned(), fields.flag("add_special_tokens")?.unwrap_or(true)),
        (None, None) if fields.get("messages").is_some() => {
            // A template writes its opening control token itself.
            let chat = conversation(&ask, &fields)?;
            let bound = named.bound.clone();
            let text = aside(&ask.app, move |app| app.behind.functions.render(&bound, &chat)).await?;
            (text, fields.flag("add_special_tokens")?.unwrap_or(false))
        }
        (None, None) => return Err(Problem::missing("prompt")),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("content", "and `prompt` are both there; keep one"));
        }
    };
    let ids = aside(&ask.app, move |app| app.behind.functions.tokenize(&bound, &text, special)).await?;
    if fields.get("content").is_some() {
        return Ok(body::good(&json!({ "tokens": ids })));
    }
    Ok(body::good(&json!({
        "count": ids.len(),
        "max_model_len": named.base.max_model_len,
        "tokens": ids,
        "token_strs": null,
    })))
}

/// `POST /detokenize`: answers in vLLM's word (`prompt`) and llama.cpp's (`content`).
///
/// # Errors
/// 400 naming a field, 404 for an unknown model.
pub async fn detokenize_route(mut ask: Ask) -> Result<Reply> {
    let (body, _read) = ask.object().await?;
    let fields = Fields::top(&body);
    let named = request::named(&ask, &fields, true)?;
    let value = fields.get("tokens").ok_or_else(|| Problem::missing("tokens"))?;
    let ids =
        completion::ids(value).ok_or_else(|| Problem::invalid("tokens", "must be a list of token ids"))?;
    let text = detokenize(&ask.app, &named.bound, ids).await?;
    Ok(body::good(&json!({"prompt": text, "content": text})))
}

/// `POST /apply-template`: a chat as the model sees it.
///
/// # Errors
/// 400 naming a field, 404 for an unknown model.
pub async fn template_route(mut ask: Ask) -> Result<Reply> {
    let (body, _read) = ask.object().await?;
    let fields = Fields::top(&body);
    let named = request::named(&ask, &fields, true)?;
    let chat = conversation(&ask, &fields)?;
    let text = aside(&ask.app, move |app| app.behind.functions.render(&named.bound, &chat)).await?;
    Ok(body::good(&json!({ "prompt": text })))
}

fn conversation(ask: &Ask, fields: &Fields<'_>) -> Result<Chat> {
    let limits = &ask.app.limits();
    let tools = messages::tools(fields, limits)?;
    Ok(Chat {
        messages: messages::messages(fields, limits)?,
        tool_choice: messages::tool_choice(fields, tools.as_ref())?,
        tools,
        add_generation_prompt: fields.flag("add_generation_prompt")?.unwrap_or(true),
        extra: chat::extra(fields)?,
    })
}
