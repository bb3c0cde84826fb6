#!/bin/bash
#
# observe_request.sh -- CPU time of a request, nobody looking and everything on.
#
#     observe_request.sh OBSERVE_SERVER         BENCH_RUNS=5 BENCH_SECONDS=3
#
# The server runs on CPU 0, the load and a collector on CPU 1.  The ratio is the median of the
# ratios of single rounds, each with its own plain one.  Ends with rows, tab-separated:
#
#     metric  ours  peer  peer's name  ratio  target  ok|short

set -u
server=$1
runs=${BENCH_RUNS:-5} seconds=${BENCH_SECONDS:-3}
results=$(mktemp)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -f "$results"' EXIT
trap 'exit 1' INT TERM
hertz=$(getconf CLK_TCK)

await() { # PORT
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "bench: nothing listens on port $1" >&2
    exit 1
}

ticks() { # PID
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

taskset -c 1 "$server" sink 18950 - &
pids+=($!)
await 18950

measure() { # MODE
    local pid before after count
    taskset -c 0 "$server" "$1" 18951 http://127.0.0.1:18950 &
    pid=$!
    pids+=("$pid")
    await 18951
    taskset -c 1 wrk -t1 -c64 -d1s http://127.0.0.1:18951/hello >/dev/null
    before=$(ticks "$pid")
    count=$(taskset -c 1 wrk -t1 -c64 -d"${seconds}s" http://127.0.0.1:18951/hello | awk '/requests in/ { print $1 }')
    after=$(ticks "$pid")
    kill "$pid"
    wait "$pid" 2>/dev/null
    awk -v mode="$1" -v run="$2" -v n="$count" -v t=$((after - before)) -v hz="$hertz" \
        'BEGIN { printf "%s\t%d\t%.4f\n", mode, run, t / hz * 1e6 / n }' >>"$results"
}

for run in $(seq "$runs"); do
    echo "bench: run $run of $runs: request" >&2
    for mode in plain never tenth always logged; do
        measure $mode "$run"
    done
done

awk -F'\t' '
    function median(list, n,    i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
        return list[int((n + 1) / 2)]
    }
    { us[$1, $2] = $3; if ($2 > runs) runs = $2 }
    function row(mode, target,    i, r, p, d, x, ratio, more) {
        for (i = 1; i <= runs; i++) { r[i] = us[mode, i] / us["plain", i]; d[i] = (us[mode, i] - us["plain", i]) * 1000; p[i] = us["plain", i]; x[i] = us[mode, i] }
        ratio = median(r, runs); more = median(d, runs)
        printf "request_%s_us\t%.3f\t%.3f\tplain\t%.3f\t%s\t%s\n", mode, median(x, runs), median(p, runs), ratio, "-", "-"
        printf "request_%s_more_ns\t%.0f\t-\t-\t-\t%s\t%s\n", mode, more, target ? "<=" target : "-", !target ? "-" : more <= target ? "ok" : "short"
    }
    END {
        print "metric\tours\tpeer\tname\tratio\ttarget\tverdict"
        row("never", 600); row("tenth", 600); row("always", 600); row("logged", 0)
        # At 100,000 requests a second a processor has 10 us for each.
        for (i = 1; i <= runs; i++) { a[i] = (us["always", i] - us["plain", i]) / 10 * 100; t[i] = (us["tenth", i] - us["never", i]) / 10 * 100 }
        printf "always_percent_of_10_us\t%.2f\t-\t-\t-\t<=5\t%s\n", median(a, runs), median(a, runs) <= 5 ? "ok" : "short"
        printf "tenth_over_never_percent_of_10_us\t%.2f\t-\t-\t-\t<=1\t%s\n", median(t, runs), median(t, runs) <= 1 ? "ok" : "short"
    }' "$results"
