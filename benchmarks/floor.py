"""The floor of the stack: an asyncclick command that awaits one SELECT of aiosqlite."""

from __future__ import annotations

import aiosqlite
import asyncclick as click


@click.command()
@click.argument("database")
async def floor(database: str) -> None:
    """Print how many tables a database has."""
    async with (
        aiosqlite.connect(database) as connection,
        connection.execute("SELECT count(*) FROM sqlite_schema") as cursor,
    ):
        click.echo(await cursor.fetchone())


if __name__ == "__main__":
    floor()
