/*
 * outcome.c -- in words: what became of a panic (phase 2), and what its goroutine did before.
 */

#include "report.h"

#include <bulkhead/go/error.h>

void
ob_known_read(struct ob_known *k, struct ob_outcome *o)
{
    k->result = (enum bh_panic_step)atomic_load(&o->result);
    k->contained = atomic_load(&o->contained);
    k->lost = atomic_load(&o->lost);
    k->hook_failed = atomic_load(&o->hook_failed);
    k->by = atomic_load(&o->by);
    k->goroutine = atomic_load(&o->goroutine);
    k->defers = atomic_load(&o->defers);
    k->repanics = atomic_load(&o->repanics);
    k->unwind_ns = atomic_load(&o->unwind_ns);
    k->reply_known = atomic_load(&o->reply.known) != 0;
    k->status = atomic_load(&o->reply.status);
    k->rc = atomic_load(&o->reply.rc);
    k->sent = atomic_load(&o->reply.sent);
    k->aborted = atomic_load(&o->reply.aborted);
    k->defer_count = 0;
    for (int i = 0; i < OB_DEFERS; i++) {
        uintptr_t fn = atomic_load(&o->defer[i].fn);

        if (fn == 0)
            continue;
        k->defer[k->defer_count].fn = fn;
        k->defer[k->defer_count].ns = atomic_load(&o->defer[i].ns);
        k->defer[k->defer_count].recovered = atomic_load(&o->defer[i].recovered);
        k->defer[k->defer_count].name = ob_function_name(fn);
        if (k->by == NULL && k->defer[k->defer_count].recovered)
            k->by = k->defer[k->defer_count].name;
        k->defer_count++;
    }
    if (k->by == NULL && k->result == BH_PANIC_RECOVERED && k->reply_known &&
        k->rc == BH_EPANIC)
        k->by = "bh_http_recover";
}

const char *
ob_result_name(const struct ob_known *k)
{
    if (k->lost)
        return "lost";
    switch (k->result) {
    case BH_PANIC_RECOVERED:
        return k->contained ? "contained" : "recovered";
    case BH_PANIC_REPANICKED:
        return "repanicked";
    case BH_PANIC_GOEXIT:
        return "goexit";
    case BH_PANIC_FATAL:
        return "fatal";
    case BH_PANIC_REPLACED:
        return "replaced";
    default:
        return k->contained ? "contained" : "";
    }
}

bool
ob_result_final(const struct ob_known *k)
{
    return k->result == BH_PANIC_RECOVERED || k->result == BH_PANIC_GOEXIT ||
           k->result == BH_PANIC_FATAL || k->result == BH_PANIC_REPLACED;
}

const char *
ob_event_name(enum bh_flight_kind kind)
{
    static const char *const names[BH_FLIGHT_KINDS] = {
        [BH_FLIGHT_CREATE] = "create",   [BH_FLIGHT_START] = "start",
        [BH_FLIGHT_STOP] = "stop",       [BH_FLIGHT_BLOCK] = "block",
        [BH_FLIGHT_UNBLOCK] = "unblock", [BH_FLIGHT_END] = "end",
        [BH_FLIGHT_TASK] = "task",       [BH_FLIGHT_TASK_END] = "task end",
        [BH_FLIGHT_REGION] = "region",   [BH_FLIGHT_REGION_END] = "region end",
        [BH_FLIGHT_LOG] = "log",
    };

    return kind < BH_FLIGHT_KINDS && names[kind] != NULL ? names[kind] : "?";
}
