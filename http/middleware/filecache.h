#ifndef BULKHEAD_HTTP_MIDDLEWARE_FILECACHE_H
#define BULKHEAD_HTTP_MIDDLEWARE_FILECACHE_H

/* filecache.h -- PRIVATE: open files below a directory, kept for a while.  filecache.c has the design. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* A regular file as it was when opened.  Does not change; counted. */
struct ht_file {
    _Atomic unsigned refs;
    int              fd;   /* -1: there is no such file, or its bytes are in data */
    char            *data; /* NULL: too large, or changing */
    struct stat      st;
    bool        young; /* changed so lately that a change since may not show in its times */
    const char *type;  /* by its name; NULL: unknown */
    char        etag[56];
    char       *path;
};

struct ht_filecache;

/*
 * ht_filecache_new -- Owns: root stays the caller's, open until ht_filecache_free.
 * at_most: files kept.  symlinks: follow those that stay below.
 */
struct ht_filecache *ht_filecache_new(int root, unsigned at_most, bool symlinks);
void                 ht_filecache_free(struct ht_filecache *cache);

/*
 * ht_filecache_get -- the file of a clean path below root.
 *
 * now: bh_now(), or a little ago.  remember_absent: note that it is absent, for a second; only
 * for paths that no stranger can choose.
 * Returns: 0; -ENOENT, -EISDIR or another -errno.
 * Owns:    *file is the caller's, until ht_file_unref.
 */
int  ht_filecache_get(struct ht_filecache *cache, const char *path, int64_t now,
                      bool remember_absent, struct ht_file **file);
void ht_file_unref(struct ht_file *file);

#endif
