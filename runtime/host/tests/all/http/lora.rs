//! Dialects: naming an adapter, loading one, LoRAX's and llama.cpp's ways.

use super::scripted::{app, app_with, chat, digest, get, post, request, send, with};
use coldframe_host::http::Settings;
use coldframe_host::http::dialect::scales;
use coldframe_host::http::lora::gate_from;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn every_dialect_names_the_same_function() {
    let (app, seen) = app();
    let pirate = scales::number("pirate");
    let ways = [
        json!({"model": "pirate"}),
        json!({"model": "pirate@live"}),
        json!({"model": "tiny:pirate"}),
        json!({"model": "tiny::pirate"}),
        json!({"model": "org/tiny:pirate"}),
        json!({"model": "tiny", "adapter": "pirate"}),
        json!({"model": "tiny", "adapter": {"generation": digest('a')}}),
        json!({"model": "tiny", "lora": [{"id": pirate, "scale": 1.0}]}),
        json!({"model": "tiny", "lora_adapter_name": "pirate"}),
        json!({"model": "pirate", "adapter": "pirate", "lora": [{"id": pirate, "scale": 1}]}),
        json!({"model": "pirate", "adapter_source": "hub", "api_token": "x"}),
        json!({"adapter": "pirate"}),
    ];
    for way in ways {
        let got =
            post(&app, CHAT, &with(json!({"messages": [{"role": "user", "content": "hi"}]}), way.clone()))
                .await;
        assert_eq!(got.status, 200, "{way}: {}", got.text);
        assert_eq!(seen.last().names.function, "pirate", "{way}");
        let said = way.get("model").cloned().unwrap_or(json!("pirate"));
        assert_eq!(got.json()["model"], said, "the reply repeats what the caller sent");
    }
}

#[tokio::test]
async fn names_that_disagree_or_are_unknown_never_reach_a_model() {
    let (app, seen) = app();
    let json_id = scales::number("json");
    let ways = [
        (json!({"model": "pirate", "adapter": "json"}), 400, "conflicting_adapters"),
        (json!({"model": "pirate", "lora": [{"id": json_id, "scale": 1.0}]}), 400, "conflicting_adapters"),
        (json!({"model": "pirate", "lora": []}), 400, "conflicting_adapters"),
        (
            json!({"model": "tiny", "adapter": "pirate", "lora_adapter_name": "json"}),
            400,
            "conflicting_adapters",
        ),
        (json!({"model": "nobody"}), 404, "model_not_found"),
        (json!({"model": "tiny:nobody"}), 404, "model_not_found"),
        (json!({"model": "nobody:pirate"}), 404, "model_not_found"),
        (json!({"model": "tiny", "adapter": "nobody"}), 404, "model_not_found"),
        (json!({"model": "tiny", "lora": [{"id": 1, "scale": 1.0}]}), 404, "model_not_found"),
        (json!({"model": "tiny", "lora": [{"id": json_id, "scale": 0.5}]}), 400, "unsupported"),
        (json!({"model": "tiny", "adapter": 7}), 400, "invalid_value"),
        (json!({"model": "tiny", "adapter": {"role": 1}}), 400, "invalid_value"),
        (json!({}), 400, "missing_field"),
    ];
    for (way, status, code) in ways {
        let got =
            post(&app, CHAT, &with(json!({"messages": [{"role": "user", "content": "hi"}]}), way.clone()))
                .await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{way}");
    }
    assert!(seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_base_is_the_base() {
    let (app, seen) = app();
    for model in ["tiny", "org/tiny", ""] {
        let got = post(&app, CHAT, &chat(model, "hi")).await;
        assert_eq!(got.json()["adapter_generation"], Value::Null);
        assert!(seen.last().generation.is_none());
    }
}

#[tokio::test]
async fn global_scales_apply_where_nothing_is_named() {
    let (app, seen) = app();
    let id = scales::number("pirate");
    let set = json!([{"id": id, "scale": 1.0}]);
    let got = send(&app, request("POST", "/lora-adapters", "acme-admin", set.to_string())).await;
    assert_eq!(got.json(), json!({"success": true}));
    let list = get(&app, "/lora-adapters", "acme-invoke").await.json();
    let entry = list.as_array().unwrap().iter().find(|entry| entry["id"] == id).expect("listed");
    assert_eq!((&entry["scale"], &entry["path"]), (&json!(1.0), &json!("pirate")));
    post(&app, CHAT, &chat("tiny", "hi")).await;
    assert_eq!(seen.last().names.function, "pirate");
    post(&app, CHAT, &with(chat("tiny", "hi"), json!({"lora": []}))).await;
    assert_eq!(seen.last().names.function, "tiny", "an empty list means no adapter");
    post(&app, CHAT, &chat("json", "hi")).await;
    assert_eq!(seen.last().names.function, "json");
    let got = send(&app, request("POST", CHAT, "zeta-invoke", chat("tiny", "hi").to_string())).await;
    assert_eq!(got.json()["adapter_generation"], Value::Null, "another tenant's scales are its own");
}

#[tokio::test]
async fn adapters_are_loaded_in_the_words_that_controllers_look_for() {
    let (app, _) = app();
    let admin = async |path: &str, body: Value| {
        send(&app, request("POST", path, "acme-admin", body.to_string())).await
    };
    let load = json!({"lora_name": " new ", "lora_path": "file:///adapters/x"});
    let got = admin("/v1/load_lora_adapter", load.clone()).await;
    assert_eq!((got.status, got.text.as_str()), (200, "Success: LoRA adapter 'new' added successfully."));
    let got = admin("/v1/load_lora_adapter", load.clone()).await;
    let error = &got.json()["error"];
    assert_eq!((got.status, &error["type"]), (400, &json!("InvalidUserInput")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("already") && message.contains("loaded"), "{message}");
    let mut asked = request(
        "POST",
        "/v1/load_lora_adapter",
        "acme-admin",
        with(load, json!({"load_inplace": true})).to_string(),
    );
    asked.headers_mut().insert("accept", "application/json".parse().unwrap());
    let object = send(&app, asked).await.json();
    assert_eq!((&object["object"], &object["rank"]), (&json!("lora_adapter"), &json!(8)));
    let hidden = get(&app, "/v1/lora_adapters", "acme-invoke").await.json();
    assert!(hidden["data"][0].get("source").is_none() && hidden["data"][0]["tier"] == "device");
    assert!(get(&app, "/v1/lora_adapters", "acme-admin").await.json()["data"][0].get("source").is_some());
    for _ in 0..2 {
        admin("/v1/unload_lora_adapter", json!({"lora_name": "new"})).await;
    }
    let got = admin("/v1/unload_lora_adapter", json!({"lora_name": "new"})).await;
    let error = &got.json()["error"];
    assert_eq!((got.status, &error["type"]), (400, &json!("InvalidUserInput")));
    assert!(error["message"].as_str().unwrap().contains("cannot be found"));
    let got = admin("/load_lora_adapter", json!({"lora_name": "sg", "lora_path": "x"})).await;
    assert!(got.json()["loaded_adapters"].get("sg").is_some());
    let got = admin("/v1/load_lora_adapter", json!({"lora_name": "a"})).await;
    assert_eq!((got.status, &got.json()["error"]["param"]), (400, &json!("lora_path")));
    let early = json!({"lora_name": "a", "lora_path": "x", "expected_generation": digest('a')});
    assert_eq!(admin("/v1/load_lora_adapter", early).await.code(), "invalid_lora_load_policy");
}

#[tokio::test]
async fn changing_adapters_is_off_unless_asked_for() {
    let (app, _) = app_with(Settings::default());
    for path in ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/load_lora_adapter", "/lora-adapters"] {
        let got = send(&app, request("POST", path, "operator", "{}")).await;
        assert_eq!((got.status, got.code().as_str()), (403, "lora_updating_disabled"), "{path}");
    }
    let says = |name: &'static str, word: &'static str| {
        gate_from(move |asked| (asked == name).then(|| word.to_owned()))
    };
    assert!(
        says("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True")
            && says("COLDFRAME_ALLOW_RUNTIME_LORA_UPDATING", "on")
    );
    assert!(!says("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0") && !says("OTHER", "1"));
}
