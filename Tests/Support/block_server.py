"""rfs' server as far as its block API goes. Prints its port; ends when stdin closes.

  POST /api/v1/signin   {"username","password"} → {"access_token"}; each token is taken twice, so that it comes of age
  POST /api/v1/block    bytes, with a token → 201, 200 when it was there
  GET, HEAD /api/v1/block/HEX

With an argument it names blocks by SHA-256, as a server of another generation would.
"""
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

blocks, tokens = {}, {}
USER, PASSWORD = "pack er", 'p"w\\/é'


class Blocks(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        key = self.path.removeprefix("/api/v1/block/")
        block = blocks.get(key)
        self.answer(200, block) if block is not None else self.answer(404, b'{"NotFound": "no"}')

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/v1/signin":
            given = json.loads(body)
            if (given["username"], given["password"]) != (USER, PASSWORD):
                return self.answer(401, b'{"Unauthorized": "Wrong username or password"}')
            token = f"tok.{len(tokens)}"
            tokens[token] = 2
            return self.answer(201, json.dumps({"SignedIn": {"access_token": token}}).encode())
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if token != "fixed" and tokens.get(token, 0) <= 0 or kind != "Bearer":
            return self.answer(403, b'{"Forbidden": "no"}')
        if token in tokens:
            tokens[token] -= 1
        if not self.path.startswith("/api/v1/block?file_hash=&idx=0"):
            return self.answer(400)
        name = hashlib.sha256(body).hexdigest() if len(sys.argv) > 1 else hashlib.blake2b(body, digest_size=32).hexdigest()
        status = 200 if name in blocks else 201
        blocks[name] = body
        return self.answer(status, json.dumps({"BlockUploaded": name}).encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Blocks)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    if line.strip() == "tokens":
        print(len(tokens), flush=True)
