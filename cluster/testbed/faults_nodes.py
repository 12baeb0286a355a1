"""Faults of machines: they die, stop, start all at once, move, jump in time, or answer without serving."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import api
from fault import Fault
from nodes import MESH_PORT
from shell import TestbedError, clean_environment, in_namespace, run, stop

IMPOSTOR_PORT = 9946
DAY_SECONDS = 86_400


class Calm(Fault):
    name = "calm"
    text = "Nothing happens, with a reader at one node: what the other figures are to be compared with."
    ratio_limit = 1.06
    stall_limit = 4.0

    def plan(self) -> None:
        self.when_share(0.2, lambda: self.read_on(2))

    def check(self) -> None:
        for key in ("peerTimeouts", "upstreamErrors", "verifyFailed"):
            self.figure(f"{key} (stats)", self.errors(key), 0)


class KillAny(Fault):
    name = "kill-any"
    text = """kill -9 of three of eight nodes at moments drawn by a seed, one of them with its cable pulled first; one comes back. The
    others, and the one that came back, complete; what each of the three had under way crosses the line again, which is within 1.10."""
    nodes = 8
    blocks = 128
    stall_limit = 6.0

    def plan(self) -> None:
        chance = random.Random(self.session.options.seed)
        victims = chance.sample(self.members, 3)
        for turn, victim in enumerate(victims):
            self.when_share(chance.uniform(0.1, 0.8), lambda v=victim, power=turn == 1: self.kill(v, power=power))
        back = victims[0]
        self.when(lambda: back in self.dead, lambda: self.after(5, lambda: self.restart(back)))


class OwnersButOne(Fault):
    name = "owners-but-one"
    text = """All owners of a site but one die at the same moment without a word (cables pulled). The one that is left completes. What the
    others alone held must be fetched again; beyond that, the limit of one copy holds."""
    stall_limit = 8.0

    def plan(self) -> None:
        self.lost = 0.0
        self.when_share(0.4, self._strike)

    def _strike(self) -> None:
        came = min(self.share, 1)
        held = self.stats(1)["cache"]["chunks"] * self.chunk_share
        self.lost = max(0, came - held)
        for i in self.members[1:]:
            self.kill(i, power=True)
        self.note(f"n1 held {held:.2f}, the site {came:.2f}")

    def check(self) -> None:
        self.figure("share of the payload that died with them", self.lost)
        self.figure("uplink bytes ÷ payload, without that", self.share - self.lost, 1.10)
        self.figure("requests to peers that failed (stats)", self.errors("peerTimeouts", [1]), least=1)

    @property
    def ratio_limit(self) -> float:
        return 1.10 + self.lost


class RestartStorm(Fault):
    name = "restart-storm"
    text = """All daemons are killed at the same moment, half-way, and start again at the same moment. Each finds what it had, checks it,
    and all complete. What was on the line when they died crosses it again: at most the site's eight requests, 8 chunks."""
    stall_limit = 8.0
    is_short = True

    def plan(self) -> None:
        self.when_share(0.5, self._strike)

    def _strike(self) -> None:
        for i in self.members:
            self.session.nodes[i].daemon.send_signal(signal.SIGKILL)
        for i in self.members:
            self.kill(i)
        for i in self.members:
            self.restart(i)

    @property
    def ratio_limit(self) -> float:
        return 1.06 + 8 * self.chunk_share

    def check(self) -> None:
        kept = min(self.stats(i)["chunks"]["fromLocal"] + self.stats(i)["cache"]["chunks"] for i in self.members)
        self.figure("least of chunks that a node knows afterwards", kept, least=self.session.payload.bytes // (512 * 1024))


class Frozen(Fault):
    name = "peer-frozen"
    text = """One node stands still (SIGSTOP) for eight seconds in the middle of sending and fetching, and goes on. The others take over
    within seconds; what it had on the line when it stopped they fetch again."""
    stall_limit = 6.0

    def plan(self) -> None:
        self.when_share(0.3, self._freeze)

    def _freeze(self) -> None:
        pid = self.session.nodes[2].daemon.pid
        os.kill(pid, signal.SIGSTOP)
        self.note("n2 stopped")
        self.after(8, lambda: (os.kill(pid, signal.SIGCONT), self.note("n2 goes on")))

    def wait(self, indices: list[int], seconds: float = 240) -> None:
        super().wait(indices, seconds)
        # It stood still itself.
        self.stalls.longest.pop(2, None)

    @property
    def ratio_limit(self) -> float:
        # What it had on its way and held alone when it stopped, and what its kernel took in meanwhile: two requests, two chunks, twice.
        return 1.06 + 4 * self.chunk_share

    def check(self) -> None:
        self.figure("requests to peers that failed (stats)", self.errors("peerTimeouts"), least=1)


class HalfDead(Fault):
    """n2 answers probes and asks others, but serves nobody. What it owns it fetches for itself, and another owner fetches it too."""

    # Drawn by the chunks' ids: at three standard deviations.
    CHANCE = 3.0

    def plan(self) -> None:
        self.when_share(0.1, lambda: self.read_on(1))

    @property
    def fetched_alone(self) -> float:
        return self.stats(2)["bytes"]["fromUpstream"] / self.session.payload.bytes

    @property
    def ratio_limit(self) -> float:
        return 1.10 + self.fetched_alone

    def check(self) -> None:
        others = [i for i in self.alive if i != 2]
        self.figure("requests to peers that failed (stats)", self.errors("peerTimeouts", others), least=1)
        part = 1 / self.site.nodes
        spread = self.CHANCE * math.sqrt(part * (1 - part) * self.chunk_share)
        self.figure("share of the payload that n2 fetched: its own part, by chance", self.fetched_alone, part + spread)


class Impostor(HalfDead):
    """A node whose exchange port is taken over by something else while its gossip goes on: connections are redirected."""

    manner = "silent"

    def prepare(self) -> None:
        super().prepare()
        self.impostor = _start_impostor(self, 2, self.manner)
        self._take_over()

    def _take_over(self) -> None:
        # What was connected before goes nowhere; what is new goes to the impostor. The node itself may ask others.
        self.firewall(2).set(into=[f"tcp dport {MESH_PORT} drop"], redirect=[f"tcp dport {MESH_PORT} redirect to :{IMPOSTOR_PORT}"])
        self.note(f"n2's exchange is {self.manner}")

    def finish(self) -> None:
        super().finish()
        stop(self.impostor, grace=0)

    def check(self) -> None:
        super().check()
        others = [i for i in self.alive if i != 2]
        seen = [peer["state"] for i in others for peer in api.peers(self.session.nodes[i].socket) if peer["name"] == "n2"]
        self.figure("nodes that rightly hold it for alive (it answers probes)", seen.count("alive"), least=len(others) - 1)


class HalfDeadSilent(Impostor):
    name = "half-dead-silent"
    text = """A half-dead node: it answers probes and accepts connections, but never says anything on them. It goes round it within the
    handshake's three seconds. What it owns it fetches for itself and gives to nobody, so that this share (1 ÷ nodes) may cross twice."""
    manner = "silent"
    stall_limit = 8.0


class PeerBabbles(Impostor):
    name = "peer-babbles"
    text = """One peer answers garbage: random bytes to whoever connects. The handshake refuses them at once, nothing is believed, and one
    line tells it, however often it is tried. Its own share may cross twice, as with half-dead-silent."""
    manner = "babble"
    stall_limit = 6.0


class HalfDeadDropped(HalfDead):
    name = "half-dead-dropped"
    text = """A half-dead node: it answers probes (UDP), and packets to its exchange port vanish (TCP). Connecting gives up after two
    seconds, and the next owner takes over. What it owns it fetches for itself and gives to nobody: 1 ÷ nodes may cross twice."""
    stall_limit = 8.0

    def prepare(self) -> None:
        super().prepare()
        self.firewall(2).set(into=[f"tcp dport {MESH_PORT} drop"])


class AddressChange(Fault):
    name = "address-change"
    text = """A running node gets another address, as from a DHCP server, in the middle of a transfer. The others find it there within
    seconds, without its being started again, and it completes."""
    # Its own connections have to find out that they lead nowhere.
    stall_limit = 15.0
    # The others call it dead meanwhile, and fetch what it had under way.
    ratio_limit = 1.13

    def configure(self) -> None:
        for i in self.members:
            self.session.nodes[i].configure(f"listen: {self.site.address(i)}:{MESH_PORT}", f"listen: 0.0.0.0:{MESH_PORT}")

    def plan(self) -> None:
        self.found = None
        self.when_share(0.3, self._move)

    def _move(self) -> None:
        self.new = "10.77.1.250"
        self.site.change_address(3, self.new)
        self.note(f"n3 is {self.new} now")
        moved = time.monotonic()
        self.when(lambda: self._is_found(moved), lambda: None)

    def _is_found(self, moved: float) -> bool:
        others = [i for i in self.members if i != 3]
        known = [p for i in others for p in api.peers(self.session.nodes[i].socket) if p["name"] == "n3"]
        if len(known) == len(others) and all(p["address"] == f"{self.new}:{MESH_PORT}" and p["state"] == "alive" for p in known):
            self.found = time.monotonic() - moved
        return self.found is not None or time.monotonic() - moved > 90

    def check(self) -> None:
        self.figure("seconds until all have its new address", self.found or 90, 30, seconds=True)


class SameName(Fault):
    name = "same-name"
    text = """Two nodes with one name. Names are for people: the nodes are told apart by their identities, both are shown, both work."""

    def configure(self) -> None:
        self.session.nodes[3].configure("name: n3\n", "name: n2\n")

    def check(self) -> None:
        seen = [sum(p["name"] == "n2" and p["state"] == "alive" for p in api.peers(self.session.nodes[i].socket)) for i in (1, 4)]
        self.figure("nodes called n2 that others see", min(seen), least=2)


class SameIdentity(Fault):
    name = "same-identity"
    text = """Two nodes with one identity: a machine cloned together with its cache directory. They cannot be told apart, so the others
    talk now to the one and now to the other; both complete, the log of the two says what to do, and gossip stays within bounds."""
    stall_limit = 20.0
    # The others cannot rely on what the two announce.
    ratio_limit = 2.10

    def prepare(self) -> None:
        self.session.payload
        self.session.start_hub()
        self.session.add_nodes()
        first = self.session.nodes[2]
        first.start_daemon()
        first.wait_ready()
        first.kill()
        copy = self.session.nodes[3].work / "cache"
        copy.mkdir(mode=0o700)
        (copy / "node.key").write_bytes((first.work / "cache/node.key").read_bytes())
        (copy / "node.key").chmod(0o600)
        for i in self.members:
            self.session.nodes[i].start_daemon()
        for i in self.members:
            self.session.nodes[i].wait_ready()
        for i in self.members:
            self.session.nodes[i].wait_joined(2)

    def check(self) -> None:
        seconds = max(self.elapsed, 1)
        counters = self.site.counters()
        packets = max(counters[f"p{i}"].rx_packets for i in self.members) / seconds
        self.figure("packets/s that a node sends, the payload's included", packets)
        told = [(self.session.nodes[i].work / "daemon.log").read_text(errors="replace") for i in (2, 3)]
        self.figure("of the two, those whose log names the trouble", sum("identity" in text for text in told), least=1)
        self.figure("conflicts counted (metrics)", self.metric("gossip_identity_conflicts_total"), least=1)


class ClockJumps(Fault):
    name = "clock-jumps"
    text = """The wall clock of one node jumps a day ahead and that of another a day back in the middle of a transfer; a third starts with a
    clock a day behind. Nothing in the mesh goes by wall clocks: nothing happens."""
    stall_limit = 4.0
    ratio_limit = 1.10

    def configure(self) -> None:
        library = self.session.work / "wallclock.so"
        run("clang", "-shared", "-fPIC", "-O1", "-o", str(library), str(Path(__file__).with_name("wallclock.c")))
        self.clocks = {i: self.session.nodes[i].work / "clock" for i in (2, 3, 4)}
        for i, clock in self.clocks.items():
            self._set(i, -DAY_SECONDS if i == 4 else 0)
            self.session.nodes[i].environment = {"LD_PRELOAD": str(library), "TESTBED_CLOCK": str(clock)}

    def _set(self, index: int, seconds: int) -> None:
        # In place: the process has it mapped.
        mode = "r+b" if self.clocks[index].exists() else "wb"
        with open(self.clocks[index], mode) as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    def plan(self) -> None:
        self.when_share(0.3, lambda: self._jump(2, DAY_SECONDS))
        self.when_share(0.5, lambda: self._jump(3, -DAY_SECONDS))
        self.when_share(0.6, lambda: self.read_on(2, 3))

    def _jump(self, index: int, seconds: int) -> None:
        self._set(index, seconds)
        self.note(f"n{index}'s clock jumps by {seconds:+d} s")

    def check(self) -> None:
        dead = [p for i in self.alive for p in api.peers(self.session.nodes[i].socket) if p["state"] != "alive"]
        self.figure("nodes called anything but alive", len(dead), 0)
        yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - DAY_SECONDS))
        log = (self.session.nodes[4].work / "daemon.log").read_text(errors="replace")
        self.figure("lines of yesterday in n4's log (the clock was moved)", log.count(yesterday), least=1)


def _start_impostor(fault: Fault, index: int, manner: str) -> subprocess.Popen:
    program = Path(__file__).with_name("impostor.py")
    command = [sys.executable, str(program), manner, fault.site.address(index), str(IMPOSTOR_PORT)]
    process = subprocess.Popen(
        in_namespace(fault.site.namespace(index), *command), env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    if process.stdout.readline() != b"ready\n":
        raise TestbedError("the impostor did not start")
    return process


ALL = [
    Calm, KillAny, OwnersButOne, RestartStorm, Frozen, HalfDeadSilent, HalfDeadDropped, PeerBabbles, AddressChange, SameName, SameIdentity, ClockJumps,
]  # fmt: skip
