/* {{name}}: answers as its adapter does, streamed. */
#include "coldframe.h"

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_task task = cf_task_of(request);
    cf_log(CF_INFO, CF_JOIN(CF("asked: "), cf_question(request)));
    return cf_stream(&task, failure);
}
