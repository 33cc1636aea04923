"""The group of commands: what was said before a command, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import asyncclick as click
from asyncclick.core import ParameterSource

from wave_async.cli.voice import voiced
from wave_async.config import MigrationConfig
from wave_async.definitions import MIGRATIONS
from wave_async.errors import ConfigError
from wave_async.model.migration import Migration
from wave_async.runner import MigrationRunner
from wave_async.sources.load import load_migrations
from wave_async.sources.settings import read_settings, resolve

DATABASE = ".wave/state.db"
COMMANDS = {
    "look": ("status", "validate", "log", "snapshots"),
    "foresee": ("plan", "rehearse", "verify"),
    "adopt": ("import-history",),
    "change": ("up", "down", "undo", "baseline", "repair"),
    "files": ("new", "lock"),
    "fleet": ("fleet",),
    "pictures": ("diagram", "report"),
    "cluster": ("unlock",),
}
"""The commands in each module of this package; only the named one's module is imported."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the command, by its options or their variables."""

    said: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """Lay what was said over `[tool.wave]`, and that over the defaults."""
        return {"database": DATABASE, **read_settings(), **self.said}

    @property
    def has_guessed(self) -> bool:
        """Whether a database was named, but no migrations."""
        return "database" in self.said and "migrations" not in self.settings()

    def runner(self, **options: Any) -> MigrationRunner:
        """Open the database and the migrations that were named."""
        settings = self.settings()
        return self._opened(settings, self.migrations(settings), options)

    def without_migrations(self) -> MigrationRunner:
        """Open the database that was named, for who knows no migrations yet."""
        return self._opened(self.settings(), (), {})

    def _opened(
        self, settings: dict[str, Any], migrations: Iterable[Migration], options: dict[str, Any]
    ) -> MigrationRunner:
        config = MigrationConfig.from_env()
        options = {**options, **self.functions(settings)}
        return MigrationRunner(settings["database"], migrations, config=config, **options)

    def functions(self, settings: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
        """Find the functions of the project that were named."""
        named = settings.keys() & {"setup", "before"}
        return {key: resolve(key, settings[key]) for key in named}

    def migrations(self, settings: Mapping[str, Any]) -> Iterable[Migration]:
        """Load the migrations that were named, Wave's own if none were."""
        if "migrations" in settings:
            return load_migrations(
                settings["migrations"],
                format=settings.get("format"),
                placeholders=settings.get("placeholders"),
            )
        if "format" in settings:
            raise ConfigError("--format", settings["format"], "only for migrations in files")
        return MIGRATIONS


def _completed_by(name: str) -> Callable[..., Any]:
    """Return what completes a word, by a function that is imported when a shell asks."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> Any:
        return getattr(import_module(f"{__package__}.completion"), name)(incomplete)

    return complete


@click.group()
@click.version_option(package_name="wave-async", message="%(prog)s %(version)s")
def cli() -> None:
    """Migrations for SQLite."""


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL has to read to complete commands.

    For example, in ~/.bashrc: eval "$(wave completion bash)"; in ~/.zshrc, after compinit:
    eval "$(wave completion zsh)"; in ~/.config/fish/config.fish: wave completion fish | source
    """
    print(import_module(f"{__package__}.completion").script(cli, shell))


class _Commands(click.Group):
    """Imports a command when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all."""
        return sorted(name for names in COMMANDS.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, or None if there is none of that name."""
        for module, names in COMMANDS.items():
            if cmd_name in names:
                found = import_module(f"{__package__}.{module}")
                wanted: click.Command = getattr(found, cmd_name.replace("-", "_"))
                return wanted
        return None


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of where things are; a command has them, too, and what it is told counts."""
    option = partial(click.option, expose_value=False, callback=_place)
    for add in (
        option(
            "--migrations",
            metavar="SOURCE",
            envvar="WAVE_MIGRATIONS",
            show_envvar=True,
            shell_complete=_completed_by("files"),
            help="Where the migrations are: a folder, a .py file with MIGRATIONS, package:NAME or "
            "module:attribute; if not given, the five that Wave ships for its own state.",
        ),
        option(
            "--database",
            metavar="PATH",
            envvar="WAVE_DATABASE",
            show_envvar=True,
            shell_complete=_completed_by("files"),
            help=f"The database; {DATABASE} if not given.",
        ),
    ):
        function = add(function)
    return function


def _place(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    name, said = str(parameter.name), context.obj.said if context.obj else {}
    by_variable = context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    if value is not None and not (by_variable and name in said):
        context.obj = Options({**said, name: value})


@cli.group(cls=_Commands)
@placed
@click.option(
    "--format",
    metavar="NAME",
    expose_value=False,
    callback=_place,
    shell_complete=_completed_by("formats"),
    help="The format of the folder, goose say; found out if not given.",
)
@voiced
@click.pass_context
def migrate(context: click.Context, /) -> None:
    """Look at the version of a database, and change it.

    What is not given is taken from [tool.wave] of the nearest pyproject.toml.
    """
    context.obj = context.obj or Options({})
