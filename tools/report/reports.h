#ifndef BULKHEAD_TOOLS_REPORTS_H
#define BULKHEAD_TOOLS_REPORTS_H

/*
 * reports.h -- bh_report's own view of a report: what its commands need, read from
 * report.json.  All of it lives in one arena, until the program ends.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/json.h>

enum { FRAMES_MAX = 256, DIRECTORIES_MAX = 16 };

struct frame {
    uint64_t              pc;
    int                   module, line;
    const char           *function, *file;
    bool                  inlined, in_app, hidden;
    const struct bh_json *snippet;
    int                   snippet_line;
};

struct report {
    const char           *path; /* of its directory */
    const char           *id, *time, *type, *message, *fingerprint, *outcome, *by, *version;
    const struct bh_json *json;
    struct frame          frame[FRAMES_MAX];
    int                   frames, location; /* -1: none */
    bool                  raw;              /* came without names */
};

extern struct bh_arena *arena;

/* load.c */
/* clean -- blanks for what a terminal would obey, in place.  Returns: text. */
char *clean(char *text);
int load_report(const char *path, struct report **out); /* Returns: 0 or -1, having said why */
/* load_folder -- every report in a directory of them, by time.  Returns: how many, or -1. */
int load_folder(const char *path, struct report ***out);
/* frames_sort_out -- which are the program's own, where it panicked; and the fingerprint, if it was raw. */
void frames_sort_out(struct report *r);

/* symbols.c */
extern const char *debug_directories[DIRECTORIES_MAX];
extern int         debug_directory_count;
/* symbolize -- names for a raw report, from the files its modules name, by build id. */
void symbolize(struct report *r);

/* elf.c */
struct elf;
/* elf_open -- Returns: NULL if it is not an ELF file of 64 bits. */
struct elf *elf_open(const char *path);
void        elf_close(struct elf *e);
const char *elf_build_id(struct elf *e); /* hex; "" without */
/* elf_address -- the virtual address of a byte of the file; false if it is not loaded. */
bool elf_address(struct elf *e, uint64_t offset, uint64_t *address);

/* show.c, compare.c: commands.  Return: the program's exit status. */
int command_list(int count, char **paths);
int command_show(int count, char **paths, int level);
int command_merge(int count, char **paths);
int command_compare(const char *a, const char *b);

#endif
