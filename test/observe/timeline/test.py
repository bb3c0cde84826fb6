#!/usr/bin/env python3
"""test.py -- `go tool trace` and a JSON parser read what the flight recorder has seen."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

O = os.environ.get("O", "build/gcc")
PROGRAM = os.path.join(O, "test/observe/timeline/program")
passed = failed = 0


def check(what, ok, note=""):
    global passed, failed
    passed += ok
    failed += not ok
    if not ok:
        print(f"FAIL timeline: {what}: {note}")


def start_go_trace(arguments, output):
    """`go` starts the tool as a child of its own: a group of processes, to be ended together."""
    return subprocess.Popen(["go", "tool", "trace", *arguments], stdin=subprocess.DEVNULL, stdout=output,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, "BROWSER": "true"})


def end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def go_trace(*arguments):
    with tempfile.TemporaryFile() as output:
        process = start_go_trace(arguments, output)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            pass
        code = process.poll()
        end(process)
        output.seek(0)
        return code, output.read().decode(errors="replace")


def dump(path):
    code, text = go_trace("-d", path)
    check(f"go tool trace reads {os.path.basename(path)}", code == 0, text[-300:])
    return text


def fetch(url):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except ConnectionRefusedError:
            time.sleep(0.05)
        except OSError as e:
            return str(e)
    return "no answer"


def address_of(process, output):
    """Where the viewer listens; None if it does not say so in time."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = re.search(rb"http://127\.0\.0\.1:\d+", os.pread(output.fileno(), 1 << 20, 0))
        if found:
            return found.group(0).decode()
        if process.poll() is not None:
            return None
        time.sleep(0.05)
    return None


def pages(path):
    """What its pages show a person."""
    with tempfile.TemporaryFile() as output:
        viewer = start_go_trace(["-http=127.0.0.1:0", path], output)
        try:
            look_at_pages(address_of(viewer, output))
        finally:
            end(viewer)


def look_at_pages(address):
    check("the viewer starts", address is not None)
    if address:
        text = fetch(address + "/usertasks")
        check("a task is listed", "GET /users/{id}" in text, text[:200])
        text = fetch(address + "/usertask?type=GET%20%2Fusers%2F%7Bid%7D")
        check("a task shows its trace id", "4bf92f3577b34da6a3ce929d0e0e4736" in text, text[:300])
        text = fetch(address + "/goroutines")
        check("goroutines are listed", "consume" in text or "N=" in text, text[:300])
        text = fetch(address + "/jsontrace")
        check("the timeline is there", text.startswith("{") and text.count('"ts"') > 500, text[:200])


def main():
    with tempfile.TemporaryDirectory() as folder:
        whole, chrome, late, gaps = (os.path.join(folder, n)
                                     for n in ("whole.out", "chrome.json", "late.out", "gaps.out"))
        r = subprocess.run([PROGRAM, whole, chrome, late, gaps], timeout=60)
        check("the program runs", r.returncode == 0, r.returncode)
        if r.returncode != 0:
            print(f"timeline: {passed} passed, {failed} failed")
            return 1
        text = dump(whole)
        for event in ("GoCreate", "GoStart", "GoEnd", "GoSched", "GoSleep", "GoBlockRecv", "GoBlockSend",
                      "GoBlockSync", "GoBlockNet", "GoSysBlock", "GoSysExit", "GoUnblock", "UserTaskCreate",
                      "UserTaskEnd", "UserRegion", "UserLog", "ProcStart"):
            check(f"there is a {event}", f" {event} " in text or f"{event}" in text)
        dump(late)
        text = dump(gaps)
        for event in ("GoUnblock", "GoSysBlock", "GoSysExit", "GoWaiting"):
            check(f"a {event} is made up where it is missing", f" {event} " in text)
        code, profile = go_trace("-pprof=sync", whole)
        check("a profile of waiting can be made", code == 0 and len(profile) > 0, profile[:200])
        pages(whole)
        events = json.load(open(chrome, encoding="utf-8"))["traceEvents"]
        slices = [e for e in events if e["ph"] == "X"]
        check("slices do not overlap on a processor", disjoint(slices))
        check("there are many slices", len(slices) > 500, len(slices))
        check("the task begins and ends", [e["ph"] for e in events if e.get("id") == "0x2a"].count("e") == 3)
    print(f"timeline: {passed} passed, {failed} failed")
    return failed != 0


def disjoint(slices):
    ends = {}
    for s in slices:
        if s["dur"] < 0 or s["ts"] < ends.get(s["tid"], -1) - 0.002:
            return False
        ends[s["tid"]] = s["ts"] + s["dur"]
    return True


sys.exit(main())
