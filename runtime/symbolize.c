/*
 * symbolize.c -- names for addresses of a living process, and where its code is from.
 *
 * symbol.c looks up; it is made for crashes: one user at a time, and what it says is
 * gone when the report ends.  Here answers are copied and kept for ever, so that
 * asking again costs a hash and a comparison, from any number of threads at once:
 *
 *     buckets[hash of pc] > answer > answer      newest first, never taken out
 *
 * A reader follows the pointers without a lock.  Whoever misses takes the report
 * lock, asks symbol.c, and publishes with a release store; the lock covers every
 * store, the arena and the table of strings.  Opening a report costs as much as
 * many answers (it reads the map of the process), so bh_symbolize_all opens one for
 * all that it misses.
 *
 * Memory comes from the kernel, BUDGET bytes at most; beyond that answers are
 * "??", never wrong.  In a crash (rt_report_mine) nothing new is looked up: the lock
 * is ours already, and what it protects may be half changed.
 *
 * A library that was unloaded keeps its answers.  If another one takes its place,
 * theirs may be wrong: asking the kernel each time would cost more than that is worth.
 */

#include <bulkhead/go/inspect.h>

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

enum {
    BUCKETS = 4096,
    STRING_BUCKETS = 4096,
    CHUNK_SIZE = 256 << 10,
    BUDGET = 3 << 20,              /* some 30,000 addresses */
    SESSION_NS = 10 * 1000 * 1000, /* for which a crash may have to wait */
    BUILD_ID_SIZE = 64             /* bytes of one; 20 is usual */
};

struct answer {
    struct answer  *next;
    uintptr_t       pc; /* a return address */
    int             count;
    struct bh_frame frames[];
};

struct string {
    struct string *next;
    char           text[];
};

static _Atomic(struct answer *) buckets[BUCKETS];
static _Atomic bool is_spent; /* there is no room for more answers: do not look them up */

/* Under the report lock. */
static struct string *strings[STRING_BUCKETS];
static char          *chunk;
static size_t         chunk_left, spent;

static const struct bh_frame unknown = { .function = "??", .file = "" };

/* ---- memory and strings, under the report lock --------------------------------------- */

/* take -- memory for ever, or NULL. */
static void *
take(size_t size)
{
    size = (size + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
    if (size > chunk_left) {
        if (spent + CHUNK_SIZE > BUDGET || size > CHUNK_SIZE) {
            is_spent = true;
            return NULL;
        }
        void *more =
            mmap(NULL, CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED)
            return NULL;
        chunk = more;
        chunk_left = CHUNK_SIZE;
        spent += CHUNK_SIZE;
    }
    void *taken = chunk;
    chunk += size;
    chunk_left -= size;
    return taken;
}

/* keep -- a copy of text that is there for ever, the same for equal texts; NULL: no memory. */
static const char *
keep(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t   length = strlen(text);

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    struct string **bucket = &strings[(hash >> 32) % STRING_BUCKETS];
    for (struct string *s = *bucket; s != NULL; s = s->next)
        if (strcmp(s->text, text) == 0)
            return s->text;
    struct string *s = take(sizeof *s + length + 1);
    if (s == NULL)
        return NULL;
    memcpy(s->text, text, length + 1);
    s->next = *bucket;
    *bucket = s;
    return s->text;
}

/* ---- answers -------------------------------------------------------------------------- */

static _Atomic(struct answer *) *
bucket_of(uintptr_t pc)
{
    return &buckets[((pc * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % BUCKETS];
}

static const struct answer *
known(uintptr_t pc)
{
    const struct answer *a = atomic_load_explicit(bucket_of(pc), memory_order_acquire);

    while (a != NULL && a->pc != pc)
        a = a->next;
    return a;
}

/* fill -- one frame.  Returns: false without memory. */
static bool
fill(struct bh_frame *f, const struct rt_symbol *s, int i)
{
    const struct rt_place *p = &s->place[i];
    char                   path[RT_PATH_SIZE];

    f->function = keep(p->function);
    f->file = p->file != NULL ? keep(rt_place_path(p, path)) : "";
    f->line = (int)p->line;
    f->inlined = i < s->count - 1;
    f->runtime = rt_place_is_hidden(p);
    f->entry = f->inlined ? 0 : s->entry;
    return f->function != NULL && f->file != NULL;
}

/* learn -- look an address up and keep the answer.  Under the report lock. */
static void
learn(uintptr_t pc)
{
    const struct rt_symbol *s;
    struct answer          *a;
    int                     count;

    if (known(pc) != NULL || is_spent)
        return;
    s = rt_symbol_find(pc - 1);
    count = s->count > 0 ? s->count : 1;
    a = take(sizeof *a + (size_t)count * sizeof *a->frames);
    if (a == NULL)
        return;
    a->pc = pc;
    a->count = count;
    a->frames[0] = unknown;
    for (int i = 0; i < s->count; i++)
        if (!fill(&a->frames[i], s, i))
            return;
    a->next = atomic_load_explicit(bucket_of(pc), memory_order_relaxed);
    atomic_store_explicit(bucket_of(pc), a, memory_order_release);
}

static int64_t
real_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void
bh_symbolize_all(const uintptr_t *return_pcs, size_t count)
{
    int64_t until = 0; /* the end of our session; 0: the lock is not ours */

    if (rt_report_mine())
        return;
    for (size_t i = 0; i < count; i++) {
        if (known(return_pcs[i]) != NULL || is_spent)
            continue;
        if (until == 0) {
            rt_report_begin(-1, -1);
            until = real_now() + SESSION_NS;
        }
        learn(return_pcs[i]);
        if (real_now() > until) {
            rt_report_end();
            until = 0;
        }
    }
    if (until != 0)
        rt_report_end();
}

int
bh_symbolize(uintptr_t return_pc, struct bh_frame *frames, int max)
{
    const struct answer *a = known(return_pc);
    int                  count = 1;

    if (rt_unlikely(a == NULL)) {
        bh_symbolize_all(&return_pc, 1);
        a = known(return_pc);
    }
    if (max <= 0)
        return 0;
    if (a == NULL) {
        frames[0] = unknown;
        return 1;
    }
    count = a->count < max ? a->count : max;
    memcpy(frames, a->frames, (size_t)count * sizeof *frames);
    return count;
}

/* ---- modules ---------------------------------------------------------------------------- */

/* The module that is looked for: the first whose code starts at `from` or above. */
struct search {
    uintptr_t        from;
    bool             found;
    struct bh_module module;
    char             path[RT_PATH_SIZE];
    char             build_id[2 * BUILD_ID_SIZE + 1];
};

/* read_notes -- the build id, if it is among these notes. */
static void
read_notes(struct search *s, const unsigned char *at, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    while (size >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, at, sizeof note);
        size_t name = (note.n_namesz + 3) & ~(size_t)3, text = (note.n_descsz + 3) & ~(size_t)3;

        if (name > size - sizeof note || text > size - sizeof note - name)
            return;
        const unsigned char *id = at + sizeof note + name;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof "GNU" &&
            memcmp(at + sizeof note, "GNU", sizeof "GNU") == 0) {
            size_t length = note.n_descsz < BUILD_ID_SIZE ? note.n_descsz : BUILD_ID_SIZE;

            for (size_t i = 0; i < length; i++) {
                s->build_id[2 * i] = digits[id[i] >> 4];
                s->build_id[2 * i + 1] = digits[id[i] & 15];
            }
            s->build_id[2 * length] = '\0';
            return;
        }
        at = id + text;
        size -= sizeof note + name + text;
    }
}

static void
name_module(struct search *s, const char *path)
{
    size_t length;

    if (path == NULL || path[0] == '\0') { /* the program itself */
        ssize_t n = readlink("/proc/self/exe", s->path, sizeof s->path - 1);

        s->path[n > 0 ? n : 0] = '\0';
        return;
    }
    if (strncmp(path, "linux-vdso", 10) == 0)
        path = "[vdso]";
    length = strnlen(path, sizeof s->path - 1);
    memcpy(s->path, path, length);
    s->path[length] = '\0';
}

/* consider -- keep what is told if it is nearer than the one kept so far.  Under the loader's lock. */
static int
consider(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search   *s = arg;
    struct bh_module m = { .start = UINTPTR_MAX };

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr;

        if (p->p_type != PT_LOAD || (p->p_flags & PF_X) == 0)
            continue;
        if (start < m.start) {
            m.start = start;
            m.offset = p->p_offset;
        }
        if (start + p->p_memsz > m.end)
            m.end = start + p->p_memsz;
    }
    if (m.end == 0 || m.start < s->from || (s->found && m.start >= s->module.start))
        return 0;
    s->found = true;
    s->build_id[0] = '\0';
    name_module(s, info->dlpi_name);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_NOTE && s->build_id[0] == '\0')
            read_notes(s, (const unsigned char *)(info->dlpi_addr + p->p_vaddr), p->p_memsz);
    }
    s->module = m;
    return 0;
}

/*
 * One walk of the loader's list per module: its lock must not be held while fn runs, and
 * memory for all of them might be missing.  There are tens of them.
 */
int
bh_modules(bool (*fn)(const struct bh_module *m, void *arg), void *arg)
{
    struct search s = { .from = 0 };
    int           count = 0;

    for (;;) {
        s.found = false;
        dl_iterate_phdr(consider, &s);
        if (!s.found)
            return count;
        s.from = s.module.start + 1;
        s.module.path = s.path;
        s.module.build_id = s.build_id;
        count++;
        if (!fn(&s.module, arg))
            return count;
    }
}
