"""gadgets.py -- requests that two servers may read differently: the families that the
literature on request smuggling describes, made by rule.

Each gadget is one POST that announces its body twice, or once in a doubtful way.  Its body
is an empty chunked body followed by a request for /smuggled/ID: read by its length
that is all body; read as chunked, or not at all, it is a request nobody sent.

expected() says what RFC 9112 leaves of it, read as strictly as it can be: "chunked",
"length", "none" (no body), "unfinished" or "reject".  It shares nothing with the server but the RFC.
"""

import re

ODD_BYTES = [*range(0x00, 0x21), *range(0x7f, 0x100)]  # NUL, controls, blank, DEL, 8 bits
FEW_BYTES = [0x00, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20, 0x7f, 0x85, 0xa0, 0xff]

# Around and inside a Transfer-Encoding field.  %s is the odd byte.
AROUND = {
    "before-name": b"%sTransfer-Encoding: chunked",
    "before-colon": b"Transfer-Encoding%s: chunked",
    "instead-of-colon": b"Transfer-Encoding%s chunked",
    "instead-of-space": b"Transfer-Encoding:%schunked",
    "before-value": b"Transfer-Encoding: %schunked",
    "after-value": b"Transfer-Encoding: chunked%s",
    "after-value-cr": b"Transfer-Encoding: chunked\r%s",
    "instead-of-dash": b"Transfer%sEncoding: chunked",
    "in-name": b"Transfer-Enc%soding: chunked",
    "in-value": b"Transfer-Encoding: chu%snked",
    "after-other": b"X: x%sTransfer-Encoding: chunked",
    "after-other-cr": b"X: x\r%sTransfer-Encoding: chunked",
    "after-other-lf": b"X: x\n%sTransfer-Encoding: chunked",
    "quoted": b'Transfer-Encoding: "%schunked"',
    "listed": b"Transfer-Encoding: chunked,%sidentity",
    "parameter": b"Transfer-Encoding: chunked;%sq=1",
}

# Beside a Content-Length that is right.
SPECIAL = {
    "plain": b"Transfer-Encoding: chunked",
    "no-space": b"Transfer-Encoding:chunked",
    "two-spaces": b"Transfer-Encoding:  chunked",
    "many-tabs": b"Transfer-Encoding:\t\t\t\tchunked\t",
    "upper-name": b"TRANSFER-ENCODING: chunked",
    "lower-name": b"transfer-encoding: chunked",
    "mixed-name": b"tRaNsFeR-eNcOdInG: chunked",
    "upper-value": b"Transfer-Encoding: CHUNKED",
    "mixed-value": b"Transfer-Encoding: cHuNkEd",
    "folded-crlf-space": b"Transfer-Encoding:\r\n chunked",
    "folded-crlf-tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded-lf-space": b"Transfer-Encoding:\n chunked",
    "folded-in-value": b"Transfer-Encoding: chun\r\n ked",
    "folded-after-other": b"X: x\r\n Transfer-Encoding: chunked",
    "folded-name": b"Transfer\r\n -Encoding: chunked",
    "folded-empty": b"Transfer-Encoding:\r\n \r\n chunked",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice-identity-last": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "twice-identity-first": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "twice-cow-last": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "twice-cow-first": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "twice-empty-first": b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "twice-folded": b"Transfer-Encoding: x\r\n chunked\r\nTransfer-Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "cow": b"Transfer-Encoding: cow",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "chunke": b"Transfer-Encoding: chunke",
    "chunked-semicolon": b"Transfer-Encoding: chunked;",
    "chunked-comma": b"Transfer-Encoding: chunked,",
    "comma-chunked": b"Transfer-Encoding: ,chunked",
    "commas": b"Transfer-Encoding: ,,,chunked,,,",
    "chunked-chunked": b"Transfer-Encoding: chunked, chunked",
    "chunked-identity": b"Transfer-Encoding: chunked, identity",
    "identity-chunked": b"Transfer-Encoding: identity, chunked",
    "chunked-cow": b"Transfer-Encoding: chunked, cow",
    "cow-chunked": b"Transfer-Encoding: cow, chunked",
    "gzip-chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked-space-identity": b"Transfer-Encoding: chunked identity",
    "quoted-single": b"Transfer-Encoding: 'chunked'",
    "quoted-double": b'Transfer-Encoding: "chunked"',
    "bracketed": b"Transfer-Encoding: [chunked]",
    "backslash": b"Transfer-Encoding: \\chunked",
    "encoded": b"Transfer-Encoding: %63hunked",
    "word": b"Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
    "empty": b"Transfer-Encoding:",
    "blank": b"Transfer-Encoding:   ",
    "no-colon": b"Transfer-Encoding",
    "equals": b"Transfer-Encoding= chunked",
    "two-colons": b"Transfer-Encoding:: chunked",
    "colon-first": b":Transfer-Encoding: chunked",
    "comma-name": b",Transfer-Encoding: chunked",
    "quoted-name": b'"Transfer-Encoding": chunked',
    "space-in-name": b"Transfer Encoding: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "dot": b"Transfer.Encoding: chunked",
    "two-dashes": b"Transfer--Encoding: chunked",
    "prefix": b"X-Transfer-Encoding: chunked",
    "suffix": b"Transfer-Encoding2: chunked",
    "te": b"TE: chunked",
    "utf8-k": "Transfer-Encoding: chun\u212aed".encode(),
    "utf8-dash": "Transfer\u2010Encoding: chunked".encode(),
    "bom": b"\xef\xbb\xbfTransfer-Encoding: chunked",
    "nbsp": b"Transfer-Encoding:\xc2\xa0chunked",
    "lf-only": b"X: x\nTransfer-Encoding: chunked",
    "cr-only": b"X: x\rTransfer-Encoding: chunked",
    "crcrlf": b"X: x\r\r\nTransfer-Encoding: chunked",
    "lfcr": b"X: x\n\rTransfer-Encoding: chunked",
    "nul-line": b"X: \x00\r\nTransfer-Encoding: chunked",
    "in-connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "hop-length": b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
    "upgrade": b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked",
    "long": b"Transfer-Encoding: " + b" " * 1000 + b"chunked",
    "behind-many": b"".join(b"X-%d: y\r\n" % i for i in range(60)) + b"Transfer-Encoding: chunked",
    "expect": b"Expect: 100-continue\r\nTransfer-Encoding: chunked",
}

# In place of a right Content-Length of N bytes; %d is N.
LENGTHS = {
    "plus": b"Content-Length: +%d",
    "minus": b"Content-Length: -%d",
    "minus-zero": b"Content-Length: -0",
    "hex": b"Content-Length: 0x%x",
    "octal-looking": b"Content-Length: 0%d",
    "many-zeros": b"Content-Length: 00000000%d",
    "float": b"Content-Length: %d.0",
    "exponent": b"Content-Length: %de0",
    "underscore": b"Content-Length: 1_%d",
    "grouped": b"Content-Length: 1,%d",
    "list-same": b"Content-Length: %d, %d",
    "list-zero-first": b"Content-Length: 0, %d",
    "list-zero-last": b"Content-Length: %d, 0",
    "list-empty": b"Content-Length: %d,",
    "list-empty-first": b"Content-Length: ,%d",
    "space-inside": b"Content-Length: %d 0",
    "tab-inside": b"Content-Length: %d\t0",
    "quoted": b'Content-Length: "%d"',
    "letter": b"Content-Length: %da",
    "unit": b"Content-Length: %d bytes",
    "empty": b"Content-Length:",
    "blank": b"Content-Length:  ",
    "huge": b"Content-Length: 9999999999999999999999",
    "wraps-64": b"Content-Length: 18446744073709551616",
    "max-64": b"Content-Length: 18446744073709551615",
    "max-63": b"Content-Length: 9223372036854775807",
    "twice-same": b"Content-Length: %d\r\nContent-Length: %d",
    "twice-zero-first": b"Content-Length: 0\r\nContent-Length: %d",
    "twice-zero-last": b"Content-Length: %d\r\nContent-Length: 0",
    "twice-case": b"Content-Length: %d\r\nCONTENT-LENGTH: 0",
    "thrice": b"Content-Length: %d\r\nContent-Length: %d\r\nContent-Length: %d",
    "space-colon": b"Content-Length : %d",
    "tab-colon": b"Content-Length\t: %d",
    "space-first": b" Content-Length: %d",
    "folded": b"Content-Length:\r\n %d",
    "folded-digit": b"Content-Length: 0\r\n %d",
    "underscore-name": b"Content_Length: %d",
    "lf-before": b"X: x\nContent-Length: %d",
    "cr-before": b"X: x\rContent-Length: %d",
    "nul-after": b"Content-Length: %d\x00",
    "nul-inside": b"Content-Length: 0\x00%d",
    "fullwidth": "Content-Length: \uff11".encode(),
    "arabic": "Content-Length: \u0661".encode(),
    "superscript": b"Content-Length: \xb2",
    "semicolon": b"Content-Length: %d;0",
    "no-colon": b"Content-Length %d",
}

# A chunked body whose chunk is "hello", then the smuggled request; alone, no Content-Length.
CHUNKS = {
    "fine": b"5\r\nhello\r\n0\r\n\r\n",
    "fine-zeros": b"0005\r\nhello\r\n000\r\n\r\n",
    "fine-extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "size-empty": b"\r\nhello\r\n0\r\n\r\n",
    "size-plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size-minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "size-0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size-space-before": b" 5\r\nhello\r\n0\r\n\r\n",
    "size-space-after": b"5 \r\nhello\r\n0\r\n\r\n",
    "size-tab-after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "size-vt-after": b"5\x0b\r\nhello\r\n0\r\n\r\n",
    "size-nul-after": b"5\x00\r\nhello\r\n0\r\n\r\n",
    "size-letter": b"5g\r\nhello\r\n0\r\n\r\n",
    "size-underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "size-float": b"5.0\r\nhello\r\n0\r\n\r\n",
    "size-quoted": b'"5"\r\nhello\r\n0\r\n\r\n',
    "size-comma": b"5,5\r\nhello\r\n0\r\n\r\n",
    "size-17-digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "size-wraps-32": b"100000005\r\nhello\r\n0\r\n\r\n",
    "size-wraps-64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size-max-64": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "size-fullwidth": "\uff15\r\nhello\r\n0\r\n\r\n".encode(),
    "size-lf": b"5\nhello\r\n0\r\n\r\n",
    "size-cr": b"5\rhello\r\n0\r\n\r\n",
    "size-crcrlf": b"5\r\r\nhello\r\n0\r\n\r\n",
    "size-cr-x": b"5\rXhello\r\n0\r\n\r\n",
    "size-lf-extension": b"5;a\nhello\r\n0\r\n\r\n",
    "size-cr-extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "size-nul-extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "size-space-extension": b"5 ;a=b\r\nhello\r\n0\r\n\r\n",
    "extension-empty": b"5;\r\nhello\r\n0\r\n\r\n",
    "extension-quoted-crlf": b'5;a="\r\nhello\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n',
    "extension-quoted-open": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "extension-long": b"5;a=" + b"b" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
    "data-short": b"6\r\nhello\r\n0\r\n\r\n",
    "data-long": b"4\r\nhello\r\n0\r\n\r\n",
    "data-end-lf": b"5\r\nhello\n0\r\n\r\n",
    "data-end-cr": b"5\r\nhello\r0\r\n\r\n",
    "data-end-none": b"5\r\nhello0\r\n\r\n",
    "data-end-xx": b"5\r\nhelloXX0\r\n\r\n",
    "data-end-lfcr": b"5\r\nhello\n\r0\r\n\r\n",
    "end-lf": b"5\r\nhello\r\n0\n\n",
    "end-lf-second": b"5\r\nhello\r\n0\r\n\n",
    "end-cr-second": b"5\r\nhello\r\n0\r\n\rX",
    "end-missing": b"5\r\nhello\r\n0\r\n",
    "trailer-length": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer-encoding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer-folded": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
    "trailer-space-colon": b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    "trailer-lf": b"5\r\nhello\r\n0\r\nA: b\n\r\n",
    "trailer-no-colon": b"5\r\nhello\r\n0\r\nABC\r\n\r\n",
    "trailer-nul": b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n",
    "fine-trailer": b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
}


class Gadget:
    def __init__(self, name, fields, body, version=b"1.1", method=b"POST"):
        self.name, self.fields, self.body, self.version, self.method = name, fields, body, version, method

    def data(self, number):
        """The bytes, for this number as ID.  The length announced is right whatever it is."""
        smuggled = b"GET /smuggled/%08d HTTP/1.1\r\nHost: wire\r\n\r\n" % number
        body = self.body + smuggled
        fields = self.fields.replace(b"{N}", b"%d" % len(body))
        return b"%s /gadget/%08d HTTP/%s\r\nHost: wire\r\n%s\r\n\r\n%s" % (
            self.method, number, self.version, fields, body)


TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def expected(head, body):
    """What a request's head, without its empty line, leaves of the body.  See above."""
    fields = []
    for line in head.split(b"\r\n")[1:]:
        match = re.fullmatch(rb"(" + TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", line)
        if not match:
            return "reject"
        fields.append((match[1].lower(), match[2]))
    lengths = [v for n, v in fields if n == b"content-length"]
    codings = [v for n, v in fields if n == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or b" HTTP/1.0" in head:
            return "reject"
        return read_chunks(body)
    if lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) >= 10 ** 18:
            return "reject"
        return "length"
    return "none"


def read_chunks(body):
    """Returns: "chunked"; "reject"; or "unfinished", more bytes of a chunk being announced than are there."""
    extension = rb";" + TOKEN + rb"(=(" + TOKEN + rb'|"[ !#-\[\]-~]*"))?'
    at = 0
    while True:
        line = re.compile(rb"([0-9A-Fa-f]{1,16})(" + extension + rb")*\r\n").match(body, at)
        if not line or line.end() - line.start() > 4096:
            return "reject"
        size, at = int(line[1], 16), line.end()
        if size == 0:
            break
        if at + size + 2 > len(body):
            return "unfinished"
        if body[at + size:at + size + 2] != b"\r\n":
            return "reject"
        at += size + 2
    while body[at:at + 2] != b"\r\n":
        line = re.compile(rb"(" + TOKEN + rb"):[^\x00-\x08\x0a-\x1f\x7f]*\r\n").match(body, at)
        if not line or line[1].lower() in (b"content-length", b"transfer-encoding", b"connection"):
            return "reject"
        at = line.end()
    return "chunked"


def gadgets(few=False):
    """All of them, or with fewer odd bytes."""
    length, empty = b"Content-Length: {N}", b"0\r\n\r\n"
    odd = FEW_BYTES if few else ODD_BYTES
    for family, pattern in AROUND.items():
        for byte in odd:
            field = pattern.replace(b"%s", bytes([byte]))
            yield Gadget(f"{family}-{byte:02x}", length + b"\r\n" + field, empty)
    for name, field in SPECIAL.items():
        yield Gadget(f"{name}-last", length + b"\r\n" + field, empty)
        yield Gadget(f"{name}-first", field + b"\r\n" + length, empty)
        yield Gadget(f"{name}-alone", field, empty)
        yield Gadget(f"{name}-10", length + b"\r\n" + field, empty, version=b"1.0")
        yield Gadget(f"{name}-get", length + b"\r\n" + field, empty, method=b"GET")
    for name, field in LENGTHS.items():
        field = field.replace(b"0x%x", b"0x{N}").replace(b"%d", b"{N}")
        yield Gadget(f"length-{name}", field, b"")
        yield Gadget(f"length-{name}-get", field, b"", method=b"GET")
    for name, body in CHUNKS.items():
        yield Gadget(f"chunk-{name}", b"Transfer-Encoding: chunked", body)


if __name__ == "__main__":  # seeds for the fuzzer: gadgets.py DIRECTORY
    import sys
    for serial, gadget in enumerate(gadgets(few=True)):
        with open(f"{sys.argv[1]}/gadget-{gadget.name}", "wb") as seed:
            seed.write(gadget.data(serial))
