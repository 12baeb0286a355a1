#!/usr/bin/env python3
"""Relays Ethernet frames between two interfaces, each way later by half the round trip, some of them lost (seeded)."""

import argparse
import collections
import random
import select
import socket
import time

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
# At the limit, further frames are dropped, as a router with a full queue would.
QUEUE_FRAMES = 20000
SOCKET_BUFFER_BYTES = 4 << 20


def open_interface(name: str) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    link.bind((name, ETH_P_ALL))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    link.setblocking(False)
    return link


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ends", nargs=2)
    parser.add_argument("--delay-ms", type=float, default=0, help="round trip added by the line")
    parser.add_argument("--loss", type=float, default=0, help="probability that a frame is lost, each way")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    one_way = options.delay_ms / 2000
    chance = random.Random(options.seed)
    links = [open_interface(name) for name in options.ends]
    other = {links[0]: links[1], links[1]: links[0]}
    waiting: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
    print("ready", flush=True)
    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for link in select.select(links, [], [], pause)[0]:
            try:
                while True:
                    frame, source = link.recvfrom(65536)
                    if source[2] == PACKET_OUTGOING or chance.random() < options.loss or len(waiting) >= QUEUE_FRAMES:
                        continue
                    waiting.append((time.monotonic() + one_way, other[link], frame))
            except BlockingIOError:
                pass
        while waiting and waiting[0][0] <= time.monotonic():
            _, link, frame = waiting.popleft()
            try:
                link.send(frame)
            except OSError:
                pass  # the far end is down: the frame is lost, as on a cut line


if __name__ == "__main__":
    main()
