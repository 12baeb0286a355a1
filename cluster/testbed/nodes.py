"""The nodes of a site: chunkmesh daemons with their prefetch, or plain curl clients to compare with."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import api
import procfs
from payload import FLIST, HUB_PORT, Payload
from shell import TestbedError, clean_environment, in_namespace, run, stop
from site_network import HUB_IP, Site

MESH_PORT = 7946
DAEMON_READY_SECONDS = 20
JOIN_SECONDS = 60
POLL_SECONDS = 0.05
VERIFY_READ_BYTES = 1 << 20
VERIFY_SECONDS = 120

CONFIGURATION = """\
node:
  name: n{index}
  site: {name}
mesh:
  keyFile: {key}
  listen: {address}:{port}
  multicast: {multicast}
  seeds: [{seeds}]
  sites: [{sites}]
cache:
  dir: {cache}
api:
  socket: {socket}
  listen: ""
"""


@dataclass(frozen=True)
class Binaries:
    daemon: str
    command: str

    @staticmethod
    def find(directory: str | None) -> "Binaries":
        """In `directory`, or in the newest build of this package."""
        package = Path(__file__).resolve().parents[2]
        places = [Path(directory).resolve()] if directory else [package / ".build/release", package / ".build/debug"]
        found = [p for p in places if os.access(p / "chunkmeshd", os.X_OK) and os.access(p / "chunkmesh", os.X_OK)]
        if not found:
            raise TestbedError(f"no chunkmesh and chunkmeshd in {' or '.join(map(str, places))}: build with `swift build -c release`")
        newest = max(found, key=lambda p: (p / "chunkmeshd").stat().st_mtime)
        return Binaries(str(newest / "chunkmeshd"), str(newest / "chunkmesh"))


class Node:
    """What a run does with a node. `job` is the process that ends with 0 once the node has all of the payload."""

    def __init__(self, site: Site, index: int, work: Path):
        self.site, self.index, self.work = site, index, work
        self.job: subprocess.Popen | None = None
        self.job_cpu = 0.0
        work.mkdir(parents=True)

    def spawn(self, command: list[str], log: str, barrier: int | None = None, **environment: str) -> subprocess.Popen:
        """Starts `command` in the node's namespace; with a barrier (read end of a pipe) it waits there for the pipe to close."""
        if barrier is not None:
            command = ["sh", "-c", 'read -r _; exec "$@" </dev/null', "sh", *command]
        with open(self.work / log, "ab") as out:
            return subprocess.Popen(
                in_namespace(self.site.namespace(self.index), *command),
                env=clean_environment(HOME=str(self.work), **environment),
                cwd=self.work,
                stdin=barrier if barrier is not None else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def start_daemon(self, barrier: int | None = None) -> None: ...

    def daemon_ready(self) -> bool:
        return True

    def wait_ready(self) -> None: ...

    def wait_joined(self, others: int, sites: int = 0) -> None: ...

    def start_job(self, barrier: int | None = None) -> None:
        raise NotImplementedError

    def verify(self, payload: Payload) -> str:
        raise NotImplementedError

    def poll_job(self) -> int | None:
        """Exit status of the job, None while it runs; counts its CPU seconds when it ends."""
        if self.job.returncode is None:
            pid, status, usage = os.wait4(self.job.pid, os.WNOHANG)
            if pid:
                self.job.returncode = os.waitstatus_to_exitcode(status)
                self.job_cpu += usage.ru_utime + usage.ru_stime
        return self.job.returncode

    def last_words(self) -> str:
        """The last line that the job, or else the daemon, has logged."""
        for name in ("job.log", "daemon.log"):
            log = self.work / name
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            if lines:
                return lines[-1][-300:]
        return ""

    def daemon_cpu(self) -> float:
        return 0.0

    def peak_memory(self) -> int:
        return 0

    def counts(self) -> dict | None:
        return None

    def kill(self) -> None:
        if self.job is not None and self.poll_job() is None:
            self.job.send_signal(signal.SIGKILL)
            self.job.wait()


class DirectNode(Node):
    """Pulls every chunk from the hub with curl, eight at a time: what a node does on its own."""

    def __init__(self, site: Site, index: int, work: Path, payload: Payload):
        super().__init__(site, index, work)
        self.urls = work / "urls"
        self.data = work / "data"
        self.data.mkdir()
        base = f"http://{HUB_IP}:{HUB_PORT}"
        paths = payload.chunk_paths()
        self.urls.write_text("".join(f'url = "{base}/{p}"\noutput = "{self.data}/{Path(p).name}"\n' for p in paths))

    def start_job(self, barrier: int | None = None) -> None:
        command = ["curl", "-sS", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "8", "-K", str(self.urls)]
        self.job = self.spawn(command, "job.log", barrier)

    def verify(self, payload: Payload) -> str:
        for path in payload.chunk_paths():
            name = Path(path).name
            copy = self.data / name
            if not copy.exists() or hashlib.blake2b(copy.read_bytes(), digest_size=32).hexdigest() != name:
                return f"{name} is missing or wrong"
        return "ok"


class MeshNode(Node):
    """A chunkmesh daemon and `chunkmesh prefetch --scope node`."""

    def __init__(self, site: Site, index: int, work: Path, binaries: Binaries, key: Path, seeds: list[int], multicast: bool, sites: int = 1):
        super().__init__(site, index, work)
        self.binaries = binaries
        self.socket = str(work / "api.sock")
        self.configuration = work / "node.yaml"
        self.flist = f"http://{HUB_IP}:{HUB_PORT}/{FLIST}"
        self.daemon: subprocess.Popen | None = None
        # Of the daemon's process, beside what it needs anyway.
        self.environment: dict[str, str] = {}
        self._cpu_of_dead = 0.0
        self._memory_of_dead = 0
        text = CONFIGURATION.format(
            index=index,
            name=site_name(index, sites),
            sites='"*"' if sites > 1 else "",
            key=key,
            address=site.address(index),
            port=MESH_PORT,
            multicast="true" if multicast else "false",
            seeds=", ".join(f'"{site.address(i)}:{MESH_PORT}"' for i in seeds if i != index),
            cache=work / "cache",
            socket=self.socket,
        )
        self.configuration.write_text(text)

    def configure(self, old: str, new: str) -> None:
        """Changes the configuration, for the next start."""
        text = self.configuration.read_text()
        if old not in text:
            raise TestbedError(f"the configuration of n{self.index} has no {old!r}")
        self.configuration.write_text(text.replace(old, new))

    def extend(self, text: str) -> None:
        """Adds sections to the configuration of a daemon that does not run yet."""
        with open(self.configuration, "a") as file:
            file.write(text)

    @property
    def api_url(self) -> str:
        return f"unix:{self.socket}"

    def start_daemon(self, barrier: int | None = None) -> None:
        self.daemon = self.spawn([self.binaries.daemon, "--config", str(self.configuration)], "daemon.log", barrier, **self.environment)

    def daemon_ready(self) -> bool:
        if self.daemon.poll() is not None:
            raise TestbedError(f"the daemon of n{self.index} ended with {self.daemon.returncode}: {self.last_words()}")
        return os.path.exists(self.socket) and api.ready(self.socket)

    def wait_ready(self) -> None:
        self._wait(self.daemon_ready, DAEMON_READY_SECONDS, "is not ready")

    def wait_joined(self, others: int, sites: int = 0) -> None:
        def joined() -> bool:
            if sum(1 for peer in api.peers(self.socket) if peer["state"] == "alive") < others:
                return False
            return sites == 0 or sum(1 for site in api.other_sites(self.socket) if site["reachable"]) >= sites

        self._wait(joined, JOIN_SECONDS, f"does not see {others} peers and {sites} other sites")

    def _wait(self, condition, seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TestbedError(f"n{self.index} {complaint} after {seconds} s: {self.last_words()}")
            time.sleep(POLL_SECONDS)

    def open_flist(self) -> None:
        """Makes the flist known to the daemon; no chunk travels."""
        run(*in_namespace(self.site.namespace(self.index), self.binaries.command, "ls", self.flist, "--api", self.api_url))

    def start_job(self, barrier: int | None = None) -> None:
        command = [self.binaries.command, "prefetch", self.flist, "--scope", "node", "--json"]
        self.job = self.spawn(command, "job.log", barrier, CHUNKMESH_API=self.api_url)

    def verify(self, payload: Payload) -> str:
        for path, digest in payload.files.items():
            command = [self.binaries.command, "cat", f"{self.flist}:/{path}"]
            with open(self.work / "verify.log", "ab") as log:
                reader = subprocess.Popen(
                    ["timeout", str(VERIFY_SECONDS), *in_namespace(self.site.namespace(self.index), *command)],
                    env=clean_environment(HOME=str(self.work), CHUNKMESH_API=self.api_url),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            found = hashlib.sha256()
            with reader:
                while piece := reader.stdout.read(VERIFY_READ_BYTES):
                    found.update(piece)
            if reader.returncode != 0:
                said = (self.work / "verify.log").read_text(errors="replace").strip().splitlines()[-1:]
                return f"cat of {path} ended with {reader.returncode}: {' '.join(said)}"
            if found.hexdigest() != digest:
                return f"{path} differs"
        return "ok"

    def daemon_cpu(self) -> float:
        return self._cpu_of_dead + (procfs.cpu_seconds(self.daemon.pid) if self.daemon else 0)

    def peak_memory(self) -> int:
        return max(self._memory_of_dead, procfs.peak_memory(self.daemon.pid) if self.daemon else 0)

    def counts(self) -> dict | None:
        return api.stats(self.socket)

    def forget_everything(self) -> None:
        """The daemon ends, and its cache goes."""
        self.kill()
        shutil.rmtree(self.work / "cache", ignore_errors=True)

    def kill(self) -> None:
        super().kill()
        if self.daemon is not None:
            self._cpu_of_dead, self._memory_of_dead = self.daemon_cpu(), self.peak_memory()
            stop(self.daemon, grace=0)
            self.daemon = None


def site_name(index: int, sites: int) -> str:
    return "testbed" if sites == 1 else f"testbed{index % sites}"


def make_key(binaries: Binaries, path: Path) -> Path:
    path.write_text(run(binaries.command, "key", "generate"))
    path.chmod(0o600)
    return path
