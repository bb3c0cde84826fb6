#!/bin/bash
#
# test.sh -- what gdb shows of target.c's goroutines, alive and in a core file.
#
#     test/gdb/test.sh BUILD/test/gdb/target

target=$(realpath "$1")
script=$(dirname "$0")/../../tools/gdb/bulkhead-gdb.py
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

# expect WHAT FILE PATTERN: a line of the file matches (grep -P, the file as one line for (?s))
expect() {
    if grep -Pzq "$3" "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL gdb: $1"
        echo "    no /$3/ in:"
        sed 's/^/    | /' "$2"
    fi
}

command -v gdb >/dev/null || { echo "test-gdb: no gdb (tools/deps.sh test)"; exit 1; }
gdb=(timeout 120 gdb -nx -batch -q -iex 'set debuginfod enabled off' -ex 'set pagination off' -ex 'set width 0')

"${gdb[@]}" -ex 'handle SIGSEGV nostop noprint pass' -ex 'break look_here' -ex run \
    -ex "source $script" \
    -ex 'echo ==list\n' -ex 'info goroutines' \
    -ex 'echo ==receiver\n' -ex 'goroutine 2 bt' \
    -ex 'echo ==local\n' -ex 'goroutine 2' -ex 'up' -ex 'up' -ex 'up' -ex 'up' -ex 'up' -ex 'info frame' -ex 'goroutine 0' \
    -ex 'echo ==self\n' -ex 'goroutine 1 bt' -ex 'echo ==plain\n' -ex bt \
    -ex 'echo ==spinner\n' -ex 'goroutine 4 bt' \
    -ex 'echo ==all\n' -ex 'goroutine all bt 3' \
    -ex continue -ex 'echo ==qsort\n' -ex bt \
    -ex continue -ex 'echo ==fault\n' -ex bt \
    -ex 'echo ==end\n' -ex 'delete' -ex continue \
    "$target" >"$scratch/live" 2>&1

# gdb's own generate-core-file cannot read past guard pages; the kernel can.
core=$scratch/core
(ulimit -c unlimited; cd "$scratch" && BH_TRACEBACK=crash "$target" die; :) >"$scratch/panic" 2>&1
case $(cat /proc/sys/kernel/core_pattern) in
core) [ -e "$core" ] || mv "$core".[0-9]* "$core" ;; # kernel.core_uses_pid
*) echo "test-gdb: core files go elsewhere on this machine (kernel.core_pattern): not looked at" ;;
esac
[ -e "$core" ] &&
"${gdb[@]}" "$target" "$core" -ex "source $script" \
    -ex 'echo ==list\n' -ex 'info goroutines' \
    -ex 'echo ==receiver\n' -ex 'goroutine 2 bt' \
    -ex 'echo ==self\n' -ex 'goroutine 1 bt' \
    -ex 'echo ==none\n' -ex 'goroutine 99 bt' >"$scratch/dead" 2>&1

# section FILE NAME: from ==NAME to the next ==
section() {
    awk -v name="==$2" '/^==/ { on = $0 == name } on' "$scratch/$1" >"$scratch/$1.$2"
    echo "$scratch/$1.$2"
}

kinds=live
[ -e "$core" ] && kinds="live dead"
for kind in $kinds; do
    list=$(section $kind list)
    expect "$kind: main runs where it stopped" "$list" '1 +running +(look_here|start) at'
    expect "$kind: receiver waits in the application's frame, with its name" "$list" \
        '2 +chan receive +receive_deep at [^\n]*target\.c:\d+  \(receiver\)'
    expect "$kind: sleeper" "$list" '3 +sleep +(bh_sleep|sleeper) at'
    expect "$kind: spinner runs" "$list" '4 +running +spinner at'
    expect "$kind: backtrace of a parked goroutine crosses the switch, to its entry" \
        "$(section $kind receiver)" \
        '#0 [^\n]*\n(?s:.*)#\d+[^\n]* bh_chan_recv (?s:.*)#\d+[^\n]* receive_deep \(depth=(0|depth@entry=0|<optimized out>)(?s:.*)#\d+[^\n]* receiver (?s:.*)#\d+[^\n]* enter_goroutine [^\n]*\n\n?$'
done
expect "a goroutine can be selected" "$(section live local)" 'receive_deep|receiver|bh_chan_recv'
expect "a running goroutine's backtrace is its thread's" "$(section live self)" \
    '#0[^\n]* look_here (?s:.*) start (?s:.*) enter_goroutine '
expect "the thread is itself again afterwards" "$(section live plain)" '#0[^\n]* look_here '
expect "a goroutine on another thread" "$(section live spinner)" '#0[^\n]* spinner (?s:.*) enter_goroutine '
expect "all at once" "$(section live all)" 'Goroutine 2 \(chan receive\):(?s:.*)Goroutine 3 \(sleep\):'
expect "through a callback of qsort" "$(section live qsort)" \
    ' look_here (?s:.*) compare (?s:.*) start (?s:.*) enter_goroutine '
expect "from a deferred call through the panic and the fault to the entry" "$(section live fault)" \
    ' look_here (?s:.*) deferred (?s:.*) rt_panic_fault (?s:.*) fault (?s:.*) start (?s:.*) enter_goroutine '
expect "no unwinding error" "$(section live fault)" '^(?!(?s:.*)(corrupt stack|Backtrace stopped))'
expect "the program goes on and ends" "$(section live end)" 'exited normally'
[ "$kinds" = live ] || expect "a number that does not exist" "$(section dead none)" 'no goroutine 99'

echo "test-gdb: $passed passed, $failed failed"
[ $failed = 0 ]
