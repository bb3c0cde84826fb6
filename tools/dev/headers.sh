#!/bin/sh
#
# headers.sh -- every header compiles alone, with each compiler; prints a suite line.

cd "$(dirname "$0")/../.." || exit 2
passed=0
failed=0
warnings='-Wall -Wextra -Wshadow -Wstrict-prototypes -Wwrite-strings -Wundef -Werror'
for cc in gcc clang; do
    command -v $cc >/dev/null || { echo "headers.sh: no $cc (tools/deps.sh test)"; failed=$((failed + 1)); continue; }
    for header in $(find include base runtime http observe test/test.h -name '*.h' 2>/dev/null | sort); do
        # shellcheck disable=SC2086
        if printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
            $cc -std=gnu17 $warnings -D_GNU_SOURCE -fsyntax-only -xc -Iinclude -Itest -I. \
                -I"$(dirname "$header")" -iquote "${header%%/*}" -; then
            passed=$((passed + 1))
        else
            echo "FAIL $header does not compile alone with $cc"
            failed=$((failed + 1))
        fi
    done
done
echo "headers: $passed passed, $failed failed"
[ $failed = 0 ]
