#!/usr/bin/env python3
"""A hub that misbehaves as its control file says: {"wrong": ["HEX", …], "bytes_per_second": 600}. Everything else it serves well."""

import argparse
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A slow answer goes out in steps of this length.
STEP_SECONDS = 0.25


class Faults:
    """The control file, read again when it has changed."""

    def __init__(self, path: str):
        self.path, self.stamp, self.found = path, None, {}

    def read(self) -> dict:
        try:
            stamp = os.stat(self.path).st_mtime_ns
            if stamp != self.stamp:
                with open(self.path) as file:
                    self.found = json.load(file)
                self.stamp = stamp
        except (OSError, ValueError):
            pass
        return self.found


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: str
    faults: Faults

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        print(f"{time.time():.3f} {self.client_address[0]} {self.path}", flush=True)
        path = os.path.normpath(os.path.join(self.root, self.path.split("?")[0].lstrip("/")))
        if not path.startswith(self.root + os.sep) or not os.path.isfile(path):
            return self.start(404, 0)
        with open(path, "rb") as file:
            body = file.read()
        faults = self.faults.read()
        if os.path.basename(path) in faults.get("wrong", []):
            body = bytes([body[0] ^ 1]) + body[1:]
        self.start(200, len(body))
        if self.command == "HEAD":
            return None
        try:
            self.send(body, faults.get("bytes_per_second") if not path.endswith(".fl") else None)
        except OSError:
            self.close_connection = True
        return None

    def start(self, status: int, length: int) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send(self, body: bytes, rate: int | None) -> None:
        if rate is None:
            self.wfile.write(body)
            return
        step = max(1, int(rate * STEP_SECONDS))
        for start in range(0, len(body), step):
            # Mended meanwhile: the rest comes at once.
            if self.faults.read().get("bytes_per_second") is None:
                self.wfile.write(body[start:])
                return
            self.wfile.write(body[start : start + step])
            time.sleep(STEP_SECONDS)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("control")
    parser.add_argument("--listen", default="127.0.0.1:0")
    options = parser.parse_args()
    host, port = options.listen.rsplit(":", 1)
    Hub.root, Hub.faults = os.path.realpath(options.root), Faults(options.control)
    Server((host, int(port)), Hub).serve_forever()


if __name__ == "__main__":
    main()
