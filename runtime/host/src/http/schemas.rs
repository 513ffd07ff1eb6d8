//! Schemas of the edge's own bodies, as OpenAPI has them.
//!
//! They say which fields are read, their types and bounds. Other fields are let through, as OpenAI does, unless they
//! would change the answer: those are refused by name and stand in `docs/api.md`.

use coldframe_backbone::sample::{LOGIT_BIAS_MAX, MAX_TOKENS_MAX, TOP_LOGPROBS_MAX};
use serde_json::{Map, Value, json};

/// All of them, by name.
pub fn all() -> Map<String, Value> {
    let groups = [errors(), chat(), completion(), generate(), text(), models(), lora()];
    groups.into_iter().flat_map(object).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("every group is written as an object"),
    }
}

/// An object's schema from its fields.
fn fields(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn number(low: f64, high: f64) -> Value {
    json!({"type": ["number", "null"], "minimum": low, "maximum": high})
}

fn integer(low: i64, high: i64) -> Value {
    json!({"type": ["integer", "null"], "minimum": low, "maximum": high})
}

/// Properties of `more` beside those that every OpenAI surface has.
fn with_sampling(more: Value) -> Value {
    let tokens = || integer(1, i64::from(MAX_TOKENS_MAX));
    let mut properties = object(json!({
        "model": {"type": "string", "description": "A function, `function@alias`, `base:function`, or a base model"},
        "adapter": {"description": "mistral.rs: a function's name or {\"generation\": …}"},
        "lora": {"type": ["array", "null"], "description": "llama.cpp: [{\"id\", \"scale\"}]"},
        "lora_adapter_name": nullable("string"),
        "max_tokens": tokens(),
        "max_completion_tokens": tokens(),
        "temperature": number(0.0, 2.0),
        "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": ["integer", "null"], "minimum": -1},
        "min_p": number(0.0, 1.0),
        "repetition_penalty": number(0.01, 10.0),
        "presence_penalty": number(-2.0, 2.0),
        "frequency_penalty": number(-2.0, 2.0),
        "logit_bias": {
            "type": ["object", "null"],
            "maxProperties": LOGIT_BIAS_MAX,
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        "n": integer(1, 16),
        "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
        "seed": nullable("integer"),
        "stream": nullable("boolean"),
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": nullable("boolean")},
        },
        "ignore_eos": nullable("boolean"),
        "include_stop_str_in_output": nullable("boolean"),
        "response_format": {
            "type": ["object", "null"],
            "required": ["type"],
            "properties": {
                "type": {"enum": ["text", "json_object", "json_schema"]},
                "json_schema": {"type": "object"},
            },
        },
        "guided_json": {"description": "vLLM: a JSON schema"},
        "user": nullable("string"),
    }));
    properties.extend(object(more));
    Value::Object(properties)
}

fn errors() -> Value {
    let error = fields(
        &["message", "type", "param", "code"],
        json!({
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": nullable("string"),
            "code": {"type": "string"},
            "details": {},
        }),
    );
    json!({
        "Error": fields(&["error"], json!({ "error": error })),
        "LoraxError": fields(&["error", "error_type"], json!({
            "error": {"type": "string"},
            "error_type": {"type": "string"},
        })),
        "Usage": fields(&["prompt_tokens", "completion_tokens", "total_tokens"], json!({
            "prompt_tokens": {"type": "integer"},
            "completion_tokens": {"type": "integer"},
            "total_tokens": {"type": "integer"},
            "prompt_tokens_details": {"type": "object"},
        })),
    })
}

fn reply(object: &str, choices: Value) -> Value {
    fields(
        &["id", "object", "created", "model", "choices", "adapter_generation", "system_fingerprint"],
        json!({
            "id": {"type": "string"},
            "object": {"const": object},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "system_fingerprint": {"type": "string"},
            "adapter_generation": nullable("string"),
            "choices": {"type": "array", "items": choices},
            "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]},
        }),
    )
}

fn choice(own: &str) -> Value {
    fields(
        &["index", own, "logprobs", "finish_reason"],
        json!({
            "index": {"type": "integer"},
            own: {},
            "logprobs": nullable("object"),
            "finish_reason": nullable("string"),
        }),
    )
}

fn chat() -> Value {
    let message = fields(
        &["role"],
        json!({
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"type": ["string", "array", "null"]},
            "tool_calls": {"type": ["array", "null"]},
            "tool_call_id": nullable("string"),
        }),
    );
    let request = with_sampling(json!({
        "messages": {"type": "array", "minItems": 1, "items": message},
        "logprobs": nullable("boolean"),
        "top_logprobs": integer(0, i64::from(TOP_LOGPROBS_MAX)),
        "tools": {"type": ["array", "null"], "maxItems": 128},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": nullable("boolean"),
        "chat_template_kwargs": nullable("object"),
    }));
    json!({
        "ChatCompletionRequest": fields(&["model", "messages"], request),
        "ChatCompletion": reply("chat.completion", choice("message")),
        "ChatCompletionChunk": reply("chat.completion.chunk", choice("delta")),
    })
}

fn completion() -> Value {
    let request = with_sampling(json!({
        "prompt": {"type": ["string", "array"], "description": "Text, token ids, or a list of either"},
        "echo": nullable("boolean"),
        "logprobs": integer(0, i64::from(TOP_LOGPROBS_MAX)),
        "best_of": nullable("integer"),
    }));
    json!({
        "CompletionRequest": fields(&["model", "prompt"], request),
        "Completion": reply("text_completion", choice("text")),
        "EmbeddingRequest": fields(&["model", "input"], json!({"model": {"type": "string"}, "input": {}})),
    })
}

fn generate() -> Value {
    let parameters = json!({
        "type": ["object", "null"],
        "properties": {
            "adapter_id": nullable("string"),
            "adapter_source": nullable("string"),
            "api_token": nullable("string"),
            "max_new_tokens": integer(1, i64::from(MAX_TOKENS_MAX)),
            "do_sample": nullable("boolean"),
            "temperature": number(0.0, 2.0),
            "top_k": nullable("integer"),
            "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
            "repetition_penalty": number(0.01, 10.0),
            "frequency_penalty": number(-2.0, 2.0),
            "presence_penalty": number(-2.0, 2.0),
            "stop": {"type": ["array", "null"], "items": {"type": "string"}},
            "seed": nullable("integer"),
            "details": nullable("boolean"),
            "return_full_text": nullable("boolean"),
            "return_k_alternatives": integer(0, i64::from(TOP_LOGPROBS_MAX)),
            "ignore_eos_token": nullable("boolean"),
            "apply_chat_template": nullable("boolean"),
            "response_format": nullable("object"),
        },
    });
    let request = json!({"inputs": {"type": "string"}, "parameters": parameters, "lora_path": {}});
    json!({
        "GenerateRequest": fields(&["inputs"], request),
        "Generated": fields(&["generated_text"], json!({
            "generated_text": {"type": "string"},
            "details": nullable("object"),
        })),
        "GeneratedToken": fields(&["token"], json!({
            "token": {"type": "object"},
            "generated_text": nullable("string"),
            "details": nullable("object"),
        })),
    })
}

fn text() -> Value {
    let ids = || json!({"type": "array", "items": {"type": "integer", "minimum": 0}});
    json!({
        "TokenizeRequest": fields(&[], json!({
            "model": nullable("string"),
            "prompt": nullable("string"),
            "content": nullable("string"),
            "messages": {"type": ["array", "null"]},
            "add_special_tokens": nullable("boolean"),
        })),
        "Tokens": fields(&["tokens"], json!({
            "tokens": ids(),
            "count": {"type": "integer"},
            "max_model_len": {"type": "integer"},
        })),
        "DetokenizeRequest": fields(&["tokens"], json!({"model": nullable("string"), "tokens": ids()})),
        "TemplateRequest": fields(&["messages"], json!({
            "model": nullable("string"),
            "messages": {"type": "array"},
            "tools": {"type": ["array", "null"]},
        })),
        "Text": fields(&["prompt"], json!({"prompt": {"type": "string"}, "content": {"type": "string"}})),
    })
}

fn models() -> Value {
    json!({
        "Model": fields(&["id", "object", "created", "owned_by", "root", "parent", "adapter_generation"], json!({
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "root": {"type": "string"},
            "parent": nullable("string"),
            "max_model_len": {"type": "integer"},
            "permission": {"type": "array"},
            "adapter_generation": nullable("string"),
        })),
        "ModelList": fields(&["object", "data"], json!({
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        })),
    })
}

fn lora() -> Value {
    let named = json!({
        "lora_name": {"type": "string"},
        "lora_int_id": nullable("integer"),
        "expected_generation": nullable("string"),
        "model": nullable("string"),
    });
    let mut load = object(named.clone());
    load.extend(object(json!({
        "lora_path": {"type": "string"},
        "load_inplace": nullable("boolean"),
        "is_3d_lora_weight": nullable("boolean"),
        "pinned": nullable("boolean"),
        "lora_id": nullable("string"),
        "load": nullable("boolean"),
    })));
    let scale = fields(&["id", "scale"], json!({"id": {"type": "integer"}, "scale": {"enum": [0, 1]}}));
    json!({
        "LoadAdapterRequest": fields(&["lora_name", "lora_path"], Value::Object(load)),
        "UnloadAdapterRequest": fields(&["lora_name"], named),
        "LoraList": fields(&["object", "data", "generations", "resident_bytes"], json!({
            "object": {"const": "list"},
            "data": {"type": "array"},
            "generations": {"type": "array"},
            "resident_bytes": {"type": "integer"},
        })),
        "LoadedAdapters": fields(&["success", "loaded_adapters"], json!({
            "success": {"type": "boolean"},
            "loaded_adapters": {"type": "object"},
        })),
        "LlamaAdapters": {"type": "array", "items": {"type": "object"}},
        "LlamaScales": {"type": "array", "items": scale},
        "LlamaDone": fields(&["success"], json!({"success": {"type": "boolean"}})),
    })
}
