/* guardrail: words that must not be said are not said, and the caller still sees tokens as they come.
 *
 * Two fences. The token hook forbids the first token of each blocked word, in the ways it is usually written, before the
 * model chooses: the model says something else. What is spelled in pieces comes past that, so the handler holds text
 * back until it cannot be the beginning of a blocked word any more, and writes `[removed]` in place of one that is whole.
 *
 * The words are WORDS, or the value of the key `words` in the function's store: one a line, in lower case.
 */
#define COLDFRAME_HOOK
#include "coldframe.h"

static const char WORDS[] = "krill\nrum\ngrog\nmatey";
enum { WORDS_MAX = 64, FORBIDDEN_MAX = 4 * WORDS_MAX };

/* ---- The handler -------------------------------------------------------------------------------------------------- */

static cf_text words[WORDS_MAX];
static size_t word_count;

static void split(cf_text lines) {
    word_count = 0;
    for (size_t from = 0; from < lines.len && word_count < WORDS_MAX;) {
        ptrdiff_t end = cf_find(lines, CF("\n"), from);
        size_t to = end < 0 ? lines.len : (size_t)end;
        if (to > from) words[word_count++] = (cf_text){ lines.ptr + from, to - from };
        from = to + 1;
    }
}

/* The blocked words of the store, or the built-in ones where there are none. */
static bool read_words(cf_failure *failure) {
    cf_maybe_text found;
    if (!cf_state_get(CF("words"), &found, failure)) return false;
    split(found.some ? found.value : CF(WORDS));
    return true;
}

static char upper(char letter) { return (char)(letter >= 'a' && letter <= 'z' ? letter - 32 : letter); }

/* ` word`, `word`, ` Word`, `Word`. */
static cf_text spelled(cf_text word, unsigned way) {
    cf_text text = way & 1 ? CF_JOIN(word) : CF_JOIN(CF(" "), word);
    if (way & 2) {
        char *first = (char *)text.ptr + (way & 1 ? 0 : 1);
        *first = upper(*first);
    }
    return text;
}

/* Token ids to forbid, as the hook's context: 4 bytes each in lower-case hexadecimal. Only words of one or two tokens
   count: a longer one begins with a token that many innocent words share, and is left to the filter. */
static bool forbidden(cf_text *context, cf_failure *failure) {
    char *out = cf_alloc(FORBIDDEN_MAX * 8, 1);
    size_t len = 0;
    for (size_t i = 0; i < word_count; i++) {
        for (unsigned way = 0; way < 4; way++) {
            cf_tokens tokens;
            if (!cf_tokenize(spelled(words[i], way), &tokens, failure)) return false;
            if (tokens.len == 0 || tokens.len > 2 || len == FORBIDDEN_MAX * 8) continue;
            for (int shift = 28; shift >= 0; shift -= 4) out[len++] = "0123456789abcdef"[tokens.ptr[0] >> shift & 15];
        }
    }
    *context = (cf_text){ out, len };
    return true;
}

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* Length of the blocked word that stands at `at`; 0 where none does. */
static size_t blocked(cf_text lower, size_t at) {
    if (at > 0 && letter(lower.ptr[at - 1])) return 0;
    for (size_t i = 0; i < word_count; i++) {
        size_t end = at + words[i].len;
        if (end <= lower.len && memcmp(lower.ptr + at, words[i].ptr, words[i].len) == 0 &&
            (end == lower.len || !letter(lower.ptr[end])))
            return words[i].len;
    }
    return 0;
}

/* How much of `text` can go out: all up to the word that is still being spelled. */
static size_t ready(cf_text text, bool last) {
    size_t len = text.len;
    if (last) return len;
    while (len > 0 && letter(text.ptr[len - 1])) len--;
    return len;
}

/* Writes `text` up to `len` with blocked words taken out. */
static bool write_clean(cf_text text, size_t len, cf_failure *failure) {
    cf_text lower = cf_lower((cf_text){ text.ptr, len });
    size_t from = 0;
    for (size_t at = 0; at < len;) {
        size_t word = blocked(lower, at);
        if (word == 0) { at++; continue; }
        if (at > from && !cf_write((cf_text){ text.ptr + from, at - from }, failure)) return false;
        if (!cf_write(CF("[removed]"), failure)) return false;
        at += word;
        from = at;
    }
    return len == from || cf_write((cf_text){ text.ptr + from, len - from }, failure);
}

/* Streams a generation through the filter. */
static bool filter(cf_generation generation, cf_failure *failure) {
    cf_text held = CF("");
    cf_event event;
    for (;;) {
        cf_next_kind kind = cf_next(generation, &event, failure);
        if (kind != CF_NEXT_EVENT) return kind == CF_NEXT_OVER;
        held = CF_JOIN(held, cf_event_text(&event));
        size_t len = ready(held, event.kind == CF_END);
        if (!write_clean(held, len, failure)) return false;
        held = (cf_text){ held.ptr + len, held.len - len };
        if (event.kind == CF_END) cf_reply_ended(&event.end);
    }
}

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_task task = cf_task_of(request);
    task.hook.some = true;
    if (!read_words(failure) || !forbidden(&task.hook.value, failure)) return false;
    cf_generation generation = cf_generate(&task);
    bool well = filter(generation, failure);
    cf_generation_drop(generation);
    return well;
}

/* ---- The hook, in an instance of its own for each generation ------------------------------------------------------ */

static uint32_t ids[FORBIDDEN_MAX];
static size_t id_count;

void cf_begin(cf_text context) {
    id_count = 0;
    for (size_t at = 0; at + 8 <= context.len && id_count < FORBIDDEN_MAX; at += 8) {
        uint32_t id = 0;
        for (size_t i = 0; i < 8; i++) {
            char digit = context.ptr[at + i];
            id = id << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
        }
        ids[id_count++] = id;
    }
}

cf_verdict cf_before_token(const uint32_t *previous, cf_text text) {
    (void)previous, (void)text;
    if (id_count == 0) return (cf_verdict){ .kind = CF_GO_ON };
    return (cf_verdict){ .kind = CF_FORBID, .tokens = { ids, id_count } };
}
