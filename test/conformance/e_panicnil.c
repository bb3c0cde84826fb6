/*
 * e_panicnil.c -- E: panic(nil), which is bh_panic_value(NULL, NULL), and typed
 * nil pointers.
 *
 * As in Go 1.21 and newer: a recover never gives NULL for a panic.
 */

#include "cases.h"

#include <stdio.h>

struct ptr_error {
    const char *text;
};

static const char *
ptr_error_text(const void *value)
{
    static char text[64];
    const struct ptr_error *volatile e = value;

    snprintf(text, sizeof text, "ptrError %s", e->text);
    return text;
}

static const char *
calm_text(const void *value)
{
    (void)value;
    return "calm";
}

static const struct bh_kind kind_ptr_error = { .name = "*main.ptrError",
                                               .error = ptr_error_text };
static const struct bh_kind kind_calm = { .name = "*main.calmPtrError", .error = calm_text };

static void
recover_nil(const char *label)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, label);
    bh_panic_value(NULL, NULL);
}

TWIN(E01, "panic-nil-recover-value")
{
    recover_nil("recover gives");
    say("and the panic is stopped");
}

TWIN(E02, "panic-nil-uncaught")
{
    bh_panic_value(NULL, NULL);
}

static void
note_handled(bool *handled)
{
    if (bh_recover() != NULL)
        *handled = true;
}

static bool
handle_nil(void)
{
    bool handled = false;

    BH_RETURNS(handled);
    BH_DEFER(note_handled, &handled);
    bh_panic_value(NULL, NULL);
}

TWIN(E03, "if-recover-not-nil-misses-panic-nil")
{
    say("handled: %s", yes_no(handle_nil()));
}

TWIN(E05, "typed-nil-error-uncaught")
{
    bh_panic_value(&kind_ptr_error, NULL);
}

TWIN(E06, "typed-nil-error-harmless-uncaught")
{
    bh_panic_value(&kind_calm, NULL);
}

/* A nil interface has no type, so its kind is NULL too. */
struct error {
    const struct bh_kind *kind;
    const void           *value;
};

static void
recover_nil_interface(void)
{
    struct error err = { NULL, NULL };

    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "r");
    bh_panic_value(err.kind, err.value);
}

TWIN(E07, "nil-error-interface-is-panic-nil")
{
    recover_nil_interface();
    say("stopped");
}

static void
say_if_runtime_error(void *unused)
{
    (void)unused;
    say("runtime.Error: %s", yes_no(bh_recover()->kind->runtime_error));
}

TWIN(E08, "runtime-error-interface")
{
    int *p = nil();

    BH_RETURNS_VOID;
    BH_DEFER(say_if_runtime_error, NULL);
    *p = 1;
}

TWIN(E09, "panic-nil-uncaught-nested")
{
    BH_DEFER(panic_text, "after nil");
    bh_panic_value(NULL, NULL);
}
