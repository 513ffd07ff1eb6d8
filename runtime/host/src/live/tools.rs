//! Tools: what the template is told of them, and calls found in what the model says.
//!
//! Two forms are understood: `<tool_call>{"name": …, "arguments": …}</tool_call>` as Hermes and Qwen models write it,
//! anywhere in the text, and the bare object where `tool_choice` binds the answer to one. Whatever does not parse, or
//! names a tool that was not offered, stays text.

use crate::call::ToolChoice;
use coldframe_backbone::sample::Grammar;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OPENING: &str = "<tool_call>";
const CLOSING: &str = "</tool_call>";

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

/// How a request's tools are used.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// What the template is told.
    pub(super) shown: Option<Value>,
    /// What binds the answer.
    pub(super) grammar: Option<Grammar>,
    names: BTreeSet<String>,
}

impl Tools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// The parameter's name and what is wrong with it.
    pub(super) fn read(tools: Option<&Value>, choice: &ToolChoice) -> Result<Self, (&'static str, String)> {
        let offered = tools.and_then(Value::as_array).filter(|offered| !offered.is_empty());
        let Some(offered) = offered.filter(|_| *choice != ToolChoice::None) else {
            return match choice {
                ToolChoice::Auto | ToolChoice::None => Ok(Self::default()),
                _ => Err(("tool_choice", "needs `tools`".to_owned())),
            };
        };
        let named = |tool: &Value| Some(tool["function"]["name"].as_str()?.to_owned());
        let names: Option<BTreeSet<String>> = offered.iter().map(named).collect();
        let names = names.ok_or(("tools", "each needs `function.name`".to_owned()))?;
        let wanted: Vec<&Value> = match choice {
            ToolChoice::Named(name) if !names.contains(name) => {
                return Err(("tool_choice", format!("names `{name}`, which is not among `tools`")));
            }
            ToolChoice::Named(name) => {
                offered.iter().filter(|tool| tool["function"]["name"] == name.as_str()).collect()
            }
            _ => offered.iter().collect(),
        };
        let bound = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
        let grammar = bound.then(|| Grammar::JsonSchema(schema(&wanted)));
        Ok(Self { shown: tools.cloned(), grammar, names })
    }

    /// A scanner for one choice's text.
    pub(super) fn scanner(&self) -> Scanner<'_> {
        Scanner { tools: self, held: String::new() }
    }
}

/// The schema of a call of one of these tools.
fn schema(tools: &[&Value]) -> Value {
    const ARGUMENTS: &str = "/properties/arguments";
    let one = |tool: &Value, at: &str| {
        let function = &tool["function"];
        let parameters = match &function["parameters"] {
            Value::Null => json!({ "type": "object" }),
            parameters => moved(parameters, at),
        };
        json!({
            "type": "object",
            "properties": { "name": { "const": function["name"] }, "arguments": parameters },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let mut schema = match tools {
        [only] => one(only, ARGUMENTS),
        several => {
            let all = several.iter().enumerate();
            let all = all.map(|(index, tool)| one(tool, &format!("/anyOf/{index}{ARGUMENTS}")));
            json!({ "anyOf": all.collect::<Vec<_>>() })
        }
    };
    schema["x-guidance"] = spacing();
    schema
}

/// A schema whose references hold at its new place in a larger one.
fn moved(schema: &Value, at: &str) -> Value {
    match schema {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| match value.as_str() {
                Some(local) if key == "$ref" && local.starts_with('#') => {
                    (key.clone(), format!("#{at}{}", &local[1..]).into())
                }
                _ => (key.clone(), moved(value, at)),
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => items.iter().map(|item| moved(item, at)).collect(),
        other => other.clone(),
    }
}

/// Spaces as Python's `json.dumps` writes them, which models have seen most; and no others, for a weak model that is free
/// to write blanks may write nothing else.
fn spacing() -> Value {
    json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " })
}

/// Finds calls in a text as it comes.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    tools: &'a Tools,
    /// Text that is, or may be, part of a call.
    held: String,
}

impl Scanner<'_> {
    /// Takes more text; gives what is certainly no part of a call.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.tools.names.is_empty() {
            return text.to_owned();
        }
        self.held.push_str(text);
        if self.tools.grammar.is_some() {
            return String::new();
        }
        let certain = self.held.find(OPENING).unwrap_or_else(|| self.held.len() - beginning(&self.held));
        self.held.drain(..certain).collect()
    }

    /// Ends the text: the rest of it, and the calls.
    pub(super) fn finish(self) -> (String, Vec<ToolCall>) {
        let bare = self.tools.grammar.is_some();
        let calls = if bare { self.call(&self.held).map(|call| vec![call]) } else { self.marked() };
        match calls {
            Some(calls) if !calls.is_empty() => (String::new(), calls),
            _ => (self.held, Vec::new()),
        }
    }

    /// The calls of a text that is nothing but marked calls and space; the last mark may be left open.
    fn marked(&self) -> Option<Vec<ToolCall>> {
        let (mut calls, mut rest) = (Vec::new(), self.held.trim());
        while !rest.is_empty() {
            let inside = rest.strip_prefix(OPENING)?;
            let (call, after) = inside.split_once(CLOSING).unwrap_or((inside, ""));
            calls.push(self.call(call)?);
            rest = after.trim_start();
        }
        Some(calls)
    }

    fn call(&self, text: &str) -> Option<ToolCall> {
        let value: Value = serde_json::from_str(text.trim()).ok()?;
        let name = value["name"].as_str().filter(|name| self.tools.names.contains(*name))?.to_owned();
        let arguments = match &value["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => other.to_string(),
        };
        Some(ToolCall { name, arguments })
    }
}

/// Bytes at the end of a text that may begin a mark.
fn beginning(text: &str) -> usize {
    (1..OPENING.len()).rev().find(|&bytes| text.ends_with(&OPENING[..bytes])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Value {
        json!([
            { "type": "function", "function": { "name": "weather",
                "parameters": { "type": "object", "properties": { "place": { "type": "string" } } } } },
            { "type": "function", "function": { "name": "time" } },
        ])
    }

    /// What a reader sees, letter by letter, and the calls.
    fn scan(choice: ToolChoice, text: &str) -> (String, Vec<(String, String)>) {
        let tools = Tools::read(Some(&offered()), &choice).unwrap();
        let (mut scanner, mut seen) = (tools.scanner(), String::new());
        for letter in text.chars() {
            seen += &scanner.push(&letter.to_string());
        }
        let (rest, calls) = scanner.finish();
        (seen + &rest, calls.into_iter().map(|call| (call.name, call.arguments)).collect())
    }

    fn pair(name: &str, arguments: &str) -> (String, String) {
        (name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn marked_calls_are_found_behind_text() {
        let text = "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Kiel\"}}\n\
                    </tool_call>\n<tool_call>{\"name\": \"time\", \"arguments\": {}}";
        let expected = vec![pair("weather", "{\"place\":\"Kiel\"}"), pair("time", "{}")];
        assert_eq!(scan(ToolChoice::Auto, text), ("Let me look.\n".to_owned(), expected));
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "a < b and <tool_cal",
            "<tool_call>not json</tool_call>",
            "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call> and more",
            "{\"name\": \"time\", \"arguments\": {}}",
        ] {
            assert_eq!(scan(ToolChoice::Auto, text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn a_bound_answer_is_a_bare_call() {
        let text = "{\"name\": \"time\", \"arguments\": {\"zone\": \"UTC\"}}";
        let expected = vec![pair("time", "{\"zone\":\"UTC\"}")];
        assert_eq!(scan(ToolChoice::Required, text), (String::new(), expected));
        let cut = "{\"name\": \"time\", \"argum";
        assert_eq!(scan(ToolChoice::Named("time".to_owned()), cut), (cut.to_owned(), Vec::new()));
    }

    #[test]
    fn choices_that_mean_nothing_are_refused() {
        let read = |tools: Option<&Value>, choice| Tools::read(tools, &choice).map_err(|(field, _)| field);
        assert_eq!(read(None, ToolChoice::Required).unwrap_err(), "tool_choice");
        let other = ToolChoice::Named("rm".to_owned());
        assert_eq!(read(Some(&offered()), other).unwrap_err(), "tool_choice");
        assert_eq!(read(Some(&json!([{ "function": {} }])), ToolChoice::Auto).unwrap_err(), "tools");
        let none = Tools::read(Some(&offered()), &ToolChoice::None).unwrap();
        assert!(none.shown.is_none() && none.grammar.is_none());
    }
}
