#!/bin/sh
#
# size.sh -- no function over 70 lines, no file over 1,200 (STYLE.md, "Size").

cd "$(dirname "$0")/../.." || exit 2
files=$(find base runtime http observe services tools examples test fuzz bench include \
    \( -name '*.[chS]' -o -name '*.cc' -o -name '*.go' -o -name '*.sh' -o -name '*.py' \) 2>/dev/null)
bad=0

# pmccabe: complexity, traditional, statements, first line, lines, file(line): name
if command -v pmccabe >/dev/null; then
    long=$(echo "$files" | grep '\.c$' | xargs pmccabe 2>/dev/null |
        awk '$5 > 70 { printf "%s: %d lines in a function; 70 at most\n", $6 " " $7, $5 }')
    [ -z "$long" ] || { echo "$long"; bad=1; }
else
    echo "size.sh: no pmccabe: length of functions not checked (tools/deps.sh lint)" >&2
fi
for file in $files; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 1200 ] || { echo "$file: $lines lines; 1,200 at most"; bad=1; }
done
exit $bad
