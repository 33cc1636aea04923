"""A virtual environment for each peer, made once and kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from rows import Failed, last_line

PATIENCE = 600


def cache() -> Path:
    """Return where the environments are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "wave-async-benchmarks")


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the folder of a peer's programs, made if it is not there. Raises `Failed`.

    What is half made has another name until it is whole.
    """
    pins = sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    place = cache() / f"{name}-{pins}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        python = str(place / "bin" / "python")
        call(sys.executable, "-m", "venv", str(place))
        call(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
        frozen = call(python, "-m", "pip", "freeze", "--disable-pip-version-check")
        (place / "complete").write_text(frozen, encoding="utf-8")
    return place / "bin"


def versions(programs: Path) -> list[str]:
    """Return what is installed in an environment."""
    return (programs.parent / "complete").read_text(encoding="utf-8").splitlines()


def call(*command: str) -> str:
    """Run a step of making an environment. Raises `Failed`."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise Failed(f"cannot be installed: {last_line(done.stderr)}")
    return done.stdout
