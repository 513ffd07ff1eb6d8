//! What the ends of calls become: by backbone, by function, by kind of end, and never more series than the cap.

use super::exposition::parse;
use super::promtool;
use coldframe_host::call::{CallError, Finish};
use coldframe_host::http::app::{Ended, Exchange, Observe};
use coldframe_host::http::trace::Trace;
use coldframe_host::live::core::{Load, Ran, Witness};
use coldframe_host::meter::{Outcome, RequestRow};
use coldframe_host::observe::Metrics;
use coldframe_policy::artifact::{Class, Tier};
use http::Method;
use std::time::Duration;

const MS: u64 = 1_000_000;

fn row(tenant: &str, function: &str) -> RequestRow {
    RequestRow {
        id: "r".to_owned(),
        tenant: tenant.to_owned(),
        function: function.to_owned(),
        generation: String::new(),
        backbone: "tiny".to_owned(),
        arrived_ms: 1,
        took_ns: 900 * MS,
        outcome: Outcome::Completed,
        cold: "adapter".to_owned(),
        prompt_tokens: 7,
        cached_tokens: 3,
        completion_tokens: 5,
        device_ns: 250 * MS,
        kv_bytes: 0,
        admitted_ns: 0,
        sandbox_ns: 2 * MS,
        fuel: 1000,
        guest_bytes: 1 << 20,
        ttft_ns: 100 * MS,
        phases_ns: [0, 20 * MS, 30 * MS, 10 * MS, 0, 0, 0, 5 * MS, 35 * MS],
        nanodollars: 0,
    }
}

fn ran(finished: Vec<Finish>) -> Ran {
    Ran { finished, ..Ran::default() }
}

async fn text(metrics: &Metrics) -> String {
    Observe::metrics(metrics).await
}

#[tokio::test]
async fn calls_are_counted_by_backbone_function_and_end() {
    let metrics = Metrics::default();
    Witness::ended(&metrics, &row("default", "pirate"), &ran(vec![Finish::Stop, Finish::Length]));
    let trap = CallError::Function { code: "trap".to_owned(), message: String::new() };
    let failed = RequestRow { outcome: Outcome::Failed, ttft_ns: 0, ..row("acme", "a\"\\\n") };
    Witness::ended(&metrics, &failed, &Ran { error: Some(trap), ..Ran::default() });
    let own = CallError::Function { code: "word-of-the-guest".to_owned(), message: String::new() };
    Witness::ended(&metrics, &failed, &Ran { error: Some(own), ..Ran::default() });
    metrics.loaded(Load { class: Class::Adapter, from: Tier::Disk, took: Some(Duration::from_millis(4)) });
    let text = text(&metrics).await;
    promtool(&text);
    let seen = parse(&text).expect("well-formed");
    let model = [("model_name", "tiny")];
    for (name, value) in [
        ("vllm:prompt_tokens_total", 21.0),
        ("vllm:generation_tokens_total", 15.0),
        ("vllm:time_to_first_token_seconds_count", 1.0),
        ("vllm:time_to_first_token_seconds_sum", 0.1),
        ("vllm:time_per_output_token_seconds_sum", 0.2),
        ("vllm:e2e_request_latency_seconds_count", 3.0),
        ("vllm:request_queue_time_seconds_sum", 0.025),
        ("vllm:request_prefill_time_seconds_sum", 0.035),
        ("vllm:request_decode_time_seconds_sum", 0.8),
        ("vllm:request_inference_time_seconds_sum", 0.835),
    ] {
        assert_eq!(seen.get(name, &model), Some(value), "{name}");
    }
    for (why, count) in [("stop", 1.0), ("length", 1.0), ("error", 2.0)] {
        let found = seen.get("vllm:request_success_total", &[("finished_reason", why)]);
        assert_eq!(found, Some(count), "{why}");
    }
    assert_eq!(seen.get("vllm:lora_adapter_load_seconds_count", &[]), Some(1.0));
    assert_eq!(
        seen.get("coldframe_load_seconds_sum", &[("artifact", "adapter"), ("tier", "disk")]),
        Some(0.004)
    );
    let of = [("tenant", "acme"), ("function", "a\"\\\n")];
    assert_eq!(seen.get("coldframe_function_device_seconds_total", &of), Some(0.5));
    for kind in ["returned", "trap", "own"] {
        assert_eq!(seen.get("coldframe_guest_ends_total", &[("kind", kind)]), Some(1.0), "{kind}");
    }
    let read = seen.get("coldframe_cold_start_phase_seconds_sum", &[("phase", "adapter_read")]);
    assert_eq!(read, Some(0.03), "the calls without a first token have no phases");
}

#[tokio::test]
async fn series_stay_bounded_whatever_is_called() {
    let metrics = Metrics::default();
    for number in 0..5000 {
        Witness::ended(&metrics, &row("default", &format!("f-{number}")), &ran(vec![]));
        Observe::begun(&metrics);
        Observe::ended(
            &metrics,
            &Exchange {
                id: "r".to_owned(),
                trace: Trace::of(&http::HeaderMap::new()),
                method: Method::from_bytes(format!("M{number}").as_bytes()).expect("a method"),
                route: None,
                model: Some(format!("f-{number}")),
                status: 200,
                took: Duration::from_millis(3),
                ended: Ended::Whole,
            },
        );
    }
    let seen = parse(&text(&metrics).await).expect("well-formed");
    assert!(seen.series.len() < 4000, "{}", seen.series.len());
    let other = [("tenant", "other"), ("function", "other"), ("kind", "prompt")];
    assert_eq!(seen.get("coldframe_function_tokens_total", &other), Some(4800.0 * 7.0));
    let methods: std::collections::BTreeSet<_> = seen
        .series
        .keys()
        .filter(|(name, _)| name == "http_requests_total")
        .flat_map(|(_, labels)| {
            labels.iter().filter(|(name, _)| name == "method").map(|(_, value)| value.clone())
        })
        .collect();
    assert_eq!(methods.into_iter().collect::<Vec<_>>(), ["other"]);
}
