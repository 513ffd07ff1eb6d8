/* json-extract: whatever is asked, the answer is JSON that keeps to SCHEMA.
 *
 * The adapter has learned to answer in this form, but now and then it drops a quote. The schema is compiled into a
 * grammar by the host, which masks every token that would break it, so the answer parses always.
 */
#include "coldframe.h"

static const char SCHEMA[] =
    "{\"type\":\"object\","
    "\"properties\":{\"answer\":{\"type\":\"string\",\"maxLength\":160},\"lang\":{\"type\":\"string\",\"pattern\":\"^[a-z]{2}$\"}},"
    "\"required\":[\"answer\",\"lang\"],\"additionalProperties\":false}";

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_text question = cf_question(request);
    if (question.len == 0) {
        *failure = (cf_failure){ CF("invalid"), CF("nothing was asked: send a user message, a prompt or a body") };
        return false;
    }
    if (request->route == CF_INVOKE) {
        cf_field json = { CF("content-type"), CF("application/json") };
        if (!cf_start(200, (cf_fields){ &json, 1 }, failure)) return false;
    }
    cf_message message = { CF("user"), question };
    cf_task task = cf_chat_task((cf_messages){ &message, 1 }, request->params);
    task.shape.kind = CF_JSON_SCHEMA;
    task.shape.schema = CF(SCHEMA);
    return cf_stream(&task, failure);
}
