/*
 * monitor.c -- a process of its own that reports the crash of this one.
 *
 * Who has crashed cannot be trusted to write files.  So a process is forked early,
 * while there is one thread, which does nothing but read a pipe.  The runtime copies
 * a crash's text there (bh_set_crash_fd), its first line first.  When the pipe ends,
 * or the process has gone, the monitor writes what it has read, all of it:
 *
 *     crash.txt     into the report of the panic that ended the process, if the
 *                   reporter still made one (it sends the id through `control`)
 *     ID/           else a report of its own: report.txt is the text, report.json what
 *                   can be read in it
 *
 * Nothing read and the process gone: an orderly end, and the monitor ends too.
 *
 * It is forked twice, so that it is nobody's child and no wait(2) of the program
 * meets it; it has a session of its own, ignores the signals that end programs, and
 * holds nothing open but its pipes.
 */

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "limiter.h"

enum { CRASH_TEXT = 4 * 1024 * 1024, STOP_MS = 2000, PIPE_SIZE = 1024 * 1024, FAR = 10 };

static struct {
    int text, control; /* this end; -1: no monitor */
} monitor = { -1, -1 };

/* ---- in the monitor: what the text says ------------------------------------------------ */

/* take_line -- cut the next line off *text; NULL at the end. */
static char *
take_line(char **text)
{
    char *line = *text;

    if (*line == '\0')
        return NULL;
    *text += strcspn(line, "\n");
    if (**text == '\n')
        *(*text)++ = '\0';
    return line;
}

/* add_frame -- "name(...)" and "\tfile:line +0x1d". */
static void
add_frame(struct ob_report *r, char *function, char *place)
{
    char *file = place + strspn(place, "\t "), *colon;
    bool  ours;

    if (r->frames == OB_FRAMES)
        return;
    function[strcspn(function, "(")] = '\0';
    file[strcspn(file, " ")] = '\0';
    colon = strrchr(file, ':');
    if (colon != NULL)
        *colon = '\0';
    ours = strncmp(function, "rt_", 3) == 0 || strncmp(function, "bh_", 3) == 0 ||
           strncmp(function, "ht_", 3) == 0 || strncmp(function, "ob_", 3) == 0;
    r->frame[r->frames++] = (struct ob_frame){
        .module = -1,
        .function = function,
        .file = file,
        .line = colon != NULL ? (int)strtol(colon + 1, NULL, 10) : 0,
        .in_app = !ours,
        .hidden = ours,
    };
    if (r->location < 0 && !ours)
        r->location = r->frames - 1;
}

static void
read_head(struct ob_raised *p, const char *line)
{
    static const struct {
        const char *prefix, *kind;
    } heads[] = { { "panic: ", "panic" }, { "fatal error: ", "fatal error" } };

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (strncmp(line, heads[i].prefix, strlen(heads[i].prefix)) == 0) {
            line += strlen(heads[i].prefix);
            (void)snprintf(p->kind, sizeof p->kind, "%s", heads[i].kind);
            break;
        }
    (void)snprintf(p->text, sizeof p->text, "%s", line);
}

/* read_crash -- the message, the signal, the first goroutine's frames.  The text is cut up. */
static void
read_crash(struct ob_report *r, struct ob_raised *p, char *text)
{
    char *line, *function = NULL;
    bool  inside = false;

    (void)snprintf(p->kind, sizeof p->kind, "crash");
    while ((line = take_line(&text)) != NULL) {
        unsigned long long id;
        const char        *addr = strstr(line, "addr=0x"), *code = strstr(line, "code=0x");

        if (p->text[0] == '\0' && line[0] != '\0')
            read_head(p, line);
        else if (strncmp(line, "fatal error: ", 13) == 0 && strcmp(p->kind, "crash") == 0)
            (void)snprintf(p->kind, sizeof p->kind, "fatal error");
        if (strncmp(line, "[signal ", 8) == 0 && addr != NULL && code != NULL) {
            p->signal = strncmp(line + 8, "SIGBUS", 6) == 0   ? SIGBUS
                        : strncmp(line + 8, "SIGFPE", 6) == 0 ? SIGFPE
                                                              : SIGSEGV;
            p->code = (int)strtol(code + 5, NULL, 16);
            p->fault_addr = strtoull(addr + 5, NULL, 16);
        }
        if (!inside && sscanf(line, "goroutine %llu", &id) == 1) {
            p->goroutine = id;
            inside = true;
        } else if (inside && line[0] == '\0') {
            return;
        } else if (inside && line[0] == '\t' && function != NULL) {
            add_frame(r, function, line);
            function = NULL;
        } else if (inside) {
            function = strncmp(line, "created by ", 11) == 0 ? NULL : line;
        }
    }
}

/* ---- in the monitor: the report ------------------------------------------------------ */

/* join -- to the report of the same panic.  Returns: false if there is none, or no room in it. */
static bool
join(const char *id, const char *text, size_t size)
{
    char path[OB_PATH];

    if (!ob_id_valid(id) || ob_path_join(path, ob_settings.directory, id) < 0)
        return false;
    if (access(path, W_OK) != 0)
        return false;
    return ob_bundle_file(path, "crash.txt", text, size) == 0 &&
           ob_bundle_manifest(path, NULL, 0) == 0;
}

static void
report_crash(struct ob_report *r, struct ob_slot *s, char *text, size_t size)
{
    const char     *names[5];
    int             count = 0;
    struct ob_sheet whole = { .text = text, .size = size + 1, .used = size };

    r->slot = s;
    s->raised.time = ob_time();
    s->raised.forced = true;
    ob_id_make(r->id, s->raised.time);
    r->began = ob_now();
    r->location = -1;
    r->known = (struct ob_known){ .result = BH_PANIC_FATAL };
    ob_report_miss(r, "world", "written after the process had died");
    if (ob_bundle_begin(r) < 0)
        return;
    if (ob_bundle_write(r, "report.txt", &whole) < 0) {
        ob_bundle_abandon(r);
        return;
    }
    read_crash(r, &s->raised, text);
    r->known.goroutine = s->raised.goroutine;
    for (int i = 0; i < r->frames && count < 5; i++)
        if (r->frame[i].in_app)
            names[count++] = r->frame[i].function;
    (void)snprintf(r->fingerprint, sizeof r->fingerprint, "%016llx",
                   (unsigned long long)ob_fingerprint(s->raised.kind, names, count));
    ob_json_write(r);
    if (ob_bundle_write(r, "report.json", &r->json) < 0 || ob_bundle_end(r) < 0)
        ob_bundle_abandon(r);
    else
        (void)ob_bundle_quota(ob_settings.directory, ob_settings.quota, r->id);
}

/* ---- in the monitor: waiting ----------------------------------------------------------- */

enum { TEXT_FD = 3, CONTROL_FD, PARENT_FD };

struct reading {
    char  *text;
    size_t used;
    char   id[OB_ID + 1];
};

/* read_some -- Returns: whether the pipe has ended. */
static bool
read_some(struct reading *in)
{
    static char beyond[4096];
    size_t      room = CRASH_TEXT - 1 - in->used;
    ssize_t     n = room > 0 ? read(TEXT_FD, in->text + in->used, room)
                             : read(TEXT_FD, beyond, sizeof beyond);

    if (n > 0 && room > 0)
        in->used += (size_t)n;
    return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
}

/* read_all -- until the writer has gone. */
static void
read_all(struct reading *in, bool has_parent)
{
    struct pollfd p[] = { { TEXT_FD, POLLIN, 0 },
                          { CONTROL_FD, POLLIN, 0 },
                          { has_parent ? PARENT_FD : -1, POLLIN, 0 } };
    bool          ended = false;

    while (!ended) {
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            return;
        if (p[1].revents != 0) {
            ssize_t n = recv(CONTROL_FD, in->id, OB_ID, 0);

            if (n <= 0)
                p[1].fd = -1;
        }
        if (p[0].revents != 0)
            ended = read_some(in);
        else if (p[2].revents != 0)
            ended = true; /* gone, and the pipe, held open by another process, is empty */
    }
}

static noreturn void
monitor_main(bool has_parent)
{
    static struct ob_report report;
    static struct ob_slot   slot;
    struct reading          in = { .used = 0 };
    char                   *json = malloc(OB_JSON_SIZE);

    (void)prctl(PR_SET_NAME, "bh-monitor");
    in.text =
        mmap(NULL, CRASH_TEXT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (in.text == MAP_FAILED || json == NULL)
        _exit(1);
    ob_sheet_init(&report.json, json, OB_JSON_SIZE);
    ob_modules_read(&report);
    read_all(&in, has_parent);
    if (in.used > 0 && !join(in.id, in.text, in.used))
        report_crash(&report, &slot, in.text, in.used);
    _exit(0);
}

/* ---- starting ------------------------------------------------------------------------ */

/* arrange -- descriptors TEXT_FD, CONTROL_FD, PARENT_FD and no others. */
static void
arrange(int text, int control, int parent)
{
    static const int ignored[] = {
        SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2
    };
    int nowhere = open("/dev/null", O_RDWR);

    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        (void)signal(ignored[i], SIG_IGN);
    /* Out of the way first: one may stand where another shall go. */
    text = fcntl(text, F_DUPFD, FAR);
    control = fcntl(control, F_DUPFD, FAR);
    parent = parent >= 0 ? fcntl(parent, F_DUPFD, FAR) : -1;
    for (int fd = 0; nowhere >= 0 && fd < 3; fd++)
        (void)dup2(nowhere, fd);
    (void)dup2(text, TEXT_FD);
    (void)dup2(control, CONTROL_FD);
    if (parent >= 0)
        (void)dup2(parent, PARENT_FD);
    (void)syscall(SYS_close_range, parent >= 0 ? PARENT_FD + 1 : PARENT_FD, ~0U, 0);
    (void)setsid();
}

static int
fork_twice(int text, int control)
{
    int   parent = (int)syscall(SYS_pidfd_open, getpid(), 0), status;
    pid_t child = fork();

    if (child == 0) {
        pid_t grandchild = fork();

        if (grandchild != 0)
            _exit(grandchild < 0);
        arrange(text, control, parent);
        monitor_main(parent >= 0);
    }
    int rc = child < 0 ? -errno : 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (rc == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        rc = -EAGAIN;
    if (parent >= 0)
        (void)close(parent);
    return rc;
}

int
ob_monitor_start(void)
{
    int text[2], control[2], rc;

    if (pipe2(text, O_CLOEXEC) != 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
        rc = -errno;
        (void)close(text[0]);
        (void)close(text[1]);
        return rc;
    }
    (void)fcntl(text[1], F_SETPIPE_SZ, PIPE_SIZE); /* as much as we are allowed */
    rc = fork_twice(text[0], control[1]);
    (void)close(text[0]);
    (void)close(control[1]);
    if (rc < 0) {
        (void)close(text[1]);
        (void)close(control[0]);
        return rc;
    }
    monitor.text = text[1];
    monitor.control = control[0];
    bh_set_crash_fd(monitor.text);
    return 0;
}

void
ob_monitor_tell(const char *id)
{
    if (monitor.control >= 0 && id[0] != '\0')
        (void)send(monitor.control, id, strlen(id), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void
ob_monitor_stop(void)
{
    struct pollfd p = { .fd = monitor.control, .events = POLLIN };

    if (monitor.text < 0)
        return;
    bh_set_crash_fd(-1);
    (void)close(monitor.text);
    (void)poll(&p, 1, STOP_MS); /* its end closes when it has ended */
    (void)close(monitor.control);
    monitor.text = monitor.control = -1;
}
