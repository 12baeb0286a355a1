#!/usr/bin/env python3
"""scripts/bench-http: bench_http.py BIN MIB SECONDS. A hub directory, a daemon, nginx, four clients; all of it goes at the end."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

CLIENTS = 4
ROUNDS = 3
RANGE = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(*pids: int) -> tuple[float, float]:
    """Seconds of processor time of processes: their own, and the kernel's for them."""
    user = kernel = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        user, kernel = user + int(fields[11]) / TICKS, kernel + int(fields[12]) / TICKS
    return user, kernel


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what: str, condition) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"bench-http: not within 30 s: {what}")


def client(port: int, path: str, offsets, stop: float, done: list) -> None:
    """Ranges over one connection; what comes is thrown away."""
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    total = 0
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for offset in offsets:
            if time.monotonic() >= stop:
                break
            s.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes={offset}-{offset + RANGE - 1}\r\n\r\n".encode())
            head = b""
            while (end := head.find(b"\r\n\r\n")) < 0:
                piece = s.recv(1 << 16)
                if not piece:
                    sys.exit("bench-http: the server closed")
                head += piece
            if not head.startswith(b"HTTP/1.1 206"):
                sys.exit(f"bench-http: {head[:80]!r}")
            left = int(re.search(rb"content-length: *(\d+)", head.lower())[1]) - (len(head) - end - 4)
            while left > 0:
                got = s.recv_into(view[: min(left, len(buffer))])
                if not got:
                    sys.exit("bench-http: the server closed")
                left -= got
            total += RANGE
    done.append(total)


def measure(name: str, port: int, path: str, pids: list[int], span: range, seconds: float) -> dict:
    """Each client goes through its own quarter of the span, over and over; `seconds` of 0: once, without a second of warming up."""
    def offsets(number: int):
        mine = span[number * len(span) // CLIENTS:(number + 1) * len(span) // CLIENTS]
        yield from mine
        while seconds:
            yield from mine

    for length in ([1.0, seconds] if seconds else [0]):
        done: list[int] = []
        before, start = cpu(*pids), time.monotonic()
        stop = start + length if length else float("inf")
        threads = [threading.Thread(target=client, args=(port, path, offsets(n), stop, done)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (user, kernel), wall = (now - then for now, then in zip(cpu(*pids), before)), time.monotonic() - start
    used = user + kernel
    out = {"case": name, "MB": round(sum(done) / 1e6, 1), "seconds": round(wall, 2), "cpu": round(used, 2),
           "kernel": round(kernel, 2), "MBPerCPUSecond": round(sum(done) / 1e6 / max(used, 1e-3), 1)}
    print(json.dumps(out), flush=True)
    return out


def serve(binaries: Path, place: Path, name: str, settings: str, children: list[subprocess.Popen]) -> tuple[int, int]:
    """A daemon that has all chunks; its port and process."""
    api, mesh = free_port(), free_port()
    (place / f"{name}.yaml").write_text(
        f"node:\n  name: {name}\nmesh:\n  listen: 127.0.0.1:{mesh}\n  multicast: false\n"
        f"cache:\n  dir: {place}/{name}\n  minFree: 0%\n{settings}api:\n  listen: 127.0.0.1:{api}\n")
    daemon = subprocess.Popen([binaries / "chunkmeshd", "--config", place / f"{name}.yaml"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children.append(daemon)
    until("the daemon is ready", lambda: urllib.request.urlopen(f"http://127.0.0.1:{api}/readyz").status == 200)
    subprocess.run([binaries / "chunkmesh", "prefetch", place / "x.fl", "--scope", "node", "--json",
                    "--api", f"http://127.0.0.1:{api}"], check=True, stdout=subprocess.DEVNULL)
    return api, daemon.pid


def main() -> None:
    binaries, mib, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    place = Path(tempfile.mkdtemp(prefix="bench-http-"))
    # nginx reads as a user of its own.
    place.chmod(0o755)
    children: list[subprocess.Popen] = []
    try:
        tree, hub = place / "tree", place / "hub"
        tree.mkdir(), hub.mkdir()
        # Half of it compresses, as programs do.
        dice = random.Random(1)
        words = [dice.randbytes(64) for _ in range(256)]
        with open(tree / "big", "wb") as file:
            for _ in range(mib):
                file.write(dice.randbytes(RANGE // 2) + b"".join(dice.choices(words, k=RANGE // 128)))
        subprocess.run([binaries / "chunkmesh", "flist", "pack", tree, "-o", place / "x.fl", "--store", f"dir://{hub}"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        decode = json.loads(subprocess.run([binaries / "flist-bench", "decode", place / "x.fl", hub], check=True,
                                           capture_output=True, text=True).stdout)
        alone = {"case": "decode alone", "MB": round(decode["bytes"] / 1e6, 1), "cpu": round(decode["cpu"], 2),
                 "MBPerCPUSecond": round(decode["bytes"] / 1e6 / decode["cpu"], 1)}
        print(json.dumps(alone), flush=True)

        web = free_port()
        (place / "nginx.conf").write_text(
            f"worker_processes 1; daemon off; pid {place}/nginx.pid; error_log {place}/error.log;\n"
            f"events {{ worker_connections 64; }}\nhttp {{ access_log off; sendfile on; keepalive_requests 1000000;\n"
            f"  server {{ listen 127.0.0.1:{web}; location / {{ root {tree}; }} }} }}\n")
        nginx = subprocess.Popen(["nginx", "-c", place / "nginx.conf", "-p", place], stderr=subprocess.DEVNULL)
        children.append(nginx)
        until("nginx answers", lambda: urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{web}/big", headers={"Range": "bytes=0-0"})).status == 206)
        workers = [int(pid) for pid in Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()]

        path, whole = "/v1/flists/x.fl/files/big", range(0, mib * RANGE, RANGE)
        api, pid = serve(binaries, place, "none", "  decodedMax: 0\n", children)
        each = measure("decoded for each read", api, path, [pid], whole, seconds)
        api, pid = serve(binaries, place, "kept", "", children)
        first = measure("first read, kept decoded", api, path, [pid], whole, 0)
        # In turns: what else the machine does meets both.
        ratios = []
        for _ in range(ROUNDS):
            plain = measure("nginx, plain file", web, "/big", workers, whole, seconds)
            warm = measure("decoded file", api, path, [pid], whole, seconds)
            ratios.append(round(warm["MBPerCPUSecond"] / plain["MBPerCPUSecond"], 3))
        print(json.dumps({
            "eachToDecodeAlone": round(each["MBPerCPUSecond"] / alone["MBPerCPUSecond"], 3),
            "firstToDecodeAlone": round(first["MBPerCPUSecond"] / alone["MBPerCPUSecond"], 3),
            "warmToNginx": ratios}))
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        shutil.rmtree(place, ignore_errors=True)


main()
