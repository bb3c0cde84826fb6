/*
 * test.c -- runs the tests of one program, each run in a process of its own.
 *
 *     chan_test                    every test
 *     chan_test closed select      those whose suite.name contains a word
 *     chan_test -l                 list      -v  also name what passed
 *
 *     BH_SIM_SEED=n chan_test x    deterministic runs only, with this seed: a replay
 *     BH_TEST_SEEDS=n              seeds per deterministic test (5)
 *     BH_TEST_FIRST_SEED=n         the first of them (1)
 *     TEST_EMULATED=1              an emulator runs us (make test-aarch64)
 *     TEST_TIMEOUT=n               n times the usual 10 s a run: sanitizers, valgrind, qemu
 *
 * The runner has one thread and forks.  A child leads its own process group,
 * writes to a memory file instead of the terminal, runs the body (as main
 * goroutine, unless plain), looks for what is left behind, and exits with
 * 0, or 1 for a failed expectation.  The runner waits for it, asks it for a dump
 * of its goroutines when time is up (SIGQUIT), and then kills the group: nothing
 * a test started survives it.
 */

#include "test.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    RUN_SECONDS = 10,
    DEFAULT_SEEDS = 5,
    SETTLE_YIELDS = 1000,   /* for goroutines that are about to end ... */
    SETTLE_SLEEPS = 500,    /* ... and this many ms for those that need a thread */
    SHOWN_OUTPUT = 64 << 10, /* bytes of a failed run's output */
    MAX_DESCRIPTORS = 4096,
    STATUS_SKIPPED = 96,  /* test_skip */
    STATUS_RETURNED = 97, /* TEST_DIES came back */
};

/* Read by TSan's runtime: its second of waiting at each exit would be an hour in all. */
const char *__tsan_default_options(void);
const char *
__tsan_default_options(void)
{
    return "atexit_sleep_ms=20";
}

static struct test  *tests, **tests_tail = &tests;
static const char   *program;
static bool          verbose;
static bool          open_before[MAX_DESCRIPTORS];

/* What RUN_SECONDS is multiplied by; less than 1 only to test the runner. */
static double
patience(void)
{
    const char *text = getenv("TEST_TIMEOUT");
    double      factor = text != NULL ? strtod(text, NULL) : 1;

    return factor > 0 ? factor : 1;
}

void
test_register(struct test *t)
{
    *tests_tail = t;
    tests_tail = &t->next;
}

/* ---- expectations (in the child) ---------------------------------------- */

void
test_failed(const char *file, int line, const char *format, ...)
{
    char    text[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fflush(stdout);
    dprintf(STDERR_FILENO, "%s:%d: %s\n", file, line, text);
    _exit(1);
}

void
test_skip(const char *why)
{
    dprintf(STDERR_FILENO, "%s\n", why);
    _exit(STATUS_SKIPPED);
}

void
test_expect_eq(const char *file, int line, const char *a_text, const char *b_text, long long a,
               long long b)
{
    if (a != b)
        test_failed(file, line, "%s is %lld (0x%llx), %s is %lld (0x%llx)", a_text, a, a, b_text,
                    b, b);
}

void
test_expect_str(const char *file, int line, const char *a_text, const char *b_text,
                const char *a, const char *b)
{
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
        return;
    test_failed(file, line, "%s is \"%s\", %s is \"%s\"", a_text, a != NULL ? a : "(null)", b_text,
                b != NULL ? b : "(null)");
}

double
test_slow(void)
{
    double factor = patience();

    return factor > 1 ? factor : 1;
}

bool
test_emulated(void)
{
    const char *text = getenv("TEST_EMULATED");

    return text != NULL && *text != '\0';
}

/* ---- what a run leaves behind (in the child) ----------------------------- */

/* Made by the runtime for itself, and kept: not the test's to close. */
static bool
runtimes_own(const char *target)
{
    return strcmp(target, "anon_inode:[eventpoll]") == 0 ||
           strcmp(target, "anon_inode:[eventfd]") == 0;
}

/* Calls visit for every open descriptor but the one it reads the list through. */
static void
each_descriptor(void (*visit)(int fd, const char *target, void *arg), void *arg)
{
    DIR           *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        char    target[256];
        int     fd = (int)strtol(entry->d_name, NULL, 10);
        ssize_t length;

        if (!isdigit((unsigned char)entry->d_name[0]) || fd == dirfd(dir) ||
            fd >= MAX_DESCRIPTORS)
            continue;
        length = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (length < 0)
            continue; /* closed meanwhile: by a sanitizer's own thread */
        target[length] = '\0';
        visit(fd, target, arg);
    }
    closedir(dir);
}

static void
note_descriptor(int fd, const char *target, void *arg)
{
    (void)target;
    (void)arg;
    open_before[fd] = true;
}

static void
count_leak(int fd, const char *target, void *arg)
{
    int *leaks = arg;

    if (open_before[fd] || runtimes_own(target))
        return;
    fprintf(stderr, "leaked descriptor %d: %s\n", fd, target);
    (*leaks)++;
}

static void
check_goroutines(const struct test_runtime *rt)
{
    for (int i = 0; i < SETTLE_YIELDS && rt->goroutines() > 1; i++)
        rt->yield();
    for (int i = 0; i < SETTLE_SLEEPS && rt->goroutines() > 1; i++)
        rt->sleep(1000000);
    if (rt->goroutines() <= 1)
        return;
    fprintf(stderr, "leaked goroutines: %zu besides main\n", rt->goroutines() - 1);
    fflush(NULL);
    rt->dump(STDERR_FILENO);
    _exit(1);
}

static void
main_goroutine(void *args)
{
    struct test *t = *(struct test **)args;

    t->body();
    if (t->kind != TEST_DIES_)
        check_goroutines(t->runtime);
}

/* ---- one run ------------------------------------------------------------ */

struct run {
    struct test *test;
    bool         simulate;
    uint64_t     seed;
    int          output;  /* memory file with what it printed */
    int          status;  /* as waitpid gives it */
    bool         timed_out;
};

static noreturn void
child_main(struct run *run)
{
    struct test      *t = run->test;
    struct bh_options options = { .procs = 2, .simulate = run->simulate, .seed = run->seed };
    int               leaks = 0;

    each_descriptor(note_descriptor, NULL);
    if (run->simulate) {
        char seed[32];

        snprintf(seed, sizeof seed, "%" PRIu64, run->seed);
        setenv("BH_SIM_SEED", seed, 1);
    } else {
        unsetenv("BH_SIM_SEED");
    }
    if (t->kind == TEST_PLAIN_)
        t->body();
    else
        t->runtime->main(&options, main_goroutine, &t);
    fflush(NULL);
    if (t->kind == TEST_DIES_)
        _exit(STATUS_RETURNED);
    each_descriptor(count_leak, &leaks);
    exit(leaks > 0 ? 1 : 0);
}

/* Everything between fork and the test: a group, a limit and an output of its own. */
static noreturn void
child_start(struct run *run, const sigset_t *mask)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    dup2(run->output, STDOUT_FILENO);
    dup2(run->output, STDERR_FILENO);
    close(run->output);
    sigprocmask(SIG_SETMASK, mask, NULL);
    child_main(run);
}

/* Returns: whether the child ended within the time.  SIGCHLD is blocked. */
static bool
wait_for(pid_t pid, int *status, double seconds)
{
    struct timespec now, end;
    sigset_t        chld;

    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)seconds;
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);

        if (got == pid || (got < 0 && errno != EINTR))
            return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec))
            return false;
        sigtimedwait(&chld, NULL, &(struct timespec){ .tv_nsec = 200 * 1000 * 1000 });
    }
}

static void
execute(struct run *run)
{
    sigset_t chld, before;
    pid_t    pid;

    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &before);
    run->output = memfd_create("test output", MFD_CLOEXEC);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        child_start(run, &before);
    setpgid(pid, pid);
    run->timed_out = !wait_for(pid, &run->status, RUN_SECONDS * patience());
    if (run->timed_out) {
        kill(pid, SIGQUIT); /* a dump of every goroutine */
        if (!wait_for(pid, &run->status, 2 * test_slow())) {
            kill(pid, SIGKILL);
            waitpid(pid, &run->status, 0);
        }
    }
    kill(-pid, SIGKILL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* ---- verdicts ------------------------------------------------------------ */

enum verdict { FAILED, PASSED, SKIPPED };

/* Returns: all that the run printed, NUL added; the caller frees it. */
static char *
output_of(const struct run *run, size_t *length)
{
    off_t  size = lseek(run->output, 0, SEEK_END);
    char  *text = calloc(1, (size_t)(size > 0 ? size : 0) + 1);
    size_t got = 0;

    while (text != NULL && got < (size_t)size) {
        ssize_t n = pread(run->output, text + got, (size_t)size - got, (off_t)got);

        if (n <= 0)
            break;
        got += (size_t)n;
    }
    *length = got;
    return text;
}

static bool
passed(const struct run *run, const char *output, size_t length)
{
    const struct test *t = run->test;
    int                got = WIFSIGNALED(run->status) ? -WTERMSIG(run->status)
                                                      : WEXITSTATUS(run->status);

    if (run->timed_out)
        return false;
    if (t->kind != TEST_DIES_)
        return got == 0;
    return got == t->status &&
           (t->text == NULL || memmem(output, length, t->text, strlen(t->text)) != NULL);
}

static void
print_verdict(const struct run *run, const char *output, size_t length)
{
    const struct test *t = run->test;

    printf("FAIL %s.%s", t->suite, t->name);
    if (run->simulate)
        printf(" (deterministic, seed %" PRIu64 ")", run->seed);
    if (run->timed_out)
        printf(": ran for more than %.0f s", RUN_SECONDS * patience());
    else if (WIFSIGNALED(run->status))
        printf(": killed by signal %d (%s)", WTERMSIG(run->status),
               strsignal(WTERMSIG(run->status)));
    else if (WEXITSTATUS(run->status) == STATUS_RETURNED && t->kind == TEST_DIES_)
        printf(": did not die");
    else
        printf(": exit status %d", WEXITSTATUS(run->status));
    if (t->kind == TEST_DIES_)
        printf("; expected %d and the text \"%s\"", t->status, t->text != NULL ? t->text : "");
    printf("\n");
    for (const char *line = output, *end = output + (length < SHOWN_OUTPUT ? length : SHOWN_OUTPUT);
         line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        int         n = (int)((newline != NULL ? newline : end) - line);

        printf("    | %.*s\n", n, line);
        line += n + 1;
    }
    if (run->simulate)
        printf("    replay: BH_SIM_SEED=%" PRIu64 " %s %s.%s\n", run->seed, program, t->suite,
               t->name);
}

static enum verdict
run_once(struct test *t, bool simulate, uint64_t seed)
{
    struct run   run = { .test = t, .simulate = simulate, .seed = seed };
    size_t       length;
    char        *output;
    enum verdict verdict;

    execute(&run);
    output = output_of(&run, &length);
    verdict = passed(&run, output, length) ? PASSED : FAILED;
    if (!run.timed_out && WIFEXITED(run.status) && WEXITSTATUS(run.status) == STATUS_SKIPPED) {
        verdict = SKIPPED;
        printf("skip %s.%s: %s", t->suite, t->name, output);
    } else if (verdict == FAILED) {
        print_verdict(&run, output, length);
    }
    free(output);
    close(run.output);
    return verdict;
}

static uint64_t
number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

/* Every run of a test; the first that does not pass decides. */
static enum verdict
run_test(struct test *t)
{
    bool         replay = getenv("BH_SIM_SEED") != NULL;
    bool         simulates = t->kind == TEST_BOTH_ || t->kind == TEST_SIM_;
    uint64_t     first = number_from("BH_TEST_FIRST_SEED", 1);
    uint64_t     count = number_from("BH_TEST_SEEDS", DEFAULT_SEEDS);
    enum verdict verdict = PASSED;

    if (replay)
        return simulates ? run_once(t, true, number_from("BH_SIM_SEED", 1)) : SKIPPED;
    if (t->kind != TEST_SIM_)
        verdict = run_once(t, false, 0);
    for (uint64_t i = 0; simulates && verdict == PASSED && i < count; i++)
        verdict = run_once(t, true, first + i);
    return verdict;
}

/* ---- the program ---------------------------------------------------------- */

static bool
wanted(const struct test *t, char **words, int count)
{
    char full[512];

    snprintf(full, sizeof full, "%s.%s", t->suite, t->name);
    for (int i = 0; i < count; i++) {
        if (strstr(full, words[i]) != NULL)
            return true;
    }
    return count == 0;
}

int
main(int argc, char **argv)
{
    int  counts[3] = { 0 }; /* by verdict */
    bool list = false;
    int  option;

    program = argv[0];
    while ((option = getopt(argc, argv, "lv")) != -1) {
        if (option == '?') {
            fprintf(stderr, "usage: %s [-l] [-v] [word ...]\n", argv[0]);
            return 2;
        }
        list = list || option == 'l';
        verbose = verbose || option == 'v';
    }
    for (struct test *t = tests; t != NULL; t = t->next) {
        enum verdict verdict;

        if (!wanted(t, argv + optind, argc - optind))
            continue;
        if (list) {
            printf("%s.%s\n", t->suite, t->name);
            continue;
        }
        verdict = run_test(t);
        counts[verdict]++;
        if (verdict == PASSED && verbose)
            printf("ok   %s.%s\n", t->suite, t->name);
    }
    if (list)
        return 0;
    printf("%s: %d passed, %d failed\n", program_invocation_short_name, counts[PASSED],
           counts[FAILED]);
    return counts[FAILED] > 0;
}
