/*
 * bundle.c -- a report's directory.
 *
 * It is filled under a name that begins with a dot, ".ID.PID", and renamed when it is
 * complete: who lists the reports sees whole ones.  What a process leaves unfinished
 * when it dies is renamed by the next one that starts (ob_bundle_salvage).
 *
 * An id is a ULID: 48 bits of milliseconds and 80 random ones, in 26 letters and
 * digits that sort by time.  So the oldest report is the first by name; and what
 * does not look like an id is not ours, and is left alone when the quota removes.  It
 * keeps fewer than REPORTS of them, whatever their size: looking at all is bounded.
 *
 * To amend a file is to write another beside it and rename that over it: a reader
 * finds the old one or the new one.
 *
 * See: github.com/ulid/spec.
 */

#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

enum { DIR_MODE = 0700, FILE_MODE = 0600, REPORTS = 4096, FILES = 64, NAME = 64 };

/* ---- ids --------------------------------------------------------------------------- */

static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* make_noise -- 16 digits to the base 32. */
static void
make_noise(unsigned char noise[16])
{
    if (getrandom(noise, 16, GRND_NONBLOCK) != 16)
        for (int i = 0; i < 16; i++)
            noise[i] = (unsigned char)((uint64_t)ob_now() >> (i % 8 * 5));
    for (int i = 0; i < 16; i++)
        noise[i] %= 32;
    noise[0] %= 16; /* room to count up from here */
}

void
ob_id_make(char id[OB_ID + 1], int64_t time_ns)
{
    static unsigned char noise[16];
    static uint64_t      latest;
    uint64_t             ms = (uint64_t)time_ns / 1000000;

    if (ms > latest) {
        latest = ms;
        make_noise(noise);
    } else { /* of the same millisecond, or the clock went back: after the one before all the same */
        ms = latest;
        for (int i = 15; i >= 0 && (noise[i] = (noise[i] + 1) % 32) == 0; i--)
            continue;
    }
    for (int i = 9; i >= 0; i--, ms /= 32)
        id[i] = letters[ms % 32];
    for (int i = 0; i < 16; i++)
        id[10 + i] = letters[noise[i]];
    id[OB_ID] = '\0';
}

bool
ob_id_valid(const char *name)
{
    return strlen(name) == OB_ID && strspn(name, letters) == OB_ID;
}

/* ---- files ------------------------------------------------------------------------- */

static int
write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* close_checked -- some file systems say only now that the disk is full. */
static int
close_checked(int fd, int rc)
{
    if (close(fd) != 0 && rc == 0)
        return -errno;
    return rc;
}

int
ob_path_join(char path[OB_PATH], const char *directory, const char *name)
{
    int n = snprintf(path, OB_PATH, "%s/%s", directory, name);

    return n >= 0 && n < OB_PATH ? 0 : -ENAMETOOLONG;
}

static int
create(const char *directory, const char *name)
{
    char path[OB_PATH];

    if (ob_path_join(path, directory, name) < 0)
        return -ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    return fd >= 0 ? fd : -errno;
}

int
ob_bundle_file(const char *directory, const char *name, const void *data, size_t size)
{
    int fd = create(directory, name);

    return fd < 0 ? fd : close_checked(fd, write_all(fd, data, size));
}

static void
path_of(const struct ob_report *r, char path[OB_PATH], bool temporary)
{
    if (temporary)
        (void)snprintf(path, OB_PATH, "%s/.%s.%d", ob_settings.directory, r->id, (int)getpid());
    else
        (void)snprintf(path, OB_PATH, "%s/%s", ob_settings.directory, r->id);
}

/* remove_directory -- and the files in it; there are no directories inside. */
static int
remove_directory(const char *path)
{
    DIR           *d = opendir(path);
    struct dirent *e;

    if (d == NULL)
        return -errno;
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    (void)closedir(d);
    return rmdir(path) == 0 ? 0 : -errno;
}

/* ---- making one -------------------------------------------------------------------- */

/* make_directories -- and those above it. */
static int
make_directories(const char *path)
{
    char part[OB_PATH];

    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return -ENAMETOOLONG;
    for (char *at = strchr(part + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(part, DIR_MODE); /* the last one says what is wrong */
        *at = '/';
    }
    return mkdir(part, DIR_MODE) == 0 || errno == EEXIST ? 0 : -errno;
}

int
ob_bundle_place(const char *directory)
{
    int rc = make_directories(directory);

    if (rc == 0 && access(directory, W_OK | X_OK) != 0)
        rc = -errno;
    return rc;
}

int
ob_bundle_begin(struct ob_report *r)
{
    char path[OB_PATH];
    int  rc = make_directories(ob_settings.directory);

    if (rc < 0)
        return rc;
    path_of(r, path, true);
    return mkdir(path, DIR_MODE) == 0 ? 0 : -errno;
}

int
ob_bundle_write(struct ob_report *r, const char *name, const struct ob_sheet *s)
{
    char path[OB_PATH];

    path_of(r, path, true);
    return ob_bundle_file(path, name, s->text, s->used);
}

int
ob_bundle_part_open(struct ob_report *r, const char *name)
{
    char path[OB_PATH];

    path_of(r, path, true);
    return create(path, name);
}

int
ob_bundle_part_close(struct ob_report *r, const char *name, int fd, int rc)
{
    char directory[OB_PATH], path[OB_PATH];

    rc = close_checked(fd, rc);
    if (rc < 0) {
        path_of(r, directory, true);
        if (ob_path_join(path, directory, name) == 0)
            (void)unlink(path);
    }
    return rc;
}

void
ob_bundle_abandon(struct ob_report *r)
{
    char path[OB_PATH];

    path_of(r, path, true);
    (void)remove_directory(path);
}

int
ob_bundle_end(struct ob_report *r)
{
    char from[OB_PATH], to[OB_PATH];
    int  rc;

    path_of(r, from, true);
    path_of(r, to, false);
    rc = ob_bundle_manifest(from, r->missing, r->missing_count);
    if (rc < 0)
        return rc;
    return rename(from, to) == 0 ? 0 : -errno;
}

/* ---- MANIFEST ------------------------------------------------------------------------ */

static int
by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* keep -- the name among the first `most` there are, in order once there are so many. */
static int
keep(char (*names)[NAME], int count, int most, const char *name)
{
    int at = count < most ? count : most - 1;

    if (count == most && strcmp(name, names[at]) >= 0)
        return count;
    while (count == most && at > 0 && strcmp(name, names[at - 1]) < 0)
        at--;
    memmove(names[at + 1], names[at], (size_t)(most - 1 - at) * NAME);
    (void)snprintf(names[at], NAME, "%s", name);
    if (count + 1 == most)
        qsort(names, (size_t)most, NAME, by_name);
    return count < most ? count + 1 : count;
}

/*
 * list -- the first `most` of the names that `wanted` likes, sorted.  all: how many it likes.
 * Returns: how many are listed, or a negative error.
 */
static int
list(const char *directory, bool (*wanted)(const char *name), char (*names)[NAME], int most,
     int *all)
{
    DIR           *d = opendir(directory);
    struct dirent *e;
    int            count = 0;

    *all = 0;
    if (d == NULL)
        return -errno;
    while ((e = readdir(d)) != NULL)
        if (strlen(e->d_name) < NAME && wanted(e->d_name)) {
            count = keep(names, count, most, e->d_name);
            ++*all;
        }
    (void)closedir(d);
    qsort(names, (size_t)count, NAME, by_name);
    return count;
}

static bool
is_part(const char *name)
{
    return name[0] != '.' && strcmp(name, "MANIFEST") != 0;
}

static bool
put_sum(struct ob_sheet *s, const char *directory, const char *name)
{
    static unsigned char block[64 * 1024];
    unsigned char        sum[EVP_MAX_MD_SIZE];
    unsigned             length = 0;
    char                 path[OB_PATH];
    unsigned long long   size = 0;
    ssize_t              n;

    int fd = ob_path_join(path, directory, name) == 0
                 ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    if (fd < 0)
        return false;
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool        good = sha != NULL && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1;
    while (good && (n = read(fd, block, sizeof block)) != 0) {
        good = n > 0 && EVP_DigestUpdate(sha, block, (size_t)n) == 1;
        size += n > 0 ? (unsigned long long)n : 0;
    }
    (void)close(fd);
    good = good && EVP_DigestFinal_ex(sha, sum, &length) == 1;
    EVP_MD_CTX_free(sha);
    for (unsigned i = 0; good && i < length; i++)
        ob_print(s, "%02x", sum[i]);
    if (good)
        ob_print(s, " %llu %s\n", size, name);
    return good;
}

/* Said anew each time. */
static const char unreadable[] = ": cannot be read\n";

/* keep_missing -- the lines of an older MANIFEST about what is missing. */
static void
keep_missing(struct ob_sheet *s, const char *directory)
{
    static char old[16 * 1024];
    char        path[OB_PATH];

    int     fd = ob_path_join(path, directory, "MANIFEST") == 0
                     ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
                     : -1;
    ssize_t n = fd >= 0 ? read(fd, old, sizeof old - 1) : -1;
    if (fd >= 0)
        (void)close(fd);
    old[n > 0 ? n : 0] = '\0';
    for (char *line = old, *end; *line != '\0'; line = end) {
        end = line + strcspn(line, "\n");
        end += *end == '\n';
        size_t size = (size_t)(end - line), tail = sizeof unreadable - 1;
        if (strncmp(line, "missing ", 8) == 0 &&
            (size < tail || strncmp(end - tail, unreadable, tail) != 0))
            ob_put_bytes(s, line, (size_t)(end - line));
    }
}

int
ob_bundle_manifest(const char *directory, const struct ob_missing *missing, int count)
{
    static char     names[FILES][NAME], memory[16 * 1024];
    struct ob_sheet s;
    char            from[OB_PATH], to[OB_PATH];
    int             all, n = list(directory, is_part, names, FILES, &all), rc;

    if (n < 0)
        return n;
    ob_sheet_init(&s, memory, sizeof memory);
    ob_put(&s, "bulkhead.bundle/1\n");
    for (int i = 0; i < n; i++)
        if (!put_sum(&s, directory, names[i]))
            ob_print(&s, "missing %s%s", names[i], unreadable);
    for (int i = 0; i < count; i++)
        ob_print(&s, "missing %s: %s\n", missing[i].what, missing[i].why);
    if (missing == NULL)
        keep_missing(&s, directory);
    rc = ob_bundle_file(directory, ".MANIFEST", s.text, s.used);
    if (rc < 0)
        return rc;
    if (ob_path_join(from, directory, ".MANIFEST") < 0 ||
        ob_path_join(to, directory, "MANIFEST") < 0)
        return -ENAMETOOLONG;
    return rename(from, to) == 0 ? 0 : -errno;
}

/* ---- amending ------------------------------------------------------------------------ */

/* copy_head -- the first `size` bytes of a file. */
static int
copy_head(int to, int from, size_t size)
{
    static char block[64 * 1024];

    while (size > 0) {
        ssize_t n = read(from, block, size < sizeof block ? size : sizeof block);
        int     rc = n > 0 ? write_all(to, block, (size_t)n) : -EIO;

        if (rc < 0)
            return rc;
        size -= (size_t)n;
    }
    return 0;
}

int
ob_bundle_amend(const char *id, const char *name, size_t fixed, const struct ob_sheet *rest)
{
    char directory[OB_PATH], path[OB_PATH], again[OB_PATH], hidden[NAME];
    int  from, to, rc;

    (void)snprintf(hidden, sizeof hidden, ".%s", name);
    if (ob_path_join(directory, ob_settings.directory, id) < 0 ||
        ob_path_join(path, directory, name) < 0 || ob_path_join(again, directory, hidden) < 0)
        return -ENAMETOOLONG;
    from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0)
        return -errno;
    to = create(directory, hidden);
    if (to < 0) {
        (void)close(from);
        return to;
    }
    rc = copy_head(to, from, fixed);
    if (rc == 0)
        rc = write_all(to, rest->text, rest->used);
    (void)close(from);
    rc = close_checked(to, rc);
    if (rc == 0 && rename(again, path) != 0)
        rc = -errno;
    if (rc < 0)
        (void)unlink(again);
    return rc;
}

/* ---- room ---------------------------------------------------------------------------- */

static uint64_t
directory_size(const char *directory, const char *name)
{
    char           path[OB_PATH];
    struct dirent *e;
    struct stat    st;
    uint64_t       size = 0;

    DIR *d = ob_path_join(path, directory, name) == 0 ? opendir(path) : NULL;
    if (d == NULL)
        return 0;
    while ((e = readdir(d)) != NULL)
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            size += (uint64_t)st.st_blocks * 512;
    (void)closedir(d);
    return size;
}

/* evict -- some of the REPORTS oldest.  all: how many there were.  Returns: how many were removed. */
static int
evict(const char *directory, uint64_t quota, const char *newest, int *all)
{
    static char     names[REPORTS][NAME];
    static uint64_t sizes[REPORTS];
    int             count = list(directory, ob_id_valid, names, REPORTS, all), removed = 0;
    uint64_t        total = 0;

    for (int i = 0; i < count; i++)
        total += sizes[i] = directory_size(directory, names[i]);
    for (int i = 0; i < count && (total > quota || *all - removed >= REPORTS); i++) {
        char path[OB_PATH];

        if (strcmp(names[i], newest) == 0)
            continue;
        if (ob_path_join(path, directory, names[i]) < 0 || remove_directory(path) < 0)
            continue;
        total -= sizes[i];
        removed++;
    }
    return removed;
}

int
ob_bundle_quota(const char *directory, uint64_t quota, const char *newest)
{
    int all, removed = 0, now;

    do /* of more than REPORTS, it has not seen all sizes */
        removed += now = evict(directory, quota, newest, &all);
    while (all > REPORTS && now > 0);
    return removed;
}

/* is_unfinished -- ".ID.PID" of a process that is gone. */
static bool
is_unfinished(const char *name)
{
    char id[OB_ID + 1], *end;

    if (name[0] != '.' || strlen(name) < OB_ID + 3 || name[OB_ID + 1] != '.')
        return false;
    memcpy(id, name + 1, OB_ID);
    id[OB_ID] = '\0';
    long pid = strtol(name + OB_ID + 2, &end, 10);
    return ob_id_valid(id) && *end == '\0' && pid > 0 && kill((pid_t)pid, 0) != 0 &&
           errno == ESRCH;
}

void
ob_bundle_salvage(const char *directory)
{
    static const struct ob_missing rest = { "the rest", "the process died" };
    static char                    names[FILES][NAME];
    int                            all;
    int                            count = list(directory, is_unfinished, names, FILES, &all);

    for (int i = 0; i < count; i++) {
        char from[OB_PATH], to[OB_PATH], json[OB_PATH], id[OB_ID + 1];

        memcpy(id, names[i] + 1, OB_ID);
        id[OB_ID] = '\0';
        if (ob_path_join(from, directory, names[i]) < 0 ||
            ob_path_join(to, directory, id) < 0 || ob_path_join(json, from, "report.json") < 0)
            continue;
        if (access(json, R_OK) != 0)
            (void)remove_directory(from);
        else if (ob_bundle_manifest(from, &rest, 1) == 0)
            (void)rename(from, to);
    }
}
