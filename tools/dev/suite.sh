#!/bin/bash
#
# suite.sh -- make each of the given targets, and add up what they report.
#
#     suite.sh make O=build/gcc target ...
#
# A target reports lines "NAME: N passed, N failed"; conformance reports "N same,
# N differ, N not applicable".  One that fails without having reported a failure
# counts as one.  The last line printed is the sum, "N passed, N failed".

make=()
while [ $# -gt 0 ]; do
    make+=("$1")
    shift
    case "${make[-1]}" in O=*) break ;; esac
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
red=()

for target in "$@"; do
    echo "== $target"
    "${make[@]}" --no-print-directory "$target" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    read -r p f < <(awk '
        match($0, /[0-9]+ passed, [0-9]+ failed$/) { split(substr($0, RSTART), n, /[^0-9]+/); p += n[1]; f += n[2] }
        match($0, /[0-9]+ same, [0-9]+ differ/) { split(substr($0, RSTART), n, /[^0-9]+/); p += n[1] }
        END { print p + 0, f + 0 }' "$log")
    [ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$f" = 0 ] || red+=("$target")
    passed=$((passed + p))
    failed=$((failed + f))
done

[ ${#red[@]} = 0 ] || echo "failed in: ${red[*]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
