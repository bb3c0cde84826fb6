# tool.py -- bh_report on the reports of the lab; part of test.py.

import json
import os
import re
import shutil
import subprocess
import tempfile


def test(expect, run, ids, tool):
    def call(*arguments, status=0):
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60)
        expect(f"bh_report {arguments[0] if arguments else ''}: status {status}", done.returncode == status,
               done.stdout + done.stderr)
        return done.stdout

    with tempfile.TemporaryDirectory() as top:
        a, b, raw = (os.path.join(top, n) for n in ("a", "b", "raw"))
        run(a, "contained")
        run(a, "fault")
        run(a, "request")
        run(b, "recovered")
        run(b, "contained")
        run(raw, "contained", "raw")
        first = os.path.join(a, ids(a)[0])
        second = os.path.join(b, ids(b)[1])
        unlike = os.path.join(b, ids(b)[0])

        lines = call("list", a, b).splitlines()
        expect("list: a line for each", len(lines) == 5, lines)
        expect("list: what and where", "no such dish: 1" in lines[0] and "cook lab.c:" in lines[0], lines)

        short, medium, full = (call("show", f"-{n}", first) for n in (1, 2, 3))
        expect("show: begins as Go's", medium.startswith("panic: no such dish: 1\n\ngoroutine "), medium)
        expect("show: source, outcome", "> " in medium and "contained" in medium, medium)
        expect("show: three levels", len(short) < len(medium) < len(full))
        said = call("show", "-3", os.path.join(a, ids(a)[1]))
        expect("show: a fault's signal", "[signal 11 code=0x1 addr=0x20" in said, said)
        expect("show: its registers", re.search(r"\nregisters at the fault\n  \w+ +0x", said), said)
        said = call("show", os.path.join(a, ids(a)[2]))
        expect("show: the way of a request", re.search(r"\n  middleware +bh_http_report, ", said), said)
        expect("show: its connection", re.search(r"\nconnection\n  cookie +[1-9]", said), said)
        expect("show: its goroutine", re.search(r"\ngoroutine\n(?:.*\n)*?  stack_used +[1-9]", said), said)

        said = call("compare", first, second)
        expect("compare: the same panic", "the same panic" in said and "stack: the same" in said, said)
        said = call("compare", first, unlike, status=1)
        expect("compare: another", "another panic" in said and "values differ" in said, said)
        expect("compare: the frames that differ", "< work" in said and "> guarded" in said, said)

        said = call("merge", a, b).splitlines()
        expect("merge: the most frequent first", "  2 reports," in said[0] and "2 contained" in said[0], said)
        expect("merge: all of them", said[-1] == "5 reports, 4 fingerprints", said)

        # Without names in the process, the same with names from the file: by build id.
        path = os.path.join(raw, ids(raw)[0])
        report = json.load(open(os.path.join(path, "report.json")))
        expect("raw: no names", all(f["function"] == "" for f in report["frames"]))
        said = call("compare", first, path)
        expect("raw: the same panic", "the same panic" in said and "stack: the same" in said, said)

        # The program is gone; a copy elsewhere will do, one of another build will not.
        moved = os.path.join(top, "moved")
        os.mkdir(moved)
        program = next(m["file"] for m in report["build"]["modules"] if m["file"].endswith("/lab"))
        text = open(os.path.join(path, "report.json")).read().replace(json.dumps(program)[1:-1], "/nowhere/lab")
        open(os.path.join(path, "report.json"), "w").write(text)
        expect("raw: no file, no names", "cook(" not in call("show", path))
        shutil.copy(program, os.path.join(moved, "lab"))
        expect("raw: by name in a directory", "cook(...)" in call("show", "-d", moved, path))
        os.remove(os.path.join(moved, "lab"))
        build_id = report["build"]["id"]
        os.makedirs(os.path.join(moved, ".build-id", build_id[:2]))
        shutil.copy(program, os.path.join(moved, ".build-id", build_id[:2], build_id[2:] + ".debug"))
        expect("raw: by build id", "cook(...)" in call("show", "-d", moved, path))
        shutil.copy(tool, os.path.join(moved, ".build-id", build_id[:2], build_id[2:] + ".debug"))
        expect("raw: another build is refused", "cook(" not in call("show", "-d", moved, path))

        # Texts of strangers: a terminal is told nothing by any of them, in no command.
        def poison(j):
            if isinstance(j, dict):
                return {k if k in known else k + evil: poison(v) for k, v in j.items()} | {"x" + evil: evil}
            if isinstance(j, list):
                return [poison(v) for v in j]
            return j + evil if isinstance(j, str) and not j.startswith("bulkhead.panic/") else j

        evil = "\x1b]0;gone\x07\n\x7f\x9b31m"
        report = json.load(open(os.path.join(first, "report.json")))
        known = set(re.findall(r'"(\w+)":', json.dumps(report)))
        hostile = os.path.join(top, "hostile")
        shutil.copytree(a, hostile)
        path = os.path.join(hostile, ids(hostile)[0])
        json.dump(poison(report), open(os.path.join(path, "report.json"), "w"))
        os.rename(path, path + "\x1b[2J")
        path += "\x1b[2J"
        said = call("list", hostile) + call("show", "-3", path) + call("merge", hostile) + \
            call("compare", first, path, status=1)
        expect("hostile: the text is there", "no such dish: 1 ]0;gone" in said, said)
        controls = set(c for c in said if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160)
        expect("hostile: nothing to obey", controls == set(), (controls, said))
        os.remove(os.path.join(path, "report.json"))
        os.mkdir(os.path.join(path, "report.json"))
        done = subprocess.run([tool, "show", path], capture_output=True, text=True, timeout=60)
        expect("hostile: a message", "bh_report: " in done.stderr and "\x1b" not in done.stderr, done.stderr)

        # What is no report.
        call(status=2)
        call("show", status=2)
        call("list", os.path.join(top, "nowhere"), status=1)
        bad = os.path.join(top, "bad")
        os.mkdir(bad)
        for text in "", "{", "[]", "{\"schema\":\"other\"}", "\0", "{\"schema\":\"bulkhead.panic/1\",\"frames\":[1,{}]}":
            open(os.path.join(bad, "report.json"), "w").write(text)
            call("show", bad, status=0 if "bulkhead.panic" in text else 1)
