#!/usr/bin/env python3
"""A site of chunkmesh nodes behind a shaped uplink, on one machine. README.md beside this file says what is measured."""

import argparse
import json
import os
import sys
import time

import faults
import gossip
import line
import reading
from session import Session
from share import Share
from shell import TestbedError
from site_network import remove_leftovers
from swarm import Swarm


def common() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("-n", "--nodes", type=int, default=4)
    options.add_argument("--rate", default="20mbit", help="uplink, both ways (default 20mbit)")
    options.add_argument("--lan-rate", default="1gbit", help="each node's port (default 1gbit)")
    options.add_argument("--delay-ms", type=float, default=0, help="round trip added to the uplink")
    options.add_argument("--loss", type=float, default=0, help="probability that a frame is lost on the uplink, 0 to 1")
    options.add_argument("--ipv6", action="store_true", help="IPv6 on the LAN too (link-local)")
    options.add_argument("--multicast", action=argparse.BooleanOptionalAction, default=True, help="mesh.multicast of the nodes")
    options.add_argument("--seeds", type=int, default=0, metavar="K", help="give the first K nodes to all as mesh.seeds")
    options.add_argument("--sites", type=int, default=1, metavar="K", help="node i belongs to site i mod K; each may ask any other site")
    options.add_argument(
        "--driver", choices=["chunkmesh", "direct", "libtorrent"], default="chunkmesh", help="direct: curl in every node (share); libtorrent (swarm)"
    )
    options.add_argument("--hub", choices=["chunkmesh", "nginx"], default="chunkmesh", help="what serves the chunks")
    options.add_argument("--bin", help="directory of chunkmesh and chunkmeshd (default: the newest build of this package)")
    options.add_argument("--payload", help="directory to make the payload in once and to find it again")
    options.add_argument("--blocks", type=int, default=128, help="payload in blocks of 512 KiB (default 128: 64 MiB)")
    options.add_argument("--work", help="where the temporary directory goes (default: TMPDIR)")
    options.add_argument("--logs", help="directory that keeps the logs of hub and nodes")
    return options


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    share = actions.add_parser("share", parents=[common()], help="all nodes fetch the same payload at the same moment")
    share.add_argument("--cold-daemons", action="store_true", help="the daemons, too, start at the barrier: a boot storm")
    share.add_argument("--kill", action="append", default=[], metavar="I@WHEN[:power]", help="2@50%% of the payload, or 2@5 seconds")
    share.add_argument("--late", type=int, default=0, metavar="K", help="the last K nodes start when the others are done")
    share.add_argument("--timeout", type=float, default=300, help="seconds for each phase")
    share.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True)
    swarm = actions.add_parser("swarm", parents=[common()], help="few nodes hold the payload, all others want it, without an uplink")
    swarm.add_argument("--seeders", type=int, default=1, metavar="K", help="nodes that hold the payload (default 1)")
    swarm.add_argument("--timeout", type=float, default=300, help="seconds")
    swarm.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True)
    swarm.add_argument("--settle", type=float, default=2, help="seconds between the filling of the seeders and the start (default 2)")
    swarm.add_argument("--piece", type=int, default=512 * 1024, help="libtorrent: bytes of a piece, 0: as it thinks (default 512 KiB)")
    swarm.add_argument("--utp", action="store_true", help="libtorrent: uTP instead of TCP")
    swarm.add_argument("--slots", type=int, default=-1, help="libtorrent: unchoke slots, -1: without limit, 0: as it thinks (default -1)")
    swarm.set_defaults(nodes=8, blocks=512, rate="1gbit", lan_rate="200mbit")
    budget = actions.add_parser("budget", parents=[common()], help="whether upstream.maxRate is kept by the whole site")
    budget.add_argument("--limit", default="8mbit", help="upstream.maxRate of all nodes (default 8mbit)")
    budget.add_argument("--seconds", type=float, default=60)
    budget.add_argument("--kill", action="append", default=[], metavar="I@SECONDS", help="kill a node; it comes back after --back seconds")
    budget.add_argument("--back", type=float, default=10)
    budget.add_argument("--late", type=int, default=0, metavar="K", help="the last K nodes start one by one during the run")
    foreground = actions.add_parser("foreground", parents=[common()], help="what a reader waits while the others prefetch")
    foreground.add_argument("--samples", type=int, default=40, help="reads on the idle line, and as many during the prefetch")
    foreground.add_argument("--pause", type=float, default=0.5, help="seconds between two reads during the prefetch")
    cold = actions.add_parser("cold-read", parents=[common()], help="one piece of 4 KiB of a cold chunk behind a thin and long line")
    cold.add_argument("--read", choices=["http", "mount", "both"], default="both", help="by HTTP range, by mount.flist, or both in turn")
    cold.add_argument("--samples", type=int, default=10, help="chunks for each way and state of the connection (default 10)")
    cold.set_defaults(nodes=1, delay_ms=40)
    imports = actions.add_parser("python-imports", parents=[common()], help="Python and three of its modules from a cold mount")
    imports.add_argument("--tree", help="tree with usr/bin/python3 in it (default: made of this machine's)")
    imports.add_argument("--samples", type=int, default=3, help="runs with the profile, of which the median is told whole (default 3)")
    imports.set_defaults(nodes=1, delay_ms=20)
    idle = actions.add_parser("idle", parents=[common()], help="traffic of nodes that have nothing to do")
    idle.add_argument("--seconds", type=float, default=60)
    detect = actions.add_parser("detect", parents=[common()], help="time until a killed node is known dead to all")
    detect.add_argument("--times", type=int, default=3)
    fault = actions.add_parser("fault", parents=[common()], help="one failure each: what is done, and the limits that hold nevertheless")
    fault.add_argument("names", nargs="*", metavar="NAME")
    fault.add_argument("--all", action="store_true", help="all of them, one after another")
    fault.add_argument("--short", action="store_true", help="those that scripts/test runs")
    fault.add_argument("--list", action="store_true", help="names and what is done")
    fault.add_argument("--patience", type=float, default=1, help="factor for limits of time, for a machine with other work")
    fault.add_argument("--seed", type=int, default=1, help="of what is drawn by chance")
    fault.set_defaults(nodes=None, blocks=None)
    for scenario, settle in ((idle, 15), (detect, 3)):
        scenario.add_argument("--settle", type=float, default=settle, help="seconds of rest before measuring")
    actions.add_parser("up", parents=[common()], help="build the site and leave it standing until Ctrl-C")
    actions.add_parser("clean", help="remove what a run that was killed with SIGKILL left behind")
    return parser.parse_args()


def perform(options: argparse.Namespace) -> int:
    if options.action == "clean":
        print("removed:", *(remove_leftovers() or ["nothing"]))
        return 0
    if options.action == "fault":
        if options.list:
            faults.list_all()
            return 0
        return faults.run_chosen(options)
    with Session(options) as session:
        if options.action == "up":
            stand(session)
            return 0
        if options.action == "share":
            return scenario(Share(session))
        if options.action == "swarm":
            return scenario(Swarm(session))
        if options.action in ("budget", "foreground"):
            print(json.dumps(line.budget(session) if options.action == "budget" else line.foreground(session)))
            return 0
        if options.action in ("cold-read", "python-imports"):
            print(json.dumps(reading.cold_read(session) if options.action == "cold-read" else reading.python_imports(session)))
            return 0
        print(json.dumps(gossip.idle(session) if options.action == "idle" else gossip.detect(session)))
    return 0


def scenario(scenario: Share | Swarm) -> int:
    try:
        scenario.run()
    except TestbedError as error:
        scenario.result["error"] = str(error)
    print(json.dumps(scenario.result), flush=True)
    return 0 if "error" not in scenario.result and scenario.succeeded else 1


def stand(session: Session) -> None:
    print("enter a namespace with `ip netns exec NAME bash`; Ctrl-C removes all of them", file=sys.stderr)
    for namespace in session.site.namespaces():
        print(namespace)
    sys.stdout.flush()
    while True:
        time.sleep(3600)


def main() -> int:
    os.umask(0o077)
    try:
        return perform(arguments())
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("testbed: interrupted, everything removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
