#!/bin/bash
#
# units.sh -- run test programs one after another, lowest layer first.
#
# TEST_RUN is put before each: valgrind, an emulator.  Stops at nothing; fails
# if any failed.

status=0
for program in "$@"; do
    # shellcheck disable=SC2086
    ${TEST_RUN-} "$program" || status=1
done
exit $status
