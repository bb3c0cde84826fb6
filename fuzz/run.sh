#!/bin/bash
#
# run.sh -- run fuzzers, two at a time, with one line for each.
#
#     fuzz/run.sh DIRECTORY SECONDS 'NAME [OPTION...]' ...
#
# DIRECTORY holds the programs, and gets what they learn, log and find.  Returns: 0 if
# none found anything.

cd "$(dirname "$0")/.." || exit 2
directory=$1 seconds=$2
shift 2

one() { # 'NAME [OPTION...]'
    local name=${1%% *} options executions
    read -ra options <<<"${1#"$name"}"
    mkdir -p "$directory/$name.corpus"
    "$directory/$name" -max_len=4096 -timeout=5 "${options[@]}" -max_total_time="$seconds" \
        -print_final_stats=1 -artifact_prefix="$directory/$name-" "$directory/$name.corpus" \
        "fuzz/corpus/$name" >"$directory/$name.log" 2>&1
    local status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$directory/$name.log")
    echo "fuzz/$name: ${executions:-0} executions, $((status != 0)) findings"
    [ $status = 0 ] || tail -n 60 "$directory/$name.log"
    return $status
}

failed=0
running=0
for target in "$@"; do
    if [ $running = 2 ]; then
        wait -n || failed=$((failed + 1))
        running=1
    fi
    one "$target" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
done
echo "fuzz: $(($# - failed)) passed, $failed failed"
[ $failed = 0 ]
