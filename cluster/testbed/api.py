"""The daemon's HTTP API over its Unix socket."""

import http.client
import json
import socket

TIMEOUT_SECONDS = 2


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(socket_path: str, path: str, timeout: float = TIMEOUT_SECONDS, headers: dict[str, str] | None = None) -> bytes | None:
    """The body of a 200 or 206 answer; None for any other answer or when nobody answers (in time)."""
    connection = _UnixConnection(socket_path, timeout)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status in (200, 206) else None
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


def other_sites(socket_path: str) -> list[dict]:
    body = get(socket_path, "/v1/peers")
    return json.loads(body).get("sites", []) if body else []


def stats(socket_path: str) -> dict | None:
    body = get(socket_path, "/v1/stats")
    return json.loads(body) if body else None


def metrics(socket_path: str) -> dict[str, float]:
    """Name with labels, as Prometheus writes it and without `chunkmesh_`, → value; empty when nobody answers."""
    body = get(socket_path, "/metrics")
    lines = (body or b"").decode(errors="replace").splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name.removeprefix("chunkmesh_"): float(value) for name, value in pairs}


def read(socket_path: str, flist: str, path: str, offset: int, length: int, timeout: float) -> bytes | None:
    """A range of a file of an flist, as a program on the node would read it."""
    return get(socket_path, f"/v1/flists/{flist}/files/{path}", timeout, {"Range": f"bytes={offset}-{offset + length - 1}"})
