#!/bin/bash
#
# lint.sh -- what a reviewer should not have to say.  Prints only what is wrong.

cd "$(dirname "$0")/../.." || exit 2
failed=0
for check in layers banned size headers readme spelling; do
    case $check in
    spelling)
        command -v codespell >/dev/null || { echo "lint: no codespell (tools/deps.sh lint)"; failed=1; continue; }
        output=$(git ls-files -z | grep -zvE '^(LICENSE|test/.*/(expected|corpus)/|fuzz/corpus/)' |
            xargs -0 codespell -I tools/dev/spelling.txt 2>&1)
        ;;
    *) output=$(tools/dev/$check.sh 2>&1) ;;
    esac
    if [ $? = 0 ]; then
        echo "ok   $check"
    else
        echo "FAIL $check"
        sed 's/^/    /' <<<"$output"
        failed=1
    fi
done
exit $failed
