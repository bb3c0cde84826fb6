#!/usr/bin/python3
"""crashes.py -- requests that crash, thousands of each kind, while ab keeps the server busy.

A write through NULL, a stack overflow, a panic in a goroutine of the request, a crash in
the middle of a reply: each costs the client that asked for it one 500 or a broken
transfer, and nobody else anything; memory, goroutines and descriptors stay what they are.
(make bench-endurance measures the same, longer.)
"""

import re
import socket
import subprocess
import threading

from wire import FULL, SLOW, Checks, Server, die_with_parent, replies

EACH = 10000 if FULL else 1000
KINDS = {
    "null": lambda r: r.status == 500 and r.whole,
    "overflow": lambda r: r.status == 500 and r.whole,
    "child": lambda r: r.status == 202 and r.whole,
    "half": lambda r: r.status == 200 and not r.whole and r.body == b"half of it\n",
}


def ask(s, how):
    """Returns: the reply, and whether the connection has ended with it."""
    s.sendall(b"GET /wire/crash/%s HTTP/1.1\r\nHost: w\r\n\r\n" % how.encode())
    out = b""
    while piece := s.recv(65536):
        out += piece
        found = replies(out)
        if found and found[0].whole:
            return found[0], False
    return (replies(out) or [None])[0], True


def crash(server, how, count, wrong):
    s = None
    for _ in range(count):
        if s is None:
            s = socket.create_connection(("127.0.0.1", server.port), 5 * SLOW)
        try:
            r, ended = ask(s, how)
        except OSError as e:
            r, ended = e, True
        if not isinstance(r, OSError) and r is not None and KINDS[how](r):
            pass
        else:
            wrong.append((how, r))
        if ended:
            s.close()
            s = None
    if s is not None:
        s.close()


def storm(server, each):
    """Returns: what went wrong."""
    wrong = []
    threads = [threading.Thread(target=crash, args=(server, how, each, wrong)) for how in KINDS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return wrong


def main():
    c = Checks("crashes")
    with Server() as server:
        storm(server, 300)
        server.settle({"open": 1, "goroutines": 4, "descriptors": 10})
        before = server.stats()
        healthy = 3000 if not FULL else 30000
        ab = subprocess.Popen(["ab", "-q", "-k", "-n", str(healthy * 4), "-c", "8",
                               f"http://127.0.0.1:{server.port}/healthy"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        wrong = storm(server, EACH)
        text = ab.communicate()[0].decode()
        c.that(not wrong, f"{EACH} crashes of each kind end as they must", wrong[:3])
        c.that(re.search(rf"Complete requests: +{healthy * 4}\n", text) and re.search(r"Failed requests: +0\n", text) and
               "Non-2xx" not in text, "no other request is lost", text)
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
        c.that(after["panics"] - before["panics"] == len(KINDS) * EACH, "every crash is counted", after)
        grown = after["resident"] - before["resident"]
        # Stacks are kept, those that overflowed at their full depth of 256 KiB: some 20 in all.
        c.that(grown < 6 * 1024 and after["allocated"] - before["allocated"] < 512 * 1024, "memory stays as it is",
               (before, after))
        c.note(f"{len(KINDS)} x {EACH} crashes, {healthy * 4} healthy requests beside them, memory {grown:+} KiB")
        c.that(server.stop() == 0, "it stops as it should")
    c.end()


if __name__ == "__main__":
    main()
