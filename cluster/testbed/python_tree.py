"""A small system with Python in it, of this machine's own files: what `chroot` needs to run the program, and all of its library."""

import os
import re
import shutil
from pathlib import Path

from shell import TestbedError, run

SYSTEM_PYTHON = Path("/usr/bin/python3")
# Within the tree.
PROGRAM = "/usr/bin/python3"


def make(tree: Path) -> Path:
    """Copies the system's Python; the one that runs this may be another."""
    if not SYSTEM_PYTHON.exists():
        raise TestbedError(f"no {SYSTEM_PYTHON}: install python3, or name a tree with --tree")
    binary = SYSTEM_PYTHON.resolve()
    library = Path("/usr/lib") / binary.name
    _copy(binary, tree)
    (tree / PROGRAM[1:]).symlink_to(binary.name)
    shutil.copytree(library, tree / str(library)[1:], symlinks=True, ignore_dangling_symlinks=True)
    for program in [binary, *library.glob("lib-dynload/*.so")]:
        for needed in re.findall(r"(/\S+) \(0x", run("ldd", str(program))):
            _copy(Path(needed), tree)
    return tree


def _copy(file: Path, tree: Path) -> None:
    """At the path that the loader asks for; directories that are links on a merged /usr become directories."""
    target = tree / str(file)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(os.path.realpath(file), target)
