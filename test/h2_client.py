"""h2_client.py ADDRESS -- python3-h2, a strict client, against the server of http2_test.c.

It raises on whatever the server must not send, so replies need no frame by frame look here.
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events

host, port = sys.argv[1].rsplit(":", 1)
sock = socket.create_connection((host, int(port)), timeout=5)
conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
replies = {}


def exchange():
    """Send what there is, take what comes."""
    sock.sendall(conn.data_to_send())
    data = sock.recv(65536)
    if not data:
        sys.exit("closed")
    for event in conn.receive_data(data):
        if isinstance(event, h2.events.ResponseReceived):
            replies[event.stream_id] = [dict(event.headers), b"", None, False]
        elif isinstance(event, h2.events.DataReceived):
            replies[event.stream_id][1] += event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            replies[event.stream_id][2] = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            replies[event.stream_id][3] = True
        elif isinstance(event, h2.events.StreamReset):
            sys.exit("stream %d reset: %s" % (event.stream_id, event.error_code))
    sock.sendall(conn.data_to_send())


def request(method, path, body=None, trailers=None):
    """Start one.  Returns: its stream."""
    stream = conn.get_next_available_stream_id()
    conn.send_headers(
        stream,
        [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a.test")],
        end_stream=body is None,
    )
    while body:
        room = min(conn.local_flow_control_window(stream), conn.max_outbound_frame_size)
        if room == 0:
            exchange()
            continue
        piece, body = body[:room], body[room:]
        conn.send_data(stream, piece, end_stream=not body and trailers is None)
    if trailers is not None:
        conn.send_headers(stream, trailers, end_stream=True)
    return stream


def wait(stream):
    while stream not in replies or not replies[stream][3]:
        exchange()
    return replies[stream]


def expect(what, got, wanted):
    if got != wanted:
        sys.exit("%s: %r, not %r" % (what, got, wanted))


conn.initiate_connection()
several = [request("GET", "/hello") for _ in range(50)]
for number in several:
    head, text, _, _ = wait(number)
    expect("status", head[b":status"], b"200")
    expect("body", text, b"hello a.test 20\n")
expect("upload", wait(request("POST", "/echo", bytes(700000)))[1], bytes(700000))
head, text, last, _ = wait(request("POST", "/trailers", b"body", [("sum", "42")]))
expect("body", text, b"body")
expect("trailers", last, {b"result": b"42"})
expect("size", len(wait(request("GET", "/large/1000000"))[1]), 1000000)
head, text, _, _ = wait(request("HEAD", "/hello"))
expect("HEAD", (head[b"content-length"], text), (b"16", b""))
