#!/usr/bin/python3
"""test.py -- /debug/bulkhead in a real browser: the crash lab, watched by its own page.

Crashes requests, looks at their lanes, at goroutines, routes, flame graphs and files; on a desk and
on a phone, by mouse and by keyboard, in light and in dark.  Nobody listens where the exporter sends
to, so all of it works while the collector is dead.

Screenshots are kept in $O/test/observe/page/screenshots.  Prints "page: N passed, N failed".
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..", "..")
O = os.path.join(TOP, os.environ.get("O", "build/gcc"))
SHOTS = os.path.join(O, "test/observe/page/screenshots")

spec = importlib.util.spec_from_file_location("browser", os.path.join(TOP, "test/browser/browser_test.py"))
browser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser)

CRASHES = [("null", "nil pointer dereference"), ("divide", "integer divide by zero"),
           ("overflow", "stack overflow"), ("panic", "stock: 7 left of 5 ever made"),
           ("background", "mail: no server for")]


class Page(browser.Browser):
    """With what a page says on its console, and with named keys."""

    KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "ArrowDown": (40, ""), "ArrowUp": (38, ""),
            "ArrowRight": (39, ""), "ArrowLeft": (37, ""), "Escape": (27, "")}

    def __init__(self, directory):
        self.console = []
        super().__init__(directory)
        self.call("Log.enable")

    def receive(self, deadline):
        message = super().receive(deadline)
        params = message.get("params", {})
        if message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.console.append(str(params["args"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        return message

    def key(self, name, shift=False):
        code, text = self.KEYS[name]
        for kind in ("rawKeyDown" if not text else "keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                      text=text if kind == "keyDown" else "", modifiers=8 if shift else 0)

    def size(self, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def shot(self, name, width, height=900, dark=False, whole=True):
        self.size(width, height, dark)
        self.value("scrollTo(0, 0)")
        time.sleep(0.4)
        params = {}
        if whole:
            tall = self.value("document.documentElement.scrollHeight")
            params = {"clip": {"x": 0, "y": 0, "width": width, "height": min(tall, 6000), "scale": 1}}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **params)["data"]
        with open(os.path.join(SHOTS, name + ".png"), "wb") as f:
            f.write(browser.base64.b64decode(data))


def fetch(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()
    except OSError as e:  # a transfer broken off
        return 0, str(e).encode()


def start_server(program, reports):
    environment = dict(os.environ, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    server = subprocess.Popen([program, "-l", "127.0.0.1:0", "-q", "-r", reports], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, env=environment)
    address = re.search(r"http://[^\s/]+", server.stdout.readline())
    if not address:
        sys.exit("page: the server did not start")
    return server, address.group()


def panics(page, checks, url):
    for name, text in CRASHES:
        fetch(f"{url}/lab/{name}")
        shown = page.wait(f"document.querySelector('#lanes > li .text')?.textContent.includes({text!r}) && "
                          "document.querySelector('#lanes > li').innerText", 5)
        checks.check(f"{name}: its lane comes by itself", shown, page.value(
            "document.querySelector('#lanes > li')?.innerText"))
        settled = page.wait("document.querySelector('#lanes > li .outcome')?.textContent.match(/recovered|contained/)", 5)
        checks.check(f"{name}: the lane says how it ended", settled, shown)
    page.click("#lanes > li summary")
    frames = page.wait("document.querySelector('#lanes > li details[open] .frames')?.innerText") or ""
    checks.check("a lane opens to who raised it", "send_mail" in frames and "lab.c:" in frames, frames)
    steps = page.value("document.querySelector('#lanes > li:last-child .steps')?.innerText") or ""
    checks.check("its steps have deferred calls by name", re.search(r"raised[\s\S]*\w+_\w+[\s\S]*recovered", steps), steps)
    for _ in range(3):
        fetch(f"{url}/lab/null")
    checks.check("panics alike share a lane", page.wait(
        "/nil pointer/.test(document.querySelector('#lanes > li .text').textContent) && "
        "/4/.test(document.querySelector('#lanes > li .times')?.textContent)"),
        page.value("document.getElementById('lanes').innerText.slice(0, 200) + document.getElementById('drops').innerText"))
    checks.check("open lanes stay open when others come",
                 page.value("document.querySelectorAll('#lanes details[open]').length") == 1)


def goroutines(page, checks):
    rows = page.wait("document.querySelectorAll('#groups details').length")
    checks.check("goroutines are listed by stack", rows and rows >= 3, rows)
    page.value("document.getElementById('goroutines').scrollIntoView()")
    page.click("#groups details summary")
    frames = page.wait("document.querySelector('#groups details[open] .frames')?.innerText") or ""
    checks.check("a click shows the stack", re.search(r"\w+[\s\S]+\.c:\d+", frames), frames)
    page.value("(() => { const s = document.getElementById('search'); s.value = 'accept_loop'; "
               "s.dispatchEvent(new Event('input', { bubbles: true })); })()")
    found = page.wait("/1 of \\d+/.test(document.getElementById('goroutines-note').textContent) && "
                      "document.querySelectorAll('#groups details').length === 1")
    checks.check("a search leaves what has it", found, page.value("document.getElementById('goroutines-note').textContent"))
    page.value("(() => { const s = document.getElementById('search'); s.value = ''; "
               "s.dispatchEvent(new Event('input', { bubbles: true })); })()")
    page.wait("document.querySelectorAll('#groups details').length > 2")
    page.click("#states button")
    checks.check("a state is a filter", page.wait("document.querySelector('#states button[aria-pressed=true]') && "
                 "/ of /.test(document.getElementById('goroutines-note').textContent)"))
    page.click("#states button[aria-pressed=true]")
    checks.check("and can be taken back", page.wait("!document.querySelector('#states button[aria-pressed=true]')"))


def draw(page, kind):
    page.value(f"(() => {{ const p = document.getElementById('profile'); p.value = {kind!r}; "
               "p.dispatchEvent(new Event('change', { bubbles: true })); })()")
    page.click("#flame-form button[type=submit]")
    return page.wait("document.querySelectorAll('#graph [role=treeitem]').length", 15) or 0


def flames(page, checks):
    checks.check("a flame graph of goroutines is drawn", draw(page, "goroutine") > 4, page.value(
        "document.getElementById('flame-status').textContent"))
    names = page.value("[...document.querySelectorAll('#graph [role=treeitem]')].map(e => e.getAttribute('aria-label')).join()")
    checks.check("it has our functions", "accept_loop" in names, names[:300])
    wide = page.value("(() => { const g = document.getElementById('graph').getBoundingClientRect(); return "
                      "[...document.querySelectorAll('#graph [role=treeitem]')].every(e => { const r = "
                      "e.getBoundingClientRect(); return r.left >= g.left - 1 && r.right <= g.right + 1; }); })()")
    checks.check("and stays within its frame", wide)
    page.value("document.querySelector('#graph [role=treeitem]').focus()")
    page.key("ArrowDown")
    checks.check("arrows walk in it", page.value("document.activeElement.getAttribute('aria-level')") == "2",
                 page.value("document.activeElement.outerHTML"))
    page.key("Enter")
    checks.check("Enter zooms", page.wait("!document.getElementById('unzoom').hidden"))
    page.key("Escape")
    checks.check("Escape shows the whole", page.wait("document.getElementById('unzoom').hidden"))
    checks.check("so is one of the heap", draw(page, "heap") >= 1, page.value(
        "document.getElementById('flame-status').textContent"))
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [fetch(page.url + "/lab/panic") for _ in iter(stop.is_set, True)])
    busy.start()
    time.sleep(1.5)
    drawn = draw(page, "profile")
    stop.set()
    busy.join()
    checks.check("and one of CPU time", drawn > 4, drawn)
    top = page.value("document.querySelectorAll('#functions tbody tr').length")
    checks.check("with a table of functions", top and top > 3, top)


def keyboard(page, checks):
    page.call("Page.bringToFront")
    page.call("Page.navigate", url=page.url + "/debug/bulkhead")
    for name, _ in CRASHES:
        fetch(f"{page.url}/lab/{name}")
    page.wait("document.querySelectorAll('#lanes > li').length > 3 && document.querySelectorAll('#states button').length")
    seen = []
    for _ in range(60):
        page.key("Tab")
        seen.append(page.value("(() => { const e = document.activeElement, s = getComputedStyle(e); return [e.tagName + "
                               "'#' + e.id, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0, "
                               "(e.innerText || e.getAttribute('aria-label') || e.labels?.[0]?.innerText || '').length > 0]; })()"))
    checks.check("the first stop skips the head", seen[0][0].startswith("A"), seen[0])
    checks.check("every stop can be seen", all(s[1] for s in seen if s[0] != "BODY#"), [s for s in seen if not s[1]])
    checks.check("every stop has a name", all(s[2] for s in seen if s[0] != "BODY#"), [s for s in seen if not s[2]])
    checks.check("Tab gets to the search", any(s[0] == "INPUT#search" for s in seen), seen)
    page.value("document.querySelector('#lanes > li:nth-child(2) summary').focus()")
    page.key("Enter")
    checks.check("Enter opens a lane", page.wait("document.querySelector('#lanes > li:nth-child(2) details').open"))


def structure(page, checks):
    bad = page.value("""[...document.querySelectorAll('input, select, button, a, table, section')].filter(e =>
        !(e.innerText || e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
          || e.querySelector('caption'))
        && !e.hidden && e.offsetParent !== null && e.checkVisibility()).map(e => e.outerHTML.slice(0, 90))""")
    checks.check("everything that can be used has a name", not bad, bad)
    dim = page.value("""(() => {
        const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255;
            return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
        const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
        return [...document.querySelectorAll('main *, header *')].filter(e => e.offsetParent !== null &&
            [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
            const a = light(getComputedStyle(e).color), b = light(ground(e));
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)]; })
            .filter(x => x[0] < 4.5); })()""")
    return dim, bad


def phone(page, checks):
    for width in (360, 390):
        page.size(width, 740)
        time.sleep(0.4)
        wide = page.value("document.documentElement.scrollWidth")
        checks.check(f"nothing is wider than {width} px", wide <= width, [wide, page.value(
            f"[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > {width} + 1 && "
            "!e.closest('.wide, .frames, #graph')).slice(0, 5).map(e => e.outerHTML.slice(0, 90))")])
    small = page.value("[...document.querySelectorAll('button, select, input, summary, nav a')].filter(e => "
                       "e.offsetParent !== null && !e.closest('#graph') && e.getBoundingClientRect().height < 24)"
                       ".map(e => e.outerHTML.slice(0, 80))")
    checks.check("what is touched is large enough", not small, small)


def guarded(checks, url):
    checks.check("another host name is refused", fetch(url + "/debug/bulkhead", Host="evil.example")[0] == 403)
    checks.check("what was forwarded is refused",
                 fetch(url + "/debug/bulkhead", **{"X-Forwarded-For": "127.0.0.1"})[0] == 403)
    checks.check("another origin's page is refused",
                 fetch(url + "/debug/pprof/heap", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403)


def secrets(page, checks, url):
    """Nothing of a request's credentials or body is told by any of the page's replies."""
    request = urllib.request.Request(url + "/lab/panic?", data=None, headers={
        "Authorization": "Bearer hush-hush-1", "Cookie": "session=hush-hush-2", "X-Api-Key": "hush-hush-3"})
    try:
        urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError:
        pass
    time.sleep(1)
    told = b"".join(fetch(url + "/debug/bulkhead/" + what)[1] for what in ("state", "goroutines", "reports"))
    told += page.value("document.documentElement.outerHTML").encode()
    for report in re.findall(rb'"id":"(\w+)"', told):
        for part in ("report.json", "report.txt"):
            told += fetch(f"{url}/debug/bulkhead/reports/{report.decode()}/{part}")[1]
    checks.check("no credentials are told", b"hush-hush" not in told, re.findall(rb".{60}hush-hush.", told)[:3])


def files(page, checks, url):
    links = page.wait("document.querySelectorAll('#reports a').length > 2 && "
                      "[...document.querySelectorAll('#files a')].map(a => a.href)", 15) or []
    checks.check("there are reports to download", any("/reports/" in link for link in links), links)
    for link in links[:12] + [x for x in links if x.endswith("report.txt")][:1]:
        status, body = fetch(link)
        checks.check(f"{link.rsplit('/debug/')[-1]} can be had", status == 200 and body, status)
    linked = page.wait("document.querySelectorAll('#lanes .to-report a').length > 2 && "
                       "[...document.querySelectorAll('#lanes > li')].filter(li => li.querySelector('.to-report a'))"
                       ".map(li => [li.querySelector('.text').firstChild.textContent, "
                       "li.querySelector('.to-report a').href])", 15) or []
    checks.check("lanes lead to their reports", len(linked) > 2, linked)
    for text, link in linked:
        body = fetch(link)[1].decode()
        checks.check(f"of {text[:40]}", body.startswith("panic: " + text.splitlines()[0]), body[:200])


def run(page, checks, url):
    page.url = url
    page.size(1280, 900)
    page.call("Page.navigate", url=url + "/debug/bulkhead")
    checks.check("the page is live", page.wait("document.getElementById('connection')?.classList.contains('live')"),
                 page.console)
    page.wait("document.querySelectorAll('#tiles > div').length")
    page.shot("fresh", 1280)
    for i in range(30):
        fetch(f"{url}/hello/{i}")
    panics(page, checks, url)
    checks.check("routes have rate, latency and errors", page.wait(
        "[...document.querySelectorAll('#route-rows tr')].some(r => /hello/.test(r.innerText) && /[1-9]/.test(r.innerText))"))
    checks.check("what the exporter dropped is told, collector or not",
                 page.wait("/spans/.test(document.getElementById('drops').innerText)", 30))
    goroutines(page, checks)
    flames(page, checks)
    files(page, checks, url)
    secrets(page, checks, url)
    for dark in (False, True):
        page.size(1280, 900, dark)
        dim, _ = structure(page, checks)
        checks.check(f"text can be read, {'dark' if dark else 'light'}", not dim, dim)
    page.shot("desk", 1280)
    page.shot("desk-dark", 1280, dark=True)
    phone(page, checks)
    page.shot("phone", 360, 740)
    page.shot("phone-dark", 360, 740, dark=True)
    page.size(1280, 900)
    keyboard(page, checks)
    page.shot("keyboard", 1280, whole=False)
    guarded(checks, url)
    checks.check("the console is silent", not page.console, page.console)
    checks.check("the page threw nothing", not page.exceptions, page.exceptions)
    elsewhere = [r for r in page.requests if not r.startswith((url + "/", "data:", "about:"))]
    checks.check("the page asked nobody else", not elsewhere, elsewhere)


def main():
    os.makedirs(SHOTS, exist_ok=True)
    checks = browser.Checks()
    profile, reports = tempfile.mkdtemp(prefix="bulkhead-page-"), tempfile.mkdtemp(prefix="bulkhead-reports-")
    server, url = start_server(os.path.join(O, "examples/server/crashlab"), reports)
    page = Page(profile)
    try:
        run(page, checks, url)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
        checks.check("the server drains though the page is open", server.returncode == 0, server.returncode)
        checks.check("the page says that it has lost it",
                     page.wait("document.getElementById('connection').classList.contains('lost')"))
    finally:
        page.close()
        if server.poll() is None:
            server.kill()
            server.communicate()
        shutil.rmtree(profile, ignore_errors=True)
        shutil.rmtree(reports, ignore_errors=True)
    print(f"page: {checks.passed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


main()
