/*
 * files.c -- static files: which file a request names, and the headers around it.
 *
 *     path --> clean? --> cache --> regular file --> sibling already compressed? --> content.c
 *                           |
 *                           +-- directory: its index, or a redirect to the name with a slash
 *                           +-- absent: 404, or the rest of the chain
 *
 * The path is looked at here only for what the kernel would let pass: hidden names, empty
 * segments.  "." and ".." are refused, never resolved.  filecache.c opens what is left.
 *
 * A file is held until the memory of its request goes.
 */

#include <bulkhead/http/files.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>

#include "fields.h"
#include "filecache.h"
#include "helpers.h"

enum { CACHED_FILES = 128, MAX_PATH = 4096 };

struct bh_http_files {
    struct bh_http_files_options o; /* defaults filled in; strings are ours */
    char                        *strings;
    int                          root;
    struct ht_filecache         *cache;
};

/* ---- life ------------------------------------------------------------------------ */

/* Copy text to *at. */
static const char *
put_string(char **at, const char *text)
{
    char *copy = *at;

    if (text == NULL)
        return NULL;
    *at = stpcpy(copy, text) + 1;
    return copy;
}

static size_t
string_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

int
bh_http_files_new(const struct bh_http_files_options *options, struct bh_http_files **result)
{
    struct bh_http_files_options o = *options;
    struct bh_http_files        *files;
    char                        *at;
    int                          root;

    BH_REQUIRE(o.root != NULL);
    root = open(o.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        int error = -errno;

        return bh_fail(error, "files of %s: %s", o.root, bh_error_text(error));
    }
    o.prefix = o.prefix != NULL ? o.prefix : "/";
    o.index = o.index != NULL ? o.index : "index.html";
    o.cached_files = o.cached_files != 0 ? o.cached_files : CACHED_FILES;
    files = calloc(1, sizeof *files);
    at = malloc(string_size(o.prefix) + string_size(o.index) + string_size(o.cache_control));
    if (files == NULL || at == NULL)
        bh_panic("http: out of memory for files");
    files->strings = at;
    files->o = o;
    files->o.root = NULL;
    files->o.prefix = put_string(&at, o.prefix);
    files->o.index = put_string(&at, o.index);
    files->o.cache_control = put_string(&at, o.cache_control);
    files->root = root;
    files->cache = ht_filecache_new(root, o.cached_files, o.symlinks);
    *result = files;
    return 0;
}

void
bh_http_files_free(struct bh_http_files *files)
{
    if (files == NULL)
        return;
    ht_filecache_free(files->cache);
    (void)close(files->root);
    free(files->strings);
    free(files);
}

/* ---- which file ------------------------------------------------------------------ */

/* Whether each segment is a name that may be asked for; the last may be empty: a directory. */
static bool
is_clean(const struct bh_http_files *files, const char *path)
{
    if (strlen(path) >= MAX_PATH || path[0] == '/')
        return false;
    for (const char *segment = path; *segment != '\0';) {
        size_t length = strcspn(segment, "/");

        if (length == 0 || (segment[0] == '.' && !files->o.dotfiles))
            return false;
        if (segment[0] == '.' && (length == 1 || (length == 2 && segment[1] == '.')))
            return false;
        segment += length + (segment[length] == '/');
    }
    return true;
}

/* The sibling of path in a coding the client prefers, which takes *file's place. */
static enum ht_coding
take_sibling(struct bh_http_files *files, struct bh_http_call *c, const char *path,
             struct ht_file **file)
{
    static const struct {
        enum ht_coding coding;
        char           ending[5];
    } known[] = { { HT_BR, ".br" }, { HT_ZSTD, ".zst" }, { HT_GZIP, ".gz" } };
    struct ht_file *siblings[HT_CODINGS] = { NULL };
    enum ht_coding  there[HT_CODINGS], chosen;
    int             count = 0;

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (ht_filecache_get(files->cache,
                             bh_arena_print(c->arena, "%s%s", path, known[i].ending),
                             c->started, true, &siblings[known[i].coding]) == 0)
            there[count++] = known[i].coding;
    if (count == 0)
        return HT_IDENTITY;
    there[count] = HT_IDENTITY;
    ht_reply_varies(c, "Accept-Encoding");
    chosen = ht_coding_choose(ht_request_list(c, "Accept-Encoding"), there);
    for (int i = 0; i < HT_CODINGS; i++)
        if (siblings[i] != NULL && i != (int)chosen)
            ht_file_unref(siblings[i]);
    if (chosen != HT_IDENTITY) {
        ht_file_unref(*file);
        *file = siblings[chosen];
        (void)bh_http_set_header(c, "Content-Encoding", ht_coding_name(chosen));
    }
    return chosen;
}

/* ---- replies --------------------------------------------------------------------- */

static void
unref_file(void *arg)
{
    ht_file_unref(arg);
}

static int
reply_file(struct bh_http_files *files, struct bh_http_call *c, const char *path,
           struct ht_file *file)
{
    struct bh_http_content content = { .type = file->type };

    if (files->o.precompressed)
        (void)take_sibling(files, c, path, &file);
    bh_arena_defer(c->arena, unref_file, file);
    content.data = file->data;
    content.fd = file->fd;
    content.size = file->st.st_size;
    content.etag = file->etag;
    content.modified = file->st.st_mtim.tv_sec;
    if (files->o.cache_control != NULL)
        (void)bh_http_set_header(c, "Cache-Control", files->o.cache_control);
    return bh_http_serve_content(c, &content);
}

static int
reply_status(struct bh_http_call *c, int status)
{
    return bh_http_reply(c, status, "%d %s\n", status, bh_http_status_text(status));
}

/* To the name with a slash.  Not if that would name another host: "//host/" or, to browsers, "/\host/". */
static int
redirect(struct bh_http_call *c)
{
    const char *query = c->query[0] != '\0' ? "?" : "";

    if (c->path[0] != '/' || c->path[1] == '/' || c->path[1] == '\\')
        return reply_status(c, 404);
    (void)bh_http_set_header(c, "Location",
                             bh_arena_print(c->arena, "%s/%s%s", c->path, query, c->query));
    return reply_status(c, 301);
}

/*
 * Reply with what path names, if there is something.
 * Returns: as a handler; or, nothing being done, -ENOENT.
 */
static int
serve(struct bh_http_files *files, struct bh_http_call *c, const char *path)
{
    size_t          length = strlen(path);
    bool            is_directory = length == 0 || path[length - 1] == '/';
    struct ht_file *file;
    int             error;

    if (!is_clean(files, path) || (is_directory && files->o.index[0] == '\0'))
        return -ENOENT;
    if (is_directory)
        path = bh_arena_print(c->arena, "%s%s", path, files->o.index);
    error = ht_filecache_get(files->cache, path, c->started, false, &file);
    switch (error) {
    case 0:
        return reply_file(files, c, path, file);
    case -ENOENT:
        return -ENOENT;
    case -EISDIR:
        if (is_directory || files->o.no_redirect || files->o.index[0] == '\0')
            return -ENOENT;
        return redirect(c);
    case -EACCES:
        return reply_status(c, 403);
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM:
        return reply_status(c, 503);
    default:
        return bh_fail(error, "http: file %s: %s", path, bh_error_text(error));
    }
}

int
bh_http_files(struct bh_http_call *c, void *arg)
{
    int rc = serve(arg, c, bh_http_param(c, "path"));

    return rc == -ENOENT ? reply_status(c, 404) : rc;
}

/* ---- as a middleware ------------------------------------------------------------- */

static int
hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Without its %XX.  Returns: NULL if it is malformed, or has a NUL. */
static const char *
unescape(struct bh_http_call *c, const char *text)
{
    char *out = bh_arena_alloc(c->arena, strlen(text) + 1), *at = out;

    for (; *text != '\0'; text++, at++) {
        if (*text != '%') {
            *at = *text;
            continue;
        }
        if (hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
            return NULL;
        *at = (char)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
        if (*at == '\0')
            return NULL;
        text += 2;
    }
    *at = '\0';
    return out;
}

int
bh_http_files_or_next(struct bh_http_call *c, void *arg)
{
    struct bh_http_files *files = arg;
    size_t                length = strlen(files->o.prefix);
    const char           *path;
    int                   rc = -ENOENT;

    if (ht_is_read(c) && strncmp(c->path, files->o.prefix, length) == 0 &&
        (path = unescape(c, c->path + length)) != NULL)
        rc = serve(files, c, path);
    return rc == -ENOENT ? bh_http_next(c) : rc;
}
