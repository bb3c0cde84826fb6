/* lab.c -- printing, and crashing in a child process.  See lab.h. */

#include "lab.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((format(printf, 2, 0))) static void
print(const char *start, const char *format, va_list args)
{
    char line[512];

    vsnprintf(line, sizeof line, format, args);
    printf("%s: %s\n", start, line);
    fflush(stdout);
}

void
article(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print("the article says", format, args);
    va_end(args);
}

void
truth(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print("true", format, args);
    va_end(args);
}

const char *
text_of(const struct bh_panic *p)
{
    return p != NULL ? bh_panic_text(p) : "nil";
}

/* Addresses differ from run to run: 0x1234 becomes 0xH. */
static void
blank_addresses(char *line)
{
    for (char *hex; (hex = strstr(line, "0x")) != NULL; line = hex + 3) {
        size_t digits = strspn(hex + 2, "0123456789abcdef");

        if (digits == 0)
            return;
        hex[2] = 'H';
        memmove(hex + 3, hex + 2 + digits, strlen(hex + 2 + digits) + 1);
    }
}

static void
print_until_frames(FILE *text)
{
    char line[512];

    while (fgets(line, sizeof line, text) != NULL && line[0] != '\n') {
        line[strcspn(line, "\n")] = '\0';
        blank_addresses(line);
        truth("    %s", line);
    }
    while (fgets(line, sizeof line, text) != NULL)
        continue; /* so that the child is not killed by a closed pipe */
}

void
crash(bh_fn *fn)
{
    int fds[2], status;

    fflush(stdout);
    if (pipe(fds) != 0)
        abort();
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        _exit(bh_main(fn, NULL));
    }
    close(fds[1]);
    FILE *text = fdopen(fds[0], "r");
    if (text == NULL)
        abort();
    print_until_frames(text);
    fclose(text);
    if (waitpid(child, &status, 0) != child)
        abort();
    truth("    exit status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}
