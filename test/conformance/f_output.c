/*
 * f_output.c -- F: what an uncaught panic prints, and the exit status.
 *
 * Only the lines before the first goroutine's frames are Go's to the letter;
 * where a case is about which goroutines are shown, run.sh compares their
 * header lines as well (expected/traced.txt).
 */

#include "cases.h"

#include <complex.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/timer.h>

/* Defined types: each prints as its name around the value. */
static void
print_my_string(const void *value, char *text, size_t size)
{
    snprintf(text, size, "main.myString(\"%s\")", *(const char *const *)value);
}

static void
print_my_int(const void *value, char *text, size_t size)
{
    snprintf(text, size, "main.myInt(%d)", *(const int *)value);
}

static void
print_my_bool(const void *value, char *text, size_t size)
{
    snprintf(text, size, "main.myBool(%s)", yes_no(*(const bool *)value));
}

static void
print_my_float(const void *value, char *text, size_t size)
{
    char number[32];

    bh_kind_float64.print(value, number, sizeof number);
    snprintf(text, size, "main.myFloat(%s)", number);
}

static const char *
from_error(const void *value)
{
    (void)value;
    return "from Error";
}

static const char *
from_string(const void *value)
{
    (void)value;
    return "from String";
}

static const char *
custom_error_text(const void *value)
{
    (void)value;
    return "custom error text";
}

static const struct bh_kind my_string = { .name = "main.myString",
                                          .size = sizeof(char *),
                                          .print = print_my_string };
static const struct bh_kind my_int = { .name = "main.myInt",
                                       .size = sizeof(int),
                                       .print = print_my_int };
static const struct bh_kind my_float = { .name = "main.myFloat",
                                         .size = sizeof(double),
                                         .print = print_my_float };
static const struct bh_kind my_bool = { .name = "main.myBool",
                                        .size = sizeof(bool),
                                        .print = print_my_bool };
static const struct bh_kind both_error = { .name = "main.bothError",
                                           .error = from_error,
                                           .string = from_string };
static const struct bh_kind only_stringer = { .name = "main.onlyStringer",
                                              .string = from_string };
static const struct bh_kind string_with_error = { .name = "main.stringWithError",
                                                  .error = custom_error_text };

/* Types nothing can print: name and address. */
static const struct bh_kind my_struct = { .name = "main.myStruct" };
static const struct bh_kind my_struct_ptr = { .name = "*main.myStruct" };
static const struct bh_kind int_slice = { .name = "[]int" };
static const struct bh_kind func = { .name = "func()" };
static const struct bh_kind chan_int = { .name = "chan int" };

static const struct my_struct {
    int a, b;
} one_two = { 1, 2 };

TWIN(F01, "string")
{
    bh_panic("boom");
}

TWIN(F02, "empty-string")
{
    bh_panic("%s", "");
}

TWIN(F03, "multi-line-string")
{
    bh_panic("line one\nline two\n");
}

TWIN(F04, "error")
{
    bh_panic_value(&bh_kind_error, "an error");
}

static const char *
wrapped_error_text(const void *inner)
{
    static char text[64];

    snprintf(text, sizeof text, "outer: %s", (const char *)inner);
    return text;
}

TWIN(F05, "wrapped-error")
{
    static const struct bh_kind wrap_error = { .name = "*fmt.wrapError",
                                               .error = wrapped_error_text };

    bh_panic_value(&wrap_error, "inner");
}

TWIN(F06, "error-beats-stringer")
{
    bh_panic_value(&both_error, &one_two);
}

TWIN(F07, "stringer")
{
    bh_panic_value(&only_stringer, &one_two);
}

TWIN(F08, "int")
{
    bh_panic_value(&bh_kind_int, &(int){ 42 });
}

TWIN(F09, "negative-int64")
{
    bh_panic_value(&bh_kind_int64, &(int64_t){ -7 });
}

TWIN(F10, "uint8")
{
    bh_panic_value(&bh_kind_uint8, &(uint8_t){ 200 });
}

TWIN(F11, "rune")
{
    bh_panic_value(&bh_kind_int32, &(int32_t){ 'x' });
}

TWIN(F12, "float")
{
    bh_panic_value(&bh_kind_float64, &(double){ 1.5 });
}

TWIN(F13, "complex")
{
    bh_panic_value(&bh_kind_complex128, &(double _Complex){ 1 - 2 * I });
}

TWIN(F14, "bool")
{
    bh_panic_value(&bh_kind_bool, &(bool){ true });
}

TWIN(F15, "defined-string")
{
    bh_panic_value(&my_string, &(const char *){ "hi" });
}

TWIN(F16, "defined-int")
{
    bh_panic_value(&my_int, &(int){ 3 });
}

TWIN(F17, "defined-float")
{
    bh_panic_value(&my_float, &(double){ 2.5 });
}

TWIN(F18, "defined-bool")
{
    bh_panic_value(&my_bool, &(bool){ true });
}

TWIN(F19, "struct")
{
    bh_panic_value(&my_struct, &one_two);
}

TWIN(F20, "pointer")
{
    bh_panic_value(&my_struct_ptr, &one_two);
}

TWIN(F21, "slice")
{
    static const int one[] = { 1 };

    bh_panic_value(&int_slice, one);
}

TWIN(F23, "func")
{
    bh_panic_value(&func, (const void *)(uintptr_t)nothing);
}

TWIN(F24, "chan")
{
    bh_panic_value(&chan_int, BH_CHAN(int, 0));
}

TWIN(F25, "uintptr")
{
    bh_panic_value(&bh_kind_uintptr, &(uintptr_t){ 255 });
}

TWIN(F26, "defined-string-with-error-method")
{
    bh_panic_value(&string_with_error, "raw");
}

TWIN(F27, "invalid-utf8")
{
    bh_panic("%s", "a\377b");
}

static void
store_to_nil(void)
{
    int *p = nil();

    *p = 1;
}

TWIN(F29, "runtime-error-signal-line")
{
    store_to_nil();
}

static void
store_and_recover(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(recover_quietly, NULL);
    store_to_nil();
}

TWIN(F30, "signal-line-gone-after-recovery")
{
    store_and_recover();
    bh_panic("later");
}

static void
repanic(void *unused)
{
    (void)unused;
    bh_repanic(bh_recover());
}

TWIN(F31, "signal-line-kept-when-repanicked")
{
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    store_to_nil();
}

TWIN(F34, "divide-uncaught")
{
    volatile int one = 1, z = 0;

    say("%d", one / z);
}

/* Functions that traces must name. */
__attribute__((noinline)) static void
level2(const char *text)
{
    bh_panic("%s", text);
}

__attribute__((noinline)) static void
level1(const char *text)
{
    level2(text);
}

TWIN(F35, "trace-shape-main-nested-calls")
{
    level1("deep");
}

static void
level1_in_child(void *unused)
{
    (void)unused;
    level1("in child");
}

TWIN(F36, "trace-shape-child-goroutine")
{
    bh_go(level1_in_child, NULL);
    bh_sleep(BH_SECOND);
    say("must not print");
}

TWIN(F37, "trace-shape-panic-in-deferred")
{
    BH_DEFER(level1, "second");
    level1("first");
}

static void
select_nothing(void *unused)
{
    (void)unused;
    bh_select_n(NULL, 0);
}

/* go func() { select {} }(), and time for it to get there */
static void
park_another(void)
{
    bh_go(select_nothing, NULL);
    bh_sleep(10 * BH_MILLISECOND);
}

TWIN(F38, "only-panicking-goroutine-is-shown")
{
    park_another();
    bh_panic("one trace");
}

TWIN_ENV(F39, "gotraceback-none", "BH_TRACEBACK=none")
{
    bh_go(select_nothing, NULL);
    bh_panic("x");
}

TWIN_ENV(F40, "gotraceback-0", "BH_TRACEBACK=0")
{
    bh_panic("x");
}

TWIN_ENV(F41, "gotraceback-single", "BH_TRACEBACK=single")
{
    park_another();
    bh_panic("x");
}

TWIN_ENV(F42, "gotraceback-all", "BH_TRACEBACK=all")
{
    park_another();
    bh_panic("x");
}

TWIN_ENV(F43, "gotraceback-system", "BH_TRACEBACK=system")
{
    park_another();
    bh_panic("x");
}

TWIN_ENV(F44, "gotraceback-crash", "BH_TRACEBACK=crash")
{
    bh_panic("x");
}

TWIN(F45, "debug-settraceback-raises-level")
{
    park_another();
    bh_set_traceback("all");
    bh_panic("x");
}

TWIN_ENV(F46, "debug-settraceback-cannot-lower-env", "BH_TRACEBACK=all")
{
    park_another();
    bh_set_traceback("none");
    bh_panic("x");
}

/* stack_has -- whether this goroutine's part of a dump, taken here, contains text. */
static bool
stack_has(const char *text)
{
    static char dump[64 << 10];
    char        header[32];
    int         fd = memfd_create("dump", MFD_CLOEXEC);

    bh_dump(fd);
    ssize_t length = pread(fd, dump, sizeof dump - 1, 0);
    close(fd);
    dump[length > 0 ? length : 0] = '\0';
    snprintf(header, sizeof header, "goroutine %llu [", (unsigned long long)bh_id());
    char *stack = strstr(dump, header);
    if (stack == NULL)
        return false;
    char *end = strstr(stack, "\n\n");
    if (end != NULL)
        *end = '\0';
    return strstr(stack, text) != NULL;
}

static void
look_at_stack(void *unused)
{
    const struct bh_panic *p = bh_recover();

    (void)unused;
    show("r", p);
    say("has panic site: %s", yes_no(stack_has("\nlevel2(")));
    say("has panic( frame: %s", yes_no(stack_has("\npanic(")));
}

static void
panic_and_look(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(look_at_stack, NULL);
    level1("x");
}

TWIN(F47, "stack-taken-in-deferred-still-shows-panic-site")
{
    panic_and_look();
    say("after return, has panic site: %s", yes_no(stack_has("\nlevel2(")));
}

struct moved {
    struct bh_chan *chan;
};

static void
send_text(struct bh_chan *chan)
{
    struct {
        char text[16];
    } copy;

    snprintf(copy.text, sizeof copy.text, "%s", bh_panic_text(bh_recover()));
    bh_send(chan, &copy);
}

static void
panic_and_send(void *args)
{
    BH_RETURNS_VOID;
    BH_DEFER(send_text, ((struct moved *)args)->chan);
    level1("moved");
}

static void
look_for_site(void *unused)
{
    (void)unused;
    (void)bh_recover();
    say("site in stack: %s", yes_no(stack_has("\nlevel2(")));
}

TWIN(F48, "stack-taken-elsewhere-has-lost-the-site")
{
    char         text[16];
    struct moved m = { bh_chan_new(sizeof text, 0) };

    BH_RETURNS_VOID;
    bh_go(panic_and_send, &m);
    BH_DEFER(look_for_site, NULL);
    bh_recv(m.chan, &text);
    bh_panic("%s", text);
}

TWIN(F50, "os-stderr-variable-does-not-redirect-crash-text")
{
    stderr = fopen("/dev/null", "w");
    bh_panic("still on fd 2");
}

struct racer {
    struct bh_chan *start;
    int             i;
};

static void
race(void *args)
{
    struct racer *r = args;

    bh_recv(r->start, NULL);
    bh_panic("racer %d", r->i);
}

TWIN(F53, "two-goroutines-panic-at-once")
{
    struct bh_chan *start = BH_CHAN(bool, 0);

    for (int i = 0; i < 2; i++)
        bh_go(race, &(struct racer){ start, i });
    bh_close(start);
    bh_select_n(NULL, 0);
}

static void
panic_child_error(void *unused)
{
    (void)unused;
    bh_panic_value(&bh_kind_error, "child");
}

TWIN(F55, "goroutine-exit-status-is-2-not-1")
{
    bh_go(panic_child_error, NULL);
    bh_select_n(NULL, 0);
}

TWIN(F56, "write-error-to-closed-stderr")
{
    close(STDERR_FILENO);
    bh_panic("nobody hears");
}
