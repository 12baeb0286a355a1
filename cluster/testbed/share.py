"""The main scenario: all nodes of a site want the same payload at the same moment."""

import os
import re
import time
from dataclasses import dataclass

from nodes import Node
from session import Session
from shell import TestbedError
from site_network import Counters

LOOP_SECONDS = 0.005
COUNTER_SECONDS = 0.02
# Time for the started shells to reach the barrier.
BARRIER_SECONDS = 0.5
# A node that took in less than this was waiting, whatever gossip reached it meanwhile.
PROGRESS_BYTES = 64 * 1024


@dataclass
class Kill:
    """`I@50%`, `I@5` (seconds), with `:power` to pull the cable first, so that nobody sees the connections close."""

    node: int
    at: float
    percent: bool
    power: bool
    happened: dict | None = None

    @staticmethod
    def parse(text: str, nodes: int) -> "Kill":
        match = re.fullmatch(r"([0-9]+)@([0-9]+(?:\.[0-9]+)?)(%?)(?::(crash|power))?", text)
        if not match or not 1 <= int(match[1]) <= nodes:
            raise TestbedError(f"--kill {text!r} is not like 2@50% or 2@5:power, with a node between 1 and {nodes}")
        return Kill(int(match[1]), float(match[2]), bool(match[3]), match[4] == "power")

    def due(self, elapsed: float, share: float) -> bool:
        return (share * 100 if self.percent else elapsed) >= self.at


class Stalls:
    """The longest time that each node took in next to nothing, from the moment of a kill to its own completion."""

    def __init__(self) -> None:
        self.longest: dict[int, float] = {}
        self._mark: dict[int, tuple[float, int]] = {}

    def look(self, now: float, counters: dict[str, Counters], running: list[int]) -> None:
        for i in running:
            into = counters[f"p{i}"].tx_bytes
            since, bytes_then = self._mark.setdefault(i, (now, into))
            self.longest[i] = max(self.longest.get(i, 0), now - since)
            if into - bytes_then >= PROGRESS_BYTES:
                self._mark[i] = (now, into)


class Share:
    """Runs the scenario in a session; `result` grows while it runs, so that an interrupted run still tells what it saw."""

    def __init__(self, session: Session):
        options = session.options
        self.session, self.options, self.site = session, options, session.site
        self.kills = [Kill.parse(text, options.nodes) for text in options.kill]
        if not 0 <= options.late < options.nodes:
            raise TestbedError(f"--late {options.late}: at least one of the {options.nodes} nodes must be in time")
        self.early = list(range(1, options.nodes + 1 - options.late))
        self.late = list(range(options.nodes + 1 - options.late, options.nodes + 1))
        self.done: dict[int, float] = {}
        self.failed: dict[int, str] = {}
        self.dead: set[int] = set()
        self.stalls = Stalls()
        self.result: dict = {"driver": options.driver, "n": options.nodes, "rate": options.rate}

    def run(self) -> None:
        payload = self.session.payload
        self.ideal = payload.bytes * 8 / self.site.rate_bps
        self.result.update(payload=payload.bytes, ideal=round(self.ideal, 3))
        hub = self.session.start_hub()
        self.session.add_nodes()
        if not self.options.cold_daemons:
            self.session.start_daemons(self.early)
        release = self._line_up()
        base, daemons, hub_cpu = self.site.counters()["up0"], self._daemon_cpu(), hub.cpu_seconds()
        self.start = time.monotonic()
        os.close(release)
        self._wait(self.early, self.start, base)
        makespan = time.monotonic() - self.start
        self._report(base, makespan)
        self.result["cpu"] = {
            "daemons": round(self._daemon_cpu() - daemons, 2),
            "jobs": round(sum(node.job_cpu for node in self.session.nodes.values()), 2),
            "hub": round(hub.cpu_seconds() - hub_cpu, 2),
        }
        if self.late:
            self._run_late()
        memory = [self.session.nodes[i].peak_memory() for i in self.early]
        self.result.update(peak_rss=max(memory), drops=self.site.uplink_drops())
        self._count_chunks()
        if self.options.verify:
            self._verify()

    def _line_up(self) -> int:
        """Starts what shall start together, waiting at a pipe; closing the returned end lets all of them go."""
        barrier, release = os.pipe()
        os.set_inheritable(release, False)
        for i in self.early:
            node = self.session.nodes[i]
            if self.options.cold_daemons and not self.session.direct:
                node.start_daemon(barrier)
            else:
                node.start_job(barrier)
        os.close(barrier)
        time.sleep(BARRIER_SECONDS)
        return release

    def _wait(self, indices: list[int], start: float, base: Counters) -> None:
        """Until each node of `indices` is done, failed or killed."""
        nodes, look = self.session.nodes, 0.0
        while running := [i for i in indices if i not in self.done and i not in self.failed and i not in self.dead]:
            now = time.monotonic()
            for i in running:
                self._observe(i, nodes[i], now - start)
            if self.kills and now >= look:
                look = now + COUNTER_SECONDS
                self._inject(now, base, running)
            if now - start > self.options.timeout:
                self.failed.update({i: f"not done after {self.options.timeout} s: {nodes[i].last_words()}" for i in running})
            time.sleep(LOOP_SECONDS)

    def _observe(self, index: int, node: Node, elapsed: float) -> None:
        if node.job is None:  # its daemon is starting
            if node.daemon_ready():
                node.start_job()
            return
        status = node.poll_job()
        if status == 0:
            self.done[index] = elapsed
        elif status is not None:
            self.failed[index] = f"the job ended with {status}: {node.last_words()}"

    def _inject(self, now: float, base: Counters, running: list[int]) -> None:
        counters = self.site.counters()
        came = counters["up0"].rx_bytes - base.rx_bytes
        elapsed = now - self.start
        for kill in self.kills:
            if kill.happened is None and kill.due(elapsed, came / self.session.payload.bytes):
                if kill.power:
                    self.site.unplug(kill.node)
                self.session.nodes[kill.node].kill()
                self.dead.add(kill.node)
                kill.happened = {"node": kill.node, "at": round(elapsed, 2), "bytes": came, "power": kill.power}
        if self.dead:
            self.stalls.look(now, counters, [i for i in running if i not in self.dead])

    def _report(self, base: Counters, makespan: float) -> None:
        now, size = self.site.counters()["up0"], self.session.payload.bytes
        down, up = now.rx_bytes - base.rx_bytes, now.tx_bytes - base.tx_bytes
        self.result.update(
            ratio=round(down / size, 4),
            rel=round(makespan / self.ideal, 4),
            makespan=round(makespan, 3),
            up_down=down,
            up_up=up,
            complete=sum(1 for i in self.early if i in self.done),
            times={i: round(t, 3) for i, t in sorted(self.done.items())},
            failed=self.failed,
        )
        if self.kills:
            self.result["killed"] = [kill.happened for kill in self.kills if kill.happened]
            self.result["stall_s"] = round(max(self.stalls.longest.values(), default=0), 2)

    def _run_late(self) -> None:
        """The late nodes start their daemons now; all that crosses the uplink from here to their completion is theirs."""
        base, start = self.site.counters()["up0"], time.monotonic()
        for i in self.late:
            self.session.nodes[i].start_daemon()
        for i in self.late:
            self.session.nodes[i].wait_ready()
            if not self.options.cold_daemons:
                own, sites = self.session.met(i, self.early)
                self.session.nodes[i].wait_joined(min(own, 1), sites)
            self.session.nodes[i].start_job()
        self.kills = []
        self._wait(self.late, start, base)
        now, size = self.site.counters()["up0"], self.session.payload.bytes
        self.result.update(
            late_ratio=round((now.rx_bytes - base.rx_bytes) / size, 5),
            late_up=now.tx_bytes - base.tx_bytes,
            late_time=round(time.monotonic() - start, 3),
            late_complete=sum(1 for i in self.late if i in self.done),
            failed=self.failed,
        )

    def _count_chunks(self) -> None:
        """Where the nodes say that their chunks came from, for comparison with the counters."""
        counts = {i: node.counts() for i, node in self.session.nodes.items() if i in self.done}
        if any(counts.values()):
            self.result["chunks"] = {i: c["chunks"] for i, c in counts.items() if c}
            self.result["errors"] = {i: c["errors"] for i, c in counts.items() if c and any(c["errors"].values())}

    def _verify(self) -> None:
        """Each node reads all of it back with every cable pulled: what it shows is what it holds."""
        self.site.cut_uplink()
        for i in self.site.indices:
            self.site.unplug(i)
        found = {i: self.session.nodes[i].verify(self.session.payload) for i in sorted(self.done)}
        wrong = {i: text for i, text in found.items() if text != "ok"}
        self.result["verify"] = wrong or "ok"

    def _daemon_cpu(self) -> float:
        return sum(node.daemon_cpu() for node in self.session.nodes.values())

    @property
    def succeeded(self) -> bool:
        expected = len(self.early) - len(self.dead) + len(self.late)
        return not self.failed and len(self.done) >= expected and self.result.get("verify", "ok") == "ok"
