#ifndef BULKHEAD_OBSERVE_CAPTURE_H
#define BULKHEAD_OBSERVE_CAPTURE_H

/*
 * capture.h -- what is noted on the panicking goroutine, and how it reaches the
 * reporter.  See capture.c.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/go/flight.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/tag.h>

#include "ring.h"

enum {
    OB_SLOTS = 64,
    OB_PCS = 128,      /* return addresses of a panic */
    OB_DEFERS = 32,    /* deferred calls whose time is kept */
    OB_CHAIN = 4,      /* panics that this one interrupted */
    OB_HEADERS = 24,   /* fields of the request */
    OB_EVENTS = 64,    /* of the flight recorder, about this goroutine */
    OB_LINES = 1024,   /* lines waiting to be written */
    OB_REQUEST = 2048, /* bytes for texts of the request */
    OB_CHAIN_STEPS = 24, /* of the request's middleware */
    OB_REGISTERS = 33, /* of the processor that has most */
    OB_LOCKS = 8,
};

struct ob_outer {
    uint64_t serial;
    char     kind[32], text[160];
};

/* Texts of the request lie in `room`; offsets into it, 0: "". */
struct ob_request {
    uint64_t id;
    int64_t  age; /* ns, since its head was complete */
    int      version, status;
    bool     secure, has_tcp;
    uint64_t sent;
    int      step_count, step; /* middleware, and which of it was entered last: bh_http_chain */
    const char        *steps[OB_CHAIN_STEPS]; /* static */
    struct bh_conn_tcp tcp;
    uint16_t method, path, host, route, peer;
    uint16_t header_count, headers_left_out;
    struct {
        uint16_t name, value;
    } header[OB_HEADERS];
    uint16_t used;
    char     room[OB_REQUEST];
};

/* Phase 1: written by the panicking goroutine before the slot is READY, then only read. */
struct ob_raised {
    uint64_t               serial, goroutine;
    int64_t                time, mono; /* ns since 1970; CLOCK_MONOTONIC */
    char                   kind[64], text[BH_PANIC_TEXT], file[192];
    int                    line, signal, code;
    bool                   runtime_error, hook_failed;
    bool                   forced; /* whatever the limiter says: nobody recovered it */
    bool                   has_request;
    int                    depth, chain_count, chain_left_out;
    uintptr_t              fault_addr, pc;
    int                    register_count, lock_count;
    uintptr_t              registers[OB_REGISTERS], locks[OB_LOCKS];
    size_t                 stack_used, stack_size;
    uintptr_t              pcs[OB_PCS]; /* innermost first; a 0 where some were left out */
    uint64_t               key;         /* see limiter.c */
    int64_t                capture_ns;
    char                   name[64]; /* of the goroutine */
    struct bh_tag          tag;
    struct ob_outer        chain[OB_CHAIN];
    struct ob_request      request;
    int64_t                now; /* bh_now(), to which the events' times belong */
    int                    event_count;
    struct bh_flight_event event[OB_EVENTS];
};

/* What became of the reply; -1: not known. */
struct ob_reply {
    _Atomic int      known, status, rc;
    _Atomic uint64_t sent;
    _Atomic bool     aborted;
};

/* Phase 2: each field for itself; `OB_DIRTY` in the slot's state says that there is news. */
struct ob_outcome {
    _Atomic int           result; /* enum bh_panic_step; RAISED: not known yet */
    _Atomic bool          contained, lost, hook_failed;
    _Atomic(const char *) by; /* static text, or NULL */
    _Atomic uint64_t      goroutine;
    _Atomic int           defers, repanics;
    _Atomic int64_t       unwind_ns;
    struct {
        _Atomic uintptr_t fn;
        _Atomic int64_t   began, ns; /* ns -1: has not returned */
        _Atomic bool      recovered;
    } defer[OB_DEFERS];
    struct ob_reply reply;
};

/*
 * The states of a slot:
 *
 *     FREE > FILLING > READY > BUSY > KEPT > FILLING, BUSY
 *            (panicking goroutine)  (reporter)
 *
 * KEPT: written, waits for news, and may be taken for a new panic.  OB_DIRTY is set
 * by phase 2, OB_PIN counts who is writing there: neither may be lost, so states
 * change by compare and exchange.
 */
enum ob_slot_state { OB_FREE, OB_FILLING, OB_READY, OB_BUSY, OB_KEPT, OB_STATE = 7 };
enum { OB_DIRTY = 8, OB_PIN = 16 };

struct ob_slot {
    _Alignas(64) _Atomic uint32_t state;
    _Atomic bool      written; /* the reporter has made this panic's report */
    struct ob_raised  raised;
    struct ob_outcome outcome;
    char              id[32]; /* the reporter's: of the report; "" none */
    char              fingerprint[24];
};

/* A panic that gets a line only. */
struct ob_line {
    uint64_t serial, goroutine, fingerprint, key;
    int64_t  time;
    enum { OB_LINE_SUPPRESSED, OB_LINE_NO_SLOT, OB_LINE_LOST } why;
    uint8_t       sampled;
    unsigned char trace_id[16], span_id[8];
    const char   *route; /* static or NULL */
    char          kind[32], text[112];
};

struct ob_capture {
    _Atomic bool     on;
    _Atomic uint32_t work;     /* changes whenever there is something for the reporter */
    _Atomic uint32_t sleeping; /* the reporter waits for that */
    _Atomic uint64_t serial[OB_SLOTS];     /* of each slot's panic; 0: none */
    _Atomic uint64_t step[BH_PANIC_STEPS]; /* events */
    _Atomic uint64_t aborted, hook_failed, suppressed, no_slot, lines_lost;
    _Atomic int64_t  capture_ns, capture_max_ns;
    struct ob_ring   lines;
    struct ob_slot   slot[OB_SLOTS];
};
extern struct ob_capture ob_capture;

/* ob_report_serial -- the panic that a report of this process is about; 0: not known (any more). */
uint64_t ob_report_serial(const char *id);

int64_t ob_now(void);  /* CLOCK_MONOTONIC, ns */
int64_t ob_time(void); /* since 1970, ns */

/* ob_wake -- tell the reporter that there is work. */
void ob_wake(void);

/* ob_slot_move -- change the state, keeping pins; DIRTY is kept unless `clear`.  Returns: the old flags. */
uint32_t ob_slot_move(struct ob_slot *s, uint32_t to, bool clear);

/* A call that this goroutine is in, for whoever captures. */
struct bh_http_call;
struct ob_call {
    struct bh_http_call *call;
    uint64_t             serial; /* of the latest panic in it; 0: none */
};
struct ob_call *ob_call_current(uint64_t goroutine); /* NULL: none */
void            ob_request_note(struct ob_request *r, struct bh_http_call *c);

/* ob_reply_settle -- what became of the reply of the request in which panic `serial` was raised. */
struct ob_reply_news {
    int      status, rc;
    uint64_t sent;
    bool     aborted;
};
void ob_reply_settle(uint64_t serial, const struct ob_reply_news *news);

#endif
