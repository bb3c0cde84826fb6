#!/bin/bash
#
# check.sh -- have spin check every interleaving of the models beside it, and
# find the error in every way that a model can be BROKEN.
#
# Needs O, the directory of the build.

here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

command -v spin >/dev/null || { echo "FAIL model: no spin (tools/deps.sh test)"; exit 1; }

# explore MODEL BROKEN: leaves what the checker says in $scratch/said
explore() {
    (cd "$scratch" && rm -f pan* && spin -a -DBROKEN="$2" "$here/$1" >said 2>&1 &&
        "${CC:-cc}" -O2 -DSAFETY -o pan pan.c >>said 2>&1 && timeout 120 ./pan -m100000 >>said 2>&1)
}

# expect WHAT PATTERN
expect() {
    if grep -Eq "$2" "$scratch/said"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL model: $1"
        sed 's/^/    | /' "$scratch/said" | tail -30
    fi
}

explore transfer.pml 0
expect "transfer.pml holds" "errors: 0$"
expect "transfer.pml was explored whole" "^ *[0-9]{4,} states, stored"
if grep -q "max search depth too small" "$scratch/said"; then
    failed=$((failed + 1))
    echo "FAIL model: transfer.pml was cut off"
fi
for broken in 1 2 3 4 5; do
    explore transfer.pml $broken
    expect "transfer.pml, BROKEN=$broken: the error is found" "errors: 1$"
done

echo "model: $passed passed, $failed failed"
[ $failed = 0 ]
