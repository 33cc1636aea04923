"""The command line: parse, call, print, exit code; decides nothing.

Exit codes: 0 done or nothing to do, 1 refused or failed, 2 usage, 3 `status --check` found pending
migrations, 130 and 143 ended by SIGINT and SIGTERM.
"""

from wave_async.cli.group import cli
from wave_async.cli.process import main

__all__ = ["cli", "main"]
