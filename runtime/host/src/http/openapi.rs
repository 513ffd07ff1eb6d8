//! The API's description, assembled from the table of routes, so that no route can be missing from it.
//!
//! Schemas of bodies are written by hand beside the routes; `docs/openapi.json` holds the whole for reading and a test
//! compares it with the build.

use super::problem::Dialect;
use super::router::{Access, Route, Router};
use http::Method;
use serde_json::{Map, Value, json};

/// Media type of JSON.
pub const JSON: &str = "application/json";
/// Media type of plain text.
pub const TEXT: &str = "text/plain";
/// Media type of server-sent events.
pub const EVENTS: &str = "text/event-stream";
/// Media type of pages.
pub const HTML: &str = "text/html";

/// A route in words and schemas.
#[derive(Debug, Clone)]
pub struct Describe {
    tag: &'static str,
    summary: &'static str,
    body: Option<(&'static str, Value)>,
    replies: Vec<(u16, Option<(&'static str, Value)>)>,
    query: Vec<Value>,
}

/// A schema by its name in the document's components.
pub fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

impl Describe {
    /// A route of a group.
    pub fn new(tag: &'static str, summary: &'static str) -> Self {
        Self { tag, summary, body: None, replies: Vec::new(), query: Vec::new() }
    }

    /// With a JSON body, by the name of its schema.
    #[must_use]
    pub fn body(self, name: &str) -> Self {
        self.body_of(JSON, schema(name))
    }

    /// With a body.
    #[must_use]
    pub fn body_of(mut self, media: &'static str, schema: Value) -> Self {
        self.body = Some((media, schema));
        self
    }

    /// With a reply of JSON, by the name of its schema.
    #[must_use]
    pub fn json(self, status: u16, name: &str) -> Self {
        self.reply(status, JSON, schema(name))
    }

    /// With a reply.
    #[must_use]
    pub fn reply(mut self, status: u16, media: &'static str, schema: Value) -> Self {
        self.replies.push((status, Some((media, schema))));
        self
    }

    /// With a reply that streams events, each of whose `data` is JSON of a schema.
    #[must_use]
    pub fn events(self, status: u16, name: &str) -> Self {
        let data = json!({"type": "string", "contentMediaType": JSON, "contentSchema": schema(name)});
        self.reply(status, EVENTS, json!({"type": "object", "properties": {"data": data}}))
    }

    /// With a reply that has no body.
    #[must_use]
    pub fn empty(mut self, status: u16) -> Self {
        self.replies.push((status, None));
        self
    }

    /// With a parameter in the query.
    #[must_use]
    pub fn query(mut self, name: &str, schema: Value, description: &str) -> Self {
        self.query.push(
            json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description}),
        );
        self
    }
}

/// Statuses that any route may answer with an error.
const ERRORS: [(u16, &str); 15] = [
    (400, "A field, name or header is wrong"),
    (401, "No key, or not a valid one"),
    (403, "The key does not reach that far"),
    (404, "There is no such thing for this caller"),
    (408, "The body did not arrive in time"),
    (409, "It clashes with what is there"),
    (412, "It is not at the revision that was expected"),
    (413, "The body is too large"),
    (415, "The body is of a kind that is not read"),
    (422, "Well-formed, and cannot be served"),
    (429, "Too much at once: see `Retry-After`"),
    (502, "The function's own code failed"),
    (503, "Not now: see `Retry-After`"),
    (504, "The function ran out of time"),
    (507, "The store cannot write now"),
];

/// The document of all routes; `more` are schemas of routes that this crate's `http` does not own.
pub fn document(router: &Router, more: Map<String, Value>) -> Value {
    let mut paths = Map::new();
    for route in router.routes() {
        let path = route.pattern.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let mut schemas = super::schemas::all();
    schemas.extend(more);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Coldframe",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "LoRA functions on one backbone: OpenAI's API, the dialects of other adapter servers, and administration.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": response("An error", JSON, schema("Error")),
                "LoraxError": response("An error", JSON, schema("LoraxError")),
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

fn response(description: &str, media: &str, schema: Value) -> Value {
    json!({"description": description, "content": {media: {"schema": schema}}})
}

fn operation(route: &Route) -> Value {
    let describe = &route.describe;
    let mut parameters: Vec<Value> = names(route.pattern)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(describe.query.iter().cloned());
    let mut operation = json!({
        "operationId": id(&route.method, route.pattern),
        "tags": [describe.tag],
        "summary": describe.summary,
        "parameters": parameters,
        "responses": responses(route),
    });
    if let Some((media, schema)) = &describe.body {
        operation["requestBody"] = json!({"required": true, "content": {*media: {"schema": schema}}});
    }
    match route.access {
        Access::Public => operation["security"] = json!([]),
        access => {
            operation["security"] = json!([{"bearer": []}, {"apiKey": []}]);
            operation["x-access"] = json!(format!("{access:?}").to_ascii_lowercase());
        }
    }
    operation
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for (status, content) in &route.describe.replies {
        let entry = responses.entry(status.to_string()).or_insert_with(|| json!({"description": "Done"}));
        if let Some((media, schema)) = content {
            entry["content"][*media] = json!({"schema": schema});
        }
    }
    let name = match route.dialect {
        Dialect::OpenAi => "Error",
        Dialect::Lorax => "LoraxError",
    };
    let lorax = [(424, "The generation failed")];
    let extra = lorax.iter().filter(|_| route.dialect == Dialect::Lorax);
    for (status, _) in ERRORS.iter().chain(extra) {
        responses
            .entry(status.to_string())
            .or_insert_with(|| json!({"$ref": format!("#/components/responses/{name}")}));
    }
    responses.insert("500".to_owned(), response("A bug", JSON, schema(name)));
    Value::Object(responses)
}

/// Names in a pattern, in its order.
fn names(pattern: &str) -> impl Iterator<Item = &str> {
    pattern
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
}

fn id(method: &Method, pattern: &str) -> String {
    let words = pattern.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method.as_str().to_ascii_lowercase())
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("_")
}
