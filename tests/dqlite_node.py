"""One node of a dqlite cluster, as a process: `dqlite_node.py ID ADDRESS DIRECTORY`."""

from __future__ import annotations

import ctypes
import signal
import sys

LATENCY = 20
"""What the network takes, in milliseconds; timeouts follow from it, and a test machine is slow."""


def main(number: int, address: str, directory: str) -> None:
    """Run a node until the process is ended; prints `ready` when it listens."""
    library = ctypes.CDLL("libdqlite.so.0")
    node = ctypes.c_void_p()
    library.dqlite_node_create.argtypes = [
        ctypes.c_ulonglong,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_void_p),
    ]
    place = directory.encode()
    _check(library.dqlite_node_create(number, address.encode(), place, ctypes.byref(node)))
    _check(library.dqlite_node_set_bind_address(node, address.encode()))
    _check(library.dqlite_node_set_network_latency_ms(node, LATENCY))
    _check(library.dqlite_node_start(node))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.pause()


def _check(code: int) -> None:
    if code:
        sys.exit(f"libdqlite: {code}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
