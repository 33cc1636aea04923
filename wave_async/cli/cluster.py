"""The command for a cluster alone: unlock."""

from __future__ import annotations

import asyncclick as click

from wave_async.cli.command import command, print_json
from wave_async.cli.group import Options
from wave_async.cli.terminal import confirmed
from wave_async.cli.voice import good, remark, say, waiting
from wave_async.database.pool import open_cluster

_WHAT = "another node will lead, and what runs now is rolled back"


@command
@click.option("--yes", is_flag=True, help="Do not ask.")
async def unlock(options: Options, *, as_json: bool, yes: bool) -> None:
    """Free the lock that a hung client holds on a cluster: another node takes the lead."""
    async with open_cluster(options.settings()["database"]) as pool:
        if not yes:
            if not as_json:
                say(waiting(f"WARNING: {_WHAT[0].upper()}{_WHAT[1:]}."))
            if not await confirmed(as_json=as_json, what=_WHAT):
                say("Unlock cancelled")
                return
        before, after = await pool.unlock()
    if as_json:
        print_json({"led": before, "leads": after})
    else:
        remark(good(f"{after} leads now, instead of {before}"))
