#!/usr/bin/env python3
"""pprof: `go tool pprof` against a live server: names, lines, labels, sums.

    O=build/gcc test.py
"""
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

TARGET = os.path.join(os.environ["O"], "test/observe/pprof/target")
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "target.c")
PERIOD = 1000000000 // 99
passed = failed = 0


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL", what, str(detail)[:1500])


def line_of(mark):
    with open(SOURCE) as f:
        for number, line in enumerate(f, 1):
            if "MARK " + mark in line:
                return number
    raise SystemExit("no mark " + mark)


class Server:
    def __init__(self):
        self.process = subprocess.Popen([TARGET, "--an argument", "--x=1"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def url(self, path):
        return "http://%s/debug/pprof/%s" % (self.address, path)

    def get(self, path, data=None):
        """Returns: status, headers, bytes."""
        try:
            with urllib.request.urlopen("http://%s%s" % (self.address, path), data, timeout=60) as r:
                return r.status, r.headers, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read()

    def counters(self):
        return json.loads(self.get("/counters")[2])


def pprof(*args):
    """Returns: what `go tool pprof` prints."""
    with tempfile.TemporaryDirectory() as home:
        env = dict(os.environ, HOME=home, PPROF_TMPDIR=home, XDG_CACHE_HOME=home)
        r = subprocess.run(["go", "tool", "pprof", *args], env=env, text=True,
                           capture_output=True, timeout=120)
    return r.stdout if r.returncode == 0 else "pprof: %d\n%s%s" % (r.returncode, r.stdout, r.stderr)


def raw(url):
    """Returns: [(values, [location], {label: text})], the text of all."""
    text = pprof("-raw", url)
    samples = []
    body = text.partition("Samples:\n")[2].partition("\nLocations\n")[0].split("\n")[1:]
    for line in body:
        m = re.match(r"\s*((?:-?\d+ *)+):((?: \d+)*)\s*$", line)
        if m:
            samples.append(([int(n) for n in m[1].split()], m[2].split(), {}))
        elif samples and ":[" in line:
            samples[-1][2].update(re.findall(r"(\S+):\[([^\]]*)\]", line))
    return samples, text


def total(samples, value=0):
    return sum(s[0][value] for s in samples)


# ---- goroutines ----------------------------------------------------------------------


def goroutines(s):
    # Every request runs on a goroutine of its own: the one that counts is one of them.
    samples, text = raw(s.url("goroutine"))
    count = s.counters()["goroutines"]
    check("goroutine: the sum is the number of goroutines", total(samples) == count,
          "%d, not %d\n%s" % (total(samples), count, text))
    check("goroutine: alike ones are one sample", len(samples) < 20, len(samples))

    here = [x for x in samples if x[2].get("route") == "GET /here"]
    check("goroutine: 200 by route", total(here) == 200, samples)
    check("goroutine: 50 by label", total([x for x in samples if x[2].get("tenant") == "blue"]) == 50)
    check("goroutine: 4 block a thread",
          total([x for x in samples if x[2].get("state") == "syscall"]) >= 4, text)

    top = pprof("-top", "-cum", s.url("goroutine"))
    check("goroutine -top", re.search(r"\b200 .*\bwait_here$", top, re.M), top)
    check("goroutine -top: all are accounted for", "Type: goroutine" in top, top)
    lines = pprof("-top", "-cum", "-lines", s.url("goroutine"))
    check("goroutine -lines", re.search(r"\b200 .*\bwait_here .*target\.c:%d$" % line_of("wait_here"),
                                        lines, re.M), lines)
    tags = pprof("-tags", s.url("goroutine"))
    check("goroutine -tags", "state: Total" in tags and "GET /here" in tags and "blue" in tags, tags)
    traces = pprof("-traces", s.url("goroutine"))
    check("goroutine -traces: recursion is complete", traces.count("wait_deeper") == 6, traces)
    peek = pprof("-list=wait_here", s.url("goroutine"))
    check("goroutine -list", "MARK wait_here" in peek, peek)

    labelled, text = raw(s.url("goroutine?labels=1"))
    check("goroutine?labels=1: each by itself", total(labelled) == len(labelled) == count, len(labelled))
    check("goroutine?labels=1: trace id", sum(x[2].get("trace_id") == "11" + 30 * "0"
                                              for x in labelled) == 200, text)
    ids = [x[2].get("goid") for x in labelled]
    check("goroutine?labels=1: ids differ", len(set(ids)) == count and None not in ids, ids)


def goroutine_texts(s):
    count = s.counters()["goroutines"]
    text = s.get("/debug/pprof/goroutine?debug=1")[2].decode()
    check("goroutine?debug=1: first line", text.startswith("goroutine profile: total %d\n200 @ 0x"
                                                           % count), text)
    check("goroutine?debug=1: counts add up",
          sum(map(int, re.findall(r"^(\d+) @", text, re.M))) == count, text)
    check("goroutine?debug=1: frames", re.search(r"^#\t0x[0-9a-f]+\twait_here\+0x[0-9a-f]+\t.*target\.c:%d$"
                                                 % line_of("wait_here"), text, re.M), text)
    again, out = raw(s.url("goroutine?debug=1"))
    check("goroutine?debug=1: pprof reads it", total(again) == count, out)
    text = s.get("/debug/pprof/goroutine?debug=2")[2].decode()
    check("goroutine?debug=2: everyone", len(re.findall(r"^goroutine \d+ \[", text, re.M)) == count, text)
    check("goroutine?debug=2: state and creator",
          re.search(r"^goroutine \d+ \[chan receive.*\]:\nbh_chan_recv.*\n.*\nwait_here\(\.\.\.\)\n\t.*target\.c:%d"
                    r" \+0x[0-9a-f]+\n(.+\n)*created by start_goroutines in goroutine 1\n\t"
                    % line_of("wait_here"), text, re.M) or
          re.search(r"^goroutine \d+ \[chan receive.*\]:\nwait_here\(\.\.\.\)\n\t.*target\.c:%d \+0x[0-9a-f]+\n"
                    r"(.+\n)*created by start_goroutines in goroutine 1\n\t"
                    % line_of("wait_here"), text, re.M), text)


def raw_addresses(s):
    bare = pprof("-raw", "-symbolize=none", s.url("goroutine?raw=1"))
    check("goroutine?raw=1: no names", "wait_here" not in bare and "Samples:" in bare, bare)
    local = pprof("-top", "-cum", "-symbolize=local", s.url("goroutine?raw=1"))
    check("goroutine?raw=1: pprof finds the program by itself", "wait_here" in local, local)
    remote = pprof("-top", "-cum", "-symbolize=remote", s.url("goroutine?raw=1"))
    check("symbol: names for pprof", re.search(r"\b200 .*\bwait_here$", remote, re.M), remote)
    check("symbol: GET", s.get("/debug/pprof/symbol")[2] == b"num_symbols: 1\n")
    address = int(re.search(r"^\s*\d+: (0x[0-9a-f]+) M=1", bare, re.M)[1], 16)
    got = s.get("/debug/pprof/symbol", b"0x1+%#x" % address)[2].decode()
    check("symbol: POST", re.match(r"num_symbols: 1\n%#x \w+\n$" % address, got), got)


def difference(s):
    def later():
        time.sleep(0.3)
        s.get("/spawn")
    t = threading.Thread(target=later)
    t.start()
    samples, text = raw(s.url("goroutine?seconds=1"))
    t.join()
    new = [x for x in samples if x[2].get("state") == "chan receive"]
    check("goroutine?seconds=1: what changed", total(new) == 7, text)


# ---- CPU -----------------------------------------------------------------------------


def cpu(s):
    stop = threading.Event()

    def load():
        while not stop.is_set():
            s.get("/burn")
    threads = [threading.Thread(target=load) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        with tempfile.NamedTemporaryFile(suffix=".pb.gz") as f:
            for _ in range(4):  # others may use the processors, too
                ticks = s.counters()["ticks"]
                begin = time.time()
                status, headers, data = s.get("/debug/pprof/profile?seconds=3")
                took = time.time() - begin
                if s.counters()["ticks"] - ticks > 150:
                    break
            f.write(data)
            f.flush()
            judge_cpu(f.name, took)
        check("profile: a file", headers["Content-Disposition"] == 'attachment; filename="profile"'
              and headers["Content-Type"] == "application/octet-stream" and data[:2] == b"\x1f\x8b")
        direct = pprof("-top", s.url("profile?seconds=1"))
        check("profile?seconds=1 over HTTP", "burn_much" in direct and "Duration: 1s" in direct, direct)
    finally:
        stop.set()
        for t in threads:
            t.join()
    before = s.counters()
    begin = time.time()
    samples, text = raw(s.url("profile"))
    check("profile without seconds: the past, at once", time.time() - begin < 5 and "burn_much" in text)
    after = s.counters()
    check("profile: the sum is the number of samples", before["ticks"] <= total(samples)
          <= after["ticks"] and total(samples) > 100, (total(samples), before, after))
    check("profile: none dropped", after["dropped"] == 0, after)
    print("pprof: %d samples, %.0f ns each" % (after["samples"], after["cost"] / after["samples"]))


def judge_cpu(path, took):
    samples, text = raw(path)
    check("profile?seconds=3: took that long", 2.9 < took < 20, took)
    check("profile: values", all(x[0][1] == x[0][0] * PERIOD for x in samples), text)
    much = total([x for x in samples if x[2].get("route") == "GET /much"])
    little = total([x for x in samples if x[2].get("route") == "GET /little"])
    check("profile: enough samples", much + little > 60, (much, little))
    check("profile: by route, three to one", 1.6 < much / max(little, 1) < 5, (much, little))
    trace = total([x for x in samples if x[2].get("trace_id") == "22" + 30 * "0"])
    check("profile: by trace id", trace == much, (trace, much))
    top = pprof("-top", path)
    check("profile -top", "Type: cpu" in top and "burn_much" in top, top)
    lines = pprof("-top", "-lines", path)
    check("profile -lines: inlined", re.search(r"inner_loop .*target\.c:%d \(inline\)$" % line_of("inner_loop"),
                                               lines, re.M), lines)
    tags = pprof("-tags", path)
    check("profile -tags", "GET /much" in tags and "trace_id: Total" in tags, tags)
    focus = pprof("-top", "-tagfocus=route=GET /little", path)
    check("profile -tagfocus", "burn_little" in focus and "burn_much" not in focus, focus)
    callers = [x for x in re.split(r"-{10}.*\n", pprof("-traces", path)) if "burn_much" in x]
    complete = [x for x in callers if re.search(r"\bburn\n", x) and "enter_goroutine" in x]
    check("profile -traces: stacks are complete", len(complete) >= 0.9 * len(callers),
          "%d of %d\n%s" % (len(complete), len(callers), "\n".join(callers)))


def cpu_off(s):
    s.get("/cpu")
    status, headers, text = s.get("/debug/pprof/profile?seconds=1")
    check("profile: off", status == 503 and headers["X-Go-Pprof"] == "1", (status, text))
    s.get("/cpu?on")
    check("profile: on again", s.get("/debug/pprof/profile")[0] == 200)


# ---- the rest ------------------------------------------------------------------------


def index(s):
    status, headers, page = s.get("/debug/pprof/")
    page = page.decode()
    names = re.findall(r'href="(\w+)(?:\?debug=1)?"', page)
    check("index", status == 200 and headers["Content-Type"].startswith("text/html"), page)
    check("index: names", {"goroutine", "profile", "threadcreate", "cmdline", "symbol", "extra"} <= set(names),
          page)
    without = s.get("/debug/pprof")[2].decode()  # redirected
    check("index: without a slash", re.findall("href=.*", without) == re.findall("href=.*", page), without)
    for name in names:
        if name in ("cmdline", "symbol", "extra", "profile", "trace"):
            continue
        samples, text = raw(s.url(name))
        check(name + ": pprof reads it", text.startswith("PeriodType: "), text)
        plain = s.get("/debug/pprof/%s?debug=1" % name)
        check(name + "?debug=1", plain[0] == 200 and plain[1]["Content-Type"].startswith("text/plain"), plain)
    check("extra", s.get("/debug/pprof/extra")[2] == b"extra!\n")


def threads(s):
    for _ in range(5):  # they come and go
        before = s.counters()["threads"]
        samples, text = raw(s.url("threadcreate"))
        count = s.counters()["threads"]
        if count == before:
            break
    check("threadcreate: the sum is the number of threads", total(samples) == count, (count, text))
    check("threadcreate: what made them start", "bh_blocking" in text, text)


def refusals(s):
    for path, want in (("nothing", 404), ("goroutine?seconds=x", 400), ("goroutine?seconds=0", 400),
                       ("profile?seconds=-1", 400), ("profile?seconds=99999999", 400),
                       ("goroutine?debug=x", 400), ("profile?seconds=", 400)):
        status, headers, text = s.get("/debug/pprof/" + path)
        check(path + ": refused", status == want and headers["X-Go-Pprof"] == "1", (status, text))
    connection = http.client.HTTPConnection(s.address)
    connection.request("GET", "/debug/pprof")
    r = connection.getresponse()
    check("index: redirect", r.status == 308 and r.headers["Location"] == "pprof/", r.status)
    connection.close()


def command(s):
    got = s.get("/debug/pprof/cmdline")[2]
    check("cmdline", got == TARGET.encode() + b"\0--an argument\0--x=1", got)


def client_leaves(s):
    connection = http.client.HTTPConnection(s.address)
    connection.request("GET", "/debug/pprof/profile?seconds=600")
    deadline = time.time() + 5
    while s.counters()["active"] < 2 and time.time() < deadline:
        time.sleep(0.02)
    check("profile: a long one runs", s.counters()["active"] == 2)
    connection.close()
    deadline = time.time() + 5
    while s.counters()["active"] > 1 and time.time() < deadline:
        time.sleep(0.02)
    check("profile: ends when its client leaves", s.counters()["active"] == 1)


def main():
    s = Server()
    for step in (goroutines, goroutine_texts, raw_addresses, threads, index, refusals, command,
                 client_leaves, cpu, cpu_off, difference):
        try:
            step(s)
        except Exception as e:
            check(step.__name__, False, repr(e))
    s.process.stdin.close()
    check("the server ends", s.process.wait(30) == 0)
    print("pprof: %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
