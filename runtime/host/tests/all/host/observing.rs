//! What a whole server says of itself: metrics, the overview, and the page that shows it.

use super::{OPERATOR, Server};
use crate::observe::{exposition, promtool};
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn metrics_parse_and_hold_every_name_that_gateways_read() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    server.register("f-a", "a").expect(201);
    server.register("f-b", "b").expect(201);
    server.say("f-a").expect(200);
    server.say("f-a").expect(200);
    server.say("missing").expect(404);
    // The end of a call is counted when nothing of it is left, which may be after its reply.
    let mut text = String::new();
    for _ in 0..200 {
        text = server.operator("GET", "/metrics", &Value::Null).expect(200).text;
        let seen = exposition::parse(&text).expect("well-formed");
        if seen.get("vllm:e2e_request_latency_seconds_count", &[]) == Some(2.0) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    promtool(&text);
    let seen = exposition::parse(&text).expect("well-formed");
    let model = [("model_name", "tiny"), ("engine", "0")];
    for name in [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
        "vllm:num_preemptions_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_count",
        "vllm:time_per_output_token_seconds_count",
        "vllm:e2e_request_latency_seconds_count",
        "vllm:request_queue_time_seconds_count",
        "vllm:request_prefill_time_seconds_count",
        "vllm:request_decode_time_seconds_count",
        "vllm:request_inference_time_seconds_count",
    ] {
        assert!(seen.get(name, &model).is_some(), "{name}");
    }
    let info = [("running_lora_adapters", "f-a"), ("waiting_lora_adapters", "")];
    assert!(seen.get("vllm:lora_requests_info", &info).is_some_and(|at| at > 1.7e9), "{text}");
    let loaded = [("adapter_name", "f-a"), ("level", "gpu"), ("pinned", "false")];
    assert_eq!(seen.get("vllm:lora_adapter_loaded", &loaded), Some(1.0), "{text}");
    assert_eq!(seen.get("vllm:num_gpu_loaded_lora_adapters", &[]), Some(1.0));
    assert!(seen.get("vllm:max_gpu_lora_adapters", &[]).is_some_and(|most| most >= 2.0));
    assert_eq!(seen.get("vllm:lora_adapter_load_seconds_count", &[]), Some(1.0));
    let ok = [("artifact", "adapter"), ("outcome", "ok")];
    assert_eq!(seen.get("coldframe_loads_total", &ok), Some(1.0));
    let spoken = [("path", "/v1/completions"), ("status", "200"), ("model", "f-a"), ("method", "POST")];
    assert_eq!(seen.get("http_requests_total", &spoken), Some(2.0));
    let lost = [("path", "/v1/completions"), ("status", "404"), ("model", "")];
    assert_eq!(seen.get("http_requests_total", &lost), Some(1.0), "names that are none are no labels");
    assert!(seen.get("coldframe_resident_bytes", &[("use", "adapters")]).is_some_and(|bytes| bytes > 0.0));

    let overview = server.operator("GET", "/admin/v1/overview", &Value::Null).expect(200).value;
    let recent = overview["recent"].as_array().expect("a list");
    assert_eq!(recent.len(), 2, "{overview:#}");
    assert_eq!(recent[0]["function"], "f-a");
    let sum: u64 =
        recent[0]["phases_ns"].as_object().expect("phases").values().filter_map(Value::as_u64).sum();
    assert_eq!(Some(sum), recent[0]["ttft_ns"].as_u64(), "phases sum to the time before the first token");
}

#[test]
fn evictions_say_why() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    server.register("f-a", "a").expect(201);
    server.say("f-a").expect(200);
    // An answer's last byte comes before its end is booked; a function that still works leaves later, and for room.
    let ended = || {
        let text = server.operator("GET", "/metrics", &Value::Null).expect(200).text;
        text.lines().any(|line| line.starts_with("vllm:request_success_total") && !line.ends_with(" 0"))
    };
    for _ in 0..500 {
        if ended() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.operator("POST", "/admin/v1/functions/f-a/sleep", &json!({"level": 2})).expect(200);
    let text = server.operator("GET", "/metrics", &Value::Null).expect(200).text;
    let seen = exposition::parse(&text).expect("well-formed");
    let slept = [("artifact", "adapter"), ("reason", "sleep")];
    assert!(seen.get("coldframe_evictions_total", &slept).is_some_and(|count| count >= 1.0), "{text}");
}

#[test]
fn the_overview_of_a_tenant_holds_nothing_of_another() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    server.register("f-a", "a").expect(201);
    server.say("f-a").expect(200);
    server.operator("PUT", "/admin/v1/tenants/acme", &json!({})).expect(201);
    let key = server.key("acme", "admin");
    let seen = server.ask(&key, "GET", "/admin/v1/overview", &[], "").expect(200);
    assert!(!seen.text.contains("f-a"), "{}", seen.text);
    assert_eq!(server.ask(&key, "GET", "/metrics", &[], "").status, 403);
}

#[test]
fn the_dashboard_needs_no_key_to_be_there_and_may_run_only_its_own_script() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    let pages = [(); 2].map(|()| {
        let reply = ureq::get(format!("{}/", server.url)).call().expect("the page");
        let policy = reply.headers()["content-security-policy"].to_str().expect("text").to_owned();
        (policy, reply.into_body().read_to_string().expect("a page"))
    });
    let nonce = |policy: &str| {
        policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next().map(str::to_owned))
    };
    let [first, second] = pages.each_ref().map(|(policy, _)| nonce(policy).expect("a nonce"));
    assert!(first != second && first.len() == 32, "a nonce is used once");
    assert!(pages[0].0.starts_with("default-src 'none'; ") && pages[0].0.contains("frame-ancestors 'none'"));
    assert!(pages[0].1.contains(&format!("<script nonce=\"{first}\">")));
    assert!(!pages[0].1.contains(OPERATOR));
}
