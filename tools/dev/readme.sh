#!/bin/sh
#
# readme.sh -- the first C example of README.md is examples/01_survive.c, line for line.

cd "$(dirname "$0")/../.." || exit 2
awk '/^```c$/ && !seen { inside = seen = 1; next } /^```$/ { inside = 0 } inside' README.md |
    diff -u examples/01_survive.c - >/dev/null || {
    echo "FAIL README.md's example differs from examples/01_survive.c"
    echo "readme: 0 passed, 1 failed"
    exit 1
}
echo "readme: 1 passed, 0 failed"
