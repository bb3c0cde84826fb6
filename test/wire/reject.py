#!/usr/bin/python3
"""reject.py -- what RFC 9112 says a server must or may refuse, rule by rule; and what it must take.

Each entry: the section, what is wrong, the bytes, and the statuses that are right.  After
each the connection must end, and a request behind it must not be answered.
"""

from wire import Checks, Server, exchange, replies

BEHIND = b"GET /behind HTTP/1.1\r\nHost: w\r\n\r\n"
LONG = b"x" * 40000


def get(target=b"/", version=b"HTTP/1.1", fields=b"Host: w\r\n", method=b"GET"):
    return method + b" " + target + b" " + version + b"\r\n" + fields + b"\r\n"


def post(fields, body=b""):
    return b"POST / HTTP/1.1\r\nHost: w\r\n" + fields + b"\r\n" + body


def chunked(body):
    return post(b"Transfer-Encoding: chunked\r\n", body)


REFUSED = [
    # 2.2 lines
    ("2.2", "a line ended by LF alone", b"GET / HTTP/1.1\nHost: w\r\n\r\n", [400]),
    ("2.2", "a field line ended by LF alone", b"GET / HTTP/1.1\r\nHost: w\n\r\n", [400]),
    ("2.2", "a head ended by LF alone", b"GET / HTTP/1.1\r\nHost: w\r\n\n", [400]),
    ("2.2", "LF before the request", b"\nGET / HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("2.2", "CR alone in the request line", b"GET /\r HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("2.2", "CR alone in a field", get(fields=b"Host: w\r\nX: a\rb\r\n"), [400]),
    ("2.2", "CR CR LF", get(fields=b"Host: w\r\r\n"), [400]),
    ("2.2", "white space before the first field", get(fields=b" Host: w\r\n"), [400]),
    ("2.2", "a blank line of white space", b"GET / HTTP/1.1\r\n \r\nHost: w\r\n\r\n", [400]),
    ("2.2", "many empty lines first", b"\r\n\r\n\r\n" + get(), [400]),
    ("2.2", "a byte order mark first", b"\xef\xbb\xbf" + get(), [400]),
    # 2.3 version
    ("2.3", "small letters", get(version=b"http/1.1"), [400]),
    ("2.3", "no version", b"GET /\r\nHost: w\r\n\r\n", [400]),
    ("2.3", "no minor version", get(version=b"HTTP/1"), [400]),
    ("2.3", "two digits", get(version=b"HTTP/1.10"), [400]),
    ("2.3", "leading zero", get(version=b"HTTP/01.1"), [400]),
    ("2.3", "a comma", get(version=b"HTTP/1,1"), [400]),
    ("2.3", "another protocol", get(version=b"HTTQ/1.1"), [400]),
    ("2.3", "of icecast", get(version=b"ICE/1.0"), [400]),
    ("2.3", "0.9", get(version=b"HTTP/0.9"), [505]),
    ("2.3", "1.2", get(version=b"HTTP/1.2"), [505]),
    ("2.3", "2.0", get(version=b"HTTP/2.0"), [505]),
    ("2.3", "9.9", get(version=b"HTTP/9.9"), [505]),
    ("2.3", "a minus", get(version=b"HTTP/-1.1"), [400]),
    ("2.3", "space inside", get(version=b"HTTP/ 1.1"), [400]),
    ("2.3", "text behind", get(version=b"HTTP/1.1 x"), [400]),
    ("2.3", "tab behind", get(version=b"HTTP/1.1\t"), [400]),
    # 3 request line
    ("3", "space before the method", b" " + get(), [400]),
    ("3", "two spaces behind the method", b"GET  / HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("3", "two spaces before the version", b"GET /  HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("3", "tabs for spaces", b"GET\t/\tHTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("3", "vertical tab for a space", b"GET\x0b/ HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("3", "no target", b"GET HTTP/1.1\r\nHost: w\r\n\r\n", [400]),
    ("3", "space in the target", get(b"/a b"), [400]),
    ("3.1", "a method in brackets", get(method=b"[GET]"), [400]),
    ("3.1", "a method with a colon", get(method=b"GET:"), [400]),
    ("3.1", "a method with NUL", get(method=b"GE\0T"), [400]),
    ("3.1", "a method of 8-bit bytes", get(method=b"G\xc9T"), [400]),
    ("3.1", "an unknown method in small letters", get(method=b"get"), [501]),
    ("3", "a line that is too long", get(b"/" + LONG), [414]),
    # 3.2 target
    ("3.2", "no slash", get(b"a"), [400]),
    ("3.2", "a fragment", get(b"/a#b"), [400]),
    ("3.2", "a control byte", get(b"/a\x01"), [400]),
    ("3.2", "DEL", get(b"/a\x7f"), [400]),
    ("3.2", "NUL", get(b"/a\0"), [400]),
    ("3.2", "8-bit bytes", get(b"/\xc3\xa4"), [400]),
    ("3.2", "a malformed escape", get(b"/%zz"), [400]),
    ("3.2", "an escape cut short", get(b"/%4"), [400]),
    ("3.2", "an escaped NUL", get(b"/%00"), [400]),
    ("3.2", "dots that climb", get(b"/a/../../etc/passwd"), [400]),
    ("3.2", "escaped dots that climb", get(b"/%2e%2e/etc/passwd"), [400]),
    ("3.2", "half escaped dots that climb", get(b"/.%2E/etc/passwd"), [400]),
    ("3.2.2", "another host in the absolute form", get(b"http://other/"), [400]),
    ("3.2.2", "another port in the absolute form", get(b"http://w:81/"), [400]),
    ("3.2.2", "user information", get(b"http://u:p@w/", fields=b"Host: u:p@w\r\n"), [400]),
    ("3.2.2", "an empty authority", get(b"http:///", fields=b"Host:\r\n"), [400]),
    ("3.2.2", "another scheme", get(b"ftp://w/"), [400]),
    ("3.2.3", "authority form, but GET", get(b"w:80"), [400]),
    ("3.2.3", "CONNECT", get(b"w:80", method=b"CONNECT"), [400, 405, 501]),
    ("3.2.4", "asterisk form, but GET", get(b"*"), [400]),
    # 3.2 and RFC 9110 7.2: Host
    ("3.2", "no Host", get(fields=b""), [400]),
    ("3.2", "two Hosts", get(fields=b"Host: w\r\nHost: w\r\n"), [400]),
    ("3.2", "two different Hosts", get(fields=b"Host: w\r\nHost: v\r\n"), [400]),
    ("3.2", "a list of Hosts", get(fields=b"Host: w, v\r\n"), [400]),
    ("3.2", "Host with a path", get(fields=b"Host: w/x\r\n"), [400]),
    ("3.2", "Host with a space", get(fields=b"Host: w v\r\n"), [400]),
    ("3.2", "Host with user information", get(fields=b"Host: u@w\r\n"), [400]),
    ("3.2", "Host with a bad port", get(fields=b"Host: w:80x\r\n"), [400]),
    ("3.2", "Host with a huge port", get(fields=b"Host: w:65536\r\n"), [400]),
    ("3.2", "Host with an open bracket", get(fields=b"Host: [::1\r\n"), [400]),
    ("3.2", "Host of 8-bit bytes", get(fields=b"Host: \xe4.example\r\n"), [400]),
    ("3.2", "Host folded", get(fields=b"Host: w\r\n .example\r\n"), [400]),
    # 5 fields
    ("5.1", "space before the colon", get(fields=b"Host : w\r\n"), [400]),
    ("5.1", "tab before the colon", get(fields=b"Host\t: w\r\n"), [400]),
    ("5.1", "no colon", get(fields=b"Host: w\r\nabc\r\n"), [400]),
    ("5.1", "no name", get(fields=b"Host: w\r\n: v\r\n"), [400]),
    ("5.1", "a name with a space", get(fields=b"Host: w\r\nA B: v\r\n"), [400]),
    ("5.1", "a name with a slash", get(fields=b"Host: w\r\nA/B: v\r\n"), [400]),
    ("5.1", "a name with NUL", get(fields=b"Host: w\r\nA\0: v\r\n"), [400]),
    ("5.1", "a name of 8-bit bytes", get(fields=b"Host: w\r\n\xc3\xa4: v\r\n"), [400]),
    ("5.2", "a folded value", get(fields=b"Host: w\r\nA: b\r\n c\r\n"), [400]),
    ("5.2", "a value folded by tab", get(fields=b"Host: w\r\nA: b\r\n\tc\r\n"), [400]),
    ("5.5", "NUL in a value", get(fields=b"Host: w\r\nA: b\0c\r\n"), [400]),
    ("5.5", "a control byte in a value", get(fields=b"Host: w\r\nA: b\x08c\r\n"), [400]),
    ("5.5", "escape in a value", get(fields=b"Host: w\r\nA: \x1b[31m\r\n"), [400]),
    ("5.5", "DEL in a value", get(fields=b"Host: w\r\nA: \x7f\r\n"), [400]),
    ("5.4", "fields without end", get(fields=b"Host: w\r\n" + b"A: b\r\n" * 200), [431]),
    ("5.4", "a field that is too long", get(fields=b"Host: w\r\nA: " + LONG + b"\r\n"), [431]),
    # 6 framing
    ("6.1", "both lengths", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), [400]),
    ("6.1", "both, the other way", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), [400]),
    ("6.1", "chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    ("6.1", "chunked not last", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), [400, 501]),
    ("6.1", "chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), [400, 501]),
    ("6.1", "an unknown coding", post(b"Transfer-Encoding: cow\r\n"), [400, 501]),
    ("6.1", "a coding without chunked", post(b"Transfer-Encoding: gzip\r\n"), [400, 501]),
    ("6.1", "identity", post(b"Transfer-Encoding: identity\r\n"), [400, 501]),
    ("6.1", "no coding", post(b"Transfer-Encoding:\r\n"), [400, 501]),
    ("6.2", "a negative length", post(b"Content-Length: -1\r\n"), [400]),
    ("6.2", "a length with plus", post(b"Content-Length: +5\r\n", b"hello"), [400]),
    ("6.2", "a hexadecimal length", post(b"Content-Length: 0x5\r\n", b"hello"), [400]),
    ("6.2", "a length with text", post(b"Content-Length: 5 bytes\r\n", b"hello"), [400]),
    ("6.2", "an empty length", post(b"Content-Length:\r\n"), [400]),
    ("6.2", "a length beyond 64 bits", post(b"Content-Length: 18446744073709551621\r\n", b"hello"), [400]),
    ("6.2", "a length of 100 digits", post(b"Content-Length: " + b"9" * 100 + b"\r\n"), [400]),
    ("6.3", "two lengths that differ", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"), [400]),
    ("6.3", "two lengths", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), [400]),
    ("6.3", "a list of lengths", post(b"Content-Length: 5, 5\r\n", b"hello"), [400]),
    ("6.3", "a list of lengths that differ", post(b"Content-Length: 5, 6\r\n", b"hello!"), [400]),
    # 7 chunks
    ("7.1", "an empty size", chunked(b"\r\n\r\n"), [400]),
    ("7.1", "a size that is none", chunked(b"xyz\r\n\r\n"), [400]),
    ("7.1", "a size with 0x", chunked(b"0x1\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1", "a negative size", chunked(b"-1\r\n\r\n"), [400]),
    ("7.1", "a size beyond 64 bits", chunked(b"10000000000000001\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1", "a size with space before", chunked(b" 1\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1", "a size with space behind", chunked(b"1 \r\na\r\n0\r\n\r\n"), [400]),
    ("7.1", "a size ended by LF", chunked(b"1\na\r\n0\r\n\r\n"), [400]),
    ("7.1", "data longer than its size", chunked(b"1\r\nab\r\n0\r\n\r\n"), [400]),
    ("7.1", "data ended by LF", chunked(b"1\r\na\n0\r\n\r\n"), [400]),
    ("7.1", "an end by LF", chunked(b"0\r\n\n"), [400]),
    ("7.1.1", "an extension without name", chunked(b"1;\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1.1", "an extension with LF", chunked(b"1;a\nb\r\n0\r\n\r\n"), [400]),
    ("7.1.1", "an extension with a control byte", chunked(b"1;a\x01\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1.1", "extensions without end", chunked(b"1;" + LONG + b"\r\na\r\n0\r\n\r\n"), [400]),
    ("7.1.2", "a trailer without colon", chunked(b"0\r\nabc\r\n\r\n"), [400]),
    ("7.1.2", "a folded trailer", chunked(b"0\r\nA: b\r\n c\r\n\r\n"), [400]),
    ("7.1.2", "a trailer with LF", chunked(b"0\r\nA: b\n\r\n"), [400]),
    ("7.1.2", "a length in the trailers", chunked(b"0\r\nContent-Length: 1\r\n\r\n"), [400]),
    ("7.1.2", "trailers without end", chunked(b"0\r\n" + b"A: b\r\n" * 3000 + b"\r\n"), [400]),
    # other protocols on this port
    ("", "a TLS handshake", bytes.fromhex("16030100c8010000c40303") + b"\0" * 190 + b"\r\n\r\n", [400]),
    ("", "SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", [400]),
    ("", "SMTP", b"EHLO w\r\nMAIL FROM:<a@w>\r\n\r\n", [400, 501]),
    ("", "RTSP", get(b"rtsp://w/", b"RTSP/1.0"), [400]),
    ("", "SIP", b"OPTIONS sip:w SIP/2.0\r\nVia: w\r\n\r\n", [400]),
    ("", "PROXY protocol that is not expected", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + get(), [400]),
    ("", "NULs", b"\0" * 64 + b"\r\n\r\n", [400]),
]

TAKEN = [
    ("2.2", "one empty line first", b"\r\n" + get(), "none"),
    ("2.3", "HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", "none"),
    ("3", "8000 bytes of target", get(b"/" + b"x" * 8000), "none"),
    ("3.1", "a method of its own", get(method=b"BREW"), "none"),
    ("3.2.1", "a query", get(b"/?a=b&c=%20?/"), "none"),
    ("3.2.2", "absolute form", get(b"http://w/x"), "none"),
    ("3.2.2", "absolute form in capitals", get(b"HTTP://W/x"), "none"),
    ("3.2.2", "absolute form without path", get(b"http://w"), "none"),
    ("3.2", "Host with port", get(fields=b"Host: w:8080\r\n"), "none"),
    ("3.2", "Host of an IPv6 address", get(fields=b"Host: [2001:db8::1]:80\r\n"), "none"),
    ("5.1", "an empty value", get(fields=b"Host: w\r\nA:\r\n"), "none"),
    ("5.1", "no space behind the colon", get(fields=b"Host:w\r\n"), "none"),
    ("5.1", "white space around a value", get(fields=b"Host:\t w \t\r\n"), "none"),
    ("5.5", "8-bit bytes in a value", get(fields=b"Host: w\r\nA: \xe4\xf6\r\n"), "none"),
    ("5", "the same name many times", get(fields=b"Host: w\r\n" + b"A: b\r\n" * 90), "none"),
    ("6.2", "a length of 0", post(b"Content-Length: 0\r\n"), "length"),
    ("6.2", "a length with zeros", post(b"Content-Length: 0005\r\n", b"hello"), "length"),
    ("6.3", "a body with GET", get(fields=b"Host: w\r\nContent-Length: 5\r\n") + b"hello", "length"),
    ("7.1", "chunks", chunked(b"5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n"), "chunked"),
    ("7.1", "coding in capitals", post(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n"), "chunked"),
    ("7.1.1", "extensions", chunked(b'5;a;b=c;d="e f"\r\nhello\r\n0;z\r\n\r\n'), "chunked"),
    ("7.1.2", "trailers", chunked(b"0\r\nA: b\r\nC:\r\n\r\n"), "chunked"),
    ("9.3", "pipelining", get(b"/1") + get(b"/2"), "none"),
]


def main():
    c = Checks("reject")
    with Server() as server:
        before = server.stats()
        for section, what, data, statuses in REFUSED:
            answer = exchange(server.port, data + BEHIND)
            found = replies(answer)
            c.that(len(found) == 1 and found[0].status in statuses and found[0].field("connection") == "close" and
                   found[0].whole, f"{section} {what}: {statuses}", found or answer)
            c.that(all(line[2] != "/behind" for line in server.log()), f"{section} {what}: nothing behind it is read")
        for section, what, data, framing in TAKEN:
            found = replies(exchange(server.port, data + BEHIND))
            c.that(len(found) >= 1 and found[0].status == 200 and found[0].json().get("framing") == framing,
                   f"{section} {what} is taken", found)
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
    c.note(f"{len(REFUSED)} must be refused, {len(TAKEN)} must be taken")
    c.end()


if __name__ == "__main__":
    main()
