#!/bin/bash
#
# run.sh -- run our program and its peers in turn, and compare the medians.
#
#     run.sh TARGETS OURS [NAME=PROGRAM ...]      BENCH_RUNS=5  BENCH_ONLY="yield spawn"
#
# The first peer is the one that targets like 0.35x refer to; any other is
# expected to be slower than us.  Each program is given a test's name and prints
# "metric<TAB>value"; one that does not know the test is left out of its rows.
# Ends with rows, tab-separated:
#
#     metric  ours  peer  peer's name  ratio  target  ok|short

set -u
targets=$1 ours=$2
shift 2
runs=${BENCH_RUNS:-5}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

measure() { # NAME PROGRAM TEST
    local output
    output=$(timeout 300 "$2" "$3" 2>"$results.err") || {
        [ $? = 2 ] && [ "$1" != ours ] && grep -q usage "$results.err" || {
            echo "bench: $2 $3 failed" >&2
            sed 's/^/    | /' "$results.err" | head -20 >&2
        }
        return
    }
    awk -F'\t' -v who="$1" 'NF == 2 { print who "\t" $1 "\t" $2 }' <<<"$output" >>"$results"
}

tests=$(awk '!/^#/ && $1 != "-" { print $1 }' "$targets")
for run in $(seq "$runs"); do
    for test in ${BENCH_ONLY:-$tests}; do
        echo "bench: run $run of $runs: $test" >&2
        measure ours "$ours" "$test"
        for peer in "$@"; do
            measure "${peer%%=*}" "${peer#*=}" "$test"
        done
    done
done
rm -f "$results.err"

sort -t'	' -k1,1 -k2,2 -k3,3g "$results" | awk -F'\t' -v peers="$*" -v targets="$targets" '
function finish() { # the median of what was collected for one program and metric
    if (count)
        median[key] = count % 2 ? v[(count + 1) / 2] : (v[count / 2] + v[count / 2 + 1]) / 2
    count = 0
}
function row(metric, target, name,    mine, theirs, ratio, good, limit) {
    mine = median["ours", metric]
    theirs = (name, metric) in median ? median[name, metric] : ""
    ratio = theirs != "" && theirs > 0 ? mine / theirs : ""
    limit = target
    gsub(/[<>=x]/, "", limit)
    limit += 0
    if (target == "-") good = 1
    else if (target ~ /^<=/) good = mine <= limit
    else if (target ~ /^>=/) good = mine >= limit
    else good = ratio != "" && ratio <= limit
    printf "%s\t%.4g\t%s\t%s\t%s\t%s\t%s\n", metric, mine, theirs == "" ? "-" : sprintf("%.4g", theirs),
        theirs == "" ? "-" : name, ratio == "" ? "-" : sprintf("%.2f", ratio), target, good ? "ok" : "short"
}
($1 SUBSEP $2) != key { finish(); key = $1 SUBSEP $2 }
{ v[++count] = $3 }
END {
    finish()
    n = split(peers, peer, " ")
    for (i = 1; i <= n; i++) sub(/=.*/, "", peer[i])
    peer[0] = "ours"
    for (i = 0; i <= n; i++)
        if ((peer[i], "forkjoin_2p_ms") in median && (peer[i], "forkjoin_1p_ms") in median)
            median[peer[i], "forkjoin_speedup"] = median[peer[i], "forkjoin_1p_ms"] / median[peer[i], "forkjoin_2p_ms"]
    print "metric\tours\tpeer\tname\tratio\ttarget\tverdict"
    while ((getline line < targets) > 0) {
        if (line ~ /^#/) continue
        split(line, f, " ")
        if (!(("ours", f[2]) in median)) {
            if (f[3] != "-" && !only) printf "%s\t-\t-\t-\t-\t%s\tshort\n", f[2], f[3]
            continue
        }
        row(f[2], f[3], peer[1])
        for (i = 2; i <= n; i++)
            if ((peer[i], f[2]) in median && f[2] != "forkjoin_speedup")
                row(f[2], "1x", peer[i])
    }
}' only="${BENCH_ONLY-}"
