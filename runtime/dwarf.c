/*
 * dwarf.c -- from a code address to function, file and line, inlined functions
 * included, by the DWARF information in the program's file.
 *
 * Three steps for one address:
 *
 *     unit      .debug_aranges names it, if the compiler wrote that; else walk
 *               .debug_info unit by unit, reading only each unit's first entry,
 *               until one covers the address
 *     function  read that unit's entries in order; DW_TAG_subprogram and, inside
 *               it, every DW_TAG_inlined_subroutine that covers the address
 *               give the chain of names and the lines of the inlined calls
 *     line      run the unit's line program until a row covers the address
 *
 * Nothing is kept between calls except where the abbreviations of the last unit
 * lie (symbol.c remembers answers).  Input is a file that may be damaged: each
 * read is checked against its section's end, past which everything reads as 0,
 * and every loop consumes input or is counted.
 *
 * DWARF 3 to 5, 32- and 64-bit format, as gcc and clang write it.  Split
 * (.dwo) and supplementary (dwz) files are not followed: the names then come
 * from the symbol table.
 *
 * See: DWARF 5, sections 2.17 (ranges), 3.3.8 (inlining), 6.2 (lines), 7.
 */

#include "symbol.h"

#include <string.h>

enum { /* tags, attributes and forms that matter here; DWARF 5, section 7.5 */
    TAG_ARRAY = 0x01, TAG_CLASS = 0x02, TAG_ENUMERATION = 0x04, TAG_STRUCTURE = 0x13,
    TAG_SUBROUTINE_TYPE = 0x15, TAG_UNION = 0x17,
    TAG_COMPILE_UNIT = 0x11,
    TAG_INLINED = 0x1d,
    TAG_SUBPROGRAM = 0x2e,
    TAG_SKELETON = 0x4a,

    AT_SIBLING = 0x01, AT_NAME = 0x03, AT_STMT_LIST = 0x10, AT_LOW_PC = 0x11, AT_HIGH_PC = 0x12,
    AT_COMP_DIR = 0x1b, AT_ABSTRACT_ORIGIN = 0x31, AT_SPECIFICATION = 0x47, AT_RANGES = 0x55,
    AT_CALL_FILE = 0x58, AT_CALL_LINE = 0x59, AT_STR_OFFSETS_BASE = 0x72, AT_ADDR_BASE = 0x73,
    AT_RNGLISTS_BASE = 0x74,

    FORM_ADDR = 0x01, FORM_BLOCK2 = 0x03, FORM_BLOCK4 = 0x04, FORM_DATA2 = 0x05,
    FORM_DATA4 = 0x06, FORM_DATA8 = 0x07, FORM_STRING = 0x08, FORM_BLOCK = 0x09,
    FORM_BLOCK1 = 0x0a, FORM_DATA1 = 0x0b, FORM_FLAG = 0x0c, FORM_SDATA = 0x0d, FORM_STRP = 0x0e,
    FORM_UDATA = 0x0f, FORM_REF_ADDR = 0x10, FORM_REF1 = 0x11, FORM_REF2 = 0x12, FORM_REF4 = 0x13,
    FORM_REF8 = 0x14, FORM_REF_UDATA = 0x15, FORM_INDIRECT = 0x16, FORM_SEC_OFFSET = 0x17,
    FORM_EXPRLOC = 0x18, FORM_FLAG_PRESENT = 0x19, FORM_STRX = 0x1a, FORM_ADDRX = 0x1b,
    FORM_REF_SUP4 = 0x1c, FORM_STRP_SUP = 0x1d, FORM_DATA16 = 0x1e, FORM_LINE_STRP = 0x1f,
    FORM_REF_SIG8 = 0x20, FORM_IMPLICIT_CONST = 0x21, FORM_LOCLISTX = 0x22, FORM_RNGLISTX = 0x23,
    FORM_REF_SUP8 = 0x24, FORM_STRX1 = 0x25, FORM_STRX2 = 0x26, FORM_STRX3 = 0x27,
    FORM_STRX4 = 0x28, FORM_ADDRX1 = 0x29, FORM_ADDRX2 = 0x2a, FORM_ADDRX3 = 0x2b,
    FORM_ADDRX4 = 0x2c, FORM_GNU_REF_ALT = 0x1f20, FORM_GNU_STRP_ALT = 0x1f21
};

/* ---- reading bytes -------------------------------------------------------- */

struct reader {
    const unsigned char *at, *end;
    bool                 is64; /* offsets take 8 bytes */
};

static struct reader
read_from(struct rt_bytes section, uint64_t offset, bool is64)
{
    uint64_t size = (uint64_t)(section.end - section.at);

    return (struct reader){ offset <= size ? section.at + offset : section.end, section.end, is64 };
}

static bool
skip(struct reader *r, uint64_t size)
{
    if (size > (uint64_t)(r->end - r->at)) {
        r->at = r->end;
        return false;
    }
    r->at += size;
    return true;
}

/* fixed -- a little-endian number of 1 to 8 bytes; 0 past the end. */
static uint64_t
fixed(struct reader *r, unsigned size)
{
    const unsigned char *from = r->at;
    uint64_t             n = 0;

    if (skip(r, size))
        for (unsigned i = 0; i < size; i++)
            n |= (uint64_t)from[i] << 8 * i;
    return n;
}

static uint64_t
offset(struct reader *r)
{
    return fixed(r, r->is64 ? 8 : 4);
}

static uint64_t
uleb(struct reader *r)
{
    uint64_t n = 0;

    for (unsigned shift = 0; r->at < r->end; shift += 7) {
        unsigned char byte = *r->at++;

        if (shift < 64)
            n |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            break;
    }
    return n;
}

static int64_t
sleb(struct reader *r)
{
    uint64_t      n = 0;
    unsigned      shift = 0;
    unsigned char byte = 0;

    do {
        if (r->at >= r->end)
            break;
        byte = *r->at++;
        if (shift < 64)
            n |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while ((byte & 0x80) != 0);
    if (shift < 64 && (byte & 0x40) != 0)
        n |= ~UINT64_C(0) << shift;
    return (int64_t)n;
}

/* string -- a NUL-terminated one, "" if it runs past the end. */
static const char *
string(struct reader *r)
{
    const unsigned char *from = r->at;
    const unsigned char *nul = memchr(from, 0, (size_t)(r->end - from));

    r->at = nul != NULL ? nul + 1 : r->end;
    return nul != NULL ? (const char *)from : "";
}

static const char *
string_at(struct rt_bytes section, uint64_t at)
{
    struct reader r = read_from(section, at, false);

    return string(&r);
}

/* ---- units and entries ---------------------------------------------------- */

struct unit {
    const struct rt_debug *d;
    uint64_t               start, end; /* in .debug_info */
    uint64_t               entries;    /* the first entry's offset */
    uint64_t               abbrevs;    /* its table's offset */
    unsigned               version, address_size;
    bool                   is64;
    uint64_t               str_base, addr_base, rng_base;
    uint64_t               low; /* base of its range lists */
    const char            *dir;
    uint64_t               line; /* its line program; NO_LINE: none */
};
#define NO_LINE (~UINT64_C(0))

/* An attribute as read; strings and addresses by number need the unit's bases: see text_of. */
struct value {
    enum { NONE, NUMBER, ADDRESS, ADDRESS_INDEX, STRING, STRING_INDEX, ENTRY, RANGE_INDEX } kind;
    uint64_t    n;
    const char *s;
};

enum slot { /* the attributes that are kept */
    NAME, DIR, LINE, LOW, HIGH, RANGES, ORIGIN, SIBLING, CALL_FILE, CALL_LINE, STR_BASE, ADDR_BASE,
    RNG_BASE, SLOT_COUNT
};

struct entry {
    uint64_t     tag; /* 0: end of a list of children */
    bool         children;
    struct value v[SLOT_COUNT];
};

static int
slot_of(uint64_t attribute)
{
    switch (attribute) {
    case AT_NAME: return NAME;
    case AT_COMP_DIR: return DIR;
    case AT_STMT_LIST: return LINE;
    case AT_LOW_PC: return LOW;
    case AT_HIGH_PC: return HIGH;
    case AT_RANGES: return RANGES;
    case AT_ABSTRACT_ORIGIN:
    case AT_SPECIFICATION: return ORIGIN;
    case AT_SIBLING: return SIBLING;
    case AT_CALL_FILE: return CALL_FILE;
    case AT_CALL_LINE: return CALL_LINE;
    case AT_STR_OFFSETS_BASE: return STR_BASE;
    case AT_ADDR_BASE: return ADDR_BASE;
    case AT_RNGLISTS_BASE: return RNG_BASE;
    default: return -1;
    }
}

/* read_reference -- forms that refer to an entry or lie in another file. */
static struct value
read_reference(struct reader *r, const struct unit *u, uint64_t form)
{
    switch (form) {
    case FORM_REF1: return (struct value){ ENTRY, u->start + fixed(r, 1), NULL };
    case FORM_REF2: return (struct value){ ENTRY, u->start + fixed(r, 2), NULL };
    case FORM_REF4: return (struct value){ ENTRY, u->start + fixed(r, 4), NULL };
    case FORM_REF8: return (struct value){ ENTRY, u->start + fixed(r, 8), NULL };
    case FORM_REF_UDATA: return (struct value){ ENTRY, u->start + uleb(r), NULL };
    case FORM_REF_ADDR: return (struct value){ ENTRY, offset(r), NULL };
    case FORM_REF_SUP4: skip(r, 4); break;
    case FORM_REF_SUP8:
    case FORM_REF_SIG8: skip(r, 8); break;
    case FORM_STRP_SUP:
    case FORM_GNU_REF_ALT:
    case FORM_GNU_STRP_ALT: offset(r); break;
    default: r->at = r->end; /* a form we do not know: its size neither */
    }
    return (struct value){ NONE, 0, NULL };
}

static struct value
read_value(struct reader *r, const struct unit *u, uint64_t form, int64_t implicit)
{
    switch (form) {
    case FORM_ADDR: return (struct value){ ADDRESS, fixed(r, u->address_size), NULL };
    case FORM_ADDRX: return (struct value){ ADDRESS_INDEX, uleb(r), NULL };
    case FORM_ADDRX1: return (struct value){ ADDRESS_INDEX, fixed(r, 1), NULL };
    case FORM_ADDRX2: return (struct value){ ADDRESS_INDEX, fixed(r, 2), NULL };
    case FORM_ADDRX3: return (struct value){ ADDRESS_INDEX, fixed(r, 3), NULL };
    case FORM_ADDRX4: return (struct value){ ADDRESS_INDEX, fixed(r, 4), NULL };
    case FORM_FLAG:
    case FORM_DATA1: return (struct value){ NUMBER, fixed(r, 1), NULL };
    case FORM_DATA2: return (struct value){ NUMBER, fixed(r, 2), NULL };
    case FORM_DATA4: return (struct value){ NUMBER, fixed(r, 4), NULL };
    case FORM_DATA8: return (struct value){ NUMBER, fixed(r, 8), NULL };
    case FORM_UDATA: return (struct value){ NUMBER, uleb(r), NULL };
    case FORM_SDATA: return (struct value){ NUMBER, (uint64_t)sleb(r), NULL };
    case FORM_IMPLICIT_CONST: return (struct value){ NUMBER, (uint64_t)implicit, NULL };
    case FORM_FLAG_PRESENT: return (struct value){ NUMBER, 1, NULL };
    case FORM_SEC_OFFSET: return (struct value){ NUMBER, offset(r), NULL };
    case FORM_LOCLISTX: return (struct value){ NONE, uleb(r), NULL };
    case FORM_RNGLISTX: return (struct value){ RANGE_INDEX, uleb(r), NULL };
    case FORM_STRING: return (struct value){ STRING, 0, string(r) };
    case FORM_STRP: return (struct value){ STRING, 0, string_at(u->d->str, offset(r)) };
    case FORM_LINE_STRP: return (struct value){ STRING, 0, string_at(u->d->line_str, offset(r)) };
    case FORM_STRX: return (struct value){ STRING_INDEX, uleb(r), NULL };
    case FORM_STRX1: return (struct value){ STRING_INDEX, fixed(r, 1), NULL };
    case FORM_STRX2: return (struct value){ STRING_INDEX, fixed(r, 2), NULL };
    case FORM_STRX3: return (struct value){ STRING_INDEX, fixed(r, 3), NULL };
    case FORM_STRX4: return (struct value){ STRING_INDEX, fixed(r, 4), NULL };
    case FORM_BLOCK1: skip(r, fixed(r, 1)); break;
    case FORM_BLOCK2: skip(r, fixed(r, 2)); break;
    case FORM_BLOCK4: skip(r, fixed(r, 4)); break;
    case FORM_BLOCK:
    case FORM_EXPRLOC: skip(r, uleb(r)); break;
    case FORM_DATA16: skip(r, 16); break;
    case FORM_INDIRECT: {
        uint64_t direct = uleb(r);
        return direct != FORM_INDIRECT ? read_value(r, u, direct, 0)
                                       : (struct value){ NONE, 0, NULL };
    }
    default: return read_reference(r, u, form);
    }
    return (struct value){ NONE, 0, NULL };
}

/* text_of, address_of -- what an attribute stands for; NULL and 0 if it is not there. */
static const char *
text_of(const struct unit *u, struct value v)
{
    if (v.kind != STRING_INDEX)
        return v.kind == STRING ? v.s : NULL;

    struct reader r = read_from(u->d->str_offsets, u->str_base + v.n * (u->is64 ? 8 : 4), u->is64);
    return string_at(u->d->str, offset(&r));
}

static uint64_t
address_of(const struct unit *u, struct value v)
{
    if (v.kind != ADDRESS_INDEX)
        return v.kind == ADDRESS ? v.n : 0;

    struct reader r = read_from(u->d->addr, u->addr_base + v.n * u->address_size, false);
    return fixed(&r, u->address_size);
}

/*
 * The abbreviations of one unit: where in .debug_abbrev the declaration of each
 * small code starts.  Larger codes are looked for from the last one known.
 */
enum { ABBREV_MAX = 2048 };
static struct {
    const unsigned char *asked; /* the table last looked into */
    const unsigned char *table;
    uint32_t             at[ABBREV_MAX]; /* from table; 0: not declared */
} abbrevs;

void
rt_dwarf_forget(void)
{
    abbrevs.table = abbrevs.asked = NULL;
}

/* pass_abbrev -- skip the attribute list of a declaration. */
static void
pass_abbrev(struct reader *r)
{
    for (;;) {
        uint64_t attribute = uleb(r), form = uleb(r);

        if (form == FORM_IMPLICIT_CONST)
            sleb(r);
        if ((attribute == 0 && form == 0) || r->at >= r->end)
            return;
    }
}

/* find_abbrev -- r->at: after the code, at the tag. */
static bool
find_abbrev(const struct unit *u, uint64_t code, struct reader *r)
{
    *r = read_from(u->d->abbrev, u->abbrevs, u->is64);

    const unsigned char *table = r->at;
    bool                 filled = abbrevs.table == table;
    bool                 fill = !filled && abbrevs.asked == table;

    abbrevs.asked = table; /* one entry of a unit is all that is read of most */
    if (filled && code < ABBREV_MAX) {
        r->at += abbrevs.at[code];
        return abbrevs.at[code] != 0;
    }
    if (fill) {
        memset(abbrevs.at, 0, sizeof abbrevs.at);
        abbrevs.table = table;
    }
    const unsigned char *found = NULL;
    for (uint64_t c = uleb(r); c != 0; c = uleb(r)) {
        if (fill && c < ABBREV_MAX)
            abbrevs.at[c] = (uint32_t)(r->at - table);
        if (c == code)
            found = r->at;
        if (found != NULL && !fill)
            break;
        uleb(r);
        skip(r, 1);
        pass_abbrev(r);
    }
    r->at = found;
    return found != NULL;
}

/* read_entry -- Returns: false if there is none that can be read. */
static bool
read_entry(struct reader *r, const struct unit *u, struct entry *e)
{
    struct reader a;

    e->tag = 0;
    e->children = false;
    if (r->at >= r->end)
        return false;
    uint64_t code = uleb(r);
    if (code == 0)
        return true;
    if (!find_abbrev(u, code, &a))
        return false;
    memset(e->v, 0, sizeof e->v);
    e->tag = uleb(&a);
    e->children = fixed(&a, 1) != 0;
    for (;;) {
        uint64_t attribute = uleb(&a), form = uleb(&a);
        int64_t  implicit = form == FORM_IMPLICIT_CONST ? sleb(&a) : 0;

        if ((attribute == 0 && form == 0) || a.at >= a.end)
            return true;
        struct value v = read_value(r, u, form, implicit);
        int          slot = slot_of(attribute);
        if (slot >= 0)
            e->v[slot] = v;
    }
}

/* read_unit -- the header at `start`; u->end is set even if the unit is not for us. */
static bool
read_unit(const struct rt_debug *d, uint64_t start, struct unit *u)
{
    struct reader r = read_from(d->info, start, false);
    uint64_t      length = fixed(&r, 4);

    *u = (struct unit){ .d = d, .start = start, .line = NO_LINE };
    if (length == 0xffffffff) {
        r.is64 = u->is64 = true;
        length = fixed(&r, 8);
    }
    if (length == 0 || length > (uint64_t)(r.end - r.at)) {
        u->end = (uint64_t)(d->info.end - d->info.at);
        return false;
    }
    r.end = r.at + length;
    u->end = (uint64_t)(r.end - d->info.at);
    u->version = (unsigned)fixed(&r, 2);
    uint64_t type = TAG_COMPILE_UNIT;
    if (u->version >= 5) {
        type = fixed(&r, 1);
        u->address_size = (unsigned)fixed(&r, 1);
        u->abbrevs = offset(&r);
    } else {
        u->abbrevs = offset(&r);
        u->address_size = (unsigned)fixed(&r, 1);
    }
    enum { UNIT_COMPILE = 1, UNIT_PARTIAL = 3 };
    if (u->version >= 5 && type != UNIT_COMPILE && type != UNIT_PARTIAL)
        return false;
    u->entries = (uint64_t)(r.at - d->info.at);
    return u->version >= 3 && u->version <= 5 && u->address_size <= 8;
}

static struct reader
unit_reader(const struct unit *u, uint64_t at)
{
    struct reader r = read_from(u->d->info, at, u->is64);

    r.end = u->d->info.at + u->end;
    return r;
}

/* read_root -- the unit's first entry, and what the unit needs from it. */
static bool
read_root(struct unit *u, struct entry *root)
{
    struct reader r = unit_reader(u, u->entries);

    if (!read_entry(&r, u, root) || root->tag == 0)
        return false;
    u->str_base = root->v[STR_BASE].n;
    u->addr_base = root->v[ADDR_BASE].n;
    u->rng_base = root->v[RNG_BASE].n;
    u->low = address_of(u, root->v[LOW]);
    u->dir = text_of(u, root->v[DIR]);
    if (root->v[LINE].kind == NUMBER)
        u->line = root->v[LINE].n;
    return true;
}

/* ---- does an entry cover an address? -------------------------------------- */

/* DWARF 3 and 4: pairs of offsets from a base; a lowest offset of all ones sets the base. */
static bool
in_ranges(const struct unit *u, uint64_t at, uint64_t address)
{
    struct reader r = read_from(u->d->ranges, at, u->is64);
    uint64_t      base = u->low, ones = u->address_size == 8 ? ~UINT64_C(0) : UINT32_MAX;

    while (r.at < r.end) {
        uint64_t low = fixed(&r, u->address_size), high = fixed(&r, u->address_size);

        if (low == 0 && high == 0)
            break;
        if (low == ones)
            base = high;
        else if (address >= base + low && address < base + high)
            return true;
    }
    return false;
}

/* DWARF 5: section 7.25. */
static bool
in_rnglist(const struct unit *u, uint64_t at, uint64_t address)
{
    enum { END, BASEX, STARTX_ENDX, STARTX_LENGTH, OFFSETS, BASE, START_END, START_LENGTH };
    struct reader r = read_from(u->d->rnglists, at, u->is64);
    uint64_t      base = u->low;

#define INDEXED() address_of(u, (struct value){ ADDRESS_INDEX, uleb(&r), NULL })
    while (r.at < r.end) {
        uint64_t low = 0, high = 0;

        switch (fixed(&r, 1)) {
        case BASEX: base = INDEXED(); break;
        case STARTX_ENDX: low = INDEXED(); high = INDEXED(); break;
        case STARTX_LENGTH: low = INDEXED(); high = low + uleb(&r); break;
        case OFFSETS: low = base + uleb(&r); high = base + uleb(&r); break;
        case BASE: base = fixed(&r, u->address_size); break;
        case START_END:
            low = fixed(&r, u->address_size);
            high = fixed(&r, u->address_size);
            break;
        case START_LENGTH:
            low = fixed(&r, u->address_size);
            high = low + uleb(&r);
            break;
        default: return false; /* END, or what we do not know */
        }
        if (address >= low && address < high)
            return true;
    }
#undef INDEXED
    return false;
}

static bool
covers(const struct unit *u, const struct entry *e, uint64_t address)
{
    struct value ranges = e->v[RANGES], high = e->v[HIGH];

    if (ranges.kind == RANGE_INDEX) {
        struct reader r = read_from(u->d->rnglists, u->rng_base + ranges.n * (u->is64 ? 8 : 4),
                                    u->is64);
        return in_rnglist(u, u->rng_base + offset(&r), address);
    }
    if (ranges.kind == NUMBER)
        return u->version >= 5 ? in_rnglist(u, ranges.n, address) : in_ranges(u, ranges.n, address);
    if (e->v[LOW].kind == NONE || high.kind == NONE)
        return false;
    uint64_t low = address_of(u, e->v[LOW]);
    uint64_t end = high.kind == NUMBER ? low + high.n : address_of(u, high);
    return address >= low && address < end;
}

/*
 * unit_by_aranges -- where the unit with the address starts, by the table that gcc writes for
 * this; SIZE_MAX if it does not say.  See: DWARF 5, section 6.1.2.
 */
static uint64_t
unit_by_aranges(const struct rt_debug *d, uint64_t address)
{
    struct reader all = read_from(d->aranges, 0, false);

    while (all.at < all.end) {
        const unsigned char *start = all.at;
        struct reader        r = all;
        uint64_t             length = fixed(&r, 4);

        if (length == 0xffffffff) {
            r.is64 = true;
            length = fixed(&r, 8);
        }
        if (length == 0 || length > (uint64_t)(r.end - r.at))
            break;
        all.at = r.end = r.at + length;
        skip(&r, 2); /* version */
        uint64_t unit = offset(&r);
        unsigned size = (unsigned)fixed(&r, 1);
        skip(&r, 1); /* size of a segment selector: none */
        uint64_t odd = (uint64_t)(r.at - start) % 16; /* pairs are aligned to their size */
        if (size != 8 || !skip(&r, (16 - odd) % 16))
            continue;
        while (r.at < r.end) {
            uint64_t low = fixed(&r, size), bytes = fixed(&r, size);

            if (address >= low && address - low < bytes)
                return unit;
        }
    }
    return SIZE_MAX;
}

static bool
find_unit(const struct rt_debug *d, uint64_t address, struct unit *u)
{
    struct entry root;
    uint64_t     size = (uint64_t)(d->info.end - d->info.at);
    uint64_t     likely = unit_by_aranges(d, address);

    if (likely < size && read_unit(d, likely, u) && read_root(u, &root) &&
        covers(u, &root, address))
        return true;
    for (uint64_t at = 0; at < size; at = u->end)
        if (read_unit(d, at, u) && read_root(u, &root) && covers(u, &root, address))
            return true;
    return false;
}

/* ---- functions ------------------------------------------------------------ */

/* unit_at -- the unit that an entry lies in; usually u. */
static bool
unit_at(const struct unit *u, uint64_t at, struct unit *found)
{
    struct entry root;

    *found = *u;
    if (at >= u->start && at < u->end)
        return true;
    for (uint64_t start = 0; start <= at; start = found->end)
        if (read_unit(u->d, start, found) && at < found->end)
            return read_root(found, &root);
    return false;
}

/* name_of -- e's name, or that of what it is an instance of. */
static const char *
name_of(const struct unit *u, const struct entry *e)
{
    struct entry next = *e;
    struct unit  unit = *u;

    for (int hops = 0; hops < 4; hops++) {
        const char *name = text_of(&unit, next.v[NAME]);
        uint64_t    origin = next.v[ORIGIN].n;

        if (name != NULL)
            return name;
        if (next.v[ORIGIN].kind != ENTRY || !unit_at(&unit, origin, &unit))
            break;
        struct reader r = unit_reader(&unit, origin);
        if (!read_entry(&r, &unit, &next) || next.tag == 0)
            break;
    }
    return NULL;
}

/* is_type -- whether an entry's children are members, enumerators, parameters: never code. */
static bool
is_type(uint64_t tag)
{
    switch (tag) {
    case TAG_ARRAY:
    case TAG_CLASS:
    case TAG_ENUMERATION:
    case TAG_STRUCTURE:
    case TAG_SUBROUTINE_TYPE:
    case TAG_UNION: return true;
    default: return false;
    }
}

struct level { /* outermost first */
    const char *name;
    uint64_t    call_file, call_line; /* where the level outside calls it, if inlined */
};

/* find_function -- Returns: how many levels cover the address; 0: none. */
static int
find_function(const struct unit *u, uint64_t address, struct level *level)
{
    struct reader r = unit_reader(u, u->entries);
    struct entry  e;
    int           count = 0, depth = 0, found_depth = 0;

    while (read_entry(&r, u, &e)) {
        if (e.tag == 0) {
            if (--depth <= found_depth)
                break;
            continue;
        }
        bool code = e.tag == TAG_SUBPROGRAM || e.tag == TAG_INLINED;
        bool here = code && (e.tag == TAG_INLINED) == (count > 0) && covers(u, &e, address);
        if (here && count < RT_INLINE_MAX)
            level[count++] = (struct level){ name_of(u, &e), e.v[CALL_FILE].n, e.v[CALL_LINE].n };
        if (here && count == 1) {
            if (!e.children)
                break;
            found_depth = depth;
        }
        if (((code && !here) || is_type(e.tag)) && e.v[SIBLING].kind == ENTRY && e.v[SIBLING].n < u->end &&
            u->d->info.at + e.v[SIBLING].n > r.at)
            r.at = u->d->info.at + e.v[SIBLING].n;
        else if (e.children)
            depth++;
    }
    return count;
}

/* ---- lines ---------------------------------------------------------------- */

struct lines {
    const struct unit   *u;
    unsigned             version, min_step, line_range, opcode_base;
    int                  line_base;
    const unsigned char *lengths; /* of standard opcodes' operands */
    struct reader        dirs, files; /* after their counts, from version 5 on */
    struct rt_bytes      dir_format, file_format;
    uint64_t             dir_count, file_count;
    struct reader        program;
};

/* One directory or file of a version 5 header. */
struct named {
    const char *name;
    uint64_t    dir;
};

static struct named
read_named(struct reader *r, const struct lines *t, struct rt_bytes format)
{
    enum { CONTENT_PATH = 1, CONTENT_DIRECTORY = 2 };
    struct named  n = { NULL, 0 };
    struct reader f = { format.at, format.end, false };

    while (f.at < f.end) {
        uint64_t     content = uleb(&f);
        struct value v = read_value(r, t->u, uleb(&f), 0);

        if (content == CONTENT_PATH)
            n.name = text_of(t->u, v);
        else if (content == CONTENT_DIRECTORY)
            n.dir = v.n;
    }
    return n;
}

/* read_format -- the description of one table, and its count. */
static uint64_t
read_format(struct reader *r, struct rt_bytes *format)
{
    uint64_t pairs = fixed(r, 1);

    format->at = r->at;
    while (pairs-- > 0) {
        uleb(r);
        uleb(r);
    }
    format->end = r->at;
    return uleb(r);
}

/* read_tables -- remember where the directory and file tables lie. */
static void
read_tables(struct lines *t, struct reader *r)
{
    if (t->version >= 5) {
        t->dir_count = read_format(r, &t->dir_format);
        t->dirs = *r;
        for (uint64_t i = 0; i < t->dir_count && r->at < r->end; i++)
            read_named(r, t, t->dir_format);
        t->file_count = read_format(r, &t->file_format);
    } else {
        t->dirs = *r;
        while (r->at < r->end && *string(r) != 0)
            continue;
    }
    t->files = *r;
}

static bool
read_lines(const struct unit *u, struct lines *t)
{
    struct reader r = read_from(u->d->line, u->line, false);
    uint64_t      length = fixed(&r, 4);

    if (length == 0xffffffff) {
        r.is64 = true;
        length = fixed(&r, 8);
    }
    if (length > (uint64_t)(r.end - r.at))
        return false;
    r.end = r.at + length;
    t->u = u;
    t->version = (unsigned)fixed(&r, 2);
    if (t->version < 2 || t->version > 5)
        return false;
    if (t->version >= 5)
        skip(&r, 2); /* sizes of address and segment selector */
    uint64_t header = offset(&r);
    if (header > (uint64_t)(r.end - r.at))
        return false;
    t->program = (struct reader){ r.at + header, r.end, r.is64 };
    r.end = r.at + header;
    t->min_step = (unsigned)fixed(&r, 1);
    if (t->version >= 4)
        skip(&r, 1); /* operations per instruction: 1 on our machines */
    skip(&r, 1);     /* default of is_stmt */
    t->line_base = (int8_t)fixed(&r, 1);
    t->line_range = (unsigned)fixed(&r, 1);
    t->opcode_base = (unsigned)fixed(&r, 1);
    t->lengths = r.at;
    if (t->line_range == 0 || t->opcode_base == 0 || !skip(&r, t->opcode_base - 1))
        return false;
    read_tables(t, &r);
    return true;
}

/* name_file -- fill p's path with file number n. */
static void
name_file(const struct lines *t, uint64_t n, struct rt_place *p)
{
    struct reader r = t->files, d = t->dirs;
    struct named  file = { NULL, 0 };

    p->root = t->u->dir;
    if (t->version >= 5) {
        for (uint64_t i = 0; i <= n && i < t->file_count && r.at < r.end; i++)
            file = read_named(&r, t, t->file_format);
        for (uint64_t i = 0; i <= file.dir && i < t->dir_count && d.at < d.end; i++)
            p->dir = read_named(&d, t, t->dir_format).name;
    } else {
        for (uint64_t i = 1; i <= n && r.at < r.end; i++) {
            file.name = string(&r);
            file.dir = uleb(&r);
            uleb(&r);
            uleb(&r);
        }
        for (uint64_t i = 1; i <= file.dir && d.at < d.end; i++)
            p->dir = string(&d);
    }
    p->file = file.name;
}

struct row {
    uint64_t address, file;
    int64_t  line;
    bool     ends; /* of a sequence: nothing lies at its address */
};

/* run_extended -- an opcode with a length.  Returns: whether it emits a row. */
static bool
run_extended(struct reader *r, struct row *now)
{
    enum { END_SEQUENCE = 1, SET_ADDRESS = 2 };
    uint64_t      length = uleb(r);
    struct reader inner = *r;

    if (!skip(r, length) || length == 0)
        return false;
    uint64_t opcode = fixed(&inner, 1);
    if (opcode == SET_ADDRESS)
        now->address = fixed(&inner, length - 1 <= 8 ? (unsigned)length - 1 : 8);
    now->ends = opcode == END_SEQUENCE;
    return now->ends;
}

/* run_standard -- Returns: whether it emits a row. */
static bool
run_standard(const struct lines *t, struct reader *r, unsigned opcode, struct row *now)
{
    enum { COPY = 1, ADVANCE_PC, ADVANCE_LINE, SET_FILE, CONST_ADD_PC = 8, FIXED_ADVANCE_PC };

    switch (opcode) {
    case COPY: return true;
    case ADVANCE_PC: now->address += uleb(r) * t->min_step; break;
    case ADVANCE_LINE: now->line += sleb(r); break;
    case SET_FILE: now->file = uleb(r); break;
    case CONST_ADD_PC:
        now->address += (uint64_t)((255 - t->opcode_base) / t->line_range) * t->min_step;
        break;
    case FIXED_ADVANCE_PC: now->address += fixed(r, 2); break;
    default:
        for (unsigned i = 0; i < t->lengths[opcode - 1]; i++)
            uleb(r);
    }
    return false;
}

/* find_row -- run the program until a row covers the address. */
static bool
find_row(const struct lines *t, uint64_t address, struct row *found)
{
    static const struct row first = { .file = 1, .line = 1 };
    struct reader           r = t->program;
    struct row              now = first, last = { .ends = true };

    while (r.at < r.end) {
        unsigned opcode = (unsigned)fixed(&r, 1);
        bool     row;

        if (opcode >= t->opcode_base) {
            unsigned adjusted = opcode - t->opcode_base;

            now.address += (uint64_t)(adjusted / t->line_range) * t->min_step;
            now.line += t->line_base + (int)(adjusted % t->line_range);
            row = true;
        } else {
            row = opcode == 0 ? run_extended(&r, &now) : run_standard(t, &r, opcode, &now);
        }
        if (!row)
            continue;
        if (!last.ends && last.address <= address && address < now.address) {
            *found = last;
            return true;
        }
        last = now;
        if (now.ends)
            now = first;
    }
    return false;
}

/* ---- together ------------------------------------------------------------- */

bool
rt_dwarf_find(const struct rt_debug *d, uint64_t address, struct rt_symbol *s)
{
    struct unit  u;
    struct lines t;
    struct level level[RT_INLINE_MAX];
    struct row   row = { .line = 0 };

    if (!find_unit(d, address, &u))
        return false;
    int  count = find_function(&u, address, level);
    bool lines = u.line != NO_LINE && read_lines(&u, &t) && find_row(&t, address, &row);

    s->count = count > 0 ? count : 1;
    for (int i = 0; i < s->count; i++) {
        const struct level *at = count > 0 ? &level[count - 1 - i] : NULL;
        struct rt_place    *p = &s->place[i];

        *p = (struct rt_place){ .function = at != NULL ? at->name : NULL };
        if (lines) {
            p->line = (unsigned)row.line; /* 0 for code that stands for no line */
            name_file(&t, row.file, p);
        }
        if (at != NULL) {
            row.file = at->call_file;
            row.line = (int64_t)at->call_line;
        }
    }
    return count > 0 || lines;
}
