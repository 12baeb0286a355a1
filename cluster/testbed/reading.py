"""Two scenarios about reading what is not here yet: a small piece of a cold chunk, and a program that starts from a cold mount."""

import os
import random
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

import api
import python_tree
from mounting import Mounted
from nodes import MeshNode
from payload import BLOCK_BYTES, FLIST, HUB_PORT, SEED, Payload
from session import Session
from shell import TestbedError, in_namespace, run
from site_network import HUB_IP

PIECE_BYTES = 4096
READ_SECONDS = 60
# Long enough that the hub's TCP begins slowly again, short enough that no connection is closed.
IDLE_SECONDS = 1.0
# For the daemon to see that the hub has gone.
CLOSED_SECONDS = 0.3
SMALL_BYTES = 2048
ROUND_TRIPS = 2
# What is under way when a program ends counts for it.
SETTLE_SECONDS = 1.0
PROGRAM = "import json, ssl, sqlite3"


# MARK: one piece


class ColdReads:
    """Files of two incompressible blocks, of which the first one is read, once; small files warm a connection up."""

    def __init__(self, session: Session):
        self.session, self.node = session, session.nodes[1]
        self.next, self.next_small = 0, 0
        self.bytes: list[int] = []

    def file(self) -> str:
        self.next += 1
        return f"f{self.next - 1:03}"

    def read(self, way: str, mounted: Mounted | None) -> float:
        """Seconds for 4 KiB from the middle of the next file's first block."""
        name = self.file()
        offset = BLOCK_BYTES // 2
        site = self.session.site
        before = site.counters()["up0"].rx_bytes
        begun = time.monotonic()
        if mounted is not None:
            file = os.open(mounted.root / name, os.O_RDONLY)
            body = os.pread(file, PIECE_BYTES, offset)
            took = time.monotonic() - begun
            os.close(file)
        else:
            body = api.read(self.node.socket, self.digest, name, offset, PIECE_BYTES, READ_SECONDS)
            took = time.monotonic() - begun
        with open(self.session.payload.directory / "tree" / name, "rb") as file:
            file.seek(offset)
            if body != file.read(PIECE_BYTES):
                raise TestbedError(f"{name} was read wrong or not at all by {way}: {self.node.last_words()}")
        time.sleep(0.2)
        self.bytes.append(site.counters()["up0"].rx_bytes - before)
        return took

    def open(self) -> None:
        answer = api.post(self.node.socket, "/v1/flists", {"flist": self.node.flist})
        if answer is None:
            raise TestbedError(f"the flist cannot be opened: {self.node.last_words()}")
        self.digest = answer["digest"]

    def small(self) -> None:
        """One small chunk comes over the line, as the end of an flist would."""
        name = f"s{self.next_small:03}"
        self.next_small += 1
        if api.read(self.node.socket, self.digest, name, 0, SMALL_BYTES, READ_SECONDS) is None:
            raise TestbedError(f"{name} cannot be read: {self.node.last_words()}")

    def close_connections(self) -> None:
        """The hub starts anew, and has answered one request of its own machine before it is measured."""
        hub = self.session.hub
        hub.stop()
        hub.start()
        run(*in_namespace(self.session.site.hub, "curl", "-s", "-o", "/dev/null", f"http://{HUB_IP}:{HUB_PORT}/{FLIST}"))
        time.sleep(CLOSED_SECONDS)

    def curl(self) -> float:
        """The first chunk of the next file by curl on a connection of its own, by its own watch."""
        path = self.paths[self.file()]
        command = ["curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{time_total}", f"http://{HUB_IP}:{HUB_PORT}/{path}"]
        return float(run(*in_namespace(self.session.site.namespace(1), *command)))

    def find_chunks(self) -> None:
        """Which chunk a file begins with; needs the flist's block table, which is a SQLite file."""
        store = self.session.payload.store
        with sqlite3.connect(f"file:{store / FLIST}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT inode.name, hex(block.id) FROM inode JOIN block ON block.ino = inode.ino ORDER BY block.rowid DESC").fetchall()
        names = {p.name: str(p.relative_to(store)) for p in store.rglob("*") if p.is_file()}
        self.paths = {name: names[id.lower()] for name, id in rows}


def files_payload(directory: Path, files: int, smalls: int, route: str, command: str) -> Payload:
    tree, store = directory / "tree", directory / "store"
    tree.mkdir(parents=True)
    store.mkdir()
    generator = random.Random(SEED)
    for i in range(files):
        (tree / f"f{i:03}").write_bytes(generator.randbytes(2 * BLOCK_BYTES))
    for i in range(smalls):
        (tree / f"s{i:03}").write_bytes(generator.randbytes(SMALL_BYTES))
    run(command, "flist", "pack", str(tree), "-o", str(store / FLIST), "--store", f"dir://{store.resolve()}", "--route", route)
    return Payload(directory, 2 * files * BLOCK_BYTES, {})


def cold_read(session: Session) -> dict:
    options, site = session.options, session.site
    ways = ["http", "mount"] if options.read == "both" else [options.read]
    cases = [(way, state) for way in ways for state in ("warm", "open", "closed")]
    files = options.samples * (len(cases) + 1)
    session.use(files_payload(session.work / "payload", files, files, session.route, session.binaries.command))
    session.start_hub()
    session.add_nodes()
    session.start_daemons(list(site.indices))
    reads = ColdReads(session)
    reads.find_chunks()
    reads.open()
    stored = statistics.mean((session.payload.store / path).stat().st_size for name, path in reads.paths.items() if name[0] == "f")
    ideal = stored * 8 / site.rate_bps + ROUND_TRIPS * options.delay_ms / 1000
    took: dict[str, list[float]] = {f"{way} {state}": [] for way, state in cases}
    curls = []
    with Mounted(session.nodes[1]) if "mount" in ways else _nothing() as mounted:
        for _ in range(options.samples):
            for way, state in cases:
                if state != "open":
                    reads.close_connections()
                if state == "warm":
                    reads.small()
                if state != "closed":
                    time.sleep(IDLE_SECONDS)
                took[f"{way} {state}"].append(reads.read(way, mounted if way == "mount" else None))
            curls.append(reads.curl())
    result = {
        "rate": options.rate,
        "delay_ms": options.delay_ms,
        "samples": options.samples,
        "stored": round(stored),
        "ideal_s": round(ideal, 4),
        "curl_s": _spread(curls),
        "curl_ratio": round(statistics.median(curls) / ideal, 3),
        # Whole frames; a chunk with its headers is 1.046.
        "bytes_ratio": round(sum(reads.bytes) / len(reads.bytes) / stored, 4),
        "drops": site.uplink_drops(),
    }
    for case, values in took.items():
        result[case.replace(" ", "_")] = {
            **_spread(values),
            "ratio": round(statistics.median(values) / ideal, 3),
            "worst_ratio": round(max(values) / ideal, 3),
            "by_curl": round(statistics.median(values) / statistics.median(curls), 3),
        }
    return result


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def _spread(values: list[float]) -> dict:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


# MARK: a program


def python_imports(session: Session) -> dict:
    """The same program three times on a node that has nothing: after downloading all, from the mount, with a profile of the run before."""
    options = session.options
    tree = Path(options.tree) if options.tree else python_tree.make(session.work / "payload" / "tree")
    session.use(_packed(session, tree))
    session.start_hub()
    session.add_nodes()
    node = session.nodes[1]
    profile = session.work / "start.profile"
    flist_bytes = (session.payload.store / FLIST).stat().st_size
    stored = {p.name: p.stat().st_size for p in session.payload.store.rglob("*") if p.is_file() and p.name != FLIST}
    rate = session.site.rate_bps / 8
    result = {
        "rate": options.rate,
        "delay_ms": options.delay_ms,
        "tree": {"bytes": sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink()), "stored": sum(stored.values())},
        "flist": flist_bytes,
    }
    trace = ["trace", node.flist, "-o", str(profile), "--"]

    cold = _run_cold(session, trace)
    touched = [line.split()[2] for line in profile.read_text().splitlines() if line and not line.startswith("#") and line[0].isdigit()]
    touched_bytes = sum(stored[chunk] for chunk in touched)
    result["touched"] = {"chunks": len(touched), "bytes": touched_bytes, "ideal_s": round(touched_bytes / rate, 3)}
    cold["bytes_ratio"] = round((cold["chunk_bytes"] + flist_bytes) / (touched_bytes + flist_bytes), 4)
    cold["line_ratio"] = round((cold["open"]["up_down"] + cold["up_down"]) / (touched_bytes + flist_bytes), 4)
    cold["rel"] = round(cold["seconds"] / (touched_bytes / rate), 3)
    result["cold"] = cold

    prefetch = ["prefetch", node.flist, "--scope", "node", "--profile", str(profile), "--only-profile"]
    profiled = []
    for _ in range(options.samples):
        turn = _run_cold(session, None, meanwhile=prefetch)
        turn["rel"] = round(turn["seconds"] / (touched_bytes / rate), 3)
        turn["rel_line"] = round(turn["seconds"] / (turn["up_down"] / rate), 3)
        profiled.append(turn)
    result["profile"] = sorted(profiled, key=lambda turn: turn["seconds"])[len(profiled) // 2]
    result["profile_rel"] = [turn["rel"] for turn in profiled]

    result["whole"] = _run_cold(session, None, first=["prefetch", node.flist, "--scope", "node"])
    result["whole"]["by_cold"] = round(result["whole"]["seconds"] / cold["seconds"], 2)
    # All of it is in the memory by now: what remains is the program's own.
    result["warm_s"] = result["whole"].pop("again_s")
    return result


def _packed(session: Session, tree: Path) -> Payload:
    directory = session.work / "payload"
    store = directory / "store"
    store.mkdir(parents=True)
    command = [session.binaries.command, "flist", "pack", str(tree), "-o", str(store / FLIST), "--store", f"dir://{store.resolve()}"]
    run(*command, "--route", session.route)
    return Payload(directory, 0, {})


def _run_cold(session: Session, wrap: list[str] | None, first: list[str] | None = None, meanwhile: list[str] | None = None) -> dict:
    """Runs the program from a mount on a node whose cache is empty: beside `meanwhile`, after `first`, or as the last words of `wrap`."""
    site, node = session.site, session.nodes[1]
    node.forget_everything()
    node.start_daemon()
    node.wait_ready()

    def down() -> int:
        return site.counters()["up0"].rx_bytes

    def command(words: list[str]) -> list[str]:
        return [node.binaries.command, words[0], "--api", node.api_url, *words[1:]]

    base, begun = down(), time.monotonic()
    with Mounted(node) as mounted:
        opened = {"seconds": round(time.monotonic() - begun, 3), "up_down": down() - base}
        program = ["chroot", str(mounted.place), python_tree.PROGRAM, "-c", PROGRAM]
        time.sleep(SETTLE_SECONDS)
        before, requests = node.counts(), api.metrics(node.socket)["upstream_requests_total"]
        base, begun = down(), time.monotonic()
        if first:
            _do(in_namespace(site.namespace(1), *command(first)))
        other = None
        if meanwhile:
            other = node.spawn(command(meanwhile), "job.log")
        _do(mounted.inside(*(command(wrap) if wrap else []), *program))
        seconds = time.monotonic() - begun
        at_end = down() - base
        ended = None
        if other is not None:
            if other.wait() != 0:
                raise TestbedError(f"the prefetch failed: {node.last_words()}")
            ended = round(time.monotonic() - begun, 3)
        time.sleep(SETTLE_SECONDS)
        counts = node.counts()
        out = {
            "open": opened,
            "seconds": round(seconds, 3),
            "up_down": down() - base,
            "up_down_at_end": at_end,
            # The cache was empty: what is in it came over the line.
            "chunks": counts["cache"]["chunks"] - before["cache"]["chunks"],
            "requests": round(api.metrics(node.socket)["upstream_requests_total"] - requests),
            "chunk_bytes": counts["cache"]["bytes"] - before["cache"]["bytes"],
        }
        if ended is not None:
            out["prefetch_s"] = ended
        if first:
            begun = time.monotonic()
            _do(mounted.inside(*program))
            out["again_s"] = round(time.monotonic() - begun, 3)
    return out


def _do(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise TestbedError(f"`{' '.join(command)}` failed with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
