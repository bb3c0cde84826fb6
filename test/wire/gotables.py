#!/usr/bin/python3
"""gotables.py -- the tables of Go's net/http tests, put to our server.

They are read from the installed package (golang-1.19-src), nothing of them is kept here;
what is here is how each must come out in our terms, and where we differ, with why.
"""

import glob
import json
import os
import re
import zlib

from wire import Checks, Server, exchange, replies

SOURCE = os.environ.get("GO_HTTP") or (glob.glob("/usr/share/go-1.*/src/net/http") + [""])[0]

# ---- as much of Go's syntax as its tables use ------------------------------------------------

TOKEN = re.compile(r"""\s+|//[^\n]*|/\*.*?\*/|(?P<string>"(?:[^"\\]|\\.)*")|(?P<raw>`[^`]*`)|(?P<char>'(?:[^'\\]|\\.)+')
                       |(?P<word>[A-Za-z_][\w.]*)|(?P<number>[0-9][\w.<]*)|(?P<other><<|&&|:=|.)""", re.S | re.X)


def tokens(text):
    return [(m.lastgroup, m[0]) for m in TOKEN.finditer(text) if m.lastgroup]


def unquote(kind, text):
    if kind == "raw":
        return text[1:-1].encode()
    out, at = b"", 1
    while at < len(text) - 1:
        if text[at] != "\\":
            out += text[at].encode()
            at += 1
        elif text[at + 1] == "x":
            out += bytes([int(text[at + 2:at + 4], 16)])
            at += 4
        else:
            out += {"n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v", "b": b"\b", "0": b"\0"}.get(text[at + 1],
                                                                                              text[at + 1].encode())
            at += 2
    return out


def split(tokens_):
    """A list's items: tokens between commas on the outer level."""
    items, item, depth = [], [], 0
    for kind, text in tokens_:
        if kind == "other" and text in "({[":
            depth += 1
        elif kind == "other" and text in ")}]":
            depth -= 1
        if kind == "other" and text == "," and depth == 0:
            items.append(item)
            item = []
        else:
            item.append((kind, text))
    return [i for i in items + [item] if i]


def body_of(tokens_, at):
    """What is between the brace at `at` and its partner."""
    depth = 0
    for end in range(at, len(tokens_)):
        kind, text = tokens_[end]
        depth += kind == "other" and text == "{"
        depth -= kind == "other" and text == "}"
        if depth == 0:
            return tokens_[at + 1:end]
    raise ValueError("no end")


def table(file, start):
    """The entries of the table that follows `start` in a file: each a list of items, or a dict of named ones."""
    with open(os.path.join(SOURCE, file), encoding="utf-8") as f:
        text = f.read()
    found = tokens(text[text.index(start) + len(start):])
    at = next(i for i in range(len(found)) if found[i] == ("other", "{"))
    if ("word", "struct") in found[:at]:  # an anonymous type comes first
        at += len(body_of(found, at)) + 2
    entries = []
    for entry in split(body_of(found, at)):
        brace = entry.index(("other", "{"))
        items = split(entry[brace + 1:-1])
        if all(len(i) > 2 and i[0][0] == "word" and i[1] == ("other", ":") for i in items):
            entries.append({i[0][1]: i[2:] for i in items})
        else:
            entries.append(items)
    return entries


def value(item):
    """A string, number or truth that an item says; None if it is something else."""
    out, at = b"", 0
    while at < len(item):
        kind, text = item[at]
        if kind in ("string", "raw"):
            out += unquote(kind, text)
        elif text in ("reqBytes", "strings.Repeat"):
            depth = end = at + 1
            depth = 0
            while True:
                depth += item[end][1] == "("
                depth -= item[end][1] == ")"
                if depth == 0:
                    break
                end += 1
            arguments = split(item[at + 2:end])
            inner = value(arguments[0])
            out += inner * number(arguments[1]) if text == "strings.Repeat" else \
                inner.strip().replace(b"\n", b"\r\n") + b"\r\n\r\n"
            at = end
        elif text in ("true", "false"):
            return text == "true"
        elif kind == "number":
            return number(item)
        elif text in ("noBodyStr", "noError"):
            return b""
        elif text != "+":
            return None
        at += 1
    return out


def number(item):
    return eval("".join(t for _, t in item), {"__builtins__": {}})  # "20 << 10"


def strings(item):
    return [unquote(k, t) for k, t in item if k in ("string", "raw")]


# ---- each table ---------------------------------------------------------------------------------


class Run:
    def __init__(self, c, server):
        self.c, self.server = c, server
        self.count = self.differ = 0

    def send(self, data, what, differs=None):
        self.count += 1
        self.differ += differs is not None
        answer = exchange(self.server.port, data)
        return replies(answer, [data.split(b" ")[0].decode("latin-1")]), f"{what}: {data[:70]!r}" + (f" ({differs})" if differs else "")

    def refused(self, data, what, differs=None, statuses=range(400, 506)):
        found, text = self.send(data, what, differs)
        self.c.that(len(found) == 1 and found[0].status in statuses, f"{text} is refused", found)

    def taken(self, data, what, method=None, body=None, path=None, differs=None):
        found, text = self.send(data, what, differs)
        seen = found[0].json() if found else {}
        good = bool(found) and found[0].status == 200
        if body is not None:
            good = good and (method == b"HEAD" or (seen.get("length"), seen.get("crc")) == (len(body), zlib.crc32(body)))
        if method is not None and method != b"HEAD":
            good = good and seen.get("method") == method.decode()
        if path is not None and method != b"HEAD":
            good = good and seen.get("path") == path.decode()
        self.c.that(good, f"{text} is taken", found)

    def unanswered(self, data, what, differs=None):
        found, text = self.send(data, what, differs)
        self.c.that(all(r.status // 100 != 2 for r in found), f"{text} gets no good answer", found)


BOTH = "both lengths: we never guess which"
NO_HOST = "no Host in HTTP/1.1, which Go's reader leaves to its server"
CONNECT = "we offer no tunnels"
STAR = "an asterisk is for OPTIONS"
REPEATED = "repeated lengths, even equal ones"


def read_requests(r):
    for entry in table("readrequest_test.go", "var reqTests = []reqTest"):
        raw, request, body = value(entry[0]), entry[1], value(entry[2])
        method, target = raw.split(b" ")[:2]
        path = re.sub(rb"^http://[^/]*", b"", target).split(b"?")[0]
        if request == [("word", "nil")]:
            r.refused(raw, "reqTests")
        elif method == b"PRI":
            r.count += 1
            answer = exchange(r.server.port, raw, 0.3, end=False)
            r.c.that(answer[3:4] == b"\4", "HTTP/2's preface gets its settings", answer)
        elif b"Transfer-Encoding" in raw and b"Content-Length" in raw:
            r.refused(raw, "reqTests", BOTH)
        elif method == b"CONNECT":
            r.refused(raw, "reqTests", CONNECT)
        elif b"HTTP/1.1" in raw and b"Host:" not in raw:
            r.refused(raw, "reqTests", NO_HOST)
            if target == b"*" and method != b"OPTIONS":
                r.refused(raw.replace(b"\r\n", b"\r\nHost: w\r\n", 1), "reqTests", STAR)
        else:
            r.taken(raw, "reqTests", method, body, path)


def bad_requests(r):
    for entry in table("readrequest_test.go", "var badRequestTests = []"):
        r.refused(value(entry[1]), "badRequestTests")
    for entry in table("request_test.go", "var readRequestErrorTests = []"):
        if isinstance(entry, dict):
            raw, error = value(entry["in"]), value(entry.get("err", []))
        else:
            raw, error = value(entry[0]), value(entry[1])
        if error == b"" and raw.lower().count(b"content-length") > 1:
            r.refused(raw.replace(b"\r\n", b"\r\nHost: w\r\n", 1), "readRequestErrorTests", REPEATED)
        elif error == b"":
            r.refused(raw, "readRequestErrorTests", NO_HOST)
            r.taken(raw.replace(b"\r\n", b"\r\nHost: w\r\n", 1), "readRequestErrorTests, with a Host")
        elif error is None:  # unexpected ends
            r.unanswered(raw, "readRequestErrorTests")
        else:
            r.refused(raw if b"Host" in raw else raw.replace(b"\r\n", b"\r\nHost: w\r\n", 1), "readRequestErrorTests")


def versions(r):
    for entry in table("request_test.go", "var parseHTTPVersionTests = []"):
        text, major, minor, good = (value(i) for i in entry)
        data = b"GET / " + text + b"\r\nHost: w\r\n\r\n"
        if good and (major, minor) in ((1, 0), (1, 1)):
            r.taken(data, "parseHTTPVersionTests", b"GET", b"")
        else:
            r.refused(data, "parseHTTPVersionTests", statuses=[505] if good else [400, 505])


HOSTS = {b"": "an empty Host names nobody", b"::1": "an IPv6 address without brackets",
         b"[::1%25en0]:80": "a zone, which is nobody's business but the client's"}


def server_tables(r):
    for entry in table("serve_test.go", "func TestServerValidatesHostHeader(t *testing.T) {\n\ttests :="):
        proto, host, want = (value(i) for i in entry)
        data = (b"" if not proto.startswith(b"HTTP/") else b"GET / ") + proto + b"\r\n" + host + b"\r\n"
        name = host.partition(b":")[2].strip()
        if proto.startswith(b"PRI *"):
            r.unanswered(data, "TestServerValidatesHostHeader", "half of HTTP/2's preface")
        elif proto.startswith(b"PRI"):
            r.refused(data, "TestServerValidatesHostHeader", statuses=[want])
        elif proto.startswith(b"CONNECT"):
            r.refused(data, "TestServerValidatesHostHeader", CONNECT)
        elif want == 200 and host and name in HOSTS:
            r.refused(data, "TestServerValidatesHostHeader", HOSTS[name])
        elif want == 200:
            r.taken(data, "TestServerValidatesHostHeader")
        else:
            r.refused(data, "TestServerValidatesHostHeader", statuses=[want])
    for entry in table("serve_test.go", "func TestServerValidatesHeaders(t *testing.T) {\n\tsetParallel(t)\n\ttests :="):
        field, want = (value(i) for i in entry)
        data = b"GET / HTTP/1.1\r\nHost: foo\r\n" + field + b"\r\n"
        if want == 200:
            r.taken(data, "TestServerValidatesHeaders")
        else:
            r.refused(data, "TestServerValidatesHeaders", statuses=[want])
    for entry in table("serve_test.go", "func TestServerValidatesMethod(t *testing.T) {\n\ttests :="):
        method, want = (value(i) for i in entry)
        data = method + b" / HTTP/1.1\r\nHost: foo\r\n\r\n"
        if want == 200:
            r.taken(data, "TestServerValidatesMethod")
        else:
            r.refused(data, "TestServerValidatesMethod", statuses=[want])


def framing(r):
    start = b"POST / HTTP/1.1\r\nHost: w\r\n"
    for entry in table("transfer_test.go", "func TestParseTransferEncoding(t *testing.T) {\n\ttests :="):
        fields = b"".join(b"Transfer-Encoding: " + v + b"\r\n" for v in strings(entry["hdr"])[1:])
        data = start + fields + b"\r\n3\r\nabc\r\n0\r\n\r\n"
        if entry["wantErr"] == [("word", "nil")]:
            r.taken(data, "TestParseTransferEncoding", b"POST", b"abc")
        else:
            r.refused(data, "TestParseTransferEncoding")
    for entry in table("transfer_test.go", "func TestParseContentLength(t *testing.T) {\n\ttests :="):
        text = value(entry["cl"])
        data = start + b"Content-Length: " + text + b"\r\n\r\nabc"
        if entry["wantErr"] != [("word", "nil")]:
            r.refused(data, "TestParseContentLength")
        elif len(text) > 18:
            r.refused(data, "TestParseContentLength", "over 18 digits: nobody sends an exabyte")
        else:
            r.taken(data, "TestParseContentLength", b"POST", b"abc")


def chunks(r):
    start = b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n"
    for entry in table("internal/chunked_test.go", "tests := []testCase"):
        size, want, error = value(entry[0]), value(entry[1]), value(entry[2])
        if error:
            r.refused(start + size + b"\r\nabc\r\n0\r\n\r\n", "TestParseHexUint")
        elif want in (0, 1):
            r.taken(start + size + b"\r\n" + (b"x\r\n0\r\n\r\n" if want else b"\r\n"), "TestParseHexUint", b"POST",
                    b"x" * want)
        else:
            r.unanswered(start + size + b"\r\nabc\r\n0\r\n\r\n", "TestParseHexUint")
    for size in range(1, 1235):
        r.taken(start + b"%x\r\n" % size + b"y" * size + b"\r\n0\r\n\r\n", "TestParseHexUint", b"POST", b"y" * size)
    with open(os.path.join(SOURCE, "internal/chunked_test.go"), encoding="utf-8") as f:
        text = f.read()
    after = text[text.index("func TestChunkReadingIgnoresExtensions"):]
    data = b"".join(strings(tokens(after[:after.index("data, err")])))
    r.taken(start + data + b"\r\n", "TestChunkReadingIgnoresExtensions", b"POST", b"hello, world! 0123456789abcdef")
    after = text[text.index("func TestIncompleteChunk"):]
    data = b"".join(strings(tokens(after[:after.index("for i :=")]))) + b"\r\n"
    for at in range(len(data)):
        r.unanswered(start + data[:at], "TestIncompleteChunk")
    r.taken(start + data, "TestIncompleteChunk", b"POST", b"abcdabc\r\n")


def unread_bodies(r):
    for entry in table("serve_test.go", "var handlerBodyCloseTests = [...]handlerBodyCloseTest"):
        size = number(entry["bodySize"])
        chunked, close, follows = (value(entry[k]) for k in ("bodyChunked", "reqConnClose", "wantNextReq"))
        fields = (b"Connection: close\r\n" if close else b"") + \
            (b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % size)
        body = b"x" * size
        if chunked:
            body = b"%x\r\n" % size + body + b"\r\n0\r\n\r\n"
        data = b"POST /wire/deaf HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n" + body + \
            b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n"
        found, text = r.send(data, f"handlerBodyCloseTests, {size} bytes")
        r.c.that(found and found[0].status == 200 and (len(found) == 2 and found[1].json().get("path") == "/next"
                                                        if follows else len(found) == 1),
                 f"{text}: the next one {'follows' if follows else 'does not'}", found)


def main():
    c = Checks("gotables")
    if not c.that(os.path.exists(SOURCE), "Go's sources are installed (golang-1.19-src)"):
        c.end()
    with Server() as server:
        r = Run(c, server)
        before = server.stats()
        parts = {}
        for part in (read_requests, bad_requests, versions, server_tables, framing, chunks, unread_bodies):
            count = r.count
            part(r)
            parts[part.__name__] = r.count - count
        good, now = server.settle(before)
        c.that(good, "nothing is left behind", now)
        c.note(f"{r.count} requests ({json.dumps(parts)[1:-1]}), {r.differ} come out otherwise than in Go, on purpose")
    c.end()


if __name__ == "__main__":
    main()
