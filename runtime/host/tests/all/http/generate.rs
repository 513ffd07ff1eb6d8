//! LoRAX's routes: replies, streams, headers, errors.

use super::scripted::{app, digest, post};
use coldframe_host::call::Work;
use serde_json::json;

#[tokio::test]
async fn lorax_clients_find_their_fields_and_headers() {
    let (app, seen) = app();
    let body =
        json!({"inputs": "hi", "parameters": {"adapter_id": "pirate", "details": true, "max_new_tokens": 9}});
    let got = post(&app, "/generate", &body).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let reply = got.json();
    assert_eq!(reply["generated_text"], "Hello from pirate");
    let details = &reply["details"];
    assert_eq!((&details["finish_reason"], &details["prompt_tokens"]), (&json!("eos_token"), &json!(7)));
    assert_eq!(details["tokens"][1], json!({"id": 1, "text": " from", "logprob": -0.5, "special": false}));
    assert_eq!((got.header("x-adapter-id"), got.header("x-model-id")), ("pirate", "tiny"));
    assert_eq!((got.header("x-prompt-tokens"), got.header("x-generated-tokens")), ("7", "4"));
    assert_eq!((got.header("x-time-to-first-token"), got.header("x-queue-time")), ("45", "35"));
    for header in ["x-compute-type", "x-total-time", "x-inference-time", "x-time-per-token", "server-timing"]
    {
        got.header(header);
    }
    let call = seen.last();
    assert_eq!((call.params.max_tokens, call.params.temperature), (Some(9), 0.0), "greedy unless sampled");
    assert_eq!(call.generation.expect("bound").id, digest('a'));
}

#[tokio::test]
async fn the_last_token_of_a_stream_carries_the_text() {
    let (app, _) = app();
    let body = json!({"inputs": "hi", "parameters": {"adapter_id": "pirate", "return_full_text": true}});
    let got = post(&app, "/generate_stream", &body).await;
    let lines = got.lines();
    let (last, before) = lines.split_last().expect("lines");
    assert!(before.iter().all(|line| line["generated_text"].is_null() && line["details"].is_null()));
    assert_eq!(last["generated_text"], "hiHello from pirate");
    assert_eq!(last["details"]["generated_tokens"], 4);
    let text: String = lines.iter().filter_map(|line| line["token"]["text"].as_str()).collect();
    assert_eq!(text, "Hello from pirate");
    assert_eq!(got.header("x-adapter-id"), "pirate");
}

#[tokio::test]
async fn errors_have_loraxs_form_and_statuses() {
    let (app, _) = app();
    let ask = async |inputs: &str, parameters: serde_json::Value| {
        post(&app, "/generate", &json!({"inputs": inputs, "parameters": parameters})).await
    };
    for (inputs, parameters, status, kind) in [
        ("hi", json!({"temperature": -1}), 422, "validation"),
        ("hi", json!({"max_new_tokens": 0}), 422, "validation"),
        ("hi", json!({"merged_adapters": {"adapter_ids": ["a"]}}), 422, "validation"),
        ("hi", json!({"adapter_id": "nobody"}), 404, "not_found"),
        ("overload", json!({}), 429, "overloaded"),
        ("deadline", json!({}), 424, "generation"),
        ("bug", json!({}), 500, "incomplete_generation"),
    ] {
        let got = ask(inputs, parameters.clone()).await;
        let reply = got.json();
        assert_eq!((got.status, &reply["error_type"]), (status, &json!(kind)), "{inputs} {parameters}");
        assert!(reply["error"].is_string());
    }
    let message = ask("hi", json!({"max_new_tokens": 0})).await.json()["error"].to_string();
    assert!(message.contains("max_new_tokens"), "by the caller's own name: {message}");
    let lines = post(&app, "/generate_stream", &json!({"inputs": "break"})).await.lines();
    assert_eq!(lines.last().expect("lines")["error_type"], "generation");
}

#[tokio::test]
async fn sglang_names_its_adapter_beside_the_parameters() {
    let (app, seen) = app();
    post(&app, "/generate", &json!({"inputs": "hi", "lora_path": "pirate"})).await;
    assert_eq!(seen.last().names.function, "pirate");
    post(&app, "/generate", &json!({"inputs": "hi", "lora_path": [null]})).await;
    assert_eq!(seen.last().names.function, "tiny");
    let body = json!({"inputs": "hi", "parameters": {"apply_chat_template": true}});
    post(&app, "/generate", &body).await;
    assert!(matches!(seen.last().work, Work::Chat { .. }));
}
