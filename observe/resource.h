#ifndef BULKHEAD_OBSERVE_RESOURCE_PRIVATE_H
#define BULKHEAD_OBSERVE_RESOURCE_PRIVATE_H

/*
 * resource.h -- PRIVATE: a resource while it is being found.
 */

#include <bulkhead/observe/resource.h>

enum { OB_RESOURCE_MAX = 64, OB_RESOURCE_TEXT = 16 * 1024 };

struct ob_resource {
    /* Where to look; a test has its own. */
    const char *root; /* before the names of files: "" */
    char *(*env)(const char *name);

    const char         *problem;
    size_t              count, used;
    struct bh_attribute list[OB_RESOURCE_MAX];
    char                text[OB_RESOURCE_TEXT];
};

/* ob_resource_put -- add an attribute unless there is one of that key.  Returns: 0; -ENOSPC. */
int ob_resource_put(struct ob_resource *r, const char *key, const char *value);

/* ob_resource_env -- the same with what a variable says, if it says something. */
void ob_resource_env(struct ob_resource *r, const char *key, const char *variable);

/*
 * ob_resource_read -- a file's first bytes, without white space at their ends.
 * Returns: how many; 0: none.
 */
size_t ob_resource_read(const struct ob_resource *r, const char *path, char *out, size_t size);

/* ob_resource_find -- everything, on top of what is there already; then sort. */
void ob_resource_find(struct ob_resource *r);

/* ob_resource_cloud -- cloud.*, faas.*, k8s.*, container.*: resource_cloud.c. */
void ob_resource_cloud(struct ob_resource *r);

#endif
