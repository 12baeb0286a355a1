"""The LAN swarm: few nodes hold the payload, all others want it at the same moment, and no line leads out of the site."""

import os
import time

from session import Session
from shell import TestbedError
from torrent import TorrentNode, make_torrent

LOOP_SECONDS = 0.005
# Time for the started shells to reach the barrier.
BARRIER_SECONDS = 1.0
FILL_SECONDS = 600


class Swarm:
    """Runs the scenario in a session; `result` grows while it runs, so that an interrupted run still tells what it saw."""

    def __init__(self, session: Session):
        options = session.options
        self.session, self.options, self.site = session, options, session.site
        if not 1 <= options.seeders < options.nodes:
            raise TestbedError(f"--seeders {options.seeders}: at least one of the {options.nodes} nodes must hold the payload, and one want it")
        self.seeders = list(range(1, options.seeders + 1))
        self.others = list(range(options.seeders + 1, options.nodes + 1))
        self.done: dict[int, float] = {}
        self.failed: dict[int, str] = {}
        self.result: dict = {"driver": options.driver, "n": options.nodes, "seeders": options.seeders, "lan_rate": options.lan_rate}

    @property
    def torrents(self) -> bool:
        return self.options.driver == "libtorrent"

    def run(self) -> None:
        payload, nodes = self.session.payload, self.session.nodes
        self.ideal = payload.bytes * 8 / self.site.lan_bps
        self.result.update(payload=payload.bytes, ideal=round(self.ideal, 3))
        if self.torrents:
            self._add_torrents()
        else:
            self._fill()
        self.site.cut_uplink()
        release = self._line_up()
        before, cpu = self.site.counters(), self._cpu()
        start = time.monotonic()
        os.close(release)
        while running := [i for i in self.others if i not in self.done and i not in self.failed]:
            elapsed = time.monotonic() - start
            for i in running:
                status = nodes[i].poll_job()
                if status == 0:
                    self.done[i] = elapsed
                elif status is not None:
                    self.failed[i] = f"the job ended with {status}: {nodes[i].last_words()}"
            if elapsed > self.options.timeout:
                self.failed.update({i: f"not done after {self.options.timeout} s: {nodes[i].last_words()}" for i in running})
            time.sleep(LOOP_SECONDS)
        makespan = time.monotonic() - start
        self._report(makespan, before, self._cpu() - cpu)
        if self.options.verify:
            found = self._verify()
            wrong = {i: text for i, text in found.items() if text != "ok"}
            self.result["verify"] = wrong or "ok"

    def _fill(self) -> None:
        """The seeders get the payload while they are alone (other nodes would help, and keep what they fetched); then all learn of
        the flist while the hub is still there."""
        session = self.session
        session.start_hub()
        session.add_nodes()
        session.start_daemons(self.seeders)
        for i in self.seeders:
            session.nodes[i].start_job()
            deadline = time.monotonic() + FILL_SECONDS
            while (status := session.nodes[i].poll_job()) is None:
                if time.monotonic() > deadline:
                    raise TestbedError(f"n{i} does not get filled: {session.nodes[i].last_words()}")
                time.sleep(LOOP_SECONDS * 10)
            if status != 0:
                raise TestbedError(f"n{i} does not get filled: {session.nodes[i].last_words()}")
        session.start_daemons(self.others)
        for i in self.site.indices:
            session.nodes[i].wait_joined(self.options.nodes - 1)
            session.nodes[i].open_flist()
        session.hub.stop()
        time.sleep(self.options.settle)

    def _add_torrents(self) -> None:
        options, session = self.options, self.session
        torrent = make_torrent(session.payload, session.work / "payload.torrent", options.piece)
        for i in self.site.indices:
            peers = [self.site.address(p) for p in self.site.indices if p != i]
            node = TorrentNode(self.site, i, session.work / f"n{i}", session.payload, torrent, peers, i in self.seeders)
            node.start_client(options.utp, options.slots)
            session.nodes[i] = node
        for node in session.nodes.values():
            node.wait_ready()
        time.sleep(options.settle)

    def _line_up(self) -> int:
        """Starts what shall start together, waiting at a pipe; closing the returned end lets all of them go."""
        barrier, release = os.pipe()
        os.set_inheritable(release, False)
        for i in self.others:
            self.session.nodes[i].start_job(barrier)
        os.close(barrier)
        time.sleep(BARRIER_SECONDS)
        return release

    def _report(self, makespan: float, before: dict, cpu: float) -> None:
        after, size = self.site.counters(), self.result["payload"]
        # A port's rx is what its node sent.
        sent = {i: after[f"p{i}"].rx_bytes - before[f"p{i}"].rx_bytes for i in self.site.indices}
        received = {i: after[f"p{i}"].tx_bytes - before[f"p{i}"].tx_bytes for i in self.site.indices}
        self.result.update(
            rel=round(makespan / self.ideal, 4),
            makespan=round(makespan, 3),
            complete=len(self.done),
            times={i: round(t, 3) for i, t in sorted(self.done.items())},
            sent={i: round(b / size, 3) for i, b in sent.items()},
            received={i: round(b / size, 3) for i, b in received.items()},
            cpu={"daemons": round(cpu, 2), "per_gb": round(cpu / (len(self.others) * size / 1e9), 2)},
            peak_rss=max(node.peak_memory() for node in self.session.nodes.values()),
            failed=self.failed,
        )
        counts = {i: node.counts() for i, node in self.session.nodes.items()}
        if any(counts.values()):
            self.result["chunks"] = {i: c["chunks"] for i, c in counts.items() if c}
            self.result["errors"] = {i: c["errors"] for i, c in counts.items() if c and any(c["errors"].values())}

    def _verify(self) -> dict[int, str]:
        """Each node reads all of it back with its cable pulled: what it shows is what it holds."""
        for i in self.site.indices:
            self.site.unplug(i)
        return {i: self.session.nodes[i].verify(self.session.payload) for i in sorted(self.done)}

    def _cpu(self) -> float:
        return sum(node.daemon_cpu() for node in self.session.nodes.values())

    @property
    def succeeded(self) -> bool:
        return not self.failed and len(self.done) == len(self.others) and self.result.get("verify", "ok") == "ok"
