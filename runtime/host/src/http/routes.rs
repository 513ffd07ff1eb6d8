//! The edge's own routes: method, path, who may use it, what answers, what it is for.

use super::infer::{chat, completion, generate, invoke};
use super::lora::{llama, sglang, vllm};
use super::openapi::{Describe, HTML, JSON, TEXT};
use super::router::{Access, Route};
use super::{docs_page, models, probes, tokens};
use Access::{Admin, Invoke, Operator, Public};
use http::Method;
use serde_json::json;

const INFERENCE: &str = "Inference";
const FUNCTIONS: &str = "Functions";
const TOKENS: &str = "Tokens";
const LORA: &str = "LoRA adapters";
const SERVER: &str = "Server";

/// Methods of raw requests.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// All of them.
pub fn all() -> Vec<Route> {
    let mut routes = inference();
    routes.extend(raw());
    routes.extend(text());
    routes.extend(lora());
    routes.extend(server());
    routes.extend(documents());
    routes
}

fn words(summary: &'static str, tag: &'static str) -> Describe {
    Describe::new(tag, summary)
}

fn inference() -> Vec<Route> {
    let chat_words = words("Answer a chat", INFERENCE)
        .body("ChatCompletionRequest")
        .json(200, "ChatCompletion")
        .events(200, "ChatCompletionChunk");
    let completion_words = words("Complete text", INFERENCE)
        .body("CompletionRequest")
        .json(200, "Completion")
        .events(200, "Completion");
    let generate_words =
        words("Generate, as LoRAX and TGI have it", INFERENCE).body("GenerateRequest").json(200, "Generated");
    let stream_words = words("Generate token by token, as LoRAX and TGI have it", INFERENCE)
        .body("GenerateRequest")
        .events(200, "GeneratedToken");
    let embed_words =
        words("Embeddings: the models served here make text", INFERENCE).body("EmbeddingRequest");
    vec![
        Route::new(Method::POST, "/v1/chat/completions", Invoke, chat::answer, chat_words),
        Route::new(Method::POST, "/v1/completions", Invoke, completion::answer, completion_words),
        Route::new(Method::POST, "/v1/embeddings", Invoke, chat::embeddings, embed_words),
        Route::new(Method::POST, "/generate", Invoke, generate::whole, generate_words).lorax(),
        Route::new(Method::POST, "/generate_stream", Invoke, generate::stream, stream_words).lorax(),
        Route::new(
            Method::GET,
            "/v1/models",
            Invoke,
            models::list,
            words("List models and functions", INFERENCE).json(200, "ModelList"),
        ),
        Route::new(
            Method::GET,
            "/v1/models/{*id}",
            Invoke,
            models::one,
            words("Show a model or function", INFERENCE).json(200, "Model"),
        ),
    ]
}

/// A function's own code may answer any status and any media type.
fn raw() -> Vec<Route> {
    let patterns = ["/invoke/{function}", "/invoke/{function}/{*path}"];
    let route = |pattern: &'static str, method: Method| {
        let describe = words("Send a raw request to a function's own code", FUNCTIONS);
        let describe = match method {
            Method::GET | Method::DELETE => describe,
            _ => describe.body_of("*/*", json!({})),
        };
        Route::new(method, pattern, Invoke, invoke::answer, describe.reply(200, "*/*", json!({})))
    };
    patterns.into_iter().flat_map(|pattern| METHODS.map(|method| route(pattern, method))).collect()
}

fn text() -> Vec<Route> {
    vec![
        Route::new(
            Method::POST,
            "/tokenize",
            Invoke,
            tokens::tokenize_route,
            words("Text or a chat to token ids", TOKENS).body("TokenizeRequest").json(200, "Tokens"),
        ),
        Route::new(
            Method::POST,
            "/detokenize",
            Invoke,
            tokens::detokenize_route,
            words("Token ids to text", TOKENS).body("DetokenizeRequest").json(200, "Text"),
        ),
        Route::new(
            Method::POST,
            "/apply-template",
            Invoke,
            tokens::template_route,
            words("A chat as the model sees it", TOKENS).body("TemplateRequest").json(200, "Text"),
        ),
    ]
}

fn lora() -> Vec<Route> {
    let load = || words("Register an adapter", LORA).body("LoadAdapterRequest");
    let unload = || words("Remove an adapter", LORA).body("UnloadAdapterRequest");
    let done = |describe: Describe| {
        describe.reply(200, TEXT, json!({"type": "string"})).reply(200, JSON, json!({"type": "object"}))
    };
    let scales = || words("Set which adapter answers where a request names none", LORA);
    vec![
        Route::new(Method::POST, "/v1/load_lora_adapter", Admin, vllm::load, done(load())),
        Route::new(Method::POST, "/v1/unload_lora_adapter", Admin, vllm::unload, done(unload())),
        Route::new(
            Method::GET,
            "/v1/lora_adapters",
            Invoke,
            vllm::list,
            words("List adapters and where they are", LORA).json(200, "LoraList"),
        ),
        Route::new(
            Method::POST,
            "/load_lora_adapter",
            Admin,
            sglang::load,
            load().json(200, "LoadedAdapters"),
        ),
        Route::new(
            Method::POST,
            "/unload_lora_adapter",
            Admin,
            sglang::unload,
            unload().json(200, "LoadedAdapters"),
        ),
        Route::new(
            Method::GET,
            "/lora-adapters",
            Invoke,
            llama::list,
            words("List adapters as llama.cpp does", LORA).json(200, "LlamaAdapters"),
        ),
        Route::new(
            Method::POST,
            "/lora-adapters",
            Admin,
            llama::set,
            scales().body("LlamaScales").json(200, "LlamaDone"),
        ),
    ]
}

fn server() -> Vec<Route> {
    let probe = |summary| words(summary, SERVER).reply(200, TEXT, json!({"type": "string"}));
    let tags = |describe: Describe| {
        let one = json!({"type": "array", "items": {"enum": ["weights", "kv_cache"]}});
        describe.query("tags", one, "What to give back or take again; without, everything.")
    };
    let level = json!({"type": "integer", "enum": [0, 1, 2]});
    let sleep = words("Give memory back", SERVER).query(
        "level",
        level,
        "1: adapters and KV pages; 2: all. Default 1.",
    );
    let object = || json!({"type": "object"});
    vec![
        Route::new(Method::GET, "/health", Public, probes::health, probe("The process is up")),
        Route::new(Method::GET, "/ping", Public, probes::health, probe("The process is up")),
        Route::new(Method::GET, "/startup", Public, probes::startup, probe("Start-up is over")),
        Route::new(Method::GET, "/ready", Public, probes::ready, probe("Calls can be answered")),
        Route::new(
            Method::GET,
            "/version",
            Public,
            probes::version,
            words("The version", SERVER).reply(200, JSON, object()),
        ),
        Route::new(
            Method::GET,
            "/info",
            Invoke,
            probes::info,
            words("Facts about the server", SERVER).reply(200, JSON, object()),
        ),
        // It names functions of every tenant.
        Route::new(
            Method::GET,
            "/metrics",
            Operator,
            probes::metrics,
            probe("Metrics, as Prometheus reads them"),
        ),
        Route::new(Method::POST, "/sleep", Operator, probes::sleep, tags(sleep).empty(200)),
        Route::new(
            Method::POST,
            "/wake_up",
            Operator,
            probes::wake_up,
            tags(words("Take memory again", SERVER)).empty(200),
        ),
        Route::new(
            Method::GET,
            "/is_sleeping",
            Invoke,
            probes::is_sleeping,
            words("Whether the server sleeps", SERVER).reply(200, JSON, object()),
        ),
    ]
}

fn documents() -> Vec<Route> {
    let page = words("This API, as a page", SERVER).reply(200, HTML, json!({"type": "string"}));
    let document = words("This API, as OpenAPI", SERVER).reply(200, JSON, json!({"type": "object"}));
    vec![
        Route::new(Method::GET, "/docs", Public, docs_page::page, page),
        Route::new(Method::GET, "/api-doc/openapi.json", Public, docs_page::document, document),
    ]
}
