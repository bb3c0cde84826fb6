#!/usr/bin/python3
"""browser_test.py -- the crash lab in a real browser.

    browser_test.py CRASHLAB [DIRECTORY FOR SCREENSHOTS]

Starts the server and headless Chromium, clicks every button as a user would, and
looks at what the page then shows.  Speaks the DevTools protocol over a pipe (messages
ended by NUL), so nothing but Python and Chromium is needed.

Prints one line per check that fails, then "browser: N passed, N failed".
"""

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
         "--disable-background-networking --disable-component-update --disable-sync "
         "--disable-extensions --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe").split()
PATIENCE = 20 * float(os.environ.get("TEST_TIMEOUT") or 1)

# button, what the page says about it, route and text of the report
CRASHES = [
    ("null", r"^500 in ", "GET /lab/null", "nil pointer dereference", "lab_null(...)"),
    ("overflow", r"^500 in ", "GET /lab/overflow", "stack overflow", "descend(...)"),
    ("divide", r"^500 in ", "GET /lab/divide", "integer divide by zero", "lab_divide(...)"),
    ("assert", r"^500 in ", "GET /lab/assert", "Assertion `portions > 0' failed", "lab_assert(...)"),
    ("panic", r"^500 in ", "GET /lab/panic", "stock: 7 left of 5 ever made", "lab_panic(...)"),
    ("background", r"^202, and then the panic", "GET /lab/background", "mail: no server for", "send_mail(...)"),
    ("half", r"^Broken transfer: status 200", "GET /lab/half", "nil pointer dereference", "lab_half(...)"),
    ("mutex", r"^500 in .*; the next request: got the lock", "GET /lab/mutex", "nil pointer dereference", "lab_mutex(...)"),
]


class Browser:
    """Chromium with one page, driven over its debugging pipe."""

    def __init__(self, directory):
        to_read, self.to = os.pipe()
        self.answers, to_write = os.pipe()
        command = ["sh", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', CHROMIUM, *FLAGS,
                   f"--user-data-dir={directory}", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.requests = []
        self.exceptions = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(domain + ".enable")

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise TimeoutError("no answer from Chromium")
            piece = os.read(self.answers, 1 << 16)
            if not piece:
                raise EOFError("Chromium is gone")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        method = message.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.exceptions.append(message["params"]["exceptionDetails"].get("text", "?"))
        return message

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression, patience=PATIENCE):
        """Until the expression is truthy.  Returns: its value, or None when time is up."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            value = self.value(expression)
            if value:
                return value
            time.sleep(0.02)
        return None

    def click(self, selector):
        box = self.value(f"""(() => {{ const e = document.querySelector({selector!r});
            e.scrollIntoView({{ block: "center" }});
            const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "",
                      code=f"Digit{key}")

    def screenshot(self, path, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.value("scrollTo(0, 0)")
        time.sleep(0.3)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        os.close(self.to)
        os.close(self.answers)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, ok, seen=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAIL {name}: {seen}", flush=True)


def start_server(program):
    server = subprocess.Popen([program, "-l", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
    address = re.search(r"http://\S+", server.stdout.readline())
    if not address:
        sys.exit("browser_test.py: the server did not start")
    return server, address.group()


def number(page, name):
    text = page.value(f"document.getElementById({name!r}).textContent")
    return int(text) if re.fullmatch(r"\d+", text or "") else -1


def crash_all(page, checks):
    for i, (name, outcome, route, text, frame) in enumerate(CRASHES):
        before, panics = number(page, "count"), number(page, "panics")
        page.click(f"#crash-{name}")
        shown = page.wait(f"document.querySelector('#crash-{name}.done .outcome')?.textContent") or ""
        checks.check(f"{name}: the page says what became of it", re.search(outcome, shown), shown)
        found = page.wait(f"document.getElementById('report').dataset.route === {route!r} && "
                          f"+document.getElementById('report').dataset.number > {panics} && "
                          "document.getElementById('report').textContent") or ""
        checks.check(f"{name}: its report is shown, with its text", text in found, found)
        checks.check(f"{name}: the stack leads to the handler", frame in found and "lab.c:" in found, found)
        more = page.wait(f"+document.getElementById('count').textContent > {before} + 2")
        checks.check(f"{name}: unrelated requests go on", more, number(page, "count"))
        checks.check(f"{name}: none of them failed", number(page, "failed") == 0, number(page, "failed"))
        counted = page.wait(f"+document.getElementById('panics').textContent >= {i + 1}")
        checks.check(f"{name}: it is counted", counted, number(page, "panics"))


def run(program, directory):
    checks = Checks()
    profile = tempfile.mkdtemp(prefix="bulkhead-browser-")
    server, url = start_server(program)
    page = Browser(profile)
    try:
        page.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        page.call("Page.navigate", url=url)
        checks.check("the page loads and its counter runs",
                     page.wait("+document.getElementById('count')?.textContent > 3"), page.value("document.title"))
        pid = page.wait("document.getElementById('pid').textContent !== '–' && document.getElementById('pid').textContent")
        page.screenshot(os.path.join(directory, "crash-lab-fresh.png"), 1280, 900)
        crash_all(page, checks)
        page.press("5")
        checks.check("the keyboard crashes too",
                     page.wait("document.getElementById('report').dataset.route === 'GET /lab/panic'"), "")
        page.screenshot(os.path.join(directory, "crash-lab.png"), 1280, 1250)
        page.screenshot(os.path.join(directory, "crash-lab-dark.png"), 1280, 1250, dark=True)
        page.screenshot(os.path.join(directory, "crash-lab-phone.png"), 390, 844)
        wide = page.value("document.documentElement.scrollWidth <= innerWidth")
        checks.check("nothing is wider than a phone", wide, page.value("document.documentElement.scrollWidth"))
        before = number(page, "count")
        checks.check("the counter still runs", page.wait(f"+document.getElementById('count').textContent > {before} + 5"))
        checks.check("it is the same process", str(server.pid) == pid and server.poll() is None, pid)
        checks.check("the page threw nothing", not page.exceptions, page.exceptions)
        second = subprocess.run([program, "-p", url.rstrip("/").rsplit(":", 1)[1]], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, timeout=20)
        checks.check("a taken port is a clear message", second.returncode == 1 and "make run PORT=" in second.stderr,
                     second.stderr)
        elsewhere = [r for r in page.requests if not r.startswith((url, "data:", "about:"))]
        checks.check("the page asked nobody else", not elsewhere, elsewhere)
    finally:
        page.close()
        shutil.rmtree(profile, ignore_errors=True)
        server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=20)[0]
    checks.check("the server drains and ends well", server.returncode == 0, server.returncode)
    checks.check("the access log has the 500s and the broken transfer",
                 '"GET /lab/null HTTP/1.1" 500 ' in rest and '"GET /lab/half HTTP/1.1" 200! ' in rest, rest[-500:])
    return checks


def main():
    directory = sys.argv[2] if len(sys.argv) > 2 else "build"
    os.makedirs(directory, exist_ok=True)
    checks = run(sys.argv[1], directory)
    print(f"browser: {checks.passed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
