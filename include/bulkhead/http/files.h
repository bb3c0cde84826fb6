#ifndef BULKHEAD_HTTP_FILES_H
#define BULKHEAD_HTTP_FILES_H

/*
 * files.h -- static files, and anything else with validators and ranges.
 *
 *     struct bh_http_files *files;
 *     int rc = bh_http_files_new(&(struct bh_http_files_options){ .root = "public" }, &files);
 *     ...
 *     bh_http_handle(s, "GET /static/{path...}", bh_http_files, files);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

/* ---- content --------------------------------------------------------------------- */

/* What a reply is made from: data, or, if that is NULL, a file. */
struct bh_http_content {
    const void *data;
    int         fd;
    int64_t     size;     /* of all of it, bytes; of a file, from its beginning */
    const char *type;     /* NULL: "application/octet-stream" */
    const char *etag;     /* with its quotes, "\"v7\"" or "W/\"v7\""; NULL: none */
    int64_t     modified; /* Unix time, for Last-Modified; 0: not known */
};

/*
 * bh_http_serve_content -- reply with *content, or the part of it that was asked for.
 *
 * Sets ETag, Last-Modified and Accept-Ranges.  Answers If-Match, If-Unmodified-Since,
 * If-None-Match and If-Modified-Since, in this order, by 412 or 304; for a GET, Range
 * and If-Range by 206 (several ranges: multipart/byteranges) or 416.  A Range that is
 * malformed, or names over 16 ranges or more bytes than there are, is ignored.
 *
 * Owns:    borrows data until the reply is sent, fd until this returns.
 * Returns: 0, or as bh_http_write; -EIO, the transfer being broken, if the file is shorter.
 * Blocks:  as bh_http_write.
 * Panics:  on a malformed etag.
 * See:     RFC 9110 sections 13 and 14.
 */
int bh_http_serve_content(struct bh_http_call *c, const struct bh_http_content *content);

/* bh_http_file_type -- by the name's ending: "text/html; charset=utf-8"; NULL if unknown.  Static. */
const char *bh_http_file_type(const char *name);

/* ---- files ----------------------------------------------------------------------- */

struct bh_http_files;

/* Zero means the default beside the field. */
struct bh_http_files_options {
    const char *root;   /* directory, opened once; needed */
    const char *prefix; /* of paths, for bh_http_files_or_next: "/" */
    const char *index;  /* served for a directory: "index.html"; "": none, they are absent */
    const char *cache_control; /* the field's value: none is sent */
    bool        no_redirect; /* a directory named without its slash is absent, not redirected */
    bool        dotfiles;    /* names that begin with a dot are not absent */
    bool        symlinks;    /* follow those that stay below root */
    bool        precompressed; /* send x.br, x.zst or x.gz for x to clients that accept it */
    unsigned    cached_files;  /* kept open, or in memory if up to 16 KiB: 128 */
};

/*
 * bh_http_files_new -- make what serves the files below a directory.
 *
 * What a request can reach is decided by the kernel, from the directory's descriptor: no
 * "..", symbolic link or mount of a path leads out.  Only regular files are served.
 * Changes show within a second.
 *
 * Owns:    *files is the caller's, until bh_http_files_free, after the server is freed.
 * Returns: 0, or -errno with a note if the directory can't be opened.
 * Panics:  without a root.
 */
int  bh_http_files_new(const struct bh_http_files_options *options,
                       struct bh_http_files              **files);
void bh_http_files_free(struct bh_http_files *files); /* NULL is a no-op */

/*
 * bh_http_files -- handler: the file that {path...} of the route names.  arg: struct bh_http_files.
 * bh_http_files_or_next -- middleware: the file that the request's path names behind the
 *     prefix; the rest of the chain if there is none, or the method is not GET or HEAD.
 */
bh_http_fn bh_http_files;
bh_http_fn bh_http_files_or_next;

#endif
