#!/bin/bash
# run.sh FOLDER -- run the lab's programs, built in FOLDER; compare each with expected/.
set -u
here=$(cd "$(dirname "$0")" && pwd)
bad=0 n=0
for want in "$here"/expected/*.txt; do
    name=$(basename "$want" .txt)
    n=$((n + 1))
    if ! got=$(timeout -k 2 60 "$1/$name" 2>"$1/$name.err" </dev/null); then
        echo "$name: status not 0"
        cat "$1/$name.err"
        bad=$((bad + 1))
    elif ! diff -u --label expected --label got "$want" - <<<"$got"; then
        echo "$name: differs"
        bad=$((bad + 1))
    fi
done
echo "lab: $((n - bad)) passed, $bad failed"
[ "$bad" = 0 ]
