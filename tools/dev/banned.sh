#!/bin/sh
#
# banned.sh -- words that do not belong in this tree, each with what to use instead.
#
# Comments and strings are removed before the calls are looked for.  A line that
# must use a banned call says so: / * allowed: why * /, without the spaces.

cd "$(dirname "$0")/../.." || exit 2
bad=0
files=$(git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f -not -path './build/*')
sources=$(echo "$files" | grep -E '\.[ch]$' | while read -r f; do [ -f "$f" ] && echo "$f"; done)

echo "$sources" | xargs awk '
BEGIN {
    use["strcpy"] = use["strcat"] = use["sprintf"] = use["vsprintf"] = "snprintf, or an arena string"
    use["strtok"] = "strcspn and strspn"
    use["atoi"] = use["atol"] = use["atof"] = "strtol and its end pointer"
    use["gets"] = "fgets"
    use["alloca"] = "a bounded array, or the arena"
    use["rand"] = use["srand"] = "a seeded generator: runs must replay"
    use["localtime"] = use["gmtime"] = use["ctime"] = use["asctime"] = "the _r form: these share one buffer"
    use["setjmp"] = use["_setjmp"] = use["sigsetjmp"] = use["longjmp"] = use["siglongjmp"] = "BH_RECOVER and bh_panic"
    use["system"] = use["popen"] = "posix_spawn"
    use["mktemp"] = use["tmpnam"] = use["tempnam"] = "mkstemp or memfd_create"
    tests_may["strcpy"] = tests_may["strcat"] = tests_may["atoi"] = tests_may["system"] = 1 # of texts they made themselves
    use["sleep"] = use["usleep"] = "bh_sleep; in a test, the virtual clock"
}
function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
FNR == 1 { in_comment = 0 }
{
    raw = line = $0
    code = ""
    while (line != "") {
        if (in_comment) {
            end = index(line, "*/")
            if (!end) break
            line = substr(line, end + 2)
            in_comment = 0
        } else if (match(line, /"([^"\\]|\\.)*"|\047([^\047\\]|\\.)+\047|\/\*|\/\//)) {
            token = substr(line, RSTART, RLENGTH)
            code = code substr(line, 1, RSTART - 1)
            line = substr(line, RSTART + RLENGTH)
            if (token == "/*") in_comment = 1
            else if (token == "//") { complain("line comment: write /* */"); break }
            else code = code "\"\""
        } else {
            code = code line
            break
        }
    }
    if (raw ~ /\/\* allowed: /) next
    rest = code
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]* *\(/)) {
        before = RSTART > 1 ? substr(rest, RSTART - 1, 1) : ""
        name = substr(rest, RSTART, RLENGTH)
        sub(/ *\($/, "", name)
        if (name in use && before != "." && before != ">" && !(FILENAME ~ /_test\.c$/ && name in tests_may))
            complain(name ": use " use[name])
        rest = substr(rest, RSTART + RLENGTH)
    }
    if (length($0) > 110)
        complain("over 110 columns (96 by habit)")
    if ($0 ~ /\t/) complain("tab: four spaces")
    if ($0 ~ /[ \t]$/) complain("blank at the end of the line")
}
END { exit bad }' || bad=1

# Debt without an owner, and paths of somebody's machine, in any file.
others=$(echo "$files" | grep -vE '^(tools/dev/banned\.sh|LICENSE)$|\.(png|ico|bin|corpus)$' |
    while read -r f; do [ -f "$f" ] && echo "$f"; done)
if echo "$others" | xargs grep -nIE '\b(TODO|FIXME|XXX|HACK)\b'; then
    echo "banned.sh: finish it, or file it"
    bad=1
fi
if echo "$others" | xargs grep -nIE '(^|[^A-Za-z0-9_.$}-])/(work|root|home|Users)/'; then
    echo "banned.sh: a path of one machine"
    bad=1
fi
exit $bad
