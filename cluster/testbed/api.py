"""The daemon's HTTP API over its Unix socket."""

import http.client
import json
import socket

TIMEOUT_SECONDS = 2


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(socket_path: str, path: str) -> bytes | None:
    """The body of a 200 answer; None for any other answer or when nobody answers (in time)."""
    connection = _UnixConnection(socket_path)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ready(socket_path: str) -> bool:
    return get(socket_path, "/readyz") is not None


def peers(socket_path: str) -> list[dict]:
    body = get(socket_path, "/v1/peers")
    return json.loads(body)["peers"] if body else []


def other_sites(socket_path: str) -> list[dict]:
    body = get(socket_path, "/v1/peers")
    return json.loads(body).get("sites", []) if body else []


def stats(socket_path: str) -> dict | None:
    body = get(socket_path, "/v1/stats")
    return json.loads(body) if body else None
