//! Who may do what, over every route of the table; and one tenant before another's door.

use super::scripted::{app, app_with, chat, get, post, request, send, with};
use coldframe_host::http::router::Access;
use coldframe_host::http::{Settings, auth};
use serde_json::json;

/// A path of a pattern.
fn path_of(pattern: &str) -> String {
    pattern.replace("{*path}", "x").replace("{*id}", "x").replace("{function}", "x")
}

#[tokio::test]
async fn every_route_holds_its_access() {
    let (app, _) = app();
    for route in app.router.routes() {
        let ask = async |key: &str| {
            send(&app, request(route.method.as_str(), &path_of(route.pattern), key, "{}")).await.status
        };
        let shown = format!("{} {}", route.method, route.pattern);
        let (none, wrong) = (ask("").await, ask("wrong").await);
        if route.access == Access::Public {
            assert!(none != 401 && wrong != 401, "{shown} is public");
            continue;
        }
        assert_eq!((none, wrong), (401, 401), "{shown}");
        let forbidden = async |key: &str| ask(key).await == 403;
        assert_eq!(forbidden("acme-invoke").await, route.access != Access::Invoke, "{shown}");
        assert_eq!(forbidden("acme-admin").await, route.access == Access::Operator, "{shown}");
        assert!(!forbidden("operator").await, "{shown}");
    }
}

#[tokio::test]
async fn anothers_function_is_as_absent_as_no_function() {
    let (app, seen) = app();
    for name in ["secret", "nobody"] {
        let bodies = [
            ("/v1/chat/completions", chat(name, "hi")),
            ("/v1/chat/completions", with(chat("tiny", "hi"), json!({"adapter": name}))),
            ("/v1/completions", json!({"model": name, "prompt": "hi"})),
            ("/v1/embeddings", json!({"model": name, "input": "hi"})),
            ("/tokenize", json!({"model": name, "prompt": "hi"})),
            ("/apply-template", chat(name, "hi")),
        ];
        for (path, body) in bodies {
            let got = post(&app, path, &body).await;
            assert_eq!((got.status, got.code().as_str()), (404, "model_not_found"), "{path} {name}");
            let message = got.json()["error"]["message"].as_str().unwrap().replace(name, "");
            assert!(message.contains("does not exist"), "{message}");
        }
        let got = send(&app, request("GET", &format!("/invoke/{name}"), "acme-invoke", "")).await;
        assert_eq!((got.status, got.code().as_str()), (404, "model_not_found"));
    }
    let secret = json!({"generation": super::scripted::digest('d')});
    let got = post(&app, "/v1/chat/completions", &with(chat("tiny", "hi"), json!({"adapter": secret}))).await;
    assert_eq!(got.status, 404, "a generation of another tenant");
    assert!(seen.calls.lock().unwrap().is_empty(), "nothing ran");
}

#[tokio::test]
async fn secrets_come_in_two_headers_that_must_agree() {
    let (app, _) = app();
    let with_headers = async |headers: &[(&'static str, &'static str)]| {
        let mut asked = request("GET", "/v1/models", "", "");
        for (name, value) in headers {
            asked.headers_mut().insert(*name, value.parse().unwrap());
        }
        send(&app, asked).await.status
    };
    assert_eq!(with_headers(&[("x-api-key", "acme-invoke")]).await, 200);
    assert_eq!(with_headers(&[("authorization", "bearer acme-invoke")]).await, 200);
    assert_eq!(with_headers(&[("authorization", "Basic acme-invoke")]).await, 401);
    assert_eq!(with_headers(&[("authorization", "Bearer ")]).await, 401);
    let both = [("authorization", "Bearer acme-invoke"), ("x-api-key", "zeta-invoke")];
    assert_eq!(with_headers(&both).await, 400);
    let got = get(&app, "/v1/models", "blocked").await;
    assert_eq!((got.status, got.header("retry-after")), (429, "9"));
    assert_eq!(get(&app, "/v1/models", "").await.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn an_open_server_answers_no_foreign_page() {
    let (app, _) = app_with(Settings { open: true, ..Settings::default() });
    let ask = async |host: &'static str, origin: Option<&'static str>| {
        let mut asked = request("GET", "/health", "", "");
        asked.headers_mut().insert("host", host.parse().unwrap());
        if let Some(origin) = origin {
            asked.headers_mut().insert("origin", origin.parse().unwrap());
        }
        send(&app, asked).await.status
    };
    assert_eq!(ask("127.0.0.1:8000", None).await, 200);
    assert_eq!(ask("localhost:8000", Some("http://localhost:8000")).await, 200);
    assert_eq!(ask("[::1]:8000", None).await, 200);
    assert_eq!(ask("localhost:8000", Some("https://evil.example")).await, 403);
    assert_eq!(ask("rebound.example:8000", None).await, 403);
}

#[test]
fn a_server_without_keys_stays_on_its_own_machine() {
    let check = |address: &str, open| auth::check_exposure(address.parse().unwrap(), open);
    assert!(check("127.0.0.1:1", true).is_ok() && check("[::1]:1", true).is_ok());
    assert!(check("0.0.0.0:1", true).is_err() && check("[::]:1", true).is_err());
    assert!(check("0.0.0.0:1", false).is_ok());
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_say_so() {
    let (app, _) = app();
    let got = send(&app, request("DELETE", "/v1/chat/completions", "acme-invoke", "")).await;
    assert_eq!((got.status, got.header("allow")), (405, "OPTIONS, POST"));
    assert_eq!(got.code(), "method_not_allowed");
    let got = send(&app, request("OPTIONS", "/v1/models", "", "")).await;
    assert_eq!((got.status, got.header("allow")), (204, "GET, HEAD, OPTIONS"));
    let got = send(&app, request("HEAD", "/health", "", "")).await;
    assert_eq!((got.status, got.text.as_str()), (200, ""));
    assert_eq!(get(&app, "/nowhere", "").await.code(), "not_found");
    for id in ["..%2f..%2fetc", "a%00b", "%252e%252e", "%zz", "%2e%2e", "a%0d%0ab"] {
        let got = get(&app, &format!("/invoke/{id}"), "acme-invoke").await;
        assert_eq!((got.status, got.code().as_str()), (400, "invalid_path"), "{id}");
    }
}

#[tokio::test]
async fn probes_say_different_things() {
    let (app, _) = app();
    assert_eq!(get(&app, "/ready", "").await.status, 200);
    let got = send(&app, request("POST", "/sleep?level=1&tags=weights", "operator", "")).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(get(&app, "/is_sleeping", "acme-invoke").await.json()["is_sleeping"], true);
    assert_eq!(get(&app, "/ready", "").await.code(), "not_ready");
    assert_eq!(get(&app, "/health", "").await.status, 200, "it is up all the same");
    assert_eq!(send(&app, request("POST", "/wake_up", "operator", "")).await.status, 200);
    assert_eq!(get(&app, "/ready", "").await.status, 200);
    let got = send(&app, request("POST", "/sleep?level=9", "operator", "")).await;
    assert_eq!((got.status, got.code().as_str()), (400, "invalid_value"));
}
