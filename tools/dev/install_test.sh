#!/bin/bash
#
# install_test.sh -- install into a scratch tree, move it, and build README's
# example against it with pkg-config: shared and static.
#
#     install_test.sh BUILD-DIR "make ..." CC

set -u
out=$1 make=$2 cc=$3
here=$out/install
passed=0
failed=0

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$here/log" 2>&1; then
        passed=$((passed + 1))
    else
        echo "FAIL $name: $*"
        sed 's/^/    | /' "$here/log"
        failed=$((failed + 1))
    fi
}

survives() { # PROGRAM [VARIABLE=...]
    local program=$1 text
    shift
    text=$(env "$@" "$program" 2>&1) && grep -q 'still here' <<<"$text" || {
        echo "$text"
        return 1
    }
}

rm -rf "$here"
mkdir -p "$here"
# shellcheck disable=SC2086
check installs $make --no-print-directory install PREFIX=/opt/bulkhead DESTDIR="$here/first"
mv "$here/first/opt/bulkhead" "$here/moved"
lib=$here/moved/lib
check bh_report_is_there sh -c '"$1" 2>&1 | grep -q usage' sh "$here/moved/bin/bh_report"
export PKG_CONFIG_PATH=$lib/pkgconfig
# shellcheck disable=SC2046,SC2086
{
    check builds_shared $cc -o "$here/shared" examples/01_survive.c $(pkg-config --cflags --libs bulkhead)
    check builds_static $cc -o "$here/static" examples/01_survive.c $(pkg-config --cflags bulkhead) \
        "$lib/libbulkhead.a" $(pkg-config --static --libs-only-other --libs-only-l bulkhead | sed 's/-lbulkhead//')
}
check shared_survives survives "$here/shared" LD_LIBRARY_PATH="$lib"
check static_survives survives "$here/static"
check soname bash -c "readelf -d '$lib/libbulkhead.so' | grep -q 'SONAME.*libbulkhead.so.0'"
check stack_not_executable bash -c "! readelf -lW '$lib/libbulkhead.so' | grep GNU_STACK | grep -q RWE"
check exports_only_ours bash -c "! nm -D --defined-only '$lib/libbulkhead.so' | awk '{ print \$3 }' |
    grep -vE '^(bh_|__assert_fail$|__assert_perror_fail$|abort$|otel_thread_ctx_v1$)'"
check readme tools/dev/readme.sh
echo "install: $passed passed, $failed failed"
[ $failed = 0 ]
