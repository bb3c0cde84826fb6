#!/bin/bash
#
# run.sh -- our HTTP server and its peers, same machine, same run.
#
#     run.sh DIRECTORY        where hello, floor, idle, go_http and h2o_http were built
#     SECONDS=3 RUNS=5 WORKLOADS="hello_64 json" RATE=20000 IDLE=10000 ONLY="ours floor"
#
# The server runs on CPU 0, the load on CPU 1.  The figure is CPU time per request: user and
# system time of the server's processes from /proc, divided by the replies that
# came.  Servers take turns, since a machine has slow and fast seconds: the ratio is
# the median of the ratios of single rounds.  Ends with rows, tab-separated:
#
#     metric  ours  peer  peer's name  ratio  target  ok|short

set -u
bin=$1
seconds=${BENCH_SECONDS:-3} runs=${RUNS:-5} idle=${IDLE:-10000} rate=${RATE:-20000}
workloads=${WORKLOADS:-hello_64 hello_512 json h2 tls tls_new tls_file file_1k file_100k}
only=${ONLY:-ours full floor h2o nginx go}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
hertz=$(getconf CLK_TCK)
declare -A port=([ours]=18801 [full]=18802 [floor]=18803 [h2o]=18804 [nginx]=18805 [go]=18806)
declare -A pid=()

finish() {
    for name in "${!pid[@]}"; do kill "${pid[$name]}" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
ulimit -n "$(ulimit -Hn)"

start() { # NAME
    local p=${port[$1]} t=$((${port[$1]} + 100)) pair="$work/cert.pem $work/key.pem"
    case $1 in
    ours) set -- "$1" "$bin/hello" plain "127.0.0.1:$p" "$work/static" "127.0.0.1:$t" $pair ;;
    full) set -- "$1" "$bin/hello" full "127.0.0.1:$p" ;;
    floor) set -- "$1" "$bin/floor" "$p" ;;
    h2o) set -- "$1" "$bin/h2o_http" "$p" "$t" $pair ;;
    go) set -- "$1" env GOMAXPROCS=1 "$bin/go_http" "$p" "$t" $pair ;;
    nginx)
        sed "s|@WORK@|$work|g; s|@PORT@|$p|g; s|@TLSPORT@|$t|g" "$here/nginx.conf" >"$work/nginx.conf"
        set -- "$1" nginx -p "$work" -c "$work/nginx.conf" -e "$work/nginx.log"
        ;;
    esac
    local name=$1
    shift
    taskset -c 0 "$@" >"$work/$name.out" 2>&1 &
    pid[$name]=$!
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null && return
        sleep 0.05
    done
    echo "bench: $name did not start:" >&2
    cat "$work/$name.out" >&2
    exit 1
}

stop() { # NAME
    kill "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null
    unset "pid[$1]"
}

tree() { # NAME: its process and their children
    echo "${pid[$1]}"
    pgrep -P "${pid[$1]}"
}

ticks() { # NAME: of user and system time
    local p total=0
    for p in $(tree "$1"); do
        set -- "$1" $(sed 's/.*) //' "/proc/$p/stat")
        total=$((total + ${13} + ${14}))
    done
    echo $total
}

# One workload: who takes part, and what loads them.  TLS is at the port plus 100.  The
# command says "N requests in ..." as wrk does.
servers() { # WORKLOAD
    case $1 in
    json) echo "ours h2o go" ;;
    file_* | tls_file) echo "ours nginx" ;;
    h2 | tls*) echo "ours h2o nginx go" ;;
    *) echo "ours full floor h2o nginx go" ;;
    esac
}

command_of() { # WORKLOAD PORT SECONDS
    case $1 in
    hello_*) wrk -t1 -c"${1#hello_}" -d"$3s" "http://127.0.0.1:$2/hello" ;;
    h2) h2load -D"$3" -c8 -m100 "https://127.0.0.1:$(($2 + 100))/hello" |
        awk '/^requests:/ { print $8, "requests in", $0 }' ;;
    tls) wrk -t1 -c64 -d"$3s" "https://127.0.0.1:$(($2 + 100))/hello" ;;
    tls_new) wrk -t1 -c16 -d"$3s" -H "Connection: close" "https://127.0.0.1:$(($2 + 100))/hello" ;;
    tls_file) wrk -t1 -c16 -d"$3s" "https://127.0.0.1:$(($2 + 100))/static/100k.txt" ;;
    json) wrk -t1 -c64 -d"$3s" -s "$here/json.lua" "http://127.0.0.1:$2/echo" ;;
    file_*) wrk -t1 -c64 -d"$3s" "http://127.0.0.1:$2/static/${1#file_}.txt" ;;
    esac
}

load() { # WORKLOAD NAME SECONDS: prints microseconds per request
    local before after replies
    before=$(ticks "$2")
    (taskset -p -c 1 $BASHPID && command_of "$1" "${port[$2]}" "$3") >"$work/load" 2>&1
    after=$(ticks "$2")
    replies=$(awk '/requests in/ { print $1 }' "$work/load")
    if grep -qE 'Non-2xx|Socket errors' "$work/load"; then
        echo "bench: $2:" $(grep -E 'Non-2xx|Socket errors' "$work/load") >&2
    fi
    echo "$before $after ${replies:-0} $hertz" |
        awk '$3 > 0 { printf "%.3f\n", ($2 - $1) * 1e6 / $4 / $3 }'
}

mkdir "$work/static"
chmod 755 "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl" || { cat "$work/openssl"; exit 1; }
head -c 1024 /dev/zero | tr '\0' x >"$work/static/1k.txt"
head -c 102400 /dev/zero | tr '\0' x >"$work/static/100k.txt"
for name in $only; do
    start "$name"
    load hello_64 "$name" 1 >/dev/null
done
for workload in $workloads; do
    for run in $(seq "$runs"); do
        echo "bench: $workload, run $run of $runs" >&2
        for name in $(servers "$workload"); do
            case " $only " in *" $name "*) ;; *) continue ;; esac
            printf '%s\t%s_us\t%s\t%s\n' "$name" "$workload" "$(load "$workload" "$name" "$seconds")" "$run"
        done
    done
done >"$work/results"
# The time of the slowest hundredth at a constant rate, if that is wanted.
for run in $([ "$rate" -gt 0 ] && seq "$runs"); do
    echo "bench: $rate requests a second, run $run of $runs" >&2
    for name in ours h2o nginx go; do
        case " $only " in *" $name "*) ;; *) continue ;; esac
        taskset -c 1 "$bin/rate" "${port[$name]}" /hello "$rate" "$seconds" 64 |
            awk -F'\t' -v who="$name" -v run="$run" '{ print who "\trate_p99_us\t" $2 "\t" run }'
    done
done >>"$work/results"
for name in $only; do stop "$name"; done

if [ "$idle" -gt 0 ]; then
    for name in $only; do
        case $name in floor | full) continue ;; esac
        echo "bench: $idle idle connections: $name" >&2
        start "$name"
        "$bin/idle" "${port[$name]}" "$idle" $(tree "$name") |
            awk -F'\t' -v who="$name" '{ print who "\tidle_bytes\t" $1; print who "\tidle_kept_bytes\t" $2 }'
        stop "$name"
    done >>"$work/results"
fi

awk -F'\t' '
function median(list, n,    i, j, x) {
    for (i = 2; i <= n; i++) {
        x = list[i]
        for (j = i - 1; j >= 1 && list[j] > x; j--) list[j + 1] = list[j]
        list[j + 1] = x
    }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}
function middle(who, metric,    list, n, i) {
    for (i in runs) if ((who, metric, i) in value) list[++n] = value[who, metric, i]
    return n ? median(list, n) : ""
}
function ratio_of(us, peer, metric,    list, n, i) {
    for (i in runs)
        if ((us, metric, i) in value && value[peer, metric, i] > 0)
            list[++n] = value[us, metric, i] / value[peer, metric, i]
    return n ? median(list, n) : ""
}
function row(label, us, metric, peer, limit, absolute,    mine, theirs, ratio, good) {
    mine = middle(us, metric)
    theirs = middle(peer, metric)
    if (mine == "" || (theirs == "" && !absolute)) return
    ratio = ratio_of(us, peer, metric)
    good = limit == "" || (absolute ? mine : ratio) <= limit
    printf "%s\t%.4g\t%s\t%s\t%s\t%s\t%s\n", label, mine, theirs == "" ? "-" : sprintf("%.4g", theirs),
        theirs == "" ? "-" : peer, ratio == "" ? "-" : sprintf("%.2f", ratio),
        limit == "" ? "-" : (absolute ? "<=" limit : limit "x"), good ? "ok" : "short"
}
$3 != "" { value[$1, $2, $4] = $3 + 0; runs[$4] }
END {
    print "metric\tours\tpeer\tname\tratio\ttarget\tverdict"
    for (c = 64; c <= 512; c += 448) {
        m = "hello_" c "_us"
        row(m, "ours", m, "floor", 1.10)
        row(m, "ours", m, "h2o", 1.0)
        row(m, "ours", m, "nginx", 1.0)
        row(m, "ours", m, "go", 0.55)
        row("middlewares_" c "_us", "full", m, "floor", 1.25)
        row("middlewares_" c "_us", "full", m, "go", "")
    }
    row("json_us", "ours", "json_us", "h2o", 1.1)
    row("json_us", "ours", "json_us", "go", 0.6)
    row("http2_us", "ours", "h2_us", "h2o", 1.1)
    row("http2_us", "ours", "h2_us", "nginx", "")
    row("http2_us", "ours", "h2_us", "go", "")
    row("tls_us", "ours", "tls_us", "h2o", 1.1)
    row("tls_us", "ours", "tls_us", "nginx", "")
    row("tls_us", "ours", "tls_us", "go", "")
    row("tls_handshake_us", "ours", "tls_new_us", "h2o", 1.1)
    row("tls_handshake_us", "ours", "tls_new_us", "nginx", "")
    row("tls_handshake_us", "ours", "tls_new_us", "go", "")
    row("tls_100k_us", "ours", "tls_file_us", "nginx", 1.1)
    row("file_1k_us", "ours", "file_1k_us", "nginx", 1.10)
    row("file_100k_us", "ours", "file_100k_us", "nginx", 1.10)
    row("p99_at_rate_us", "ours", "rate_p99_us", "nginx", 1.0)
    row("p99_at_rate_us", "ours", "rate_p99_us", "h2o", "")
    row("p99_at_rate_us", "ours", "rate_p99_us", "go", "")
    row("idle_bytes", "ours", "idle_bytes", "nginx", 512, 1)
    row("idle_bytes", "ours", "idle_bytes", "h2o", "")
    row("idle_bytes", "ours", "idle_bytes", "go", "")
    row("idle_kept_bytes", "ours", "idle_kept_bytes", "nginx", "")
    row("idle_kept_bytes", "ours", "idle_kept_bytes", "h2o", "")
    row("idle_kept_bytes", "ours", "idle_kept_bytes", "go", "")
}' "$work/results"
