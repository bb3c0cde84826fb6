#!/usr/bin/env python3
#
# test.py -- reports of every kind of panic: against the schema, by a validator that is not ours;
# whether the MANIFEST is true; what the monitor process leaves of a crash; and what bh_report
# makes of them.

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import jsonschema

sys.dont_write_bytecode = True
import tool as tool_test

build = os.environ.get("O", "build/gcc")
lab = os.path.join(build, "test/observe/report/lab")
bh_report = os.path.join(build, "tools/report/bh_report")
schema = json.load(open("docs/panic-report.schema.json"))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
passed = failed = 0


def expect(what, good, seen=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAIL report:", what)
        if seen != "":
            print("    |", str(seen)[:2000].replace("\n", "\n    | "))


def run(directory, what, *more):
    return subprocess.run([lab, directory, what, *more], capture_output=True, text=True, timeout=60)


def ids(directory):
    return sorted(n for n in os.listdir(directory) if not n.startswith(".")) if os.path.isdir(directory) else []


def await_file(path):
    """The monitor writes after the process has gone; its MANIFEST comes last."""
    until = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
    return os.path.exists(path)


def await_line(path, word):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if os.path.exists(path) and word in open(path).read():
            return True
        time.sleep(0.01)
    return False


def check(name, directory):
    """Validate a report.  Returns the JSON."""
    text = open(os.path.join(directory, "report.json")).read()
    report = json.loads(text)
    errors = [f"{list(e.absolute_path)}: {e.message[:200]}" for e in validator.iter_errors(report)]
    expect(f"{name}: schema", not errors, "\n".join(errors))
    expect(f"{name}: within its budget", len(text) <= 256 * 1024)
    lines = open(os.path.join(directory, "MANIFEST")).read().splitlines()
    expect(f"{name}: MANIFEST", lines[0] == "bulkhead.bundle/1", lines)
    listed = set()
    for line in lines[1:]:
        if line.startswith("missing "):
            continue
        digest, size, file = line.split(" ", 2)
        data = open(os.path.join(directory, file), "rb").read()
        expect(f"{name}: {file} as the MANIFEST says",
               hashlib.sha256(data).hexdigest() == digest and len(data) == int(size))
        listed.add(file)
    expect(f"{name}: nothing that the MANIFEST does not name",
           listed | {"MANIFEST"} == set(os.listdir(directory)), os.listdir(directory))
    return report


def one(what, *more):
    with tempfile.TemporaryDirectory() as d:
        done = run(d, what, *more)
        expect(f"{what}: ends well", done.returncode == 0, done.stderr)
        names = ids(d)
        expect(f"{what}: one report", len(names) == 1, names)
        return check(what, os.path.join(d, names[0])), done.stderr


def outcomes():
    r, _ = one("contained")
    expect("contained: by whom", r["outcome"]["result"] == "contained" and r["outcome"]["by"] == "bh_go_safe")
    expect("contained: where", r["panic"]["location"]["function"] == "cook", r["panic"]["location"])
    expect("contained: source", any("bh_panic" in s for f in r["frames"] for s in f.get("snippet", [])))
    expect("contained: trace", r["trace"]["trace_id"] == "010203" + "0" * 26 and r["trace"]["sampled"] and
           not r["trace"]["forced"] and r["trace"]["hop"] == 0, r["trace"])
    expect("contained: route", r["goroutine"]["route"] == "/dish/{n}")
    own = [f["function"] for f in r["frames"] if not f["hidden"]]
    expect("contained: the program's own frames", own[:3] == ["cook", "serve", "work"], own)
    expect("contained: no frame of ours is shown", not any(f.startswith(("bh_", "rt_", "ob_")) for f in own), own)
    expect("contained: a deferred call", r["defers"][0]["function"] == "tell" and r["defers"][0]["returned"])

    r, _ = one("recovered")
    expect("recovered", r["outcome"]["result"] == "recovered" and r["phase"] == 2)
    r, _ = one("repanic")
    expect("repanic: one panic to the end", r["outcome"]["result"] == "recovered" and r["outcome"]["repanics"] == 1,
           r["outcome"])
    r, _ = one("fault")
    expect("fault: the address", r["panic"]["fault"]["addr"] == "0x20" and r["panic"]["kind"] == "fault", r["panic"])
    expect("fault: the line", r["panic"]["location"]["function"] == "fault", r["panic"]["location"])
    expect("fault: its registers", r["panic"]["fault"]["pc"] in r["panic"]["fault"]["registers"].values(), r["panic"])
    r, _ = one("request")
    expect("request: its middleware", r["http"]["middleware"] == ["bh_http_report", "bh_http_recover"] and
           r["http"]["middleware_at"] == 2, r["http"])
    expect("request: its connection", r["http"]["conn"] and r["http"]["conn"]["cookie"] > 0, r["http"])
    expect("request: the stack", 0 < r["goroutine"]["stack_used"] < r["goroutine"]["stack_size"], r["goroutine"])
    _, lines = one("storm")
    expect("storm: lines for the others", lines.count("suppressed") > 100, lines[:500])

    with tempfile.TemporaryDirectory() as d:
        run(d, "nested")
        reports = [check("nested", os.path.join(d, n)) for n in ids(d)]
        by_text = {r["panic"]["message"]: r for r in reports}
        expect("nested: both", len(by_text) == 2, by_text.keys())
        newer = by_text.get("spilt the soup of 4")
        older = by_text.get("no such dish: 4")
        if newer and older:
            expect("nested: the chain", newer["panic"]["chain"][0]["message"] == "no such dish: 4")
            expect("nested: the older is replaced", older["outcome"]["result"] == "replaced", older["outcome"])


def crashes():
    for what in "fatal", "suppressed":
        with tempfile.TemporaryDirectory() as d:
            done = run(d, what)
            expect(f"{what}: status 2", done.returncode == 2, done.stderr)
            last = ids(d)[-1]
            expect(f"{what}: the monitor adds the text", await_line(os.path.join(d, last, "MANIFEST"), "crash.txt"))
            r = check(what, os.path.join(d, last))
            expect(f"{what}: outcome", r["outcome"]["result"] == "fatal" and r["phase"] == 2, r["outcome"])
            crash = open(os.path.join(d, last, "crash.txt")).read()
            expect(f"{what}: the whole text, first line included",
                   re.match(r"panic: no such dish: \d+\n", crash) and crash in done.stderr, crash)
            expect(f"{what}: and its stack", "cook(" in crash)

    for what, first, function in (("invariant", "fatal error: the pantry is on fire", "run"),
                                  ("wild", "unexpected fault address 0x7fff00000008\nfatal error: fault\n", "wild")):
        with tempfile.TemporaryDirectory() as d:
            done = run(d, what)
            expect(f"{what}: status 2", done.returncode == 2, done.stderr)
            until = time.monotonic() + 20
            while not ids(d) and time.monotonic() < until:
                time.sleep(0.01)
            expect(f"{what}: the monitor reports", len(ids(d)) == 1, os.listdir(d))
            path = os.path.join(d, ids(d)[0])
            text = open(os.path.join(path, "report.txt")).read()
            expect(f"{what}: the whole text, first line included",
                   text.startswith(first) and text == done.stderr, text)
            r = check(what, path)
            expect(f"{what}: fatal", r["outcome"]["result"] == "fatal" and r["phase"] == 2)
            expect(f"{what}: frames are read", any(f["function"] == function for f in r["frames"]), r["frames"])

    with tempfile.TemporaryDirectory() as d:
        expect("none: no report", run(d, "none").returncode == 0 and ids(d) == [])


def profiles():
    """A bundle's profiles, read by pprof; what is not recorded is missing by name."""
    with tempfile.TemporaryDirectory() as d:
        run(d, "contained", "profiles")
        path = os.path.join(d, ids(d)[0])
        r = check("profiles", path)
        for file in "goroutine.pb.gz", "cpu.pb.gz", "heap.pb.gz", "heap_delta.pb.gz", "block.pb.gz", "mutex_delta.pb.gz":
            missing = [m["why"] for m in r["missing"] if m["what"] == file]
            there = os.path.exists(os.path.join(path, file))
            expect(f"profiles: {file} is there or missing, with the reason", there != bool(missing), (missing, os.listdir(path)))
            if there:
                done = subprocess.run(["go", "tool", "pprof", "-raw", os.path.join(path, file)], capture_output=True,
                                      text=True, timeout=120)
                expect(f"profiles: pprof reads {file}", done.returncode == 0 and "Samples:" in done.stdout, done.stderr)
        expect("profiles: the last events", any(e["ev"] == "start" for e in r["events"]), r["events"])
        for file in "trace.out", "trace.json":
            expect(f"profiles: {file}", os.path.exists(os.path.join(path, file)), r["missing"])
        head = open(os.path.join(path, "trace.out"), "rb").read(16)
        expect("profiles: a trace of Go's", head.startswith(b"go 1.19 trace"), head)
        expect("profiles: Chrome's", "traceEvents" in json.load(open(os.path.join(path, "trace.json"))))
        expect("profiles: that of goroutines is always there", os.path.exists(os.path.join(path, "goroutine.pb.gz")))


outcomes()
crashes()
profiles()
tool_test.test(expect, run, ids, bh_report)
print(f"report: {passed} passed, {failed} failed")
sys.exit(failed != 0)
