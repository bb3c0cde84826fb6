#ifndef BULKHEAD_OBSERVE_UTF8_H
#define BULKHEAD_OBSERVE_UTF8_H

/* utf8.h -- PRIVATE: what is UTF-8 (RFC 3629 section 4), for whoever writes texts of strangers. */

#include <stddef.h>

/*
 * ob_utf8_length -- of the character at t, of which `left` bytes can be read; 0 if it is none.
 *
 * Overlong forms, surrogates and what lies above U+10FFFF are none.  A NUL ends the reading: of a
 * text that has one, any `left` will do.
 */
static inline size_t
ob_utf8_length(const unsigned char *t, size_t left)
{
    size_t n = *t < 0x80   ? 1
               : *t < 0xc2 ? 0
               : *t < 0xe0 ? 2
               : *t < 0xf0 ? 3
               : *t < 0xf5 ? 4
                           : 0;

    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((t[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((*t == 0xe0 && t[1] < 0xa0) || (*t == 0xed && t[1] > 0x9f) ||
        (*t == 0xf0 && t[1] < 0x90) || (*t == 0xf4 && t[1] > 0x8f))
        return 0;
    return n;
}

#endif
