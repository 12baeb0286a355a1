"""Packet filters in one namespace: what a switch, a cable or a half-dead machine does to packets."""

import subprocess

from shell import TestbedError, in_namespace

TABLE = "chunkmesh_faults"


class Firewall:
    """The rules of one node. `set` replaces all of them in one step; existing connections feel them at once."""

    def __init__(self, namespace: str):
        self.namespace = namespace

    def set(self, *, into: list[str] = (), out: list[str] = (), redirect: list[str] = ()) -> None:
        """`into` and `out` are nft rules for packets to and from this node, `redirect` for new connections to it."""
        chains = [_chain("into", "type filter hook input priority 0", into), _chain("out", "type filter hook output priority 0", out)]
        if redirect:
            chains.append(_chain("away", "type nat hook prerouting priority -100", redirect))
        self._run(f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{''.join(chains)}}}\n")

    def clear(self) -> None:
        self._run(f"table inet {TABLE}\ndelete table inet {TABLE}\n")

    def _run(self, rules: str) -> None:
        try:
            done = subprocess.run(in_namespace(self.namespace, "nft", "-f", "-"), input=rules, capture_output=True, text=True)
        except FileNotFoundError:
            raise TestbedError("ip is not installed (needed: iproute2)") from None
        if done.returncode != 0:
            raise TestbedError(f"nft refuses the rules of {self.namespace} (is nftables installed?): {done.stderr.strip()[-300:]}")


def _chain(name: str, hook: str, rules: list[str]) -> str:
    return f"  chain {name} {{ {hook}; policy accept;\n" + "".join(f"    {rule}\n" for rule in rules) + "  }\n"
