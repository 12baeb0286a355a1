"""One site in network namespaces: hub ==shaped uplink== router with a bridge -- n1 .. nN, and the byte counters of its links."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from shell import TestbedError, in_namespace, run, stop

HUB_IP = "10.77.0.2"
ROUTER_UPLINK_IP = "10.77.0.1"
ROUTER_LAN_IP = "10.77.1.1"
LAN = "10.77.1.0/24"
FIRST_NODE = 10  # n1 is 10.77.1.11
MAX_NODES = 200

# A bucket of 2 ms keeps bursts small against the line rate; below two full frames tbf would stall.
BUCKET_SECONDS = 0.002
BUCKET_MIN_BYTES = 3200
# From this rate on, segments of up to 64 KiB pass the bucket whole (the LAN keeps its offloads).
OFFLOAD_RATE = 500e6
OFFLOAD_BUCKET_BYTES = 131072
QUEUE_MIN_FRAMES = 20
FRAME_BYTES = 1514

# Named in the routes, because results must not depend on the machine's default; the sysctl is refused inside a namespace.
CONGESTION_CONTROL = "cubic"

# "Connection refused" comes from the hub itself, so it proves the way there and back.
PROBE = "import errno, socket, sys; s = socket.socket(); s.settimeout(2); sys.exit(s.connect_ex((sys.argv[1], 9)) != errno.ECONNREFUSED)"
PROBE_ATTEMPTS = 5

CLEANUP_SECONDS = 5.0
PREFIX = re.compile(r"cm[0-9]+")


def bits_per_second(text: str) -> float:
    """`20mbit` → 20e6; kbit, mbit and gbit as `tc` means them (powers of ten)."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)bit", text.strip().lower())
    if not match or float(match[1]) == 0:
        raise TestbedError(f"rate {text!r} is not like 20mbit")
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2]]


@dataclass(frozen=True)
class Counters:
    """Bytes and packets of one interface since it exists, seen from the router."""

    rx_bytes: int
    rx_packets: int
    tx_bytes: int
    tx_packets: int


@dataclass
class Site:
    nodes: int
    rate: str = "20mbit"
    lan_rate: str = "1gbit"
    queue_ms: float = 50
    delay_ms: float = 0
    loss: float = 0
    seed: int = 1
    ipv6: bool = False
    prefix: str = field(default_factory=lambda: f"cm{os.getpid()}")

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise TestbedError(f"{self.nodes} nodes: between 1 and {MAX_NODES} are possible")
        self.rate_bps = bits_per_second(self.rate)
        self.lan_bps = bits_per_second(self.lan_rate)
        self.hub = f"{self.prefix}-hub"
        self.router = f"{self.prefix}-router"
        self.line = f"{self.prefix}-line"
        self._relay: subprocess.Popen | None = None
        # A process inside the router: its /proc/PID/net/dev shows the router's counters without starting `ip` each time.
        self._watcher: subprocess.Popen | None = None

    @property
    def has_line(self) -> bool:
        return self.delay_ms > 0 or self.loss > 0

    @property
    def indices(self) -> range:
        return range(1, self.nodes + 1)

    def namespace(self, index: int) -> str:
        return f"{self.prefix}-n{index}"

    def address(self, index: int) -> str:
        return f"10.77.1.{FIRST_NODE + index}"

    def namespaces(self) -> list[str]:
        return [self.hub, self.router, *([self.line] if self.has_line else []), *(self.namespace(i) for i in self.indices)]

    # MARK: building

    def up(self) -> None:
        """Builds everything, or raises; call `down()` in either case."""
        if os.geteuid() != 0:
            raise TestbedError("network namespaces need root: run it with sudo")
        for namespace in self.namespaces():
            self._add_namespace(namespace)
        self._watcher = subprocess.Popen(in_namespace(self.router, "sleep", "infinity"), stdin=subprocess.DEVNULL)
        self._build_uplink()
        self._build_lan()
        self._probe()

    def _add_namespace(self, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        settings = ["net.ipv4.tcp_no_metrics_save=1"]
        if not self.ipv6:
            settings += ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]
        run(*in_namespace(namespace, "sysctl", "-qw", *settings))

    def _build_uplink(self) -> None:
        if self.has_line:
            self._build_line()
        else:
            run("ip", "link", "add", "up0", "netns", self.hub, "type", "veth", "peer", "name", "up0", "netns", self.router)
        for namespace, address in ((self.hub, HUB_IP), (self.router, ROUTER_UPLINK_IP)):
            # Router solicitations and the like would count as uplink traffic.
            run(*in_namespace(namespace, "sysctl", "-qw", "net.ipv6.conf.up0.disable_ipv6=1"), check=False)
            run("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", "up0")
            run("ip", "-n", namespace, "link", "set", "up0", "up")
            # Without segmentation offload the counters see each frame as it would stand on the wire, headers included.
            off = ["tso", "off", "gso", "off", "gro", "off"] + (["tx", "off"] if self.has_line else [])
            run(*in_namespace(namespace, "ethtool", "-K", "up0", *off))
            self._shape(namespace, "up0", self.rate_bps, self.queue_ms)
        run("ip", "-n", self.hub, "route", "add", LAN, "via", ROUTER_UPLINK_IP, "congctl", CONGESTION_CONTROL)

    def _build_line(self) -> None:
        """A user-space relay between two veth pairs delays and drops frames; kernels without netem can do no better."""
        run("ip", "link", "add", "up0", "netns", self.hub, "type", "veth", "peer", "name", "a", "netns", self.line)
        run("ip", "link", "add", "up0", "netns", self.router, "type", "veth", "peer", "name", "b", "netns", self.line)
        for end in ("a", "b"):
            run("ip", "-n", self.line, "link", "set", "dev", end, "promisc", "on", "up")
        relay = os.path.join(os.path.dirname(os.path.abspath(__file__)), "delayline.py")
        command = [sys.executable, relay, "a", "b", "--delay-ms", str(self.delay_ms), "--loss", str(self.loss), "--seed", str(self.seed)]
        self._relay = subprocess.Popen(in_namespace(self.line, *command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self._relay.stdout.readline() != b"ready\n":
            raise TestbedError("the delay line of the uplink did not start")

    def _build_lan(self) -> None:
        router = self.router
        run("ip", "-n", router, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
        run("ip", "-n", router, "address", "add", f"{ROUTER_LAN_IP}/24", "dev", "br0")
        run("ip", "-n", router, "link", "set", "br0", "up")
        run(*in_namespace(router, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        for index in self.indices:
            node, port = self.namespace(index), f"p{index}"
            run("ip", "link", "add", "eth0", "netns", node, "type", "veth", "peer", "name", port, "netns", router)
            run("ip", "-n", router, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", node, "address", "add", f"{self.address(index)}/24", "dev", "eth0")
            run("ip", "-n", node, "link", "set", "eth0", "up")
            run("ip", "-n", node, "route", "add", "default", "via", ROUTER_LAN_IP, "congctl", CONGESTION_CONTROL)
            lan = ["dev", "eth0", "proto", "kernel", "scope", "link", "src", self.address(index)]
            run("ip", "-n", node, "route", "change", LAN, *lan, "congctl", CONGESTION_CONTROL)
            self._shape(node, "eth0", self.lan_bps, 10)
            self._shape(router, port, self.lan_bps, 10)

    def _shape(self, namespace: str, device: str, rate: float, queue_ms: float) -> None:
        bucket = max(BUCKET_MIN_BYTES, int(rate / 8 * BUCKET_SECONDS))
        if rate >= OFFLOAD_RATE:
            bucket = max(bucket, OFFLOAD_BUCKET_BYTES)
        limit = bucket + max(QUEUE_MIN_FRAMES * FRAME_BYTES, int(rate / 8 * queue_ms / 1000))
        run(
            "tc", "-n", namespace, "qdisc", "replace", "dev", device, "root",
            "tbf", "rate", f"{int(rate)}bit", "burst", str(bucket), "limit", str(limit),
        )  # fmt: skip

    def _probe(self) -> None:
        """Each node knocks at a closed port of the hub: proves the path and fills the neighbour tables before anything is counted."""
        for index in self.indices:
            for _ in range(PROBE_ATTEMPTS):
                knock = in_namespace(self.namespace(index), sys.executable, "-S", "-c", PROBE, HUB_IP)
                if subprocess.run(knock, stdin=subprocess.DEVNULL).returncode == 0:
                    break
            else:
                raise TestbedError(f"n{index} cannot reach the hub: is forwarding filtered on this machine?")

    # MARK: counters

    def counters(self) -> dict[str, Counters]:
        """All interfaces of the router. `up0`: rx is hub → site after shaping, tx site → hub; `pI`: tx goes into node I."""
        found = {}
        with open(f"/proc/{self._watcher.pid}/net/dev") as table:
            for line in table.readlines()[2:]:
                name, values = line.split(":")
                v = [int(x) for x in values.split()]
                found[name.strip()] = Counters(v[0], v[1], v[8], v[9])
        return found

    def uplink_drops(self) -> int:
        """Frames that the shaper dropped on the way to the site."""
        return json.loads(run("tc", "-n", self.hub, "-s", "-j", "qdisc", "show", "dev", "up0"))[0].get("drops", 0)

    # MARK: faults

    def cut_uplink(self) -> None:
        run("ip", "-n", self.hub, "link", "set", "up0", "down")

    def mend_uplink(self) -> None:
        run("ip", "-n", self.hub, "link", "set", "up0", "up")
        # Routes go with the link.
        run("ip", "-n", self.hub, "route", "replace", LAN, "via", ROUTER_UPLINK_IP, "congctl", CONGESTION_CONTROL)

    def plug_in(self, index: int) -> None:
        run("ip", "-n", self.router, "link", "set", f"p{index}", "up")

    def change_address(self, index: int, address: str) -> None:
        """The node gets another address, as from a DHCP server; what it had open on the old one goes nowhere any more."""
        node = self.namespace(index)
        run("ip", "-n", node, "address", "flush", "dev", "eth0", "scope", "global")
        run("ip", "-n", node, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", node, "route", "replace", "default", "via", ROUTER_LAN_IP, "congctl", CONGESTION_CONTROL)
        lan = ["dev", "eth0", "proto", "kernel", "scope", "link", "src", address]
        run("ip", "-n", node, "route", "replace", LAN, *lan, "congctl", CONGESTION_CONTROL)

    def unplug(self, index: int) -> None:
        """Pulls the cable of a node at the bridge: nobody sees a FIN or RST of what it ran."""
        run("ip", "-n", self.router, "link", "set", f"p{index}", "down")

    # MARK: removing

    def down(self) -> None:
        """Kills what is left in the namespaces and removes them. Safe to call twice and after a failed `up()`."""
        present = [n for n in list_namespaces() if n.startswith(f"{self.prefix}-")]
        kill_all_in(present)
        for process in (self._watcher, self._relay):
            if process is not None:
                stop(process, grace=0)
        self._watcher = self._relay = None
        for namespace in present:
            run("ip", "netns", "delete", namespace, check=False)


def list_namespaces() -> list[str]:
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]


def kill_all_in(namespaces: list[str]) -> None:
    deadline = time.monotonic() + CLEANUP_SECONDS
    while time.monotonic() < deadline:
        left = [int(pid) for name in namespaces for pid in run("ip", "netns", "pids", name, check=False).split()]
        if not [pid for pid in left if _kill(pid)]:
            return
        time.sleep(0.05)


def _kill(pid: int) -> bool:
    """False when the process is gone or only waits for its parent to reap it."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                return False
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def remove_leftovers() -> list[str]:
    """Removes the sites whose run is no more (it was killed with SIGKILL); returns their prefixes."""
    names = list_namespaces()
    prefixes = {name.split("-")[0] for name in names if PREFIX.fullmatch(name.split("-")[0])}
    orphans = sorted(p for p in prefixes if not _runs(int(p[2:])))
    for prefix in orphans:
        mine = [n for n in names if n.startswith(f"{prefix}-")]
        kill_all_in(mine)
        for name in mine:
            run("ip", "netns", "delete", name, check=False)
        for work in glob.glob(f"{tempfile.gettempdir()}/{prefix}-*"):
            shutil.rmtree(work, ignore_errors=True)
    return orphans


def _runs(pid: int) -> bool:
    """Whether the process is a run of this test bed; another program may have got the number since."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return b"run.py" in command.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
