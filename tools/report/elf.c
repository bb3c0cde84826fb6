/*
 * elf.c -- what symbolising needs to know of an ELF file: its build id, and at
 * which address a byte of it is loaded.  The file is not to be trusted: every
 * offset is checked against its size.
 */

#include "reports.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct elf {
    const unsigned char *bytes;
    size_t               size;
    char                 build_id[128];
};

static bool
inside(const struct elf *e, uint64_t offset, uint64_t size)
{
    return offset <= e->size && size <= e->size - offset;
}

static const Elf64_Phdr *
segment(const struct elf *e, int i)
{
    const Elf64_Ehdr *head = (const void *)e->bytes;
    uint64_t          at = head->e_phoff + (uint64_t)i * sizeof(Elf64_Phdr);

    if (i >= head->e_phnum || head->e_phentsize != sizeof(Elf64_Phdr) || at % 8 != 0 ||
        !inside(e, at, sizeof(Elf64_Phdr)))
        return NULL;
    return (const void *)(e->bytes + at);
}

/* read_notes -- of one segment, looking for the build id. */
static void
read_notes(struct elf *e, const Elf64_Phdr *p)
{
    uint64_t at = p->p_offset, end = p->p_offset + p->p_filesz;

    if (!inside(e, p->p_offset, p->p_filesz) || at % 4 != 0)
        return;
    while (at <= end && end - at >= sizeof(Elf64_Nhdr)) {
        const Elf64_Nhdr *n = (const void *)(e->bytes + at);
        uint64_t name = at + sizeof *n, data = name + (((uint64_t)n->n_namesz + 3) & ~3ULL);

        if (data > end || n->n_descsz > end - data)
            return;
        if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && n->n_descsz < 60 &&
            memcmp(e->bytes + name, "GNU", 4) == 0)
            for (uint32_t i = 0; i < n->n_descsz; i++)
                (void)snprintf(e->build_id + (size_t)2 * i, 3, "%02x", e->bytes[data + i]);
        at = data + (((uint64_t)n->n_descsz + 3) & ~3ULL);
    }
}

struct elf *
elf_open(const char *path)
{
    struct stat st;
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    void       *map = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size >= (off_t)sizeof(Elf64_Ehdr))
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        (void)close(fd);
    if (map == MAP_FAILED)
        return NULL;
    struct elf       *e = calloc(1, sizeof *e);
    const Elf64_Ehdr *head = map;
    if (e == NULL || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_ident[EI_CLASS] != ELFCLASS64) {
        (void)munmap(map, (size_t)st.st_size);
        free(e);
        return NULL;
    }
    e->bytes = map;
    e->size = (size_t)st.st_size;
    const Elf64_Phdr *p;
    for (int i = 0; (p = segment(e, i)) != NULL; i++)
        if (p->p_type == PT_NOTE)
            read_notes(e, p);
    return e;
}

void
elf_close(struct elf *e)
{
    if (e == NULL)
        return;
    (void)munmap((void *)(uintptr_t)e->bytes, e->size);
    free(e);
}

const char *
elf_build_id(struct elf *e)
{
    return e->build_id;
}

bool
elf_address(struct elf *e, uint64_t offset, uint64_t *address)
{
    const Elf64_Phdr *p;

    for (int i = 0; (p = segment(e, i)) != NULL; i++)
        if (p->p_type == PT_LOAD && offset >= p->p_offset &&
            offset - p->p_offset < p->p_filesz) {
            *address = p->p_vaddr + (offset - p->p_offset);
            return true;
        }
    return false;
}
