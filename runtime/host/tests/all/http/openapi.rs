//! The description of the API: the committed file, and that it leaves nothing out.

use super::scripted::{app, get};
use serde_json::Value;
use std::path::Path;

/// Set to rewrite `docs/openapi.json`; a person reads the difference.
const REWRITE: &str = "COLDFRAME_REWRITE_OPENAPI";

#[test]
fn the_committed_description_is_this_builds() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let built = format!("{:#}\n", app().0.openapi);
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&file, &built).expect("written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == built,
        "docs/openapi.json is out of date: run this test with {REWRITE}=1 and read the diff"
    );
}

/// Every `$ref` of a document.
fn references<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, into));
        }
        _ => {}
    }
}

#[test]
fn every_route_is_described_and_every_reference_leads_somewhere() {
    let (app, _) = app();
    for route in app.router.routes() {
        let path = route.pattern.replace("{*", "{");
        let operation = &app.openapi["paths"][&path][route.method.as_str().to_ascii_lowercase()];
        assert!(operation["summary"].is_string() && operation["responses"]["400"].is_object(), "{path}");
    }
    let mut found = Vec::new();
    references(&app.openapi, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("inside the document");
        assert!(app.openapi.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_page_names_every_route() {
    let (app, _) = app();
    let got = get(&app, "/docs", "").await;
    assert!(got.header("content-security-policy").contains("default-src 'none'"));
    for path in app.openapi["paths"].as_object().expect("paths").keys() {
        assert!(got.text.contains(path.as_str()), "{path}");
    }
    assert_eq!(get(&app, "/api-doc/openapi.json", "").await.json(), app.openapi);
}
