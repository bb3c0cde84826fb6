#ifndef BULKHEAD_HTTP_MIDDLEWARE_ENCODER_H
#define BULKHEAD_HTTP_MIDDLEWARE_ENCODER_H

/* encoder.h -- PRIVATE: the three compressors behind one function. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fields.h"

struct ht_encoder;

/* ht_encoder_new -- for a stream of `size` bytes, -1 if unknown.  Panics: for lack of memory. */
struct ht_encoder *ht_encoder_new(enum ht_coding coding, int level, int64_t size);
/* ht_encoder_reuse -- begin another stream.  Returns: false if this coding's can't. */
bool               ht_encoder_reuse(struct ht_encoder *e, int64_t size);
void               ht_encoder_free(struct ht_encoder *e);
enum ht_coding     ht_encoder_coding(const struct ht_encoder *e);

enum ht_encode { HT_ENCODE_MORE, HT_ENCODE_FLUSH, HT_ENCODE_END };

/*
 * ht_encoder_step -- take input, and put output at `at`, until one of them is used up.
 *
 * *in and *in_size move over what was taken, *at and *room over what was put.
 * Returns: whether all is done that how asks for, else call again with more room.
 * Panics:  if the compressor fails.
 */
bool ht_encoder_step(struct ht_encoder *e, enum ht_encode how, const unsigned char **in,
                     size_t *in_size, unsigned char **at, size_t *room);

#endif
