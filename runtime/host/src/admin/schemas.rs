//! Schemas of the administration's bodies, as OpenAPI has them.

use serde_json::{Map, Value, json};

/// All of them, by name.
pub fn all() -> Map<String, Value> {
    let groups = [registration(), specs(), functions(), tenants(), server()];
    groups.into_iter().flat_map(object).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("every group is written as an object"),
    }
}

/// A body that refuses what it does not know.
fn closed(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// An answer: clients must expect fields to be added.
fn answer(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(name: &str) -> Value {
    answer(
        &["object", "data"],
        json!({
            "object": {"const": "list"},
            "data": {"type": "array", "items": of(name)},
            "next": {"type": "string", "description": "Cursor of the next page"},
        }),
    )
}

fn text() -> Value {
    json!({"type": "string"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn optional(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn name() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"})
}

fn digest() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
}

fn registration() -> Value {
    json!({
        "FunctionSpec": closed(&[], json!({
            "backbone": optional("string"),
            "baseModel": optional("string"),
            "adapters": {"type": "array", "maxItems": 32, "items": of("AdapterSpec")},
            "module": {"oneOf": [of("FileSpec"), {"type": "null"}]},
            "settings": of("FunctionSettings"),
            "expected_generation": {"oneOf": [digest(), {"type": "null"}]},
            "alias": {"oneOf": [name(), {"type": "null"}]},
            "pinned": optional("boolean"),
            "self_check": {"oneOf": [of("SelfCheck"), {"type": "null"}]},
        })),
        "AdapterSpec": closed(&[], json!({
            "name": name(),
            "uri": {"type": ["string", "null"], "maxLength": 2048},
            "artifactURL": {"type": ["string", "null"], "maxLength": 2048},
            "digest": {"oneOf": [digest(), {"type": "null"}]},
            "files": {"type": "object", "additionalProperties": of("FileSpec")},
            "generation": {"oneOf": [digest(), {"type": "null"}]},
        })),
        "FileSpec": closed(&[], json!({
            "uri": {"type": "string", "maxLength": 2048},
            "artifactURL": {"type": "string", "maxLength": 2048},
            "digest": {"oneOf": [digest(), {"type": "null"}]},
        })),
        "SelfCheck": closed(&["prompt", "contains"], json!({
            "prompt": text(),
            "contains": text(),
            "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        })),
        "FunctionSettings": closed(&[], json!({
            "slo_ttft_ms": optional("integer"),
            "keep_alive_s": optional("integer"),
            "max_concurrency": optional("integer"),
            "memory_limit_mb": optional("integer"),
            "fuel": optional("integer"),
            "timeout_ms": optional("integer"),
            "token_budget": optional("integer"),
            "max_generations": optional("integer"),
            "output_bytes": optional("integer"),
            "log_bytes": optional("integer"),
            "allowed_outbound_hosts": {"type": "array", "maxItems": 64, "items": text()},
            "capabilities": {"type": "array", "items": {"enum": ["state", "clock", "random"]}},
            "defaults": {"type": "object"},
        })),
    })
}

fn specs() -> Value {
    json!({
        "AliasSpec": closed(&["targets"], json!({
            "targets": {"type": "array", "minItems": 1, "maxItems": 16, "items": of("Target")},
        })),
        "Target": closed(&["generation", "weight"], json!({
            "generation": digest(),
            "weight": {"type": "integer", "minimum": 1, "maximum": 10_000},
        })),
        "RollbackSpec": closed(&[], json!({
            "to": {"oneOf": [digest(), {"type": "null"}]},
            "alias": {"oneOf": [name(), {"type": "null"}]},
        })),
        "PinSpec": closed(&["pinned"], json!({"pinned": {"type": "boolean"}})),
        "SleepSpec": closed(&[], json!({"level": {"type": "integer", "minimum": 1, "maximum": 2}})),
        "TenantSpec": closed(&[], json!({"quota": of("Quota")})),
        "Quota": closed(&[], json!({
            "rpm": optional("integer"),
            "tpm": optional("integer"),
            "concurrent": optional("integer"),
            "month_nanodollars": optional("integer"),
            "functions": optional("integer"),
            "blob_bytes": optional("integer"),
        })),
        "KeySpec": closed(&["scope"], json!({
            "scope": {"enum": ["invoke", "admin", "operator"]},
            "note": {"type": "string", "maxLength": 200},
            "expires_in_s": optional("integer"),
        })),
        "PolicySpec": closed(&["policy"], json!({"policy": text()})),
        "DrainSpec": closed(&[], json!({"grace_s": optional("integer")})),
        "BackupSpec": closed(&["name"], json!({"name": name()})),
        "GcSpec": closed(&[], json!({"age_s": optional("integer")})),
    })
}

fn functions() -> Value {
    let targets = || json!({"type": "array", "items": of("Target")});
    json!({
        "Function": answer(&["object", "tenant", "function", "generations", "aliases", "revision"], json!({
            "object": {"const": "function"},
            "tenant": text(),
            "function": text(),
            "generations": {"type": "array", "items": of("Generation")},
            "aliases": {"type": "object", "additionalProperties": targets()},
            "pinned": {"type": "boolean"},
            "created_ms": number(),
            "updated_ms": number(),
            "revision": number(),
        })),
        "FunctionLine": answer(&["tenant", "function", "live", "revision"], json!({
            "tenant": text(),
            "function": text(),
            "backbone": text(),
            "live": targets(),
            "generations": number(),
            "code": {"type": "boolean"},
            "pinned": {"type": "boolean"},
            "updated_ms": number(),
            "revision": number(),
        })),
        "Generation": answer(&["id", "backbone", "adapters"], json!({
            "id": digest(),
            "backbone": text(),
            "adapters": {"type": "array", "items": {"type": "object"}},
            "module": optional("object"),
            "settings": {"type": "object"},
            "created_ms": number(),
        })),
        "Deployed": answer(&["object", "function", "generation", "changed", "revision"], json!({
            "object": {"const": "function"},
            "tenant": text(),
            "function": text(),
            "generation": digest(),
            "alias": text(),
            "changed": {"type": "boolean"},
            "warnings": {"type": "array", "items": text()},
            "live": targets(),
            "revision": number(),
        })),
        "DryRun": answer(&["fits", "problems", "warnings"], json!({
            "fits": {"type": "boolean"},
            "generation": {"oneOf": [digest(), {"type": "null"}]},
            "disk_bytes": number(),
            "memory_bytes": number(),
            "problems": {"type": "array", "items": {"type": "object"}},
            "warnings": {"type": "array", "items": text()},
        })),
        "FunctionList": list("FunctionLine"),
        "GenerationList": list("Generation"),
        "LogList": list("LogLine"),
        "LogLine": answer(&["number", "message"], json!({
            "number": number(),
            "at_ms": number(),
            "request_id": text(),
            "level": text(),
            "message": text(),
        })),
    })
}

fn tenants() -> Value {
    let key = json!({
        "id": text(),
        "tenant": text(),
        "scope": {"enum": ["invoke", "admin", "operator"]},
        "note": text(),
        "created_ms": number(),
        "expires_ms": optional("integer"),
    });
    let mut made = key.clone();
    made["secret"] = text();
    json!({
        "Tenant": answer(&["name", "quota", "revision"], json!({
            "name": text(),
            "quota": of("Quota"),
            "created_ms": number(),
            "revision": number(),
        })),
        "Key": answer(&["id", "tenant", "scope"], key),
        "KeyMade": answer(&["id", "tenant", "scope", "secret"], made),
        "TenantList": list("Tenant"),
        "KeyList": list("Key"),
        "UsageList": list("Usage"),
        "Usage": answer(&["tenant", "requests"], json!({
            "tenant": text(),
            "function": text(),
            "from_ms": number(),
            "requests": number(),
            "prompt_tokens": number(),
            "completion_tokens": number(),
            "device_ns": number(),
            "nanodollars": number(),
            "shared_nanodollars": answer(&["equal", "use", "shapley"], json!({
                "equal": number(),
                "use": number(),
                "shapley": number(),
            })),
            "total_nanodollars": number(),
        })),
        "AuditList": list("AuditLine"),
        "AuditLine": answer(&["number", "action", "outcome"], json!({
            "number": number(),
            "at_ms": number(),
            "tenant": text(),
            "key": text(),
            "scope": text(),
            "action": text(),
            "target": text(),
            "outcome": text(),
            "revision": optional("integer"),
            "request_id": text(),
        })),
    })
}

fn server() -> Value {
    json!({
        "Backbone": answer(&["name", "state"], json!({
            "name": text(),
            "architecture": text(),
            "state": {"enum": ["ready", "unloaded", "fenced"]},
            "max_model_len": number(),
            "layers": number(),
            "hidden_size": number(),
            "vocab_size": number(),
            "bytes": number(),
            "digest": optional("string"),
        })),
        "BackboneList": list("Backbone"),
        "Policy": answer(&["name", "toml"], json!({"name": text(), "toml": text()})),
        "Removed": answer(&["object", "id", "deleted"], json!({
            "object": text(),
            "id": text(),
            "deleted": {"const": true},
        })),
        "Collected": answer(&["blobs_removed", "blobs_kept", "bytes_kept"], json!({
            "blobs_removed": number(),
            "blobs_kept": number(),
            "bytes_kept": number(),
            "folders_removed": number(),
            "idempotency_keys_removed": number(),
        })),
        "Data": {"type": "object"},
    })
}
