"""The daemon's HTTP API over its Unix socket."""

import http.client
import json
import socket

TIMEOUT_SECONDS = 2


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = TIMEOUT_SECONDS):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(socket_path: str, path: str, byte_range: str | None = None, timeout: float = TIMEOUT_SECONDS) -> bytes | None:
    """The body of a 200 answer (206 for a range); None for any other answer or when nobody answers (in time)."""
    connection = _UnixConnection(socket_path, timeout)
    try:
        connection.request("GET", path, headers={"Range": byte_range} if byte_range else {})
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == (206 if byte_range else 200) else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def post(socket_path: str, path: str, document: dict, timeout: float = 30) -> dict | None:
    """The answer; None when it is an error or nobody answers in time."""
    connection = _UnixConnection(socket_path, timeout)
    try:
        connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status < 300 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ready(socket_path: str) -> bool:
    return get(socket_path, "/readyz") is not None


def peers(socket_path: str) -> list[dict]:
    body = get(socket_path, "/v1/peers")
    return json.loads(body)["peers"] if body else []


def stats(socket_path: str) -> dict | None:
    body = get(socket_path, "/v1/stats")
    return json.loads(body) if body else None
