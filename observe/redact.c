/*
 * redact.c -- header fields whose values nobody shall read in a report: the usual
 * ones, the options', and any whose name speaks of a secret.
 */

#include "redact.h"

#include <strings.h>

#include "report.h"

bool
ob_redacted(const char *name)
{
    static const char *const names[] = { "authorization", "cookie",          "set-cookie",
                                         "forwarded",     "x-forwarded-for", "x-real-ip" };
    static const char *const words[] = {
        "auth",    "token",      "secret",    "passw", "key",
        "session", "credential", "signature", "jwt",   "csrf"
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasestr(name, words[i]) != NULL)
            return true;
    for (int i = 0; i < ob_settings.redact_count; i++)
        if (strcasecmp(name, ob_settings.redact[i]) == 0)
            return true;
    return false;
}
