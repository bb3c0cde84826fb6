#ifndef BULKHEAD_OBSERVE_RESOURCE_H
#define BULKHEAD_OBSERVE_RESOURCE_H

/*
 * resource.h -- who speaks: this service, on this host, in this process, container and cloud.
 *
 * Found once, at the first call of any of these: from OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
 * variables of containers and clouds, /proc, /sys, /etc and what cloud-init left.  No network, no
 * other program.  What is set by hand wins over the environment, that over what is found.
 */

#include <stdbool.h>
#include <stddef.h>

struct bh_attribute {
    const char *key, *value;
    bool        number; /* value is a decimal integer */
};

/*
 * bh_resource_set -- set by hand, before anybody asks; a NULL value leaves the attribute out.
 * Returns: 0; -EBUSY, somebody asked already and was told otherwise; -EINVAL; -ENOMEM; -ENOSPC.
 */
int bh_resource_set(const char *key, const char *value);

/*
 * bh_resource -- all attributes, sorted by key; *count says how many.
 * Owns:    nobody: they live for ever, unchanged.
 * Blocks:  the thread, reading a few files, the first time.
 * Threads: any.
 */
const struct bh_attribute *bh_resource(size_t *count);

/* bh_resource_get -- one of them; NULL without it. */
const char *bh_resource_get(const char *key);

/*
 * bh_resource_publish -- let profilers and other tools on this machine read the attributes.
 *
 * They lie in a mapping named OTEL_CTX (OTEP 4719), which also says that each thread has a record
 * of its trace (go/tag.h).  Again is a no-op; a child begins without, and may publish its own.
 * Returns: 0; -errno, if the memory cannot be had.
 * Threads: any.
 */
int bh_resource_publish(void);

/* bh_resource_problem -- what is wrong with OTEL_RESOURCE_ATTRIBUTES, which counts as unset then. */
const char *bh_resource_problem(void);

#endif
