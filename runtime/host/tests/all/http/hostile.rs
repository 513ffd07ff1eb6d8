//! Bodies that nobody should send: each is refused by name, nothing is a 5xx, everything has the envelope.

use super::scripted::{app, chat, get, post, request, send, with};
use proptest::prelude::*;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_refused() {
    let (app, _) = app();
    let deep = format!("{{\"model\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let cases: [(&[u8], &str); 9] = [
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"{\"model\":\"pirate\",\"model\":\"json\"}", "invalid_json"),
        (b"{\"messages\":[{\"role\":\"user\",\"role\":\"system\"}]}", "invalid_json"),
        (b"{\"model\":\"\xff\"}", "invalid_json"),
        (b"{\"model\":\"\\ud800\"}", "invalid_json"),
        (b"{\"temperature\":1e999}", "invalid_json"),
        (b"{\"temperature\":NaN}", "invalid_json"),
        (deep.as_bytes(), "invalid_json"),
    ];
    for (body, code) in cases {
        let got = send(&app, request("POST", CHAT, "acme-invoke", body.to_vec())).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!((got.status, got.code().as_str()), (400, code), "{shown}");
    }
    let got = send(&app, request("POST", CHAT, "acme-invoke", vec![b' '; 5 << 20])).await;
    assert_eq!((got.status, got.code().as_str()), (413, "request_body_too_large"));
    let mut form = request("POST", CHAT, "acme-invoke", "{}");
    form.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_eq!(send(&app, form).await.code(), "invalid_content_type");
}

#[tokio::test]
async fn fields_out_of_bounds_are_named() {
    let (app, seen) = app();
    let bias: serde_json::Map<String, Value> = (0..2000).map(|id| (id.to_string(), json!(1))).collect();
    let stops: Vec<String> = (0..100).map(|place| place.to_string()).collect();
    let tool = json!({"type": "function", "function": {"name": "a b"}});
    let cases = [
        ("n", json!(1_000_000_000)),
        ("n", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(9_223_372_036_854_775_808_u64)),
        ("max_completion_tokens", json!(1.5)),
        ("temperature", json!(1e308)),
        ("temperature", json!("hot")),
        ("top_p", json!(0)),
        ("top_k", json!(-2)),
        ("min_p", json!(1.1)),
        ("presence_penalty", json!(3)),
        ("repetition_penalty", json!(0)),
        ("logit_bias", Value::Object(bias)),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!({"1": 101})),
        ("stop", json!(stops)),
        ("stop", json!("")),
        ("stop", json!([1])),
        ("seed", json!("x")),
        ("top_logprobs", json!(2)),
        ("top_logprobs", json!(21)),
        ("stream", json!("yes")),
        ("stream_options", json!({"include_usage": true})),
        ("response_format.type", json!({"type": "xml"})),
        ("response_format", json!("json")),
        ("response_format.json_schema.schema", json!({"type": "json_schema", "json_schema": {}})),
        ("tools[0].function.name", json!([tool])),
        ("tool_choice", json!("required")),
        ("messages", json!([])),
        ("messages[0].role", json!([{"role": "root", "content": "x"}])),
        ("messages[0].content", json!([{"role": "user", "content": [{"type": "image_url"}]}])),
        ("messages[0]", json!(["x"])),
        ("functions", json!([{"name": "f"}])),
        ("guided_regex", json!("a+")),
        ("min_tokens", json!(5)),
        ("chat_template", json!("{{ x }}")),
        ("chat_template_kwargs", json!({"messages": []})),
        ("best_of", json!(4)),
    ];
    for (param, value) in cases {
        let field = param.split(['.', '[']).next().expect("a field");
        let got = post(&app, CHAT, &with(chat("pirate", "hi"), json!({ field: value }))).await;
        assert_eq!(got.status, 400, "{param}: {}", got.text);
        got.code();
        assert_eq!(got.json()["error"]["param"], param);
    }
    assert!(seen.calls.lock().unwrap().is_empty(), "nothing ran");
}

#[tokio::test]
async fn prompts_out_of_bounds_are_named() {
    let (app, _) = app();
    for prompt in
        [json!(null), json!([]), json!([[]]), json!([1, "x"]), json!(vec!["x"; 65]), json!([-1]), json!({})]
    {
        let got = post(&app, "/v1/completions", &json!({"model": "pirate", "prompt": prompt})).await;
        assert_eq!((got.status, &got.json()["error"]["param"]), (400, &json!("prompt")), "{prompt}");
    }
}

#[tokio::test]
async fn ids_and_queries_hold_nothing_strange() {
    let (app, _) = app();
    assert_eq!(get(&app, "/v1/models/..%2f..%2fsecret", "acme-invoke").await.status, 400);
    let got = send(&app, request("POST", "/sleep?tags=%ff", "operator", "")).await;
    assert_eq!((got.status, got.code().as_str()), (400, "invalid_query"));
}

/// JSON with a liking for the names and values that the routes read.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,8}|\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["pirate", "tiny", "user", "text", "json_schema", "function", "required"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn names() -> impl Strategy<Value = String> {
    let known = vec![
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "prompt",
        "n",
        "stop",
        "stream",
        "tools",
        "function",
        "name",
        "parameters",
        "tool_choice",
        "response_format",
        "json_schema",
        "schema",
        "logprobs",
        "logit_bias",
        "max_tokens",
        "temperature",
        "seed",
        "adapter",
        "generation",
        "lora",
        "id",
        "scale",
        "inputs",
        "adapter_id",
        "tokens",
        "input",
        "stream_options",
        "include_usage",
        "lora_name",
        "lora_path",
        "tool_calls",
        "arguments",
    ];
    prop_oneof![9 => prop::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn bodies() -> impl Strategy<Value = Value> {
    let fields = prop::collection::vec((names(), values()), 0..8);
    (fields, any::<bool>()).prop_map(|(fields, chat_like)| {
        let body = Value::Object(fields.into_iter().collect());
        let base = json!({"model": "pirate", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "inputs": "x"});
        if chat_like { with(base, body) } else { body }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn no_body_is_a_bug(body in bodies()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (app, seen) = app();
            for route in app.router.routes().iter().filter(|route| route.method == "POST" && !route.pattern.contains('{')) {
                let got = send(&app, request("POST", route.pattern, "operator", body.to_string())).await;
                assert!(got.status < 500, "{} {body}: {}", route.pattern, got.text);
                if got.status >= 400 {
                    let error = got.json();
                    let shaped = error["error"]["code"].is_string() || error["error_type"].is_string();
                    assert!(shaped, "{} {body}: {}", route.pattern, got.text);
                }
            }
            assert_eq!(seen.panics.load(std::sync::atomic::Ordering::SeqCst), 0);
        });
    }
}
