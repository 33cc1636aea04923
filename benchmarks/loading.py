"""What loading files costs: all of `load_migrations`, beside reading and hashing the same files.

The limit is what no loader can leave out: listing the folder, reading each file, and the digest by
which an unchanged script is recognised. Run it with `python benchmarks/loading.py [ROUNDS]`.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wave_async import load_migrations
from wave_async.model.catalogue import Catalogue
from wave_async.model.script import text_digest

FILES = 1000
UP = (
    "-- A table and its index.\n"
    "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
    "CREATE INDEX i{n} ON t{n} (name);\n"
)
DOWN = "DROP TABLE t{n};\n"
FORMATS = {
    "pairs": {"{n:04}_t.up.sql": UP, "{n:04}_t.down.sql": DOWN},
    "single": {"{n:04}_t.sql": UP},
    "goose": {"{n:04}_t.sql": "-- +goose Up\n" + UP + "-- +goose Down\n" + DOWN},
    "prisma": {"{n:04}_t/migration.sql": UP},
    "flyway": {"V{n}__t.sql": UP},
}


def write(folder: Path, files: dict[str, str]) -> None:
    for n in range(1, FILES + 1):
        for name, text in files.items():
            path = folder / name.format(n=n)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.format(n=n))


def limit(folder: Path) -> None:
    for path in sorted(folder.rglob("*.sql")):
        text_digest(path.read_bytes().decode())


def load(folder: Path) -> None:
    for entry in Catalogue(load_migrations(folder)).entries.values():
        assert entry.text_digest


def prove(folder: Path) -> None:
    Catalogue(load_migrations(folder)).prove()


def timed(job: Callable[[Path], None], folder: Path) -> float:
    start = time.perf_counter()
    job(folder)
    return time.perf_counter() - start


def measure(name: str, rounds: int) -> None:
    jobs = {"limit": limit, "load": load, "load and split": prove}
    seconds: dict[str, list[float]] = {job: [] for job in jobs}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), FORMATS[name])
        for number in range(rounds + 1):  # the first round warms up
            for job, call in jobs.items():
                took = timed(call, Path(folder))
                if number:
                    seconds[job].append(took)
    shown = ", ".join(f"{j} {statistics.median(s) * 1e3:.0f} ms" for j, s in seconds.items())
    shares = [1 - n / s for s, n in zip(seconds["load"], seconds["limit"], strict=True)]
    print(f"  {name:7} {shown}; outside reading and hashing {statistics.median(shares):.0%}")


def imports(rounds: int) -> None:
    def took(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    pairs = [
        (took("import wave_async"), took("import wave_async.sources.find")) for _ in range(rounds)
    ]
    more = statistics.median(formats - door for door, formats in pairs)
    print(f"\nimporting the formats: {more * 1e3:.0f} ms more than wave_async alone")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print(f"\nload {FILES} migrations, median of {rounds} rounds in turn")
    for name in FORMATS:
        measure(name, rounds)
    imports(rounds)


if __name__ == "__main__":
    main()
