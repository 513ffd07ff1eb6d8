/* router: one function, three voices. Each request is answered by one of the function's own adapters.
 *
 * A question that names an adapter (`@shout what is rain?`) gets that one; one that speaks of JSON gets `json`; one that
 * ends in an exclamation mark gets `shout`; any other the first adapter of the manifest. All of them run in the same
 * batch on the same backbone, so a router costs no more than its adapters.
 */
#include "coldframe.h"

/* The adapter that the question names after an `@`, taken off the question; none where it names none of ours. */
static bool named(cf_text *question, cf_text *adapter) {
    if (question->len == 0 || question->ptr[0] != '@') return false;
    ptrdiff_t space = cf_find(*question, CF(" "), 0);
    size_t end = space < 0 ? question->len : (size_t)space;
    cf_text name = { question->ptr + 1, end - 1 };
    cf_texts ours = cf_adapters();
    for (size_t i = 0; i < ours.len; i++) {
        if (!cf_same(ours.ptr[i], name)) continue;
        *adapter = ours.ptr[i];
        size_t skip = end < question->len ? end + 1 : end;
        *question = (cf_text){ question->ptr + skip, question->len - skip };
        return true;
    }
    return false;
}

static cf_text choose(cf_text *question) {
    cf_text adapter;
    if (named(question, &adapter)) return adapter;
    if (cf_find(cf_lower(*question), CF("json"), 0) >= 0) return CF("json");
    if (question->len && question->ptr[question->len - 1] == '!') return CF("shout");
    return cf_adapters().len ? cf_adapters().ptr[0] : CF("base");
}

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_text question = cf_question(request);
    cf_text adapter = choose(&question);
    cf_log(CF_INFO, CF_JOIN(CF("answered by "), adapter));
    cf_message message = { CF("user"), question };
    cf_task task = cf_chat_task((cf_messages){ &message, 1 }, request->params);
    task.adapter = (cf_maybe_text){ true, adapter };
    return cf_stream(&task, failure);
}
