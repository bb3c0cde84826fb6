/*
 * snippet.c -- a few lines of source, if they can be had: where the program was
 * compiled is mostly not where it runs.
 *
 * The file is read through a window, so a large one costs time and no memory; lines
 * longer than a screen are cut.
 */

#include "report.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 4 * 1024 * 1024, WINDOW = 16 * 1024 };

static bool
allowed(const char *file)
{
    if (file[0] != '/' || strstr(file, "/../") != NULL)
        return false;
    for (int i = 0; i < ob_settings.source_count; i++) {
        size_t n = strlen(ob_settings.source[i]);

        if (strncmp(file, ob_settings.source[i], n) == 0 && (n == 0 || file[n] == '/'))
            return true;
    }
    return ob_settings.source_count < 0;
}

static int
open_source(const char *file)
{
    struct stat st;
    int         fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

int
ob_snippet(const char *file, int line, int *first,
           char lines[OB_SNIPPET_LINES][OB_SNIPPET_WIDTH])
{
    static char window[WINDOW];
    int         fd = allowed(file) ? open_source(file) : -1, at = 1, count = 0;
    size_t      width = 0;

    if (fd < 0)
        return 0;
    *first = line > OB_SNIPPET ? line - OB_SNIPPET : 1;
    for (ssize_t n; at <= line + OB_SNIPPET && (n = read(fd, window, sizeof window)) > 0;)
        for (ssize_t i = 0; i < n && at <= line + OB_SNIPPET; i++) {
            if (at >= *first && width == 0 && count == at - *first)
                lines[count++][0] = '\0';
            if (window[i] == '\n') {
                at++;
                width = 0;
            } else if (at >= *first && width < OB_SNIPPET_WIDTH - 1) {
                lines[count - 1][width++] = window[i] == '\t' ? ' ' : window[i];
                lines[count - 1][width] = '\0';
            }
        }
    (void)close(fd);
    return count > line - *first ? count : 0;
}
