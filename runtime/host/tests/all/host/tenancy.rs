//! With keys of one tenant nothing of another can be seen, changed or told from what is not there.
//!
//! The matrix comes from the routes of the API's own description, so that a new route is in it from its first day. The
//! routes that are no administration are in `walls`.

use super::{OPERATOR, Server};
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::sync::Arc;

/// A body that gets past the form of a route, where it takes one.
fn body(pattern: &str) -> &'static str {
    match pattern.rsplit('/').next().unwrap_or_default() {
        "pin" => r#"{"pinned":true}"#,
        "{alias}" => {
            r#"{"targets":[{"generation":"0000000000000000000000000000000000000000000000000000000000000000","weight":1}]}"#
        }
        "keys" => r#"{"scope":"invoke"}"#,
        "policy" => r#"{"policy":"coldframe"}"#,
        "backups" => r#"{"name":"b"}"#,
        _ => "{}",
    }
}

#[test]
fn every_admin_route_keeps_the_wall() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(Arc::new(Tiny::new()), data.path(), |_| {});
    server.operator("PUT", "/admin/v1/tenants/acme", &json!({})).expect(201);
    server.operator("PUT", "/admin/v1/tenants/evil", &json!({})).expect(201);
    let uri = format!("file://{}", server.tiny.adapter("a").display());
    let spec = json!({"adapters": [{"uri": uri}]});
    let made = server.operator("PUT", "/admin/v1/functions/secret?tenant=acme", &spec).expect(201);
    let generation = made.value["generation"].as_str().expect("a generation").to_owned();
    let (evil, caller) = (server.key("evil", "admin"), server.key("evil", "invoke"));
    let acme_key = server.operator("GET", "/admin/v1/keys?tenant=acme", &Value::Null);
    assert_eq!(acme_key.value["data"], json!([]));
    let owner = server.key("acme", "admin");
    let owner_id = owner.split('_').nth(1).expect("an id").to_owned();

    let document = server.operator("GET", "/api-doc/openapi.json", &Value::Null).expect(200).value;
    let mut routes = 0;
    for (pattern, methods) in document["paths"].as_object().expect("paths") {
        if !pattern.starts_with("/admin/v1/") {
            continue;
        }
        for method in methods.as_object().expect("methods").keys() {
            let method = method.to_uppercase();
            routes += 1;
            let fill = |function: &str, key: &str| {
                pattern
                    .replace("{function}", function)
                    .replace("{generation}", &generation)
                    .replace("{alias}", "canary")
                    .replace("{tenant}", "acme")
                    .replace("{key}", key)
                    .replace("{backbone}", "tiny")
            };
            let sent = if method == "GET" || method == "DELETE" { "" } else { body(pattern) };
            let path = fill("secret", &owner_id);
            // Nobody, and whoever may only call.
            assert_eq!(server.ask("", &method, &path, &[], sent).status, 401, "{method} {path}");
            assert_eq!(server.ask(&caller, &method, &path, &[], sent).status, 403, "{method} {path}");
            // Another tenant's thing is as absent as one that never was. A registration makes one's own.
            let registers =
                pattern.ends_with("/functions/{function}") && method == "PUT" || pattern.ends_with("dry-run");
            if !registers
                && (pattern.contains("{function}")
                    || pattern.contains("{key}")
                    || pattern.contains("{tenant}"))
            {
                let theirs = server.ask(&evil, &method, &path, &[], sent);
                let nothing = fill("nothing", "0123456789abcdef").replace("/acme", "/nobody");
                let nothing = server.ask(&evil, &method, &nothing, &[], sent);
                assert!([403, 404].contains(&theirs.status), "{method} {path}: {}", theirs.text);
                assert_eq!(
                    (theirs.status, &theirs.value),
                    (nothing.status, &nothing.value),
                    "{method} {path}"
                );
            }
            // Naming the other tenant does not help.
            let asked = format!("{path}?tenant=acme");
            let named = server.ask(&evil, &method, &asked, &[], sent);
            assert!([400, 403, 404].contains(&named.status), "{method} {asked}: {}", named.text);
            assert!(!named.text.contains(&generation), "{method} {asked}");
        }
    }
    assert!(routes > 30, "{routes} routes");
    // All of that changed nothing.
    server.operator("GET", "/admin/v1/functions/secret?tenant=acme", &Value::Null).expect(200);
    server.ask(&owner, "GET", "/admin/v1/functions/secret", &[], "").expect(200);
    for list in ["functions", "keys", "audit", "usage", "residency"] {
        let seen = server.ask(&evil, "GET", &format!("/admin/v1/{list}"), &[], "").expect(200);
        // The audit holds what was asked for, refused: names that the asker knew, and nothing else.
        assert!(!seen.text.contains(&generation) && !seen.text.contains("acme"), "{list}: {}", seen.text);
        assert!(list == "audit" || !seen.text.contains("\"secret\""), "{list}: {}", seen.text);
    }
}

#[test]
fn a_key_gives_no_more_than_it_has() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(Arc::new(Tiny::new()), data.path(), |_| {});
    server.operator("PUT", "/admin/v1/tenants/acme", &json!({})).expect(201);
    let admin = server.key("acme", "admin");
    let more = server.ask(&admin, "POST", "/admin/v1/keys", &[], r#"{"scope":"operator"}"#);
    assert_eq!(more.expect(403).code(), "scope_required");
    let own = server.ask(&admin, "POST", "/admin/v1/keys", &[], r#"{"scope":"invoke"}"#).expect(201);
    let (id, secret) =
        (own.value["id"].as_str().expect("an id"), own.value["secret"].as_str().expect("a secret"));
    server.ask(secret, "GET", "/v1/models", &[], "").expect(200);
    server.ask(&admin, "DELETE", &format!("/admin/v1/keys/{id}"), &[], "").expect(200);
    assert_eq!(server.ask(secret, "GET", "/v1/models", &[], "").status, 401);
    let listed = server.ask(&admin, "GET", "/admin/v1/keys", &[], "").expect(200);
    assert!(!listed.text.contains("secret"), "{}", listed.text);
    server.operator("DELETE", "/admin/v1/tenants/acme", &Value::Null).expect(200);
    assert_eq!(server.ask(&admin, "GET", "/admin/v1/keys", &[], "").status, 401);
    assert_eq!(server.ask(OPERATOR, "GET", "/admin/v1/tenants/acme", &[], "").status, 404);
}
