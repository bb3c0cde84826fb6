#!/usr/bin/env python3
"""check.py -- what `go tool pprof` says of program.c's profiles is what the program did.

    check.py PROGRAM...

Each program is the same source, linked in another way.
"""

import os
import re
import subprocess
import sys
import tempfile

passed = failed = 0


def expect(what, holds, seen=""):
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
        print(f"FAIL {what}: {seen}")


def pprof(path, *options):
    done = subprocess.run(["go", "tool", "pprof", *options, path], capture_output=True, text=True,
                          timeout=60)
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def top(path, index, unit, *options):
    """{function: (flat, cum)} in this unit."""
    text = pprof(path, "-top", f"-sample_index={index}", f"-unit={unit}", "-nodecount=1000",
                 "-nodefraction=0", *options)
    rows = {}
    for line in text.splitlines():
        m = re.match(r"\s*(-?[\d.]+)\S*\s+\S+%\s+\S+%\s+(-?[\d.]+)\S*\s+\S+%\s+(\S+)", line)
        if m:
            rows[m.group(3)] = (float(m.group(1)), float(m.group(2)))
    return rows


def near(value, wanted, share):
    return abs(value - wanted) <= share * wanted


def check(program):
    kept, churned = 32 * 1024 * 4096, 64 * 1024 * 4096
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, folder], timeout=60)
        expect("the program ends well", done.returncode == 0, done.returncode)
        heap, allocs, block, mutex = (os.path.join(folder, n + ".pb.gz")
                                      for n in ("heap", "allocs", "block", "mutex"))

        # 4,096 samples: a standard deviation of 1.5 %.  Six of them.
        inuse = top(heap, "inuse_space", "B")
        expect("keep_much holds 128 MiB", near(inuse.get("keep_much", (0, 0))[0], kept, 0.09), inuse)
        expect("churn_much holds nothing", inuse.get("churn_much", (0, 0))[0] == 0, inuse)
        objects = top(heap, "inuse_objects", "")
        expect("in 32 Ki blocks", near(objects.get("keep_much", (0, 0))[0], 32 * 1024, 0.09), objects)
        space = top(allocs, "alloc_space", "B")
        expect("churn_much has allocated 256 MiB",
               near(space.get("churn_much", (0, 0))[0], churned, 0.07), space)
        expect("run has called both", near(space.get("run", (0, 0))[1], kept + churned, 0.05), space)

        # Asked for nothing, pprof shows what the profile names first.
        expect("heap shows what lives", "Type: inuse_space" in pprof(heap, "-top"), pprof(heap, "-top"))
        expect("allocs shows all", "Type: alloc_space" in pprof(allocs, "-top"), pprof(allocs, "-top"))

        count = top(block, "contentions", "")
        # 20 times for a value; the close may come before it waits once more.
        waits = count.get("wait_for_value", (0, 0))[1]
        expect("it has waited 20 times for the channel", waits in (20, 21), count)
        expect("in a receive", count.get("bh_chan_recv", (0, 0))[0] == waits, count)
        delay = top(block, "delay", "ms")
        expect("for 200 ms", 190 <= delay.get("wait_for_value", (0, 0))[1] < 1000, delay)
        expect("or for the lock", delay.get("bh_mutex_lock", (0, 0))[0] > 50, delay)
        focused = top(block, "delay", "ms", "-tagfocus=route=/slow")
        expect("labels tell routes apart",
               "wait_for_value" in focused and "want_lock" not in focused, focused)

        delay = top(mutex, "delay", "ms")
        expect("hold_lock made others wait", delay.get("hold_lock", (0, 0))[1] > 50, delay)
        expect("by unlocking late", delay.get("bh_mutex_unlock", (0, 0))[0] > 50, delay)
        expect("want_lock hardly did", delay.get("want_lock", (0, 0))[1] < 50, delay)


for each in sys.argv[1:]:
    check(each)
print(f"memory: {passed} passed, {failed} failed")
sys.exit(failed != 0)
