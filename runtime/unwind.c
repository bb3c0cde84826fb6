/*
 * unwind.c -- from a frame to its caller, by the tables in .eh_frame.
 *
 * Frame pointers are enough for our own code, but an application may be
 * compiled without them, libc is, and an instruction chosen by a signal may
 * stand in the middle of a prologue.  The tables that C++ exceptions need are
 * right in all these cases, and every compiler here writes them for C too.
 * libgcc's unwinder reads them as well, but can only start from its own
 * caller: not from a parked goroutine, nor from a signal's context.
 *
 * For a pc, .eh_frame_hdr has a sorted table that leads to the frame
 * description (FDE).  Its instructions, and those of the description it shares
 * with others (CIE), build a table row by row: how to find the canonical frame
 * address (CFA, the caller's stack pointer), and where the caller's registers were
 * saved.  We run them up to the row for pc.
 *
 * Where there is no table, or it asks for a register that is lost, the frame
 * pointer is followed instead, if it is plausible.
 *
 * What keeps a walk over damaged memory harmless: the stack is read only inside
 * [lo, hi); the stack pointer must grow at each step; every pc must lie in the
 * code of a module.  Tables are read where the loader mapped them.
 *
 * See: DWARF 5, section 6.4; LSB 5, "Exception Frames"; the ABI supplements for
 * the register numbers.
 */

#include "symbol.h"

#include <string.h>
#include <ucontext.h>

#include "runtime.h"

/* ---- reading tables ------------------------------------------------------- */

struct reader {
    const unsigned char *at, *end;
};

static uint64_t
fixed(struct reader *r, unsigned size)
{
    uint64_t n = 0;

    if (size > (size_t)(r->end - r->at)) {
        r->at = r->end;
        return 0;
    }
    for (unsigned i = 0; i < size; i++)
        n |= (uint64_t)r->at[i] << 8 * i;
    r->at += size;
    return n;
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
    const unsigned char *from = r->at;
    uint64_t             n = uleb(r);
    size_t               bits = 7 * (size_t)(r->at - from);

    if (bits > 0 && bits < 64 && (n >> (bits - 1) & 1) != 0)
        n |= ~UINT64_C(0) << bits;
    return (int64_t)n;
}

/* Pointer encodings: how the value is written, and what it is relative to. */
enum { PE_OMIT = 0xff, PE_FORMAT = 0x0f, PE_RELATION = 0x70, PE_PCREL = 0x10, PE_DATAREL = 0x30 };

static uintptr_t
encoded(struct reader *r, unsigned encoding, uintptr_t data)
{
    uintptr_t here = (uintptr_t)r->at, n;

    switch (encoding & PE_FORMAT) {
    case 0x00: n = fixed(r, sizeof(uintptr_t)); break;
    case 0x01: n = uleb(r); break;
    case 0x02: n = fixed(r, 2); break;
    case 0x03: n = fixed(r, 4); break;
    case 0x04:
    case 0x0c: n = fixed(r, 8); break;
    case 0x09: n = (uintptr_t)sleb(r); break;
    case 0x0a: n = (uintptr_t)(int64_t)(int16_t)fixed(r, 2); break;
    case 0x0b: n = (uintptr_t)(int64_t)(int32_t)fixed(r, 4); break;
    default: return 0;
    }
    switch (encoding & PE_RELATION) {
    case PE_PCREL: return here + n;
    case PE_DATAREL: return data + n;
    default: return n;
    }
}

/* ---- the description of a function's frames ------------------------------- */

struct description {
    struct reader common, own; /* instructions of CIE and FDE */
    uintptr_t     start, size;
    uint64_t      code_factor;
    int64_t       data_factor;
    uint64_t      return_register;
    unsigned      encoding;
    bool          signal_frame;
};

/* read_length -- of a CIE or FDE; r->end becomes its end. */
static bool
read_length(struct reader *r)
{
    uint64_t length = fixed(r, 4);

    if (length == UINT32_MAX)
        length = fixed(r, 8);
    if (length == 0 || length > (size_t)(r->end - r->at))
        return false;
    r->end = r->at + length;
    return true;
}

static bool
read_common(struct reader r, struct description *d)
{
    if (!read_length(&r))
        return false;
    fixed(&r, 4); /* its id: 0 */
    unsigned             version = (unsigned)fixed(&r, 1);
    const unsigned char *augmentation = r.at;
    const unsigned char *nul = memchr(r.at, 0, (size_t)(r.end - r.at));
    if (nul == NULL || (version != 1 && version != 3))
        return false;
    r.at = nul + 1;
    d->code_factor = uleb(&r);
    d->data_factor = sleb(&r);
    d->return_register = version == 1 ? fixed(&r, 1) : uleb(&r);
    d->encoding = 0;
    d->signal_frame = false;
    if (augmentation[0] == 'z') {
        uint64_t             size = uleb(&r);
        const unsigned char *after = r.at + (size <= (size_t)(r.end - r.at) ? size : 0);

        for (const unsigned char *a = augmentation + 1; *a != 0; a++) {
            if (*a == 'R')
                d->encoding = (unsigned)fixed(&r, 1);
            else if (*a == 'P')
                encoded(&r, (unsigned)fixed(&r, 1), 0);
            else if (*a == 'L')
                fixed(&r, 1);
            else if (*a == 'S')
                d->signal_frame = true;
        }
        r.at = after;
    } else if (augmentation[0] != 0) {
        return false;
    }
    d->common = r;
    return true;
}

static bool
read_description(const struct rt_module *m, uintptr_t at, struct description *d)
{
    struct reader r = { (const unsigned char *)at, (const unsigned char *)m->hi };

    if (at < m->lo || at >= m->hi || !read_length(&r))
        return false;
    uintptr_t here = (uintptr_t)r.at;
    uintptr_t common = here - (uintptr_t)fixed(&r, 4);
    if (common < m->lo || common >= m->hi ||
        !read_common((struct reader){ (const unsigned char *)common, (const unsigned char *)m->hi },
                     d))
        return false;
    d->start = encoded(&r, d->encoding, 0);
    d->size = encoded(&r, d->encoding & PE_FORMAT, 0);
    uint64_t augmentation = uleb(&r); /* 'z' is always there in practice */
    if (augmentation > (size_t)(r.end - r.at))
        return false;
    r.at += augmentation;
    d->own = r;
    return true;
}

static bool
describes(const struct description *d, uintptr_t pc)
{
    return pc >= d->start && pc - d->start < d->size;
}

/* search_frames -- one by one: slow, but it needs no table. */
static bool
search_frames(const struct rt_module *m, uintptr_t pc, struct description *d)
{
    struct reader r = { (const unsigned char *)m->frames, (const unsigned char *)m->frames_end };

    if (m->frames < m->lo || m->frames_end > m->hi || m->frames > m->frames_end)
        return false;
    while (r.at < r.end) {
        uintptr_t            at = (uintptr_t)r.at;
        const unsigned char *end = r.end;

        if (!read_length(&r)) /* 0: the last */
            return false;
        bool common = fixed(&r, 4) == 0;
        if (!common && read_description(m, at, d) && describes(d, pc))
            return true;
        r = (struct reader){ r.end, end };
    }
    return false;
}

/* find_description -- by binary search in .eh_frame_hdr, if there is one. */
static bool
find_description(const struct rt_module *m, uintptr_t pc, struct description *d)
{
    enum { TABLE_ENCODING = PE_DATAREL | 0x0b, ENTRY_SIZE = 8 };

    if (m != NULL && m->unwind == 0)
        return search_frames(m, pc, d);
    if (m == NULL || m->unwind < m->lo || m->unwind >= m->hi)
        return false;
    struct reader r = { (const unsigned char *)m->unwind, (const unsigned char *)m->hi };
    unsigned      version = (unsigned)fixed(&r, 1), frame_encoding = (unsigned)fixed(&r, 1);
    unsigned      count_encoding = (unsigned)fixed(&r, 1), encoding = (unsigned)fixed(&r, 1);
    if (version != 1 || encoding != TABLE_ENCODING || count_encoding == PE_OMIT)
        return false;
    encoded(&r, frame_encoding, m->unwind);
    uintptr_t count = encoded(&r, count_encoding, m->unwind);
    if (count == 0 || count > (size_t)(r.end - r.at) / ENTRY_SIZE)
        return false;

    const unsigned char *table = r.at;
    uintptr_t            low = 0, high = count; /* the entry is in [low, high) */
    while (high - low > 1) {
        uintptr_t     middle = low + (high - low) / 2;
        struct reader e = { table + middle * ENTRY_SIZE, r.end };

        if (encoded(&e, TABLE_ENCODING, m->unwind) <= pc)
            low = middle;
        else
            high = middle;
    }
    struct reader e = { table + low * ENTRY_SIZE + ENTRY_SIZE / 2, r.end };
    return read_description(m, encoded(&e, TABLE_ENCODING, m->unwind), d) && describes(d, pc);
}

/* ---- running it ----------------------------------------------------------- */

struct rule {
    enum { SAME, UNDEFINED, AT_CFA, CFA_PLUS, IN_REGISTER, LOST } kind;
    int64_t n; /* offset, or register */
};

struct table_row {
    uint64_t             cfa_register;
    int64_t              cfa_offset;
    const unsigned char *cfa_expression; /* its length and operations, instead; or NULL */
    struct rule          rule[RT_REG_COUNT];
};

enum { STATE_MAX = 4 };
struct machine {
    const struct description *d;
    const unsigned char      *end; /* of the module: nothing is read beyond */
    struct table_row          row, initial, saved[STATE_MAX];
    int                       saved_count;
    uintptr_t                 location;
};

static void
skip_block(struct reader *r)
{
    uint64_t size = uleb(r);

    r->at = size <= (size_t)(r->end - r->at) ? r->at + size : r->end;
}

static void
set_rule(struct machine *m, uint64_t reg, int kind, int64_t n)
{
    if (reg < RT_REG_COUNT)
        m->row.rule[reg] = (struct rule){ kind, n };
}

/* run_advance -- the instructions that move to the next row.  Returns: false if op is another. */
static bool
run_advance(struct machine *m, struct reader *r, unsigned op)
{
    enum { ADVANCE = 1, SET_LOC = 0x01, ADVANCE1 = 0x02, ADVANCE2, ADVANCE4 };
    uint64_t by;

    if (op >> 6 == ADVANCE)
        by = op & 0x3f;
    else if (op == ADVANCE1)
        by = fixed(r, 1);
    else if (op == ADVANCE2)
        by = fixed(r, 2);
    else if (op == ADVANCE4)
        by = fixed(r, 4);
    else if (op == SET_LOC) {
        m->location = encoded(r, m->d->encoding, 0);
        return true;
    } else
        return false;
    m->location += by * m->d->code_factor;
    return true;
}

/* run_cfa -- those about the CFA.  Returns: false if op is another. */
static bool
run_cfa(struct machine *m, struct reader *r, unsigned op)
{
    enum { DEF_CFA = 0x0c, DEF_CFA_REGISTER, DEF_CFA_OFFSET, DEF_CFA_EXPRESSION, DEF_CFA_SF = 0x12,
           DEF_CFA_OFFSET_SF };
    struct table_row *row = &m->row;

    switch (op) {
    case DEF_CFA:
        row->cfa_register = uleb(r);
        row->cfa_offset = (int64_t)uleb(r);
        break;
    case DEF_CFA_SF:
        row->cfa_register = uleb(r);
        row->cfa_offset = sleb(r) * m->d->data_factor;
        break;
    case DEF_CFA_REGISTER: row->cfa_register = uleb(r); return true;
    case DEF_CFA_OFFSET: row->cfa_offset = (int64_t)uleb(r); return true;
    case DEF_CFA_OFFSET_SF: row->cfa_offset = sleb(r) * m->d->data_factor; return true;
    case DEF_CFA_EXPRESSION:
        row->cfa_expression = r->at;
        skip_block(r);
        return true;
    default: return false;
    }
    row->cfa_expression = NULL;
    return true;
}

/* run_state -- remembering and restoring.  Returns: false if op is another. */
static bool
run_state(struct machine *m, struct reader *r, unsigned op)
{
    enum { RESTORE = 3, RESTORE_EXTENDED = 0x06, REMEMBER_STATE = 0x0a, RESTORE_STATE = 0x0b };

    if (op >> 6 == RESTORE || op == RESTORE_EXTENDED) {
        uint64_t reg = op == RESTORE_EXTENDED ? uleb(r) : op & 0x3f;

        if (reg < RT_REG_COUNT)
            m->row.rule[reg] = m->initial.rule[reg];
    } else if (op == REMEMBER_STATE) {
        if (m->saved_count < STATE_MAX)
            m->saved[m->saved_count] = m->row;
        m->saved_count++;
    } else if (op == RESTORE_STATE) {
        if (m->saved_count > 0 && --m->saved_count < STATE_MAX)
            m->row = m->saved[m->saved_count];
    } else {
        return false;
    }
    return true;
}

/* run_rule -- those about one register.  Returns: false for an instruction we do not know. */
static bool
run_rule(struct machine *m, struct reader *r, unsigned op)
{
    enum { OFFSET = 2, NOP = 0x00, OFFSET_EXTENDED = 0x05, UNDEFINED_ = 0x07, SAME_VALUE = 0x08,
           REGISTER = 0x09, EXPRESSION = 0x10, OFFSET_EXTENDED_SF = 0x11, VAL_OFFSET = 0x14,
           VAL_OFFSET_SF, VAL_EXPRESSION, NEGATE_RA_STATE = 0x2d, GNU_ARGS_SIZE = 0x2e };
    int64_t factor = m->d->data_factor;

    if (op >> 6 == OFFSET) {
        set_rule(m, op & 0x3f, AT_CFA, (int64_t)uleb(r) * factor);
        return true;
    }
    if (op == NOP || op == NEGATE_RA_STATE)
        return true;
    uint64_t reg = uleb(r); /* or the operand of GNU_ARGS_SIZE */
    switch (op) {
    case GNU_ARGS_SIZE: break;
    case OFFSET_EXTENDED: set_rule(m, reg, AT_CFA, (int64_t)uleb(r) * factor); break;
    case OFFSET_EXTENDED_SF: set_rule(m, reg, AT_CFA, sleb(r) * factor); break;
    case VAL_OFFSET: set_rule(m, reg, CFA_PLUS, (int64_t)uleb(r) * factor); break;
    case VAL_OFFSET_SF: set_rule(m, reg, CFA_PLUS, sleb(r) * factor); break;
    case UNDEFINED_: set_rule(m, reg, UNDEFINED, 0); break;
    case SAME_VALUE: set_rule(m, reg, SAME, 0); break;
    case REGISTER: set_rule(m, reg, IN_REGISTER, (int64_t)uleb(r)); break;
    case EXPRESSION:
    case VAL_EXPRESSION:
        set_rule(m, reg, LOST, 0);
        skip_block(r);
        break;
    default: return false;
    }
    return true;
}

/* run -- until the row for pc. */
static bool
run(struct machine *m, struct reader r, uintptr_t pc)
{
    while (r.at < r.end) {
        unsigned op = *r.at++;

        if (run_advance(m, &r, op)) {
            if (m->location > pc)
                break;
        } else if (!run_cfa(m, &r, op) && !run_state(m, &r, op) && !run_rule(m, &r, op)) {
            return false;
        }
    }
    return true;
}

/* ---- stepping ------------------------------------------------------------- */

static bool
known(const struct rt_regs *regs, uint64_t reg)
{
    return reg < RT_REG_COUNT && (regs->known >> reg & 1) != 0;
}

/* Saved registers lie between variables, where a sanitizer sees nothing that may be read. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static bool
read_stack(const struct rt_walk *w, uintptr_t at, uintptr_t *word)
{
    if (at < w->lo || at > w->hi || w->hi - at < sizeof *word || at % sizeof *word != 0)
        return false;
    *word = *(const uintptr_t *)(w->copy != NULL ? (uintptr_t)w->copy + (at - w->lo) : at);
    return true;
}

/* restore -- the caller's value of one register. */
static void
restore(const struct rt_walk *w, const struct rule *rule, int reg, uintptr_t cfa,
        struct rt_regs *caller)
{
    uintptr_t value;

    switch (rule->kind) {
    case SAME:
        if (known(&w->regs, (uint64_t)reg))
            rt_regs_set(caller, reg, w->regs.r[reg]);
        break;
    case AT_CFA:
        if (read_stack(w, cfa + (uintptr_t)rule->n, &value))
            rt_regs_set(caller, reg, value);
        break;
    case CFA_PLUS: rt_regs_set(caller, reg, cfa + (uintptr_t)rule->n); break;
    case IN_REGISTER:
        if (known(&w->regs, (uint64_t)rule->n))
            rt_regs_set(caller, reg, w->regs.r[rule->n]);
        break;
    case UNDEFINED:
    case LOST: break;
    }
}

/* ---- expressions ---------------------------------------------------------- */

/*
 * Where the CFA is no register plus a constant: in a PLT, whose entries push one
 * word after some bytes, and in assembly that keeps the stack pointer in memory.
 * Only the operations that occur there.  See: DWARF 5, section 2.5.
 */
enum { OPERAND_MAX = 16 };
struct operands {
    uintptr_t value[OPERAND_MAX];
    int       count;
    bool      failed;
};

static void
push(struct operands *o, uintptr_t value)
{
    if (o->count < OPERAND_MAX)
        o->value[o->count++] = value;
    else
        o->failed = true;
}

static uintptr_t
pop(struct operands *o)
{
    if (o->count > 0)
        return o->value[--o->count];
    o->failed = true;
    return 0;
}

/* push_constant -- operations that push a number.  Returns: false if op is another. */
static bool
push_constant(const struct rt_walk *w, struct operands *o, struct reader *r, unsigned op)
{
    enum { CONST1U = 0x08, CONST1S, CONST2U, CONST2S, CONST4U, CONST4S, CONST8U, CONST8S, CONSTU,
           CONSTS, LIT0 = 0x30, BREG0 = 0x70 };

    if (op >= LIT0 && op < LIT0 + 32) {
        push(o, op - LIT0);
        return true;
    }
    if (op >= BREG0 && op < BREG0 + 32) {
        o->failed |= !known(&w->regs, op - BREG0);
        push(o, o->failed ? 0 : w->regs.r[op - BREG0] + (uintptr_t)sleb(r));
        return true;
    }
    switch (op) {
    case CONST1U: push(o, fixed(r, 1)); break;
    case CONST1S: push(o, (uintptr_t)(int8_t)fixed(r, 1)); break;
    case CONST2U: push(o, fixed(r, 2)); break;
    case CONST2S: push(o, (uintptr_t)(int16_t)fixed(r, 2)); break;
    case CONST4U: push(o, fixed(r, 4)); break;
    case CONST4S: push(o, (uintptr_t)(int32_t)fixed(r, 4)); break;
    case CONST8U:
    case CONST8S: push(o, fixed(r, 8)); break;
    case CONSTU: push(o, uleb(r)); break;
    case CONSTS: push(o, (uintptr_t)sleb(r)); break;
    default: return false;
    }
    return true;
}

static void
compute(const struct rt_walk *w, struct operands *o, struct reader *r, unsigned op)
{
    enum { DEREF = 0x06, AND = 0x1a, MINUS = 0x1c, MUL = 0x1e, PLUS = 0x22, PLUS_UCONST, SHL,
           GE = 0x2a };
    uintptr_t top = pop(o), second, word = 0;

    if (op == PLUS_UCONST) {
        push(o, top + uleb(r));
        return;
    }
    if (op == DEREF) {
        o->failed |= !read_stack(w, top, &word);
        push(o, word);
        return;
    }
    second = pop(o);
    switch (op) {
    case AND: push(o, second & top); break;
    case MINUS: push(o, second - top); break;
    case MUL: push(o, second * top); break;
    case PLUS: push(o, second + top); break;
    case SHL: push(o, top < 64 ? second << top : 0); break;
    case GE: push(o, (intptr_t)second >= (intptr_t)top); break;
    default: o->failed = true;
    }
}

/* find_cfa -- Returns: false if it cannot be had. */
static bool
find_cfa(const struct rt_walk *w, const struct machine *m, uintptr_t *cfa)
{
    const struct table_row *row = &m->row;
    struct operands         o = { .count = 0 };
    struct reader           r = { row->cfa_expression, m->end };

    if (row->cfa_expression == NULL) {
        *cfa = known(&w->regs, row->cfa_register)
                   ? w->regs.r[row->cfa_register] + (uintptr_t)row->cfa_offset
                   : 0;
        return known(&w->regs, row->cfa_register);
    }
    uint64_t size = uleb(&r);
    if (size > (size_t)(r.end - r.at))
        return false;
    r.end = r.at + size;
    while (r.at < r.end && !o.failed) {
        unsigned op = *r.at++;

        if (!push_constant(w, &o, &r, op))
            compute(w, &o, &r, op);
    }
    *cfa = pop(&o);
    return !o.failed;
}

/* find_row -- the row for pc in m, whose description is *d.  Returns: false if there is none. */
static bool
find_row(const struct rt_module *module, uintptr_t pc, struct description *d, struct machine *m)
{
    if (!find_description(module, pc, d) || d->return_register >= RT_REG_COUNT)
        return false;
    memset(m, 0, offsetof(struct machine, saved));
    m->saved_count = 0;
    m->d = d;
    m->location = d->start;
    m->end = (const unsigned char *)module->hi;
    if (!run(m, d->common, UINTPTR_MAX))
        return false;
    m->initial = m->row;
    return run(m, d->own, pc);
}

bool
rt_unwind_plain(const struct rt_module *module, uintptr_t pc, struct rt_plain_rule *rule)
{
    struct description d;
    struct machine     m;
    const struct rule *back, *fp = &m.row.rule[RT_REG_FP];
    const int64_t      limit = INT64_C(1) << 23;

    if (!find_row(module, pc, &d, &m) || d.signal_frame || m.row.cfa_expression != NULL)
        return false;
    back = &m.row.rule[d.return_register];
    if (back->kind != AT_CFA || back->n != -(int64_t)sizeof pc ||
        (m.row.cfa_register != RT_REG_SP && m.row.cfa_register != RT_REG_FP) ||
        m.row.cfa_offset < 0 || m.row.cfa_offset >= limit ||
        (fp->kind != SAME && fp->kind != AT_CFA) || fp->n > 0 || fp->n <= -limit)
        return false;
    rule->by_fp = m.row.cfa_register == RT_REG_FP;
    rule->cfa = (uint32_t)m.row.cfa_offset;
    rule->fp = fp->kind == AT_CFA ? (uint32_t)-fp->n : 0;
    return true;
}

/* Some 2 kB: an alternate stack has room for it (signal.c). */
bool
rt_unwind_step(const struct rt_module *module, struct rt_walk *w, bool *end)
{
    uintptr_t          pc = w->regs.r[RT_REG_PC] - (w->exact ? 0 : 1);
    struct description d;
    struct machine     machine, *m = &machine;
    uintptr_t          cfa;

    if (!find_row(module, pc, &d, m) || !find_cfa(w, m, &cfa))
        return false;

    const struct rule *back = &m->row.rule[d.return_register];
    struct rt_regs     caller = { 0 };
    if (back->kind == UNDEFINED) {
        *end = true;
        return false;
    }
    for (int reg = 0; reg < RT_REG_COUNT; reg++)
        restore(w, &m->row.rule[reg], reg, cfa, &caller);
    if (!known(&caller, d.return_register))
        return false;
    rt_regs_set(&caller, RT_REG_PC, caller.r[d.return_register]);
    rt_regs_set(&caller, RT_REG_SP, cfa);
#if defined(__aarch64__)
    /* There the tables can give the pc or x30, not both; a function may need x30 yet. */
    if (d.start == (uintptr_t)rt_sigpanic) {
        caller.known &= ~(UINT64_C(1) << RT_REG_LR);
        restore(w, &(struct rule){ AT_CFA, -16 }, RT_REG_LR, cfa, &caller);
    }
#endif
    w->regs = caller;
    w->exact = d.signal_frame;
    return true;
}

bool
rt_unwind_function(const struct rt_module *module, uintptr_t pc, uintptr_t *start, uintptr_t *end)
{
    struct description d;

    if (!find_description(module, pc, &d))
        return false;
    *start = d.start;
    *end = d.start + d.size;
    return true;
}

/* step_by_frame_pointer -- it points at the caller's, which the return address follows. */
static bool
step_by_frame_pointer(struct rt_walk *w)
{
    uintptr_t      fp = w->regs.r[RT_REG_FP], next, pc;
    struct rt_regs caller = { 0 };

    if (!known(&w->regs, RT_REG_FP) || fp < w->regs.r[RT_REG_SP] || !read_stack(w, fp, &next) ||
        !read_stack(w, fp + sizeof fp, &pc))
        return false;
    rt_regs_set(&caller, RT_REG_FP, next);
    rt_regs_set(&caller, RT_REG_PC, pc);
    rt_regs_set(&caller, RT_REG_SP, fp + 2 * sizeof fp);
    w->regs = caller;
    w->exact = false;
    return true;
}

/* step_out_of_nowhere -- a call of a bad function pointer: only the return address is there yet. */
static bool
step_out_of_nowhere(struct rt_walk *w)
{
    uintptr_t pc;

#if defined(__x86_64__)
    if (!read_stack(w, w->regs.r[RT_REG_SP], &pc))
        return false;
    w->regs.r[RT_REG_SP] += sizeof pc;
#else
    if (!known(&w->regs, RT_REG_LR))
        return false;
    pc = w->regs.r[RT_REG_LR];
#endif
    w->regs.r[RT_REG_PC] = pc;
    w->exact = false;
    return true;
}

bool
rt_walk_next(struct rt_walk *w)
{
    return rt_walk_next_in(w, rt_module_of);
}

bool
rt_walk_next_in(struct rt_walk *w, rt_module_fn *module_of)
{
    uintptr_t               sp = w->regs.r[RT_REG_SP], pc = w->regs.r[RT_REG_PC];
    bool                    first = w->exact, end = false;
    const struct rt_module *m = module_of(pc - (first ? 0 : 1));

    if (first && m == NULL) {
        if (!step_out_of_nowhere(w))
            return false;
    } else if (!rt_unwind_step(m, w, &end) && (end || !step_by_frame_pointer(w))) {
        return false;
    }
#if defined(__aarch64__)
    w->regs.r[RT_REG_PC] &= (UINT64_C(1) << 48) - 1; /* signed return addresses */
#endif
    if (w->regs.r[RT_REG_SP] < sp + (first ? 0 : 1) || w->regs.r[RT_REG_PC] == 0)
        return false;
    return w->exact || module_of(w->regs.r[RT_REG_PC] - 1) != NULL;
}

/* ---- where walks start ---------------------------------------------------- */

#if defined(__x86_64__)

__attribute__((no_sanitize("address"), no_sanitize("thread"))) void
rt_regs_parked(struct rt_regs *regs, uintptr_t sp, const void *at)
{
    static const int order[] = { 15, 14, 13, 12, 3, RT_REG_FP, RT_REG_PC };
    enum { COUNT = sizeof order / sizeof *order };
    const uintptr_t *saved = at;

    regs->known = 0;
    for (int i = 0; i < COUNT; i++)
        rt_regs_set(regs, order[i], saved[1 + i]);
    rt_regs_set(regs, RT_REG_SP, sp + (1 + COUNT) * sizeof *saved);
}

void
rt_regs_context(struct rt_regs *regs, const void *ucontext)
{
    static const int    order[RT_REG_COUNT] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                                REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                                REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP };
    const ucontext_t *uc = ucontext;

    regs->known = 0;
    for (int i = 0; i < RT_REG_COUNT; i++)
        rt_regs_set(regs, i, (uintptr_t)uc->uc_mcontext.gregs[order[i]]);
}

#elif defined(__aarch64__)

__attribute__((no_sanitize("address"), no_sanitize("thread"))) void
rt_regs_parked(struct rt_regs *regs, uintptr_t sp, const void *at)
{
    const uintptr_t *saved = at;

    regs->known = 0;
    rt_regs_set(regs, RT_REG_FP, saved[0]);
    rt_regs_set(regs, RT_REG_PC, saved[1]);
    for (int i = 0; i < 10; i++)
        rt_regs_set(regs, 19 + i, saved[2 + i]);
    rt_regs_set(regs, RT_REG_SP, sp + RT_PARKED_SIZE);
}

void
rt_regs_context(struct rt_regs *regs, const void *ucontext)
{
    const ucontext_t *uc = ucontext;

    regs->known = 0;
    for (int i = 0; i <= RT_REG_LR; i++)
        rt_regs_set(regs, i, (uintptr_t)uc->uc_mcontext.regs[i]);
    rt_regs_set(regs, RT_REG_SP, (uintptr_t)uc->uc_mcontext.sp);
    rt_regs_set(regs, RT_REG_PC, (uintptr_t)uc->uc_mcontext.pc);
}

#endif
