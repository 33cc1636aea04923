"""A journal for many tenants, each in a database file of its own.

`journal.py FOLDER write` takes lines such as `acme: the van is back` from its input, and
`journal.py FOLDER migrate` brings every file of the folder up to date.
"""

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from wave_async import SingleConnectionPool, WaveError, load_migrations, migrate_on_startup

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")
AT_ONCE = 8
"""How many files are migrated at a time: each has a thread and open files."""

INSERT = "INSERT INTO entry (text, written_at) VALUES (?, ?)"
LINE = re.compile(r"(?P<tenant>[a-z][a-z0-9-]*): *(?P<text>.+)\n?")


class Tenants(AsyncExitStack):
    """The open databases of a folder; each is migrated when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._opening: dict[str, asyncio.Task[SingleConnectionPool]] = {}

    async def pool(self, tenant: str) -> SingleConnectionPool:
        """Return a tenant's pool; many tasks may ask for one at once, and one of them migrates."""
        if tenant not in self._opening:
            self._opening[tenant] = asyncio.create_task(self._open(tenant))
        return await asyncio.shield(self._opening[tenant])

    async def _open(self, tenant: str) -> SingleConnectionPool:
        pool = SingleConnectionPool(self._folder / f"{tenant}.db")
        await self.enter_async_context(pool)
        await migrate_on_startup(pool, MIGRATIONS)
        return pool


async def write(folder: Path, lines: Iterable[str]) -> bool:
    """Write every line into the journal of its tenant; False if one could not be written."""
    written: Counter[str] = Counter()
    problems: list[str] = []

    async def entry(line: str) -> None:
        if not (match := LINE.fullmatch(line)):
            problems.append(f"not understood: {line!r}")
            return
        try:
            pool = await tenants.pool(match["tenant"])
            async with pool.acquire() as connection:
                values = match["text"], int(time.time())
                await connection.execute(INSERT, values)
        except WaveError as error:
            problems.append(f"{match['tenant']}: {error}")
        else:
            written[match["tenant"]] += 1

    async with Tenants(folder) as tenants, asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(entry(line))
    for tenant, count in sorted(written.items()):
        print(f"{tenant}: {count} written")
    for problem in problems:
        print(problem, file=sys.stderr)
    return not problems


async def migrate(files: Iterable[Path]) -> bool:
    """Migrate every file, some at a time; one that fails does not stop the others: False."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(file: Path) -> tuple[str, str]:
        async with turn, SingleConnectionPool(file) as pool:
            try:
                report = await migrate_on_startup(pool, MIGRATIONS)
            except WaveError as error:
                return "", f"{file.stem}: {error}"
        return f"{file.stem}: {len(report.done.steps)} applied", ""

    outcomes = await asyncio.gather(*map(one, files))
    for done, problem in outcomes:
        print(done or problem, file=sys.stderr if problem else sys.stdout)
    return not any(problem for _, problem in outcomes)


def main(arguments: list[str]) -> int:
    """Run a command; answers the exit code."""
    match arguments:
        case [folder, "write"]:
            return not asyncio.run(write(Path(folder), sys.stdin))
        case [folder, "migrate"]:
            return not asyncio.run(migrate(sorted(Path(folder).glob("*.db"))))
    print("usage: journal.py FOLDER write|migrate", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
