/*
 * symbol.c -- what is mapped where, and what a code address is called.
 *
 * The modules come from /proc/self/maps, read anew for each report: the loader's
 * own list is behind a lock that the dying thread may hold.  A module's file is
 * mapped when an address in it is first asked for, unless it is no longer the
 * file that was loaded (another inode: an upgrade while we ran).
 *
 * An address is then looked for in the file's DWARF (dwarf.c), which knows lines
 * and inlined functions, and in its symbol table, which knows where functions
 * start and knows the ones without DWARF, static ones included.
 *
 * A report asks for the same few addresses again and again (a million parked
 * goroutines stand in three places), so answers are kept in a small table.
 *
 * Everything here is static memory under the report lock; see symbol.h.
 */

#include "symbol.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"

enum { ANSWER_COUNT = 512, PATH_POOL_SIZE = 32 << 10, MAP_LINE_SIZE = 1024 };

static struct rt_module modules[RT_MODULE_MAX];
static int              module_count;
static char             path_pool[PATH_POOL_SIZE];
static size_t           path_used;
static struct rt_symbol answers[ANSWER_COUNT];
static char             own_path[RT_PATH_SIZE]; /* folder of the runtime's sources, with its slash; or "" */
static size_t           own_length;

/* ---- the modules ---------------------------------------------------------- */

/* One line of /proc/self/maps. */
struct mapping {
    uintptr_t   lo, hi, offset;
    uint64_t    inode;
    bool        readable, executable;
    const char *path; /* in the line; "" for none */
};

static uint64_t
take_number(const char **at, unsigned base)
{
    uint64_t n = 0;

    for (;; ++*at) {
        char     c = **at;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : base;
        if (digit >= base)
            return n;
        n = n * base + digit;
    }
}

static void
skip_word(const char **at)
{
    while (**at != 0 && **at != ' ')
        ++*at;
    while (**at == ' ')
        ++*at;
}

/* lo-hi rwxp offset major:minor inode   path */
static struct mapping
parse_mapping(const char *line)
{
    struct mapping m = { .lo = take_number(&line, 16) };

    line += *line == '-';
    m.hi = take_number(&line, 16);
    line += *line == ' ';
    for (; *line != 0 && *line != ' '; line++) {
        m.readable |= *line == 'r';
        m.executable |= *line == 'x';
    }
    line += *line == ' ';
    m.offset = take_number(&line, 16);
    skip_word(&line);
    skip_word(&line); /* device */
    m.inode = take_number(&line, 10);
    while (*line == ' ')
        line++;
    m.path = line;
    return m;
}

/* read_headers -- bias and unwind table, from the program headers at the start of its memory. */
static void
read_headers(struct rt_module *m)
{
    uintptr_t         base = m->lo;
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)base;

    m->headers_read = true;
    if (memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 || e->e_ident[EI_CLASS] != ELFCLASS64 ||
        e->e_phentsize != sizeof(Elf64_Phdr) || e->e_phoff > RT_PAGE)
        return;
    const Elf64_Phdr *p = (const Elf64_Phdr *)(base + e->e_phoff);
    for (int i = 0; i < e->e_phnum; i++)
        if (p[i].p_type == PT_LOAD) {
            m->bias = base - (p[i].p_vaddr - p[i].p_offset);
            break;
        }
    for (int i = 0; i < e->e_phnum; i++)
        if (p[i].p_type == PT_GNU_EH_FRAME)
            m->unwind = m->bias + p[i].p_vaddr;
}

/* add_mapping -- the mappings of one file lie next to each other, the one with its headers first. */
static void
add_mapping(const struct mapping *map)
{
    struct rt_module *m = module_count > 0 ? &modules[module_count - 1] : NULL;
    size_t            length = strlen(map->path) + 1;

    if (map->path[0] != '/' && strcmp(map->path, "[vdso]") != 0)
        return;
    if (m == NULL || m->inode != map->inode || strcmp(m->path, map->path) != 0) {
        if (m != NULL && m->text_hi == 0) {
            module_count--; /* the last file was no program: data, a locale */
            path_used = (size_t)(m->path - path_pool);
        }
        if (map->offset != 0 || !map->readable || module_count == RT_MODULE_MAX ||
            length > sizeof path_pool - path_used)
            return;
        m = &modules[module_count++];
        *m = (struct rt_module){ .lo = map->lo, .inode = map->inode };
        m->path = memcpy(path_pool + path_used, map->path, length);
        path_used += length;
    }
    m->hi = map->hi;
    if (map->executable) {
        if (m->text_hi == 0)
            m->text_lo = map->lo;
        m->text_hi = map->hi;
    }
}

/* Reading /proc/self/maps line by line. */
struct maps {
    int    fd;
    size_t at, filled;
    char   buffer[2048];
    char   line[MAP_LINE_SIZE];
};

/* next_mapping -- Returns: false at the end. Longer lines are cut. */
static bool
next_mapping(struct maps *maps, struct mapping *map)
{
    size_t used = 0;

    for (;;) {
        if (maps->at == maps->filled) {
            ssize_t n = read(maps->fd, maps->buffer, sizeof maps->buffer);

            if (n <= 0)
                return false;
            maps->at = 0;
            maps->filled = (size_t)n;
        }
        char c = maps->buffer[maps->at++];
        if (c == '\n')
            break;
        if (used < sizeof maps->line - 1)
            maps->line[used++] = c;
    }
    maps->line[used] = 0;
    *map = parse_mapping(maps->line);
    return true;
}

static struct maps maps; /* 3 KiB: too much for a signal's stack */

static bool
open_maps(void)
{
    maps.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    maps.at = maps.filled = 0;
    return maps.fd >= 0;
}

static void
read_modules(void)
{
    struct mapping map;

    module_count = 0;
    path_used = 0;
    if (!open_maps())
        return;
    while (next_mapping(&maps, &map))
        add_mapping(&map);
    close(maps.fd);
}

uintptr_t
rt_mapping_end(uintptr_t address)
{
    struct mapping map;
    uintptr_t      end = 0;

    if (!open_maps())
        return 0;
    while (end == 0 && next_mapping(&maps, &map))
        if (address >= map.lo && address < map.hi && map.readable)
            end = map.hi;
    close(maps.fd);
    return end;
}

static void open_file(struct rt_module *m);

const struct rt_module *
rt_module_of(uintptr_t pc)
{
    for (int i = 0; i < module_count; i++) {
        struct rt_module *m = &modules[i];

        if (pc < m->text_lo || pc >= m->text_hi)
            continue;
        if (!m->headers_read)
            read_headers(m); /* only now: not every mapping is ours to read (valgrind's) */
        if (m->unwind == 0 && m->opened == 0)
            open_file(m); /* static programs have no .eh_frame_hdr; the section's header will do */
        return m;
    }
    return NULL;
}

/* ---- their files ---------------------------------------------------------- */

static struct rt_bytes
section_bytes(const struct rt_module *m, const Elf64_Shdr *s)
{
    uint64_t size = (uint64_t)(m->image.end - m->image.at);

    if (s->sh_type == SHT_NOBITS || (s->sh_flags & SHF_COMPRESSED) != 0 || s->sh_offset > size ||
        s->sh_size > size - s->sh_offset)
        return (struct rt_bytes){ m->image.at, m->image.at };
    return (struct rt_bytes){ m->image.at + s->sh_offset, m->image.at + s->sh_offset + s->sh_size };
}

/* debug_section -- where to keep the section called `name`, or NULL. */
static struct rt_bytes *
debug_section(struct rt_debug *d, const char *name)
{
    const struct {
        const char      *name;
        struct rt_bytes *bytes;
    } known[] = {
        { ".debug_info", &d->info },
        { ".debug_aranges", &d->aranges },
        { ".debug_abbrev", &d->abbrev },
        { ".debug_line", &d->line },
        { ".debug_str", &d->str },
        { ".debug_line_str", &d->line_str },
        { ".debug_str_offsets", &d->str_offsets },
        { ".debug_addr", &d->addr },
        { ".debug_ranges", &d->ranges },
        { ".debug_rnglists", &d->rnglists },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].bytes;
    return NULL;
}

/* read_sections -- find symbols and DWARF in the mapped file. */
static void
read_sections(struct rt_module *m)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)m->image.at;
    uint64_t          size = (uint64_t)(m->image.end - m->image.at);

    if (size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_shentsize != sizeof(Elf64_Shdr) || e->e_shoff > size ||
        e->e_shnum * sizeof(Elf64_Shdr) > size - e->e_shoff || e->e_shstrndx >= e->e_shnum)
        return;
    const Elf64_Shdr *s = (const Elf64_Shdr *)(m->image.at + e->e_shoff);
    struct rt_bytes   names = section_bytes(m, &s[e->e_shstrndx]);

    for (int i = 0; i < e->e_shnum; i++) {
        uint64_t left = (uint64_t)(names.end - names.at);
        /* The full table, if there is one, wins over the dynamic one. */
        if (s[i].sh_type == SHT_SYMTAB || (s[i].sh_type == SHT_DYNSYM && m->symbols.at == NULL)) {
            if (s[i].sh_link < e->e_shnum) {
                m->symbols = section_bytes(m, &s[i]);
                m->strings = section_bytes(m, &s[s[i].sh_link]);
            }
        }
        if (s[i].sh_name >= left || memchr(names.at + s[i].sh_name, 0, left - s[i].sh_name) == NULL)
            continue;
        const char      *name = (const char *)names.at + s[i].sh_name;
        struct rt_bytes *debug = debug_section(&m->debug, name);
        if (debug != NULL)
            *debug = section_bytes(m, &s[i]);
        if (strcmp(name, ".eh_frame") == 0 && s[i].sh_type != SHT_NOBITS) {
            m->frames = m->bias + s[i].sh_addr;
            m->frames_end = m->frames + s[i].sh_size;
        }
    }
}

static bool
map_file(struct rt_module *m, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || (uint64_t)st.st_ino != m->inode || st.st_size == 0)
        return false;
    void *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED)
        return false;
    m->image.at = image;
    m->image.end = m->image.at + st.st_size;
    return true;
}

static void
open_file(struct rt_module *m)
{
    m->opened = -1;
    if (m->path[0] != '/')
        return;
    int  fd = open(m->path, O_RDONLY | O_CLOEXEC);
    bool mapped = fd >= 0 && map_file(m, fd);

    if (fd >= 0)
        close(fd);
    if (!mapped) { /* the program may have been replaced or moved; this finds it still */
        fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        mapped = fd >= 0 && map_file(m, fd);
        if (fd >= 0)
            close(fd);
    }
    if (mapped) {
        m->opened = 1;
        read_sections(m);
    }
}

/* ---- addresses ------------------------------------------------------------ */

/* find_in_table -- the function symbol that covers the address (in the file), or NULL. */
static const char *
find_in_table(const struct rt_module *m, uint64_t address, uint64_t *start)
{
    const Elf64_Sym *s = (const Elf64_Sym *)m->symbols.at;
    size_t           count = (size_t)(m->symbols.end - m->symbols.at) / sizeof *s;
    size_t           length = (size_t)(m->strings.end - m->strings.at);
    const char      *found = NULL;

    for (size_t i = 0; i < count; i++) {
        unsigned type = ELF64_ST_TYPE(s[i].st_info);

        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || address < s[i].st_value ||
            address - s[i].st_value >= s[i].st_size || s[i].st_name >= length ||
            memchr(m->strings.at + s[i].st_name, 0, length - s[i].st_name) == NULL)
            continue;
        const char *name = (const char *)m->strings.at + s[i].st_name;
        *start = s[i].st_value;
        if (found == NULL || ELF64_ST_BIND(s[i].st_info) == STB_GLOBAL)
            found = name;
    }
    return found;
}

static void
look_up(struct rt_symbol *s)
{
    struct rt_module *m = (struct rt_module *)(uintptr_t)rt_module_of(s->pc);
    uint64_t          start = 0;

    if (m == NULL)
        return;
    s->module = m;
    if (m->opened == 0)
        open_file(m);
    if (m->opened < 0)
        return;
    uint64_t address = s->pc - m->bias;
    if (!rt_dwarf_find(&m->debug, address, s))
        s->count = 0;
    const char *name = find_in_table(m, address, &start);
    if (name != NULL) {
        s->entry = m->bias + start;
        if (s->count == 0) {
            s->count = 1;
            s->place[0] = (struct rt_place){ 0 };
        }
    }
    for (int i = 0; i < s->count; i++)
        if (s->place[i].function == NULL)
            s->place[i].function = i == s->count - 1 && name != NULL ? name : "??";
}

const struct rt_symbol *
rt_symbol_find(uintptr_t pc)
{
    struct rt_symbol *s = &answers[(pc * UINT64_C(0x9e3779b97f4a7c15)) >> 55];

    _Static_assert(ANSWER_COUNT == 1 << (64 - 55), "one answer for each hash");
    if (s->pc != pc) {
        *s = (struct rt_symbol){ .pc = pc };
        look_up(s);
    }
    return s;
}

/* ---- paths ---------------------------------------------------------------- */

const char *
rt_place_path(const struct rt_place *p, char text[RT_PATH_SIZE])
{
    const char *part[3] = { p->root, p->dir, p->file };
    size_t      used = 0;

    for (int i = 0; i < 3; i++) {
        if (part[i] == NULL || part[i][0] == 0)
            continue;
        if (part[i][0] == '/')
            used = 0; /* an absolute part replaces what is before it */
        else if (used > 0 && used < RT_PATH_SIZE - 1 && text[used - 1] != '/')
            text[used++] = '/';
        size_t length = strnlen(part[i], RT_PATH_SIZE - 1 - used);
        memcpy(text + used, part[i], length);
        used += length;
    }
    text[used] = 0;
    return text;
}

bool
rt_symbol_is_ours(const struct rt_place *p)
{
    static const char test[] = "_test.c";
    char              path[RT_PATH_SIZE];

    if (own_length == 0 || p->file == NULL)
        return strncmp(p->function, "rt_", 3) == 0;
    rt_place_path(p, path);
    size_t length = strlen(path);
    if (strncmp(path, own_path, own_length) != 0 || strchr(path + own_length, '/') != NULL)
        return false;
    return length < sizeof test || strcmp(path + length - (sizeof test - 1), test) != 0;
}

/* find_own_path -- the folder of this very file, as the compiler wrote it down. */
static void
find_own_path(void)
{
    const struct rt_symbol *s = rt_symbol_find((uintptr_t)rt_symbol_find);
    const char             *slash;

    own_length = 0;
    if (s->count == 0 || s->place[s->count - 1].file == NULL)
        return;
    rt_place_path(&s->place[s->count - 1], own_path);
    slash = strrchr(own_path, '/');
    if (slash != NULL)
        own_length = (size_t)(slash + 1 - own_path);
    own_path[own_length] = 0;
}

void
rt_symbol_open(void)
{
    rt_dwarf_forget();
    memset(answers, 0, sizeof answers);
    read_modules();
    find_own_path();
}

void
rt_symbol_close(void)
{
    for (int i = 0; i < module_count; i++)
        if (modules[i].opened > 0)
            munmap((void *)(uintptr_t)modules[i].image.at,
                   (size_t)(modules[i].image.end - modules[i].image.at));
    module_count = 0;
}
