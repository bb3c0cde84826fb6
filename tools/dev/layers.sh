#!/bin/sh
#
# layers.sh -- every #include points down: base <- go <- http <- observe <- programs.
#
# Also: a public header includes public headers only, and no source names a
# private header of another folder.

cd "$(dirname "$0")/../.." || exit 2
find base runtime http observe services tools examples include fuzz bench \
    -name '*.[ch]' 2>/dev/null | sort | xargs awk '
BEGIN {
    n = split("base go http observe", order)
    for (i = 1; i <= n; i++)
        rank[order[i]] = i
    rank["runtime"] = rank["go"]
}
FNR == 1 {
    split(FILENAME, at, "/")
    me = at[1] == "include" ? at[3] : at[1]
    mine = me in rank ? rank[me] : 9
}
function complain(text) {
    printf "%s:%d: %s\n", FILENAME, FNR, text
    bad = 1
}
/^#[ \t]*include[ \t]*<bulkhead\// {
    split($0, part, "/")
    if (!(part[2] in rank))
        complain("no such layer: " part[2])
    else if (rank[part[2]] > mine)
        complain(me " may not include <bulkhead/" part[2] "/...>: it is a higher layer")
}
/^#[ \t]*include[ \t]*"/ {
    if (at[1] == "include")
        complain("a public header may not include a private one")
    else if ($0 ~ /"(base|runtime|http|observe)\// || $0 ~ /"\.\.\//)
        complain("another folder'\''s private header")
}
END { exit bad }'
