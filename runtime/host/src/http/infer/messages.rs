//! `messages`, `tools` and `tool_choice` of a chat: checked and put into the form that templates expect.
//!
//! Templates are strangers' programs that were written for what Hugging Face's library gives them: content is one text,
//! a tool call's arguments are an object, and the role is one they know.

use crate::call::ToolChoice;
use crate::http::fields::Fields;
use crate::http::limits::Limits;
use crate::http::problem::{Problem, Result};
use serde_json::{Map, Value, json};

/// Roles that templates know. Others could build control tokens around themselves.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
/// Longest name of a tool, as OpenAI has it.
const TOOL_NAME_MAX: usize = 64;

/// `messages`, checked.
///
/// # Errors
/// 400 naming the message.
pub fn messages(fields: &Fields<'_>, limits: &Limits) -> Result<Value> {
    let list = fields.list("messages", limits.messages)?.ok_or_else(|| Problem::missing("messages"))?;
    if list.is_empty() {
        return Err(Problem::invalid("messages", "is empty; give at least one message"));
    }
    list.iter()
        .enumerate()
        .map(|(place, message)| one(message, place))
        .collect::<Result<Vec<_>>>()
        .map(Value::Array)
}

fn one(message: &Value, place: usize) -> Result<Value> {
    let at = |field: &str| format!("messages[{place}]{field}");
    let fields = message.as_object().ok_or_else(|| Problem::invalid(at(""), "must be an object"))?;
    let role = match fields.get("role").and_then(Value::as_str) {
        // OpenAI's newer word for it; no template knows it.
        Some("developer") => "system",
        Some(role) if ROLES.contains(&role) => role,
        _ => return Err(Problem::invalid(at(".role"), format!("must be one of {}", ROLES.join(", ")))),
    };
    let mut clean = fields.clone();
    clean.insert("role".to_owned(), json!(role));
    let called = role == "assistant" && fields.get("tool_calls").is_some_and(|calls| !calls.is_null());
    match content(fields.get("content"), &at(".content"))? {
        Some(text) => drop(clean.insert("content".to_owned(), Value::String(text))),
        None if called => drop(clean.insert("content".to_owned(), json!(""))),
        None => return Err(Problem::missing(at(".content"))),
    }
    if called {
        clean.insert("tool_calls".to_owned(), calls(&fields["tool_calls"], &at(".tool_calls"))?);
    }
    Ok(Value::Object(clean))
}

/// One text: a string, or parts of type `text` joined by line ends.
fn content(content: Option<&Value>, at: &str) -> Result<Option<String>> {
    match content {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().map(|part| part_text(part, at)).collect::<Result<_>>()?;
            Ok(Some(texts.join("\n")))
        }
        Some(_) => Err(Problem::invalid(at, "must be a string or a list of parts")),
    }
}

fn part_text<'v>(part: &'v Value, at: &str) -> Result<&'v str> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => {
            let text = part.get("text").and_then(Value::as_str);
            text.ok_or_else(|| Problem::invalid(at, "has a part of type `text` without a string `text`"))
        }
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            Err(Problem::unsupported(
                at,
                format!("has a part of type {shown:?}; this server reads text only"),
            ))
        }
        None => Err(Problem::invalid(at, "has a part without a `type`")),
    }
}

/// Calls that an earlier answer made; arguments that are JSON text become the object they stand for.
fn calls(value: &Value, at: &str) -> Result<Value> {
    let wrong = || Problem::invalid(at, "must be a list of {id, type, function: {name, arguments}}");
    let mut calls = value.as_array().ok_or_else(wrong)?.clone();
    for call in &mut calls {
        let function = call.get_mut("function").and_then(Value::as_object_mut).ok_or_else(wrong)?;
        function.get("name").and_then(Value::as_str).ok_or_else(wrong)?;
        let parsed = match function.get("arguments") {
            Some(Value::String(text)) => serde_json::from_str::<Map<String, Value>>(text).ok(),
            None | Some(Value::Object(_)) => None,
            Some(_) => return Err(wrong()),
        };
        if let Some(parsed) = parsed {
            function.insert("arguments".to_owned(), Value::Object(parsed));
        }
    }
    Ok(Value::Array(calls))
}

/// `tools`, checked; `None` where there are none.
///
/// # Errors
/// 400 naming the tool.
pub fn tools(fields: &Fields<'_>, limits: &Limits) -> Result<Option<Value>> {
    let list = fields.list("tools", limits.tools)?.unwrap_or_default();
    for (place, tool) in list.iter().enumerate() {
        let at = |field: &str| format!("tools[{place}]{field}");
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            return Err(Problem::unsupported(at(".type"), "must be `function`"));
        }
        let function = tool.get("function").and_then(Value::as_object);
        let function = function.ok_or_else(|| Problem::missing(at(".function")))?;
        if !function.get("name").and_then(Value::as_str).is_some_and(is_tool_name) {
            let problem = format!("must have 1 to {TOOL_NAME_MAX} letters, digits, - and _");
            return Err(Problem::invalid(at(".function.name"), problem));
        }
        if !function.get("parameters").is_none_or(|schema| schema.is_object() || schema.is_null()) {
            return Err(Problem::invalid(at(".function.parameters"), "must be a JSON schema: an object"));
        }
    }
    Ok((!list.is_empty()).then(|| Value::Array(list.to_vec())))
}

fn is_tool_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=TOOL_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// `tool_choice`, held against `tools`.
///
/// # Errors
/// 400 naming the field.
pub fn tool_choice(fields: &Fields<'_>, tools: Option<&Value>) -> Result<ToolChoice> {
    const FIELD: &str = "tool_choice";
    let wrong = || {
        Problem::invalid(
            FIELD,
            "must be `none`, `auto`, `required` or {\"type\": \"function\", \"function\": {\"name\"}}",
        )
    };
    let choice = match fields.get(FIELD) {
        None => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(wrong()),
        },
        Some(value) => {
            let name =
                value.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            ToolChoice::Named(name.ok_or_else(wrong)?.to_owned())
        }
    };
    let offered = |name: &str| {
        let mut listed = tools.and_then(Value::as_array).into_iter().flatten();
        listed.any(|tool| tool["function"]["name"] == name)
    };
    match &choice {
        ToolChoice::Required if tools.is_none() => Err(Problem::invalid(FIELD, "needs `tools`")),
        ToolChoice::Named(name) if !offered(name) => {
            Err(Problem::invalid(FIELD, "names a function that is not in `tools`"))
        }
        _ => Ok(choice),
    }
}
