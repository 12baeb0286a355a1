"""Faults of the LAN: datagrams are lost or blocked, some cannot reach some, the site falls in two and heals."""

import time

import api
from fault import Fault


class _Loss(Fault):
    percent = 0
    stall_limit = 8.0
    time_limit = 80.0

    def prepare(self) -> None:
        super().prepare()
        for i in self.members:
            self.firewall(i).set(into=[f'iifname "eth0" meta l4proto udp numgen random mod 100 < {self.percent} drop'])
        self.note(f"{self.percent} % of the datagrams into each node are lost")

    def plan(self) -> None:
        self.deaths = 0
        self.when_share(0.1, lambda: self.read_on(1))
        self.after(10, self._count)

    def _count(self) -> None:
        self.deaths += sum(p["state"] == "dead" for i in self.alive for p in api.peers(self.session.nodes[i].socket))
        if len(self.done) < len(self.members):
            self.after(5, self._count)

    def check(self) -> None:
        self.figure("living nodes called dead when looked at", self.deaths, self.deaths_limit)

    deaths_limit = 0


class Loss10(_Loss):
    name = "udp-loss-10"
    text = "10 % of all datagrams on the LAN are lost, each way: nobody is called dead, and nothing crosses the line twice."
    percent = 10


class Loss30(_Loss):
    name = "udp-loss-30"
    text = "30 % of all datagrams on the LAN are lost, each way: nobody is called dead, and nothing crosses the line twice."
    percent = 30
    is_short = True


class Loss50(_Loss):
    name = "udp-loss-50"
    text = """50 % of all datagrams are lost, each way: three of four probes and their answers. Nodes are suspected now and then, and asked
    over TCP before they are called dead; what is announced comes late, and some chunks may cross the line twice."""
    percent = 50
    ratio_limit = 1.20


class UdpBlocked(Fault):
    name = "udp-blocked"
    text = """A firewall blocks all datagrams between the nodes in the middle of a transfer and lets TCP pass. The nodes go on to know each
    other over TCP: nobody is called dead, and the line carries one copy."""
    ratio_limit = 1.15
    stall_limit = 8.0

    def plan(self) -> None:
        self.when_share(0.2, self._block)

    def _block(self) -> None:
        for i in self.members:
            self.firewall(i).set(into=['iifname "eth0" meta l4proto udp drop'])
        self.note("no datagram passes any more")

    def check(self) -> None:
        time.sleep(max(0, 30 - self.elapsed))
        dead = [p for i in self.members for p in api.peers(self.session.nodes[i].socket) if p["state"] == "dead"]
        self.figure("nodes called dead after 30 s", len(dead), 0)
        self.figure("uplink bytes ÷ payload, 30 s", self.share, self.ratio_limit)


class UdpNever(Fault):
    name = "udp-never"
    text = """No datagram ever passes between the nodes; they are each other's seeds, and TCP passes. They find each other over TCP and
    share one copy."""
    ratio_limit = 1.20
    stall_limit = 10.0

    def configure(self) -> None:
        for i in self.members:
            self.firewall(i).set(into=['iifname "eth0" meta l4proto udp drop'])
            seeds = ", ".join(f'"{self.site.address(j)}:7946"' for j in self.members if j != i)
            self.session.nodes[i].configure("seeds: []", f"seeds: [{seeds}]")


class Asymmetric(Fault):
    name = "asymmetric"
    text = """What n1 sends never reaches n2, the other way it does: neither can connect to the other. The two get everything by way of the
    others, nobody is called dead, since those can reach both. What n1 owns n2 asks of the next owner, who may fetch it too."""
    stall_limit = 8.0

    def prepare(self) -> None:
        super().prepare()
        self.firewall(2).set(into=[f"ip saddr {self.site.address(1)} drop"])

    def plan(self) -> None:
        self.when_share(0.1, lambda: self.read_on(2))

    @property
    def ratio_limit(self) -> float:
        # A chunk that n1 owns, wanted by n2 before n1 has it: the share of one owner, and only what is asked for before it came.
        return 1.10 + 0.5 / self.site.nodes

    def check(self) -> None:
        dead = [p for i in self.members for p in api.peers(self.session.nodes[i].socket) if p["state"] == "dead"]
        self.figure("nodes called dead", len(dead), 0)
        self.figure("peerTimeouts (stats)", self.errors("peerTimeouts", [1, 2]), least=1)


class Split(Fault):
    name = "split-heal"
    text = """The site falls into two halves that both reach the hub, for ten seconds, and heals. What both fetch meanwhile crosses twice,
    at most half of what comes in that time; afterwards all know each other again within half a minute."""
    nodes = 6
    blocks = 96
    stall_limit = 8.0

    def plan(self) -> None:
        self.came = 0.0
        self.healed = self.met = None
        self.when_share(0.3, self._split)

    def _split(self) -> None:
        half = len(self.members) // 2
        self.halves = self.members[:half], self.members[half:]
        for mine, others in (self.halves, self.halves[::-1]):
            for i in mine:
                foreign = ", ".join(self.site.address(j) for j in others)
                self.firewall(i).set(into=[f"ip saddr {{ {foreign} }} drop"])
        self.mark = self.share
        self.note("two halves")
        self.after(10, self._heal)

    def _heal(self) -> None:
        for i in self.members:
            self.firewall(i).clear()
        self.came = self.share - self.mark
        self.healed = time.monotonic()
        self.note("one site again")
        self.when(self._all_met, lambda: None)

    def _all_met(self) -> bool:
        alive = [sum(p["state"] == "alive" for p in api.peers(self.session.nodes[i].socket)) for i in self.members]
        if min(alive) == len(self.members) - 1:
            self.met = time.monotonic() - self.healed
        return self.met is not None or time.monotonic() - self.healed > 90

    @property
    def ratio_limit(self) -> float:
        return 1.10 + self.came / 2

    def check(self) -> None:
        self.figure("share of the payload that came while split", self.came)
        self.figure("seconds until all know all again", self.met or 90, 30, seconds=True)


ALL = [Loss10, Loss30, Loss50, UdpBlocked, UdpNever, Asymmetric, Split]
