# table.awk -- compare the twins' output with what is expected; print the table.
#
# A block is "=== NAME", "exit: N", "| ..." for descriptor 1, "! ..." for 2.  A
# name may have several blocks from one source: any of them will do.

function id_of(name) {
    sub(/-.*/, "", name)
    return name
}

function end_block() {
    if (name == "")
        return
    block[from_now, name, ++blocks[from_now, name]] = body
    if (from_now != "also") # it has no headers of its own
        headers[from_now, name] = header
    name = ""
}

function matches(source, of, name,    i) {
    for (i = 1; i <= blocks[source, of]; i++)
        if (block[source, of, i] == block["got", name, 1])
            return 1
    return 0
}

function row(id, verdict, why) {
    printf "%-10s %-20s %s\n", id, verdict, why
}

function explain(name, of) {
    printf "    got:%s\n    want:%s\n", block["got", name, 1], block["go", of, 1]
    if ((id_of(name) in traced) && headers["got", name] != headers["go", of])
        printf "    got goroutines:%s\n    want:%s\n", headers["got", name], headers["go", of]
}

function same_as_go(name) {
    if (!matches("go", name, name) && !matches("also", name, name))
        return 0
    return !(id_of(name) in traced) || headers["got", name] == headers["go", name]
}

FNR == 1 { end_block(); from_now = from }
from == "absent" && /\t/ { split($0, part, "\t"); absent[part[1]] = part[2]; next }
from == "reason" && /\t/ { split($0, part, "\t"); adr[part[1]] = part[2]; reason[part[1]] = part[3]; next }
from == "traced" { if (!/^#/) traced[$1] = 1; next }
/^#/ { next }
/^=== / {
    end_block()
    split(substr($0, 5), part, "\t")
    name = part[1]
    newer[name] = newer[name] part[2]
    if (from == "go" || (from == "newer" && !(("go", name) in blocks)))
        case_name[++cases] = name
    else if (from == "got" && name ~ /^[A-Z][0-9]+_/)
        own[++owns] = name
    body = header = ""
    cut = 0
    next
}
name != "" {
    if (/^! goroutine N \[/) {
        cut = 1
        header = header "\n      " $0
    } else if (/^! runtime stack:/)
        cut = 1
    if (!cut || !/^!/)
        body = body "\n      " $0
}

END {
    end_block()
    for (id in absent) { # cases of the catalog that Go's suites do not run
        for (i = 1; i <= cases; i++)
            if (id_of(case_name[i]) == id)
                break
        if (i > cases)
            case_name[++cases] = id
    }
    for (i = 2; i <= cases; i++) # insertion sort: few
        for (j = i; j > 1 && case_name[j] < case_name[j - 1]; j--) {
            swap = case_name[j]; case_name[j] = case_name[j - 1]; case_name[j - 1] = swap
        }
    for (i = 1; i <= cases; i++) {
        name = case_name[i]
        id = id_of(name)
        if (index(name, prefix) != 1)
            continue
        if (!(("got", name) in blocks)) {
            if (id in absent) {
                row(id, "not applicable", absent[id])
                count_absent++
            } else {
                row(id, "MISSING", "no twin, and no reason in not_applicable.txt")
                bad++
            }
        } else if (id in absent) {
            row(id, "HAS A TWIN", "strike it from not_applicable.txt")
            bad++
        } else if (same_as_go(name)) {
            row(id, "same", (id in adr) ? "STALE in differs.txt" : "")
            bad += id in adr
            count_same++
        } else if (matches("newer", name, name)) {
            row(id, "same (newer Go)", newer[name])
            list_newer = list_newer " " id
            count_same++
            count_newer++
        } else if ((id in adr) && matches("ours", name, name)) {
            row(id, "differs", adr[id] ": " reason[id])
            count_differ++
        } else {
            row(id, "DIFFERS", (id in adr) ? "and not as ours.txt says" : "no reason in differs.txt")
            explain(name, name)
            count_differ++
            bad++
        }
    }
    for (i = 1; i <= owns; i++) {
        name = own[i]
        id = id_of(name)
        go_id = id
        sub(/_.*/, "", go_id)
        of = ""
        for (j = 1; j <= cases; j++)
            if (id_of(case_name[j]) == go_id)
                of = case_name[j]
        if ((("ours", name) in blocks) ? matches("ours", name, name) : matches("go", of, name))
            row(id, "as it should be", "a form of ours; not counted")
        else {
            row(id, "WRONG", "a form of ours; not counted")
            explain(name, of)
            bad++
        }
    }
    if (count_newer > 0)
        printf "\nOf the same, %d as a newer Go prints them:%s\n", count_newer, list_newer
    printf "\n%d same, %d differ, %d not applicable\n", count_same, count_differ, count_absent
    exit bad > 0
}
