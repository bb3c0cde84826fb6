/*
 * report_json.c -- a report as JSON, schema bulkhead.panic/1
 * (docs/panic-report.schema.json).
 *
 * What phase 2 may change stands last, behind `json_fixed`: to amend a report is to
 * cut it there and write the rest again.  Texts longer than their share are cut, and
 * "..._truncated" says by how many bytes.  The whole has a budget; what
 * comes in numbers (frames, groups of goroutines) stops at its share of it, and
 * the report's own "missing" names it.
 */

#include "report.h"

#include <string.h>
#include <time.h>

#include "utf8.h"

/* Shares of OB_JSON_SIZE, in bytes from the start. */
enum {
    FRAMES_END = 160 * 1024,
    WORLD_END = 224 * 1024,
    TEXT_MOST = 4096,
    NAME_MOST = 256,
    SNIPPETS = 3,
    GROUPS = 40,
};

/* ---- strings ----------------------------------------------------------------------- */

static void
put_escaped(struct ob_sheet *s, unsigned char c)
{
    static const char names[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    const char       *at = c != '\0' ? strchr(names, c) : NULL;

    if (at != NULL)
        ob_print(s, "\\%c", letters[at - names]);
    else
        ob_print(s, "\\u%04x", c);
}

size_t
ob_json_string(struct ob_sheet *s, const char *text, size_t most)
{
    size_t all = strlen(text), left = 0;

    ob_put(s, "\"");
    for (size_t i = 0, n; i < all; i += n) {
        const unsigned char *at = (const unsigned char *)text + i;

        n = ob_utf8_length(at, all - i);
        if (i + (n != 0 ? n : 1) > most) {
            left = all - i;
            break;
        }
        if (n == 0)
            ob_put(s, "\\ufffd");
        else if (n == 1 && (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f))
            put_escaped(s, *at);
        else
            ob_put_bytes(s, text + i, n);
        n += n == 0;
    }
    ob_put(s, "\"");
    return left;
}

/* put_text -- ,"name":"text", and how much was cut. */
static void
put_text(struct ob_sheet *s, const char *name, const char *text, size_t most)
{
    ob_print(s, ",\"%s\":", name);
    size_t left = ob_json_string(s, text, most);
    if (left != 0)
        ob_print(s, ",\"%s_truncated\":%zu", name, left);
}

static void
put_text_or_null(struct ob_sheet *s, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0')
        put_text(s, name, text, NAME_MOST);
    else
        ob_print(s, ",\"%s\":null", name);
}

static void
put_time(struct ob_sheet *s, int64_t ns)
{
    time_t    seconds = (time_t)(ns / 1000000000);
    struct tm t;
    char      text[32];

    if (gmtime_r(&seconds, &t) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t) == 0)
        text[0] = '\0';
    ob_print(s, "\"%s.%09lldZ\"", text, (long long)(ns % 1000000000));
}

static const char *
yes(bool b)
{
    return b ? "true" : "false";
}

/* ---- parts ------------------------------------------------------------------------- */

static void
put_service(struct ob_report *r)
{
    struct ob_sheet *s = &r->json;

    ob_put(s, ",\n\"service\":{\"language\":\"c\"");
    put_text(s, "name", ob_settings.service, NAME_MOST);
    put_text(s, "version", ob_settings.version, NAME_MOST);
    put_text(s, "instance_id", ob_settings.instance, NAME_MOST);
    ob_put(s, "},\n\"build\":{\"runtime\":\"" BH_VERSION "\"");
    put_text(s, "compiler",
#if defined(__clang__)
             "clang " __clang_version__,
#else
             "gcc " __VERSION__,
#endif
             NAME_MOST);
    put_text_or_null(s, "id", r->modules > 0 ? r->module[0].build_id : NULL);
    ob_put(s, ",\"modules\":[");
    for (int i = 0; i < r->modules; i++) {
        ob_print(s, "%s\n {\"start\":\"0x%llx\",\"end\":\"0x%llx\",\"offset\":\"0x%llx\"",
                 i > 0 ? "," : "", (unsigned long long)r->module[i].start,
                 (unsigned long long)r->module[i].end, (unsigned long long)r->module[i].offset);
        put_text(s, "file", r->module[i].path, NAME_MOST);
        put_text_or_null(s, "build_id", r->module[i].build_id);
        ob_put(s, "}");
    }
    ob_put(s, "]}");
}

static void
put_location(struct ob_report *r)
{
    const struct ob_raised *p = &r->slot->raised;
    struct ob_sheet        *s = &r->json;

    if (r->location >= 0) {
        const struct ob_frame *f = &r->frame[r->location];

        ob_print(s, ",\"location\":{\"line\":%d", f->line);
        put_text(s, "function", f->function, NAME_MOST);
        put_text(s, "file", f->file, NAME_MOST);
        ob_put(s, "}");
    } else if (p->file[0] != '\0') {
        ob_print(s, ",\"location\":{\"line\":%d,\"function\":\"\"", p->line);
        put_text(s, "file", p->file, NAME_MOST);
        ob_put(s, "}");
    } else {
        ob_put(s, ",\"location\":null");
    }
}

static void
put_fault(struct ob_sheet *s, const struct ob_raised *p)
{
    if (p->signal == 0) {
        ob_put(s, ",\"fault\":null");
        return;
    }
    ob_print(s, ",\"fault\":{\"signal\":%d,\"code\":%d,\"addr\":\"0x%llx\",\"pc\":\"0x%llx\"",
             p->signal, p->code, (unsigned long long)p->fault_addr, (unsigned long long)p->pc);
    ob_put(s, p->register_count > 0 ? ",\"registers\":{" : ",\"registers\":null}");
    for (int i = 0; i < p->register_count; i++)
        ob_print(s, "%s\"%s\":\"0x%llx\"%s", i > 0 ? "," : "", bh_register_name(i),
                 (unsigned long long)p->registers[i], i + 1 == p->register_count ? "}}" : "");
}

static void
put_panic(struct ob_report *r)
{
    const struct ob_raised *p = &r->slot->raised;
    struct ob_sheet        *s = &r->json;

    ob_print(s, ",\n\"panic\":{\"serial\":%llu,\"kind\":\"%s\",\"fingerprint\":\"%s\"",
             (unsigned long long)p->serial,
             p->signal != 0     ? "fault"
             : p->runtime_error ? "runtime"
                                : "user",
             r->fingerprint);
    put_text(s, "type", p->kind, NAME_MOST);
    put_text(s, "message", p->text, TEXT_MOST);
    put_location(r);
    put_fault(s, p);
    ob_put(s, ",\"chain\":[");
    for (int i = 0; i < p->chain_count; i++) {
        ob_print(s, "%s{\"serial\":%llu", i > 0 ? "," : "",
                 (unsigned long long)p->chain[i].serial);
        put_text(s, "type", p->chain[i].kind, NAME_MOST);
        put_text(s, "message", p->chain[i].text, TEXT_MOST);
        ob_put(s, "}");
    }
    ob_put(s, "]");
    if (p->chain_left_out > 0)
        ob_print(s, ",\"chain_truncated\":%d", p->chain_left_out);
    put_text_or_null(s, "earlier_report", r->earlier);
    ob_put(s, "}");
}

static void
put_trace(struct ob_report *r)
{
    static const struct bh_tag none;
    const struct bh_tag       *t = &r->slot->raised.tag;
    struct ob_sheet           *s = &r->json;

    if (memcmp(t->trace_id, none.trace_id, sizeof none.trace_id) == 0) {
        ob_put(s, ",\n\"trace\":null");
        return;
    }
    ob_put(s, ",\n\"trace\":{\"trace_id\":\"");
    ob_put_hex(s, t->trace_id, sizeof t->trace_id);
    ob_put(s, "\",\"span_id\":\"");
    ob_put_hex(s, t->span_id, sizeof t->span_id);
    ob_print(s, "\",\"sampled\":%s,\"forced\":%s,\"hop\":%u}", yes(t->sampled != 0),
             yes(t->sampled == 0), t->hop);
}

/* put_labels -- "k=v, k=v" as an object. */
static void
put_labels(struct ob_sheet *s, const char *labels)
{
    char        part[OB_JSON_SIZE / 256];
    const char *comma = "";

    ob_put(s, ",\"labels\":{");
    while (*labels != '\0') {
        size_t      n = strcspn(labels, ",");
        const char *end = labels + n;

        if (n >= sizeof part)
            n = sizeof part - 1;
        memcpy(part, labels, n);
        part[n] = '\0';
        char *equals = strchr(part, '=');
        if (equals != NULL) {
            *equals = '\0';
            ob_put(s, comma);
            (void)ob_json_string(s, part, NAME_MOST);
            ob_put(s, ":");
            (void)ob_json_string(s, equals + 1, NAME_MOST);
            comma = ",";
        }
        labels = *end == ',' ? end + 1 + strspn(end + 1, " ") : end;
    }
    ob_put(s, "}");
}

static void
put_locks(struct ob_sheet *s, const struct ob_raised *p)
{
    ob_put(s, p->lock_count >= 0 ? ",\"held_locks\":[" : ",\"held_locks\":null");
    for (int i = 0; i < p->lock_count && i < OB_LOCKS; i++)
        ob_print(s, "%s\"0x%llx\"", i > 0 ? "," : "", (unsigned long long)p->locks[i]);
    ob_put(s, p->lock_count >= 0 ? "]" : "");
    if (p->lock_count > OB_LOCKS)
        ob_print(s, ",\"held_locks_truncated\":%d", p->lock_count - OB_LOCKS);
}

static void
put_goroutine(struct ob_report *r)
{
    const struct ob_raised *p = &r->slot->raised;
    const struct ob_world  *w = &r->world;
    struct ob_sheet        *s = &r->json;

    ob_print(s, ",\n\"goroutine\":{\"id\":%llu,\"alive\":%s", (unsigned long long)p->goroutine,
             yes(w->self_known));
    put_text_or_null(s, "name", p->name);
    put_text(s, "state", w->state[0] != '\0' ? w->state : "running", NAME_MOST);
    put_labels(s, w->labels);
    put_text_or_null(s, "route", p->tag.route);
    put_text_or_null(s, "method", p->tag.method);
    if (p->stack_size > 0)
        ob_print(s, ",\"stack_used\":%zu,\"stack_size\":%zu", p->stack_used, p->stack_size);
    put_locks(s, p);
    ob_put(s, ",\"ancestors\":[");
    for (int i = 0; i < w->ancestors; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             n = w->ancestor[i].pc != 0 && !ob_settings.raw
                                ? bh_symbolize(w->ancestor[i].pc, f, BH_FRAMES_MAX)
                                : 0;

        ob_print(s, "%s{\"id\":%llu,\"pc\":\"0x%llx\"", i > 0 ? "," : "",
                 (unsigned long long)w->ancestor[i].id, (unsigned long long)w->ancestor[i].pc);
        put_text(s, "function", n > 0 ? f[0].function : "", NAME_MOST);
        put_text(s, "file", n > 0 ? f[0].file : "", NAME_MOST);
        ob_print(s, ",\"line\":%d}", n > 0 ? f[0].line : 0);
    }
    ob_put(s, "]}");
}

static void
put_snippet(struct ob_sheet *s, const struct ob_frame *f)
{
    static char lines[OB_SNIPPET_LINES][OB_SNIPPET_WIDTH];
    int         first, n = ob_snippet(f->file, f->line, &first, lines);

    if (n == 0)
        return;
    ob_print(s, ",\"snippet_line\":%d,\"snippet\":[", first);
    for (int i = 0; i < n; i++) {
        ob_put(s, i > 0 ? "," : "");
        (void)ob_json_string(s, lines[i], NAME_MOST);
    }
    ob_put(s, "]");
}

static void
put_frames(struct ob_report *r)
{
    struct ob_sheet *s = &r->json;
    int              snippets = 0;

    ob_put(s, ",\n\"frames\":[");
    for (int i = 0; i < r->frames; i++) {
        const struct ob_frame *f = &r->frame[i];

        if (s->used > FRAMES_END) {
            ob_report_miss(r, "frames", "too large");
            break;
        }
        ob_print(s, "%s\n {\"pc\":\"0x%llx\",\"module\":%d,\"line\":%d", i > 0 ? "," : "",
                 (unsigned long long)f->pc, f->module, f->line);
        put_text(s, "function", f->function, NAME_MOST);
        put_text(s, "file", f->file, NAME_MOST);
        ob_print(s, ",\"inlined\":%s,\"in_app\":%s,\"hidden\":%s", yes(f->inlined),
                 yes(f->in_app), yes(f->hidden));
        if (i >= r->location && r->location >= 0 && f->in_app && snippets++ < SNIPPETS)
            put_snippet(s, f);
        ob_put(s, "}");
    }
    ob_put(s, "]");
}

static void
put_events(struct ob_report *r)
{
    const struct ob_raised *p = &r->slot->raised;
    struct ob_sheet        *s = &r->json;

    ob_put(s, ",\n\"events\":[");
    for (int i = 0; i < p->event_count; i++) {
        const struct bh_flight_event *e = &p->event[i];

        ob_print(
            s,
            "%s\n {\"t_ns\":%lld,\"ev\":\"%s\",\"proc\":%d,\"goroutine\":%llu,\"other\":%llu",
            i > 0 ? "," : "", (long long)(e->ns - p->now), ob_event_name(e->kind), e->proc,
            (unsigned long long)e->goroutine, (unsigned long long)e->other);
        put_text_or_null(s, "why", e->why);
        put_text_or_null(s, "text", e->text);
        ob_put(s, "}");
    }
    ob_put(s, "]");
}

/* put_way -- the middleware, and the connection that carries the request. */
static void
put_way(struct ob_sheet *s, const struct ob_request *q)
{
    int shown = q->step_count < OB_CHAIN_STEPS ? q->step_count : OB_CHAIN_STEPS;

    ob_put(s, ",\"middleware\":[");
    for (int i = 0; i < shown; i++) {
        ob_put(s, i > 0 ? "," : "");
        (void)ob_json_string(s, q->steps[i], NAME_MOST);
    }
    ob_print(s, "],\"middleware_at\":%d", q->step);
    if (q->step_count > shown)
        ob_print(s, ",\"middleware_truncated\":%d", q->step_count - shown);
    if (q->has_tcp)
        ob_print(s,
                 ",\"conn\":{\"cookie\":%llu,\"rtt_us\":%u,\"rtt_var_us\":%u,\"rto_us\":%u,"
                 "\"retransmits\":%u,\"lost\":%u}",
                 (unsigned long long)q->tcp.cookie, q->tcp.rtt_us, q->tcp.rtt_var_us,
                 q->tcp.rto_us, q->tcp.retransmits, q->tcp.lost);
    else
        ob_put(s, ",\"conn\":null");
}

static void
put_request(struct ob_report *r)
{
    const struct ob_request *q = &r->slot->raised.request;
    struct ob_sheet         *s = &r->json;

    if (!r->slot->raised.has_request) {
        ob_put(s, ",\n\"http\":null");
        return;
    }
    ob_print(s,
             ",\n\"http\":{\"id\":%llu,\"version\":\"%d.%d\",\"secure\":%s,\"age_ns\":%lld,"
             "\"status_sent\":%d,\"bytes_written\":%llu",
             (unsigned long long)q->id, q->version / 10, q->version % 10, yes(q->secure),
             (long long)q->age, q->status, (unsigned long long)q->sent);
    put_text(s, "method", q->room + q->method, NAME_MOST);
    put_text(s, "path", q->room + q->path, NAME_MOST);
    put_text(s, "host", q->room + q->host, NAME_MOST);
    put_text(s, "route", q->room + q->route, NAME_MOST);
    put_text(s, "peer", q->room + q->peer, NAME_MOST);
    put_way(s, q);
    ob_put(s, ",\"headers\":[");
    for (int i = 0; i < q->header_count; i++) {
        ob_put(s, i > 0 ? ",[" : "[");
        (void)ob_json_string(s, q->room + q->header[i].name, NAME_MOST);
        ob_put(s, ",");
        (void)ob_json_string(s, q->room + q->header[i].value, NAME_MOST);
        ob_put(s, "]");
    }
    ob_put(s, "]");
    if (q->headers_left_out > 0)
        ob_print(s, ",\"headers_truncated\":%d", q->headers_left_out);
    ob_put(s, "}");
}

static void
put_group(struct ob_report *r, const struct ob_group *g)
{
    struct ob_sheet *s = &r->json;

    ob_print(s, "{\"count\":%lld,\"id\":%llu,\"system\":%s", (long long)g->count,
             (unsigned long long)g->id, yes(g->system));
    put_text(s, "state", g->state, NAME_MOST);
    ob_put(s, ",\"stack\":[");
    for (int i = 0, shown = 0; i < g->depth; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             n = ob_settings.raw ? 0 : bh_symbolize(g->pcs[i], f, BH_FRAMES_MAX);

        if (ob_settings.raw)
            ob_print(s, "%s\"0x%llx\"", i > 0 ? "," : "", (unsigned long long)g->pcs[i]);
        for (int k = 0; k < n; k++) {
            if (f[k].runtime && g->depth > 1 && i + 1 < g->depth)
                continue;
            ob_put(s, shown++ > 0 ? "," : "");
            (void)ob_json_string(s, f[k].function, NAME_MOST);
        }
    }
    ob_put(s, "]}");
}

static void
put_world(struct ob_report *r)
{
    const struct ob_world *w = &r->world;
    struct ob_sheet       *s = &r->json;
    int                    shown = 0;

    ob_print(s, ",\n\"world\":{\"goroutines\":%lld,\"by_state\":{", (long long)w->count);
    for (int i = 0; i < w->states; i++) {
        ob_put(s, i > 0 ? "," : "");
        (void)ob_json_string(s, w->by_state[i].state, NAME_MOST);
        ob_print(s, ":%lld", (long long)w->by_state[i].count);
    }
    ob_put(s, "},\"runq\":[");
    for (int i = 0; i < w->queues; i++)
        ob_print(s, "%s%lld", i > 0 ? "," : "", (long long)w->queue[i]);
    ob_print(
        s,
        "],\"runq_global\":%lld,\"threads\":%lld,\"timers\":%lld,\"heap_inuse\":%zu,\"fds\":%d",
        (long long)w->stats.run_queue_global, (long long)w->stats.threads,
        (long long)w->stats.timers, w->heap_in_use, w->fds);
    ob_print(s, ",\"panics_total\":%llu,\"snapshot_ns\":%lld",
             (unsigned long long)w->stats.panics_total, (long long)w->ns);
    for (int i = 0; i < w->numbers; i++)
        ob_print(s, ",\"%s\":%llu", w->number[i].name, (unsigned long long)w->number[i].value);
    ob_put(s, ",\"groups\":[");
    for (; shown < w->groups && shown < GROUPS && s->used < WORLD_END; shown++) {
        ob_put(s, shown > 0 ? ",\n " : "\n ");
        put_group(r, &w->group[shown]);
    }
    ob_print(s, "],\"groups_left_out\":%d}", w->groups - shown);
    ob_put(s, ",\n\"ranked_goroutines\":[");
    for (int i = 0; i < w->ranks; i++) {
        const struct ob_goroutine *g =
            w->ranked[i].at >= 0 ? &w->goroutine[w->ranked[i].at] : NULL;

        ob_print(s, "%s{\"id\":%llu,\"why\":\"%s\",\"waiting_ns\":%lld", i > 0 ? "," : "",
                 (unsigned long long)w->ranked[i].id, w->ranked[i].why,
                 g != NULL ? (long long)g->waiting_ns : 0);
        put_text(s, "state", g != NULL ? g->state : "ended", NAME_MOST);
        ob_put(s, "}");
    }
    ob_put(s, "]");
}

/* ---- what phase 2 changes ------------------------------------------------------------ */

static void
put_outcome(struct ob_sheet *s, const struct ob_known *k)
{
    const char *result = ob_result_name(k);

    if (result[0] == '\0')
        result = "unknown";
    ob_print(
        s,
        ",\n\"outcome\":{\"result\":\"%s\",\"goid\":%llu,\"unwind_ns\":%lld,\"defers_run\":%d,"
        "\"repanics\":%d,\"contained\":%s,\"lost\":%s,\"hook_failed\":%s",
        result, (unsigned long long)k->goroutine, (long long)k->unwind_ns, k->defers,
        k->repanics, yes(k->contained), yes(k->lost), yes(k->hook_failed));
    put_text_or_null(s, "by", k->by);
    if (k->reply_known)
        ob_print(s, ",\"reply\":{\"status\":%d,\"bytes_written\":%llu,\"aborted\":%s}",
                 k->status, (unsigned long long)k->sent, yes(k->aborted));
    else
        ob_put(s, ",\"reply\":null");
    ob_put(s, "}");
}

static void
put_defers(struct ob_sheet *s, const struct ob_known *k)
{
    ob_put(s, ",\n\"defers\":[");
    for (int i = 0; i < k->defer_count; i++) {
        bool returned = k->defer[i].ns >= 0;

        ob_print(s, "%s\n {\"pc\":\"0x%llx\",\"returned\":%s,\"recovered\":%s,\"ns\":%lld",
                 i > 0 ? "," : "", (unsigned long long)k->defer[i].fn, yes(returned),
                 yes(k->defer[i].recovered), returned ? (long long)k->defer[i].ns : 0);
        put_text(s, "function", k->defer[i].name, NAME_MOST);
        ob_put(s, "}");
    }
    ob_put(s, "]");
    if (k->defers > OB_DEFERS)
        ob_print(s, ",\"defers_truncated\":%d", k->defers - OB_DEFERS);
}

static void
put_rest(struct ob_report *r)
{
    const struct ob_known *k = &r->known;

    ob_print(&r->json, ",\n\"phase\":%d", ob_result_final(k) ? 2 : 1);
    put_outcome(&r->json, k);
    put_defers(&r->json, k);
    ob_put(&r->json, "}\n");
}

/* ---- whole --------------------------------------------------------------------------- */

void
ob_json_write(struct ob_report *r)
{
    const struct ob_raised *p = &r->slot->raised;
    struct ob_sheet        *s = &r->json;

    s->used = 0;
    s->cut = false;
    ob_print(s, "{\"schema\":\"bulkhead.panic/1\",\"id\":\"%s\",\"time\":", r->id);
    put_time(s, p->time);
    put_panic(r);
    put_trace(r);
    put_goroutine(r);
    put_frames(r);
    put_request(r);
    put_events(r);
    put_world(r);
    put_service(r);
    ob_print(s, ",\n\"complete\":%s,\"missing\":[", yes(r->missing_count == 0));
    for (int i = 0; i < r->missing_count; i++) {
        ob_put(s, i > 0 ? "," : "");
        ob_print(s, "{\"what\":\"%s\",\"why\":\"%s\"}", r->missing[i].what, r->missing[i].why);
    }
    ob_print(s, "],\n\"cost\":{\"hook_ns\":%lld,\"reporter_ns\":%lld}",
             (long long)p->capture_ns, (long long)(ob_now() - r->began));
    r->json_fixed = s->used;
    put_rest(r);
}

void
ob_json_write_rest(struct ob_report *r)
{
    r->json.used = 0;
    r->json.cut = false;
    put_rest(r);
}
