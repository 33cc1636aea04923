"""Runs a command and prints, as the last line, its seconds, its seconds of processor, its peak."""

import os
import sys
import time

quiet = os.open(os.devnull, os.O_WRONLY)
start = time.perf_counter()
pid = os.posix_spawnp(
    sys.argv[1],
    sys.argv[1:],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)],
)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
print([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit])
sys.exit(os.waitstatus_to_exitcode(status) and 1)
