/*
 * imports.c -- redirect what modules import.
 *
 * A module (the program, a shared library) calls a function of another one through a slot of memory
 * that the loader has filled: its dynamic section lists the slots, as relocations against a name.
 * We write our function's address into those that stand for names we want.  The slots often lie in
 * pages that the loader has made read-only when it was done (PT_GNU_RELRO): they are
 * made writable for as long.  A slot is one word, so whoever calls meanwhile calls the
 * one or the other.
 *
 * This is preferred to defining malloc in the library.  An archive member that
 * defines it would be linked into every program, because every program wants a malloc;
 * and nothing is in the way until somebody asks.
 *
 * What a name means is not asked of dlsym: where a program that is not position
 * independent takes the address of a function, dlsym answers with the program's own stub, and
 * calling that would lead back to us.
 *
 * The code's addresses are noted as well, in a table that only grows: with them a walk along frame
 * pointers can tell a return address from something else.
 */

#include "imports.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#if defined(__x86_64__)
enum { R_SLOT = R_X86_64_JUMP_SLOT, R_GOT = R_X86_64_GLOB_DAT, R_WORD = R_X86_64_64 };
#elif defined(__aarch64__)
enum { R_SLOT = R_AARCH64_JUMP_SLOT, R_GOT = R_AARCH64_GLOB_DAT, R_WORD = R_AARCH64_ABS64 };
#endif

enum { TEXTS_MOST = 1024 };

/* ---- a module's tables ------------------------------------------------------------ */

struct module {
    uintptr_t         base;
    const char       *strings;
    const Elf64_Sym  *symbols;
    const uint32_t   *hash; /* DT_GNU_HASH */
    const Elf64_Rela *rela, *plt;
    size_t            rela_count, plt_count;
    uintptr_t         relro, relro_end; /* whole pages that are read-only by now */
};

/* The loader has added the base to addresses in the dynamic section, except in the kernel's module. */
static void *
at(const struct module *m, Elf64_Addr address)
{
    return (void *)(address < m->base ? m->base + address : address);
}

static void
read_dynamic(struct module *m, const Elf64_Dyn *d)
{
    for (; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_STRTAB:
            m->strings = at(m, d->d_un.d_ptr);
            break;
        case DT_SYMTAB:
            m->symbols = at(m, d->d_un.d_ptr);
            break;
        case DT_GNU_HASH:
            m->hash = at(m, d->d_un.d_ptr);
            break;
        case DT_RELA:
            m->rela = at(m, d->d_un.d_ptr);
            break;
        case DT_RELASZ:
            m->rela_count = d->d_un.d_val / sizeof *m->rela;
            break;
        case DT_JMPREL:
            m->plt = at(m, d->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            m->plt_count = d->d_un.d_val / sizeof *m->plt;
            break;
        }
    }
}

/* Returns: false if it has no names. */
static bool
open_module(struct module *m, const struct dl_phdr_info *info)
{
    const Elf64_Dyn *dynamic = NULL;
    uintptr_t        in_page = getauxval(AT_PAGESZ) - 1;

    *m = (struct module){ .base = info->dlpi_addr };
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_DYNAMIC)
            dynamic = (const void *)(m->base + p->p_vaddr);
        if (p->p_type == PT_GNU_RELRO) {
            m->relro = (m->base + p->p_vaddr) & ~in_page;
            m->relro_end = (m->base + p->p_vaddr + p->p_memsz) & ~in_page;
        }
    }
    if (dynamic != NULL)
        read_dynamic(m, dynamic);
    return m->symbols != NULL && m->strings != NULL;
}

/* ---- what a name means ------------------------------------------------------------- */

static uint32_t
gnu_hash(const char *name)
{
    uint32_t h = 5381;

    for (; *name != '\0'; name++)
        h = h * 33 + (unsigned char)*name;
    return h;
}

/* The address of a function that the module defines, or NULL. */
static void *
definition(const struct module *m, const char *name)
{
    /* bucket count, first symbol in the table, words of the filter, its shift; filter; buckets; chains */
    uint32_t        count = m->hash[0], first = m->hash[1], words = m->hash[2];
    const uint32_t *buckets = m->hash + 4 + 2 * (size_t)words, *chain = buckets + count;
    uint32_t        h = gnu_hash(name), i;

    if (count == 0)
        return NULL;
    for (i = buckets[h % count]; i >= first; i++) {
        const Elf64_Sym *s = &m->symbols[i];
        uint32_t         link = chain[i - first];

        if ((link | 1) == (h | 1) && s->st_shndx != SHN_UNDEF &&
            ELF64_ST_TYPE(s->st_info) == STT_FUNC && strcmp(m->strings + s->st_name, name) == 0)
            return (void *)(m->base + s->st_value);
        if (link & 1)
            break;
    }
    return NULL;
}

struct job {
    struct ob_import       *wanted;  /* to find */
    const struct ob_import *imports; /* to redirect */
    int                     count, done, error;
};

static int
find_in(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct job   *j = arg;
    struct module m;

    (void)size;
    if (!open_module(&m, info) || m.hash == NULL)
        return 0;
    for (int i = 0; i < j->count; i++) {
        if (j->wanted[i].theirs == NULL) {
            j->wanted[i].theirs = definition(&m, j->wanted[i].name);
            j->done += j->wanted[i].theirs != NULL;
        }
    }
    return j->done == j->count;
}

int
ob_imports_find(struct ob_import *imports, int count)
{
    struct job j = { .wanted = imports, .count = count };

    for (int i = 0; i < count; i++)
        imports[i].theirs = NULL;
    (void)dl_iterate_phdr(find_in, &j);
    return j.done;
}

/* ---- redirecting ------------------------------------------------------------------- */

static const struct ob_import *
lookup(const struct job *j, const char *name)
{
    for (int i = 0; i < j->count; i++)
        if (strcmp(j->imports[i].name, name) == 0)
            return &j->imports[i];
    return NULL;
}

static int
protect(const struct module *m, int protection)
{
    if (m->relro >= m->relro_end)
        return 0;
    return mprotect((void *)m->relro, m->relro_end - m->relro, protection) == 0 ? 0 : -errno;
}

/* The slot's new value, or NULL if it keeps the one it has. */
static const struct ob_import *
wanted(const struct job *j, const struct module *m, const Elf64_Rela *r)
{
    uint32_t                type = (uint32_t)ELF64_R_TYPE(r->r_info);
    const struct ob_import *i;
    void                   *now;

    if ((type != R_SLOT && type != R_GOT && type != R_WORD) || r->r_addend != 0)
        return NULL;
    i = lookup(j, m->strings + m->symbols[ELF64_R_SYM(r->r_info)].st_name);
    if (i == NULL || i->theirs == NULL)
        return NULL;
    now = *(void **)(m->base + r->r_offset);
    if (now == i->ours || (type == R_WORD && now != i->theirs))
        return NULL;
    return i;
}

/* Redirect, or only count, what a table of relocations says. */
static int
redirect(const struct job *j, const struct module *m, const Elf64_Rela *r, size_t count,
         bool write)
{
    int n = 0;

    for (size_t k = 0; k < count; k++) {
        const struct ob_import *i = wanted(j, m, &r[k]);

        if (i == NULL)
            continue;
        n++;
        if (write)
            atomic_store_explicit((_Atomic(void *) *)(m->base + r[k].r_offset), i->ours,
                                  memory_order_release);
    }
    return n;
}

/* ---- code -------------------------------------------------------------------------- */

static struct {
    uintptr_t start, end;
} texts[TEXTS_MOST];
static _Atomic int text_count; /* written by one at a time: under the loader's lock */

bool
ob_is_code(uintptr_t address)
{
    int count = atomic_load_explicit(&text_count, memory_order_acquire);

    for (int i = 0; i < count; i++)
        if (address - texts[i].start < texts[i].end - texts[i].start)
            return true;
    return false;
}

static void
note_code(const struct dl_phdr_info *info)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *p = &info->dlpi_phdr[i];
        uintptr_t         start = info->dlpi_addr + p->p_vaddr;
        int               count = atomic_load_explicit(&text_count, memory_order_relaxed);

        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || count == TEXTS_MOST ||
            ob_is_code(start))
            continue;
        texts[count].start = start;
        texts[count].end = start + p->p_memsz;
        atomic_store_explicit(&text_count, count + 1, memory_order_release);
    }
}

static int
redirect_in(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct job   *j = arg;
    struct module m;

    (void)size;
    note_code(info);
    if (!open_module(&m, info) || redirect(j, &m, m.rela, m.rela_count, false) +
                                          redirect(j, &m, m.plt, m.plt_count, false) ==
                                      0)
        return 0;
    j->error = protect(&m, PROT_READ | PROT_WRITE);
    if (j->error == 0) {
        j->done += redirect(j, &m, m.rela, m.rela_count, true);
        j->done += redirect(j, &m, m.plt, m.plt_count, true);
        j->error = protect(&m, PROT_READ);
    }
    return j->error != 0;
}

int
ob_imports_redirect(const struct ob_import *imports, int count)
{
    struct job j = { .imports = imports, .count = count };

    (void)dl_iterate_phdr(redirect_in, &j);
    return j.error != 0 ? j.error : j.done;
}
