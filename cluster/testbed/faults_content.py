"""Faults of hubs and of what peers hold: down, slow, wrong, stale, or stuck in the middle of a chunk."""

import random
import time

import api
from fault import Fault
from nodes import MESH_PORT
from payload import BLOCK_BYTES, FLIST

RESUMED_BYTES = 256 * 1024
HELD_BLOCK = 5
READ_SECONDS = 20.0


class HubDown(Fault):
    name = "hub-down"
    text = """The hub's process dies for 15 s in the middle of a transfer and comes back. What the site holds is read meanwhile; the rest
    comes by itself within seconds of the hub's return. What was on the line when it died crosses it again."""
    seconds_down = 15
    stall_limit = 30.0

    def plan(self) -> None:
        self.back_at = self.resumed = None
        self.read_seconds = READ_SECONDS
        # So that the site holds it when the hub is gone.
        self.when_share(0.2, lambda: self._read(1))
        self.when_share(0.4, self._down)

    def _down(self) -> None:
        self.take_down()
        self.note("the hub is down")
        self.after(3, self._read_held)
        self.after(self.seconds_down, self._back)

    def take_down(self) -> None:
        self.session.hub.process.kill()
        self.session.hub.process.wait()

    def bring_back(self) -> None:
        self.session.hub.start()

    def _read_held(self) -> None:
        self.read_seconds = self._read(2)

    def _read(self, index: int) -> float:
        start = time.monotonic()
        found = api.read(self.session.nodes[index].socket, FLIST, "payload.bin", HELD_BLOCK * BLOCK_BYTES, 4096, READ_SECONDS)
        return time.monotonic() - start if found is not None else READ_SECONDS

    def _back(self) -> None:
        self.bring_back()
        self.back_at, mark, self.at_return = time.monotonic(), self.down, self.share
        self.note("the hub is back")
        self.when(lambda: self._has_resumed(mark), lambda: None)

    def _has_resumed(self, mark: int) -> bool:
        if self.down - mark > RESUMED_BYTES:
            self.resumed = time.monotonic() - self.back_at
        return self.resumed is not None or len(self.done) == len(self.members)

    def check(self) -> None:
        self.figure("seconds from the hub's return to its use", self.resumed or 0, 12, seconds=True)
        rest = (1.046 - self.at_return) * self.session.payload.bytes * 8 / self.site.rate_bps
        self.figure("seconds from its return to the end, beyond those of the rest", self.elapsed_at_end - rest, 20, seconds=True)
        self.figure("seconds of a read of what the site holds, while it was down", self.read_seconds, 2, seconds=True)
        self.figure("upstreamErrors (stats)", self.errors("upstreamErrors"), least=1)

    @property
    def elapsed_at_end(self) -> float:
        return max(self.done.values(), default=0) - (self.back_at - self.start)

    @property
    def ratio_limit(self) -> float:
        return 1.06 + 8 * self.chunk_share


class HubUnplugged(HubDown):
    name = "hub-unplugged"
    text = """The line is cut for 15 s, without a word to anybody, and mended. As hub-down; a transfer that stands still is not given up
    before the line's ten seconds, and TCP goes on by itself where it can."""

    def take_down(self) -> None:
        self.site.cut_uplink()

    def bring_back(self) -> None:
        self.site.mend_uplink()


class HubSlow(Fault):
    name = "hub-slow"
    text = """The hub sends 600 bytes a second, less than the 1,024 below which an upstream counts as dead. A foreground read of what nobody
    has ends with a clear error within its deadline; when the hub is well again all complete."""
    hub = "faulty"
    time_limit = 150.0
    stall_limit = 120.0
    blocks = 32
    # Each attempt that is given up has carried some kilobytes, with the packets' headers.
    ratio_limit = 1.10

    def prepare(self) -> None:
        super().prepare()
        self.session.hub.misbehave(bytes_per_second=600)

    def plan(self) -> None:
        self.took = 0.0
        self.after(8, self._read)

    def _read(self) -> None:
        start = time.monotonic()
        found = api.read(self.session.nodes[1].socket, FLIST, "payload.bin", 0, 4096, 200)
        self.took = time.monotonic() - start
        self.note(f"a read ended after {self.took:.1f} s, {'with' if found else 'without'} bytes")
        self.session.hub.misbehave()
        self.note("the hub is well")

    def check(self) -> None:
        self.figure("seconds until a read of what cannot be had failed", self.took, 75, seconds=True)
        self.figure("upstreamErrors (stats)", self.errors("upstreamErrors"), least=1)
        self.figure("transfers given up as too slow (metrics)", self.metric("upstream_failures_total"), least=1)


class HubWrongChunk(Fault):
    name = "hub-wrong-chunk"
    text = """The hub answers wrong bytes for one chunk, and after 20 s the right ones. All others come meanwhile, no node keeps or passes
    on the wrong ones, and the chunk comes when it is right. The wrong copies that are tried cross the line too, at most
    eight of them."""
    hub = "faulty"
    stall_limit = 40.0

    def prepare(self) -> None:
        super().prepare()
        paths = self.session.payload.chunk_paths()
        self.wrong = paths[len(paths) // 2].rsplit("/", 1)[-1]
        self.session.hub.misbehave(wrong=[self.wrong])

    def plan(self) -> None:
        self.most = 0
        self.at_mending = 0.0
        self.after(25, self._mend)

    def _mend(self) -> None:
        held = [self.stats(i)["cache"]["chunks"] for i in self.members]
        self.most = min(held)
        self.at_mending = self.share
        self.session.hub.misbehave()
        self.note(f"the hub is right again; the nodes hold {held}")

    @property
    def ratio_limit(self) -> float:
        return 1.06 + 8 * self.chunk_share

    def check(self) -> None:
        chunks = len(self.session.payload.chunk_paths())
        self.figure("chunks that each node had before the hub was right", self.most, least=chunks - 1)
        self.figure("verifyFailed (stats)", self.errors("verifyFailed"), least=1)
        self.figure("wrong copies that crossed the line (stats)", self.errors("verifyFailed"), 10)


class PeerStalls(Fault):
    name = "peer-stalls"
    text = """What one peer sends stops in the middle of a chunk, for ten seconds, while its gossip goes on. A transfer that stands still for
    four seconds is dropped and asked of another; what it alone holds is fetched again, at most its share of what comes meanwhile."""
    stall_limit = 7.0

    def plan(self) -> None:
        self.when_share(0.35, self._stall)

    def _stall(self) -> None:
        # Of each connection some bytes of the present chunk still pass.
        self.firewall(2).set(out=[f"tcp sport {MESH_PORT} drop"])
        self.note("n2's answers stop")
        self.after(10, lambda: (self.firewall(2).clear(), self.note("n2's answers go on")))
        self.read_on(1)  # its flist has been open for long by now

    @property
    def ratio_limit(self) -> float:
        ten_seconds = 10 * self.site.rate_bps / 8 / self.session.payload.bytes
        return 1.10 + ten_seconds / self.site.nodes

    def check(self) -> None:
        self.figure("peerTimeouts (stats)", self.errors("peerTimeouts"), least=1)


class _TwoPhases(Fault):
    """n1 and n2 get all of it first; then something happens to n2's copy; then the others want it, with the line pulled out."""

    second_time_limit = 30.0

    def run(self) -> None:
        self.prepare()
        self.herd([1, 2])
        self.wait([1, 2])
        self.spoil()
        before = self.down
        start = time.monotonic()
        for i in self.members[2:]:
            self.session.nodes[i].start_job()
        self.plan()
        self.wait(self.members)
        self.second, self.more = time.monotonic() - start, self.down - before
        self.mend()
        self.finish()

    def spoil(self) -> None: ...

    def mend(self) -> None: ...

    def files(self, index: int) -> list:
        chunks = (self.session.nodes[index].work / "cache/chunks").rglob("*")
        return sorted(p for p in chunks if p.is_file() and len(p.name) == 64)

    def read_all(self, index: int) -> None:
        """As a user does who reads everything on that node."""
        text = self.session.nodes[index].verify(self.session.payload)
        if text != "ok":
            self.failed[index] = f"reading it with the mesh: {text}"

    def check(self) -> None:
        self.figure("seconds for the others, from the neighbours", self.second, self.second_time_limit, seconds=True)
        self.figure("uplink bytes for them ÷ payload", self.more / self.session.payload.bytes, 0.02)


class PeerGarbage(_TwoPhases):
    name = "peer-garbage"
    text = """A peer's disk has gone bad: every chunk that it announces and sends has wrong bytes. None is taken, the peer is blamed by name
    and shunned after three, the others serve, the line carries nothing. Reading on that node itself mends its copy."""

    def spoil(self) -> None:
        for path in self.files(2):
            with open(path, "r+b") as file:
                file.seek(1000)
                file.write(bytes(64))
        self.note("n2's chunks are spoilt on its disk")

    def mend(self) -> None:
        others = self.members[2:]
        self.blamed = [p["verifyFailed"] for i in others for p in api.peers(self.session.nodes[i].socket) if p["name"] == "n2"]
        self.read_all(2)

    def check(self) -> None:
        super().check()
        self.figure("nodes that blame n2 by name (peers)", sum(b > 0 for b in self.blamed), least=1)
        self.figure("wrong chunks that a node took from it before shunning", max(self.blamed), 24)
        self.figure("verifyFailed (stats)", self.errors("verifyFailed"), least=3)


class StaleClaims(_TwoPhases):
    name = "stale-claims"
    text = """The files of a peer's chunks are removed under it, so that its claims are stale. It says so when asked, the claims are
    dropped at once, the others serve, the line carries nothing. Reading on that node fetches them again from the neighbours."""

    def spoil(self) -> None:
        files = self.files(2)
        random.Random(1).shuffle(files)
        for path in files:
            path.unlink()
        self.note(f"{len(files)} files of n2's chunks are removed")

    def mend(self) -> None:
        self.read_all(2)

    def check(self) -> None:
        super().check()
        self.figure("chunks that n2 found gone (metrics)", self.metric("cache_vanished_total", [2]), least=1)


ALL = [HubDown, HubUnplugged, HubSlow, HubWrongChunk, PeerStalls, PeerGarbage, StaleClaims]
