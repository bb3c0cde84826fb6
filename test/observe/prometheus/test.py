#!/usr/bin/env python3
"""test.py -- promtool and a live Prometheus read the metrics of a server."""

import gzip
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

O = os.environ.get("O", "build/gcc")
PROGRAM = os.path.join(O, "test/observe/prometheus/program")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
passed = failed = 0


def check(what, ok, note=""):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    if not ok:
        print(f"FAIL prometheus: {what}: {note}")


def fetch(url, **fields):
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in fields.items()})
    with urllib.request.urlopen(request, timeout=10) as reply:
        body = reply.read()
        if reply.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        return reply.headers["Content-Type"], body.decode()


def promtool(text):
    r = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True,
                       timeout=30)
    return r.returncode, (r.stdout + r.stderr).decode()


def texts(address):
    kind, text = fetch(f"http://{address}/metrics")
    check("the plain format", kind.startswith("text/plain; version=0.0.4"), kind)
    code, said = promtool(text)
    check("promtool has no complaint", code == 0 and said == "", f"{code} {said}")
    # Controls: promtool does see faults of both sorts.
    check("promtool sees a fault", promtool(text.replace('",other="', '",other=', 1))[0] == 1)
    check("promtool sees a missing help", promtool("a_total 1\n")[0] == 3)
    kind, text = fetch(f"http://{address}/metrics", Accept=OPENMETRICS, Accept_Encoding="gzip")
    check("OpenMetrics", kind.startswith(OPENMETRICS.replace(";", "; ")), kind)
    check("OpenMetrics ends", text.endswith("\n# EOF\n"))
    return text


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prometheus:
    """A Prometheus that scrapes address."""

    def __init__(self, address, folder):
        with open(f"{folder}/prometheus.yml", "w") as f:
            f.write(f"""global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs: [{{job_name: bulkhead, static_configs: [{{targets: ["{address}"]}}]}}]
""")
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = open(f"{folder}/log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.url[7:]}", "--enable-feature=exemplar-storage"],
            stdout=self.log, stderr=subprocess.STDOUT)

    def ask(self, path, **query):
        try:
            return json.loads(fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")[1])["data"]
        except OSError:
            return None

    def query(self, expression):
        """Labels and value of each sample."""
        data = self.ask("query", query=expression)
        return [(r["metric"], r["value"][1]) for r in data["result"]] if data else []

    def await_value(self, expression, value):
        """Scrapes come when they come."""
        for _ in range(80):
            got = self.query(expression)
            if got and got[0][1] == value:
                return True
            time.sleep(0.25)
        check(expression, False, f"{got} is not {value}")
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def scraped(p):
    check("it is up", p.await_value('up{job="bulkhead"}', "1"))
    target = p.ask("targets")["activeTargets"][0]
    check("no error of scraping", target["lastError"] == "" and target["health"] == "up", target)
    check("it scrapes OpenMetrics", "odd_labels" in json.dumps(p.ask("metadata", metric="odd_labels")))
    kinds = {name: m[0]["type"] for name, m in p.ask("metadata").items()}
    for name, kind in [("work_duration_seconds", "histogram"), ("work_done", "counter"),
                       ("odd_labels", "gauge"), ("http_server_active_requests", "gauge"),
                       ("http_server_request_duration_seconds", "histogram")]:
        check(f"{name} is a {kind}", kinds.get(name) == kind, kinds.get(name))
    check("units", p.ask("metadata", metric="work_duration_seconds")["work_duration_seconds"][0]["unit"]
          == "seconds")


def values(p):
    check("requests of a route", p.await_value(
        'http_server_request_duration_seconds_count{http_route="/jobs/{id}",http_response_status_code="200"}',
        "40"))
    check("errors", p.await_value(
        'http_server_request_duration_seconds_count{http_route="/fail",error_type="panic"}', "2"))
    check("a counter", p.await_value("work_done_total", "40"))
    check("the count is the last bucket's", p.await_value(
        'work_duration_seconds_count - ignoring(le) work_duration_seconds_bucket{le="+Inf"}', "0"))
    low, high = (float(p.query(f"histogram_quantile({q}, work_duration_seconds_bucket)")[0][1])
                 for q in (0.01, 0.99))
    check("quantiles", 1 / 64 <= low <= 0.03 <= high <= 1 / 16 / 2 * 1.01, (low, high))
    check("infinity", p.await_value("odd_infinity", "+Inf"))
    check("NaN", p.await_value("odd_nothing", "NaN"))
    labels = sorted((m.get("some_label", ""), m.get("other", ""), v) for m, v in p.query("odd_labels"))
    for expected in [('a"b\\c\ne', "{},= #", "1"), ("\u00e4\U0001f600", "\ufffd\ufffd", "2"),
                     ("", "", "-3"), ("many", "1", "1")]:
        check(f"labels {expected}", expected in labels, labels)
    check("the overflow", p.await_value('odd_labels{otel_metric_overflow="true"}', "7"))
    check("bounds of all signs", p.await_value('odd_bounds_bytes_bucket{le="0.0"}', "2"))
    check("the runtime", p.await_value('bulkhead_processors', str(os.cpu_count())))
    check("goroutines", float(p.query("sum(bulkhead_goroutines)")[0][1]) >= 2)


def exemplars(p, text):
    found = p.ask("query_exemplars", query="work_duration_seconds_bucket", start=time.time() - 300,
                  end=time.time())
    ids = {e["labels"]["trace_id"] for s in found for e in s["exemplars"]}
    check("exemplars of a histogram", ids and all(len(i) == 32 and i.startswith("ab") for i in ids), found)
    shown = set(text.split('trace_id="')[i][:32] for i in range(1, text.count('trace_id="') + 1))
    check("they are those of the text", ids & shown, (ids, shown))
    found = p.ask("query_exemplars", query="work_done_total", start=time.time() - 300, end=time.time())
    check("exemplars of a counter", found and found[0]["exemplars"][0]["labels"]["span_id"].startswith("f001"))


def main():
    server = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    address = server.stdout.readline().strip()
    for i in range(40):
        fetch(f"http://{address}/jobs/{i}")
    for _ in range(2):
        try:
            fetch(f"http://{address}/fail")
        except urllib.error.HTTPError as e:
            check("a panic is a 500", e.code == 500)
    text = texts(address)
    with tempfile.TemporaryDirectory() as folder:
        p = Prometheus(address, folder)
        try:
            scraped(p)
            values(p)
            exemplars(p, text)
        finally:
            p.stop()
    server.stdin.close()
    check("the server ends", server.wait(20) == 0)
    print(f"prometheus: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    raise SystemExit(main())
