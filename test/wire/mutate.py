#!/usr/bin/python3
"""mutate.py -- every edit of one byte in requests that two readers could cut differently.

At each place a byte is left out, doubled, replaced and put in; the families of gadgets.py, all
written down by someone, are a small part of these.  Then pairs of such edits, at random, and
each odd byte at each joint of Content-Length, of chunks and of trailers, in either order.

h11 reads the same bytes.  It is laxer than our server, so the rule goes one way: what our
server has carried out must be what h11 found there, in that order: method, path and body.
Nothing is carried out beside or behind a refusal, and nothing that h11 takes for a body.
"""

import collections
import concurrent.futures
import os
import random
import re
import zlib

import h11
from gadgets import AROUND, FEW_BYTES, LENGTHS, ODD_BYTES
from wire import FULL, Checks, Server, exchange, replies

SEED = int(os.environ.get("WIRE_SEED") or 1)
BATCH = 2000
NEXT = b"GET /s HTTP/1.1\r\nHost: w\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"
CHUNKS = b'5;a=b;c="d"\r\nhello\r\n0\r\nT: x\r\n\r\n'
SYMBOLS = b"\0\t\n\v\f\r \"#%+,-./01:;=A_\x7f\x80\x85\xa0\xff"


def post(fields, body=b"", version=b"1.1"):
    return b"POST /m HTTP/" + version + b"\r\nHost: w\r\n" + fields + b"\r\n\r\n" + body


LENGTH, CODING = b"Content-Length: %d" % len(NEXT), b"Transfer-Encoding: chunked"
BASES = {
    "none": b"GET /m HTTP/1.1\r\nHost: w\r\n\r\n" + NEXT,
    "length": post(LENGTH, NEXT),
    "chunks": post(CODING, CHUNKS + NEXT),
    "both": post(b"Content-Length: %d\r\n%s" % (len(NEXT) + 5, CODING), b"0\r\n\r\n" + NEXT),
}

# Where %s is an odd byte: Content-Length, as AROUND has it for Transfer-Encoding.
LENGTH_AROUND = {name: pattern.replace(b"Transfer-Enc%soding", b"Content-Len%sgth")
                 .replace(b"Transfer-Encoding", b"Content-Length").replace(b"Transfer%sEncoding", b"Content%sLength")
                 .replace(b"chu%snked", b"2%s8").replace(b"chunked", b"28").replace(b"identity", b"28")
                 for name, pattern in AROUND.items()}
BODY_AROUND = {
    "before-size": b"%s5\r\nhello\r\n0\r\n\r\n",
    "after-size": b"5%s\r\nhello\r\n0\r\n\r\n",
    "instead-of-cr": b"5%s\nhello\r\n0\r\n\r\n",
    "instead-of-lf": b"5\r%shello\r\n0\r\n\r\n",
    "extension-name": b"5;a%sb\r\nhello\r\n0\r\n\r\n",
    "extension-value": b"5;a=b%sc\r\nhello\r\n0\r\n\r\n",
    "extension-quoted": b'5;a="b%sc"\r\nhello\r\n0\r\n\r\n',
    "extension-escaped": b'5;a="b\\%sc"\r\nhello\r\n0\r\n\r\n',
    "data-end": b"5\r\nhello%s\r\n0\r\n\r\n",
    "data-end-cr": b"5\r\nhello%s\n0\r\n\r\n",
    "data-end-lf": b"5\r\nhello\r%s0\r\n\r\n",
    "last-size": b"5\r\nhello\r\n0%s\r\n\r\n",
    "last-end": b"5\r\nhello\r\n0\r\n%s\r\n",
    "trailer-name": b"5\r\nhello\r\n0\r\nT%s: x\r\n\r\n",
    "trailer-value": b"5\r\nhello\r\n0\r\nT: x%sy\r\n\r\n",
    "trailer-start": b"5\r\nhello\r\n0\r\n%sT: x\r\n\r\n",
    "trailer-end": b"5\r\nhello\r\n0\r\nT: x\r%s\r\n",
    "very-end": b"5\r\nhello\r\n0\r\nT: x\r\n\r%s",
}
CODINGS = [CODING, b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked", b"Transfer-Encoding: \x0bchunked",
           b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked"]


def edits(data, at, symbols):
    yield data[:at] + data[at + 1:]
    yield data[:at] + data[at:at + 1] + data[at:]
    for byte in symbols:
        yield data[:at] + bytes([byte]) + data[at:]
        if data[at] != byte:
            yield data[:at] + bytes([byte]) + data[at + 1:]


def every_edit():
    symbols = range(256) if FULL else SYMBOLS
    for name, data in BASES.items():
        for at in range(len(data)):
            for edited in edits(data, at, symbols):
                yield f"one edit of {name}", edited


def pairs_of_edits():
    rng = random.Random(SEED)
    for _ in range(60000 if FULL else 4000):
        name = rng.choice(list(BASES))
        data = BASES[name]
        for _ in range(2):
            data = rng.choice(list(edits(data, rng.randrange(len(data)), SYMBOLS)))
        yield f"two edits of {name}", data


def joints():
    odd = ODD_BYTES if FULL else FEW_BYTES
    for byte in odd:
        for pattern in LENGTH_AROUND.values():
            field = pattern.replace(b"%s", bytes([byte]))
            yield "odd bytes at a length", post(field, NEXT)
            yield "odd bytes at a length, beside a coding", post(field + b"\r\n" + CODING, b"0\r\n\r\n" + NEXT)
            yield "odd bytes at a length, beside a coding", post(CODING + b"\r\n" + field, b"0\r\n\r\n" + NEXT)
            yield "odd bytes at a length, beside a length", post(LENGTH + b"\r\n" + field, NEXT)
        for pattern in AROUND.values():
            field = pattern.replace(b"%s", bytes([byte]))
            for version in (b"1.1", b"1.0"):
                yield "odd bytes at a coding, before a length", post(field + b"\r\n" + LENGTH, NEXT, version)
            yield "odd bytes at a coding, beside a coding", post(field + b"\r\n" + CODING, b"0\r\n\r\n" + NEXT)
            yield "odd bytes at a coding, beside a coding", post(CODING + b"\r\n" + field, b"0\r\n\r\n" + NEXT)
    for byte in range(256):
        for pattern in BODY_AROUND.values():
            yield "odd bytes in chunks", post(CODING, pattern.replace(b"%s", bytes([byte])) + NEXT)
    for length in LENGTHS.values():
        length = length.replace(b"0x%x", b"0x1c").replace(b"%d", b"28")
        for coding in CODINGS:
            yield "a doubtful length and a coding", post(length + b"\r\n" + coding, b"0\r\n\r\n" + NEXT)
            yield "a doubtful length and a coding", post(coding + b"\r\n" + length, b"0\r\n\r\n" + NEXT)


def h11_reads(data):
    """Requests that h11 finds whole: (method, path, length, crc)."""
    found = []
    try:
        while data:
            data = data[2:] if data.startswith(b"\r\n") else data  # RFC 9112, 2.2; h11 has none of it
            peer, body = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), b""
            peer.receive_data(data)
            peer.receive_data(b"")
            request = peer.next_event()
            while isinstance(event := peer.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                break
            path = re.sub(rb"^[Hh][Tt][Tt][Pp]://[^/?]*", b"", request.target).split(b"?")[0]
            found.append((request.method.decode(), path.decode(), len(body), zlib.crc32(body)))
            data = peer.trailing_data[0] if peer.their_state is h11.DONE else b""
    except h11.ProtocolError:
        pass
    return found


def ours_reads(port, data):
    """Replies, and the requests that were carried out."""
    answer = exchange(port, data)
    found = replies(answer)
    return answer, found, [(j.get("method"), j.get("path"), j.get("length"), j.get("crc"))
                           for j in (r.json() for r in found if r.status == 200)]


def judge(c, counts, family, data, seen):
    answer, found, ours = seen
    theirs = h11_reads(data)
    refused = [r for r in found if r.status != 200]
    counts[family, "all"] += 1
    counts[family, "refused"] += len(refused) > 0
    counts[family, "laxer"] += len(theirs) > len(ours)
    c.that(all(r.whole and r.status in (200, 400, 404, 405, 408, 413, 414, 417, 431, 501, 505) for r in found),
           f"{family}: whole answers", (data, answer))
    c.that(all(r.field("connection") == "close" for r in refused) and refused == found[len(found) - len(refused):] and
           len(refused) <= 1, f"{family}: a refusal is the last word", (data, found))
    c.that(ours == theirs[:len(ours)], f"{family}: carried out what another finds there", (data, ours, theirs))


def main():
    c, counts = Checks("mutate"), collections.Counter()
    streams = list(dict.fromkeys((family, data + AFTER) for part in (every_edit, pairs_of_edits, joints)
                                 for family, data in part()))
    with Server() as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        before = server.stats()
        for start in range(0, len(streams), BATCH):
            batch = streams[start:start + BATCH]
            answered = 0
            for (family, data), seen in zip(batch, pool.map(lambda s: ours_reads(server.port, s[1]), batch)):
                judge(c, counts, family, data, seen)
                answered += sum(r.field("x-wire") is not None for r in seen[1])
            carried_out = sum(line[5] == 200 for line in server.log())
            c.that(carried_out <= answered, "nothing is carried out without an answer", (carried_out, answered))
        good, after = server.settle(before)
        c.that(good, "nothing is left behind", after)
        c.that(after["panics"] == 0, "nothing panics", after)
    for family in dict.fromkeys(f for f, _ in streams):
        c.note(f"{family}: {counts[family, 'all']}, {counts[family, 'refused']} refused, h11 takes more of {counts[family, 'laxer']}")
    c.note(f"{len(streams)} streams; WIRE_SEED={SEED}")
    c.end()


if __name__ == "__main__":
    main()
