/*
 * frames.c -- names for the addresses of a panic, and which of them matter.
 *
 * A frame is the program's own (in_app) if it is neither the runtime's, nor in
 * another part of Bulkhead, nor in a library of the system.  Others are hidden
 * where a short text is wanted; they stay in the JSON.  The frames above the one
 * that panicked (our hook, the runtime's way to it) are hidden too.
 *
 * The fingerprint is made of the program's own functions, so that it does not
 * depend on which of ours were on the way.
 */

#include "report.h"

#include <string.h>

#include "limiter.h"

enum { FINGERPRINT_FUNCTIONS = 5 };

/* ---- modules --------------------------------------------------------------------- */

static void
copy(char *to, size_t size, const char *from)
{
    size_t n = strnlen(from, size - 1);

    memcpy(to, from, n);
    to[n] = '\0';
}

static bool
is_system(const char *path)
{
    static const char *const prefixes[] = { "/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/",
                                            "[" };
    const char              *name = strrchr(path, '/');

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return name != NULL && strncmp(name, "/libbulkhead.so", 15) == 0;
}

static bool
add_module(const struct bh_module *m, void *arg)
{
    struct ob_report *r = arg;
    struct ob_module *to = &r->module[r->modules];

    if (r->modules == OB_MODULES) {
        ob_report_miss(r, "modules", "too many");
        return false;
    }
    copy(to->path, sizeof to->path, m->path);
    copy(to->build_id, sizeof to->build_id, m->build_id);
    to->start = m->start;
    to->end = m->end;
    to->offset = m->offset;
    to->system = is_system(m->path);
    r->modules++;
    return true;
}

void
ob_modules_read(struct ob_report *r)
{
    r->modules = 0;
    (void)bh_modules(add_module, r);
}

int
ob_module_at(const struct ob_report *r, uintptr_t pc)
{
    for (int i = 0; i < r->modules; i++)
        if (pc >= r->module[i].start && pc < r->module[i].end)
            return i;
    return -1;
}

/* ---- whose a frame is -------------------------------------------------------------- */

/* own_root -- where this library's sources were compiled: its length, the text in *path. */
static size_t
own_root(const char **path)
{
    static const char here[] = "observe/frames.c";
    struct bh_frame   f[BH_FRAMES_MAX];
    int               n = bh_symbolize((uintptr_t)ob_frames_read + 1, f, BH_FRAMES_MAX);

    *path = n > 0 ? f[n - 1].file : "";
    size_t length = strlen(*path), tail = sizeof here - 1;
    if (length < tail || strcmp(*path + length - tail, here) != 0)
        return (size_t)-1;
    return length - tail;
}

static bool
is_ours(const char *file)
{
    static const char *const folders[] = { "runtime/", "http/", "observe/", "base/" };
    const char              *root, *dot = strrchr(file, '.');
    size_t                   length = own_root(&root);

    if (length == (size_t)-1 || strncmp(file, root, length) != 0)
        return false;
    if (dot != NULL && dot - file >= 5 && strncmp(dot - 5, "_test", 5) == 0)
        return false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (strncmp(file + length, folders[i], strlen(folders[i])) == 0)
            return true;
    return false;
}

static bool
is_app(const struct ob_report *r, const struct bh_frame *f, int module)
{
    if (f->runtime || module < 0 || r->module[module].system)
        return false;
    return !is_ours(f->file);
}

/* ---- frames ---------------------------------------------------------------------- */

static void
add_names(struct ob_report *r, uintptr_t pc)
{
    struct bh_frame names[BH_FRAMES_MAX];
    int module = ob_module_at(r, pc - 1), n = bh_symbolize(pc, names, BH_FRAMES_MAX);

    for (int i = 0; i < n && r->frames < OB_FRAMES; i++) {
        bool app = is_app(r, &names[i], module);

        r->frame[r->frames++] = (struct ob_frame){
            .pc = pc,
            .module = module,
            .line = names[i].line,
            .function = names[i].function,
            .file = names[i].file,
            .inlined = names[i].inlined,
            .in_app = app,
            .hidden = !app,
        };
    }
}

static void
add_raw(struct ob_report *r, uintptr_t pc)
{
    int module = pc != 0 ? ob_module_at(r, pc - 1) : -1;

    if (r->frames == OB_FRAMES)
        return;
    r->frame[r->frames++] = (struct ob_frame){
        .pc = pc,
        .module = module,
        .function = "",
        .file = "",
        .in_app = module >= 0 && !r->module[module].system,
    };
}

/* entry_end -- how many frames lead from the panic to our hook. */
static int
entry_end(const struct ob_report *r)
{
    static const char *const doors[] = { "bh_panic_at_",  "bh_panic_value_at_",
                                         "bh_repanic",    "bh_require_failed_",
                                         "rt_sigpanic",   "abort",
                                         "__assert_fail", "__assert_perror_fail" };
    int                      end = 0;

    for (int i = 0; i < r->frames && !r->frame[i].in_app; i++)
        for (size_t d = 0; d < sizeof doors / sizeof *doors; d++)
            if (strcmp(r->frame[i].function, doors[d]) == 0)
                end = i + 1;
    return end;
}

void
ob_frames_read(struct ob_report *r)
{
    const struct ob_raised *raised = &r->slot->raised;

    r->frames = 0;
    r->location = -1;
    if (ob_settings.raw) {
        for (int i = 0; i < raised->depth; i++)
            add_raw(r, raised->pcs[i]);
        ob_report_miss(r, "names", "addresses only, as asked for");
        return;
    }
    bh_symbolize_all(raised->pcs, (size_t)raised->depth);
    for (int i = 0; i < raised->depth; i++)
        if (raised->pcs[i] == 0)
            add_raw(r, 0);
        else
            add_names(r, raised->pcs[i]);
    if (r->frames == OB_FRAMES)
        ob_report_miss(r, "frames", "too many");
    r->location = entry_end(r);
    while (r->location < r->frames && r->frame[r->location].hidden)
        r->location++;
    if (r->location == r->frames)
        r->location = -1;
}

void
ob_fingerprint_make(struct ob_report *r, uint64_t *fingerprint)
{
    const struct ob_raised *raised = &r->slot->raised;
    const char             *names[FINGERPRINT_FUNCTIONS];
    char                    raw[FINGERPRINT_FUNCTIONS][96];
    int                     count = 0, skip = ob_settings.raw ? 0 : entry_end(r);

    for (int i = skip; i < r->frames && count < FINGERPRINT_FUNCTIONS; i++) {
        const struct ob_frame *f = &r->frame[i];

        if (!f->in_app && !ob_settings.raw)
            continue;
        if (f->function[0] != '\0' && strcmp(f->function, "??") != 0) {
            names[count++] = f->function;
        } else if (f->module >= 0) { /* without a name: the same code in the same file */
            const struct ob_module *m = &r->module[f->module];

            (void)snprintf(raw[count], sizeof raw[count], "%s+%llx", m->build_id,
                           (unsigned long long)(f->pc - m->start + m->offset));
            names[count] = raw[count];
            count++;
        }
    }
    if (count == 0 && raised->file[0] != '\0')
        names[count++] = raised->file;
    *fingerprint = ob_fingerprint(raised->kind, names, count);
    (void)snprintf(r->fingerprint, sizeof r->fingerprint, "%016llx",
                   (unsigned long long)*fingerprint);
}

const char *
ob_function_name(uintptr_t entry)
{
    struct bh_frame f[BH_FRAMES_MAX];
    int             n = ob_settings.raw ? 0 : bh_symbolize(entry + 1, f, BH_FRAMES_MAX);

    return n > 0 ? f[n - 1].function : "";
}
