//! Registering, calling, restarting: what was acknowledged answers again.

use super::Server;
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Set to rewrite `docs/openapi.json`; a person reads the difference.
const REWRITE: &str = "COLDFRAME_REWRITE_OPENAPI";

fn text(said: &Value) -> String {
    said["choices"][0]["text"].as_str().expect("a text").to_owned()
}

#[test]
fn functions_answer_as_their_adapters_and_again_after_a_restart() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny.clone(), data.path(), |_| {});
    for name in ["a", "b", "c"] {
        server.register(&format!("f-{name}"), name).expect(201);
    }
    let models = server.operator("GET", "/v1/models", &Value::Null).expect(200);
    let ids: Vec<&str> =
        models.value["data"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, ["tiny", "f-a", "f-b", "f-c"]);
    let said: Vec<String> =
        ["tiny", "f-a", "f-b", "f-c"].map(|model| text(&server.say(model).expect(200).value)).to_vec();
    for (place, one) in said.iter().enumerate() {
        assert!(said[..place].iter().all(|other| other != one), "two models say the same: {said:?}");
    }
    assert_eq!(server.say("f-d").expect(404).code(), "model_not_found");
    drop(server);

    let server = Server::start(tiny, data.path(), |_| {});
    let again: Vec<String> =
        ["tiny", "f-a", "f-b", "f-c"].map(|model| text(&server.say(model).expect(200).value)).to_vec();
    assert_eq!(again, said);
    let usage = server.operator("GET", "/admin/v1/usage", &Value::Null).expect(200);
    let rows = usage.value["data"].as_array().expect("a list");
    let requests: u64 = rows.iter().filter_map(|row| row["requests"].as_u64()).sum();
    assert!(requests >= 4, "the first run's four calls are in the ledger: {usage:?}");
}

#[test]
fn a_server_without_keys_is_closed_by_its_first_key() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |config| config.api_key = None);
    server.ask("", "GET", "/admin/v1/functions", &[], "").expect(200);
    let made = server.ask("", "POST", "/admin/v1/keys", &[], r#"{"scope":"operator"}"#).expect(201);
    let key = made.value["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(server.ask("", "GET", "/admin/v1/functions", &[], "").status, 401);
    server.ask(&key, "GET", "/admin/v1/functions", &[], "").expect(200);
    let id = made.value["id"].as_str().expect("an id");
    server.ask(&key, "DELETE", &format!("/admin/v1/keys/{id}"), &[], "").expect(200);
}

#[test]
fn quotas_refuse_and_say_when_to_come_back() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    let quota = json!({"quota": {"rpm": 2, "functions": 1}});
    server.operator("PUT", "/admin/v1/tenants/default", &quota).expect(201);
    server.register("one", "a").expect(201);
    assert_eq!(server.register("two", "b").expect(429).code(), "lora_adapter_limit_exceeded");
    server.say("one").expect(200);
    server.say("one").expect(200);
    assert_eq!(server.say("one").expect(429).code(), "quota_exceeded");
}

#[test]
fn the_committed_description_is_this_builds() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    let document = server.operator("GET", "/api-doc/openapi.json", &Value::Null).expect(200);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let built = format!("{:#}\n", document.value);
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&file, &built).expect("written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == built,
        "docs/openapi.json is out of date: run this test with {REWRITE}=1 and read the diff"
    );
}
