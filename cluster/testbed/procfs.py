"""What /proc tells of a process: CPU seconds and peak memory."""

import os

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and of the children that it has reaped; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return sum(int(x) for x in fields[11:15]) / TICKS
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def tree_cpu_seconds(pid: int) -> float:
    """The process and its living children (nginx: master and workers)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def peak_memory(pid: int) -> int:
    """Largest resident size so far in bytes; 0 when the process is gone."""
    return _status_kib(pid, "VmHWM:") * 1024


def resident_memory(pid: int) -> int:
    return _status_kib(pid, "VmRSS:") * 1024


def _status_kib(pid: int, key: str) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith(key):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
