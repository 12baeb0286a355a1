"""The hub: `chunkmesh hub serve`, nginx, or one that misbehaves, in the namespace behind the uplink."""

import json
import subprocess
import sys
import time
from pathlib import Path

import procfs
from payload import HUB_PORT
from shell import TestbedError, clean_environment, in_namespace, run, stop
from site_network import HUB_IP, Site

READY_SECONDS = 15
STOP_SECONDS = 3

NGINX = """\
daemon off;
worker_processes 1;
user root;
pid {work}/pid;
error_log {work}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush off;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path {work}/temp1; proxy_temp_path {work}/temp2; fastcgi_temp_path {work}/temp3;
    uwsgi_temp_path {work}/temp4; scgi_temp_path {work}/temp5;
    server {{ listen {listen}; root {root}; }}
}}
"""


class Hub:
    def __init__(self, site: Site, kind: str, root: Path, work: Path, chunkmesh: str | None):
        self.site, self.work = site, work
        listen = f"{HUB_IP}:{HUB_PORT}"
        work.mkdir(parents=True)
        self.control = work / "faults.json"
        if kind == "faulty":
            program = Path(__file__).with_name("faulty_hub.py")
            self.command = [sys.executable, str(program), str(root), str(self.control), "--listen", listen]
        elif kind == "nginx":
            configuration = work / "nginx.conf"
            configuration.write_text(NGINX.format(work=work, listen=listen, root=root))
            self.command = ["nginx", "-p", str(work), "-c", str(configuration)]
        else:
            self.command = [str(chunkmesh), "hub", "serve", str(root), "--listen", listen]
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self.work / "hub.log", "ab") as log:
            self.process = subprocess.Popen(
                in_namespace(self.site.hub, *self.command),
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if f"{HUB_IP}:{HUB_PORT}" in run(*in_namespace(self.site.hub, "ss", "-Hltn")):
                return
            time.sleep(0.05)
        last = (self.work / "hub.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise TestbedError(f"the hub did not start listening on {HUB_IP}:{HUB_PORT}: {' '.join(last) or 'it said nothing'}")

    def misbehave(self, **faults: object) -> None:
        """What a hub of the kind `faulty` does wrong from now on (faulty_hub.py); nothing at all without arguments."""
        temporary = self.control.with_suffix(".new")
        temporary.write_text(json.dumps(faults))
        temporary.rename(self.control)

    def cpu_seconds(self) -> float:
        return procfs.tree_cpu_seconds(self.process.pid)

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process, STOP_SECONDS)
