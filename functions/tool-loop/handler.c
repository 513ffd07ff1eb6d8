/* tool-loop: several generations and an allowed HTTP call for one answer.
 *
 * First the model fills in a form: which page to look up (a JSON schema leaves it no other way out). The function fetches
 * the page's summary from the one host that its manifest allows, puts it into the conversation, and lets the model
 * answer, streamed. A tool that fails is told to the model as such: the caller gets an answer all the same, and the
 * function's log says what went wrong.
 */
#include "coldframe.h"

static const char HOST[] = "https://en.wikipedia.org/api/rest_v1/page/summary/";
static const char FORM[] =
    "{\"type\":\"object\",\"properties\":{\"page\":{\"type\":\"string\",\"pattern\":\"^[A-Z][a-z]{1,24}$\"}},"
    "\"required\":[\"page\"],\"additionalProperties\":false}";
/* Two examples say more to a small model than an instruction. */
static const char ASK[] = "Name the encyclopedia page that answers a question. Its title is the main noun of the question.";
enum { EXTRACT_MAX = 600 };

/* Asks the model which page to read. Its words are checked by the schema, so they are safe in an address. */
static bool plan(cf_text question, cf_text *page, cf_failure *failure) {
    cf_message messages[] = {
        { CF("system"), CF(ASK) },
        { CF("user"), CF("How tall is Everest?") },
        { CF("assistant"), CF("{\"page\": \"Everest\"}") },
        { CF("user"), CF("Where do kangaroos live?") },
        { CF("assistant"), CF("{\"page\": \"Kangaroos\"}") },
        { CF("user"), question },
    };
    cf_task task = cf_chat_task((cf_messages){ messages, 6 }, (cf_params){ 0 });
    task.adapter = (cf_maybe_text){ true, CF("base") };
    task.shape = (cf_shape){ CF_JSON_SCHEMA, CF(FORM) };
    task.params.max_tokens = (cf_maybe_u32){ true, 48 };
    cf_generation generation = cf_generate(&task);
    cf_text form;
    bool well = cf_finish(generation, &form, NULL, failure);
    cf_generation_drop(generation);
    if (well) *page = cf_json_string(form, CF("page"));
    return well;
}

/* The tool: a page's summary, or a sentence that says why there is none. */
static cf_text look_up(cf_text page) {
    cf_field agent = { CF("accept"), CF("application/json") };
    cf_http_request request = { CF("GET"), CF_JOIN(CF(HOST), page), { &agent, 1 }, CF("") };
    cf_http_response response;
    cf_failure failure;
    if (!cf_http_send(&request, &response, &failure)) {
        cf_log(CF_WARN, CF_JOIN(CF("look-up of "), page, CF(" failed: "), failure.code, CF(": "), failure.message));
        return CF("The look-up failed.");
    }
    cf_log(CF_INFO, CF_JOIN(CF("looked up "), page, CF(": status "), cf_decimal(response.status)));
    cf_text extract = cf_json_string(response.body, CF("extract"));
    if (response.status != 200 || extract.len == 0) return CF("There is no such page.");
    return (cf_text){ extract.ptr, extract.len < EXTRACT_MAX ? extract.len : EXTRACT_MAX };
}

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_text question = cf_question(request), page = CF("");
    if (!plan(question, &page, failure)) return false;
    /* A length limit may have cut the form short: then there is nothing to look up. */
    cf_text found = page.len ? look_up(page) : CF("There is no such page.");
    cf_message messages[] = {
        { CF("system"), CF_JOIN(CF("What the encyclopedia says about "), page, CF(": "), found) },
        { CF("user"), question },
    };
    cf_task task = cf_chat_task((cf_messages){ messages, 2 }, request->params);
    task.adapter = (cf_maybe_text){ true, CF("base") };
    return cf_stream(&task, failure);
}
