/*
 * multipart.c -- a body of several parts, read piece by piece: uploads of any size in 16 KiB.
 *
 *     CRLF --boundary CRLF  fields CRLF  CRLF  data  CRLF --boundary CRLF ... CRLF --boundary--
 *
 * The window holds what has come and is not used.  A CRLF put in front of the body makes
 * the first delimiter like all others, so there is one search: for CRLF--boundary.  What
 * lies before it is data; where it is not found, all but the last bytes, which may be its
 * beginning, are.
 *
 * See: RFC 7578, RFC 2046 section 5.1.1.
 */

#include <bulkhead/http/form.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>

#include "ht.h"

enum { WINDOW = 16384, MAX_BOUNDARY = 70 };

struct bh_multipart {
    struct bh_http_call     *c;
    struct bh_multipart_part part;
    unsigned                 parts, max_parts;
    bool                     in_part, over, ended; /* ended: the body is read to its end */
    char                     delimiter[4 + MAX_BOUNDARY + 1];
    size_t                   delimiter_size;
    size_t                   start, end; /* of what the window holds */
    size_t                   ahead;      /* bytes from start known to be data */
    char                     window[WINDOW];
};

static int
malformed(struct bh_multipart *m, const char *why)
{
    m->over = true;
    return ht_body_refuse(m->c, -EBADMSG, why);
}

/* ---- parameters of a field's value ----------------------------------------------- */

/* The value at p, a token or quoted, decoded into the arena.  Returns: behind it; NULL if malformed. */
static const char *
take_value(struct bh_arena *arena, const char *p, const char **value)
{
    char *to = bh_arena_alloc(arena, strlen(p) + 1), *at = to;

    if (*p == '"') {
        for (p++; *p != '"'; p++) {
            if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
                p++;
            if (*p == '\0')
                return NULL;
            *at++ = *p;
        }
        p++;
    } else {
        while (*p != '\0' && *p != ';' && *p != ' ' && *p != '\t')
            *at++ = *p++;
    }
    *at = '\0';
    *value = to;
    return p;
}

/* Parameter `name` of "type; a=b; c="d"".  Returns: 1, 0 if there is none, -1 if malformed. */
static int
parameter(struct bh_arena *arena, const char *text, const char *name, const char **value)
{
    size_t      length = strlen(name);
    const char *p = text + strcspn(text, ";"), *found = NULL, *v;

    while (*p == ';') {
        size_t n;

        p += 1 + strspn(p + 1, " \t");
        n = strcspn(p, "=; \t");
        if (*p == '\0')
            break;
        if (n == 0 || p[n] != '=')
            return -1;
        v = p;
        p = take_value(arena, p + n + 1, value);
        if (p == NULL)
            return -1;
        if (n == length && strncasecmp(v, name, n) == 0) {
            if (found != NULL)
                return -1;
            found = *value;
        }
        p += strspn(p, " \t");
        if (*p != ';' && *p != '\0')
            return -1;
    }
    *value = found;
    return found != NULL;
}

/* ---- the window ------------------------------------------------------------------ */

/* More bytes.  Returns: how many, 0 at the end of the body, or an error. */
static ssize_t
fill(struct bh_multipart *m)
{
    ssize_t n;

    if (m->ended)
        return 0;
    if (m->start > 0) {
        memmove(m->window, m->window + m->start, m->end - m->start);
        m->end -= m->start;
        m->start = 0;
    }
    if (m->end == WINDOW)
        return -EMSGSIZE;
    n = bh_http_read(m->c, m->window + m->end, WINDOW - m->end);
    if (n > 0)
        m->end += (size_t)n;
    m->ended = n == 0;
    return n;
}

/* Have at least `size` bytes.  Returns: 0; an error, also if the body ends before. */
static int
need(struct bh_multipart *m, size_t size)
{
    while (m->end - m->start < size) {
        ssize_t n = fill(m);

        if (n < 0)
            return (int)n;
        if (n == 0)
            return malformed(m, "multipart body without its end");
    }
    return 0;
}

/*
 * How much data there is before the next delimiter.  Returns: bytes of data at start; 0 if
 * the delimiter is there; or an error.
 */
static ssize_t
data_ahead(struct bh_multipart *m)
{
    while (m->ahead == 0) {
        size_t      have = m->end - m->start;
        const char *at = m->window + m->start;
        const char *found = memmem(at, have, m->delimiter, m->delimiter_size);
        ssize_t     n;

        if (found == at)
            return 0;
        if (found != NULL || have >= m->delimiter_size) {
            m->ahead = found != NULL ? (size_t)(found - at) : have - m->delimiter_size + 1;
            break;
        }
        n = fill(m);
        if (n < 0)
            return n;
        if (n == 0)
            return malformed(m, "multipart body without its end");
    }
    return (ssize_t)m->ahead;
}

static void
take_data(struct bh_multipart *m, size_t size)
{
    m->start += size;
    m->ahead -= size;
}

/* ---- parts ----------------------------------------------------------------------- */

static int
disposition(struct bh_multipart *m, const char *value)
{
    struct bh_arena *arena = m->c->arena;
    const char      *filename, *slash;
    int              rc = parameter(arena, value, "name", &m->part.name);

    if (strncasecmp(value, "form-data", 9) != 0 || strchr("; \t", value[9]) == NULL || rc <= 0)
        return malformed(m, "part of a form without a name");
    rc = parameter(arena, value, "filename", &filename);
    if (rc < 0)
        return malformed(m, "malformed filename");
    if (rc > 0) {
        while ((slash = strpbrk(filename, "/\\")) != NULL)
            filename = slash + 1;
        m->part.filename = filename;
    }
    return 0;
}

static int
field(struct bh_multipart *m, char *line, size_t length)
{
    char  *colon = memchr(line, ':', length), *value;
    size_t name_length = colon != NULL ? (size_t)(colon - line) : 0;

    if (colon == NULL || !ht_is_token(line, name_length) ||
        !ht_is_value(colon + 1, length - name_length - 1))
        return malformed(m, "malformed field of a part");
    value = bh_arena_string(m->c->arena, colon + 1, length - name_length - 1);
    value += strspn(value, " \t");
    if (name_length == 19 && strncasecmp(line, "content-disposition", 19) == 0)
        return m->part.name == NULL ? disposition(m, value)
                                    : malformed(m, "second disposition of a part");
    if (name_length == 12 && strncasecmp(line, "content-type", 12) == 0)
        m->part.type = value;
    return 0;
}

/* The fields of a part, to the empty line. */
static int
read_fields(struct bh_multipart *m)
{
    int rc = 0;

    m->part = (struct bh_multipart_part){ .type = "text/plain" };
    while (rc == 0) {
        char   *line = m->window + m->start;
        char   *feed = memmem(line, m->end - m->start, "\r\n", 2);
        ssize_t n;

        if (feed == NULL) {
            n = fill(m);
            if (n == -EMSGSIZE)
                return malformed(m, "fields of a part too large");
            if (n <= 0)
                return n < 0 ? (int)n : malformed(m, "multipart body without its end");
            continue;
        }
        m->start += (size_t)(feed - line) + 2;
        if (feed == line)
            break;
        rc = field(m, line, (size_t)(feed - line));
    }
    if (rc == 0 && m->part.name == NULL)
        return malformed(m, "part of a form without a name");
    m->in_part = rc == 0;
    return rc;
}

int
bh_multipart_next(struct bh_multipart *m)
{
    ssize_t n;
    int     rc;

    if (m->over)
        return 0;
    while ((n = data_ahead(m)) > 0) /* what is left of this part, or the preamble */
        take_data(m, (size_t)n);
    m->in_part = false;
    if (n < 0)
        return (int)n;
    rc = need(m, m->delimiter_size + 2);
    if (rc < 0)
        return rc;
    m->start += m->delimiter_size;
    if (memcmp(m->window + m->start, "--", 2) == 0) {
        m->over = true;
        return 0;
    }
    while (rc == 0 && (m->window[m->start] == ' ' || m->window[m->start] == '\t')) {
        m->start++;
        rc = need(m, 2);
    }
    if (rc < 0)
        return rc;
    if (memcmp(m->window + m->start, "\r\n", 2) != 0)
        return malformed(m, "malformed delimiter of parts");
    m->start += 2;
    if (m->parts++ == m->max_parts) {
        m->over = true;
        return ht_body_refuse(m->c, -EMSGSIZE, "too many parts");
    }
    rc = read_fields(m);
    return rc < 0 ? rc : 1;
}

const struct bh_multipart_part *
bh_multipart_part(const struct bh_multipart *m)
{
    return &m->part;
}

ssize_t
bh_multipart_read(struct bh_multipart *m, void *buffer, size_t size)
{
    ssize_t n;

    BH_REQUIRE(m->in_part || m->over || m->parts > 0);
    if (!m->in_part)
        return 0;
    n = data_ahead(m);
    if (n <= 0) {
        m->in_part = false;
        return n;
    }
    if ((size_t)n > size)
        n = (ssize_t)size;
    memcpy(buffer, m->window + m->start, (size_t)n);
    take_data(m, (size_t)n);
    return n;
}

ssize_t
bh_multipart_text(struct bh_multipart *m, size_t max, const char **text)
{
    struct bh_arena *arena = m->c->arena;
    size_t           room = max < 1024 ? max : 1024, size = 0;
    char            *to = bh_arena_alloc(arena, room + 1);
    ssize_t          n;

    /* One byte more than fits is asked for, to see whether there is one. */
    while ((n = bh_multipart_read(m, to + size, room + 1 - size)) > 0) {
        size += (size_t)n;
        if (size > max)
            return ht_body_refuse(m->c, -EMSGSIZE, "field of a form too large");
        if (size > room) {
            char *bigger;

            room = room * 2 < max ? room * 2 : max;
            bigger = bh_arena_alloc(arena, room + 1);
            memcpy(bigger, to, size);
            to = bigger;
        }
    }
    if (n < 0)
        return n;
    to[size] = '\0';
    *text = to;
    return (ssize_t)size;
}

/* ---- files ----------------------------------------------------------------------- */

static void
close_upload(void *arg)
{
    close(*(int *)arg);
}

/* A file without a name, closed when the request is over. */
static int
open_nameless(struct bh_arena *arena, const char *directory)
{
    int *fd = bh_arena_alloc(arena, sizeof *fd);

    *fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0)
        return bh_fail(-errno, "open a file in %s: %s", directory, strerror(errno));
    bh_arena_defer(arena, close_upload, fd);
    return *fd;
}

static int
write_file(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n < 0 && errno != EINTR)
            return bh_fail(-errno, "write an upload: %s", strerror(errno));
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int
bh_multipart_save(struct bh_multipart *m, const char *directory, int64_t max,
                  struct bh_http_upload *upload)
{
    int     fd = open_nameless(m->c->arena, directory), rc = 0;
    int64_t total = 0;
    ssize_t n = 0;

    if (fd < 0)
        return fd;
    while (m->in_part && (n = data_ahead(m)) > 0 && rc == 0) { /* straight from the window */
        total += n;
        if (total > max)
            return ht_body_refuse(m->c, -EMSGSIZE, "file too large");
        rc = write_file(fd, m->window + m->start, (size_t)n);
        take_data(m, (size_t)n);
    }
    m->in_part = false;
    if (rc < 0 || n < 0)
        return rc < 0 ? rc : (int)n;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return bh_fail(-errno, "rewind an upload: %s", strerror(errno));
    *upload = (struct bh_http_upload){ fd, total };
    return 0;
}

int
bh_http_upload_link(const struct bh_http_upload *upload, const char *path)
{
    char from[64];

    snprintf(from, sizeof from, "/proc/self/fd/%d", upload->fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return bh_fail(-errno, "name an upload %s: %s", path, strerror(errno));
    return 0;
}

/* ---- the start ------------------------------------------------------------------- */

int
bh_http_multipart(struct bh_http_call *c, const struct bh_multipart_options *options,
                  struct bh_multipart **multipart)
{
    const char          *type = bh_http_header(c, "content-type"), *boundary;
    size_t               max_size = options != NULL ? options->max_size : 0;
    struct bh_multipart *m;
    size_t               length;

    if (type == NULL || strncasecmp(type, "multipart/form-data", 19) != 0 ||
        strchr("; \t", type[19]) == NULL)
        return ht_body_refuse(c, -EPROTOTYPE, "multipart/form-data is wanted");
    if (parameter(c->arena, type, "boundary", &boundary) <= 0)
        return ht_body_refuse(c, -EBADMSG, "multipart without a boundary");
    length = strlen(boundary);
    if (length == 0 || length > MAX_BOUNDARY || !ht_is_value(boundary, length) ||
        boundary[length - 1] == ' ')
        return ht_body_refuse(c, -EBADMSG, "bad boundary");
    m = bh_arena_alloc(c->arena, sizeof *m);
    memset(m, 0, offsetof(struct bh_multipart, window));
    m->c = c;
    m->max_parts = options != NULL && options->max_parts > 0 ? options->max_parts : 100;
    m->delimiter_size =
        (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    memcpy(m->window, "\r\n", 2);
    m->end = 2;
    bh_http_limit_body(c, max_size > 0 ? max_size : 32 << 20);
    *multipart = m;
    return 0;
}
