"""wire.py -- what the drivers of test/wire share: our server, raw exchanges, readers of replies.

A driver makes Checks, runs them and prints "wire-NAME: N passed, N failed".  Servers and
proxies started here end with the driver, however that ends: the kernel kills them.
"""

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SLOW = float(os.environ.get("TEST_TIMEOUT") or 1)
FULL = os.environ.get("WIRE") == "full"
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = sys.argv[1] if len(sys.argv) > 1 else "build/gcc/test/wire"


class Checks:
    """Counts what holds; prints what does not."""

    def __init__(self, name, quiet=False):
        self.name, self.quiet = name, quiet
        self.passed = self.failed = 0

    def that(self, good, text, seen=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            if self.failed <= 20 and not self.quiet:
                print(f"FAIL {self.name}: {text}" + (f"\n     {seen!r:.400}" if seen != "" else ""), flush=True)
        return good

    def note(self, text):
        print(f"     {self.name}: {text}", flush=True)

    def end(self):
        print(f"wire-{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(self.failed > 0)


# ---- processes ---------------------------------------------------------------------------


LIBC = ctypes.CDLL(None)  # not in the child: other threads may hold locks


def die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, process, patience=10):
    deadline = time.monotonic() + patience * SLOW
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} does not listen")


class Process:
    """A program that runs until the block is left."""

    def __init__(self, argv, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM, patience=15):
        """End it.  Returns: its status; None if it had to be killed."""
        if self.p.poll() is None:
            self.p.send_signal(number)
            try:
                self.p.wait(patience * SLOW)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
                return None
        return self.p.returncode


class Server(Process):
    """test/wire/server.c, on a port of its own."""

    def __init__(self, *arguments, program=None, **options):
        program = program or os.path.join(BUILD, "server")
        self.errors = options.setdefault("stderr", open(os.devnull, "wb"))
        super().__init__([program, *arguments], stdout=subprocess.PIPE, **options)
        line = self.p.stdout.readline().decode()
        if not line.startswith("wire: "):
            raise RuntimeError(f"the server did not start (status {self.p.wait()})")
        self.port = int(line.rsplit(":", 1)[1])
        self.seen = 0

    def get(self, path):
        """A reply's body, on a connection of its own."""
        reply = exchange(self.port, f"GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n".encode())
        return replies(reply)[0].body

    def stats(self):
        return json.loads(self.get("/wire/stats"))

    def log(self):
        """Requests since the last call: (number, method, path, length, framing, status)."""
        lines = [line.split() for line in self.get(f"/wire/log?from={self.seen}").decode().splitlines() if line]
        found = [(int(a), b, c, int(d), e, int(f)) for a, b, c, d, e, f in lines]
        if found:
            self.seen = found[-1][0] + 1
        return found

    def settle(self, before, patience=5):
        """Wait until what was there is there: connections, goroutines, descriptors.  Returns: whether, stats."""
        deadline = time.monotonic() + patience * SLOW
        while True:
            now = self.stats()
            good = now["open"] <= before["open"] and now["goroutines"] <= before["goroutines"] and \
                now["descriptors"] <= before["descriptors"] and now["active"] <= 1
            if good or time.monotonic() > deadline:
                return good, now
            time.sleep(0.02)


# ---- bytes --------------------------------------------------------------------------------


def exchange(port, data, patience=3, end=True):
    """Send; end our side; all that comes until the other side ends.  A last b"..." means it went on too long."""
    out = b""
    with socket.create_connection(("127.0.0.1", port), patience * SLOW) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            s.sendall(data)
            if end:
                s.shutdown(socket.SHUT_WR)
        try:
            while piece := s.recv(65536):
                out += piece
        except TimeoutError:
            out += b"..."
        except OSError:
            pass
    return out


def reset(s):
    """Close with a reset, not an orderly end."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Reply:
    def __init__(self, status, fields, body, whole):
        self.status, self.fields, self.body, self.whole = status, fields, body, whole

    def field(self, name):
        found = [v for n, v in self.fields if n == name]
        return found[0] if found else None

    def json(self):
        with contextlib.suppress(ValueError):
            return json.loads(self.body)
        return {}

    def __repr__(self):
        return f"{self.status} {self.body[:80]!r}{'' if self.whole else ' cut short'}"


def read_chunks(data):
    """Returns: the body, whether it was whole, and what is behind it."""
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found or not re.fullmatch(rb"[0-9a-fA-F]{1,16}", line):
            return body, False, b""
        size = int(line, 16)
        if size == 0:
            break
        body += rest[:size]
        if rest[size:size + 2] != b"\r\n":
            return body, False, b""
        data = rest[size + 2:]
    while rest[:2] != b"\r\n":
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            return body, False, b""
    return body, True, rest[2:]


def replies(data, methods=()):
    """Replies as they stand in data, strictly; what is not one ends the list as status 0."""
    found = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) [ -~]*", lines[0])
        fields = [re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", line)
                  for line in lines[1:]]
        if not end or not match or None in fields:
            found.append(Reply(0, [], data, False))
            break
        status = int(match[1])
        fields = [(f[1].decode().lower(), f[2].decode("latin-1")) for f in fields]
        names = dict(fields)
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        if status < 200 or status in (204, 304) or method == "HEAD":
            body, whole = b"", True
        elif "transfer-encoding" in names:
            body, whole, rest = read_chunks(rest)
        elif "content-length" in names:
            size = int(names["content-length"])
            body, whole, rest = rest[:size], len(rest) >= size, rest[size:]
        else:
            body, whole, rest = rest, True, b""
        if status >= 200 or status == 101:
            found.append(Reply(status, fields, body, whole))
        data = rest
    return found


def read_until_quiet(s, quiet=0.3, patience=5):
    """What comes until nothing has come for `quiet` seconds.  Returns: the bytes, whether it has ended."""
    out, deadline = b"", time.monotonic() + patience * SLOW
    while time.monotonic() < deadline and select.select([s], [], [], quiet * SLOW)[0]:
        try:
            piece = s.recv(65536)
        except OSError:
            return out, True
        if not piece:
            return out, True
        out += piece
    return out, False
