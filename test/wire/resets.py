#!/usr/bin/python3
"""resets.py -- the client goes away at every byte of a request, and at every byte of a reply.

With an orderly end or a reset, in several kinds of exchange, in TLS's handshake too.  Nothing may stay behind: no
connection, goroutine, descriptor or memory; and a client that leaves in the middle of a
request must not have it carried out.  Byte by byte, the same requests must be understood.
"""

import shutil
import socket
import ssl
import tempfile

import h2.connection
from clients import certificate
from wire import FULL, SLOW, Checks, Server, free_port, replies, reset

BODY = b"0123456789" * 40
GET = b"GET /a?b=c HTTP/1.1\r\nHost: w\r\nAccept: */*\r\n\r\n"


def http2():
    """What a client of HTTP/2 sends for a GET and a POST."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [(":scheme", "http"), (":authority", "w"), ("accept", "*/*")]
    client.send_headers(1, [(":method", "GET"), (":path", "/h2"), *fields], end_stream=True)
    client.send_headers(3, [(":method", "POST"), (":path", "/h2/post"), *fields])
    client.send_data(3, BODY[:200])
    client.send_data(3, BODY[200:], end_stream=True)
    return client.data_to_send()


REQUESTS = {
    "HTTP/2": http2(),
    "a GET": GET,
    "a body with its length": b"POST /b HTTP/1.1\r\nHost: w\r\nContent-Length: 400\r\n\r\n" + BODY,
    "chunks": b"POST /c HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"c8;x=\"y\"\r\n" + BODY[:200] + b"\r\n0C8\r\n" + BODY[200:] + b"\r\n0\r\nA: b\r\n\r\n",
    "a pipeline": GET * 3 + b"POST /d HTTP/1.1\r\nHost: w\r\nContent-Length: 10\r\n\r\n0123456789" + GET,
    "an expectation": b"POST /e HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n0123456789",
    "an unread body": b"POST /wire/deaf HTTP/1.1\r\nHost: w\r\nContent-Length: 400\r\n\r\n" + BODY,
    "HTTP/1.0": b"GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "a refused head": b"GET /g HTTP/1.1\r\nHost: w\r\nA : b\r\n\r\n",
}
REPLIES = {
    "an echo": GET,
    "a pipeline": GET * 5,
    "a long body": b"GET /wire/body?size=400000 HTTP/1.1\r\nHost: w\r\n\r\n",
    "chunks": b"GET /wire/body?size=200000&chunked=1 HTTP/1.1\r\nHost: w\r\n\r\n",
    "a file": b"GET /wire/body?file=1 HTTP/1.1\r\nHost: w\r\n\r\n",
    "a crash": b"GET /wire/crash/null HTTP/1.1\r\nHost: w\r\n\r\n",
    "a broken transfer": b"GET /wire/crash/half HTTP/1.1\r\nHost: w\r\n\r\n",
    "a refusal": b"GET /g HTTP/1.1\r\nHost: w\r\nA : b\r\n\r\n",
}


def dial(server, buffer=None):
    s = socket.socket()
    if buffer is not None:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.settimeout(5 * SLOW)
    s.connect(("127.0.0.1", server.port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def leave(s, how):
    if how == "resets":
        reset(s)
    else:
        s.close()


def receive(s, want):
    """At least `want` bytes, or all there are."""
    out = b""
    while len(out) < want and (piece := s.recv(min(65536, want - len(out)))):
        out += piece
    return out


def in_requests(c, server, base):
    for kind, data in REQUESTS.items():
        for how in ("ends", "resets"):
            for at in range(len(data)):
                s = dial(server)
                s.sendall(data[:at])
                leave(s, how)
            good, now = server.settle(base)
            c.that(good, f"the client {how} at every byte of {kind}: nothing is left behind", now)
            whole = [line for line in server.log() if line[1] == "POST" and line[5] == 200 and line[2] != "/d"]
            c.that(not whole, f"the client {how} at every byte of {kind}: no half request is carried out", whole)
            c.passed += len(data) - 1


def in_tls(c, server, base, port):
    """As in_requests, of what a client of TLS sends: its handshake, and a request in it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for how in ("ends", "resets"):
        at, sent_all = 0, False
        while not sent_all:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing)
            s = socket.create_connection(("127.0.0.1", port), 5 * SLOW)
            left, asked = at, False
            while left > 0:
                try:
                    if not asked:
                        tls.do_handshake()
                        tls.write(GET)
                        asked = True
                    else:
                        tls.read(65536)
                        sent_all = True
                        break
                except ssl.SSLWantReadError:
                    pass
                data = outgoing.read()
                if data:
                    s.sendall(data[:left])
                    left -= len(data[:left])
                elif piece := s.recv(65536):
                    incoming.write(piece)
                else:
                    c.that(False, f"the server goes on with TLS at {at}")
                    break
            leave(s, how)
            at += 1
        good, now = server.settle(base)
        c.that(good and at > 400, f"the client {how} at every byte of TLS: nothing is left behind", (at, now))
        c.passed += at - 1


def in_replies(c, server, base):
    for kind, data in REPLIES.items():
        with dial(server) as s:
            s.sendall(data)
            s.settimeout(0.3 * SLOW)
            size, whole = 0, b""
            try:
                while piece := s.recv(65536):
                    whole += piece
            except TimeoutError:
                pass
        size = len(whole)
        step = 1 if FULL else max(1, size // 400)
        places = [*range(min(size, 300)), *range(300, size, step if size < 5000 else max(step, size // 300))]
        for how in ("ends", "resets"):
            for at in places:
                s = dial(server, 4096 if size > 65536 else None)
                s.sendall(data)
                got = receive(s, at)
                if got[:9] != whole[:len(got)][:9]:
                    c.that(False, f"{kind}: the reply begins as always", got[:60])
                leave(s, how)
            good, now = server.settle(base, 10)
            c.that(good, f"the client {how} at every byte of {kind} in reply: nothing is left behind", now)
            c.passed += len(places) - 1


def byte_by_byte(c, server):
    for kind, data in REQUESTS.items():
        if kind == "HTTP/2":
            continue  # its frames are no text to compare
        with dial(server) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            at_once = [(r.status, r.body) for r in replies(receive(s, 1 << 20))]
        with dial(server) as s:
            for i in range(len(data)):
                s.sendall(data[i:i + 1])
            s.shutdown(socket.SHUT_WR)
            slowly = [(r.status, r.body) for r in replies(receive(s, 1 << 20))]
        c.that(at_once and at_once == slowly, f"{kind}, byte by byte: the same replies", (at_once, slowly))


def main():
    c, secure = Checks("resets"), free_port()
    directory = tempfile.mkdtemp(prefix="wire-")
    with Server("-t", f"127.0.0.1:{secure}", *certificate(directory)) as server:
        for data in [*REQUESTS.values(), *REPLIES.values()] * 3:
            with dial(server) as s:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                receive(s, 1 << 20)
        server.get("/wire/stats")
        server.log()
        base = server.stats()
        in_requests(c, server, base)
        in_tls(c, server, base, secure)
        in_replies(c, server, base)
        byte_by_byte(c, server)
        server.log()
        good, now = server.settle(base)
        grown = now["allocated"] - base["allocated"]
        c.that(grown < 700 * 1024, "no memory is lost", (base, now))
        c.note(f"{now['connections']} connections broken off, memory {now['resident'] - base['resident']:+} KiB")
        c.that(server.stop() == 0, "it stops as it should")
    shutil.rmtree(directory, ignore_errors=True)
    c.end()


if __name__ == "__main__":
    main()
