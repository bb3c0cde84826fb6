#ifndef BULKHEAD_OBSERVE_SHEET_H
#define BULKHEAD_OBSERVE_SHEET_H

/* sheet.h -- text into memory of a fixed size; what does not fit is left out, and known. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct ob_sheet {
    char  *text;
    size_t size, used; /* used < size: the text is always NUL-terminated */
    bool   cut;
};

static inline void
ob_sheet_init(struct ob_sheet *s, char *memory, size_t size)
{
    *s = (struct ob_sheet){ .text = memory, .size = size };
    memory[0] = '\0';
}

static inline void
ob_put_bytes(struct ob_sheet *s, const char *bytes, size_t n)
{
    if (n > s->size - 1 - s->used) {
        n = s->size - 1 - s->used;
        s->cut = true;
    }
    memcpy(s->text + s->used, bytes, n);
    s->used += n;
    s->text[s->used] = '\0';
}

static inline void
ob_put(struct ob_sheet *s, const char *text)
{
    ob_put_bytes(s, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static inline void
ob_print(struct ob_sheet *s, const char *format, ...)
{
    va_list args;
    size_t  room = s->size - s->used;

    va_start(args, format);
    int n = vsnprintf(s->text + s->used, room, format, args);
    va_end(args);
    if (n < 0)
        return;
    s->cut = s->cut || (size_t)n >= room;
    s->used += (size_t)n < room ? (size_t)n : room - 1;
}

static inline void
ob_put_hex(struct ob_sheet *s, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ob_print(s, "%02x", bytes[i]);
}

#endif
