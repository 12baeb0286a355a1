#!/usr/bin/env python3
"""Sits where a node's exchange should be: accepts connections, and says nothing (`silent`) or random bytes (`babble`)."""

import argparse
import os
import socket
import threading
import time

BABBLE_BYTES = 4096
BABBLE_SECONDS = 0.2


def serve(connection: socket.socket, babbles: bool) -> None:
    connection.settimeout(BABBLE_SECONDS)
    try:
        while True:
            if babbles:
                connection.sendall(os.urandom(BABBLE_BYTES))
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                pass
            time.sleep(BABBLE_SECONDS)
    except OSError:
        return
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manner", choices=["silent", "babble"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    listener = socket.create_server((options.address, options.port), backlog=128)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, options.manner == "babble"), daemon=True).start()


if __name__ == "__main__":
    main()
