"""Tortoise ORM on a file that wave-async migrates: `python with_tortoise.py`."""

import asyncio
from pathlib import Path

from tortoise import Tortoise, fields
from tortoise.models import Model

from wave_async import SingleConnectionPool, load_migrations, migrate_on_startup

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")


class Team(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=200, unique=True)


class Person(Model):
    id = fields.IntField(primary_key=True)
    name = fields.TextField()
    email = fields.TextField(null=True)
    team: fields.ForeignKeyRelation[Team] = fields.ForeignKeyField(
        "models.Team", related_name="people"
    )


async def main() -> None:
    async with SingleConnectionPool("app.db") as pool:
        await migrate_on_startup(pool, MIGRATIONS)
    await Tortoise.init(db_url="sqlite://app.db", modules={"models": [__name__]})
    team = await Team.create(name="Engines")
    await Person.create(name="Ada", team=team)
    print(*await Person.all().values_list("name", flat=True))
    await team.delete()
    print(await Person.all().count())
    await Tortoise.close_connections()


if __name__ == "__main__":
    asyncio.run(main())
