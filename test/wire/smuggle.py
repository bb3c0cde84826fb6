#!/usr/bin/python3
"""smuggle.py -- every gadget against the server itself, each with an honest request behind it.

What RFC 9112 leaves unambiguous must be read so; anything else must be refused, the
connection be closed, and nothing behind it be read.
"""

import collections

from gadgets import expected, gadgets
from wire import Checks, Server, exchange, replies

FOLLOWER = b"GET /after/%08d HTTP/1.1\r\nHost: wire\r\nConnection: close\r\n\r\n"


def judge(c, counts, server, number, gadget):
    data = gadget.data(number)
    head, _, body = data.partition(b"\r\n\r\n")
    want = expected(head, body)
    answer = exchange(server.port, data + FOLLOWER % number)
    found = replies(answer, [gadget.method.decode()])
    first = found[0] if found else None
    counts["all"] += 1
    counts["beside a length"] += b"Content-Length" in data and b"chunked" in data
    if want == "reject":
        good = c.that(first is not None and 400 <= first.status <= 501 and len(found) == 1 and
                      answer[-3:] != b"...", f"{gadget.name} is refused", found or answer)
        counts["refused"] += good
        counts["answered 2xx"] += first is not None and first.status // 100 == 2
    elif want == "unfinished":
        counts["unfinished"] += c.that(not found, f"{gadget.name} is waited for", found)
    else:
        seen = first.json() if first else {}
        c.that(first is not None and first.status == 200 and seen.get("framing") == want,
               f"{gadget.name} is read as {want}", found or answer)
        counts["unambiguous, read as " + want] += 1
    framing = first.json().get("framing") if first else None
    counts["read as chunked beside a length"] += framing == "chunked" and b"\r\nContent-Length:" in head
    return want


def main():
    c, counts, number = Checks("smuggle"), collections.Counter(), 0
    with Server() as server:
        before = server.stats()
        for number, gadget in enumerate(gadgets()):
            want = judge(c, counts, server, number, gadget)
            paths = [line[2] for line in server.log()]
            smuggled = any("/smuggled/" in path for path in paths)
            c.that(smuggled == (want == "chunked" or want == "none" and not gadget.body), f"what follows {gadget.name} is read as {want} says", paths)
        c.that(counts["beside a length"] >= 750, "there are at least 750 beside a Content-Length")
        c.that(counts["read as chunked beside a length"] == 0, "none is read as chunked beside a Content-Length")
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
    c.note(", ".join(f"{n} {k}" for k, n in sorted(counts.items(), key=lambda x: -x[1])))
    c.end()


if __name__ == "__main__":
    main()
