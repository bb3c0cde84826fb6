/*
 * Claim (4.3): runtime.SetPanicHook reports uncaught panics.  It does not exist
 * either.  What exists is a second descriptor for the crash text: Go's
 * debug.SetCrashOutput (1.23), here bh_set_crash_fd.
 */

#include "lab.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int copy;

static void
crash_with_copy(void *unused)
{
    (void)unused;
    bh_set_crash_fd(copy);
    bh_panic("nobody recovers");
}

int
main(void)
{
    char text[4096];

    article("runtime.SetPanicHook reports the panics that nobody recovers");
    truth("Go has no such function; a program that panics unrecovered ends:");
    copy = memfd_create("crash", 0);
    crash(crash_with_copy);
    ssize_t length = pread(copy, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    truth("and its text can be copied to a second descriptor: %s", text);
    return 0;
}
