#!/usr/bin/python3
"""proxies.py -- every gadget through five proxies in front of the server.

What the two disagree on is a hole: the server must have seen as many requests as the
client got answers from it, none that nobody sent, and the next client of the same
connection to the server must get the answer to its own request.

Each proxy runs with as few connections to the server as it can, and keeps them alive.
Without WIRE=full, it gets the gadgets with a few odd bytes only.
"""

import collections
import concurrent.futures
import contextlib
import json
import os
import re
import select
import shutil
import socket
import sys
import tempfile
import threading

from gadgets import gadgets
from wire import FULL, SLOW, Checks, Process, Server, free_port, replies, wait_for_port

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log /dev/null crit;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
    uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e; underscores_in_headers on; keepalive_requests 100000;
    ignore_invalid_headers off;
    upstream wire {{ server 127.0.0.1:{to}; keepalive 1; keepalive_requests 100000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://wire; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_request_buffering off; proxy_next_upstream off; client_body_timeout 2s;
        }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 256
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 3s
    timeout server 3s
    timeout http-request 2s
    option http-keep-alive
    http-reuse always
    retries 0
    {lenient}
frontend f
    bind 127.0.0.1:{port}
    default_backend b
backend b
    {lenient_back}
    server s 127.0.0.1:{to} pool-max-conn 1
"""

VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{to}"; .max_connections = 4; .between_bytes_timeout = 3s; .first_byte_timeout = 3s; }}
sub vcl_recv {{ return (pass); }}
"""

APACHE = """
ServerRoot {dir}
ServerName wire
PidFile {dir}/pid
ErrorLog {dir}/error
DefaultRuntimeDir {dir}
Mutex posixsem
Listen 127.0.0.1:{port}
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so
RequestReadTimeout header=2 body=2
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
KeepAlive On
Timeout 3
HttpProtocolOptions {lenient}
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:{to}/ max=1 keepalive=On ttl=60 retry=0
"""

CADDY = """
{{
    admin off
    auto_https off
    log {{
        output discard
    }}
    servers {{
        timeouts {{
            read_body 3s
            read_header 2s
        }}
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{to} {{
        flush_interval -1
        transport http {{
            max_conns_per_host 1
            keepalive_idle_conns 1
            dial_timeout 2s
            response_header_timeout 3s
        }}
    }}
}}
"""


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


def nginx(d, to, port):
    path = write(d, "nginx.conf", NGINX.format(dir=d, to=to, port=port))
    return ["nginx", "-p", d, "-e", os.path.join(d, "error"), "-c", path]


def haproxy(d, to, port, lenient="", lenient_back=""):
    path = write(d, "haproxy.cfg", HAPROXY.format(to=to, port=port, lenient=lenient, lenient_back=lenient_back))
    return ["haproxy", "-db", "-q", "-f", path]


def haproxy_lenient(d, to, port):
    return haproxy(d, to, port, "option accept-invalid-http-request", "option accept-invalid-http-response")


def varnish(d, to, port):
    path = write(d, "wire.vcl", VARNISH.format(to=to))
    return ["varnishd", "-F", "-j", "none", "-n", os.path.join(d, "work"), "-f", path, "-a", f"127.0.0.1:{port}",
            "-s", "malloc,16m", "-p", "timeout_idle=2", "-p", "thread_pools=1", "-p", "thread_pool_min=10",
            "-p", "vsl_space=1m"]


def apache(d, to, port, lenient="Strict"):
    os.chmod(d, 0o755)
    path = write(d, "apache.conf", APACHE.format(dir=d, to=to, port=port, lenient=lenient))
    return ["apache2", "-X", "-f", path]


def apache_lenient(d, to, port):
    return apache(d, to, port, "Unsafe")


def caddy(d, to, port):
    path = write(d, "Caddyfile", CADDY.format(to=to, port=port))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", path]


PROXIES = {"nginx": nginx, "haproxy": haproxy, "haproxy, lenient": haproxy_lenient, "varnish": varnish,
           "apache": apache, "apache, lenient": apache_lenient, "caddy": caddy}


class Hop:
    """One proxy in front of one server, and what they did."""

    def __init__(self, c, name, server, port):
        self.c, self.name, self.server, self.port = c, name, server, port
        self.counts = collections.Counter()
        self.innocent = None

    def ask_innocent(self, number):
        """Another client, over the same few connections to the server.  Returns: whether it got its own answer."""
        path = f"/innocent/{number:08d}"
        data = f"GET {path} HTTP/1.1\r\nHost: wire\r\n\r\n".encode()
        for _ in range(2):  # a proxy may find its connection closed, and say so once
            if self.innocent is None:
                self.innocent = socket.create_connection(("127.0.0.1", self.port), 5)
            answer, ended = b"", False
            try:
                self.innocent.sendall(data)
                while not (found := replies(answer)) or not found[0].whole:
                    piece = self.innocent.recv(65536)
                    if not piece:
                        raise OSError
                    answer += piece
            except OSError:
                ended, found = True, replies(answer)
            if ended or len(found) != 1 or found[0].field("connection") == "close":
                self.innocent.close()
                self.innocent = None
            if found and found[0].field("x-wire") is not None:
                return len(found) == 1 and found[0].json().get("path") == path, found
            self.counts["innocent refused by the proxy"] += 1
        return not found or found[0].status >= 500, found

    def send(self, data):
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                s.sendall(data)
            except OSError:
                pass
            answer = b""
            while True:
                found = replies(answer)
                quiet = 0.01 if found and all(r.whole for r in found) else 4 * SLOW
                if not select.select([s], [], [], quiet)[0]:
                    return found
                try:
                    piece = s.recv(65536)
                except OSError:
                    return found
                if not piece:
                    return found
                answer += piece

    def judge(self, number, gadget):
        found = self.send(gadget.data(number))
        good, own = self.ask_innocent(number)
        self.c.that(good, f"{self.name}: after {gadget.name} the next client gets its own answer", own)
        log = self.server.log()
        # One of an earlier gadget may come late, after its proxy has already given up on it.
        late = [line for line in log if line[2].startswith("/gadget/") and not line[2].endswith(f"{number:08d}")]
        passed = [line for line in log if "/innocent/" not in line[2] and line not in late]
        ours = [r for r in found if r.field("x-wire") is not None]
        strangers = [line for line in passed if "/smuggled/" in line[2] and
                     not any(r.json().get("path") == line[2] for r in ours)]
        retried = len(passed) - len({line[1:3] for line in passed})
        # Fewer answers than requests: only if the proxy gave up on one, and said so itself.
        lost = len(passed) - retried - len(ours)
        excused = sum(r.status >= 400 for r in found if r not in ours)
        self.c.that(not strangers, f"{self.name}: {gadget.name} hides no request", (passed, found))
        self.c.that(len(ours) <= len(passed) and lost <= excused,
                    f"{self.name}: {gadget.name} has as many answers as requests", (passed, found))
        self.counts["sent"] += 1
        self.counts["passed on"] += bool(passed)
        self.counts["refused by the server"] += any(line[5] != 200 for line in passed)
        self.counts["given up by the proxy"] += lost > 0
        self.counts["retried"] += retried


class Naive:
    """A server as there are some: chunked is what says so anywhere.  Looks like Server to a Hop."""

    def __enter__(self):
        self.lines, self.count, self.open = [], 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        for s in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def log(self):
        found, self.lines = self.lines, []
        return found

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.open.append(self.listener.accept()[0])
                threading.Thread(target=self.serve, args=(self.open[-1],), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError, ValueError), s.makefile("rwb") as f:
            while line := f.readline():
                method, path = line.split()[:2]
                fields = b"".join(iter(f.readline, b"\r\n")).lower()
                if b"chunked" in fields:
                    while size := int(f.readline(), 16):
                        f.read(size + 2)
                    f.readline()
                elif length := re.search(rb"content-length: *(\d+)", fields):
                    f.read(int(length[1]))
                body = json.dumps({"path": path.decode()}).encode()
                self.lines.append((self.count, method.decode(), path.decode(), 0, "-", 200))
                f.write(b"HTTP/1.1 200 OK\r\nX-Wire: %d\r\nContent-Length: %d\r\n\r\n%s" % (self.count, len(body), body))
                f.flush()
                self.count += 1


def control(c):
    """The same with a server that is easily misled: it must be noticed."""
    found = Checks("control", quiet=True)
    run(found, "nginx", nginx, [g for g in gadgets(True) if g.name.endswith("-last")], Naive)
    c.that(found.failed >= 3, "requests that slip through nginx to a naive server are noticed", found.failed)
    c.note(f"control, nginx before a naive server: {found.failed} of {found.failed + found.passed} checks fail, as they must")


def run(c, name, make, chosen, kind=Server):
    directory = tempfile.mkdtemp(prefix="wire-")
    try:
        with kind() as server, Process(make(directory, server.port, port := free_port()), cwd=directory) as p:
            wait_for_port(port, p.p)
            hop = Hop(c, name, server, port)
            for number, gadget in enumerate(chosen):
                hop.judge(number, gadget)
            if hop.innocent is not None:
                hop.innocent.close()
            c.that(p.p.poll() is None, f"{name} still runs")
            good = hop.counts["passed on"] > 0
            c.that(good, f"{name} passes something on")
            if not c.quiet:
                c.note(f"{name}: " + ", ".join(f"{n} {k}" for k, n in hop.counts.items()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main():
    c = Checks("proxies")
    chosen = sys.argv[2:] or list(PROXIES)
    # They mostly wait.  A driver's thread may not end before its processes: the kernel kills those with it.
    with concurrent.futures.ThreadPoolExecutor(len(chosen) + 1) as pool:
        for done in [pool.submit(control, c)] + [pool.submit(run, c, name, PROXIES[name], gadgets(not FULL)) for name in chosen]:
            done.result()
    c.end()


if __name__ == "__main__":
    main()
