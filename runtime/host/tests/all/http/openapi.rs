//! The description of the API: that it leaves nothing out. The committed file is compared with a whole server's.

use super::scripted::{app, get};
use serde_json::Value;

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
