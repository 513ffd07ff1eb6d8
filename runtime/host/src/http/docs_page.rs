//! `/api-doc/openapi.json` and `/docs`: the API's description, for programs and for people.
//!
//! The page is made on the server from the same document, without a script and without another host.

use super::ask::Ask;
use super::body::{self, Reply};
use super::problem::Result;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color-scheme:light dark}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.75rem;\
border:1px solid #8886}summary{cursor:pointer;padding:.25rem 0}.m{display:inline-block;min-width:4.5rem;font-weight:600}";

/// The document.
///
/// # Errors
/// None.
pub async fn document(ask: Ask) -> Result<Reply> {
    Ok(body::good(&ask.app.openapi))
}

/// The page.
///
/// # Errors
/// None.
pub async fn page(ask: Ask) -> Result<Reply> {
    let mut reply = body::bytes(StatusCode::OK, "text/html; charset=utf-8", render(&ask.app.openapi));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    reply.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(reply)
}

fn render(document: &Value) -> String {
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let tag = operation["tags"][0].as_str().unwrap_or("other").to_owned();
            operation_html(groups.entry(tag).or_default(), method, path, operation);
        }
    }
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Coldframe API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <h1>Coldframe API {}</h1><p><a href=\"api-doc/openapi.json\">openapi.json</a></p>",
        escape(document["info"]["version"].as_str().unwrap_or(""))
    );
    for (tag, operations) in groups {
        let _ = write!(html, "<h2>{}</h2>{operations}", escape(&tag));
    }
    html.push_str("<h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(
            html,
            "<details><summary><code>{}</code></summary>{}</details>",
            escape(name),
            pre(schema)
        );
    }
    html.push_str("</body></html>");
    html
}

fn operation_html(html: &mut String, method: &str, path: &str, operation: &Value) {
    let access = operation["x-access"].as_str().unwrap_or("public");
    let summary = operation["summary"].as_str().unwrap_or("");
    let _ = write!(
        html,
        "<details><summary><span class=\"m\">{}</span><code>{}</code> {} <small>({})</small></summary>",
        escape(&method.to_ascii_uppercase()),
        escape(path),
        escape(summary),
        escape(access)
    );
    for part in ["parameters", "requestBody", "responses"] {
        if operation[part].as_array().is_none_or(|list| !list.is_empty()) && !operation[part].is_null() {
            let _ = write!(html, "<h4>{part}</h4>{}", pre(&operation[part]));
        }
    }
    html.push_str("</details>");
}

fn pre(value: &Value) -> String {
    format!("<pre>{}</pre>", escape(&format!("{value:#}")))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
