#!/usr/bin/env python3
"""Sends GETs from inside the network until its standard input ends; runs in a container.

    python3 compose_client.py CONNECTIONS PER_SECOND TARGET...

For each target so many connections, which share that target's rate. Twice a second a line of JSON:
target → backend that answered (or `error: …`) → how many so far. It needs nothing but Python.
"""

import collections
import http.client
import json
import sys
import threading
import time

TIMEOUT_S = 5


def send(target: str, interval_s: float, counts: collections.Counter, stop: threading.Event):
    """One connection's requests, at a fixed pace, for as long as nobody stops it."""
    connection = None
    due = time.monotonic()
    while not stop.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + interval_s, time.monotonic() - 1)
        try:
            if connection is None:
                connection = http.client.HTTPConnection(target, timeout=TIMEOUT_S)
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            good = answer.status == 200
            word = answer.headers.get("x-backend", "nobody") if good else f"error: {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            word = f"error: {type(error).__name__}"
            if connection is not None:
                connection.close()
            connection = None
        counts[word] += 1


def main() -> int:
    """The command line; see the top of the file."""
    connections, per_second, targets = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    stop = threading.Event()
    # One table for each connection: only its thread writes to it.
    tables = {target: [collections.Counter() for _ in range(connections)] for target in targets}
    threads = [
        threading.Thread(target=send, args=(target, connections / per_second, table, stop))
        for target in targets for table in tables[target]
    ]
    for thread in threads:
        thread.start()
    reader = threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True)
    reader.start()
    while not stop.wait(0.5):
        report(tables)
    for thread in threads:
        thread.join()
    report(tables)
    return 0


def report(tables: dict[str, list[collections.Counter]]) -> None:
    """One line with all that has been counted."""
    sums = {
        target: dict(sum((table.copy() for table in each), collections.Counter()))
        for target, each in tables.items()
    }
    print(json.dumps(sums), flush=True)


if __name__ == "__main__":
    sys.exit(main())
