/*
 * filecache.c -- open files below a directory, kept for a while.
 *
 * What a path reaches is the kernel's to decide: openat2 from the root's descriptor, beneath
 * it, following no symbolic link unless that is asked for.  Where there is no openat2, each
 * segment is opened by itself, following none.
 *
 * Opening costs as much as sending a small file.  So files are kept, by path: small ones as
 * bytes, others as descriptors.  What is kept counts for a second, then the path is opened
 * again; if that is the same file, unchanged, the old entry goes on.  A descriptor's file is
 * looked at on each use, since bytes appended or cut off would make the sizes lie.
 * A file's times tick in steps of some milliseconds: one that changed less than a
 * moment before it was read may have changed again within the same tick, so it is
 * read again when its second is over.
 *
 * The cache is an array of sets of WAYS entries.  A path may be in the set of its hash; the
 * one used longest ago makes room.  cache->lock protects slots, and is held for no system
 * call; files themselves are counted and do not change.
 */

#include "filecache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/files.h>

enum { WAYS = 8, SMALL = 16384 };
#define KEPT_FOR  BH_SECOND
#define YOUNG_FOR (20 * BH_MILLISECOND)

struct slot {
    struct ht_file *file; /* NULL: free */
    uint64_t        hash;
    int64_t         checked, used; /* when; 0: never */
};

struct ht_filecache {
    int             root;
    bool            symlinks;
    struct bh_mutex lock;
    uint64_t        set_count; /* a power of two, or 0 */
    struct slot (*sets)[WAYS];
};

/* ---- files ----------------------------------------------------------------------- */

void
ht_file_unref(struct ht_file *file)
{
    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    free(file->data);
    free(file->path);
    free(file);
}

static struct ht_file *
file_new(const char *path)
{
    struct ht_file *file = calloc(1, sizeof *file);

    if (file == NULL || (file->path = strdup(path)) == NULL) {
        free(file);
        return NULL;
    }
    atomic_store_explicit(&file->refs, 1, memory_order_relaxed);
    file->fd = -1;
    return file;
}

static bool
same_state(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Follow nothing, one segment at a time.  Returns: descriptor or -errno. */
static int
open_stepwise(int root, const char *path, int flags)
{
    char name[NAME_MAX + 1];
    int  dir = root, fd;

    for (;;) {
        size_t length = strcspn(path, "/");
        bool   last = path[length] == '\0';

        if (length >= sizeof name) {
            fd = -ENAMETOOLONG;
        } else {
            memcpy(name, path, length);
            name[length] = '\0';
            fd = openat(dir, name,
                        last ? flags | O_NOFOLLOW
                             : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            fd = fd < 0 ? -errno : fd;
        }
        if (dir != root)
            (void)close(dir);
        if (fd < 0 || last)
            return fd;
        dir = fd;
        path += length + 1;
    }
}

/* Returns: descriptor or -errno.  O_NONBLOCK: a pipe must not hold us up. */
static int
open_below(const struct ht_filecache *cache, const char *path)
{
    static _Atomic bool missing;
    enum { FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, TRIES = 8 };
    struct open_how how = { .flags = FLAGS,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
                                       (cache->symlinks ? 0 : RESOLVE_NO_SYMLINKS) };

    /* -EAGAIN: a rename somewhere made it impossible to tell. */
    for (int i = 0; i < TRIES && !atomic_load_explicit(&missing, memory_order_relaxed); i++) {
        long fd = syscall(SYS_openat2, cache->root, path, &how, sizeof how);

        if (fd >= 0)
            return (int)fd;
        if (errno == ENOSYS || errno == EPERM)
            atomic_store_explicit(&missing, true, memory_order_relaxed);
        else if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return open_stepwise(cache->root, path, FLAGS);
}

static bool
is_young(const struct stat *st)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - st->st_mtim.tv_sec) * BH_SECOND + now.tv_nsec - st->st_mtim.tv_nsec <
           YOUNG_FOR;
}

/* A small file's bytes instead of its descriptor, unless it changes while they are read. */
static void
take_bytes(struct ht_file *file)
{
    size_t      size = (size_t)file->st.st_size, have = 0;
    char       *data = malloc(size + 1);
    struct stat after;
    ssize_t     n = 1;

    while (data != NULL && have < size && n > 0) {
        n = pread(file->fd, data + have, size - have, (off_t)have);
        have += n > 0 ? (size_t)n : 0;
    }
    if (data == NULL || have < size || fstat(file->fd, &after) != 0 ||
        !same_state(&file->st, &after)) {
        free(data);
        return;
    }
    file->data = data;
    (void)close(file->fd);
    file->fd = -1;
}

/* Open a path anew.  Returns: 0 or -errno. */
static int
load(const struct ht_filecache *cache, const char *path, struct ht_file **result)
{
    struct ht_file *file;
    struct stat     st;
    int             fd = open_below(cache, path), error = 0;

    if (fd < 0)
        return fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV || fd == -ENXIO ||
                       fd == -ENAMETOOLONG
                   ? -ENOENT
                   : fd;
    if (fstat(fd, &st) != 0)
        error = -errno;
    else if (!S_ISREG(st.st_mode))
        error = S_ISDIR(st.st_mode) ? -EISDIR : -ENOENT;
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    file = file_new(path);
    if (file == NULL) {
        (void)close(fd);
        bh_panic("http: out of memory for a file");
    }
    file->fd = fd;
    file->st = st;
    file->young = is_young(&st);
    file->type = bh_http_file_type(path);
    (void)snprintf(file->etag, sizeof file->etag, "\"%llx-%llx-%llx\"",
                   (unsigned long long)(st.st_mtim.tv_sec * BH_SECOND + st.st_mtim.tv_nsec),
                   (unsigned long long)st.st_size, (unsigned long long)st.st_ino);
    *result = file;
    return 0;
}

/* ---- the cache ------------------------------------------------------------------- */

struct ht_filecache *
ht_filecache_new(int root, unsigned at_most, bool symlinks)
{
    struct ht_filecache *cache = calloc(1, sizeof *cache);

    if (cache == NULL)
        bh_panic("http: out of memory for files");
    cache->root = root;
    cache->symlinks = symlinks;
    cache->set_count = 1;
    while (cache->set_count * WAYS * 2 <= at_most)
        cache->set_count *= 2;
    cache->sets = calloc(cache->set_count, sizeof *cache->sets);
    if (cache->sets == NULL)
        bh_panic("http: out of memory for files");
    return cache;
}

void
ht_filecache_free(struct ht_filecache *cache)
{
    for (uint64_t i = 0; i < cache->set_count; i++)
        for (int way = 0; way < WAYS; way++)
            if (cache->sets[i][way].file != NULL)
                ht_file_unref(cache->sets[i][way].file);
    free(cache->sets);
    free(cache);
}

/* FNV-1a, with its better bits folded down. */
static uint64_t
hash_of(const char *path)
{
    uint64_t h = 0xcbf29ce484222325;

    for (; *path != '\0'; path++)
        h = (h ^ (unsigned char)*path) * 0x100000001b3;
    return h ^ h >> 32;
}

/* The slot of a path; NULL if it is not kept.  Under the lock. */
static struct slot *
find(struct slot set[WAYS], uint64_t hash, const char *path)
{
    for (int i = 0; i < WAYS; i++)
        if (set[i].file != NULL && set[i].hash == hash && strcmp(set[i].file->path, path) == 0)
            return &set[i];
    return NULL;
}

/* Keep file in place of its path's last, or of what was used longest ago.  Returns: what goes, or NULL. */
static struct ht_file *
keep(struct slot set[WAYS], uint64_t hash, struct ht_file *file, int64_t now)
{
    struct slot    *slot = find(set, hash, file->path);
    struct ht_file *old;

    if (slot == NULL) {
        slot = &set[0];
        for (int i = 1; i < WAYS; i++)
            if (set[i].used < slot->used)
                slot = &set[i];
    }
    old = slot->file;
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    *slot = (struct slot){ .file = file, .hash = hash, .checked = now, .used = now };
    return old;
}

/* What is kept for path no longer is there.  Returns: what to let go, or NULL. */
static struct ht_file *
forget(struct slot set[WAYS], uint64_t hash, const char *path)
{
    struct slot    *slot = find(set, hash, path);
    struct ht_file *old = slot != NULL ? slot->file : NULL;

    if (slot != NULL)
        *slot = (struct slot){ 0 };
    return old;
}

/* What is kept for a path, with a reference, and whether it still counts.  Returns: NULL if nothing is. */
static struct ht_file *
look_up(struct ht_filecache *cache, struct slot set[WAYS], uint64_t hash, const char *path,
        int64_t now, bool *fresh)
{
    struct ht_file *file = NULL;
    struct slot    *slot;
    struct stat     st;

    bh_mutex_lock(&cache->lock);
    slot = find(set, hash, path);
    if (slot != NULL) {
        file = slot->file;
        atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
        slot->used = now;
        *fresh = now - slot->checked < KEPT_FOR;
    }
    bh_mutex_unlock(&cache->lock);
    if (file != NULL && file->fd >= 0)
        *fresh = *fresh && fstat(file->fd, &st) == 0 && same_state(&st, &file->st);
    return file;
}

/* Open path, and keep that, or, if it is still the same, `old`.  Takes old, which may be NULL, over. */
static int
renew(struct ht_filecache *cache, struct slot set[WAYS], uint64_t hash, const char *path,
      int64_t now, bool remember_absent, struct ht_file *old, struct ht_file **result)
{
    struct ht_file *file = NULL, *gone;
    int             error = load(cache, path, &file);

    if (error == 0 && old != NULL && !old->young && same_state(&old->st, &file->st)) {
        ht_file_unref(file);
        file = old;
        old = NULL;
    } else if (error == 0 && file->st.st_size <= SMALL) {
        take_bytes(file);
    }
    if (old != NULL)
        ht_file_unref(old);
    if (error == -ENOENT && remember_absent)
        file = file_new(path);
    bh_mutex_lock(&cache->lock);
    gone = file != NULL ? keep(set, hash, file, now) : forget(set, hash, path);
    bh_mutex_unlock(&cache->lock);
    if (gone != NULL)
        ht_file_unref(gone);
    if (file == NULL)
        return error;
    *result = file;
    return 0;
}

int
ht_filecache_get(struct ht_filecache *cache, const char *path, int64_t now,
                 bool remember_absent, struct ht_file **result)
{
    uint64_t        hash = hash_of(path);
    struct slot    *set = cache->sets[hash & (cache->set_count - 1)];
    bool            fresh = false;
    struct ht_file *file = look_up(cache, set, hash, path, now, &fresh);

    if (file == NULL || !fresh) {
        int error = renew(cache, set, hash, path, now, remember_absent, file, &file);

        if (error != 0)
            return error;
    }
    if (file->fd < 0 && file->data == NULL) {
        ht_file_unref(file);
        return -ENOENT;
    }
    *result = file;
    return 0;
}
