"""A process of the kill test: migrates up a cluster's database, and says what it has done."""

from __future__ import annotations

import asyncio
import sys

from wave_async import Event, Migration, MigrationManager, StepFinished
from wave_async.database.dqlite import DqlitePool

COUNT = 100


def migrations() -> list[Migration]:
    """Return migrations that would show if one ran twice, or not at all."""
    first = "CREATE TABLE done (version INTEGER NOT NULL, at TEXT);"
    return [
        Migration(n, f"Step {n}", (first if n == 1 else "") + f"INSERT INTO done VALUES ({n}, '');")
        for n in range(1, COUNT + 1)
    ]


async def main(url: str) -> None:
    """Migrate, and print how many steps this process has done, and how many were confirmed."""
    confirmed = 0

    def hear(event: Event) -> None:
        nonlocal confirmed
        if isinstance(event, StepFinished):
            confirmed += event.confirmed

    async with DqlitePool(url) as pool:
        done = await MigrationManager(pool, migrations(), on_event=hear).migrate_up()
    sys.stdout.write(f"{len(done.steps)} {confirmed}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
