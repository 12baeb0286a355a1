"""One run of the test bed: a work directory, a site, a hub and nodes, all of them gone when the run ends, however it ends."""

import argparse
import os
import shutil
import signal
import tempfile
from pathlib import Path

import payload as payloads
from hub import Hub
from nodes import Binaries, DirectNode, MeshNode, Node, make_key
from shell import TestbedError
from site_network import HUB_IP, Site


class Session:
    """Use as a context manager. SIGTERM and SIGHUP end it like Ctrl-C; a SIGKILLed run is cleaned by `run.py clean`."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.site = Site(
            nodes=options.nodes,
            rate=options.rate,
            lan_rate=options.lan_rate,
            delay_ms=options.delay_ms,
            loss=options.loss,
            ipv6=options.ipv6,
        )
        self.work = Path(tempfile.mkdtemp(prefix=f"{self.site.prefix}-", dir=options.work))
        self.hub: Hub | None = None
        self.nodes: dict[int, Node] = {}
        self._payload: payloads.Payload | None = None
        self._binaries: Binaries | None = None

    @property
    def direct(self) -> bool:
        return self.options.driver == "direct"

    @property
    def binaries(self) -> Binaries:
        if self._binaries is None:
            self._binaries = Binaries.find(self.options.bin)
        return self._binaries

    @property
    def payload(self) -> payloads.Payload:
        if self._payload is None:
            directory = Path(self.options.payload) if self.options.payload else self.work / "payload"
            plain = self.options.driver == "libtorrent" or self.direct and self.options.hub == "nginx"
            command = None if plain else self.binaries.command
            self._payload = payloads.make(directory, self.options.blocks, self.route, command)
        return self._payload

    @property
    def route(self) -> str:
        """The hub, as flists name it."""
        return f"http://{HUB_IP}:{payloads.HUB_PORT}"

    def use(self, payload: payloads.Payload) -> None:
        """Another payload than the one file."""
        self._payload = payload

    def __enter__(self) -> "Session":
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            self.site.up()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean()

    def start_hub(self) -> Hub:
        command = self.binaries.command if self.options.hub == "chunkmesh" else None
        self.hub = Hub(self.site, self.options.hub, self.payload.store.resolve(), self.work / "hub", command)
        self.hub.start()
        return self.hub

    def add_nodes(self) -> None:
        """Prepares all nodes of the site; starts none."""
        if self.direct:
            for i in self.site.indices:
                self.nodes[i] = DirectNode(self.site, i, self.work / f"n{i}", self.payload)
            return
        key = make_key(self.binaries, self.work / "mesh.key")
        seeds = list(self.site.indices)[: self.options.seeds]
        if not seeds and not self.options.multicast and self.site.nodes > 1:
            raise TestbedError("without multicast the nodes need --seeds to find each other")
        for i in self.site.indices:
            self.nodes[i] = MeshNode(self.site, i, self.work / f"n{i}", self.binaries, key, seeds, self.options.multicast, self.options.sites)

    def start_daemons(self, indices: list[int]) -> None:
        """Starts the daemons and waits until all of them are ready and see each other."""
        for i in indices:
            self.nodes[i].start_daemon()
        for i in indices:
            self.nodes[i].wait_ready()
        for i in indices:
            self.nodes[i].wait_joined(*self.met(i, indices))

    def met(self, index: int, running: list[int]) -> tuple[int, int]:
        """How many of those running are peers of the node, and how many other sites they make."""
        sites = self.options.sites
        others = [i % sites for i in running if i != index]
        return sum(1 for site in others if site == index % sites), len(set(others) - {index % sites})

    def _clean(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for node in self.nodes.values():
            node.kill()
        if self.hub is not None:
            self.hub.stop()
        self.site.down()
        if self.options.logs:
            self._keep_logs(Path(self.options.logs))
        shutil.rmtree(self.work, ignore_errors=True)

    def _keep_logs(self, destination: Path) -> None:
        for log in self.work.glob("*/*.log"):
            place = destination / log.parent.name
            os.makedirs(place, exist_ok=True)
            shutil.copy(log, place)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
