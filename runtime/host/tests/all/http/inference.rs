//! Chats, completions, models and tokens: replies and streams field by field.

use super::scripted::{BASE, app, chat, digest, get, post, request, send, with};
use coldframe_host::call::{Finish, Shape, ToolChoice, Work};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn stream(body: Value) -> Value {
    with(body, json!({"stream": true}))
}

#[tokio::test]
async fn a_chat_is_answered_in_openais_form() {
    let (app, seen) = app();
    let got = post(&app, CHAT, &chat("pirate", "hi")).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let reply = got.json();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "pirate");
    assert_eq!(reply["adapter_generation"], digest('a'));
    assert_eq!(reply["system_fingerprint"], "fp_tiny");
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "Hello from pirate");
    assert_eq!((&choice["finish_reason"], &choice["logprobs"]), (&json!("stop"), &Value::Null));
    assert_eq!(reply["usage"]["total_tokens"], 7 + 4);
    assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert_eq!(seen.last().names.tenant, "acme");
    assert_eq!(seen.exchanges.lock().unwrap()[0].model.as_deref(), Some("pirate"));
}

#[tokio::test]
async fn phases_stand_in_every_reply_and_sum_to_the_first_token() {
    let (app, _) = app();
    for body in [chat("pirate", "hi"), stream(chat("pirate", "hi"))] {
        let got = post(&app, CHAT, &body).await;
        let timing = got.header("server-timing");
        let of = |name: &str| {
            let entry = timing.split(", ").find_map(|entry| entry.strip_prefix(&format!("{name};dur=")));
            entry.unwrap_or_else(|| panic!("no {name} in {timing}")).parse::<f64>().expect("a number")
        };
        let names = [
            "prepare",
            "parked",
            "adapter_read",
            "adapter_load",
            "backbone",
            "module",
            "handler",
            "queue",
            "prefill",
        ];
        let sum: f64 = names.iter().map(|name| of(name)).sum();
        assert!((sum - of("ttft")).abs() < 1e-6 && sum == 45.0, "{timing}");
        assert!(timing.contains("cold;desc=\"disk\""), "{timing}");
    }
}

#[tokio::test]
async fn a_stream_has_its_role_first_and_its_reason_last() {
    let (app, _) = app();
    let body = with(stream(chat("pirate", "hi")), json!({"stream_options": {"include_usage": true}}));
    let got = post(&app, CHAT, &body).await;
    assert_eq!(got.header("content-type"), "text/event-stream; charset=utf-8");
    let lines = got.lines();
    let (done, chunks) = lines.split_last().expect("lines");
    assert_eq!(done, "[DONE]");
    let (usage, chunks) = chunks.split_last().expect("chunks");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(4)));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(
        chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["usage"].is_null())
    );
    assert!(chunks.iter().all(|chunk| chunk["adapter_generation"] == digest('a')));
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello from pirate");
    let reasons: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_null()).count(), 1);
    assert_eq!(**reasons.last().expect("one"), json!("stop"));
}

#[tokio::test]
async fn an_error_in_mid_stream_is_the_envelope_and_then_the_end() {
    let (app, _) = app();
    for prompt in ["break", "vanish"] {
        let lines = post(&app, CHAT, &stream(chat("pirate", prompt))).await.lines();
        let last = lines.last().expect("lines");
        assert!(last["error"]["code"].is_string() && last["error"]["message"].is_string(), "{last}");
        assert!(!lines.contains(&json!("[DONE]")), "an answer that broke off must not look whole");
    }
}

#[tokio::test]
async fn choices_and_log_probabilities_keep_their_places() {
    let (app, _) = app();
    let body = with(chat("pirate", "hi"), json!({"n": 2, "logprobs": true, "top_logprobs": 2}));
    let reply = post(&app, CHAT, &body).await.json();
    let choices = reply["choices"].as_array().expect("choices");
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    let token = &choices[1]["logprobs"]["content"][0];
    assert_eq!((&token["token"], &token["logprob"]), (&json!("Hello"), &json!(-0.5)));
    assert_eq!(token["bytes"], json!(b"Hello"));
    assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tools_come_back_as_calls() {
    let (app, seen) = app();
    let tool =
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}});
    let choice = json!({"type": "function", "function": {"name": "get_weather"}});
    let body = with(chat("pirate", "hi"), json!({"tools": [tool], "tool_choice": choice}));
    let reply = post(&app, CHAT, &body).await.json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Paris"}"#);
    let Work::Chat { tool_choice, .. } = seen.last().work else { panic!("a chat") };
    assert_eq!(tool_choice, ToolChoice::Named("get_weather".into()));
    let lines = post(&app, CHAT, &stream(body)).await.lines();
    assert_eq!(lines[1]["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
    assert_eq!(lines[1]["choices"][0]["delta"]["tool_calls"][0]["id"], "call_1");
}

#[tokio::test]
async fn parameters_reach_the_call() {
    let (app, seen) = app();
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let more = json!({
        "max_tokens": 3, "max_completion_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 40.0, "min_p": 0.1,
        "seed": -3, "stop": "END", "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.1,
        "logit_bias": {"7": -100}, "user": "u", "n": null,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    });
    let reply = post(&app, CHAT, &with(chat("pirate", "hi"), more)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let call = seen.last();
    let params = &call.params;
    assert_eq!((params.max_tokens, params.top_k, params.seed), (Some(2), 40, Some(-3)));
    assert_eq!((params.temperature, params.top_p, params.min_p), (0.5, 0.9, 0.1));
    assert_eq!(params.stop, ["END"]);
    assert_eq!(params.logit_bias[&7], -100.0);
    assert!(matches!(&call.shape, Shape::JsonSchema(given) if *given == schema));
}

#[tokio::test]
async fn a_functions_defaults_fill_what_a_request_leaves_open() {
    let (app, seen) = app();
    post(&app, CHAT, &chat("json", "hi")).await;
    assert_eq!(seen.last().params.temperature, 0.25);
    post(&app, CHAT, &with(chat("json", "hi"), json!({"temperature": 1}))).await;
    assert_eq!(seen.last().params.temperature, 1.0);
}

#[tokio::test]
async fn messages_reach_the_template_in_the_form_it_expects() {
    let (app, seen) = app();
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let called = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}});
    let body = json!({"model": "pirate", "messages": [
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": null, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]});
    assert_eq!(post(&app, CHAT, &body).await.status, 200);
    let Work::Chat { messages, .. } = seen.last().work else { panic!("a chat") };
    assert_eq!((&messages[0]["role"], &messages[0]["content"]), (&json!("system"), &json!("a\nb")));
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
}

#[tokio::test]
async fn several_prompts_are_several_choices() {
    let (app, _) = app();
    let body = json!({"model": "pirate", "prompt": ["a", "b"], "n": 2, "echo": true, "max_tokens": 2});
    let reply = post(&app, COMPLETIONS, &body).await.json();
    let texts: Vec<&str> =
        reply["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["aHello from", "aHello from", "bHello from", "bHello from"]);
    assert_eq!(reply["choices"][3]["finish_reason"], "length");
    assert_eq!(reply["usage"]["prompt_tokens"], 14, "both prompts are counted");
    let lines = post(&app, COMPLETIONS, &stream(body)).await.lines();
    for (index, text) in texts.iter().enumerate() {
        let of = |line: &&Value| line["choices"][0]["index"] == index;
        let parts: String =
            lines.iter().filter(of).filter_map(|line| line["choices"][0]["text"].as_str()).collect();
        assert_eq!(parts, *text);
    }
}

#[tokio::test]
async fn a_completion_shows_its_tokens() {
    let (app, seen) = app();
    let body = json!({"model": "pirate", "prompt": [72, 105], "logprobs": 1});
    let reply = post(&app, COMPLETIONS, &body).await.json();
    let logprobs = &reply["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"][1], " from");
    assert_eq!(logprobs["text_offset"], json!([0, 5, 10, 11]));
    assert_eq!(logprobs["top_logprobs"][0]["other"], -1.5);
    assert_eq!(seen.last().params.max_tokens, Some(16), "OpenAI's default");
}

#[tokio::test]
async fn models_are_the_bases_and_the_callers_functions() {
    let (app, _) = app();
    let list = get(&app, "/v1/models", "acme-invoke").await.json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [BASE, "org/tiny", "coded", "json", "pirate"]);
    let card = get(&app, "/v1/models/pirate", "acme-invoke").await.json();
    assert_eq!((&card["parent"], &card["root"]), (&json!(BASE), &json!("pirate")));
    assert_eq!(card["adapter_generation"], digest('a'));
    assert_eq!(get(&app, "/v1/models/org/tiny", "acme-invoke").await.json()["parent"], Value::Null);
    for path in ["/v1/models/secret", "/v1/models/absent"] {
        assert_eq!(get(&app, path, "acme-invoke").await.code(), "model_not_found");
    }
}

#[tokio::test]
async fn texts_become_tokens_and_back() {
    let (app, _) = app();
    let got = post(&app, "/tokenize", &json!({"prompt": "Hi"})).await.json();
    assert_eq!((&got["tokens"], &got["count"]), (&json!([1, 72, 105]), &json!(3)));
    let got = post(&app, "/tokenize", &json!({"content": "Hi"})).await.json();
    assert_eq!(got, json!({"tokens": [72, 105]}), "llama.cpp's form");
    let got = post(&app, "/detokenize", &json!({"tokens": [72, 105]})).await.json();
    assert_eq!(got["prompt"], "Hi");
    assert_eq!(post(&app, "/detokenize", &json!({"tokens": [999]})).await.code(), "invalid_value");
    let got = post(&app, "/apply-template", &chat("pirate", "Hi")).await.json();
    assert_eq!(got["prompt"], "<Hi>");
}

#[tokio::test]
async fn raw_requests_reach_a_functions_code() {
    let (app, seen) = app();
    let got = send(&app, request("PUT", "/invoke/coded/a/b?c=d", "acme-invoke", "body")).await;
    assert_eq!((got.status, got.text.as_str()), (201, "PUT /a/b?c=dbody"));
    assert_eq!(got.header("content-type"), "text/html");
    assert_eq!(got.header("content-security-policy"), "sandbox");
    assert!(got.headers.get("set-cookie").is_none(), "a function must not set this server's cookies");
    let Work::Invoke { headers, .. } = seen.last().work else { panic!("a raw request") };
    assert!(headers.iter().all(|(name, _)| name != "authorization"), "credentials stay outside");
    let got = send(&app, request("GET", "/invoke/pirate", "acme-invoke", "")).await;
    assert_eq!(got.code(), "unsupported");
}

#[tokio::test]
async fn names_of_requests_are_taken_over_or_made() {
    let (app, _) = app();
    let mut asked = request("GET", "/health", "", "");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    asked.headers_mut().insert("x-request-id", "my-id".parse().unwrap());
    asked.headers_mut().insert("traceparent", trace.parse().unwrap());
    let got = send(&app, asked).await;
    assert_eq!(got.header("x-request-id"), "my-id");
    let out = got.header("traceparent");
    assert!(out.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && out.ends_with("-01") && out != trace);
    let mut asked = request("GET", "/health", "", "");
    asked.headers_mut().insert("x-request-id", "a b".parse().unwrap());
    assert_eq!(send(&app, asked).await.header("x-request-id").len(), 32);
}

#[test]
fn a_finish_is_a_word() {
    let word = coldframe_host::http::infer::wire::finish_of(Some(&Finish::Other("guard".into())));
    assert_eq!(word, "guard");
}
