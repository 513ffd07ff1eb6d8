//! Generations, aliases, compare-and-swap, idempotency, dry runs: the registry as its users see it.

use super::{OPERATOR, Server};
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::sync::Arc;

const PATH: &str = "/admin/v1/functions/pirate";

fn server() -> (Server, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a folder");
    (Server::start(Arc::new(Tiny::new()), data.path(), |_| {}), data)
}

fn generation(said: &super::Said) -> String {
    said.value["generation"].as_str().expect("a generation").to_owned()
}

#[test]
fn a_put_is_idempotent_and_a_rollback_goes_back() {
    let (server, _data) = server();
    let first = server.register("pirate", "a").expect(201);
    let again = server.register("pirate", "a").expect(200);
    assert_eq!((&first.etag, generation(&first)), (&again.etag, generation(&again)));
    assert_eq!(again.value["changed"], false);

    let second = server.register("pirate", "b").expect(200);
    assert_ne!(generation(&second), generation(&first));
    let back = server.operator("POST", &format!("{PATH}/rollback"), &Value::Null).expect(200);
    assert_eq!(back.value["aliases"]["live"][0]["generation"], generation(&first));
    let nothing = server.operator("POST", &format!("{PATH}/rollback"), &json!({})).expect(409);
    assert_eq!(nothing.code(), "nothing_before");

    let split = json!({"targets": [
        {"generation": generation(&first), "weight": 1}, {"generation": generation(&second), "weight": 3},
    ]});
    server.operator("PUT", &format!("{PATH}/aliases/canary"), &split).expect(200);
    let unknown = json!({"targets": [{"generation": "0".repeat(64), "weight": 1}]});
    server.operator("PUT", &format!("{PATH}/aliases/canary"), &unknown).expect(404);
    let named = server.say(&format!("pirate@{}", generation(&second))).expect(200);
    assert_eq!(named.value["adapter_generation"], generation(&second));

    server.operator("DELETE", PATH, &Value::Null).expect(200);
    server.operator("GET", PATH, &Value::Null).expect(404);
    server.say("pirate").expect(404);
}

#[test]
fn one_writer_wins_a_revision() {
    let (server, _data) = server();
    let first = server.register("pirate", "a").expect(201);
    let etag = first.etag.expect("an ETag");
    let uri = format!("file://{}", server.tiny.adapter("b").display());
    let body = json!({"adapters": [{"uri": uri}]}).to_string();
    server.ask(OPERATOR, "PUT", PATH, &[("if-match", &etag)], &body).expect(200);
    let pin = r#"{"pinned":true}"#;
    let late = server.ask(OPERATOR, "PUT", &format!("{PATH}/pin"), &[("if-match", &etag)], pin).expect(412);
    assert_eq!(late.code(), "revision_mismatch");
    let there = server.ask(OPERATOR, "PUT", PATH, &[("if-none-match", "*")], &body).expect(412);
    assert_eq!(there.code(), "revision_mismatch");
    let expected = json!({"adapters": [{"uri": uri}], "expected_generation": "0".repeat(64)});
    assert_eq!(server.operator("PUT", PATH, &expected).expect(409).code(), "lora_generation_mismatch");

    // Threads that all read one revision: exactly one may write it.
    for _ in 0..5 {
        let etag = server.operator("GET", PATH, &Value::Null).expect(200).etag.expect("an ETag");
        let now = server.operator("GET", PATH, &Value::Null).value["pinned"].as_bool().expect("a flag");
        let body = json!({"pinned": !now}).to_string();
        let won = std::thread::scope(|scope| {
            let write = || {
                let headers = [("if-match", etag.as_str())];
                server.ask(OPERATOR, "PUT", &format!("{PATH}/pin"), &headers, &body).status
            };
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
            writers.into_iter().map(|writer| writer.join().expect("a status")).filter(|s| *s == 200).count()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn an_idempotency_key_gives_the_first_answer_again() {
    let (server, _data) = server();
    let headers = [("idempotency-key", "once")];
    let uri = format!("file://{}", server.tiny.adapter("a").display());
    let body = json!({"adapters": [{"uri": uri}]}).to_string();
    let first = server.ask(OPERATOR, "PUT", PATH, &headers, &body).expect(201);
    let again = server.ask(OPERATOR, "PUT", PATH, &headers, &body).expect(201);
    assert_eq!((first.value, first.etag), (again.value, again.etag));
    let other = server.ask(OPERATOR, "PUT", PATH, &headers, "{}").expect(409);
    assert_eq!(other.code(), "idempotency_key_reused");
    let made = server.ask(OPERATOR, "POST", "/admin/v1/keys", &headers, r#"{"scope":"invoke"}"#);
    assert_eq!(made.expect(409).code(), "idempotency_key_reused");
    let headers = [("idempotency-key", "a key")];
    server.ask(OPERATOR, "POST", "/admin/v1/keys", &headers, r#"{"scope":"invoke"}"#).expect(201);
    let twice = server.ask(OPERATOR, "POST", "/admin/v1/keys", &headers, r#"{"scope":"invoke"}"#);
    assert_eq!(twice.expect(409).code(), "key_made_already");
}

#[test]
fn bodies_and_names_are_held_to_their_form() {
    let (server, _data) = server();
    for (path, body, status, code) in [
        (PATH, r#"{"tenant":"evil"}"#, 400, "invalid_request_body"),
        (PATH, r#"{"settings":{"fule":1}}"#, 400, "invalid_request_body"),
        (PATH, r#"{"adapters":[{"name":"x"}]}"#, 400, "invalid_request"),
        (PATH, r#"{"backbone":"other"}"#, 409, "unknown_backbone"),
        (PATH, "[]", 400, ""),
        ("/admin/v1/functions/tiny", "{}", 409, "name_is_a_backbone"),
        ("/admin/v1/functions/..%2f..%2fetc", "{}", 400, ""),
        ("/admin/v1/functions/a%00b", "{}", 400, ""),
        ("/admin/v1/functions/a%250d%250ab", "{}", 400, ""),
        ("/admin/v1/functions/x?limit=5", "{}", 400, ""),
    ] {
        let said = server.ask(OPERATOR, "PUT", path, &[], body).expect(status);
        assert!(code.is_empty() || said.code() == code, "{path}: {}", said.text);
    }
    let dry = server.operator("POST", &format!("{PATH}/dry-run"), &json!({"backbone": "other"})).expect(200);
    assert_eq!(
        (&dry.value["fits"], &dry.value["problems"][0]["code"]),
        (&json!(false), &json!("unknown_backbone"))
    );
    let uri = format!("file://{}", server.tiny.adapter("a").display());
    let dry = server.operator("POST", &format!("{PATH}/dry-run"), &json!({"adapters": [{"uri": uri}]}));
    assert_eq!(dry.expect(200).value["fits"], true);
    server.operator("GET", PATH, &Value::Null).expect(404);
}

#[test]
fn lists_have_pages_and_changes_leave_a_line() {
    let (server, _data) = server();
    for name in ["a", "b", "c"] {
        server.register(&format!("f-{name}"), name).expect(201);
    }
    let first = server.operator("GET", "/admin/v1/functions?limit=2", &Value::Null).expect(200);
    let cursor = first.value["next"].as_str().expect("a cursor").to_owned();
    let second =
        server.operator("GET", &format!("/admin/v1/functions?limit=2&cursor={cursor}"), &Value::Null);
    let second = second.expect(200);
    assert_eq!(second.value["data"][0]["function"], "f-c");
    assert!(second.value["next"].is_null());
    server.operator("GET", &format!("/admin/v1/keys?cursor={cursor}"), &Value::Null).expect(404);
    server.operator("GET", "/admin/v1/functions?limit=0", &Value::Null).expect(400);

    server.operator("DELETE", "/admin/v1/functions/nothing", &Value::Null).expect(404);
    let audit = server.operator("GET", "/admin/v1/audit", &Value::Null).expect(200);
    let lines = audit.value["data"].as_array().expect("a list");
    assert_eq!((&lines[0]["action"], &lines[0]["outcome"]), (&json!("function_delete"), &json!("not_found")));
    let puts = lines.iter().filter(|line| line["action"] == "function_put" && line["outcome"] == "ok");
    assert_eq!(puts.count(), 3);
}
