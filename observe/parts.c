/*
 * parts.c -- what others add to reports: files, numbers, and who is told.
 *
 * Three tables of fixed size, filled under a lock that only they take.  An entry is
 * complete before the count includes it, and never changes: the reporter reads
 * without the lock.
 */

#include "parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "report.h"

enum { LISTENERS = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    const char        *name;
    bh_report_part_fn *fn;
    void              *arg;
} part[OB_PARTS];
static _Atomic int parts;

static struct {
    const char          *name;
    bh_report_number_fn *fn;
    void                *arg;
} number[OB_NUMBERS];
static _Atomic int numbers;

static struct {
    bh_report_listener_fn *fn;
    void                  *arg;
} listener[LISTENERS];
static _Atomic int listeners;

static bool
good_name(const char *name, const char *letters)
{
    return name != NULL && name[0] != '\0' && name[0] != '.' && strlen(name) < 48 &&
           strspn(name, letters) == strlen(name) && strcmp(name, "MANIFEST") != 0 &&
           strncmp(name, "report.", 7) != 0;
}

int
bh_report_add(const char *name, bh_report_part_fn *fn, void *arg)
{
    int rc = 0, at;

    if (fn == NULL || !good_name(name, "abcdefghijklmnopqrstuvwxyz0123456789._-"))
        return -EINVAL;
    (void)pthread_mutex_lock(&lock);
    at = atomic_load(&parts);
    for (int i = 0; i < at; i++)
        if (strcmp(part[i].name, name) == 0)
            rc = -EEXIST;
    if (rc == 0 && at == OB_PARTS)
        rc = -ENOSPC;
    if (rc == 0) {
        part[at].name = name;
        part[at].fn = fn;
        part[at].arg = arg;
        atomic_store(&parts, at + 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int
bh_report_add_number(const char *name, bh_report_number_fn *fn, void *arg)
{
    int rc = 0, at;

    if (fn == NULL || !good_name(name, "abcdefghijklmnopqrstuvwxyz0123456789_"))
        return -EINVAL;
    (void)pthread_mutex_lock(&lock);
    at = atomic_load(&numbers);
    for (int i = 0; i < at; i++)
        if (strcmp(number[i].name, name) == 0)
            rc = -EEXIST;
    if (rc == 0 && at == OB_NUMBERS)
        rc = -ENOSPC;
    if (rc == 0) {
        number[at].name = name;
        number[at].fn = fn;
        number[at].arg = arg;
        atomic_store(&numbers, at + 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int
bh_report_listen(bh_report_listener_fn *fn, void *arg)
{
    int rc = 0, at;

    if (fn == NULL)
        return -EINVAL;
    (void)pthread_mutex_lock(&lock);
    at = atomic_load(&listeners);
    for (int i = 0; i < at; i++)
        if (listener[i].fn == fn && listener[i].arg == arg)
            rc = -EEXIST;
    if (rc == 0 && at == LISTENERS)
        rc = -ENOSPC;
    if (rc == 0) {
        listener[at].fn = fn;
        listener[at].arg = arg;
        atomic_store(&listeners, at + 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- on the reporter's thread -------------------------------------------------------- */

int
ob_parts_write(struct ob_report *r)
{
    int count = atomic_load(&parts), late = 0;

    for (int i = 0; i < count; i++) {
        if (ob_now() >= r->deadline) {
            ob_report_miss(r, part[i].name, "deadline");
            late++;
            continue;
        }
        int fd = ob_bundle_part_open(r, part[i].name);
        int rc = fd >= 0 ? part[i].fn(fd, r->deadline, part[i].arg) : fd;
        if (fd >= 0)
            rc = ob_bundle_part_close(r, part[i].name, fd, rc);
        if (rc < 0) {
            const char *why = strerrorname_np(-rc);

            ob_report_miss(r, part[i].name, why != NULL ? why : "failed");
        }
    }
    return late;
}

void
ob_numbers_read(struct ob_world *w)
{
    w->numbers = atomic_load(&numbers);
    for (int i = 0; i < w->numbers; i++) {
        w->number[i].name = number[i].name;
        w->number[i].value = number[i].fn(number[i].arg);
    }
}

void
ob_listeners_tell(const struct bh_report_summary *s)
{
    for (int i = 0; i < atomic_load(&listeners); i++)
        listener[i].fn(s, listener[i].arg);
}
