//! The JSON Schema of the report, built from a table of the model's fields.
//!
//! The committed copy is `docs/report.schema.json`; a test keeps it equal to [`text`] and another checks a sample
//! report against it, so a field added to the model fails the tests until it is listed here. It leaves out the
//! invariants between fields: those are in `check`.

use super::json;
use super::model::SCHEMA;
use serde_json::{Value, json};

/// A field's type.
#[derive(Clone, Copy)]
enum Type {
    Text,
    /// A whole number from 0 to 2^64 − 1.
    Whole,
    Number,
    /// The schema's own name.
    Name,
    /// Another definition.
    Of(&'static str),
    ListOf(&'static str),
    Texts,
    TextMap,
    /// Pairs of a name and a whole number.
    Counts,
    /// Pairs of numbers.
    Points,
    /// Rows of whole numbers.
    Rows,
}
use Type::{Counts, ListOf, Name, Number, Of, Points, Rows, Text, TextMap, Texts, Whole};

type Fields = &'static [(&'static str, Type, &'static str)];

const DEFINITIONS: &[(&str, Fields)] = &[
    (
        "Report",
        &[
            ("schema", Name, "name and version of this schema"),
            ("tool", Text, "tool and version that wrote it"),
            ("title", Text, "a heading for people"),
            ("trace", Of("TraceSection"), "the trace replayed"),
            ("inputs", Of("Inputs"), "everything else that went in"),
            ("policies", ListOf("PolicyReport"), "policies in the order asked for"),
            ("warnings", Texts, "things the reader should know about this run"),
            ("limits", Texts, "known limits of the model"),
        ],
    ),
    (
        "TraceSection",
        &[
            ("name", Text, "file name or preset"),
            ("sha256", Text, "SHA-256 of the file's bytes, hex; empty for a generated trace"),
            ("format", Text, "format the reader took"),
            ("rows", Whole, "rows read"),
            ("records", Whole, "records that came out"),
            ("refused", Whole, "rows refused"),
            ("functions", Whole, "distinct functions"),
            ("span_s", Number, "first arrival to last, seconds"),
            ("prompt_tokens", Whole, "prompt tokens in all"),
            ("output_tokens", Whole, "output tokens in all"),
            ("mapping", Texts, "each mapping applied with its seed, in words"),
        ],
    ),
    (
        "Inputs",
        &[
            ("fleet", Text, "the fleet in words"),
            ("gpus", Whole, "GPUs in the fleet"),
            ("profiles", ListOf("ProfileUsed"), "profiles used"),
            ("slo_ttft_s", Number, "TTFT limit, seconds"),
            ("slo_tpot_s", Number, "TPOT limit, seconds"),
            ("primary_tariff", Text, "tariff that ranks and splits money"),
            ("command", Text, "command line or settings that repeat the run"),
        ],
    ),
    (
        "ProfileUsed",
        &[
            ("kind", Text, "gpu, model, step, cold-start or tariff"),
            ("name", Text, "its name"),
            ("source", Text, "where its numbers come from"),
        ],
    ),
    (
        "PolicyReport",
        &[
            ("name", Text, "name shown"),
            ("about", Text, "one sentence on what the policy does"),
            ("parameters", TextMap, "its parameters, flat"),
            ("runs", ListOf("RunReport"), "one per seed, in seed order"),
        ],
    ),
    (
        "RunReport",
        &[
            ("seed", Whole, "seed of the run"),
            ("event_digest", Text, "digest of the event log, hex"),
            ("events", Whole, "events in the log"),
            ("requests", Of("RequestCounts"), "where every arrival ended"),
            ("prompt_tokens", Whole, "prompt tokens of completed requests"),
            ("output_tokens", Whole, "output tokens of completed requests"),
            ("ttft_s", Of("Quantiles"), "time to first token, seconds"),
            ("tpot_s", Of("Quantiles"), "time per output token after the first, seconds"),
            ("e2e_s", Of("Quantiles"), "arrival to last token, seconds"),
            ("ttft_cdf", Points, "seconds and share at or below, ascending, at most 200"),
            ("e2e_cdf", Points, "the same for end-to-end time"),
            ("slo", Of("SloReport"), "attainment and goodput"),
            ("cold_by_kind", Counts, "requests by the deepest stage they waited for"),
            ("stages", ListOf("StageReport"), "mean seconds each stage added to TTFT"),
            ("gpu", Of("GpuTime"), "GPU time reserved, and where it went"),
            ("memory", Of("MemoryReport"), "device memory by use"),
            ("adapters", Of("AdapterReport"), "adapter residency"),
            ("links", ListOf("LinkReport"), "bytes moved per kind of link"),
            ("bills", ListOf("Bill"), "a bill per tariff; the first is the primary one"),
            ("functions", ListOf("FunctionRow"), "the 1,000 functions with most requests"),
            ("functions_left_out", Whole, "functions left out of `functions`"),
            ("fairness", Number, "Jain's index of mean TTFT over tenants or functions, 0 to 1"),
            ("preemptions", Whole, "preemptions of running requests"),
            ("simulated_s", Number, "virtual seconds from the first arrival to the last event"),
            ("speed", Of("Speed"), "what the run cost to simulate"),
        ],
    ),
    (
        "RequestCounts",
        &[
            ("arrived", Whole, "requests that came; the sum of the other five"),
            ("completed", Whole, "finished"),
            ("refused", Whole, "turned away by the policy"),
            ("timed_out", Whole, "gave up waiting"),
            ("running", Whole, "still running when the run ended"),
            ("queued", Whole, "still queued when the run ended"),
        ],
    ),
    (
        "Quantiles",
        &[
            ("count", Whole, "observations"),
            ("mean", Number, "mean, exact"),
            ("p50", Number, "median, to within 0.4 %"),
            ("p90", Number, "90th percentile"),
            ("p95", Number, "95th percentile"),
            ("p99", Number, "99th percentile"),
            ("max", Number, "largest"),
        ],
    ),
    (
        "SloReport",
        &[
            ("ttft", Number, "share of arrived requests whose TTFT met the limit"),
            ("tpot", Number, "share of arrived requests whose TPOT met the limit"),
            ("both", Number, "share that met both"),
            ("goodput_rps", Number, "requests per second that met both"),
        ],
    ),
    (
        "StageReport",
        &[
            ("stage", Text, "queue, container, runtime, backbone, adapter, kernel or prefill"),
            ("mean_s", Number, "mean over completed requests, seconds; they add up to the mean TTFT"),
            ("cold_mean_s", Number, "mean over requests with a cold start, seconds"),
        ],
    ),
    (
        "GpuTime",
        &[
            ("reserved_ns", Whole, "GPU-nanoseconds reserved"),
            ("causes", Counts, "GPU-nanoseconds by cause; they add up to reserved_ns"),
        ],
    ),
    (
        "MemoryReport",
        &[
            ("by_use", ListOf("MemoryUse"), "per use"),
            ("step_s", Number, "width of a row of over_time, seconds"),
            ("over_time", Rows, "mean bytes per use in each step, at most 300 rows"),
        ],
    ),
    (
        "MemoryUse",
        &[
            ("name", Text, "name of the use"),
            ("gb_seconds", Number, "10^9 bytes x seconds over the run"),
            ("mean_bytes", Whole, "mean bytes over the run, whole fleet"),
            ("peak_bytes", Whole, "largest bytes at once, whole fleet"),
        ],
    ),
    (
        "AdapterReport",
        &[
            ("hits", Whole, "requests that found their adapter on the device"),
            ("misses", Whole, "requests that had to wait for it"),
            ("loads", Whole, "loads onto a device"),
            ("evictions", Whole, "evictions from a device"),
        ],
    ),
    (
        "LinkReport",
        &[
            ("link", Text, "remote, disk, host_to_device or device_to_host"),
            ("bytes", Whole, "bytes moved"),
            ("transfers", Whole, "transfers"),
        ],
    ),
    (
        "Bill",
        &[
            ("tariff", Text, "tariff name"),
            ("total_nano_usd", Whole, "total, 10^-9 US dollars"),
            ("lines", Counts, "10^-9 US dollars by line; they add up to the total"),
            ("per_1000_requests_usd", Number, "US dollars per 1,000 completed requests"),
            ("per_million_tokens_usd", Number, "US dollars per million tokens"),
        ],
    ),
    (
        "FunctionRow",
        &[
            ("name", Text, "function name"),
            ("tenant", Text, "tenant; empty when unknown"),
            ("backbone", Text, "backbone"),
            ("requests", Whole, "requests that came"),
            ("cold", Whole, "of those, how many met any cold stage"),
            ("ttft_mean_s", Number, "mean TTFT, seconds"),
            ("ttft_max_s", Number, "largest TTFT, seconds"),
            ("money_nano_usd", Whole, "share of the primary bill, 10^-9 US dollars"),
        ],
    ),
    (
        "Speed",
        &[
            ("wall_s", Number, "wall seconds"),
            ("cpu_s", Number, "CPU seconds of the run's thread"),
            ("requests_per_cpu_s", Number, "requests simulated per CPU-second"),
            ("peak_rss_bytes", Whole, "peak resident set of the process so far, bytes"),
        ],
    ),
];

/// The schema as a value.
pub fn value() -> Value {
    let definitions: serde_json::Map<String, Value> =
        DEFINITIONS.iter().map(|(name, fields)| ((*name).to_owned(), object(fields))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "What `coldframe replay --out` writes and `coldframe compare` reads.",
        "$ref": "#/$defs/Report",
        "$defs": definitions,
    })
}

/// The schema as the committed text.
pub fn text() -> String {
    json::pretty(&value())
}

fn object(fields: Fields) -> Value {
    let properties: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, kind, about)| {
            let mut property = of(*kind);
            property["description"] = json!(about);
            ((*name).to_owned(), property)
        })
        .collect();
    let required: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn of(kind: Type) -> Value {
    let pair = |first: Value, second: Value| {
        json!({"type": "array", "items": {
            "type": "array", "prefixItems": [first, second], "items": false, "minItems": 2,
        }})
    };
    match kind {
        Text => json!({"type": "string"}),
        Whole => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
        Number => json!({"type": "number"}),
        Name => json!({"const": SCHEMA}),
        Of(name) => reference(name),
        ListOf(name) => json!({"type": "array", "items": reference(name)}),
        Texts => json!({"type": "array", "items": of(Text)}),
        TextMap => json!({"type": "object", "additionalProperties": of(Text)}),
        Counts => pair(of(Text), of(Whole)),
        Points => pair(of(Number), of(Number)),
        Rows => json!({"type": "array", "items": {"type": "array", "items": of(Whole)}}),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::path::Path;

    /// Set `COLDFRAME_WRITE=1` to write the file instead of comparing it.
    #[test]
    fn committed_schema_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json");
        if std::env::var_os("COLDFRAME_WRITE").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("docs/ can be made");
            std::fs::write(&path, text()).expect("docs/ can be written");
        }
        let committed = std::fs::read_to_string(&path).expect("docs/report.schema.json is committed");
        // Compared as values: the order of keys depends on a feature of serde_json that other crates may turn on.
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(
            parsed(&committed) == parsed(&text()),
            "out of date: run the tests with COLDFRAME_WRITE=1 and look at the diff"
        );
    }

    /// The part of JSON Schema that [`value`] uses.
    fn violations(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return violations(root, &root["$defs"][&name["#/$defs/".len()..]], value, path, found);
        }
        if let Some(wanted) = schema.get("const") {
            if wanted != value {
                found.push(format!("{path}: not {wanted}"));
            }
            return;
        }
        let fits = match schema["type"].as_str().expect("a type") {
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        if !fits {
            found.push(format!("{path}: not a {}", schema["type"]));
        }
        for (i, item) in value.as_array().into_iter().flatten().enumerate() {
            let part = schema.get("prefixItems").map_or(&schema["items"], |parts| &parts[i]);
            violations(root, part, item, &format!("{path}[{i}]"), found);
        }
        let Some(fields) = value.as_object() else { return };
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !fields.contains_key(name.as_str().expect("a name")) {
                found.push(format!("{path}: {name} is missing"));
            }
        }
        for (key, item) in fields {
            match schema.get("properties").map_or(&schema["additionalProperties"], |p| &p[key]) {
                Value::Null => found.push(format!("{path}.{key}: not in the schema")),
                part => violations(root, part, item, &format!("{path}.{key}"), found),
            }
        }
    }

    fn check(report: &Value) -> Vec<String> {
        let (root, mut found) = (value(), Vec::new());
        violations(&root, &root["$defs"]["Report"], report, "report", &mut found);
        found
    }

    #[test]
    fn a_sample_fits_and_a_changed_one_does_not() {
        let mut report = serde_json::to_value(sample::report(2, 2)).expect("plain data");
        assert_eq!(check(&report), Vec::<String>::new());
        report["policies"][0]["runs"][0]["gpu"]["reserved_ns"] = json!("much");
        report["trace"]["colour"] = json!("red");
        report["inputs"].as_object_mut().expect("an object").remove("gpus");
        assert_eq!(check(&report).len(), 3, "{:?}", check(&report));
    }
}
