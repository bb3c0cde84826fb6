/*
 * load.c -- report.json into a struct report.
 *
 * A report comes from another machine, perhaps from another version: what is absent
 * is "" or 0, never an error.  Only what is no JSON, or of another schema, is one.
 *
 * Its texts come from requests, and from who knows whom: so that there is nothing for a
 * terminal to obey in them, they lose all control characters here, before anybody sees them.
 */

#include "reports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bh_arena *arena;

enum { FILE_MAX = 16 * 1024 * 1024, FINGERPRINT_FUNCTIONS = 5 };

char *
clean(char *text)
{
    for (unsigned char *t = (unsigned char *)text; *t != '\0'; t++)
        if (*t < 0x20 || *t == 0x7f)
            *t = ' ';
        else if (*t == 0xc2 && t[1] >= 0x80 && t[1] <= 0x9f) /* U+0080 to U+009F */
            t[0] = t[1] = ' ';
    return text;
}

/* All names and texts, which are in our arena. */
static void
clean_json(const struct bh_json *j)
{
    if (j->name != NULL)
        (void)clean((char *)(uintptr_t)j->name);
    if (j->type == BH_JSON_TEXT)
        (void)clean((char *)(uintptr_t)j->text);
    else if (j->type == BH_JSON_LIST || j->type == BH_JSON_OBJECT)
        for (const struct bh_json *m = j->first; m != NULL; m = m->next)
            clean_json(m);
}

static const char *
read_file(const char *path, size_t *size)
{
    struct stat st;
    int         fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        (void)close(fd);
        errno = EFBIG;
        return NULL;
    }
    char *text = bh_arena_alloc(arena, (size_t)st.st_size + 1);
    *size = 0;
    for (ssize_t n; *size < (size_t)st.st_size; *size += (size_t)n)
        if ((n = read(fd, text + *size, (size_t)st.st_size - *size)) <= 0)
            break;
    (void)close(fd);
    return text;
}

static const char *
inner_text(const struct bh_json *json, const char *object, const char *name)
{
    return bh_json_text(bh_json_get(json, object), name, "");
}

static void
load_frames(struct report *r)
{
    const struct bh_json *f;

    r->raw = true;
    for (uint32_t i = 0;
         i < FRAMES_MAX && (f = bh_json_at(bh_json_get(r->json, "frames"), i)) != NULL; i++) {
        struct frame *to = &r->frame[r->frames++];

        to->pc = strtoull(bh_json_text(f, "pc", "0"), NULL, 16);
        to->module = (int)bh_json_int(f, "module", -1);
        to->line = (int)bh_json_int(f, "line", 0);
        to->function = bh_json_text(f, "function", "");
        to->file = bh_json_text(f, "file", "");
        to->inlined = bh_json_bool(f, "inlined", false);
        to->in_app = bh_json_bool(f, "in_app", false);
        to->hidden = bh_json_bool(f, "hidden", false);
        to->snippet = bh_json_get(f, "snippet");
        to->snippet_line = (int)bh_json_int(f, "snippet_line", 0);
        r->raw = r->raw && to->function[0] == '\0';
    }
    r->raw = r->raw && r->frames > 0;
}

static struct report *
from_json(const char *path, const struct bh_json *json)
{
    struct report *r = bh_arena_alloc(arena, sizeof *r);

    r->path = clean(bh_arena_print(arena, "%s", path));
    r->json = json;
    r->id = bh_json_text(json, "id", "");
    r->time = bh_json_text(json, "time", "");
    r->type = inner_text(json, "panic", "type");
    r->message = inner_text(json, "panic", "message");
    r->fingerprint = inner_text(json, "panic", "fingerprint");
    r->outcome = inner_text(json, "outcome", "result");
    r->by = inner_text(json, "outcome", "by");
    r->version = inner_text(json, "service", "version");
    r->location = -1;
    load_frames(r);
    if (r->raw)
        symbolize(r);
    frames_sort_out(r);
    return r;
}

int
load_report(const char *path, struct report **out)
{
    const struct bh_json *json = NULL;
    struct stat           st;
    size_t                size = 0;
    const char           *file = stat(path, &st) == 0 && S_ISDIR(st.st_mode)
                                     ? bh_arena_print(arena, "%s/report.json", path)
                                     : path;
    const char           *text = read_file(file, &size);

    if (text == NULL) {
        int error = errno;

        (void)fprintf(stderr, "bh_report: %s: %s\n", clean(bh_arena_print(arena, "%s", file)),
                      strerror(error));
        return -1;
    }
    if (bh_json_parse(arena, text, size, &json) < 0 ||
        strncmp(bh_json_text(json, "schema", ""), "bulkhead.panic/", 15) != 0) {
        (void)fprintf(stderr, "bh_report: %s: not a report of a panic\n",
                      clean(bh_arena_print(arena, "%s", file)));
        return -1;
    }
    clean_json(json);
    *out = from_json(path, json);
    return 0;
}

static int
by_time(const void *a, const void *b)
{
    const struct report *const *x = a, *const *y = b;

    return strcmp((*x)->id, (*y)->id);
}

int
load_folder(const char *path, struct report ***out)
{
    DIR           *d = opendir(path);
    struct dirent *e;
    struct stat    st;
    size_t         count = 0, room = 64;

    if (d == NULL) {
        (void)fprintf(stderr, "bh_report: %s: %s\n", path, strerror(errno));
        return -1;
    }
    struct report **all = bh_arena_alloc(arena, room * sizeof *all);
    while ((e = readdir(d)) != NULL) {
        const char *one = bh_arena_print(arena, "%s/%s", path, e->d_name);
        const char *json = bh_arena_print(arena, "%s/report.json", one);

        if (e->d_name[0] == '.' || stat(json, &st) != 0)
            continue;
        if (count == room) {
            struct report **more = bh_arena_alloc(arena, 2 * room * sizeof *all);

            memcpy(more, all, room * sizeof *all);
            all = more;
            room *= 2;
        }
        count += load_report(one, &all[count]) == 0;
    }
    (void)closedir(d);
    qsort(all, count, sizeof *all, by_time);
    *out = all;
    return (int)count;
}

/* ---- whose frames they are ----------------------------------------------------------- */

/* own_root -- where Bulkhead was compiled: the hook that captured is among the frames. */
static size_t
own_root(const struct report *r, const char **root)
{
    static const char hook[] = "observe/capture.c";

    for (int i = 0; i < r->frames; i++) {
        size_t n = strlen(r->frame[i].file), tail = sizeof hook - 1;

        if (n >= tail && strcmp(r->frame[i].file + n - tail, hook) == 0) {
            *root = r->frame[i].file;
            return n - tail;
        }
    }
    return (size_t)-1;
}

static bool
is_ours(const char *file, const char *root, size_t length)
{
    static const char *const folders[] = { "runtime/", "http/", "observe/", "base/" };

    if (length == (size_t)-1 || strncmp(file, root, length) != 0)
        return false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (strncmp(file + length, folders[i], strlen(folders[i])) == 0)
            return true;
    return false;
}

static uint64_t
fnv(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3U;
    return (h ^ '\n') * 0x100000001b3U;
}

/* The same as the process makes where it has names: limiter.c. */
static void
fingerprint_again(struct report *r)
{
    uint64_t h = fnv(0xcbf29ce484222325U, r->type);
    int      count = 0;

    for (int i = 0; i < r->frames && count < FINGERPRINT_FUNCTIONS; i++)
        if (r->frame[i].in_app && r->frame[i].function[0] != '\0') {
            h = fnv(h, r->frame[i].function);
            count++;
        }
    if (count > 0)
        r->fingerprint = bh_arena_print(arena, "%016" PRIx64, h);
}

void
frames_sort_out(struct report *r)
{
    const char *root = "";
    size_t      length = own_root(r, &root);

    if (r->raw) {
        for (int i = 0; i < r->frames; i++) {
            struct frame *f = &r->frame[i];

            f->in_app = f->in_app && !is_ours(f->file, root, length);
            f->hidden = !f->in_app;
        }
        fingerprint_again(r);
    }
    for (int i = 0; i < r->frames && r->location < 0; i++)
        if (r->frame[i].in_app && !r->frame[i].hidden)
            r->location = i;
}
