/*
 * symbols.c -- names for the addresses of a raw report, perhaps on another machine.
 *
 * The report has, for each module, its path, build id, and where it lay.  The file
 * is looked for there, and in the directories given by -d, by its name and as
 * .build-id/ab/cdef.debug; only one with the same build id will do.  An
 * address becomes an offset in the file, then an address as the file has them, and
 * addr2line(1) names it.
 *
 * A file with debug information only (.debug) has the segments of the program
 * but not their bytes, so offsets are translated by the program's own headers where
 * it can be had; else by the debug file's, whose headers the linker's tools keep.
 */

#include "reports.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MODULES_MAX = 64, LINE = 4096 };

const char *debug_directories[DIRECTORIES_MAX];
int         debug_directory_count;

/* ---- the file ------------------------------------------------------------------------ */

static struct elf *
try(const char *path, const char *build_id)
{
    struct elf *e = elf_open(path);

    if (e != NULL && strcmp(elf_build_id(e), build_id) != 0) {
        elf_close(e);
        return NULL;
    }
    return e;
}

static struct elf *
find_file(const struct bh_json *module, const char **path)
{
    const char *file = bh_json_text(module, "file", ""),
               *id = bh_json_text(module, "build_id", "");
    const char *name = strrchr(file, '/') != NULL ? strrchr(file, '/') + 1 : file;
    struct elf *e = NULL;

    if (strlen(id) < 4)
        return NULL;
    *path = file;
    e = try(file, id);
    for (int i = 0; e == NULL && i < debug_directory_count; i++) {
        const char *d = debug_directories[i];

        e = try(*path = bh_arena_print(arena, "%s/%s", d, name), id);
        if (e == NULL)
            e = try(*path = bh_arena_print(arena, "%s/.build-id/%.2s/%s.debug", d, id, id + 2),
                    id);
    }
    return e;
}

/* ---- addr2line ----------------------------------------------------------------------- */

/* start -- addr2line with these arguments.  Returns: what to read, or NULL. */
static FILE *
start(char **arguments, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    int                        out[2], rc;

    if (pipe2(out, O_CLOEXEC) != 0)
        return NULL;
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    rc = posix_spawnp(pid, arguments[0], &files, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)close(out[1]);
    FILE *f = rc == 0 ? fdopen(out[0], "r") : NULL;
    if (f == NULL) {
        (void)fprintf(stderr, "bh_report: addr2line: %s\n", strerror(rc));
        (void)close(out[0]);
    }
    return f;
}

static void
cut_newline(char *line)
{
    line[strcspn(line, "\n")] = '\0';
}

/* A frame of addr2line's: "function", "file:line (discriminator 3)". */
static void
set_place(struct frame *f, const char *function, char *place)
{
    char *colon = strrchr(place, ':');

    if (colon != NULL) {
        *colon = '\0';
        f->line = (int)strtol(colon + 1, NULL, 10);
    }
    f->function = strcmp(function, "??") == 0 ? "" : clean(bh_arena_print(arena, "%s", function));
    f->file = strcmp(place, "??") == 0 ? "" : clean(bh_arena_print(arena, "%s", place));
}

/* A raw frame becomes one or, of inlined functions, several.  -1 in `at`: not of this module. */
struct names {
    struct frame frame[FRAMES_MAX];
    int          frames;
};

/* read_names -- what addr2line -a says of one address: 0x..., then pairs of lines.  `line` runs ahead. */
static void
read_names(FILE *f, const struct frame *raw, struct names *out, char *line)
{
    char place[LINE];
    int  first = out->frames;

    while (fgets(line, LINE, f) != NULL && strncmp(line, "0x", 2) != 0) {
        cut_newline(line);
        if (fgets(place, sizeof place, f) == NULL || out->frames == FRAMES_MAX)
            break;
        cut_newline(place);
        struct frame *to = &out->frame[out->frames++];
        *to = *raw;
        set_place(to, line, place);
        to->inlined = true;
    }
    if (out->frames == first && out->frames < FRAMES_MAX)
        out->frame[out->frames++] = *raw;
    out->frame[out->frames - 1].inlined = false;
}

/* name_module -- the frames of one module, all at once.  named[i]: what frame i has become. */
static void
name_module(const struct report *r, int module, struct elf *e, const char *path,
            struct names **named)
{
    const struct bh_json *m =
        bh_json_at(bh_json_get(bh_json_get(r->json, "build"), "modules"), (uint32_t)module);
    uint64_t    start_at = strtoull(bh_json_text(m, "start", "0"), NULL, 16);
    uint64_t    offset = strtoull(bh_json_text(m, "offset", "0"), NULL, 16), address;
    static char program[] = "addr2line", options[] = "-afiCe";
    char *arguments[FRAMES_MAX + 4] = { program, options, bh_arena_print(arena, "%s", path) };
    int   asked[FRAMES_MAX], count = 0;
    char  line[LINE];
    pid_t pid;

    for (int i = 0; i < r->frames; i++)
        if (r->frame[i].module == module && r->frame[i].pc > start_at &&
            elf_address(e, r->frame[i].pc - 1 - start_at + offset, &address)) {
            asked[count] = i;
            arguments[3 + count++] = bh_arena_print(arena, "0x%" PRIx64, address);
        }
    FILE *f = count > 0 ? start(arguments, &pid) : NULL;
    if (f == NULL)
        return;
    if (fgets(line, sizeof line, f) != NULL) /* the first address */
        for (int i = 0; i < count; i++) {
            named[asked[i]] = bh_arena_alloc(arena, sizeof **named);
            read_names(f, &r->frame[asked[i]], named[asked[i]], line);
        }
    (void)fclose(f);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

void
symbolize(struct report *r)
{
    static struct names  *named[FRAMES_MAX];
    static struct frame   raw[FRAMES_MAX];
    int                   count = r->frames;
    const struct bh_json *modules = bh_json_get(bh_json_get(r->json, "build"), "modules"), *m;

    memset(named, 0, sizeof named);
    memcpy(raw, r->frame, sizeof raw);
    for (uint32_t i = 0; i < MODULES_MAX && (m = bh_json_at(modules, i)) != NULL; i++) {
        const char *path = "";
        struct elf *e = find_file(m, &path);

        if (e != NULL)
            name_module(r, (int)i, e, path, named);
        elf_close(e);
    }
    r->frames = 0;
    for (int i = 0; i < count; i++) {
        if (named[i] == NULL && r->frames < FRAMES_MAX)
            r->frame[r->frames++] = raw[i];
        for (int k = 0; named[i] != NULL && k < named[i]->frames && r->frames < FRAMES_MAX; k++)
            r->frame[r->frames++] = named[i]->frame[k];
    }
}
