/*
 * main.c -- bh_report: reads the reports of panics that observe/ writes.
 *
 *     bh_report list FOLDER ...             a line for each report
 *     bh_report show [-1|-2|-3] REPORT ...  one, to read; 3 is everything
 *     bh_report compare REPORT REPORT       the same panic?  what differs?
 *     bh_report merge FOLDER ...            by fingerprint, the most frequent first
 *
 *     -d DIRECTORY    look for programs and .build-id/ of raw reports here too
 *
 * A raw report (bh_report_options.raw) gets its names here, by build id; its
 * fingerprint then is the one it would have had.
 * Exit status: 0; compare: 1 if they are different panics; 1 or 2 for errors.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/go.h>

#include "reports.h"

struct command {
    int    argc, status;
    char **argv;
};

static int
usage(void)
{
    (void)fprintf(stderr, "usage: bh_report list FOLDER ...\n"
                          "       bh_report show [-1|-2|-3] [-d DIRECTORY] REPORT ...\n"
                          "       bh_report compare [-d DIRECTORY] REPORT REPORT\n"
                          "       bh_report merge [-d DIRECTORY] FOLDER ...\n");
    return 2;
}

static int
run(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int         level = 2, option;

    debug_directories[debug_directory_count++] = "/usr/lib/debug";
    optind = 2;
    while (argc > 1 && (option = getopt(argc, argv, "123d:")) != -1) {
        if (option >= '1' && option <= '3')
            level = option - '0';
        else if (option == 'd' && debug_directory_count < DIRECTORIES_MAX)
            debug_directories[debug_directory_count++] = optarg;
        else
            return usage();
    }
    int left = argc - optind;
    if (strcmp(what, "list") == 0 && left > 0)
        return command_list(left, argv + optind);
    if (strcmp(what, "show") == 0 && left > 0)
        return command_show(left, argv + optind, level);
    if (strcmp(what, "merge") == 0 && left > 0)
        return command_merge(left, argv + optind);
    if (strcmp(what, "compare") == 0 && left == 2)
        return command_compare(argv[optind], argv[optind + 1]);
    return usage();
}

static void
run_command(void *args)
{
    struct command *c = args;

    arena = bh_arena_new(0);
    c->status = run(c->argc, c->argv);
    bh_arena_free(arena);
}

int
main(int argc, char **argv)
{
    struct command c = { argc, 2, argv };

    /* Reports are read on the main goroutine: the JSON reader panics without memory. */
    int rc = bh_main_with(&(struct bh_options){ .procs = 1, .stack_size = 1 << 20 },
                          run_command, &c);

    return rc != 0 ? 2 : c.status;
}
