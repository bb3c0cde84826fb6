#!/usr/bin/env python3
"""test.py -- the static probes: listed, as docs/probes.md says; and heard by bpftrace.

Runs every one-liner of the document against target.c, with -c in place of -p.  Where the
kernel forbids tracing, says so and checks what can be checked without.
"""

import os
import re
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
target = os.path.abspath(os.path.join(os.environ["O"], "test/observe/probes/target"))
document = open(os.path.join(here, "../../../docs/probes.md")).read()
passed = failed = 0

# Heading of a one-liner: what it must print for two stories and a fatal panic.
STORIES = 2
EXPECTED = {
    "Panics as they are raised": [
        (r"^panic \d+, goroutine 1: recovered$", STORIES),
        (r"^panic \d+, goroutine 1: again$", STORIES),
        (r"^panic \d+, goroutine 1: replaced$", STORIES),
        (r"^panic \d+, goroutine 1: newer$", STORIES),
        (r"^panic \d+, goroutine (?!1:)\d+: contained$", STORIES),
        (r"^panic \d+, goroutine (?!1:)\d+: swallowed$", STORIES),
        (r"^panic \d+, goroutine 1: fatal$", 1),
    ],
    "What becomes of them": [
        (r":panic__raised\]: %d$" % (6 * STORIES + 1), 1),
        (r":panic__recovered\]: %d$" % (5 * STORIES), 1),
        (r":panic__repanicked\]: %d$" % STORIES, 1),
        (r":panic__contained\]: %d$" % STORIES, 1),
        (r":panic__replaced\]: %d$" % STORIES, 1),
        (r":panic__goexit\]: %d$" % STORIES, 1),
        (r":panic__fatal\]: 1$", 1),
        # the one that panics and the one that ends the goroutine do not return
        (r":panic__defer\]: %d$" % (4 * STORIES), 1),
        (r":panic__defer__done\]: %d$" % (2 * STORIES), 1),
    ],
    "The life of each": [
        (r"^(\d+) raised: recovered\n\1 deferred call 1\n\1 recovered$", STORIES),
        (r"^(\d+) raised: again\n\1 recovered\n\1 again\n\1 recovered$", STORIES),
        (r"^(\d+) raised: replaced\n\1 deferred call 1\n(\d+) raised: newer\n\2 recovered\n"
         r"\1 replaced$", STORIES),
        (r"^(\d+) raised: contained\n\1 deferred call 1\n\1 contained by its group\n"
         r"\1 recovered$", STORIES),
        (r"^(\d+) raised: swallowed\n\1 deferred call 1\n\1 swallowed by bh_goexit$", STORIES),
        (r"^(\d+) raised: fatal\n\1 fatal: fatal$", 1),
    ],
    "Where they come from": [
        (r", recovered\]: %d$" % STORIES, 1),
        (r", fatal\]: 1$", 1),
    ],
    "How long from raising to landing, in microseconds": [(r"^@us: *\n\[.*\|@*.*\|$", 1)],
    "Deferred calls that take long, in nanoseconds": [(r"^@worst_ns\[.+\]: \d+$", 2)],
    "Goroutines: what they run, how long they live, in microseconds": [
        (r"^@started\[.+\]: %d$" % STORIES, 2),
        (r"^@lived_us: *$", 1),
    ],
    "The panic that ended the process": [(r"^panic \d+, goroutine 1: fatal\n\n? +\S+", 1)],
}


def expect(what, ok, output=""):
    global passed, failed
    if ok:
        passed += 1
        return
    failed += 1
    print(f"FAIL probes: {what}")
    for line in output.splitlines()[-40:]:
        print("    |", line)


def notes():
    """(probe, address, address of its semaphore, arguments) of each in the executable."""
    text = subprocess.run(["readelf", "-nW", target], capture_output=True, text=True).stdout
    return re.findall(r"Provider: bulkhead\s+Name: (\S+)\s+Location: (0x[0-9a-f]+).*?"
                      r"Semaphore: (0x[0-9a-f]+)\s+Arguments: (.*)", text)


def listed():
    """{probe: number of arguments}"""
    found = notes()
    expect("each has a semaphore", found and all(int(s, 16) != 0 for _, _, s, _ in found))
    # a function may be there twice, inlined
    return {name: len(arguments.split()) for name, _, _, arguments in found}


def documented():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", document, re.M)
    return {name: sum(1 for cell in cells.split("|") if cell.strip()) for name, cells in rows}


def why_not():
    """What keeps bpftrace from tracing here, or None."""
    try:
        run = subprocess.run(["bpftrace", "-e", f"usdt:{target}:bulkhead:panic__raised {{ }} "
                              "BEGIN { exit(); }"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None  # a fault of the installation: the one-liners fail
    if run.returncode == 0:
        return None
    said = [line for line in run.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"bpftrace ends with status {run.returncode}"


def trace(script):
    """What the script prints of a target that lives through it all: started by bpftrace, as
    only then it is known when everything is attached."""
    run = subprocess.run(["bpftrace", "-e", script, "-c", f"{target} {STORIES} -"], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                         stdin=subprocess.DEVNULL)
    return run.stdout, run.stderr


def main():
    probes = listed()
    expect("those of the document are those of the executable", probes == documented(),
           f"{probes}\n{documented()}")
    liners = re.findall(r"^## (.+)\n\n```sh\nbpftrace -p PID -e '([^']+)'\n```", document, re.M)
    expect("every one-liner is tested", [h for h, _ in liners] == list(EXPECTED),
           "\n".join(h for h, _ in liners))
    reason = why_not()
    if reason is not None:
        print(f"probes: one-liners skipped, tracing is not permitted here: {reason}")
    else:
        for heading, script in liners:
            out, err = trace(script.replace("./server", target))
            for pattern, times in EXPECTED[heading]:
                count = len(re.findall(pattern, out, re.M))
                expect(f"{heading}: {times} times /{pattern}/, not {count}", count == times,
                       out + err)
    print(f"probes: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
