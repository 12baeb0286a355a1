"""A hub that fails in the ways hubs fail. Prints its port; "stats" on stdin prints a JSON line; ends when stdin closes.

The first part of a request's path chooses the behaviour, the rest names a file below DIR.
"""
import base64
import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = sys.argv[1]
lock = threading.Lock()
stats = {"connections": 0, "requests": 0, "paths": [], "headers": {}}
failed = {}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with lock:
            stats["connections"] += 1

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=(), declared=None):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body) if declared is None else declared))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with lock:
            stats["requests"] += 1
            stats["paths"].append(self.path)
            stats["headers"] = dict(self.headers.items())
        try:
            self.behave()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def parts(self, body, fault="none"):
        """Serves ranges: rightly, or (after a right answer to "bytes=0-") not at all, from another place, or with one part failing once."""
        if "Range" not in self.headers:
            return self.answer(200, body, [("Accept-Ranges", "bytes")])
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last or len(body)), len(body) - 1)
        with lock:
            again = failed.get(self.path)
            if first == 524288 // 6:
                failed[self.path] = True
        if fault == "ignored" and self.headers["Range"] != "bytes=0-":
            return self.answer(200, body)
        if fault == "fails" and first == 524288 // 6 and not again:
            return self.answer(503, b"later")
        if first >= len(body):
            return self.answer(416, b"", [("Content-Range", "bytes */%d" % len(body))])
        said = first + 1 if fault == "shifted" and first else first
        return self.answer(206, body[first : last + 1], [("Content-Range", "bytes %d-%d/%d" % (said, last, len(body)))])

    def behave(self):
        mode, _, name = self.path.lstrip("/").partition("?")[0].partition("/")
        mode, *arguments = mode.split("-")
        file = os.path.join(ROOT, name)
        body = open(file, "rb").read() if os.path.isfile(file) else None
        if mode == "status":
            return self.answer(int(arguments[0]), b"no")
        if mode == "errorpage":
            return self.answer(500, b"x" * 1_000_000)
        if mode in ("fail", "later"):
            with lock:
                failed[self.path] = failed.get(self.path, 0) + 1
                count = failed[self.path]
            if count <= int(arguments[0]):
                headers = [("Retry-After", arguments[1])] if mode == "later" else []
                return self.answer(503, b"busy", headers)
        if mode == "mended" and os.path.exists(os.path.join(ROOT, "broken")):
            return self.answer(500, b"broken")
        if mode == "auth" and self.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:s3cret").decode():
            return self.answer(401, b"who are you?")
        if mode == "cross":
            return self.answer(302, b"", [("Location", "http://127.0.0.1:%s/plain/%s" % (arguments[0], name))])
        if mode == "headers":
            return self.answer(200, b"", [("X-%d" % i, "y" * 100) for i in range(2_000)])
        if mode == "loop":
            return self.answer(302, b"", [("Location", self.path)])
        if mode == "redirect":
            return self.answer(302, b"moved", [("Location", "/plain/" + name)])
        if mode == "tofile":
            return self.answer(302, b"", [("Location", "file:///etc/hostname")])
        if body is None:
            return self.answer(404, b"not here")
        if mode == "stall":
            self.answer(200, body[: len(body) // 2], declared=len(body))
            self.wfile.flush()
            time.sleep(30)
            return None
        if mode == "silent":
            time.sleep(30)
            return None
        if mode == "drip":
            self.answer(200, b"", declared=len(body))
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                time.sleep(0.1)
            return None
        if mode == "short":
            self.answer(200, body[:-1], declared=len(body))
            self.close_connection = True
            return None
        if mode == "more":
            self.answer(200, body + b"more", declared=len(body))
            self.close_connection = True
            return None
        if mode == "huge":
            return self.answer(200, body, declared=10 << 30)
        if mode in ("endless", "chunked"):
            self.send_response_only(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            pieces = [body[i : i + 60_000] for i in range(0, len(body), 60_000)]
            while True:
                for piece in pieces:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if mode == "chunked":
                    self.wfile.write(b"0\r\n\r\n")
                    return None
        if mode == "replaced" and name.endswith(".fl"):
            with lock:
                failed[self.path] = failed.get(self.path, 0) + 1
                if failed[self.path] == 1:
                    body = b"older" + body
        if mode == "wrong":
            return self.answer(200, bytes([body[0] ^ 1]) + body[1:])
        if mode == "slowstart":
            time.sleep(0.3)
            return self.answer(200, body)
        if mode == "parts":
            return self.parts(body, *arguments)
        if mode == "etag":
            tag = '"%d-%d"' % (len(body), sum(body) % 65521)
            if self.headers.get("If-None-Match") == tag:
                return self.answer(304, headers=[("ETag", tag)])
            return self.answer(200, body, [("ETag", tag), ("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")])
        return self.answer(200, body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Hub)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    if line.strip() == "stats":
        with lock:
            print(json.dumps(stats), flush=True)
