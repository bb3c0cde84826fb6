#!/usr/bin/env python3
"""otlp: what we send is decoded by OpenTelemetry's own code, which encodes it to the same bytes
again, and by protoc; and says what was meant.

    O=build/gcc test.py
"""
import base64
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.abspath(os.environ["O"])
TARGET = os.path.join(OUT, "test/observe/otlp/target")
DECODERS = os.path.join(OUT, "otlp-decoders")
PROTOS = os.path.join(DECODERS, "node_modules/@opentelemetry/otlp-grpc-exporter-base/build/protos")
WORK = os.path.join(OUT, "otlp-received")
MESSAGES = {"traces": ("trace", "ExportTraceServiceRequest"), "logs": ("logs", "ExportLogsServiceRequest"),
            "metrics": ("metrics", "ExportMetricsServiceRequest")}
passed = failed = 0


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL", what, str(detail)[:1500])


def same(what, got, wanted):
    check(what, got == wanted, "%r; expected %r" % (got, wanted))


class Receiver:
    """receiver.js: what it got is read when it has stopped."""

    def __init__(self, name, *tls):
        self.directory = os.path.join(WORK, name)
        os.makedirs(self.directory)
        self.scheme = "https" if tls else "http"
        self.process = subprocess.Popen(["node", os.path.join(HERE, "receiver.js"), DECODERS, self.directory,
                                         *tls], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()
        self.requests = []
        for number in range(1, len(os.listdir(self.directory)) // 2 + 1):
            path = os.path.join(self.directory, str(number))
            with open(path + ".json") as f:
                request = json.load(f)
            request["path"] = path + ".pb"
            self.requests.append(request)

    def all(self, kind, resource, scope, items):
        return [item for request in self.requests if request.get("signal") == kind
                for r in request["request"][resource] for s in r[scope] for item in s[items]]

    def spans(self):
        return self.all("traces", "resourceSpans", "scopeSpans", "spans")

    def logs(self):
        return self.all("logs", "resourceLogs", "scopeLogs", "logRecords")

    def metrics(self):
        return {m["name"]: m for m in self.all("metrics", "resourceMetrics", "scopeMetrics", "metrics")}


def run(receiver, *arguments, **environment):
    """The target, to the receiver.  Returns: {signal: (accepted, exported, lost)}, stop's result."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "%s://localhost:%d" % (receiver.scheme, receiver.port)
    env["OTEL_SERVICE_NAME"] = "otlp-test"
    env.update(environment)
    result = subprocess.run([TARGET, *arguments], env=env, stdout=subprocess.PIPE, text=True, timeout=60)
    same("exit status", result.returncode, 0)
    lines = [line.split() for line in result.stdout.splitlines()]
    return {line[0]: tuple(map(int, line[1:])) for line in lines[:-1]}, int(lines[-1][1])


def value(v):
    """Of an AnyValue."""
    (kind, x), = v.items()
    return int(x) if kind == "intValue" else x


def attributes(of):
    return {a["key"]: value(a["value"]) for a in of.get("attributes", [])}


def hexadecimal(text):
    return base64.b64decode(text).hex()


def check_requests(receiver):
    for r in receiver.requests:
        check("decoded", "error" not in r, r.get("error"))
        check("encoded again, the bytes are the same", r.get("same"), r["path"])


def check_protoc(receiver):
    """The second decoder; of 2023, so what came later it shows by number."""
    texts = {}
    for r in receiver.requests:
        package, message = MESSAGES[r["signal"]]
        name = "opentelemetry.proto.collector.%s.v1.%s" % (package, message)
        file = "opentelemetry/proto/collector/%s/v1/%s_service.proto" % (package, package)
        with open(r["path"], "rb") as body:
            p = subprocess.run(["protoc", "-I", PROTOS, "--decode=" + name, file], stdin=body,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        same("protoc decodes " + r["signal"], (p.returncode, p.stderr), (0, ""))
        texts[r["signal"]] = texts.get(r["signal"], "") + p.stdout
    for text, times in (('name: "GET /users/{id}"', 1), ("code: STATUS_CODE_ERROR", 1),
                        ("kind: SPAN_KIND_SERVER", 1), ("int_value: -42", 1)):
        same("protoc shows " + text, texts["traces"].count(text), times)
    check("protoc shows a stack", "goroutine 42 [running]" in texts["logs"])
    check("protoc shows a histogram", re.search(r"explicit_bounds: 0\.005\s+explicit_bounds: 0\.1", texts["metrics"]))
    check("protoc shows an exponential one", "exponential_histogram {" in texts["metrics"])
    for kind, text in texts.items():
        unknown = set(re.findall(r"^ *(\d+): ", text, re.M))
        # Span and Link flags (16, 6), LogRecord.event_name (12), zero_threshold (14).
        same("unknown to protoc, in " + kind, unknown - {"16", "6", "12", "14"}, set())


def check_span(spans):
    same("one span", len(spans), 1)
    s = spans[0]
    same("trace id", hexadecimal(s["traceId"]), "4bf92f3577b34da6a3ce929d0e0e4736")
    same("span id", hexadecimal(s["spanId"]), "00f067aa0ba902b7")
    same("parent", base64.b64decode(s["parentSpanId"]), b"parent!!")
    same("state", s["traceState"], "bh=aws.eu-west-1;2,other=x")
    same("name: the newest", s["name"], "GET /users/{id}")
    same("kind", s["kind"], "SPAN_KIND_SERVER")
    same("flags", s["flags"], 0x301)
    same("times", (s["startTimeUnixNano"], s["endTimeUnixNano"]), ("1732528193123456789", "1732528193223456789"))
    same("status", s["status"], {"code": "STATUS_CODE_ERROR", "message": "index out of range [5] with length 3"})
    same("what was lost", (s["droppedAttributesCount"], s["droppedEventsCount"], s["droppedLinksCount"]), (3, 200, 1))
    a = attributes(s)
    same("attributes", a, {
        "http.route": "/users/{id}", "empty": "", "bad": "caf? ?", "good": "caf\u00e9 \u20ac",
        "error.type": "panic", "negative": -42, "zero": 0, "large": 2**63 - 1, "double": 0.1,
        "infinite": a.get("infinite"), "yes": True, "no": False})
    check("infinity", a.get("infinite") in (math.inf, "Infinity", None))
    same("events", [(e["name"], e["timeUnixNano"], attributes(e)) for e in s["events"]],
         [("cache miss", "1732528193133456789", {"key": "user:7", "tier": "2"}),
          ("second", "1732528193143456789", {})])
    link, = s["links"]
    same("link", (base64.b64decode(link["traceId"]), base64.b64decode(link["spanId"]), link["traceState"],
                  link["flags"], attributes(link)), (b"linked trace id.", b"linkspan", "v=w", 1, {"why": "untrusted"}))


def check_logs(logs):
    same("three logs", len(logs), 3)
    exception, = [r for r in logs if r.get("eventName")]
    same("an exception is an event", exception["eventName"], "exception")
    same("severity", (exception["severityNumber"], exception["severityText"]), ("SEVERITY_NUMBER_ERROR", "ERROR"))
    same("ids", (hexadecimal(exception["traceId"]), hexadecimal(exception["spanId"]), exception["flags"]),
         ("ab" * 16, "cd" * 8, 1))
    a = attributes(exception)
    same("type, message", (a["exception.type"], a["exception.message"]), ("runtime.Error", "index out of range"))
    check("stack", a["exception.stacktrace"].startswith("goroutine 42 [running]:\n"))
    line, = [r for r in logs if r.get("body")]
    same("a line", (line["body"], line["severityText"], attributes(line)),
         ({"stringValue": "order placed"}, "INFO", {"id": "o-17", "quantity": 3}))
    check("no ids without a trace", not line.get("traceId") and not line.get("spanId"))
    for r in logs:
        same("observed when made", r["timeUnixNano"], r["observedTimeUnixNano"])
    bare, = [r for r in logs if not r.get("body") and not r.get("eventName")]
    check("a bare one", "severityNumber" not in bare and "attributes" not in bare, bare)


def check_metrics(metrics):
    point, = metrics["test.counter"]["sum"]["dataPoints"]
    same("counter", (point["asInt"], metrics["test.counter"]["sum"]["isMonotonic"],
                     metrics["test.counter"]["sum"]["aggregationTemporality"], metrics["test.counter"]["description"]),
         ("5", True, "AGGREGATION_TEMPORALITY_CUMULATIVE", "A counter."))
    check("it has a start", 0 < int(point["startTimeUnixNano"]) <= int(point["timeUnixNano"]))
    point, = metrics["test.updown"]["sum"]["dataPoints"]
    same("updown", (point["asInt"], metrics["test.updown"]["sum"].get("isMonotonic", False)), ("-7", False))
    point, = metrics["test.gauge"]["gauge"]["dataPoints"]
    same("gauge", point["asDouble"], 36.6)

    explicit = metrics["test.explicit"]
    same("unit", explicit["unit"], "s")
    points = {attributes(p)["http.route"]: p for p in explicit["histogram"]["dataPoints"]}
    same("series", sorted(points), ["/a", "/b"])
    a = points["/a"]
    same("buckets", (a["bucketCounts"], a["explicitBounds"], a["count"], a["sum"]),
         (["0", "1", "0", "1"], [0.005, 0.1, 1], "2", 5.05))
    same("labels; an empty one is none", attributes(points["/b"]), {"http.route": "/b"})

    point, = metrics["test.exponential"]["exponentialHistogram"]["dataPoints"]
    same("sum and count", (point["sum"], point["count"]), (sum(i * 0.25 for i in range(100)), "100"))
    total, base = int(point["zeroCount"]), 2 ** 2 ** -point["scale"]
    buckets = point["positive"]
    for i, n in enumerate(buckets["bucketCounts"]):
        low, high = (base ** (buckets["offset"] + i + k) for k in (0, 1))
        inside = [x for x in range(1, 100) if low * (1 + 1e-12) < x * 0.25 <= high * (1 + 1e-12)]
        same("bucket (%g, %g]" % (low, high), int(n), len(inside))
        total += int(n)
    same("all are in a bucket", total, 100)

    points = metrics["test.few"]["sum"]["dataPoints"]
    same("overflow", sorted((str(attributes(p)), p["asInt"]) for p in points),
         [("{'kind': 'first'}", "1"), ("{'otel.metric.overflow': True}", "5")])


def check_resource(receiver):
    for r in receiver.requests:
        (whole,), = r["request"].values()
        resource = {a["key"]: value(a["value"]) for a in whole["resource"]["attributes"]}
        same("service", resource.get("service.name"), "otlp-test")
        scopes = next(v for k, v in whole.items() if k.startswith("scope"))
        same("scope", scopes[0]["scope"]["name"], "bulkhead")


def every_shape():
    receiver = Receiver("shapes")
    counts, rc = run(receiver)
    receiver.stop()
    same("stop", rc, 0)
    same("spans", counts["spans"], (1, 1, 0))
    same("logs", counts["logs"], (3, 3, 0))
    check("metrics", counts["metrics"][0] == counts["metrics"][1] >= 8 and counts["metrics"][2] == 0, counts)
    check_requests(receiver)
    check_resource(receiver)
    check_span(receiver.spans())
    check_logs(receiver.logs())
    check_metrics(receiver.metrics())
    check_protoc(receiver)


def gzip_and_events():
    receiver = Receiver("gzip")
    run(receiver, OTEL_EXPORTER_OTLP_COMPRESSION="gzip", OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN="logs/dup")
    receiver.stop()
    check_requests(receiver)
    check("all are gzipped", all(r["gzip"] for r in receiver.requests) and receiver.requests)
    span, = receiver.spans()
    event, = [e for e in span["events"] if e["name"] == "exception"]
    same("the exception is an event too", attributes(event),
         {"exception.type": "panic", "exception.message": "index out of range [5] with length 3"})


def many():
    receiver = Receiver("many")
    counts, rc = run(receiver, "20000")
    receiver.stop()
    same("all arrive", (counts["spans"], rc), ((20001, 20001, 0), 0))
    check_requests(receiver)
    plain = [int(a["value"]["intValue"]) for s in receiver.spans() if s["name"] == "plain"
             for a in s["attributes"]]
    same("each of them", sorted(plain), list(range(20000)))
    check("over two connections at most", len({r["port"] for r in receiver.requests}) <= 2)


def certificates():
    key, pem = os.path.join(WORK, "key.pem"), os.path.join(WORK, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", key, "-out", pem], check=True, stderr=subprocess.DEVNULL)
    receiver = Receiver("tls", pem, key)
    counts, rc = run(receiver, "3000", OTEL_EXPORTER_OTLP_CERTIFICATE=pem)
    receiver.stop()
    same("over TLS", (counts["spans"], counts["logs"], rc), ((3001, 3001, 0), (3, 3, 0), 0))
    check_requests(receiver)
    check("over two connections at most", len({r["port"] for r in receiver.requests}) <= 2)

    receiver = Receiver("stranger", pem, key)
    counts, rc = run(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="500")
    by_address = "https://127.0.0.1:%d" % receiver.port
    other, _ = run(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="500", OTEL_EXPORTER_OTLP_CERTIFICATE=pem,
                   OTEL_EXPORTER_OTLP_ENDPOINT=by_address)
    receiver.stop()
    same("nothing goes to who is not trusted", (counts["spans"], len(receiver.requests)), ((1, 0, 1), 0))
    same("nor to whom the certificate does not name", other["spans"], (1, 0, 1))


def from_outside():
    """As a profiler does: the process by its mapping, a thread by its variable (OTEP 4719 and 4947)."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    p = subprocess.Popen([TARGET, "context"], env={**env, "OTEL_SERVICE_NAME": "seen"}, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    same("published", p.stdout.readline(), "published 0\n")
    with open("/proc/%d/maps" % p.pid) as maps:
        mappings = [line for line in maps if "OTEL_CTX" in line]
    same("one mapping, by name", len(mappings), 1)
    with open("/proc/%d/mem" % p.pid, "rb") as memory:
        memory.seek(int(mappings[0].split("-")[0], 16))
        signature, version, size, published, payload = struct.unpack("<8sIIQQ", memory.read(32))
        memory.seek(payload)
        encoded = memory.read(size)
    same("header", (signature, version, published > 0), (b"OTEL_CTX", 2, True))
    decoded = subprocess.run(["protoc", "-I", PROTOS, "-I", HERE, "--decode=ProcessContext", "process_context.proto"],
                             input=encoded, stdout=subprocess.PIPE, check=True).stdout.decode()
    check("the resource", re.search(r'key: "service.name"\s+value {\s+string_value: "seen"', decoded), decoded)
    check("how threads are read", re.search(r'key: "threadlocal.schema_version"\s+value {\s+string_value: '
                                            r'"tlsdesc_v1_dev"', decoded), decoded)
    check("names of attributes: none", re.search(r'key: "threadlocal.attribute_key_map"\s+value {\s+array_value {\s+}',
                                                 decoded), decoded)
    check("nothing unknown", not re.search(r"^ *\d+: ", decoded, re.M), decoded)

    symbols = subprocess.run(["readelf", "--dyn-syms", "-W", TARGET], stdout=subprocess.PIPE, text=True).stdout
    check("the variable is a symbol", re.search(r" TLS +GLOBAL DEFAULT +\d+ otel_thread_ctx_v1$", symbols, re.M))
    seen = subprocess.run(["gdb", "-p", str(p.pid), "-batch", "-nx", "-ex",
                           "thread apply all -s -q x/28xb *(void **)&otel_thread_ctx_v1"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    record = bytes(int(b, 16) for line in seen.stdout.splitlines() if re.match(r"0x[0-9a-f]+.*:\t", line)
                   for b in line.split(":")[1].split())
    same("a record on one thread alone", record, b"\xab" * 16 + b"\xcd" * 8 + b"\x01\x03\0\0")
    p.stdin.close()
    p.stdout.close()
    same("exit status", p.wait(), 0)


def main():
    subprocess.run([os.path.join(HERE, "fetch.sh"), DECODERS], check=True)
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    for step in (every_shape, gzip_and_events, many, certificates, from_outside):
        step()
    print("otlp: %d passed, %d failed" % (passed, failed))
    return failed != 0


sys.exit(main())
