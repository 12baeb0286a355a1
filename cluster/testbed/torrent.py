#!/usr/bin/env python3
"""Nodes that share the payload by BitTorrent, to compare with: libtorrent, its newest release line, with settings made for a LAN."""

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import procfs
from nodes import Node
from payload import Payload
from shell import TestbedError, run, stop
from site_network import Site

PORT = 6881
READY_SECONDS = 30
POLL_SECONDS = 0.005
READ_BYTES = 1 << 20


def python() -> str:
    """A Python that has libtorrent: this one, or the system's (Debian: python3-libtorrent)."""
    if importlib.util.find_spec("libtorrent"):
        return sys.executable
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if os.path.exists(candidate) and subprocess.run([candidate, "-c", "import libtorrent"], stderr=subprocess.DEVNULL).returncode == 0:
            return candidate
    raise TestbedError("--driver libtorrent needs its Python module: apt-get install python3-libtorrent, or pip install libtorrent")


def make_torrent(payload: Payload, path: Path, piece: int) -> Path:
    run(python(), __file__, "make", str(payload.directory / "tree"), str(path), "--piece", str(piece))
    return path


class TorrentNode(Node):
    """A libtorrent session, which knows the addresses of all others and connects to them at the barrier."""

    def __init__(self, site: Site, index: int, work: Path, payload: Payload, torrent: Path, peers: list[str], has_payload: bool):
        super().__init__(site, index, work)
        self.torrent, self.peers = torrent, peers
        self.data = payload.directory if has_payload else work
        self.client: subprocess.Popen | None = None

    def start_client(self, utp: bool, slots: int) -> None:
        command = [python(), __file__, "share", str(self.torrent), str(self.data), str(self.work), "--slots", str(slots)]
        command += ["--address", self.site.address(self.index), *(["--utp"] if utp else []), *(a for p in self.peers for a in ("--peer", p))]
        self.client = self.spawn(command, "daemon.log")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not (self.work / "ready").exists():
            if self.client.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"libtorrent of n{self.index} is not ready: {self.last_words()}")
            time.sleep(POLL_SECONDS * 10)

    def start_job(self, barrier: int | None = None) -> None:
        """Lets the client go, and waits until it says that it has everything."""
        script = 'touch "$0/go"; until test -e "$0/done"; do sleep 0.01; done'
        self.job = self.spawn(["sh", "-c", script, str(self.work)], "job.log", barrier)

    def daemon_cpu(self) -> float:
        return procfs.cpu_seconds(self.client.pid) if self.client else 0.0

    def peak_memory(self) -> int:
        return procfs.peak_memory(self.client.pid) if self.client else 0

    def verify(self, payload: Payload) -> str:
        for path, digest in payload.files.items():
            found = hashlib.sha256()
            with open(self.data / "tree" / path, "rb") as file:
                while piece := file.read(READ_BYTES):
                    found.update(piece)
            if found.hexdigest() != digest:
                return f"{path} differs"
        return "ok"

    def kill(self) -> None:
        super().kill()
        if self.client is not None:
            stop(self.client, grace=0)
            self.client = None


# MARK: run by the Python that has libtorrent


def make(options: argparse.Namespace) -> None:
    import libtorrent as lt

    files = lt.file_storage()
    lt.add_files(files, options.tree)
    torrent = lt.create_torrent(files, options.piece, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, os.path.dirname(options.tree))
    Path(options.out).write_bytes(lt.bencode(torrent.generate()))


def share(options: argparse.Namespace) -> None:
    import libtorrent as lt

    settings = {
        "listen_interfaces": f"{options.address}:{PORT}",
        "enable_dht": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_lsd": False,
        "enable_outgoing_utp": options.utp,
        "enable_incoming_utp": options.utp,
        "enable_outgoing_tcp": not options.utp,
        "enable_incoming_tcp": not options.utp,
        "allow_multiple_connections_per_ip": True,
        # What takes seconds on the Internet takes none here.
        "min_reconnect_time": 1,
        "connection_speed": 500,
        "smooth_connects": False,
        "alert_mask": 0,
    }
    if options.slots:
        settings["unchoke_slots_limit"] = options.slots
    session = lt.session(settings)
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(options.torrent)
    parameters.save_path = options.data
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    while handle.status().state in (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data):
        time.sleep(POLL_SECONDS)
    work, has_all = Path(options.work), handle.status().is_seeding
    (work / "ready").touch()
    while not has_all and not (work / "go").exists():
        time.sleep(POLL_SECONDS)
    for peer in () if has_all else options.peer:
        handle.connect_peer((peer, PORT))
    while not handle.status().is_seeding:
        time.sleep(POLL_SECONDS * 4)
    (work / "done").touch()
    while True:
        time.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("make")
    making.add_argument("tree")
    making.add_argument("out")
    making.add_argument("--piece", type=int, default=0)
    sharing = actions.add_parser("share")
    for name in ("torrent", "data", "work"):
        sharing.add_argument(name)
    sharing.add_argument("--address", required=True)
    sharing.add_argument("--peer", action="append", default=[])
    sharing.add_argument("--utp", action="store_true")
    sharing.add_argument("--slots", type=int, default=0)
    options = parser.parse_args()
    {"make": make, "share": share}[options.action](options)


if __name__ == "__main__":
    main()
