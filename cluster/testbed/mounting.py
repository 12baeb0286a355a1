"""An flist mounted on a node, in a mount namespace that ends with its helper."""

import os
import subprocess
import time
from pathlib import Path

from nodes import MeshNode
from shell import TestbedError, stop

MOUNT_SECONDS = 30
UMOUNT_SECONDS = 5


class Mounted:
    """`mount.flist` in the foreground; use as a context manager. `ip netns exec` gives each process a mount namespace of its own, so nobody
    else sees the mount, and nothing is left of it when the helper is gone."""

    def __init__(self, node: MeshNode):
        self.node = node
        self.place = node.work / "mnt"
        self.helper: subprocess.Popen | None = None

    def __enter__(self) -> "Mounted":
        self.place.mkdir(exist_ok=True)
        helper = Path(self.node.binaries.command).with_name("mount.flist")
        if not os.access(helper, os.X_OK):
            raise TestbedError(f"no {helper}: build with `swift build -c release --product mount.flist`")
        command = [str(helper), self.node.flist, str(self.place), "--foreground", "-o", f"api={self.node.socket},suid,dev,exec"]
        self.helper = self.node.spawn(command, "mount.log")
        deadline = time.monotonic() + MOUNT_SECONDS
        while not self._is_mounted():
            if self.helper.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                said = (self.node.work / "mount.log").read_text(errors="replace").strip().splitlines()[-1:]
                raise TestbedError(f"n{self.node.index} cannot mount: {' '.join(said) or 'no answer'}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self.helper is not None:
            stop(self.helper, UMOUNT_SECONDS)
            self.helper = None

    @property
    def root(self) -> Path:
        """The mounted tree, as every process of this machine may name it."""
        return Path(f"/proc/{self.helper.pid}/root{self.place}")

    def inside(self, *command: str) -> list[str]:
        """A command that sees the mount."""
        return ["nsenter", "--target", str(self.helper.pid), "--mount", *command]

    def _is_mounted(self) -> bool:
        try:
            with open(f"/proc/{self.helper.pid}/mounts") as mounts:
                return any(line.split()[1] == str(self.place) for line in mounts)
        except OSError:
            return False
