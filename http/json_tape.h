#ifndef BULKHEAD_HTTP_JSON_TAPE_H
#define BULKHEAD_HTTP_JSON_TAPE_H

/*
 * json_tape.h -- PRIVATE: simdjson behind three C functions.
 *
 * Its result is a tape of words: a kind in the top byte, 56 bits of payload.
 * See: simdjson, doc/tape.md.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ht_json_tape {
    const uint64_t *words;
    const uint8_t  *strings; /* each: its length in 4 bytes, the bytes, a NUL */
};

/*
 * ht_json_tape -- parse; *tape is this thread's, until its next call.
 * Returns: NULL, or what is wrong: static text.
 */
const char *ht_json_tape(const char *text, size_t size, size_t max_depth, struct ht_json_tape *tape);

/* ht_json_put_number -- the shortest text that reads back the same; room for 32.  Returns: behind it. */
char *ht_json_put_number(char *at, double number);

#ifdef __cplusplus
}
#endif

#endif
