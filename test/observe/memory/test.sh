#!/bin/sh
# test.sh -- build program.c in two ways, and have Go's pprof read what it writes.

O=${O:-build/gcc}
programs="$O/test/observe/memory/static $O/test/observe/memory/shared"

# shellcheck disable=SC2086  # words
${MAKE:-make} --no-print-directory -s O="$O" $programs || exit 1
# shellcheck disable=SC2086
exec "$(dirname "$0")/check.py" $programs
