#!/usr/bin/python3
"""closing.py -- the server ends a connection by itself when it must, and only then.

Elsewhere the client ends its side first, which would hide a server that never closes.  Here
it does not: after each refusal, the end must come from the server, and in time; and after
each good request the connection must still be of use.
"""

import concurrent.futures
import socket
import time

from gadgets import expected, gadgets
from reject import REFUSED, TAKEN
from wire import SLOW, Checks, Server, replies

PATIENCE = 3
AFTER = b"GET /after HTTP/1.1\r\nHost: w\r\n\r\n"


def receive(s, count):
    """Until the other side ends, or that many replies are there.  Returns: what came, whether it ended, how long it took."""
    out, start = b"", time.monotonic()
    s.settimeout(PATIENCE * SLOW)
    try:
        while len([r for r in replies(out) if r.status and r.whole]) < count:
            piece = s.recv(65536)
            if not piece:
                return out, True, time.monotonic() - start
            out += piece
    except TimeoutError:
        return out, False, time.monotonic() - start
    except ConnectionResetError:
        return out, True, time.monotonic() - start
    return out, False, time.monotonic() - start


def refused(port, data):
    with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
        s.sendall(data)
        return receive(s, 1000)


def is_refusal(seen):
    data, ended, seconds = seen
    found = replies(data)
    return ended and seconds < PATIENCE * SLOW and len(found) == 1 and found[0].whole and \
        400 <= found[0].status <= 505 and found[0].field("connection") == "close"


def main():
    c = Checks("closing")
    with Server() as server, concurrent.futures.ThreadPoolExecutor(16) as pool:
        before = server.stats()
        bad = [(what, data) for _, what, data, _ in REFUSED]
        for number, gadget in enumerate(gadgets()):
            head, _, body = (data := gadget.data(number)).partition(b"\r\n\r\n")
            if expected(head, body) == "reject":
                bad.append((gadget.name, data))
        slowest = 0
        for (what, _), seen in zip(bad, pool.map(lambda entry: refused(server.port, entry[1]), bad)):
            c.that(is_refusal(seen), f"after {what} the server ends the connection", seen)
            slowest = max(slowest, seen[2])
        server.log()
        for _, what, data, _ in TAKEN:
            if b"HTTP/1.0" in data:
                continue
            count = 2 if what == "pipelining" else 1
            with socket.create_connection(("127.0.0.1", server.port), 5 * SLOW) as s:
                s.sendall(data)
                first = receive(s, count)
                s.sendall(AFTER)
                second = receive(s, 1)
            c.that(not first[1] and [r.json().get("path") for r in replies(second[0])] == ["/after"],
                   f"after {what} the connection lives on", (first, second))
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
    c.note(f"{len(bad)} refusals, the slowest end after {slowest:.2f} s")
    c.end()


if __name__ == "__main__":
    main()
