"""Two scenarios about the site's line: whether a budget is kept, and what a reader waits while others prefetch."""

import threading
import time
from dataclasses import dataclass

import api
from nodes import MeshNode
from payload import BLOCK_BYTES
from session import Session
from share import Kill
from shell import TestbedError
from site_network import bits_per_second

SAMPLE_SECONDS = 0.1
WINDOW_SECONDS = 10
# After the first bytes; before them nobody wants anything.
START_BYTES = 256 * 1024
START_SECONDS = 30
PREFETCH_SECONDS = 1.5
READ_SECONDS = 60


@dataclass
class Sample:
    at: float
    bytes: int


class Meter(threading.Thread):
    """Reads the uplink's counter ten times a second."""

    def __init__(self, session: Session):
        super().__init__(daemon=True)
        self.site, self.samples, self._ended = session.site, [], threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.samples.append(Sample(time.monotonic(), self.site.counters()["up0"].rx_bytes))

    def end(self) -> None:
        self._ended.set()
        self.join()


def mean(samples: list[Sample], start: float, end: float) -> float:
    """Bits a second between two moments."""
    inside = [s for s in samples if start <= s.at <= end]
    if len(inside) < 2:
        raise TestbedError("the run was too short to measure a rate")
    return (inside[-1].bytes - inside[0].bytes) * 8 / (inside[-1].at - inside[0].at)


def worst_window(samples: list[Sample], seconds: float) -> float:
    """The highest rate over any so many seconds, in bits a second."""
    worst, first = 0.0, 0
    for last in range(len(samples)):
        while samples[last].at - samples[first].at > seconds:
            first += 1
        span = samples[last].at - samples[first].at
        if span >= seconds - 2 * SAMPLE_SECONDS:
            worst = max(worst, (samples[last].bytes - samples[first].bytes) * 8 / span)
    return worst


def budget(session: Session) -> dict:
    """All nodes want all of the payload under `upstream.maxRate`; some are killed and come back, some start late."""
    options, site = session.options, session.site
    limit = bits_per_second(options.limit)
    kills = [Kill.parse(text, options.nodes) for text in options.kill]
    if any(kill.percent for kill in kills):
        raise TestbedError("--kill of a budget takes seconds, as in 2@20")
    # Whatever the seconds need, with a quarter to spare: the payload must not end before the run.
    options.blocks = max(options.blocks, int(limit / 8 * options.seconds * 1.25 / BLOCK_BYTES) + 1)
    session.start_hub()
    session.add_nodes()
    early = list(site.indices)[: options.nodes - options.late]
    for node in session.nodes.values():
        node.extend(f"upstream:\n  maxRate: {options.limit}\n")
    session.start_daemons(early)
    meter = Meter(session)
    base = site.counters()["up0"].rx_bytes
    meter.start()
    for i in early:
        session.nodes[i].start_job()
    _wait_for_bytes(session, base + START_BYTES)
    start = time.monotonic()
    late = {i: start + options.seconds * (k + 1) / (options.late + 1) for k, i in enumerate(list(site.indices)[len(early) :])}
    back: dict[int, float] = {}
    events = []
    while (now := time.monotonic()) < start + options.seconds:
        for kill in kills:
            if kill.happened is None and now - start >= kill.at:
                session.nodes[kill.node].kill()
                kill.happened = {"node": kill.node, "at": round(now - start, 2)}
                back[kill.node] = now + options.back
                events.append(kill.happened)
        for waiting in (late, back):
            for i in [i for i, due in waiting.items() if now >= due]:
                del waiting[i]
                threading.Thread(target=_come, args=(session.nodes[i],), daemon=True).start()
                events.append({"node": i, "came": round(now - start, 2)})
        time.sleep(0.05)
    end = time.monotonic()
    meter.end()
    ended = [i for i in early if i not in {kill.node for kill in kills} and session.nodes[i].poll_job() is not None]
    if ended:
        raise TestbedError(f"n{ended[0]} ended before the run did: {session.nodes[ended[0]].last_words()}")
    rate = mean(meter.samples, start, end)
    worst = worst_window(meter.samples, WINDOW_SECONDS)
    told = [line["line"]["monthBytes"] for node in session.nodes.values() if node.daemon and (line := api.stats(node.socket))]
    counted = meter.samples[-1].bytes - base
    return {
        "n": site.nodes,
        "rate": options.rate,
        "limit": options.limit,
        "seconds": round(end - start, 1),
        "mean": round(rate / limit, 4),
        "worst10": round(worst / limit, 4),
        "events": events,
        "up_down": counted,
        # What the nodes say that the site pulled ÷ what the counter says.
        "told": [round(t / counted, 3) for t in told],
    }


def _come(node: MeshNode) -> None:
    node.start_daemon()
    node.wait_ready()
    node.start_job()


def _wait_for_bytes(session: Session, target: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while session.site.counters()["up0"].rx_bytes < target:
        if time.monotonic() > deadline:
            raise TestbedError(f"nothing crosses the line: {session.nodes[1].last_words()}")
        time.sleep(0.05)


def foreground(session: Session) -> dict:
    """Reads of single cold chunks at one node, one after the other: on the idle line, and while the others prefetch at full rate."""
    options, site = session.options, session.site
    reads = 2 * options.samples
    ideal = BLOCK_BYTES * 8 / site.rate_bps
    # The reads come from the end of the payload, where the prefetch does not get to.
    prefetched = int((options.samples * (ideal * 2.5 + options.pause) + 10 + 2 * PREFETCH_SECONDS) / ideal) + 1
    options.blocks = max(options.blocks, reads + prefetched)
    session.start_hub()
    session.add_nodes()
    session.start_daemons(list(site.indices))
    payload = session.payload
    size = next(iter((payload.directory / "tree").iterdir())).stat().st_size
    blocks = size // BLOCK_BYTES
    reader = Reader(session.nodes[options.nodes])
    reader.open()
    _opened_everywhere(session)
    # Spread over owners by their hashes; the last ones first.
    targets = [blocks - 1 - i for i in range(reads)]
    idle = [reader.read(target) for target in targets[: options.samples]]
    jobs = [session.nodes[i] for i in site.indices if i != options.nodes]
    base = site.counters()["up0"].rx_bytes
    meter = Meter(session)
    meter.start()
    for node in jobs:
        node.start_job()
    _wait_for_bytes(session, base + START_BYTES)
    time.sleep(PREFETCH_SECONDS)
    start = time.monotonic()
    took = []
    for target in targets[options.samples :]:
        took.append(reader.read(target))
        time.sleep(options.pause)
    end = time.monotonic()
    # Faster than the line: the prefetch, which asks for chunks in no order, had brought the chunk to the site.
    busy = [seconds for seconds in took if seconds >= ideal]
    if len(busy) < options.samples / 3:
        raise TestbedError(f"only {len(busy)} of {options.samples} reads were of cold chunks")
    meter.end()
    if any(node.poll_job() is not None for node in jobs):
        raise TestbedError("the prefetch ended before the reads did: nothing was measured")
    p50, p95 = (percentile(busy, p) / percentile(idle, p) for p in (0.5, 0.95))
    return {
        "n": site.nodes,
        "rate": options.rate,
        "samples": options.samples,
        "cold": len(busy),
        "p50": round(p50, 3),
        "p95": round(p95, 3),
        "idle_s": {"p50": round(percentile(idle, 0.5), 3), "p95": round(percentile(idle, 0.95), 3)},
        "busy_s": {"p50": round(percentile(busy, 0.5), 3), "p95": round(percentile(busy, 0.95), 3), "max": round(max(busy), 3)},
        "wire_s": round(ideal * 1.046, 3),
        # How full the line was meanwhile, reads and prefetch together.
        "line": round(mean(meter.samples, start, end) / site.rate_bps, 3),
        "drops": site.uplink_drops(),
    }


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _opened_everywhere(session: Session) -> None:
    """The others know the flist too, and may fetch its chunks: as they do on a site that uses it."""
    for node in session.nodes.values():
        Reader(node).open()
    time.sleep(4)


class Reader:
    """Reads blocks of the payload through a node's API, over its Unix socket."""

    def __init__(self, node: MeshNode):
        self.node = node
        self.digest = ""

    def open(self) -> None:
        answer = api.post(self.node.socket, "/v1/flists", {"flist": self.node.flist})
        if answer is None:
            raise TestbedError(f"n{self.node.index} cannot open the flist: {self.node.last_words()}")
        self.digest = answer["digest"]

    def read(self, block: int) -> float:
        first = block * BLOCK_BYTES
        begun = time.monotonic()
        body = api.get(self.node.socket, f"/v1/flists/{self.digest}/files/payload.bin", READ_SECONDS, {"Range": f"bytes={first}-{first + BLOCK_BYTES - 1}"})
        took = time.monotonic() - begun
        if body is None or len(body) != BLOCK_BYTES:
            raise TestbedError(f"block {block} was not read within {READ_SECONDS} s: {self.node.last_words()}")
        return took
