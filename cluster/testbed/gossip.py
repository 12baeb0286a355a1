"""Two scenarios without payload: what idle nodes say to each other, and how soon a dead one is known to be dead."""

import statistics
import time

import api
import procfs
from session import Session
from shell import TestbedError

POLL_SECONDS = 0.1
DETECT_SECONDS = 60


def idle(session: Session) -> dict:
    """Bytes a second that each node sends and receives on its LAN port while nothing happens."""
    options, site = session.options, session.site
    session.add_nodes()
    session.start_daemons(list(site.indices))
    time.sleep(options.settle)
    cpu = {i: node.daemon_cpu() for i, node in session.nodes.items()}
    before = site.counters()
    time.sleep(options.seconds)
    after = site.counters()
    # The port's rx is what the node sent.
    sent = [(after[f"p{i}"].rx_bytes - before[f"p{i}"].rx_bytes) / options.seconds for i in site.indices]
    received = [(after[f"p{i}"].tx_bytes - before[f"p{i}"].tx_bytes) / options.seconds for i in site.indices]
    packets = [(after[f"p{i}"].rx_packets - before[f"p{i}"].rx_packets) / options.seconds for i in site.indices]
    return {
        "n": site.nodes,
        "seconds": options.seconds,
        "sent_Bps": spread(sent, 0),
        "received_Bps": spread(received, 0),
        "sent_packets_ps": spread(packets, 1),
        "uplink_bytes": after["up0"].rx_bytes + after["up0"].tx_bytes - before["up0"].rx_bytes - before["up0"].tx_bytes,
        "cpu_percent": spread([100 * (n.daemon_cpu() - cpu[i]) / options.seconds for i, n in session.nodes.items()], 2),
        "rss": spread([procfs.resident_memory(n.daemon.pid) for n in session.nodes.values()], 0),
    }


def detect(session: Session) -> dict:
    """Kills one node after another (and starts it again); seconds until the first and the last of the others call it dead."""
    options, site = session.options, session.site
    if site.nodes < 2:
        raise TestbedError("with one node there is nobody to notice a death: --nodes 2 or more")
    session.add_nodes()
    everybody = list(site.indices)
    session.start_daemons(everybody)
    time.sleep(options.settle)
    first, last, false_deaths = [], [], 0
    for turn in range(options.times):
        victim = everybody[-1 - turn % len(everybody)]
        survivors = [i for i in everybody if i != victim]
        false_deaths += sum(len(_dead(session, i)) for i in survivors)
        session.nodes[victim].kill()
        known = _wait_dead(session, survivors, f"n{victim}")
        first.append(min(known.values(), default=DETECT_SECONDS))
        last.append(max(known.values()) if len(known) == len(survivors) else DETECT_SECONDS)
        session.nodes[victim].start_daemon()
        session.nodes[victim].wait_ready()
        for i in everybody:
            session.nodes[i].wait_joined(len(everybody) - 1)
        time.sleep(options.settle)
    return {"n": site.nodes, "first_s": spread(first, 2), "last_s": spread(last, 2), "turns": options.times, "false_deaths": false_deaths}


def _dead(session: Session, index: int) -> set[str]:
    return {peer["name"] for peer in api.peers(session.nodes[index].socket) if peer["state"] == "dead"}


def _wait_dead(session: Session, survivors: list[int], name: str) -> dict[int, float]:
    known: dict[int, float] = {}
    start = time.monotonic()
    while len(known) < len(survivors) and time.monotonic() - start < DETECT_SECONDS:
        for i in survivors:
            if i not in known and name in _dead(session, i):
                known[i] = time.monotonic() - start
        time.sleep(POLL_SECONDS)
    return known


def spread(values: list[float], digits: int) -> dict[str, float]:
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }
