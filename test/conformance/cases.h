#ifndef BULKHEAD_TEST_CONFORMANCE_CASES_H
#define BULKHEAD_TEST_CONFORMANCE_CASES_H

/*
 * cases.h -- what the twins of Go's cases share.
 *
 * A twin is the C form of one numbered Go program and prints the same lines.
 * Its body is the main goroutine's:
 *
 *     TWIN(A01, "recover-in-deferred-closure")
 *     {
 *         ...
 *     }
 *
 * How Go's forms read in C:
 *
 *     func literal           a function of its own; what it captures is its argument
 *     defer f(x)             BH_DEFER(f, x)
 *     recover()              bh_recover(), in a function whose deferrer has BH_RETURNS
 *     named result           the variable of BH_RETURNS, or an output parameter
 *     panic(v)               bh_panic, or bh_panic_value with the kind of v
 *     recover(); panic(r)    bh_repanic
 *     fmt.Println            say
 *
 * An id with an underscore (A01_block) is a form of ours, not one of Go's cases:
 * it must print what A01 prints, or what expected/ours.txt says.
 */

#include <stdbool.h>
#include <stddef.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

#define TWIN(id, title) TWIN_ENV(id, title, "")

/* TWIN_ENV -- a twin to be run with `env` ("NAME=value") in its environment. */
#define TWIN_ENV(id, title, env)                                                               \
    static void        twin_##id(void);                                                        \
    static struct twin twin_entry_##id = { #id "-" title, env, twin_##id, NULL };              \
    __attribute__((constructor)) static void twin_add_##id(void)                               \
    {                                                                                          \
        twin_register(&twin_entry_##id);                                                       \
    }                                                                                          \
    static void twin_##id(void)

struct twin {
    const char *name, *env;
    void (*body)(void);
    struct twin *next;
};

void twin_register(struct twin *t);

/* say -- one line on descriptor 1, in one write. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* show -- a recovered panic as Go prints "%v (%T)": its text and its type. */
void show(const char *label, const struct bh_panic *p);

/* caught -- run fn(arg), recover, and say everything about what it panicked with. */
void caught(const char *label, void (*fn)(void *), void *arg);

/* in_goroutine -- run fn(arg) on a goroutine and wait until that is gone. */
void in_goroutine(void (*fn)(void *), void *arg);

/* What the twins most often defer. */
void say_text(const char *text);
void show_recovered(const char *label); /* recovers: it is the deferred call itself */
void recover_quietly(void *unused);
void panic_text(const char *text); /* panics with a string */

/* nothing -- where C needs a function and Go had no statement. */
void nothing(void *unused);

const char *yes_no(bool b); /* "true", "false" */

/* nil -- NULL, where the compiler cannot see it: it drops a store that it knows must fault. */
void *nil(void);

#endif
