"""The migrations that every row applies, as plain statements."""

from __future__ import annotations

from dataclasses import dataclass

from wave_async.definitions import MIGRATIONS

ROWS = 10_000
TABLES = 5_000
HEAVY = 1_000


@dataclass(frozen=True)
class Step:
    """One migration: its number, its name, its statements without semicolons, and its way back."""

    version: int
    name: str
    up: tuple[str, ...]
    down: tuple[str, ...]

    @property
    def script(self) -> str:
        """All statements as one script."""
        return "".join(f"{statement};\n" for statement in self.up)

    @property
    def back(self) -> str:
        """The way back as one script."""
        return "".join(f"{statement};\n" for statement in self.down)


@dataclass(frozen=True)
class Workload:
    """A set of migrations; a heavy one takes seconds, and fewer rounds are enough for it."""

    name: str
    steps: tuple[Step, ...]
    heavy: bool = False

    @property
    def tables(self) -> int:
        """How many tables are there in the end."""
        return sum(s.startswith("CREATE TABLE") for step in self.steps for s in step.up)


def split(script: object) -> tuple[str, ...]:
    """Split a script of Wave's own, which has no semicolon inside a statement."""
    return tuple(part.strip() for part in str(script).split(";\n") if part.strip())


def table(number: int) -> str:
    """Return a table of the usual size."""
    return f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"


def wave() -> Workload:
    """Return Wave's five."""
    steps = [Step(m.version, f"wave_{m.version}", split(m.up), split(m.down)) for m in MIGRATIONS]
    return Workload("Wave's five", tuple(steps))


def generated(count: int) -> Workload:
    """Return migrations of two statements each."""
    return Workload(
        f"{count:,} of two statements",
        tuple(
            Step(
                n,
                f"add_t{n}",
                (table(n), f"CREATE INDEX i{n} ON t{n} (name)"),
                (f"DROP TABLE t{n}",),
            )
            for n in range(1, count + 1)
        ),
        heavy=count >= HEAVY,
    )


def filling() -> Workload:
    """Return 100 migrations that write 10,000 rows each."""
    counted = f"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {ROWS})"
    return Workload(
        f"100 that write {ROWS:,} rows",
        tuple(
            Step(
                n,
                f"fill_t{n}",
                (table(n), f"INSERT INTO t{n} (name) {counted} SELECT 'row ' || x FROM c"),
                (f"DROP TABLE t{n}",),
            )
            for n in range(1, 101)
        ),
        heavy=True,
    )


def big_schema() -> Workload:
    """Return 50 migrations of 100 tables each."""
    each = 100
    return Workload(
        f"a schema of {TABLES:,} tables",
        tuple(
            Step(
                n,
                f"tables_{n}",
                tuple(table((n - 1) * each + t) for t in range(1, each + 1)),
                tuple(f"DROP TABLE t{(n - 1) * each + t}" for t in range(1, each + 1)),
            )
            for n in range(1, TABLES // each + 1)
        ),
        heavy=True,
    )
