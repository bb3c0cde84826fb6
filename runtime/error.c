/*
 * error.c -- the text that goes with an error code.
 *
 * A code travels as a return value; its note stays on the goroutine that
 * failed, in its cold part, until the next failure there.  A plain thread has a
 * note of its own.
 */

#include "cold.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <bulkhead/go/error.h>

static __thread char thread_note[RT_NOTE_SIZE];

int
bh_fail(int code, const char *format, ...)
{
    char    text[RT_NOTE_SIZE]; /* apart: an argument may be the old note */
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);

    char *note = rt_note_text();
    if (note != NULL)
        memcpy(note, text, strlen(text) + 1);
    return code;
}

/* Without memory there is no note: a failure must not turn into a panic. */
char *
rt_note_text(void)
{
    struct bh_g *g = rt_g();

    if (g == NULL)
        return thread_note;
    struct rt_cold *c = rt_cold_try(g);
    return c != NULL ? c->note : NULL;
}

const char *
bh_error_note(void)
{
    struct bh_g *g = rt_g();

    if (g == NULL)
        return thread_note;
    return g->cold != NULL ? g->cold->note : "";
}

static const char *
own_text(int code)
{
    switch (code) {
    case BH_EPANIC:    return "panicked";
    case BH_EPOISONED: return "lock poisoned by a panic";
    case BH_EGOEXIT:   return "goroutine exited";
    case BH_EDEADLINE: return "context deadline exceeded";
    case BH_ECANCELED: return "context canceled";
    case BH_EEOF:      return "EOF";
    case BH_ECLOSED:   return "use of closed network connection";
    case BH_ENOHOST:   return "no such host";
    default:           return NULL;
    }
}

const char *
bh_error_text(int code)
{
    if (code == 0)
        return "success";

    const char *text = own_text(code);
    if (text == NULL && code < 0 && code > -4096)
        text = strerrordesc_np(-code); /* static, unlike strerror's */
    return text != NULL ? text : "unknown error";
}
