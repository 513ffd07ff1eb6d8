/* budget-hog: a function that breaks a limit each time it is called, the one that the prompt names.
 *
 * infinite-loop, memory-bomb, deep-recursion, table-growth, host-call-flood, log-flood, output-flood, generation-flood,
 * token-flood, state-flood, trap, trap-in-hook, loop-in-hook, panic-in-drop, failure. It shows that each ends with its
 * own error and that the neighbours feel nothing; tests and benchmarks call it in a loop.
 */
#define COLDFRAME_HOOK
#define COLDFRAME_OWN_POST_RETURN
#include "coldframe.h"

/* Written where the compiler cannot leave it out. */
static volatile uint32_t sink;
static bool panics_in_drop;

/* Grows a table of references of its own and returns its old size, or -1. C has no word for tables. */
__asm__(".tabletype hog_table, funcref\nhog_table:\n");
static int32_t table_grow(int32_t slots) {
    int32_t old;
    __asm__ volatile("ref.null_func\n local.get %1\n table.grow hog_table\n local.set %0" : "=r"(old) : "r"(slots));
    return old;
}

static void loop_for_ever(void) {
    for (;;) sink++;
}

static void eat_memory(void) {
    for (;;) {
        volatile char *page = cf_alloc(65536, 1);
        page[0] = 1;
    }
}

/* Without end for any depth that an address can hold; not a tail call, so every level keeps its frame. */
__attribute__((noinline)) static uint32_t recurse(uint32_t depth) {
    if (depth == UINT32_MAX) return sink;
    return recurse(depth + 1) + sink;
}

static void grow_table(void) {
    while (table_grow(1 << 16) != -1) sink++;
    __builtin_trap();
}

static void flood_host(void) {
    for (;;) sink += cf_adapters().len;
}

static bool flood_log(cf_failure *failure) {
    for (int i = 0; i < 10000; i++) cf_log(CF_INFO, CF("a line of forty bytes that nobody asked for"));
    return cf_write(CF("the log was cut and the call went on"), failure);
}

static bool flood_output(cf_failure *failure) {
    static char block[1024];
    memset(block, 'x', sizeof block);
    for (;;)
        if (!cf_write((cf_text){ block, sizeof block }, failure)) return false;
}

static bool flood_generations(const cf_request *request) {
    cf_task task = cf_task_of(request);
    for (int i = 0; i < 10000; i++) sink += (uint32_t)cf_generate(&task);
    return true;
}

/* One generation after the other, each of its most tokens. */
static bool flood_tokens(const cf_request *request, cf_failure *failure) {
    cf_task task = cf_raw_task(CF("One, two, three, four,"), request->params);
    for (;;)
        if (!cf_stream(&task, failure)) return false;
}

static bool flood_state(cf_failure *failure) {
    static char value[65536];
    for (uint64_t i = 0;; i++)
        if (!cf_state_set(cf_decimal(i), (cf_text){ value, sizeof value }, failure)) return false;
}

/* A generation whose hook does what `how` says. */
static bool hooked(const cf_request *request, cf_text how, cf_failure *failure) {
    cf_task task = cf_task_of(request);
    task.hook = (cf_maybe_text){ true, how };
    return cf_stream(&task, failure);
}

bool cf_handle(const cf_request *request, cf_failure *failure) {
    cf_text mode = cf_question(request);
    if (cf_same(mode, CF("infinite-loop"))) loop_for_ever();
    if (cf_same(mode, CF("memory-bomb"))) eat_memory();
    if (cf_same(mode, CF("deep-recursion"))) sink = recurse(0);
    if (cf_same(mode, CF("table-growth"))) grow_table();
    if (cf_same(mode, CF("host-call-flood"))) flood_host();
    if (cf_same(mode, CF("log-flood"))) return flood_log(failure);
    if (cf_same(mode, CF("output-flood"))) return flood_output(failure);
    if (cf_same(mode, CF("generation-flood"))) return flood_generations(request);
    if (cf_same(mode, CF("token-flood"))) return flood_tokens(request, failure);
    if (cf_same(mode, CF("state-flood"))) return flood_state(failure);
    if (cf_same(mode, CF("trap"))) __builtin_trap();
    if (cf_same(mode, CF("trap-in-hook")) || cf_same(mode, CF("loop-in-hook"))) return hooked(request, mode, failure);
    if (cf_same(mode, CF("panic-in-drop"))) {
        panics_in_drop = true;
        return cf_write(CF("said before the end"), failure);
    }
    *failure = (cf_failure){ CF("unknown_mode"), CF_JOIN(CF("there is no such way to break a limit: "), mode) };
    return false;
}

__attribute__((export_name("cabi_post_coldframe:function/handler@0.1.0#handle"), used))
void hog_handled(cf_result *result) {
    (void)result;
    if (panics_in_drop) __builtin_trap();
}

static bool loops;

void cf_begin(cf_text context) { loops = cf_same(context, CF("loop-in-hook")); }

cf_verdict cf_before_token(const uint32_t *previous, cf_text text) {
    (void)previous, (void)text;
    if (loops) loop_for_ever();
    __builtin_trap();
}
