#!/usr/bin/python3
"""h11_client.py -- h11 as a client that keeps to the letter: replies of every shape on one connection.

What h11 takes must also be what was asked for: status, body, trailers, interim replies; and
what it thinks of the connection afterwards must be what the server does with it.  Then the
same from a client that sends byte by byte, and from one that sends all before it reads.
"""

import select
import socket

import h11
from wire import SLOW, Checks, Server

HOST = ("Host", "w")
CLOSE, CHUNKED, EXPECT = ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Expect", "100-continue")


def letters(size):
    return bytes(ord("a") + i % 26 for i in range(size))


# Method, target, fields, body, trailers; status, body of the reply or None for any, its trailers.
EXCHANGES = [
    ("GET", "/wire/body?size=0", [], b"", [], 200, b"", []),
    ("GET", "/wire/body?size=5000", [], b"", [], 200, letters(5000), []),
    ("GET", "/wire/body?size=50000&chunked=1", [], b"", [], 200, letters(50000), []),
    ("GET", "/wire/body?size=50000&chunked=1&trailer=1", [], b"", [], 200, letters(50000), [(b"x-trailer", b"behind")]),
    ("GET", "/wire/body?file=1", [], b"", [], 200, letters(100000), []),
    ("HEAD", "/wire/body?size=5000", [], b"", [], 200, b"", []),
    ("HEAD", "/wire/body?size=50000&chunked=1&trailer=1", [], b"", [], 200, b"", []),
    ("HEAD", "/wire/body?file=1", [], b"", [], 200, b"", []),
    ("GET", "/wire/status/204", [], b"", [], 204, b"", []),
    ("GET", "/wire/status/304", [], b"", [], 304, b"", []),
    ("HEAD", "/wire/status/204", [], b"", [], 204, b"", []),
    ("HEAD", "/wire/status/404", [], b"", [], 404, b"", []),
    ("POST", "/wire/status/204", [("Content-Length", "5")], b"hello", [], 204, b"", []),
    ("GET", "/wire/status/404", [], b"", [], 404, b"a text\n", []),
    ("GET", "/wire/status/503", [], b"", [], 503, b"a text\n", []),
    ("GET", "/wire/none", [], b"", [], 200, None, []),
    ("GET", "/wire/crash/null", [], b"", [], 500, None, []),
    ("POST", "/p", [CHUNKED], b"hello", [("X-T", "t")], 200, None, []),
    ("POST", "/p", [CHUNKED], b"", [], 200, None, []),
    ("POST", "/p", [("Content-Length", "0")], b"", [], 200, None, []),
    ("POST", "/wire/deaf", [("Content-Length", "5")], b"hello", [], 200, b"not read\n", []),
    ("POST", "/wire/deaf", [CHUNKED], b"hello", [("X-T", "t")], 200, b"not read\n", []),
    ("OPTIONS", "*", [], b"", [], 204, b"", []),
    ("DELETE", "/d", [], b"", [], 200, None, []),
]


def request(peer, method, target, fields, body, trailers):
    out = peer.send(h11.Request(method=method, target=target, headers=[HOST, *fields]))
    if body:
        out += peer.send(h11.Data(data=body))
    return out + peer.send(h11.EndOfMessage(headers=trailers))


def reply(peer, feed):
    """The next reply; feed() gives more bytes.  Returns: status, fields, body, trailers, interim statuses."""
    body, interim, status, fields = b"", [], None, {}
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(feed())
        elif isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            status, fields = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, fields, body, [(bytes(n), bytes(v)) for n, v in event.headers], interim
        else:
            return status, fields, body, None, interim


def ended(s):
    """Whether the server ends the connection, which h11 says it must."""
    s.settimeout(3 * SLOW)
    try:
        return s.recv(1) == b""
    except OSError:
        return False


def idle(s):
    """Whether the connection is open and silent."""
    return not select.select([s], [], [], 0.01)[0]


def one_after_the_other(c, port, how):
    peer = h11.Connection(h11.CLIENT)
    with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for method, target, fields, body, trailers, *want in EXCHANGES:
            data = request(peer, method, target, fields, body, trailers)
            step = 1 if how == "byte by byte" else len(data)
            for at in range(0, len(data), step):
                s.sendall(data[at:at + step])
            status, names, got, behind, _ = reply(peer, lambda: s.recv(1 if how == "byte by byte" else 65536))
            what = f"{how}: {method} {target}"
            c.that(status == want[0] and (want[1] is None or got == want[1]) and behind == want[2], what,
                   (status, names, got, behind))
            c.that(b"date" in names and (status != 204 or b"content-length" not in names), f"{what}: fields", names)
            if not c.that(peer.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} and idle(s),
                          f"{what}: nothing is behind it", (peer.states, peer.trailing_data)):
                return
            peer.start_next_cycle()


def all_at_once(c, port):
    """h11 does not pipeline: a client each, whose bytes behind its reply are the next one's."""
    peers = [h11.Connection(h11.CLIENT) for _ in EXCHANGES]
    with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
        s.sendall(b"".join(request(peer, *e[:5]) for peer, e in zip(peers, EXCHANGES)))
        rest = b""
        for peer, (method, target, _, _, _, *want) in zip(peers, EXCHANGES):
            if rest:
                peer.receive_data(rest)
            status, names, got, behind, _ = reply(peer, lambda: s.recv(65536))
            c.that(status == want[0] and (want[1] is None or got == want[1]) and behind == want[2],
                   f"pipelined: {method} {target}", (status, names, got, behind))
            rest = peer.trailing_data[0]
        c.that(rest == b"" and idle(s), "pipelined: nothing is behind the last", rest)


def expectations(c, port):
    for target, want, continues in (("/p", 200, [100]), ("/wire/deaf", 200, []), ("/wire/status/404", 404, [])):
        peer = h11.Connection(h11.CLIENT)
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
            s.sendall(peer.send(h11.Request(method="POST", target=target, headers=[HOST, ("Content-Length", "5"), EXPECT])))
            if continues:
                while (event := peer.next_event()) is h11.NEED_DATA:
                    peer.receive_data(s.recv(65536))
                c.that(isinstance(event, h11.InformationalResponse) and event.status_code == 100 and
                       not peer.they_are_waiting_for_100_continue and idle(s), f"100 for {target}, and then silence", event)
                s.sendall(peer.send(h11.Data(data=b"hello")) + peer.send(h11.EndOfMessage()))
            status, names, _, _, interim = reply(peer, lambda: s.recv(65536))
            c.that(status == want and interim == [], f"Expect: {target} gives {want}", (status, interim))
            if not continues:  # without the body, nobody knows what comes next
                c.that(names.get(b"connection") == b"close" and ended(s), f"Expect: {target} without 100 ends the connection", names)
    for fields in ([EXPECT], [EXPECT, ("Content-Length", "0")]):
        peer = h11.Connection(h11.CLIENT)
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
            s.sendall(request(peer, "POST", "/p", fields, b"", []))
            status, _, _, _, interim = reply(peer, lambda: s.recv(65536))
            c.that(status == 200 and interim == [], "no 100 when there is no body", (status, interim))


def ends(c, port):
    """Who asks for the end of the connection gets it, after the whole reply."""
    for method, target, fields, body, trailers, *want in EXCHANGES:
        peer = h11.Connection(h11.CLIENT)
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
            s.sendall(request(peer, method, target, [*fields, CLOSE], body, trailers))
            status, names, got, behind, _ = reply(peer, lambda: s.recv(65536))
            c.that(status == want[0] and (want[1] is None or got == want[1]) and behind == want[2] and
                   names.get(b"connection") == b"close" and ended(s), f"close: {method} {target}", (status, names, got, behind))


def old_ones(c, port):
    """HTTP/1.0: no chunks; the connection ends, unless it is asked to stay and can."""
    for alive in (False, True):
        for _, target, fields, body, _, *want in (e for e in EXCHANGES if CHUNKED not in e[2] and e[0] == "GET"):
            peer = h11.Connection(h11.CLIENT)
            peer.send(h11.Request(method="GET", target=target, headers=[HOST]))
            peer.send(h11.EndOfMessage())
            line = b"GET " + target.encode() + b" HTTP/1.0\r\n" + (b"Connection: keep-alive\r\n" if alive else b"")
            with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
                s.sendall(line + b"\r\n")
                status, names, got, _, _ = reply(peer, lambda: s.recv(65536))
                good = status == want[0] and (want[1] is None or got == want[1]) and b"transfer-encoding" not in names
                known = b"content-length" in names or status in (204, 304)
                stays = alive and known and idle(s)
                c.that(good and (stays and names.get(b"connection") == b"keep-alive" if alive and known else ended(s)),
                       f"HTTP/1.0{', kept alive' if alive else ''}: {target}", (status, names, got))


def main():
    c = Checks("h11_client")
    with Server() as server:
        before = server.stats()
        one_after_the_other(c, server.port, "one after the other")
        one_after_the_other(c, server.port, "byte by byte")
        for part in (all_at_once, expectations, ends, old_ones):
            part(c, server.port)
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
    c.end()


if __name__ == "__main__":
    main()
