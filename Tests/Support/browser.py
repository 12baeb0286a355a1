"""A headless Chromium, spoken to over a pipe by its DevTools protocol, and what Tests/EndToEndTests/BrowserTests.swift does with it:
browser.py SCENARIO FOLDER ARGUMENT... Ends with status 1 and a traceback when something is not as it should be."""

import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-headless-shell")
PATIENCE = 20.0


class Browser:
    def __init__(self, folder: str):
        program = next(path for name in PROGRAMS if (path := shutil.which(name)))
        self.downloads = Path(folder, "downloads")
        self.downloads.mkdir(exist_ok=True)
        # Away from 3 and 4, which the browser speaks on.
        hears, self.say = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())
        self.hear, says = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$@" 3<&{hears} 4>&{says}', "bash", program, "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--no-proxy-server", f"--user-data-dir={folder}/profile", "--remote-debugging-pipe"],
            pass_fds=(hears, says), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        os.close(hears)
        os.close(says)
        self.number, self.rest, self.events, self.log, self.statuses, self.session = 0, b"", [], [], [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def message(self, until: float) -> dict:
        while b"\0" not in self.rest:
            if not select.select([self.hear], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the browser says nothing; heard: {[e['method'] for e in self.events[-9:]]}")
            piece = os.read(self.hear, 1 << 16)
            assert piece, "the browser ended"
            self.rest += piece
        one, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(one)
        if message.get("method") == "Log.entryAdded":
            self.log.append(message["params"]["entry"]["text"])
        if message.get("method") == "Network.responseReceivedExtraInfo":
            self.statuses.append(message["params"]["statusCode"])
        return message

    def ask(self, method: str, **parameters) -> dict:
        self.number += 1
        number, until = self.number, time.monotonic() + PATIENCE
        request = {"id": number, "method": method, "params": parameters}
        if self.session and not method.startswith(("Target.", "Browser.")):
            request["sessionId"] = self.session
        os.write(self.say, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message(until)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def event(self, *methods: str, where=lambda _: True) -> dict:
        """The next event of one of these kinds; what came before it is dropped."""
        until = time.monotonic() + PATIENCE
        while True:
            event = self.events.pop(0) if self.events else self.message(until)
            if event.get("method") in methods and where(event["params"]):
                return event

    def open(self, url: str) -> None:
        self.events.clear()
        self.log.clear()
        error = self.ask("Page.navigate", url=url).get("errorText")
        assert not error, f"{url}: {error}"
        self.event("Page.loadEventFired")

    def run(self, script: str):
        """What the expression comes to in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def until(self, script: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}; the page: {self.run('document.body.innerText')}"
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        self.events.clear()
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def download(self) -> bytes:
        """What the last click brought as a file."""
        self.event("Browser.downloadWillBegin")
        end = self.event("Browser.downloadProgress", where=lambda p: p["state"] != "inProgress")["params"]
        assert end["state"] == "completed", end
        return (self.downloads / end["guid"]).read_bytes()


def dashboard(folder: str, url: str, name: str, peer: str, flist: str) -> None:
    with Browser(folder) as browser:
        browser.open(url + "/")
        rows = "[...document.querySelectorAll('#{} tr')].map(r => r.innerText).join('|')"
        browser.until(f"document.title.startsWith({json.dumps(name)})")
        browser.until(f"{rows.format('peers')}.includes({json.dumps(peer)})")
        browser.until(f"{rows.format('flists')}.includes({json.dumps(flist)})")
        browser.until(f"{rows.format('jobs')}.includes('done')")
        assert browser.run("[...document.querySelectorAll('#flists .bar')][0].title") == "100 %"
        figures = browser.run("document.getElementById('figures').innerText")
        for word in ("cache", "from peers", "peers alive", "pulled from upstream"):
            assert word in figures, figures
        assert browser.run("document.getElementById('problem').textContent") == ""
        assert browser.run("location.origin") == url
        # Figures change without a click.
        before = browser.run("performance.getEntriesByType('resource').length")
        browser.until(f"performance.getEntriesByType('resource').length > {before} + 2")


def index(folder: str, url: str, plain: str) -> None:
    """Every link of every page leads to the file of that name: shown where a browser shows it, else downloaded."""
    shown = saved = 0
    with Browser(folder) as browser:
        browser.ask("Browser.setDownloadBehavior", behavior="allowAndName", downloadPath=str(browser.downloads), eventsEnabled=True)
        folders = [("", url)]
        while folders:
            inside, page = folders.pop()
            browser.open(page)
            names = browser.run("[...document.querySelectorAll('a')].map(a => a.textContent)")
            hrefs = browser.run("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
            there = sorted(os.listdir(Path(plain, inside)))
            files = [(n, h) for n, h in zip(names, hrefs) if not n.endswith("/")]
            assert sorted(n for n, _ in files) == [n for n in there if Path(plain, inside, n).is_file()], (names, there)
            for name, href in files:
                content = Path(plain, inside, name).read_bytes()
                browser.click(f'a[href="{href}"]')
                if name.endswith((".txt", ".html")):
                    browser.event("Page.loadEventFired")
                    text = browser.run("document.body.innerText")
                    assert text.strip() == content.decode().strip(), (name, text)
                    shown += 1
                    browser.open(page)
                else:
                    assert browser.download() == content, name
                    saved += 1
            for name, href in zip(names, hrefs):
                if name.endswith("/") and href != "../":
                    folders.append((inside + name, page + href))
    print(json.dumps({"shown": shown, "saved": saved}))


# Ran, a script changes the title and wants the API to work for it.
SCRIPT = ("document.title = 'ran'; fetch(API + '/v1/prefetch', {method: 'POST', mode: 'no-cors', body: '{\"flist\": \"x.fl\"}'})"
          ".then(() => window.told = 'answered', () => window.told = 'refused')")


def hostile(folder: str) -> None:
    """Writes the pages that `sandbox` opens."""
    script = SCRIPT.replace("API +", "(window.API || '') +")
    Path(folder, "page.html").write_text(f"""<!DOCTYPE html><html><head><title>still</title>
        <script src="code.js"></script><script>{script}</script></head><body><p>text</p><img src="nothing" onerror="document.title='ran'">
        <iframe src="/"></iframe><a id="link" href="javascript:document.title='ran'">x</a>
        <form action="/v1/prefetch" method="post" enctype="text/plain"><input name='{{"flist":"x.fl","a":"' value='"}}'>
        <input type="submit" id="send"></form></body></html>""")
    Path(folder, "code.js").write_text(script)
    Path(folder, "drawing.svg").write_text(f"""<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="document.title='ran'">
        <title>still</title><script>{script}</script></svg>""")
    Path(folder, "page.xml").write_text(f"""<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>still</title>
        <script>{script}</script></head><body/></html>""")


def jobs(api: str) -> int:
    import urllib.request
    return len(json.load(urllib.request.urlopen(api + "/v1/status"))["jobs"])


def sandbox(folder: str, url: str, plain: str, api: str) -> None:
    """Pages of an flist run nothing, and those of another server reach nothing."""
    pages = ("page.html", "drawing.svg", "page.xml")
    with Browser(folder) as browser:
        for page in pages:
            browser.open(url + page)
            blocked = ("sandboxed", "Content Security Policy")
            end = time.monotonic() + PATIENCE
            while not any(word in text for word in blocked for text in browser.log):
                assert time.monotonic() < end, f"{page}: the browser blocked nothing: {browser.log}"
                browser.run("1")
                time.sleep(0.05)
            assert browser.run("document.title || document.querySelector('title').textContent") == "still", page
            assert browser.run("self.origin") == "null", page
        browser.open(url + "page.html")
        browser.click("#link")
        browser.click("#send")
        time.sleep(0.5)
        assert browser.run("document.title") == "still" and browser.run("location.pathname").endswith("/page.html")
        # As a script of that page would ask: the origin is none, from which nothing is taken.
        told = browser.run(f"fetch('/v1/stats').then(r => 'status ' + r.status, e => 'refused')")
        assert told == "refused", told
        assert jobs(api) == 0

        # The same page, from a server that says nothing of sandboxes: its script runs, and the API refuses what it asks for.
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=plain)
        handler.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.ask("Page.addScriptToEvaluateOnNewDocument", source=f"window.API = {json.dumps(api)}")
        browser.statuses.clear()
        browser.open(f"http://127.0.0.1:{server.server_port}/page.html")
        browser.until("document.title === 'ran' && window.told")
        # Of an answer to another origin the page learns nothing; the browser has its status.
        assert 403 in browser.statuses, (browser.statuses, browser.run("window.told"))
        assert jobs(api) == 0
        server.shutdown()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
