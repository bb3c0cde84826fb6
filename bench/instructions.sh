#!/bin/bash
#
# instructions.sh -- instructions of each operation that observing adds, held against a budget.
#
#     instructions.sh TARGETS PROGRAM
#
# Valgrind counts, thread by thread; goroutines run on the second (instructions.c).  Of a
# FEW and of MANY operations the difference is taken: what only happens once is in both.
# Ends with rows as run.sh has them, tab-separated, in which the metrics end in
# _instructions, and a line for the suite.  Fails if anything is over its budget.

set -u
targets=$1 program=$2
few=1000 many=5000
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

count() { # OPERATION TIMES -- the second thread's instructions
    valgrind -q --tool=callgrind --separate-threads=yes --callgrind-out-file="$counts/out" \
        "$program" "$1" "$2" 2>"$counts/err" || sed 's/^/    | /' "$counts/err" >&2
    awk '/^totals:/ { print $2 }' "$counts/out-02"
    rm -f "$counts"/out*
}

for operation in $(awk '!/^#/ { print $2; print $3 }' "$targets" | sort -u); do
    echo "bench: instructions: $operation" >&2
    echo "$operation $(count "$operation" $few) $(count "$operation" $many)" >>"$counts/all"
done

awk -v operations=$((many - few)) '
    NR == FNR { if (NF == 3) each[$1] = ($3 - $2) / operations; next }
    FNR == 1 { print "metric\tours\tpeer\tname\tratio\ttarget\tverdict" }
    /^#/ { next }
    {
        budget = substr($5, 3) + 0
        ours = ($2 in each) && ($3 in each) ? (each[$2] - each[$3]) / $4 : 0
        good = ours > 0 && ours <= budget # nothing: it was not counted
        good ? passed++ : failed++
        printf "%s_instructions\t%.4g\t-\t-\t-\t%s\t%s\n", $1, ours, $5, good ? "ok" : "short"
    }
    END {
        printf "instructions: %d passed, %d failed\n", passed, failed
        exit failed > 0 || passed == 0
    }' "$counts/all" "$targets"
