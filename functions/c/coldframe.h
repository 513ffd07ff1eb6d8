/* coldframe.h: write a function of Coldframe in C.
 *
 * One header, no C library, no WASI: clang and lld make a module of a few kilobytes, and `coldframe function build`
 * wraps it into a component. The structures below are laid out as the component model's canonical ABI lays out the
 * types of function.wit, so nothing is converted on the way in or out.
 *
 * Include it in one source file. Define `bool cf_handle(const cf_request *, cf_failure *)`; for a token hook define
 * COLDFRAME_HOOK before the include, and `cf_begin` and `cf_before_token` beside it.
 *
 * Memory: cf_alloc takes from an arena that grows and is freed as a whole when the call ends. In a hook the arena is
 * emptied after each token, so what a hook remembers belongs in static variables. cf_mark and cf_release free a part.
 *
 * Left out: floating-point text, JSON parsing beyond cf_json_string, threads. A function that needs a C library can be
 * linked with one; nothing here is in its way.
 */
#ifndef COLDFRAME_H
#define COLDFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Types of function.wit ---------------------------------------------------------------------------------------- */

/* Text or bytes; not ended by a zero. */
typedef struct { const char *ptr; size_t len; } cf_text;
/* A name and a value. */
typedef struct { cf_text name, value; } cf_field;
/* A turn of a conversation: role is `system`, `user`, `assistant` or `tool`. */
typedef struct { cf_text role, content; } cf_message;

typedef struct { const cf_field *ptr; size_t len; } cf_fields;
typedef struct { const cf_message *ptr; size_t len; } cf_messages;
typedef struct { const cf_text *ptr; size_t len; } cf_texts;
typedef struct { const uint32_t *ptr; size_t len; } cf_tokens;
typedef struct { uint32_t token; float bias; } cf_bias;
typedef struct { const cf_bias *ptr; size_t len; } cf_biases;

typedef struct { bool some; uint32_t value; } cf_maybe_u32;
typedef struct { bool some; int32_t value; } cf_maybe_s32;
typedef struct { bool some; int64_t value; } cf_maybe_s64;
typedef struct { bool some; float value; } cf_maybe_f32;
typedef struct { bool some; cf_text value; } cf_maybe_text;

/* Sampling; what is absent takes the function's or the model's default. */
typedef struct {
    cf_maybe_u32 max_tokens;
    cf_maybe_f32 temperature, top_p;
    cf_maybe_s32 top_k;
    cf_maybe_f32 min_p, repetition_penalty, frequency_penalty, presence_penalty;
    cf_maybe_s64 seed;
    cf_texts stop;
    cf_biases logit_bias;
    cf_maybe_u32 top_logprobs;
} cf_params;

/* How the caller came in. */
enum { CF_CHAT, CF_COMPLETION, CF_INVOKE };

/* A call of the function. */
typedef struct {
    cf_text id;
    uint8_t route;
    cf_messages messages;
    cf_text prompt, body, method, path;
    cf_fields headers;
    cf_params params;
    uint32_t deadline_ms;
} cf_request;

/* Why something did not work: a stable word, and a text for people. */
typedef struct { cf_text code, message; } cf_failure;

/* What goes into a generation. */
enum { CF_INPUT_CHAT, CF_INPUT_RAW };
typedef struct { uint8_t kind; union { cf_messages chat; cf_text raw; }; } cf_input;

/* What a text must look like. */
enum { CF_FREE, CF_JSON_OBJECT, CF_JSON_SCHEMA };
typedef struct { uint8_t kind; cf_text schema; } cf_shape;

/* Something to generate. */
typedef struct {
    cf_input input;
    cf_params params;
    cf_shape shape;
    cf_maybe_text adapter;
    cf_maybe_text hook;
} cf_task;

/* A likely token, and a token of a generation. */
typedef struct { uint32_t id; cf_text text; float logprob; } cf_likely;
typedef struct {
    uint32_t id;
    cf_text text;
    cf_maybe_f32 logprob;
    struct { const cf_likely *ptr; size_t len; } top;
} cf_token;

/* How a generation ended. */
enum { CF_STOP, CF_LENGTH, CF_CANCELLED };
typedef struct { uint8_t reason; cf_text text; uint32_t prompt_tokens, completion_tokens; } cf_end;

/* What comes out of a generation. */
enum { CF_TOKEN, CF_END };
typedef struct { uint8_t kind; union { cf_token token; cf_end end; }; } cf_event;

/* A generation at work: it starts when it is made, and cf_generation_drop cancels it. */
typedef int32_t cf_generation;

/* Calls to other hosts. */
typedef struct { cf_text method, url; cf_fields headers; cf_text body; } cf_http_request;
typedef struct { uint16_t status; cf_fields headers; cf_text body; } cf_http_response;

/* What a hook wants done before the next token is chosen. */
enum { CF_GO_ON, CF_BIAS, CF_ONLY, CF_FORBID, CF_STOP_HERE };
typedef struct { uint8_t kind; union { cf_biases bias; cf_tokens tokens; }; } cf_verdict;

/* The layout is the contract: sizes and places as the canonical ABI has them. */
_Static_assert(sizeof(void *) == 4, "compile with --target=wasm32");
_Static_assert(sizeof(cf_params) == 104 && offsetof(cf_params, seed) == 64, "params");
_Static_assert(sizeof(cf_request) == 176 && offsetof(cf_request, params) == 64, "request");
_Static_assert(sizeof(cf_task) == 160 && offsetof(cf_task, shape) == 120, "task");
_Static_assert(sizeof(cf_token) == 28 && sizeof(cf_end) == 20 && sizeof(cf_event) == 32, "event");

/* ---- Imports ------------------------------------------------------------------------------------------------------ */

#define CF_IMPORT(interface, function) \
    __attribute__((import_module("coldframe:function/" interface "@0.1.0"), import_name(function)))

/* Results in memory: zero is success, and the value follows at offset 4. */
typedef struct { uint8_t failed; union { uint32_t number; cf_text text; cf_tokens tokens; cf_texts texts;
                                         cf_maybe_text maybe; cf_failure failure; }; } cf_result;
typedef struct { uint8_t failed; union { struct { uint8_t some; cf_event event; } next; cf_failure failure; }; } cf_result_next;
typedef struct { uint8_t failed; union { struct { cf_text text; cf_end end; } all; cf_failure failure; }; } cf_result_finish;
typedef struct { uint8_t failed; union { cf_http_response response; cf_failure failure; }; } cf_result_http;
_Static_assert(sizeof(cf_result) == 20 && sizeof(cf_result_next) == 40, "results");
_Static_assert(sizeof(cf_result_finish) == 32 && sizeof(cf_result_http) == 24, "results");

CF_IMPORT("model", "[constructor]generation") extern cf_generation cf_import_generation(const cf_task *);
CF_IMPORT("model", "[method]generation.next") extern void cf_import_next(cf_generation, cf_result_next *);
CF_IMPORT("model", "[method]generation.finish") extern void cf_import_finish(cf_generation, cf_result_finish *);
CF_IMPORT("model", "[method]generation.cancel") extern void cf_import_cancel(cf_generation);
CF_IMPORT("model", "[resource-drop]generation") extern void cf_import_drop(cf_generation);
CF_IMPORT("model", "wait-any") extern void cf_import_wait_any(const cf_generation *, size_t, cf_result *);
CF_IMPORT("model", "tokenize") extern void cf_import_tokenize(const char *, size_t, cf_result *);
CF_IMPORT("model", "detokenize") extern void cf_import_detokenize(const uint32_t *, size_t, cf_result *);
CF_IMPORT("model", "adapters") extern void cf_import_adapters(cf_texts *);
CF_IMPORT("reply", "start") extern void cf_import_start(uint32_t, const cf_field *, size_t, cf_result *);
CF_IMPORT("reply", "write") extern void cf_import_write(const char *, size_t, cf_result *);
CF_IMPORT("reply", "write-bytes") extern void cf_import_write_bytes(const char *, size_t, cf_result *);
CF_IMPORT("reply", "finish") extern void cf_import_finish_reply(const char *, size_t);
CF_IMPORT("log", "write") extern void cf_import_log(uint32_t, const char *, size_t);
CF_IMPORT("state", "get") extern void cf_import_state_get(const char *, size_t, cf_result *);
CF_IMPORT("state", "set") extern void cf_import_state_set(const char *, size_t, const char *, size_t, cf_result *);
CF_IMPORT("state", "delete") extern void cf_import_state_delete(const char *, size_t, cf_result *);
CF_IMPORT("state", "keys") extern void cf_import_state_keys(const char *, size_t, cf_result *);
CF_IMPORT("clock", "now-ms") extern uint64_t cf_import_now_ms(void);
CF_IMPORT("random", "bytes") extern void cf_import_random(uint32_t, cf_text *);
CF_IMPORT("http", "send") extern void cf_import_http(const char *, size_t, const char *, size_t, const cf_field *, size_t,
                                                     const char *, size_t, cf_result_http *);

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

extern char __heap_base;
static uintptr_t cf_top;

/* Where the arena stands; what is taken later is freed by cf_release. */
static inline uintptr_t cf_mark(void) {
    if (cf_top == 0) cf_top = (uintptr_t)&__heap_base;
    return cf_top;
}

static inline void cf_release(uintptr_t mark) { cf_top = mark; }

/* Memory from the arena; a trap when the function's limit is reached. */
static inline void *cf_alloc(size_t size, size_t align) {
    uintptr_t start = (cf_mark() + align - 1) & ~(uintptr_t)(align - 1);
    uintptr_t end = start + size;
    uintptr_t have = __builtin_wasm_memory_size(0) * 65536ul;
    if (end < start) __builtin_trap();
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) / 65536) == (size_t)-1) __builtin_trap();
    cf_top = end;
    return (void *)start;
}

/* The compiler calls these three for copies and comparisons that it does not write out itself. */
__attribute__((no_builtin, used)) void *memcpy(void *to, const void *from, size_t len) {
    char *target = to;
    const char *source = from;
    while (len--) *target++ = *source++;
    return to;
}

__attribute__((no_builtin, used)) void *memset(void *to, int value, size_t len) {
    char *target = to;
    while (len--) *target++ = (char)value;
    return to;
}

__attribute__((no_builtin, used)) int memcmp(const void *left, const void *right, size_t len) {
    const unsigned char *a = left, *b = right;
    for (; len; len--, a++, b++)
        if (*a != *b) return *a - *b;
    return 0;
}

__attribute__((export_name("cabi_realloc"), used))
void *cf_export_realloc(void *old, size_t old_size, size_t align, size_t size) {
    void *fresh = cf_alloc(size, align);
    return old_size ? memcpy(fresh, old, old_size < size ? old_size : size) : fresh;
}

/* ---- Text --------------------------------------------------------------------------------------------------------- */

/* A literal as text. */
#define CF(literal) ((cf_text){ (literal), sizeof(literal) - 1 })

static inline bool cf_same(cf_text a, cf_text b) { return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }

/* Where `what` first occurs in `text` from `from` on; -1 where it does not. */
static inline ptrdiff_t cf_find(cf_text text, cf_text what, size_t from) {
    for (size_t at = from; at + what.len <= text.len; at++)
        if (memcmp(text.ptr + at, what.ptr, what.len) == 0) return (ptrdiff_t)at;
    return -1;
}

/* Letters of ASCII in lower case. */
static inline cf_text cf_lower(cf_text text) {
    char *out = cf_alloc(text.len, 1);
    for (size_t i = 0; i < text.len; i++)
        out[i] = (char)(text.ptr[i] >= 'A' && text.ptr[i] <= 'Z' ? text.ptr[i] + 32 : text.ptr[i]);
    return (cf_text){ out, text.len };
}

/* Several texts as one. */
static inline cf_text cf_join(const cf_text *parts, size_t count) {
    size_t len = 0, at = 0;
    for (size_t i = 0; i < count; i++) len += parts[i].len;
    char *out = cf_alloc(len, 1);
    for (size_t i = 0; i < count; at += parts[i++].len) memcpy(out + at, parts[i].ptr, parts[i].len);
    return (cf_text){ out, len };
}
#define CF_JOIN(...) \
    cf_join((cf_text[]){ __VA_ARGS__ }, sizeof((cf_text[]){ __VA_ARGS__ }) / sizeof(cf_text))

/* A number in decimal. */
static inline cf_text cf_decimal(uint64_t number) {
    char *out = cf_alloc(20, 1);
    size_t at = 20;
    do out[--at] = (char)('0' + number % 10); while (number /= 10);
    return (cf_text){ out + at, 20 - at };
}

/* The string value of `"key"` in JSON of one level; empty where it is missing. Escapes other than \" \\ \n stay. */
static inline cf_text cf_json_string(cf_text json, cf_text key) {
    cf_text quoted = CF_JOIN(CF("\""), key, CF("\""));
    ptrdiff_t found = cf_find(json, quoted, 0);
    if (found < 0) return CF("");
    size_t at = (size_t)found + quoted.len, len = 0;
    while (at < json.len && (json.ptr[at] == ' ' || json.ptr[at] == ':' || json.ptr[at] == '\n')) at++;
    if (at >= json.len || json.ptr[at++] != '"') return CF("");
    char *out = cf_alloc(json.len - at, 1);
    for (; at < json.len && json.ptr[at] != '"'; at++) {
        bool escaped = json.ptr[at] == '\\' && at + 1 < json.len &&
                       (json.ptr[at + 1] == '"' || json.ptr[at + 1] == '\\' || json.ptr[at + 1] == 'n');
        if (escaped) at++;
        out[len++] = (char)(escaped && json.ptr[at] == 'n' ? '\n' : json.ptr[at]);
    }
    return (cf_text){ out, len };
}

/* ---- The model ---------------------------------------------------------------------------------------------------- */

/* A task for this conversation with the caller's sampling. */
static inline cf_task cf_chat_task(cf_messages messages, cf_params params) {
    return (cf_task){ .input = { .kind = CF_INPUT_CHAT, .chat = messages }, .params = params };
}

/* A task that continues this text with the caller's sampling. */
static inline cf_task cf_raw_task(cf_text prompt, cf_params params) {
    return (cf_task){ .input = { .kind = CF_INPUT_RAW, .raw = prompt }, .params = params };
}

/* The task that the caller asked for: the conversation, or the prompt as it stands, or on `invoke` the body as a user's
   message. */
static inline cf_task cf_task_of(const cf_request *request) {
    if (request->route == CF_CHAT) return cf_chat_task(request->messages, request->params);
    if (request->route == CF_COMPLETION) return cf_raw_task(request->prompt, request->params);
    cf_message *message = cf_alloc(sizeof *message, 4);
    *message = (cf_message){ CF("user"), request->body };
    return cf_chat_task((cf_messages){ message, 1 }, request->params);
}

/* The last thing that the caller said. */
static inline cf_text cf_question(const cf_request *request) {
    if (request->route == CF_COMPLETION) return request->prompt;
    if (request->route == CF_INVOKE) return request->body;
    for (size_t i = request->messages.len; i-- > 0;)
        if (cf_same(request->messages.ptr[i].role, CF("user"))) return request->messages.ptr[i].content;
    return CF("");
}

static inline cf_generation cf_generate(const cf_task *task) { return cf_import_generation(task); }
static inline void cf_generation_cancel(cf_generation generation) { cf_import_cancel(generation); }
static inline void cf_generation_drop(cf_generation generation) { cf_import_drop(generation); }

/* What cf_next found. */
typedef enum { CF_NEXT_EVENT, CF_NEXT_OVER, CF_NEXT_FAILED } cf_next_kind;

/* The next thing of a generation, waiting for it. */
static inline cf_next_kind cf_next(cf_generation generation, cf_event *event, cf_failure *failure) {
    cf_result_next result;
    cf_import_next(generation, &result);
    if (result.failed) { *failure = result.failure; return CF_NEXT_FAILED; }
    if (!result.next.some) return CF_NEXT_OVER;
    *event = result.next.event;
    return CF_NEXT_EVENT;
}

/* The text that an event brings. */
static inline cf_text cf_event_text(const cf_event *event) {
    return event->kind == CF_TOKEN ? event->token.text : event->end.text;
}

/* Everything until the end, as one text. */
static inline bool cf_finish(cf_generation generation, cf_text *text, cf_end *end, cf_failure *failure) {
    cf_result_finish result;
    cf_import_finish(generation, &result);
    if (result.failed) { *failure = result.failure; return false; }
    *text = result.all.text;
    if (end) *end = result.all.end;
    return true;
}

/* Waits until one of several generations has something, and says which. */
static inline bool cf_wait_any(const cf_generation *all, size_t count, uint32_t *which, cf_failure *failure) {
    cf_result result;
    cf_import_wait_any(all, count, &result);
    if (result.failed) *failure = result.failure; else *which = result.number;
    return !result.failed;
}

static inline bool cf_tokenize(cf_text text, cf_tokens *tokens, cf_failure *failure) {
    cf_result result;
    cf_import_tokenize(text.ptr, text.len, &result);
    if (result.failed) *failure = result.failure; else *tokens = result.tokens;
    return !result.failed;
}

static inline bool cf_detokenize(cf_tokens tokens, cf_text *text, cf_failure *failure) {
    cf_result result;
    cf_import_detokenize(tokens.ptr, tokens.len, &result);
    if (result.failed) *failure = result.failure; else *text = result.text;
    return !result.failed;
}

/* Names of the function's adapters, in the order of its manifest. */
static inline cf_texts cf_adapters(void) {
    cf_texts names;
    cf_import_adapters(&names);
    return names;
}

/* ---- The reply, the log, state, clock, random, http --------------------------------------------------------------- */

static inline bool cf_done(const cf_result *result, cf_failure *failure) {
    if (result->failed) *failure = result->failure;
    return !result->failed;
}

/* `invoke` only: status and headers, before the first write. */
static inline bool cf_start(uint16_t status, cf_fields headers, cf_failure *failure) {
    cf_result result;
    cf_import_start(status, headers.ptr, headers.len, &result);
    return cf_done(&result, failure);
}

/* Text to the caller, at once; waits while the caller is slow. */
static inline bool cf_write(cf_text text, cf_failure *failure) {
    cf_result result;
    cf_import_write(text.ptr, text.len, &result);
    return cf_done(&result, failure);
}

/* `invoke` only: bytes to the caller. */
static inline bool cf_write_bytes(cf_text bytes, cf_failure *failure) {
    cf_result result;
    cf_import_write_bytes(bytes.ptr, bytes.len, &result);
    return cf_done(&result, failure);
}

/* `chat` and `completion`: why the text ends, `stop` unless this says otherwise. */
static inline void cf_reply_finish(cf_text reason) { cf_import_finish_reply(reason.ptr, reason.len); }

/* Tells the caller why the generation ended. */
static inline void cf_reply_ended(const cf_end *end) {
    if (end->reason == CF_LENGTH) cf_reply_finish(CF("length"));
}

/* Generates and streams the answer to the caller, token by token. */
static inline bool cf_stream(const cf_task *task, cf_failure *failure) {
    cf_generation generation = cf_generate(task);
    cf_event event;
    cf_next_kind kind;
    bool well = true;
    while (well && (kind = cf_next(generation, &event, failure)) == CF_NEXT_EVENT) {
        cf_text text = cf_event_text(&event);
        if (text.len) well = cf_write(text, failure);
        if (event.kind == CF_END) cf_reply_ended(&event.end);
    }
    cf_generation_drop(generation);
    return well && kind == CF_NEXT_OVER;
}

enum { CF_DEBUG, CF_INFO, CF_WARN, CF_ERROR };
/* A line of the function's log. */
static inline void cf_log(uint32_t level, cf_text message) { cf_import_log(level, message.ptr, message.len); }

/* A value of the function's store, granted by `state`; `found->some` is false where there is none. */
static inline bool cf_state_get(cf_text key, cf_maybe_text *found, cf_failure *failure) {
    cf_result result;
    cf_import_state_get(key.ptr, key.len, &result);
    if (!result.failed) *found = result.maybe;
    return cf_done(&result, failure);
}

static inline bool cf_state_set(cf_text key, cf_text value, cf_failure *failure) {
    cf_result result;
    cf_import_state_set(key.ptr, key.len, value.ptr, value.len, &result);
    return cf_done(&result, failure);
}

static inline bool cf_state_delete(cf_text key, cf_failure *failure) {
    cf_result result;
    cf_import_state_delete(key.ptr, key.len, &result);
    return cf_done(&result, failure);
}

/* Keys that start with `prefix`, sorted. */
static inline bool cf_state_keys(cf_text prefix, cf_texts *keys, cf_failure *failure) {
    cf_result result;
    cf_import_state_keys(prefix.ptr, prefix.len, &result);
    if (!result.failed) *keys = result.texts;
    return cf_done(&result, failure);
}

/* Milliseconds since 1970, granted by `clock`. */
static inline uint64_t cf_now_ms(void) { return cf_import_now_ms(); }

/* Bytes by chance, granted by `random`. */
static inline cf_text cf_random(uint32_t len) {
    cf_text bytes;
    cf_import_random(len, &bytes);
    return bytes;
}

/* A call to another host, one of `allowed_outbound_hosts`. */
static inline bool cf_http_send(const cf_http_request *request, cf_http_response *response, cf_failure *failure) {
    cf_result_http result;
    cf_import_http(request->method.ptr, request->method.len, request->url.ptr, request->url.len, request->headers.ptr,
                   request->headers.len, request->body.ptr, request->body.len, &result);
    if (result.failed) *failure = result.failure; else *response = result.response;
    return !result.failed;
}

/* ---- Exports ------------------------------------------------------------------------------------------------------ */

/* Answers one request; false makes the call fail with `failure`. Yours to write. */
bool cf_handle(const cf_request *request, cf_failure *failure);

static cf_result cf_handled;

__attribute__((export_name("coldframe:function/handler@0.1.0#handle"), used))
cf_result *cf_export_handle(const cf_request *request) {
    cf_failure failure = { CF("failed"), CF("") };
    cf_handled.failed = !cf_handle(request, &failure);
    if (cf_handled.failed) cf_handled.failure = failure;
    return &cf_handled;
}

#ifndef COLDFRAME_OWN_POST_RETURN
__attribute__((export_name("cabi_post_coldframe:function/handler@0.1.0#handle"), used))
void cf_export_handled(cf_result *result) {
    (void)result;
    cf_release((uintptr_t)&__heap_base);
}
#endif

#ifdef COLDFRAME_HOOK
/* Called once in a generation's own instance, before the first token, with the task's `hook` text. Yours to write. */
void cf_begin(cf_text context);
/* Called before each token with the one before it (NULL before the first) and its text. Yours to write. */
cf_verdict cf_before_token(const uint32_t *previous, cf_text text);

static cf_verdict cf_judged;

__attribute__((export_name("coldframe:function/token-hook@0.1.0#begin"), used))
void cf_export_begin(const char *ptr, size_t len) {
    cf_begin((cf_text){ ptr, len });
    cf_release((uintptr_t)&__heap_base);
}

__attribute__((export_name("coldframe:function/token-hook@0.1.0#before-token"), used))
cf_verdict *cf_export_before_token(uint32_t some, uint32_t previous, const char *ptr, size_t len) {
    cf_judged = cf_before_token(some ? &previous : NULL, (cf_text){ ptr, len });
    return &cf_judged;
}

__attribute__((export_name("cabi_post_coldframe:function/token-hook@0.1.0#before-token"), used))
void cf_export_judged(cf_verdict *verdict) {
    (void)verdict;
    cf_release((uintptr_t)&__heap_base);
}
#endif

#endif
