#ifndef BH_OBSERVE_SAMPLE_H
#define BH_OBSERVE_SAMPLE_H

/*
 * sample.h -- the inside of a profile, for those that write one out (profile_encode.c,
 * profile_text.c).
 */

#include <bulkhead/observe/profile.h>

#include "names.h"

/* A label: numbers of names; text 0: it is a number. */
struct ob_label {
    uint32_t key, text, unit;
    int64_t  number;
};

struct ob_sample {
    uint64_t               hash; /* of stack and labels */
    int64_t                values[BH_PROFILE_TYPES];
    uint16_t               depth, label_count;
    const uintptr_t       *pcs;
    const struct ob_label *labels; /* by key */
};

enum { OB_COMMENTS = 8 };

struct bh_profile {
    int               type_count;
    uint32_t          types[BH_PROFILE_TYPES], units[BH_PROFILE_TYPES];
    uint32_t          period_type, period_unit, default_type;
    int64_t           period, began, duration;
    uint32_t          comments[OB_COMMENTS];
    int               comment_count;
    bool              incomplete; /* a name could not be kept: it is not to be written */
    struct ob_names   names;
    struct ob_sample *samples;
    uint32_t          count, room;
    uint32_t         *slots; /* number of a sample + 1 by hash; 0: free */
    uint32_t          slot_count;
    struct chunk     *chunks; /* where stacks and labels lie */
};

static inline const char *
ob_name(const struct bh_profile *p, uint32_t number)
{
    return p->names.text[number];
}

/* ob_is_zero -- nothing to tell: what merging has cancelled. */
static inline bool
ob_is_zero(const struct bh_profile *p, const struct ob_sample *s)
{
    for (int i = 0; i < p->type_count; i++)
        if (s->values[i] != 0)
            return false;
    return true;
}

#endif
