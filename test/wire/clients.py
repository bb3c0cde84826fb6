#!/usr/bin/python3
"""clients.py -- clients that no one here wrote: curl, h11, http.client, wrk, ab, siege,
slowhttptest; straight, and through nginx and HAProxy as ordinary reverse proxies.

h11 is also the judge of what the server says: each reply of the server, to requests
good and bad, must be one that it accepts.
"""

import concurrent.futures
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import h11
from proxies import haproxy, nginx
from reject import REFUSED, TAKEN
from wire import FULL, SLOW, Checks, Process, Server, die_with_parent, free_port, wait_for_port

BODY = bytes(range(256)) * 40


def run(argv, patience=60, **options):
    """Returns: what the program printed, and its status."""
    p = subprocess.run(argv, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=patience * SLOW, preexec_fn=die_with_parent, **options)
    return p.stdout.decode("latin-1"), p.returncode


# ---- curl ------------------------------------------------------------------------------------


def certificate(directory):
    files = os.path.join(directory, "c.pem"), os.path.join(directory, "k.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def with_curl(c, directory):
    body = os.path.join(directory, "body")
    with open(body, "wb") as f:
        f.write(BODY)
    crc = f'"length":{len(BODY)},"crc":{zlib.crc32(BODY)}'
    files, secure = certificate(directory), free_port()
    with Server("-t", f"127.0.0.1:{secure}", *files) as server:
        plain, tls = f"http://127.0.0.1:{server.port}", f"https://127.0.0.1:{secure}"
        trust = ["--cacert", files[0]]
        cases = [
            ("GET", [plain + "/a?b=c"], '"path":"/a","query":"b=c"'),
            ("HEAD", ["-I", plain + "/a"], "HTTP/1.1 200 OK"),
            ("HTTP/1.0", ["-0", plain + "/a"], '"version":10'),
            ("POST", ["--data-binary", "@" + body, plain + "/p"], f'"framing":"length",{crc}'),
            ("PUT", ["-T", body, plain + "/p"], f'"method":"PUT","path":"/p"'),
            ("chunks", ["-T", "-", plain + "/p"], f'"framing":"chunked",{crc}'),
            ("100-continue", ["-H", "Expect: 100-continue", "--data-binary", "@" + body, plain + "/p"], crc),
            ("a form", ["-F", "a=b", "-F", "file=@" + body, plain + "/p"], '"method":"POST"'),
            ("OPTIONS *", ["-X", "OPTIONS", "--request-target", "*", plain], ""),
            ("a proxy's target", ["-x", plain, plain + "/via"], '"path":"/via"'),
            ("chunked reply", [plain + "/wire/body?size=100000&chunked=1"], "abcdefghijklmnopqrstuvwxyz"),
            ("TLS", [*trust, "--http1.1", tls + "/t"], '"version":11'),
            ("TLS 1.2", [*trust, "--http1.1", "--tls-max", "1.2", tls + "/t"], '"version":11'),
            ("HTTP/2", [*trust, "--http2", tls + "/t"], '"version":20'),
            ("HTTP/2, a body", [*trust, "--http2", "--data-binary", "@" + body, tls + "/t"], crc),
            ("HTTP/2 by prior knowledge", ["--http2-prior-knowledge", "--data-binary", "@" + body, plain + "/t"], crc),
            ("an offer of h2c", ["--http2", plain + "/t"], '"version":11'),
        ]
        for what, arguments, want in cases:
            with open(body, "rb") as f:
                text, status = run(["curl", "-sS", "-m", "10", *arguments], stdin=f)
            c.that(status == 0 and want in text, f"curl: {what}", text)
        text, status = run(["curl", "-sS", "-m", "10", "-w", "%{num_connects}", "-o", os.devnull, "-o", os.devnull, "-o",
                            os.devnull, *[plain + "/k"] * 3])
        c.that(text == "100", "curl: three requests, one connection", text)
        text, status = run(["curl", "-sS", "-m", "10", plain + "/wire/crash/half"])
        c.that(status == 18, "curl: sees a broken transfer", (status, text))
        text, status = run(["curl", "-sS", "-m", "10", plain + "/wire/crash/null", plain + "/after"])
        c.that(text.startswith("500") and '"path":"/after"' in text, "curl: a crash, then life", text)
        text, status = run(["curl", "-sS", "-m", "10", "-Z", "--parallel-max", "20", plain + "/many/[1-200]"])
        paths = set(re.findall(r'"path":"(/many/\d+)"', text))
        c.that(len(paths) == 200, "curl: 200 in parallel", len(paths))


# ---- h11 ---------------------------------------------------------------------------------------


def h11_reply(s, peer):
    """One reply.  Returns: status, fields, body; of interim ones the statuses only."""
    interim = []
    status, fields, body = None, None, b""
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(s.recv(65536))
        elif isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            status, fields = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return status, fields, body, interim


def h11_client(c, port, via=""):
    requests = [
        ("GET", [], b"", "none"),
        ("POST", [("Content-Length", str(len(BODY)))], BODY, "length"),
        ("POST", [("Transfer-Encoding", "chunked")], BODY, "chunked"),
        ("PUT", [("Content-Length", "0")], b"", "length"),
        ("HEAD", [], b"", None),
        ("DELETE", [], b"", "none"),
        ("POST", [("Content-Length", "10"), ("Expect", "100-continue")], b"0123456789", "length"),
    ]
    peer = h11.Connection(h11.CLIENT)
    with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as s:
        for number, (method, fields, body, framing) in enumerate(requests * 3):
            path = f"/h11/{number}"
            s.sendall(peer.send(h11.Request(method=method, target=path, headers=[("Host", "w"), *fields])))
            for at in range(0, len(body), 3000):
                s.sendall(peer.send(h11.Data(data=body[at:at + 3000])))
            s.sendall(peer.send(h11.EndOfMessage()))
            status, names, answer, _ = h11_reply(s, peer)
            seen = json.loads(answer) if answer else {}
            good = status == 200 and (method == "HEAD" or (seen["path"], seen["length"], seen["crc"]) ==
                                      (path, len(body), zlib.crc32(body)))
            if not via:
                good = good and (framing is None or seen["framing"] == framing)
            if not c.that(good, f"h11{via}: {method} {fields}", (status, names, answer)):
                return
            if peer.our_state is h11.MUST_CLOSE or peer.their_state is not h11.DONE:
                c.that(False, f"h11{via}: the connection lives on after {method}", peer.states)
                return
            peer.start_next_cycle()


def h11_judge(c, server):
    """Each reply to each good and bad request is one."""
    paths = [b"/wire/crash/null", b"/wire/crash/child", b"/wire/body?size=5000", b"/wire/body?size=50000&chunked=1",
             b"/wire/body?size=0", b"/wire/body?file=1", b"/wire/deaf", b"/wire/none"]
    data = [d for _, _, d, *_ in REFUSED + TAKEN] + [b"GET " + p + b" HTTP/1.1\r\nHost: w\r\n\r\n" for p in paths] + \
        [b"GET " + p + b" HTTP/1.0\r\n\r\n" for p in paths]
    for request in data:
        peer = h11.Connection(h11.CLIENT)
        peer.send(h11.Request(method="GET", target="/", headers=[("Host", "w")]))
        peer.send(h11.EndOfMessage())
        with socket.create_connection(("127.0.0.1", server.port), 5 * SLOW) as s:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)
            try:
                status, fields, _, _ = h11_reply(s, peer)
                c.that(status is not None and b"date" in fields, f"h11 accepts the reply to {request[:60]!r}", fields)
            except (h11.RemoteProtocolError, OSError) as e:
                c.that(False, f"h11 accepts the reply to {request[:60]!r}", e)


# ---- http.client --------------------------------------------------------------------------------


def with_http_client(c, port, via=""):
    h = http.client.HTTPConnection("127.0.0.1", port, timeout=5 * SLOW)
    for number in range(30):
        path = f"/http.client/{number}"
        if number % 3 == 0:
            h.request("GET", path)
        elif number % 3 == 1:
            h.request("POST", path, BODY, {"X-Number": str(number)})
        else:
            h.request("POST", path, iter([BODY[:1000], BODY[1000:]]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        r = h.getresponse()
        seen = json.loads(r.read())
        size = len(BODY) if number % 3 else 0
        c.that(r.status == 200 and seen["path"] == path and seen["length"] == size, f"http.client{via}: {path}", seen)
        if number == 0:
            connection = h.sock
    c.that(h.sock is connection, f"http.client{via}: one connection for all")
    h.close()


# ---- load ---------------------------------------------------------------------------------------


def with_load(c, port, via=""):
    url = f"http://127.0.0.1:{port}/load"
    text, status = run(["wrk", "-t", "1", "-c", "16", "-d", "1", url])
    count = int((re.search(r"(\d+) requests in", text) or [0, 0])[1])
    c.that(status == 0 and count > 100 and "Non-2xx" not in text and "Socket errors" not in text, f"wrk{via}", text)
    counts = {"wrk": count}
    for what, arguments in {"ab -k": ["-k"], "ab": [], "ab, POST": ["-k", "-p", __file__]}.items():
        text, status = run(["ab", "-q", "-n", "1000", "-c", "10", *arguments, url])
        c.that(status == 0 and re.search(r"Complete requests: +1000\n", text) and re.search(r"Failed requests: +0\n", text)
               and "Non-2xx" not in text, f"{what}{via}", text)
        counts[what] = 1000
    with tempfile.TemporaryDirectory() as home:
        text, status = run(["siege", "-b", "-c", "8", "-r", "50", "--no-parser", url], env={**os.environ, "HOME": home})
    c.that(status == 0 and re.search(r'"successful_transactions":\s+400,', text) and
           re.search(r'"failed_transactions":\s+0,', text), f"siege{via}", text)
    c.note(f"load{via or ' straight'}: " + ", ".join(f"{n} {k}" for k, n in counts.items()) + ", 400 siege; none failed")


def through(c, name, make):
    directory = tempfile.mkdtemp(prefix="wire-")
    try:
        with Server() as server, Process(make(directory, server.port, port := free_port()), cwd=directory) as p:
            wait_for_port(port, p.p)
            via = f" through {name}"
            before = server.stats()
            with_http_client(c, port, via)
            h11_client(c, port, via)
            after = server.stats()
            used = after["connections"] - before["connections"]
            c.that(used <= 12, f"{name} keeps its connections to the server", used)
            with_load(c, port, via)
            c.that(server.stats()["refused"] == 0, f"nothing that {name} sends is refused")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# ---- slow ones ------------------------------------------------------------------------------------

ATTACKS = {
    "slow heads": ["-H"],
    "slow bodies": ["-B", "-s", "8192", "-x", "10"],
    "overlapping ranges": ["-R", "-a", "1", "-b", "3000"],
    "slow readers": ["-X", "-k", "3", "-w", "10", "-y", "20", "-n", "1", "-z", "8"],
}


def measure(server, stop, times):
    """A well-behaved client, all the while."""
    h = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5 * SLOW)
    while not stop.is_set():
        start = time.monotonic()
        h.request("GET", "/normal")
        r = h.getresponse()
        good = json.loads(r.read())["path"] == "/normal"
        times.append(time.monotonic() - start if good else 99)
        time.sleep(0.005)
    h.close()


def attack(c, name, arguments, connections, seconds):
    with Server("-s") as server:
        before = server.stats()
        stop, times = threading.Event(), []
        normal = threading.Thread(target=measure, args=(server, stop, times))
        normal.start()
        path = "/wire/body?size=2000000" if "-X" in arguments else "/slow"
        argv = ["slowhttptest", *arguments, "-c", str(connections), "-i", "1", "-l", str(seconds), "-r", str(connections),
                "-p", "2", "-v", "1", "-u", f"http://127.0.0.1:{server.port}{path}"]
        with Process(argv) as p:
            peak = now = before
            end = time.monotonic() + seconds + 5
            while p.p.poll() is None and time.monotonic() < end:
                now = server.stats()
                if now["open"] > peak["open"]:
                    peak = now
                time.sleep(0.1)
        stop.set()
        normal.join()
        good, now = server.settle(before, 10)
        times.sort()
        p99 = times[len(times) * 99 // 100] * 1000 if times else 0
        made = now["connections"] - before["connections"]
        c.that(made >= connections, f"{name}: the attack takes place", made)
        c.that(len(times) > 50 and p99 < 300 * SLOW, f"{name}: others are served in time", p99)
        c.that(good, f"{name}: nothing is left behind", now)
        each = (peak["resident"] - before["resident"]) / max(1, peak["open"])
        c.note(f"{name}: {made} connections, {peak['open']} at a time, {each:.1f} KiB each; {len(times)} others served, p99 {p99:.1f} ms")


def slow_attacks(c):
    connections, seconds = (1000, 20) if FULL else (200, 8)
    with concurrent.futures.ThreadPoolExecutor(len(ATTACKS)) as pool:
        for done in [pool.submit(attack, c, name, arguments, connections, seconds) for name, arguments in ATTACKS.items()]:
            done.result()


def main():
    c = Checks("clients")
    directory = tempfile.mkdtemp(prefix="wire-")
    try:
        with_curl(c, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    with Server() as server:
        before = server.stats()
        h11_client(c, server.port)
        h11_judge(c, server)
        with_http_client(c, server.port)
        with_load(c, server.port)
        good, now = server.settle(before)
        c.that(good, "nothing is left behind", now)
    through(c, "nginx", nginx)
    through(c, "HAProxy", haproxy)
    slow_attacks(c)
    c.end()


if __name__ == "__main__":
    main()
