"""A real S3 server (moto) behind a gate that checks every signature as AWS does, by botocore's own code.

Prints its port. Commands on stdin, one answer line each:
  make BUCKET            makes a bucket, by boto3, through the gate
  put BUCKET KEY HEX     puts an object by boto3
  get BUCKET KEY         the object's bytes in hex, by boto3; "none"
  stats                  JSON: requests, headers of the last one
The bucket's name chooses what goes wrong beside the signature; see Gate.misbehave. Ends when stdin closes.
"""
import hashlib
import hmac
import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import botocore.config
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

KEYS = {"chunkmesh": ("s3cr/et+key=", None), "temporary": ("other", "session-token/1=")}
REGIONS = ("us-east-1", "eu-test-7")
lock = threading.Lock()
stats = {"requests": 0, "headers": {}}
failed = {}

moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
moto.start()
MOTO = moto._server.server_address[1]


class Checker(S3SigV4Auth):
    """Signs again what was signed, at the time that the request names."""

    def __init__(self, credentials, region, timestamp, signed):
        super().__init__(credentials, "s3", region)
        self.timestamp, self.signed = timestamp, signed

    def signature_of(self, request):
        request.context["timestamp"] = self.timestamp
        canonical = self.canonical_request(request)
        return self.signature(self.string_to_sign(request, canonical), request)

    def headers_to_sign(self, request):
        chosen = http.client.HTTPMessage()
        for name in self.signed:
            chosen[name] = request.headers.get(name, "")
        return chosen


class Gate(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=(), declared=None):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, extra="", headers=()):
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>no</Message>{extra}</Error>'
        self.answer(status, text.encode(), [("Content-Type", "application/xml"), *headers])

    def signature_fault(self, body):
        """The code of what is wrong with the signature; None when nothing is."""
        bucket = self.path.split("/")[1]
        given = self.headers.get("Authorization")
        if given is None:
            return None if bucket == "public" else "AccessDenied"
        algorithm, _, rest = given.partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        access, date, region, service, end = parts["Credential"].split("/")
        if algorithm != "AWS4-HMAC-SHA256" or service != "s3" or end != "aws4_request":
            return "AuthorizationHeaderMalformed"
        if region not in REGIONS:
            return "AuthorizationHeaderMalformed"
        if access not in KEYS:
            return "InvalidAccessKeyId"
        secret, session = KEYS[access]
        if session is not None and self.headers.get("x-amz-security-token") != session:
            return "InvalidToken"
        signed = parts["SignedHeaders"].split(";")
        named = self.headers.get("x-amz-content-sha256")
        for needed in ("host", "x-amz-date", "x-amz-content-sha256") + (("x-amz-security-token",) if session else ()):
            if needed not in signed:
                return "AccessDenied"
        if named not in (hashlib.sha256(body).hexdigest(), "UNSIGNED-PAYLOAD"):
            return "XAmzContentSHA256Mismatch"
        when = self.headers["x-amz-date"]
        request = AWSRequest(self.command, f"http://{self.headers['Host']}{self.path}", headers=dict(self.headers.items()), data=body)
        expected = Checker(Credentials(access, secret), region, when, signed).signature_of(request)
        if not when.startswith(date) or not hmac.compare_digest(expected, parts["Signature"]):
            return "SignatureDoesNotMatch"
        return None

    def misbehave(self, body):
        bucket, _, key = self.path.lstrip("/").partition("/")
        mode, *arguments = bucket.split(".")
        if mode in ("busy", "mended"):
            with lock:
                failed[self.path] = failed.get(self.path, 0) + 1
                count = failed[self.path]
            if mode == "busy" or count <= int(arguments[0]):
                self.refuse(503, "SlowDown", headers=[("Retry-After", "0")])
                return True
        if mode == "skewed":
            self.refuse(403, "RequestTimeTooSkewed")
        elif mode == "elsewhere":
            self.refuse(301, "PermanentRedirect", "<Region>eu-test-7</Region>", [("Location", f"http://localhost:{PORT}/x")])
        elif mode == "hostile":
            self.answer(403, b"<Error>" + b"<Code>" * 10_000 + b"\x1b[31m\n" * 50_000)
        elif mode == "headers":
            self.send_response_only(200)
            for number in range(2_000):
                self.send_header(f"x-{number}", "y" * 100)
            self.end_headers()
        elif mode == "stall":
            self.answer(200, b"half", declared=1_000)
            self.wfile.flush()
            time.sleep(20)
        elif mode == "short":
            self.answer(200, b"half", declared=1_000)
            self.close_connection = True
        elif mode == "huge":
            self.answer(200, b"x", declared=10 << 30)
        else:
            return False
        return True

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            stats["requests"] += 1
            stats["headers"] = dict(self.headers.items())
        try:
            fault = self.signature_fault(body)
            if fault is not None:
                return self.refuse(403, fault)
            if self.misbehave(body):
                return None
            back = http.client.HTTPConnection("127.0.0.1", MOTO)
            # Moto finds its buckets by the host of the request, which stays ours.
            back.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() != "content-length"})
            reply = back.getresponse()
            data = reply.read()
            mode = self.path.lstrip("/").partition("/")[0]
            if self.command == "GET" and reply.status == 200 and mode == "lies":
                data = bytes([data[0] ^ 1]) + data[1:]
            keep = [(k, v) for k, v in reply.getheaders() if k.lower() not in ("content-length", "transfer-encoding", "connection")]
            declared = int(reply.headers.get("Content-Length", len(data))) if self.command == "HEAD" else None
            return self.answer(reply.status, data, keep, declared)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Gate)
PORT = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client(
    "s3", endpoint_url=f"http://127.0.0.1:{PORT}", region_name="us-east-1", aws_access_key_id="chunkmesh",
    aws_secret_access_key=KEYS["chunkmesh"][0],
    config=botocore.config.Config(
        s3={"addressing_style": "path"}, request_checksum_calculation="when_required", response_checksum_validation="when_required"))
print(PORT, flush=True)
for line in sys.stdin:
    command, *words = line.split()
    if command == "make":
        client.create_bucket(Bucket=words[0], ACL="public-read" if words[0] == "public" else "private")
        print("done", flush=True)
    elif command == "put":
        client.put_object(
            Bucket=words[0], Key=words[1], ACL="public-read" if words[0] == "public" else "private", Body=bytes.fromhex(words[2] if len(words) > 2 else ""))
        print("done", flush=True)
    elif command == "get":
        try:
            print(client.get_object(Bucket=words[0], Key=words[1])["Body"].read().hex(), flush=True)
        except client.exceptions.NoSuchKey:
            print("none", flush=True)
    elif command == "stats":
        with lock:
            print(json.dumps(stats), flush=True)
