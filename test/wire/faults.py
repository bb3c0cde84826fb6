#!/usr/bin/python3
"""faults.py -- the server's nth system call or allocation fails, for every n.

For each function and error: make the first call fail while clients run a scenario, then
the second, and so on until a run passes in which none has failed.  A client may get an
error or a broken connection for that; what looks like a good reply must be right, nobody
may be left waiting, and when it is over no connection, goroutine, descriptor or
memory may be left.  Then the same for starting: the server starts, or says why not.

The failing is done by faults.c, preloaded.
"""

import errno
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib

from wire import BUILD, FULL, SLOW, Checks, Server, die_with_parent, replies

# In the order of enum call in faults.c.
NAMES = ("none accept4 recv send read write readv writev sendmsg sendfile epoll_ctl epoll_wait mmap mprotect open "
         "socket bind listen setsockopt getsockname shutdown fcntl close eventfd epoll_create1 malloc calloc realloc "
         "pthread_create").split()
SHORT = 0

# What may happen to a server that is up; the first two of each in the quick run.  A receive is
# only short when there is no more (epoll(7), question 9), which the runtime relies on.
RUNNING = {
    "accept4": ["EMFILE", "ECONNABORTED", "ENOMEM", "EINTR", "ENFILE", "EPROTO"],
    "recv": ["ECONNRESET", "EINTR", "EIO", "ENOMEM", "ETIMEDOUT"],
    "send": ["EPIPE", "short", "EINTR", "ECONNRESET", "ENOBUFS"],
    "sendmsg": ["EPIPE", "EINTR", "ENOBUFS"],
    "sendfile": ["EIO", "short", "EINTR", "EPIPE", "ENOMEM"],
    "writev": ["EPIPE", "short"],
    "read": ["EINTR", "EIO"],
    "write": ["EINTR", "EIO"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "epoll_wait": ["EINTR"],
    "mmap": ["ENOMEM"],
    "mprotect": ["ENOMEM"],
    "open": ["EMFILE"],
    "setsockopt": ["ENOBUFS"],
    "getsockname": ["ENOBUFS"],
    "shutdown": ["ENOTCONN"],
    "close": ["EINTR", "EIO"],
    "malloc": ["ENOMEM"],
    "calloc": ["ENOMEM"],
    "realloc": ["ENOMEM"],
    "pthread_create": ["EAGAIN"],
}
# These last: every call fails from the nth on, until the scenario is over.
LASTING = {"malloc": "ENOMEM", "calloc": "ENOMEM", "realloc": "ENOMEM", "mmap": "ENOMEM", "epoll_ctl": "ENOMEM",
           "open": "EMFILE"}
# And to one that starts.
STARTING = {name: errors for name, errors in RUNNING.items() if name not in ("accept4", "recv", "send", "sendmsg", "getsockname")}
STARTING |= {"socket": ["EMFILE"], "bind": ["EADDRINUSE"], "listen": ["EADDRINUSE"], "fcntl": ["EINVAL"],
             "eventfd": ["EMFILE"], "epoll_create1": ["EMFILE"]}


class Orders:
    """What faults.c maps: see there."""

    SIZE = 20 + 4 * len(NAMES)

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="wire-faults-")
        self.file.truncate(self.SIZE)
        self.map = mmap.mmap(self.file.fileno(), self.SIZE)
        self.environment = {**os.environ, "WIRE_FAULTS": self.file.name,
                            "LD_PRELOAD": os.path.abspath(os.path.join(BUILD, "faults.so"))}

    def arm(self, name, nth, error, every=False):
        number = SHORT if error == "short" else getattr(errno, error)
        self.map[4:20] = struct.pack("iiII", nth, number, every, 0)
        self.map[0:4] = struct.pack("I", NAMES.index(name))

    def disarm(self):
        """Returns: how many calls have failed."""
        self.map[0:4] = struct.pack("I", 0)
        return struct.unpack("I", self.map[16:20])[0]

    def seen(self):
        return dict(zip(NAMES, struct.unpack(f"{len(NAMES)}I", self.map[20:])))


# ---- what the clients do --------------------------------------------------------------------

GET = b"GET /a HTTP/1.1\r\nHost: w\r\n\r\n"
BODY = bytes(range(256)) * 12
LENGTH = b"POST /b HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKS = b"POST /c HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n" \
    b"600\r\n" + BODY[:0x600] + b"\r\n600\r\n" + BODY[0x600:] + b"\r\n0\r\nA: b\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"
OLD = b"GET /old HTTP/1.0\r\n\r\n"
BAD = b"GET /bad\x01 HTTP/1.1\r\nHost: w\r\n\r\n"


def get(path, extra=b""):
    return b"GET " + path + b" HTTP/1.1\r\nHost: w\r\n" + extra + b"\r\n"


def is_echo(path, body=b""):
    want = {"path": path, "length": len(body), "crc": zlib.crc32(body)}
    return lambda r: r.status == 200 and want.items() <= r.json().items()


def is_pattern(size):
    whole = (b"abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]
    return lambda r: r.status == 200 and r.body == whole


def is_status(*statuses):
    return lambda r: r.status in statuses


# Each: pieces to send on one connection, and what the replies are if all goes well.
TALKS = [
    ([GET, GET, LENGTH, LAST], [is_echo("/a"), is_echo("/a"), is_echo("/b", BODY), is_echo("/last")]),
    ([CHUNKS[:700], CHUNKS[700:], GET + GET + LAST],
     [is_echo("/c", BODY), is_echo("/a"), is_echo("/a"), is_echo("/last")]),
    ([get(b"/wire/body?size=300000", b"Connection: close\r\n")], [is_pattern(300000)]),
    ([get(b"/wire/body?size=50000&chunked=1"), get(b"/wire/body?file=1", b"Connection: close\r\n")],
     [is_pattern(50000), is_pattern(100000)]),
    ([get(b"/wire/crash/null"), get(b"/wire/crash/child"), get(b"/wire/nothing"), LAST],
     [is_status(500), is_status(202), is_echo("/wire/nothing"), is_echo("/last")]),
    ([OLD], [is_echo("/old")]),
    ([BAD], [is_status(400)]),
]
HELD = 2  # connections that are open, idle, all the while


def talk(port, pieces, good):
    """Returns: what is wrong with the replies, or None."""
    out, sent = b"", 0
    try:
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in pieces:
                    s.sendall(piece)
                    sent += 1
                while piece := s.recv(65536):
                    out += piece
            except TimeoutError:
                return f"left waiting after {sent} of {len(pieces)} pieces, {len(out)} bytes"
            except OSError:
                pass
    except TimeoutError:
        return "left waiting to connect"
    except OSError:
        return "cannot connect"
    found = replies(out)
    for i, (r, is_good) in enumerate(zip(found, good)):
        if r.whole and not is_good(r) and r.status not in (400, 408, 500, 503):
            return f"reply {i} is wrong: {r}"
    if len(found) > len(good):
        return f"{len(found)} replies"
    return None


def scenario(port):
    """Returns: what went wrong that may not, whatever fails."""
    wrong = [f"talk {i}: {w}" for i, (pieces, good) in enumerate(TALKS) if (w := talk(port, pieces, good))]
    return wrong


# ---- the sweeps ---------------------------------------------------------------------------------


def healthy(server):
    return [f"talk {i} after it" for i, (pieces, good) in enumerate(TALKS)
            if not all_good(server.port, pieces, good)]


def all_good(port, pieces, good):
    out = b""
    try:
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
            for piece in pieces:
                s.sendall(piece)
            while piece := s.recv(65536):
                out += piece
    except OSError:
        return False
    found = replies(out)
    return len(found) == len(good) and all(r.whole and is_good(r) for r, is_good in zip(found, good))


def sweep(c, server, orders, name, error, base, every=False):
    """Returns: how many calls there are, or were until the server was gone."""
    for nth in range(1, 100000):
        orders.arm(name, nth, error, every)
        wrong = scenario(server.port)
        failed = orders.disarm()
        what = f"{name} {nth}{' and up' if every else ''}: {error}"
        if not c.that(server.p.poll() is None, f"{what}: the server goes on", server.p.returncode):
            return nth
        c.that(not wrong, f"{what}: nobody is misled or left waiting", wrong)
        good, now = server.settle(base)
        c.that(good, f"{what}: nothing is left behind", now)
        if not failed:
            c.that(not (ill := healthy(server)), f"{name} {error}: all is well afterwards", ill)
            return nth - 1
    return nth


def running(c):
    orders, total, server, held = Orders(), 0, None, []
    errors = open(os.path.join(tempfile.gettempdir(), f"wire-faults-{os.getpid()}"), "w+b")
    os.unlink(errors.name)
    orderings = [(name, error, False) for name, kinds in RUNNING.items() for error in (kinds if FULL else kinds[:2])]
    orderings += [(name, error, True) for name, error in LASTING.items()]
    for name, error, every in orderings:
        if server is None or server.p.poll() is not None:
            server = Server(env=orders.environment, stderr=errors)
            for _ in range(30):
                scenario(server.port)
            held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(HELD)]
            for s in held:
                s.sendall(GET)
                s.recv(4096)
            base = server.stats()
        count = sweep(c, server, orders, name, error, base, every)
        total += count
        if "-v" in sys.argv:
            print(f"     faults: {name} {error}{' and up' if every else ''}: {count}", flush=True)
    c.note(f"{total} failed calls while serving")
    # Buffers are kept, and reports of panics; two KiB for each failed call would exceed this.
    grown = server.stats()["allocated"] - base["allocated"]
    c.that(grown < 700 * 1024, "no memory is lost", grown)
    for s in held:
        s.close()
    status = server.stop()
    c.that(status == 0, "it stops as it should", status)
    errors.seek(0)
    if text := errors.read().decode(errors="replace"):
        for line in sorted(set(re.findall(r"^(?:fatal|runtime|panic|bulkhead|signal|goroutine).*", text, re.M)))[:9]:
            c.note(line)
    return total


def starting(c):
    total = 0
    for name, kinds in STARTING.items():
        for error in kinds if FULL else kinds[:1]:
            if error == "short":
                continue
            for nth in range(1, 2000):
                orders = Orders()
                orders.arm(name, nth, error)
                p = subprocess.Popen([os.path.join(BUILD, "server")], env=orders.environment, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
                line = p.stdout.readline()
                failed = orders.disarm()
                what = f"starting, {name} {nth}: {error}"
                address = re.fullmatch(rb"wire: .*:(\d+)\n", line)
                # The first connection may be what meets the failure.
                serves = address is not None and any(all_good(int(address[1]), *TALKS[0]) for _ in range(2))
                if serves:
                    p.terminate()
                _, text = p.communicate(timeout=20 * SLOW)
                # A thread that cannot be had is the end, as in Go, and threads come when they are needed.
                c.that(p.returncode == 0 and serves or p.returncode in (1, 2) and text.strip(),
                       f"{what}: it serves, or says why not", (p.returncode, serves, line, text))
                if not failed:
                    break
                total += 1
    c.note(f"{total} failed calls while starting")


def main():
    c = Checks("faults")
    running(c)
    starting(c)
    c.end()


if __name__ == "__main__":
    main()
