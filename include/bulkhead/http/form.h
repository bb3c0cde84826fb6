#ifndef BULKHEAD_HTTP_FORM_H
#define BULKHEAD_HTTP_FORM_H

/*
 * form.h -- what browsers send: queries, forms, uploads.
 *
 *     int rc = bh_http_parse_form(c);                 of a form without files
 *     if (rc < 0)
 *         return rc;                                  400, 413 or 415
 *     const char *name = bh_http_form(c, "name");
 *
 *     struct bh_multipart *m;                         of one with files, piece by piece
 *     int rc = bh_http_multipart(c, NULL, &m);
 *     while (rc >= 0 && (rc = bh_multipart_next(m)) > 0) {
 *         const struct bh_multipart_part *p = bh_multipart_part(m);
 *         if (p->filename != NULL)
 *             rc = bh_multipart_save(m, "/var/spool/uploads", 64 << 20, &upload);
 *         else
 *             rc = bh_multipart_text(m, 1000, &text);
 *     }
 *     if (rc < 0)
 *         return rc;
 *
 * What these return as errors is noted, and becomes the reply of a handler that
 * returns it without one of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <bulkhead/http/http.h>

/*
 * bh_http_query_at -- pair i of the query, unescaped.  Returns: false behind the last;
 * malformed ones are left out.
 */
bool bh_http_query_at(struct bh_http_call *c, unsigned i, const char **name, const char **value);

enum { BH_HTTP_FORM_MAX = 1000 }; /* fields of a form */

/*
 * bh_http_parse_form -- read a body of "application/x-www-form-urlencoded".
 *
 * Returns: the number of fields; -EPROTOTYPE if it is of another type (415), -EBADMSG if malformed or of
 *          more than BH_HTTP_FORM_MAX fields; the errors of bh_http_body.
 */
int bh_http_parse_form(struct bh_http_call *c);
/* bh_http_form -- the first value of name; NULL if there is none, or nothing was parsed. */
const char *bh_http_form(struct bh_http_call *c, const char *name);
/* bh_http_form_at -- field i in the order sent.  Returns: false behind the last. */
bool bh_http_form_at(struct bh_http_call *c, unsigned i, const char **name, const char **value);

/* ---- multipart/form-data --------------------------------------------------------- */

struct bh_multipart;

struct bh_multipart_options {
    size_t   max_size;  /* bytes of the body: 32 MiB; instead of the server's limit; 413 */
    unsigned max_parts; /* 100; 413 */
};

struct bh_multipart_part {
    const char *name;     /* of the field; never NULL */
    const char *filename; /* without directories; NULL if it is no file.  Never a path to trust */
    const char *type;     /* Content-Type; "text/plain" without one */
};

/* A file that has arrived; it has no name yet, and goes with the request unless linked. */
struct bh_http_upload {
    int     fd; /* borrowed: closed when the request is over; at its start */
    int64_t size;
};

/*
 * bh_http_multipart -- start reading.  Returns: 0; -EPROTOTYPE (415); -EBADMSG without a good
 * boundary (400).
 */
int bh_http_multipart(struct bh_http_call *c, const struct bh_multipart_options *options,
                      struct bh_multipart **m);
/*
 * bh_multipart_next -- skip to the next part.
 * Returns: 1, or 0 behind the last; -EBADMSG if malformed, -EMSGSIZE over a limit; errors of bh_http_read.
 * Blocks:  while bytes come.
 */
int bh_multipart_next(struct bh_multipart *m);
const struct bh_multipart_part *bh_multipart_part(const struct bh_multipart *m);
/* bh_multipart_read -- bytes of the part.  Returns: how many, 0 at its end; errors as above. */
ssize_t bh_multipart_read(struct bh_multipart *m, void *buffer, size_t size);
/*
 * bh_multipart_text -- the rest of the part, NUL-terminated, in the request's memory.
 * Returns: its size; -EMSGSIZE over max.
 */
ssize_t bh_multipart_text(struct bh_multipart *m, size_t max, const char **text);
/*
 * bh_multipart_save -- the rest of the part into a file without a name in directory.
 * Returns: 0; -EMSGSIZE over max; -errno of the file system.
 */
int bh_multipart_save(struct bh_multipart *m, const char *directory, int64_t max,
                      struct bh_http_upload *upload);
/*
 * bh_http_upload_link -- give it a name, on the same file system.  Returns: 0; -EEXIST, never
 * overwriting; -errno.
 */
int bh_http_upload_link(const struct bh_http_upload *upload, const char *path);

#endif
