/*
 * profile_encode.c -- a profile as pprof reads it: the protocol buffer, compressed.
 *
 * Two steps.  First every address becomes a location, once, and a location's functions,
 * inlined ones included, become functions, once; all strings are put into one table, which
 * begins as a copy of the builder's, so that numbers of its names stay good.  Then the
 * message is written, backwards (pb.h), into a buffer that is doubled until it fits.
 *
 * An address that we add is a return address; pprof wants an address inside the call, so it
 * gets one less.  (What was interrupted itself has been given plus 1, see profile.h.)
 *
 * We name functions and lines ourselves: pprof could only do so where it finds the files,
 * and would lose what was inlined.  Raw profiles leave that to it.
 */

#include "sample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <bulkhead/go/inspect.h>

#include "pb.h"

enum { MODULES_MAX = 256 };

struct line {
    uint32_t function; /* its number, from 1 */
    int      line;
};

struct location {
    uintptr_t   pc;
    int         mapping; /* number, from 1; 0: none */
    int         line_count;
    struct line lines[BH_FRAMES_MAX];
};

struct function {
    uint32_t name, file;
};

struct mapping {
    uintptr_t start, end;
    uint64_t  offset;
    uint32_t  path, build_id;
};

struct encoder {
    const struct bh_profile *p;
    bool                     raw, failed;
    struct ob_names          names;
    struct location         *locations; /* number - 1 */
    uint32_t                 location_count, location_slots, *by_pc;
    struct function         *functions;
    uint32_t                 function_count, function_slots, *by_name;
    struct mapping           mappings[MODULES_MAX];
    int                      mapping_count;
};

static uint32_t
name(struct encoder *e, const char *text)
{
    int64_t n = ob_names_add(&e->names, text);

    if (n < 0)
        e->failed = true;
    return n > 0 ? (uint32_t)n : 0;
}

/* ---- locations and functions ----------------------------------------------------- */

static uint32_t
hash(uint64_t n)
{
    return (uint32_t)((n * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static uint32_t *
find_location(const struct encoder *e, uintptr_t pc)
{
    uint32_t i = hash(pc) & (e->location_slots - 1);

    while (e->by_pc[i] != 0 && e->locations[e->by_pc[i] - 1].pc != pc)
        i = (i + 1) & (e->location_slots - 1);
    return &e->by_pc[i];
}

static uint32_t *
find_function(const struct encoder *e, struct function f)
{
    uint32_t i = hash((uint64_t)f.name << 32 | f.file) & (e->function_slots - 1);

    for (; e->by_name[i] != 0; i = (i + 1) & (e->function_slots - 1)) {
        const struct function *g = &e->functions[e->by_name[i] - 1];

        if (g->name == f.name && g->file == f.file)
            break;
    }
    return &e->by_name[i];
}

/* A table of numbers for up to `count` things, at most half full.  NULL: no memory. */
static uint32_t *
new_slots(size_t count, uint32_t *slots)
{
    *slots = 64;
    while (*slots < 2 * count)
        *slots *= 2;
    return calloc(*slots, sizeof(uint32_t));
}

static int
find_mapping(const struct encoder *e, uintptr_t pc)
{
    for (int i = 0; i < e->mapping_count; i++)
        if (pc >= e->mappings[i].start && pc < e->mappings[i].end)
            return i + 1;
    return 0;
}

static bool
one_more_location(struct encoder *e)
{
    uint32_t         n = e->location_count;
    struct location *more;

    if (n % 256 != 0)
        return true;
    more = realloc(e->locations, (n + 256) * sizeof *more);
    if (more != NULL)
        e->locations = more;
    return more != NULL;
}

/* Every address of every sample, once.  Returns: false without memory. */
static bool
collect_locations(struct encoder *e)
{
    const struct bh_profile *p = e->p;
    size_t                   most = 0;

    for (uint32_t i = 0; i < p->count; i++)
        most += p->samples[i].depth;
    e->by_pc = new_slots(most, &e->location_slots);
    if (e->by_pc == NULL)
        return false;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct ob_sample *s = &p->samples[i];

        for (int d = 0; d < s->depth && !ob_is_zero(p, s); d++) {
            uint32_t *slot = find_location(e, s->pcs[d]);

            if (*slot != 0)
                continue;
            if (!one_more_location(e))
                return false;
            e->locations[e->location_count] = (struct location){ .pc = s->pcs[d] };
            *slot = ++e->location_count;
        }
    }
    return true;
}

static bool
add_mapping(const struct bh_module *m, void *arg)
{
    struct encoder *e = arg;

    if (e->mapping_count == MODULES_MAX)
        return false;
    e->mappings[e->mapping_count++] = (struct mapping){
        m->start, m->end, m->offset, name(e, m->path), name(e, m->build_id),
    };
    return true;
}

/* For want of a name: the file, "[libc.so.6]"; pprof would take all "??" for one function. */
static uint32_t
name_of_file(struct encoder *e, const struct location *l)
{
    char        text[128];
    const char *path = l->mapping > 0 ? e->names.text[e->mappings[l->mapping - 1].path] : "??";
    const char *slash = strrchr(path, '/');

    (void)snprintf(text, sizeof text, "[%s]", slash != NULL ? slash + 1 : path);
    return name(e, text);
}

static bool
name_location(struct encoder *e, struct location *l)
{
    struct bh_frame frames[BH_FRAMES_MAX];
    int             n = bh_symbolize(l->pc, frames, BH_FRAMES_MAX);

    for (int i = 0; i < n; i++) {
        struct function f = { name(e, frames[i].function), name(e, frames[i].file) };
        uint32_t       *slot;

        if (strcmp(frames[i].function, "??") == 0)
            f.name = name_of_file(e, l);
        slot = find_function(e, f);
        if (*slot == 0) {
            e->functions[e->function_count] = f;
            *slot = ++e->function_count;
        }
        l->lines[l->line_count++] = (struct line){ *slot, frames[i].line };
    }
    return !e->failed;
}

/* Functions and lines of every location.  Returns: false without memory. */
static bool
name_locations(struct encoder *e)
{
    size_t     most = (size_t)e->location_count * BH_FRAMES_MAX;
    uintptr_t *pcs = malloc((e->location_count + 1) * sizeof *pcs);

    e->by_name = new_slots(most, &e->function_slots);
    e->functions = malloc((most + 1) * sizeof *e->functions);
    if (pcs == NULL || e->by_name == NULL || e->functions == NULL) {
        free(pcs);
        return false;
    }
    for (uint32_t i = 0; i < e->location_count; i++)
        pcs[i] = e->locations[i].pc;
    bh_symbolize_all(pcs, e->location_count);
    free(pcs);
    for (uint32_t i = 0; i < e->location_count; i++)
        if (!name_location(e, &e->locations[i]))
            return false;
    return true;
}

/* ---- the message: see profile.proto for the numbers of fields -------------------- */

static void
put_pair(struct pb *w, uint32_t field, uint32_t type, uint32_t unit)
{
    size_t mark = pb_begin(w);

    pb_uint(w, 2, unit);
    pb_uint(w, 1, type);
    pb_end(w, field, mark);
}

static void
put_label(struct pb *w, const struct ob_label *l)
{
    size_t mark = pb_begin(w);

    pb_uint(w, 4, l->unit);
    pb_int(w, 3, l->number);
    pb_uint(w, 2, l->text);
    pb_uint(w, 1, l->key);
    pb_end(w, 3, mark);
}

static void
put_sample(const struct encoder *e, struct pb *w, const struct ob_sample *s)
{
    size_t mark = pb_begin(w), part;

    for (int i = s->label_count - 1; i >= 0; i--)
        put_label(w, &s->labels[i]);
    part = pb_begin(w);
    for (int i = e->p->type_count - 1; i >= 0; i--)
        pb_varint(w, (uint64_t)s->values[i]);
    pb_end(w, 2, part);
    part = pb_begin(w);
    for (int i = s->depth - 1; i >= 0; i--)
        pb_varint(w, *find_location(e, s->pcs[i]));
    if (s->depth > 0)
        pb_end(w, 1, part);
    pb_end(w, 2, mark);
}

static void
put_mapping(const struct encoder *e, struct pb *w, int i)
{
    const struct mapping *m = &e->mappings[i];
    size_t                mark = pb_begin(w);

    for (uint32_t has = 10; has >= 7; has--) /* functions, file names, lines, inlined frames */
        pb_uint(w, has, !e->raw);
    pb_uint(w, 6, m->build_id);
    pb_uint(w, 5, m->path);
    pb_uint(w, 4, m->offset);
    pb_uint(w, 3, m->end);
    pb_uint(w, 2, m->start);
    pb_uint(w, 1, (uint64_t)i + 1);
    pb_end(w, 3, mark);
}

static void
put_location(const struct encoder *e, struct pb *w, uint32_t i)
{
    const struct location *l = &e->locations[i];
    size_t                 mark = pb_begin(w);

    for (int k = l->line_count - 1; k >= 0; k--) {
        size_t line = pb_begin(w);

        pb_int(w, 2, l->lines[k].line);
        pb_uint(w, 1, l->lines[k].function);
        pb_end(w, 4, line);
    }
    pb_uint(w, 3, l->pc - (l->pc != 0));
    pb_uint(w, 2, (uint64_t)l->mapping);
    pb_uint(w, 1, (uint64_t)i + 1);
    pb_end(w, 4, mark);
}

static void
put_function(const struct encoder *e, struct pb *w, uint32_t i)
{
    const struct function *f = &e->functions[i];
    size_t                 mark = pb_begin(w);

    pb_uint(w, 4, f->file);
    pb_uint(w, 3, f->name);
    pb_uint(w, 2, f->name);
    pb_uint(w, 1, (uint64_t)i + 1);
    pb_end(w, 5, mark);
}

/* Last fields first. */
static void
put_profile(const struct encoder *e, struct pb *w)
{
    const struct bh_profile *p = e->p;

    pb_uint(w, 14, p->default_type);
    for (int i = p->comment_count - 1; i >= 0; i--)
        pb_uint_always(w, 13, p->comments[i]);
    pb_int(w, 12, p->period);
    if (p->period_type != 0)
        put_pair(w, 11, p->period_type, p->period_unit);
    pb_int(w, 10, p->duration);
    pb_int(w, 9, p->began);
    for (uint32_t i = e->names.count; i-- > 0;)
        pb_bytes_always(w, 6, e->names.text[i], strlen(e->names.text[i]));
    for (uint32_t i = e->function_count; i-- > 0;)
        put_function(e, w, i);
    for (uint32_t i = e->location_count; i-- > 0;)
        put_location(e, w, i);
    for (int i = e->mapping_count - 1; i >= 0; i--)
        put_mapping(e, w, i);
    for (uint32_t i = p->count; i-- > 0;)
        if (!ob_is_zero(p, &p->samples[i]))
            put_sample(e, w, &p->samples[i]);
    for (int i = p->type_count - 1; i >= 0; i--)
        put_pair(w, 1, p->types[i], p->units[i]);
}

/* ---- gzip ------------------------------------------------------------------------ */

static int
compress_bytes(const void *data, size_t size, struct bh_profile_bytes *bytes)
{
    enum { GZIP = 16 + MAX_WBITS, MEMORY = 8 };
    z_stream       z = { 0 };
    unsigned char *out;
    size_t         room;

    if (size > UINT32_MAX ||
        deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    room = deflateBound(&z, size);
    out = malloc(room);
    if (out == NULL) {
        (void)deflateEnd(&z);
        return -ENOMEM;
    }
    z.next_in = (z_const Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = (uInt)room;
    (void)deflate(&z, Z_FINISH); /* cannot fail: there is room */
    bytes->data = out;
    bytes->size = z.total_out;
    (void)deflateEnd(&z);
    return 0;
}

static int
encode(struct encoder *e, struct bh_profile_bytes *bytes)
{
    const size_t most = (size_t)1 << 31;

    for (size_t room = 256 << 10; room <= most; room *= 2) {
        unsigned char *buffer = malloc(room);
        struct pb      w;
        int            rc;

        if (buffer == NULL)
            return -ENOMEM;
        pb_init(&w, buffer, room);
        put_profile(e, &w);
        rc = w.overflow ? 0 : compress_bytes(pb_data(&w), pb_length(&w), bytes);
        free(buffer);
        if (!w.overflow)
            return rc;
    }
    return -ENOMEM;
}

int
bh_profile_write(const struct bh_profile *p, bool raw, struct bh_profile_bytes *bytes)
{
    struct encoder *e = calloc(1, sizeof *e);
    int             rc = -ENOMEM;
    bool            ok;

    if (e == NULL)
        return -ENOMEM;
    e->p = p;
    e->raw = raw;
    ok = !p->incomplete && ob_names_init(&e->names) == 0;
    for (uint32_t i = 1; ok && i < p->names.count; i++)
        ok = ob_names_add(&e->names, p->names.text[i]) == i;
    if (ok && collect_locations(e)) {
        (void)bh_modules(add_mapping, e);
        for (uint32_t i = 0; i < e->location_count; i++)
            e->locations[i].mapping = find_mapping(e, e->locations[i].pc - 1);
        if (!e->failed && (raw || name_locations(e)))
            rc = encode(e, bytes);
    }
    ob_names_fini(&e->names);
    free(e->locations);
    free(e->by_pc);
    free(e->functions);
    free(e->by_name);
    free(e);
    return rc;
}
