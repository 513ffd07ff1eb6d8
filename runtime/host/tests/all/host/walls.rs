//! The wall between tenants on every route that is no administration: inference, dialects of other servers, probes.
//!
//! Routes come from the API's own description. A body of a kind that is not known here fails the test: whoever adds a
//! route says how it names a function, and has it tried.

use super::Server;
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::sync::Arc;

/// The other tenant's function, and one that nobody has.
const THEIRS: &str = "hidden-one";
const NOBODYS: &str = "absent-one";

/// A body that names a function, by the schema of a route's body.
fn body(schema: &str, function: &str) -> Value {
    let messages = json!([{"role": "user", "content": "x"}]);
    match schema {
        "ChatCompletionRequest" => json!({"model": function, "messages": messages, "max_tokens": 1}),
        "CompletionRequest" => json!({"model": function, "prompt": "x", "max_tokens": 1}),
        "EmbeddingRequest" => json!({"model": function, "input": "x"}),
        "GenerateRequest" => {
            json!({"inputs": "x", "parameters": {"adapter_id": function, "max_new_tokens": 1}})
        }
        "TokenizeRequest" => json!({"model": function, "prompt": "x"}),
        "DetokenizeRequest" => json!({"model": function, "tokens": [1]}),
        "TemplateRequest" => json!({"model": function, "messages": messages}),
        "LoadAdapterRequest" => json!({"lora_name": function, "lora_path": "/nowhere", "load_inplace": true}),
        "UnloadAdapterRequest" => json!({"lora_name": function}),
        "LlamaScales" => json!([{"id": 0, "scale": 1.0}]),
        // Raw bodies: the function is in the path.
        "*/*" => json!({}),
        other => panic!("a new kind of body, {other}: say here how it names a function"),
    }
}

/// A route as the description has it.
struct Operation {
    method: String,
    path: String,
    schema: Option<String>,
    public: bool,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if path.starts_with("/admin/v1/") {
            continue;
        }
        for (method, operation) in methods.as_object().expect("methods") {
            let content = operation["requestBody"]["content"].as_object();
            let schema = content.and_then(|content| content.iter().next()).map(|(media, body)| {
                let named = body["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
                named.map_or_else(|| media.clone(), str::to_owned)
            });
            let public = operation["security"] == json!([]);
            all.push(Operation { method: method.to_uppercase(), path: path.clone(), schema, public });
        }
    }
    all
}

/// Ways to name a function; the last part stands for its generation.
fn names(function: &str, generation: &str) -> Vec<String> {
    vec![
        function.to_owned(),
        format!("{function}@live"),
        format!("{function}@{generation}"),
        format!("tiny:{function}"),
        format!("tiny::{function}"),
    ]
}

#[test]
fn every_other_route_keeps_the_wall() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(Arc::new(Tiny::new()), data.path(), |config| {
        config.runtime_lora_updating = true;
    });
    for tenant in ["acme", "evil"] {
        server.operator("PUT", &format!("/admin/v1/tenants/{tenant}"), &json!({})).expect(201);
    }
    let uri = format!("file://{}", server.tiny.adapter("a").display());
    let spec = json!({"adapters": [{"uri": uri}]});
    let made =
        server.operator("PUT", &format!("/admin/v1/functions/{THEIRS}?tenant=acme"), &spec).expect(201);
    let generation = made.value["generation"].as_str().expect("a generation").to_owned();
    let (owner, evil) = (server.key("acme", "admin"), server.key("evil", "admin"));

    let document = server.operator("GET", "/api-doc/openapi.json", &Value::Null).expect(200).value;
    let operations = operations(&document);
    assert!(operations.len() > 35, "{} routes", operations.len());
    let mut public = Vec::new();
    for Operation { method, path, schema, public: open } in &operations {
        let ask = |key: &str, name: &str| {
            let path = path.replace("{function}", name).replace("{id}", name).replace("{path}", "x");
            let sent = schema.as_ref().map(|schema| body(schema, name).to_string()).unwrap_or_default();
            server.ask(key, method, &path, &[], &sent)
        };
        if *open {
            // It is the same for everybody, and names nobody's function.
            public.push(path.as_str());
            let said = ask(&evil, THEIRS);
            assert!(
                said.status < 500 && !said.text.contains(THEIRS) && !said.text.contains(&generation),
                "{path}"
            );
            continue;
        }
        assert_eq!(ask("", THEIRS).status, 401, "{method} {path}");
        let nobodys = "0".repeat(64);
        for (name, nothing) in names(THEIRS, &generation).iter().zip(names(NOBODYS, &nobodys)) {
            let (theirs, nothing) = (ask(&evil, name), ask(&evil, &nothing));
            assert!(theirs.status < 500, "{method} {path} {name}: {}", theirs.text);
            // It names the caller's own words at most; what is answered is the same as of what never was.
            let same = |text: &str| {
                // Messages show the first characters of long names.
                let text = (8..=64).rev().fold(text.replace(THEIRS, NOBODYS), |text, length| {
                    text.replace(&generation[..length], &nobodys[..length])
                });
                let mut value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                value.as_object_mut().map(|fields| fields.remove("id"));
                value
            };
            let (one, other) = (same(&theirs.text), same(&nothing.text));
            assert_eq!((theirs.status, &one), (nothing.status, &other), "{method} {path} {name}");
            assert!(!theirs.text.contains("acme"), "{method} {path} {name}: {}", theirs.text);
            let names_it = schema.is_some() && schema.as_deref() != Some("LlamaScales") || path.contains('{');
            if names_it {
                assert!([400, 403, 404].contains(&theirs.status), "{method} {path} {name}: {}", theirs.text);
            } else {
                assert!(!theirs.text.contains(THEIRS), "{method} {path}: {}", theirs.text);
            }
            if !name.contains('@') {
                assert!(!theirs.text.contains(&generation), "{method} {path} {name}: {}", theirs.text);
            }
        }
    }
    // What is open to all is a short list that somebody thought about.
    public.sort_unstable();
    let thought =
        ["/", "/api-doc/openapi.json", "/docs", "/health", "/ping", "/ready", "/startup", "/version"];
    assert_eq!(public, thought);
    // All of that changed nothing for its owner, who reaches it by each of its names.
    for name in &names(THEIRS, &generation)[..3] {
        let call = json!({"model": name, "prompt": "x", "max_tokens": 1}).to_string();
        server.ask(&owner, "POST", "/v1/completions", &[], &call).expect(200);
    }
}

#[test]
fn what_one_tenant_asked_is_not_in_the_prefix_cache_of_another() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(Arc::new(Tiny::new()), data.path(), |_| {});
    for tenant in ["acme", "evil"] {
        server.operator("PUT", &format!("/admin/v1/tenants/{tenant}"), &json!({})).expect(201);
    }
    let (acme, evil) = (server.key("acme", "invoke"), server.key("evil", "invoke"));
    let prompt = "a long prompt that fills more than one page ".repeat(4);
    let call = json!({"model": "tiny", "prompt": prompt, "max_tokens": 1}).to_string();
    let cached = |key: &str| {
        let said = server.ask(key, "POST", "/v1/completions", &[], &call).expect(200);
        said.value["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0)
    };
    assert_eq!(cached(&acme), 0);
    assert!(cached(&acme) > 0, "the same tenant's prompt is cached, or this shows nothing");
    assert_eq!(cached(&evil), 0);
}
