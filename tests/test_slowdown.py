"""What the engine does is counted, so that a slowdown fails on any machine, however busy it is.

A budget is what was counted when it was written, and about 30 % more: noise cannot reach it, a
doubling does. Who needs more for a good reason raises it in the same commit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNTED = Path(__file__).with_name("counted.py")
STATUS = """
import sys
before = set(sys.modules)
from wave_async.cli import main
sys.argv = ["wave", "migrate", "--database", "none.db", "status"]
try:
    main()
except SystemExit:
    pass
print(*sorted(set(sys.modules) - before))
"""
BUDGETS = {
    "up": {"calls": 75_000, "statements": 950},  # 100 migrations: 58,301 and 730
    "check": {"calls": 12_000, "statements": 520},  # 100 times nothing to do: 9,200 and 400
}
"""The counts differ by less than 3 % between the versions of Python."""
MODULES = 44
"""How many modules of its own `wave migrate status` may import; it took 34."""
NOT_FOR_STATUS = (
    "anyio._backends",
    "email",
    "http",
    "importlib.metadata",
    "tomllib",
    "unittest",
    "wave_async.model.ddl",
    "wave_async.model.difference",
    "wave_async.model.schema",
    "wave_async.safety.",
    "wave_async.sources.find",
    "zipfile",
)


def ran(folder: Path, *command: str) -> str:
    """Run Python in a folder, without what measures coverage in it; return its last line."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("COV")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("job", BUDGETS)
def test_the_engine_keeps_to_its_budget(job: str, tmp_path: Path) -> None:
    """Applying and the check take no more than they took, and a doubling would be seen."""
    found = json.loads(ran(tmp_path, str(COUNTED), job))
    for name, budget in BUDGETS[job].items():
        assert found[name] <= budget, f"{job}: more {name}"
        assert 2 * found[name] > budget, f"{job}: far fewer {name}, so lower their budget"


def test_a_status_imports_no_more_than_it_uses(tmp_path: Path) -> None:
    """The rooms and the modules that only others need are left out of a start."""
    imported = ran(tmp_path, "-c", STATUS).split()
    own = [name for name in imported if name.partition(".")[0] == "wave_async"]
    assert len(own) <= MODULES < 2 * len(own)
    assert not [name for name in imported if name.startswith(NOT_FOR_STATUS)]
