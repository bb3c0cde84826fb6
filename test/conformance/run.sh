#!/bin/bash
# run.sh -- run every twin in a process of its own and compare it with Go's text.
#
#   run.sh PROGRAM [ID PREFIX]      prints the table; status 1 if a case differs
#                                   without a reason in differs.txt
#
# Compared: exit status, descriptor 1, and descriptor 2 up to the first
# goroutine's frames, with addresses and goroutine numbers blanked.
#
#   expected/core.txt, web-m.txt    what Go 1.19.8 printed
#   expected/newer.txt              what a newer Go prints instead
#   expected/also.txt               the other outcomes of cases that vary
#   expected/ours.txt               ours, where differs.txt gives the reason
#   expected/traced.txt             cases whose goroutine headers count as well
#   not_applicable.txt              ID <tab> reason
#   differs.txt                     ID <tab> ADR <tab> reason
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
prefix=${2-}
limit=${CONFORMANCE_TIMEOUT:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
unset BH_TRACEBACK

blank() {
    sed -E -e 's/0x[0-9a-f]+/0xH/g' -e 's/goroutine [0-9]+/goroutine N/g' \
        -e 's/^(PC=0xH) m=[0-9]+/\1 m=M/' -e 's/^[0-9/]+ [0-9:]+ /TIME /'
}

one() { # name env
    (cd "$work" && ulimit -c 0 && env ${2:+"$2"} timeout -k 2 "$limit" "$program" "$1" \
        >out 2>err </dev/null) 2>/dev/null
    local status=$?
    echo "=== $1"
    echo "exit: $status"
    sed 's/^/| /' "$work/out"
    blank <"$work/err" | head -200 | sed 's/^/! /'
}

"$program" -list >"$work/list" || exit 1
while IFS=$'\t' read -r name env; do
    case $name in "$prefix"*) one "$name" "$env" ;; esac
done <"$work/list" >"$work/got"

awk -v prefix="$prefix" -f "$here/table.awk" \
    from=go "$here/expected/core.txt" "$here/expected/web-m.txt" \
    from=newer "$here/expected/newer.txt" from=also "$here/expected/also.txt" \
    from=ours "$here/expected/ours.txt" from=traced "$here/expected/traced.txt" \
    from=absent "$here/not_applicable.txt" from=reason "$here/differs.txt" \
    from=got "$work/got"
