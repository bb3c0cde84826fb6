/*
 * transfer.pml -- runtime/transfer.c as a model, for spin: a panic that is claimed
 * at most once, and handled or lost, whatever the order of things.
 *
 * One child, who may panic; CLAIMERS goroutines, each with a reference, who ask (or do not) and,
 * if the panic is theirs, deal with it (or go down first).  A step here is one atomic operation
 * there; what lies between two is private to its process.
 *
 *     spin -a transfer.pml && cc -O2 -o pan pan.c && ./pan
 *
 * BROKEN=1..5 takes out one of the things that make it right, and must give an error:
 *
 *     1  a claim is a load and a store         2  the count goes down in two steps
 *     3  done is closed before the state is published
 *     4  claimed but not handled is not lost   5  the child gives up its reference first
 *
 * Memory is sequentially consistent here.  In C the state is published with release order and
 * read with acquire, the count goes down with both.
 */

#ifndef CLAIMERS
#define CLAIMERS 3
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

mtype = { running, clean, unhandled, claimed, handled };

mtype state = running;
bool  done = false;     /* the channel is closed */
bool  written = false;  /* text and stack are there */
bool  panicked = false;
bool  freed = false;
byte  refs = 1 + CLAIMERS;

/* What happened, for the assertions. */
byte claims = 0;
byte handles = 0;
byte reports = 0;

#define ALIVE assert(!freed)

inline unref(left)
{
#if BROKEN == 2
    atomic { ALIVE; left = refs }
    atomic { ALIVE; refs = left - 1 }
    left = left - 1;
#else
    atomic { ALIVE; refs--; left = refs }
#endif
    if
    :: left == 0 ->
        atomic {
            ALIVE;
            if
#if BROKEN == 4
            :: panicked && state == unhandled -> reports++; assert(written)
#else
            :: panicked && state != handled -> reports++; assert(written)
#endif
            :: else
            fi
        }
        atomic { ALIVE; freed = true }
    :: else
    fi
}

/* is_mine = compare and swap of unhandled against claimed */
inline poll(is_mine)
{
#if BROKEN == 1
    atomic { ALIVE; is_mine = (state == unhandled) }
    if
    :: is_mine -> atomic { ALIVE; state = claimed }
    :: else
    fi
#else
    atomic {
        ALIVE;
        is_mine = (state == unhandled);
        if
        :: is_mine -> state = claimed
        :: else
        fi
    }
#endif
    if
    :: is_mine -> atomic { ALIVE; claims++; assert(claims == 1 && written && reports == 0) }
    :: else
    fi
}

proctype child()
{
    byte left;

    if
    :: panicked = true; written = true /* rt_transfer_take, on the panicking stack */
    :: skip
    fi;
#if BROKEN == 5
    unref(left);
#endif
#if BROKEN == 3
    atomic { ALIVE; done = true }
#endif
    /* rt_transfer_end */
    atomic {
        ALIVE;
        assert(state == running);
        if
        :: panicked -> state = unhandled
        :: else -> state = clean
        fi
    }
#if BROKEN != 3
    atomic { ALIVE; done = true }
#endif
#if BROKEN != 5
    unref(left)
#endif
}

proctype claimer()
{
    byte left;
    bool is_mine = false;

    if
    :: poll(is_mine)                /* at any time */
    :: done ->                      /* bh_panic_ctx_join, or a select */
        atomic { ALIVE; assert(state != running) }
        poll(is_mine)
    :: skip                         /* never asks */
    fi;
    if
    :: is_mine ->
        if
        :: atomic { ALIVE; assert(state == claimed); state = handled; handles++ }
        :: skip                     /* goes down before it has dealt with it */
        fi
    :: else
    fi;
    unref(left)
}

init {
    byte i;

    atomic {
        run child();
        for (i : 1 .. CLAIMERS) {
            run claimer()
        }
    }
    (_nr_pr == 1);
    assert(freed && refs == 0);
    assert(claims <= 1);
    if
    :: panicked -> assert(handles + reports == 1)   /* handled or lost: once, never both */
    :: else -> assert(claims == 0 && reports == 0)
    fi
}
