"""What all faults have in common: a site whose nodes want the same payload, something done to them meanwhile, and figures with limits."""

import os
import random
import threading
import time
from dataclasses import asdict, dataclass
from typing import Callable

import api
from firewall import Firewall
from payload import BLOCK_BYTES, FLIST
from session import Session
from share import Stalls
from shell import TestbedError
from site_network import Counters

LOOP_SECONDS = 0.02
# Until the slowest fault must be over; each fault's own limits are much shorter.
TIMEOUT_SECONDS = 240
# A daemon's resident memory; a debug build idles at 60 MB.
MEMORY_LIMIT_MB = 200
# Of one daemon in one run, however much goes wrong: what repeats is counted, not written again.
LOG_LINES_LIMIT = 200
READ_BYTES = 4096
READ_PAUSE_SECONDS = 0.2
READ_TIMEOUT_SECONDS = 120


@dataclass
class Figure:
    """`limit` is the most that is allowed, or the least where `is_least`; None: only told."""

    name: str
    value: float
    limit: float | None = None
    is_least: bool = False

    @property
    def is_kept(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.is_least else self.value <= self.limit


class Reader(threading.Thread):
    """Reads pieces of the payload at one node, in an order of its own, as a program does that cannot wait."""

    def __init__(self, socket: str, content: str, seed: int):
        super().__init__(daemon=True)
        self.socket, self.content, self.chance = socket, content, random.Random(seed)
        self.took: list[float] = []
        self.failed = self.wrong = 0
        self.is_over = False

    def run(self) -> None:
        size = os.path.getsize(self.content)
        with open(self.content, "rb") as file:
            while not self.is_over:
                offset = self.chance.randrange(size - READ_BYTES)
                start = time.monotonic()
                found = api.read(self.socket, FLIST, "payload.bin", offset, READ_BYTES, READ_TIMEOUT_SECONDS)
                self.took.append(time.monotonic() - start)
                file.seek(offset)
                self.failed += found is None
                self.wrong += found is not None and found != file.read(READ_BYTES)
                time.sleep(READ_PAUSE_SECONDS)


class Fault:
    """A herd with a fault. Subclasses say what happens when, and which limits hold.

    Times are limits for a machine that has nothing else to do; `--patience` widens them, and nothing else, on a loaded one.
    """

    name = ""
    # What is done, and what is expected of it; where the line carries more than one copy, why.
    text = ""
    nodes = 4
    blocks = 64
    hub = "chunkmesh"
    # Bytes hub → site ÷ payload; one plain copy is 1.046.
    ratio_limit = 1.10
    # Seconds in which a node that is not done took in next to nothing.
    stall_limit = 6.0
    # Seconds for all of them, daemons up and together.
    time_limit = 60.0
    # Seconds for one foreground read, where one is made.
    read_limit = 10.0
    # One of the short ones that scripts/test runs.
    is_short = False

    def __init__(self, session: Session):
        self.session, self.site, self.patience = session, session.site, session.options.patience
        self.figures: list[Figure] = []
        self.events: list[str] = []
        self.done: dict[int, float] = {}
        self.failed: dict[int, str] = {}
        self.dead: set[int] = set()
        self.readers: list[Reader] = []
        self.stalls = Stalls()
        # A node whose daemon ended without being told to.
        self.ended: set[int] = set()
        self._plans: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self.start = time.monotonic()
        self.base: Counters | None = None

    # MARK: The way of a run

    def run(self) -> None:
        self.prepare()
        self.herd(self.members)
        self.plan()
        self.wait(self.members)
        self.finish()

    @property
    def members(self) -> list[int]:
        """Who shall have the payload in the end."""
        return list(self.site.indices)

    def prepare(self) -> None:
        self.session.payload  # packed before anything is counted
        self.session.start_hub()
        self.session.add_nodes()
        self.configure()
        self.session.start_daemons(list(self.site.indices))

    def configure(self) -> None:
        """Before the daemons start."""

    def plan(self) -> None:
        """Says with `when_share` and `after` what happens."""

    def check(self) -> None:
        """Adds figures of this fault."""

    def result(self) -> dict:
        kept = all(figure.is_kept for figure in self.figures)
        return {
            "fault": self.name,
            "text": " ".join(self.text.split()),
            "nodes": self.site.nodes,
            "payload": self.session.payload.bytes,
            "events": self.events,
            "figures": [{**asdict(figure), "is_kept": figure.is_kept} for figure in self.figures],
            "failed": self.failed,
            "passed": kept and bool(self.figures) and not self.failed,
        }

    # MARK: What happens when

    def when(self, condition: Callable[[], bool], do: Callable[[], None]) -> None:
        self._plans.append((condition, do))

    def when_share(self, share: float, do: Callable[[], None]) -> None:
        """When this part of the payload has crossed the line."""
        self.when(lambda: self.share >= share, do)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        self.when(lambda: time.monotonic() >= due, do)

    def note(self, what: str) -> None:
        self.events.append(f"{time.monotonic() - self.start:.1f} s, {self.share:.2f} of the payload: {what}")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    @property
    def down(self) -> int:
        """Bytes hub → site since the herd started."""
        return self.site.counters()["up0"].rx_bytes - self.base.rx_bytes if self.base else 0

    @property
    def share(self) -> float:
        return self.down / self.session.payload.bytes

    # MARK: Doing things to nodes

    def firewall(self, index: int) -> Firewall:
        return Firewall(self.site.namespace(index))

    def kill(self, index: int, power: bool = False) -> None:
        """`power`: the cable first, so that nobody sees its connections close."""
        if power:
            self.site.unplug(index)
        self.session.nodes[index].kill()
        self.session.nodes[index].job = None
        self.dead.add(index)
        self.note(f"n{index} killed{' with its cable pulled' if power else ''}")

    def restart(self, index: int) -> None:
        """The daemon comes back; its job is asked for again when it is ready."""
        self.site.plug_in(index)
        self.session.nodes[index].start_daemon()
        self.dead.discard(index)
        self.note(f"n{index} started again")

    def read_on(self, *indices: int) -> None:
        """Readers at these nodes from now on."""
        content = str(self.session.payload.directory / "tree/payload.bin")
        for index in indices:
            self.readers.append(Reader(self.session.nodes[index].socket, content, seed=index))
            self.readers[-1].start()

    # MARK: The herd

    def herd(self, indices: list[int]) -> None:
        """All of them want the payload from this moment on."""
        self.base, self.start = self.site.counters()["up0"], time.monotonic()
        for i in indices:
            self.session.nodes[i].start_job()

    def wait(self, indices: list[int], seconds: float = TIMEOUT_SECONDS) -> None:
        """Until each of them is done or dead, and nothing is planned any more."""
        deadline = time.monotonic() + seconds
        while True:
            running = [i for i in indices if i not in self.done and i not in self.failed and i not in self.dead]
            if not running and not self._plans:
                return
            now = time.monotonic()
            if now > deadline:
                self.failed.update({i: f"not done after {seconds:.0f} s: {self.session.nodes[i].last_words()}" for i in running})
                self._plans = []
                return
            for i in running:
                self._observe(i)
            self.stalls.look(now, self.site.counters(), running)
            due = [plan for plan in self._plans if plan[0]()]
            for plan in due:
                self._plans.remove(plan)
                plan[1]()
            time.sleep(LOOP_SECONDS)

    def _observe(self, index: int) -> None:
        node = self.session.nodes[index]
        if node.daemon is not None and node.daemon.poll() is not None:
            self.ended.add(index)
            self.failed[index] = f"the daemon ended with {node.daemon.returncode}: {node.last_words()}"
            return
        if node.job is None:
            if node.daemon_ready():
                node.start_job()
            return
        status = node.poll_job()
        if status == 0:
            self.done[index] = self.elapsed
        elif status is not None:
            self.failed[index] = f"the job ended with {status}: {node.last_words()}"

    # MARK: Figures

    def figure(self, name: str, value: float, limit: float | None = None, *, least: float | None = None, seconds: bool = False) -> None:
        if limit is not None and seconds:
            limit = round(limit * self.patience, 3)
        self.figures.append(Figure(name, round(value, 4), least if least is not None else limit, least is not None))

    def stats(self, index: int) -> dict:
        found = api.stats(self.session.nodes[index].socket)
        if found is None:
            raise TestbedError(f"n{index} does not answer on its API")
        return found

    def errors(self, key: str, indices: list[int] | None = None) -> int:
        """`errors` of the nodes' stats, summed."""
        return sum(self.stats(i)["errors"][key] for i in indices or self.alive)

    def metric(self, name: str, indices: list[int] | None = None) -> float:
        """Summed over nodes and labels."""
        found = [api.metrics(self.session.nodes[i].socket) for i in indices or self.alive]
        return sum(value for one in found for key, value in one.items() if key.split("{")[0] == name)

    @property
    def alive(self) -> list[int]:
        return [i for i in self.site.indices if i not in self.dead and i not in self.ended]

    def finish(self) -> None:
        for reader in self.readers:
            reader.is_over = True
        for reader in self.readers:
            reader.join(READ_TIMEOUT_SECONDS)
        expected = [i for i in self.members if i not in self.dead]
        self.figure("nodes complete", len(self.done), least=len(expected))
        self.figure("uplink bytes ÷ payload", self.share, self.ratio_limit)
        self.figure("seconds until all were done", max(self.done.values(), default=0), self.time_limit, seconds=True)
        self.figure("longest stall of a node, s", max(self.stalls.longest.values(), default=0), self.stall_limit, seconds=True)
        if self.readers:
            self.figure("foreground reads", sum(len(r.took) for r in self.readers), least=1)
            self.figure("longest foreground read, s", max((max(r.took, default=0) for r in self.readers)), self.read_limit, seconds=True)
            self.figure("foreground reads failed", sum(r.failed for r in self.readers), 0)
            self.figure("foreground reads with wrong bytes", sum(r.wrong for r in self.readers), 0)
        self.check()
        memory = max(node.peak_memory() for node in self.session.nodes.values())
        self.figure("peak MB of a daemon", memory / 1e6, MEMORY_LIMIT_MB)
        self.figure("log lines of a daemon", max(self.log_lines(i) for i in self.site.indices), LOG_LINES_LIMIT)
        self.figure("daemons that ended by themselves", len(self.ended), 0)
        self.read_back()

    def log_lines(self, index: int) -> int:
        log = self.session.nodes[index].work / "daemon.log"
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    def read_back(self) -> None:
        """All of it again, with every cable pulled: what a node shows then is what it holds."""
        self.site.cut_uplink()
        for i in self.site.indices:
            self.firewall(i).clear()
            self.site.unplug(i)
        found = {i: self.session.nodes[i].verify(self.session.payload) for i in sorted(self.done)}
        wrong = {i: f"read back: {text}" for i, text in found.items() if text != "ok"}
        self.failed.update(wrong)
        self.figure("nodes that hold all of it, cables pulled", len(found) - len(wrong), least=len(self.done))

    @property
    def chunk_share(self) -> float:
        return BLOCK_BYTES / self.session.payload.bytes
