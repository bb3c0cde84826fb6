#ifndef BH_OBSERVE_IMPORTS_H
#define BH_OBSERVE_IMPORTS_H

/*
 * imports.h -- make every module of the process call our function in place of a library's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ob_import {
    const char *name;
    void       *ours;
    void       *theirs; /* set by ob_imports_find */
};

/*
 * ob_imports_find -- set `theirs` to what the name means to the program: the first definition
 * among the modules, in the order of their loading.
 * Returns: how many names have one.
 */
int ob_imports_find(struct ob_import *imports, int count);

/*
 * ob_imports_redirect -- from now on calls of `theirs` from any module that is loaded go to `ours`.
 *
 * Only calls that are bound when the program runs: not those inside the module that defines
 * the function, unless it calls it like others do (as glibc does with its allocator), and none of
 * who has copied the address before.
 * Returns: how many places were changed, less those that had been before; or -errno.
 */
int ob_imports_redirect(const struct ob_import *imports, int count);

/* ob_is_code -- whether the address lay in some module's code when it was redirected.  Async-signal-safe. */
bool ob_is_code(uintptr_t address);

#endif
