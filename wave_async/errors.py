"""Every error that this package raises: each holds its data and writes its sentence.

WaveError
├── ConfigError               a variable holds something that it cannot mean
├── MigrationsDisabled        up or down while WAVE_MIGRATION_ENABLED is false
├── MissingExtra              a library is not installed that an extra brings
├── DefinitionError           the list of migrations cannot be right
│   ├── InvalidMigration      one migration is malformed
│   ├── InvalidScript         a script cannot be read as SQL
│   ├── DuplicateVersion      two migrations have one version
│   ├── VersionGap            a version is missing in the list
│   ├── InvalidFiles          files cannot be read as migrations
│   ├── SourceNotFound        there are no migrations where they should be
│   └── LockMismatch          the migrations are not those of the lock file
├── HistoryError              what the database records contradicts the list
│   ├── NewerDatabase         it holds versions above everything this code knows
│   ├── UnknownMigration      it holds a version that this code does not have
│   ├── ChecksumMismatch      an applied migration was edited afterwards
│   ├── UnknownChecksum       a checksum of an algorithm that this code does not know
│   ├── OutOfOrder            a pending version lies below an applied one
│   ├── ForeignBookkeeping    schema_migrations is not ours
│   ├── InvalidRecord         a row of schema_migrations is damaged
│   ├── ValidationFailed      all of these that validate() found
│   ├── SchemaDrifted         the schema is not what the applied migrations make
│   ├── NotProven             the schema contradicts what is to be recorded
│   ├── AdoptionRefused       an untracked schema fits no version, or several
│   └── ImportRefused         another tool's bookkeeping cannot be adopted
├── PlanError                 what was asked for cannot be done
│   ├── InvalidTarget         a target version out of range
│   ├── Irreversible          a step of a rollback has no way down
│   ├── PlanChanged           somebody else migrated while a rollback ran
│   ├── SnapshotNotFound      there is no snapshot, or none of that name
│   ├── ConfirmationRequired  what is asked before it is done, and nobody confirmed
│   ├── NotAtomic             an all-or-nothing run that cannot be one transaction
│   ├── NotReplayed           a schema that cannot be drawn without rows
│   ├── ReportNotWritten      a report that cannot be written where it should
│   └── RehearsalFailed       a rehearsal on a copy went wrong
├── HookFailed                what the application does before a run went wrong
├── FleetFailed               files of a fleet failed, or it was stopped
├── WorkerLost                a process ended before it had answered for a file
├── BatchLost                 an engine over machines gave up a batch of files
├── NotPortable               something cannot be sent to a process of another machine
├── MigrationFailed           a statement failed; its migration was rolled back
├── StatementRefused          the guard refused a statement, or what it wrote
├── CascadeRefused            dropping a table would take other tables' rows along
├── RebuildRefused            a table cannot be given its new definition
├── KeysViolated              a migration left foreign keys without their rows
├── StatementTimeout          a statement ran longer than it may
├── TransactionEnded          a statement ended the engine's transaction
├── DatabaseError             the database cannot be used
│   ├── DatabaseLocked        somebody else kept the lock for too long
│   ├── NoSpace               a copy has no room on the disk
│   ├── SnapshotFailed        a snapshot cannot be taken
│   ├── SnapshotUnusable      a snapshot cannot be restored
│   ├── ClusterUnreachable    no leader of a cluster answers
│   ├── LeadKept              no other node of a cluster takes the lead
│   ├── DumpTooLarge          a cluster hands out no copy of so large a database
│   ├── ConnectionLost        the connection to a cluster's leader ended
│   └── DatabaseUnusable      missing rights, not a database, damaged, full, ...
│       └── NeedsRecovery     a crashed writer left a journal that only a writer can roll back
└── PoolError                 the pool is used in a way that cannot work
    ├── InvalidPath           no path of a database
    └── PoolDeadlock          the task already holds the pool's connection
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import dataclass_transform

LONGEST_TEXT = 300
_SHOWN_FILES = 5


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Make foreign text safe for one line of a terminal.

    Control, format and other unprintable characters are written as escapes, and what is longer than
    `longest` characters is cut.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in islice(text, longest)
    )
    return shown if len(text) <= longest else shown + "..."


def quoted(text: str, longest: int = LONGEST_TEXT) -> str:
    """Put foreign text in quotes, safe for one line of a terminal."""
    return printable(repr(text), longest)


def local_time(seconds: int) -> str:
    """Write a time of the history as people read it: local, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def byte_size(count: int) -> str:
    """Write a number of bytes as people read it."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"  # noqa: PLR2004


def _listed(versions: Iterable[int]) -> str:
    *most, last = (str(version) for version in versions)
    return f"{', '.join(most)} and {last}" if most else last


def _told(differences: Sequence[object], most: int = 5) -> str:
    more = f" and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(printable(str(found)) for found in differences[:most]) + more


@dataclass_transform(eq_default=False)
class WaveError(Exception):
    """The root: catch it to catch everything that this package raises on purpose.

    Its subclasses are built from their annotated fields, like a dataclass but without generating
    code at import. `done` holds the versions that the failed run had already finished for good.
    """

    def __init__(self, *values: object, **named: object) -> None:
        fields = self._fields()
        given = {**dict(zip(fields, values, strict=False)), **named}
        if len(given) != len(values) + len(named) or given.keys() != set(fields):
            signature = f"{type(self).__name__}({', '.join(fields)})"
            raise TypeError(signature)
        super().__init__(*(given[name] for name in fields))
        self.done: tuple[int, ...] = ()
        vars(self).update(given)

    @classmethod
    def _fields(cls) -> list[str]:
        return [
            name for kind in reversed(cls.__mro__) for name in getattr(kind, "__annotations__", {})
        ]

    def sentence(self) -> str:
        """Say what happened, to what, and what to do next."""
        return super().__str__()

    def __str__(self) -> str:
        before = f" (before that, done for good: {_listed(self.done)})" if self.done else ""
        return printable(self.sentence(), longest=4000) + before


class ConfigError(WaveError):
    """Raised when a variable holds a value that it cannot mean."""

    variable: str
    value: str
    allowed: str

    def sentence(self) -> str:
        return f"{self.variable}={quoted(self.value)} is not valid; allowed: {self.allowed}"


class MigrationsDisabled(WaveError):
    """Raised by `up` and `down` while the migration system is switched off."""

    def sentence(self) -> str:
        return "migrations are switched off: WAVE_MIGRATION_ENABLED is false; set it to true"


class MissingExtra(WaveError):
    """Raised when a library is not installed, or broken, that an extra of this package brings."""

    extra: str
    problem: str

    def sentence(self) -> str:
        return f'{self.problem}; install the extra: pip install "wave-async[{self.extra}]"'


class HookFailed(WaveError):
    """Raised when the hook before a run went wrong; the run is over before its first step."""

    problem: str

    def sentence(self) -> str:
        return f"the hook before the run failed, nothing was changed: {printable(self.problem)}"


class DefinitionError(WaveError):
    """Raised before any database is opened: the list of migrations cannot be right."""


class InvalidMigration(DefinitionError):
    """Raised when a migration is built from something that is none."""

    version: object
    problem: str

    def sentence(self) -> str:
        return f"migration {printable(repr(self.version), 80)}: {self.problem}"


class InvalidScript(DefinitionError):
    """Raised when a script cannot be read as SQL; `line` counts from 1."""

    where: str
    line: int
    problem: str

    def sentence(self) -> str:
        return f"{self.where}, line {self.line}: {self.problem}"


class DuplicateVersion(DefinitionError):
    """Raised when two migrations have one version."""

    version: int
    descriptions: tuple[str, str]

    def sentence(self) -> str:
        first, second = map(quoted, self.descriptions)
        return f"version {self.version} is used twice: {first} and {second}; renumber one"


class VersionGap(DefinitionError):
    """Raised when a numbered list jumps over a version."""

    missing: int
    following: int

    def sentence(self) -> str:
        return (
            f"migration {self.missing} is missing before {self.following}; "
            "versions are numbered without gaps"
        )


class InvalidFiles(DefinitionError):
    """Raised when files cannot be read as migrations; `files` are relative to their folder."""

    files: tuple[str, ...]
    problem: str

    def sentence(self) -> str:
        named = ", ".join(quoted(file) for file in self.files[:_SHOWN_FILES])
        more = len(self.files) - _SHOWN_FILES
        return f"{named}{f' and {more} more' if more > 0 else ''}: {self.problem}"


class SourceNotFound(DefinitionError):
    """Raised when there are no migrations where they were said to be."""

    source: str
    problem: str

    def sentence(self) -> str:
        return f"cannot load migrations from {quoted(self.source)}: {self.problem}"


class LockMismatch(DefinitionError):
    """Raised when the migrations are not those of the lock file.

    `changes` are of `wave_async.model.lock`, by version.
    """

    file: str
    changes: tuple[object, ...]

    def sentence(self) -> str:
        more = f" and {len(self.changes) - 1} more" if len(self.changes) > 1 else ""
        return (
            f"{printable(self.file)} does not fit: {self.changes[0]}{more}; "
            "undo that, or record it: wave migrate lock"
        )


class HistoryError(WaveError):
    """Raised before anything is written: the database contradicts the list of migrations."""


class NewerDatabase(HistoryError):
    """Raised when the database holds versions above everything that this code knows."""

    versions: tuple[int, ...]
    newest_known: int

    def sentence(self) -> str:
        return (
            f"the database is newer than this code: it has {_listed(self.versions)}, this code "
            f"knows migrations up to {self.newest_known}; deploy newer code, nothing was changed"
        )


class UnknownMigration(HistoryError):
    """Raised when a version is recorded that the list does not have."""

    version: int
    description: str

    def sentence(self) -> str:
        return (
            f"migration {self.version} ({printable(self.description)}) is applied, but this code "
            "does not have it; bring it back, nothing was changed"
        )


class ChecksumMismatch(HistoryError):
    """Raised when an applied migration was edited afterwards, in more than comments and layout."""

    version: int
    expected: str
    got: str

    def sentence(self) -> str:
        return (
            f"migration {self.version} checksum mismatch: expected {self.expected}, got {self.got}"
        )


class UnknownChecksum(HistoryError):
    """Raised when a recorded checksum is of an algorithm that this code does not know."""

    version: int
    checksum: str

    def sentence(self) -> str:
        return (
            f"migration {self.version} is recorded with a checksum of an unknown algorithm: "
            f"{quoted(self.checksum, 80)}; another tool or a newer release wrote it"
        )


class OutOfOrder(HistoryError):
    """Raised when a pending version lies below the newest applied one."""

    version: int
    newest: int

    def sentence(self) -> str:
        return (
            f"migration {self.version} is pending below the applied {self.newest}; renumber it, "
            "or allow it with --out-of-order (allow_out_of_order=True)"
        )


class ForeignBookkeeping(HistoryError):
    """Raised when something that is not our table has the name schema_migrations."""

    found: str

    def sentence(self) -> str:
        return (
            f"schema_migrations is not ours: {self.found}; another tool may own this database, "
            "nothing was changed. wave migrate import-history adopts dbmate's and golang-migrate's"
        )


class InvalidRecord(HistoryError):
    """Raised when a row of schema_migrations holds what this engine never writes."""

    version: object
    column: str
    value: object

    def sentence(self) -> str:
        return (
            f"schema_migrations, version {printable(repr(self.version), 80)}: {self.column} is "
            f"{printable(repr(self.value), 80)}; the row is damaged, nothing was changed"
        )


class ValidationFailed(HistoryError):
    """Raised by `validate()` with everything that it found."""

    problems: tuple[HistoryError, ...]

    @property
    def differences(self) -> tuple[object, ...]:
        """In what the schema differs, if it does."""
        drifted = (p for p in self.problems if isinstance(p, SchemaDrifted))
        return tuple(found for problem in drifted for found in problem.differences)

    def sentence(self) -> str:
        return "migration validation failed: " + "; ".join(p.sentence() for p in self.problems)


class SchemaDrifted(HistoryError):
    """Raised by `validate()` when the schema is not what the applied migrations make.

    `differences` are of `wave_async.model.difference`.
    """

    differences: tuple[object, ...]

    def sentence(self) -> str:
        return f"the schema is not what the migrations make: {_told(self.differences)}"


class NotProven(HistoryError):
    """Raised when something would be recorded that the schema contradicts, or cannot prove."""

    what: str
    differences: tuple[object, ...]

    def sentence(self) -> str:
        return (
            f"{self.what}: {_told(self.differences)}; nothing was changed. "
            "To record it all the same, on your word, say --force (force=True)"
        )


class AdoptionRefused(HistoryError):
    """Raised when an untracked schema fits no version of ours, or several."""

    fits: tuple[int, ...]
    nearest: int
    difference: str

    def sentence(self) -> str:
        if self.fits:
            why = (
                f"its schema fits versions {_listed(self.fits)} equally (data leaves no trace "
                "there)"
            )
        else:
            why = f"its schema fits no version; nearest is {self.nearest}: {self.difference}"
        return (
            f"the database has tables but no schema_migrations, and {why}; nothing was changed. "
            "If you know the version, say so: wave migrate baseline VERSION"
        )


class ImportRefused(HistoryError):
    """Raised when the bookkeeping of another tool cannot become ours."""

    tool: str
    problem: str

    def sentence(self) -> str:
        return f"the history of {self.tool} cannot be imported: {self.problem}; nothing was changed"


class PlanError(WaveError):
    """Raised when what was asked for cannot be done on this database."""


class InvalidTarget(PlanError):
    """Raised when a target version is below 0, above the newest, or above the rollout limit."""

    target: int
    problem: str

    def sentence(self) -> str:
        return f"target version {self.target} is {self.problem}"


class Irreversible(PlanError):
    """Raised before the first step of a rollback when one of its steps has no way down."""

    version: int
    description: str

    def sentence(self) -> str:
        return (
            f"migration {self.version} ({printable(self.description)}) cannot be rolled back: "
            "it has no down script; nothing was changed"
        )


class PlanChanged(PlanError):
    """Raised when the newest applied version is no longer the one that a rollback came for."""

    expected: int
    found: int | None

    def sentence(self) -> str:
        found = "nothing" if self.found is None else f"migration {self.found}"
        return (
            f"the rollback stopped before migration {self.expected}: somebody else migrated "
            f"meanwhile, {found} is the newest now; look at the status and try again"
        )


class SnapshotNotFound(PlanError):
    """Raised by `undo` where there is no snapshot of the database, or none of that name."""

    name: str | None
    directory: str

    def sentence(self) -> str:
        what = "no snapshot" if self.name is None else f"no snapshot {quoted(self.name)}"
        return (
            f"there is {what} in {printable(self.directory)}; `wave migrate snapshots` lists them"
        )


class ConfirmationRequired(PlanError):
    """Raised where somebody is to be asked and there is no terminal to ask on; `what` says why."""

    what: str

    def sentence(self) -> str:
        return f"{self.what} and there is no terminal to ask on; say --yes"


class NotAtomic(PlanError):
    """Raised by an all-or-nothing run that cannot be one transaction; nothing was changed."""

    version: int
    problem: str

    def sentence(self) -> str:
        return (
            f"migration {self.version} cannot be in one transaction with the others: "
            f"{self.problem}; migrate up to it without --atomic"
        )


class NotReplayed(PlanError):
    """Raised when the schema at a version is asked for that no replay in memory makes."""

    version: int
    unproven: int

    def sentence(self) -> str:
        return (
            f"the schema at version {self.version} is not known: migration {self.unproven} cannot "
            "be replayed without rows"
        )


class ReportNotWritten(PlanError):
    """Raised when a report cannot be written where it should; what was there stays."""

    path: str
    problem: str

    def sentence(self) -> str:
        return f"the report cannot be written to {quoted(self.path)}: {self.problem}"


class RehearsalFailed(PlanError):
    """Raised instead of a run whose rehearsal on a copy went wrong."""

    problem: str

    def sentence(self) -> str:
        return f"the rehearsal failed, nothing was changed: {self.problem}"


class FleetFailed(WaveError):
    """Raised at the end of a command on a fleet of which files failed.

    `stopped` is what did not let it go on with the `left` ones, empty if nothing did.
    """

    failed: int
    total: int
    stopped: str
    left: int

    def sentence(self) -> str:
        why = f"; stopped by {self.stopped}, {self.left} not begun" if self.stopped else ""
        return f"{self.failed} of {self.total} file(s) failed{why}"


class WorkerLost(WaveError):
    """The error of a file whose process has ended without an answer; run it again."""

    code: int

    def sentence(self) -> str:
        return f"the process that had it ended with {self.code}; what was not finished is undone"


class BatchLost(WaveError):
    """The error of a file whose batch was given up, `reason` says why; run it again."""

    reason: str

    def sentence(self) -> str:
        return f"the batch that it was in was given up: {printable(self.reason)}"


class NotPortable(WaveError):
    """Raised for a migration or an option that cannot be sent to a worker, before anything is."""

    reason: str

    def sentence(self) -> str:
        return (
            f"workers cannot be sent this: {printable(self.reason)}; a function has to be at the "
            "top of a module that they can import"
        )


class MigrationFailed(WaveError):
    """Raised when a migration fails; it was rolled back, and `__cause__` is what failed.

    `version` is None when no migration failed but another script, which `description` names.
    `number` and `line` count from 1 and are None when no statement of the script failed but the
    engine's own (then `statement` says which).
    """

    version: int | None
    description: str
    direction: str
    number: int | None
    line: int | None
    statement: str
    reason: str

    def sentence(self) -> str:
        what, place = printable(self.description), f"{self.direction} script"
        if self.version is not None:
            what = f"migration {self.version} ({what})"
        if self.number is not None:
            place += f", statement {self.number}, line {self.line}"
        return (
            f"{what} failed and was rolled back: {place}: "
            f"{printable(self.statement, 80)}: {self.reason}"
        )


class StatementRefused(WaveError):
    """Raised when the guard refuses a statement of a migration, or what it wrote."""

    what: str
    why: str

    def sentence(self) -> str:
        return f"{self.what} is not allowed in a migration: {self.why}"


class CascadeRefused(WaveError):
    """Raised before a statement drops a table that rows of other tables refer to.

    `children` holds the name of each such table and how many of its rows would be lost or changed.
    """

    table: str
    children: tuple[tuple[str, int], ...]

    def sentence(self) -> str:
        rows = ", ".join(f"{printable(name)} ({count:,} row(s))" for name, count in self.children)
        return (
            f"dropping {printable(self.table)} would delete or change the rows that refer to it: "
            f"{rows}; say foreign_keys=off to rebuild the table, cascade=allowed to lose the rows"
        )


class RebuildRefused(WaveError):
    """Raised by `rebuild_table` when a table cannot be given its new definition."""

    table: str
    problem: str

    def sentence(self) -> str:
        return f"cannot rebuild {printable(self.table)}: {printable(self.problem)}"


class KeysViolated(WaveError):
    """Raised at the end of a migration that ran without enforced keys and broke some.

    `violations` holds child table, parent table, and how many rows more than before lack theirs
    (0: the parent table itself is gone).
    """

    violations: tuple[tuple[str, str, int], ...]

    def sentence(self) -> str:
        shown = ", ".join(
            f"{printable(child)} -> {printable(parent)} "
            + (f"({count:,} new)" if count else "(no such table)")
            for child, parent, count in self.violations
        )
        return f"foreign keys are violated: {shown}"


class StatementTimeout(WaveError):
    """Raised when a statement of a migration runs longer than `seconds`."""

    seconds: float

    def sentence(self) -> str:
        return f"it was ended after {self.seconds:g} s (statement_timeout)"


class TransactionEnded(WaveError):
    """Raised when a statement ended the engine's transaction by itself."""

    def sentence(self) -> str:
        return "the statement ended the migration's transaction (ROLLBACK as a conflict clause?)"


class DatabaseError(WaveError):
    """Raised when the database cannot be used."""


class DatabaseLocked(DatabaseError):
    """Raised when somebody else kept the database locked for `waited` seconds."""

    waited: float

    def sentence(self) -> str:
        return (
            f"database is locked: another process has been using it for {self.waited:g} s; "
            "try again when it is done"
        )


class NoSpace(DatabaseError):
    """Raised before a copy is made: `needed` bytes, but only `free` ones are left."""

    directory: str
    needed: int
    free: int

    def sentence(self) -> str:
        return (
            f"no room for a copy in {printable(self.directory)}: it needs "
            f"{byte_size(self.needed)}, {byte_size(self.free)} are free; make space, or name "
            "another directory"
        )


class SnapshotFailed(DatabaseError):
    """Raised where a snapshot cannot be taken; nothing was changed."""

    directory: str
    reason: str

    def sentence(self) -> str:
        return (
            f"cannot take a snapshot in {printable(self.directory)}: {self.reason}; nothing was "
            "changed. Name another directory with --snapshot-dir, or go without: --no-snapshot"
        )


class SnapshotUnusable(DatabaseError):
    """Raised where a snapshot cannot be restored; nothing was changed."""

    path: str
    reason: str

    def sentence(self) -> str:
        return f"cannot restore snapshot {printable(self.path)}: {self.reason}; nothing was changed"


class ClusterUnreachable(DatabaseError):
    """Raised when no leader of a cluster has answered for `waited` seconds; nothing was sent."""

    path: str
    waited: float
    problem: str

    def sentence(self) -> str:
        answers = f"has answered for {self.waited:g} s" if self.waited else "answers"
        return f"no leader of {printable(self.path)} {answers}: {printable(self.problem)}"


class LeadKept(DatabaseError):
    """Raised where no other voter of a cluster takes the lead from `leader`."""

    leader: str
    problem: str

    def sentence(self) -> str:
        return f"{printable(self.leader)} still leads the cluster: {printable(self.problem)}"


class DumpTooLarge(DatabaseError):
    """Raised where a cluster's database is to be copied and is larger than a message may be."""

    path: str
    size: int
    largest: int

    def sentence(self) -> str:
        return (
            f"{printable(self.path)} has {byte_size(self.size)}, and a cluster hands out at most "
            f"{byte_size(self.largest)}, its log included; rehearse without rows"
        )


class ConnectionLost(DatabaseError):
    """Raised when the connection to a cluster's leader ended before a statement was answered.

    What was not committed is rolled back. `in_doubt` says that it was a COMMIT, which may have
    applied: the engine looks it up, and leaves it open only where the cluster stays away.
    """

    path: str
    problem: str
    in_doubt: bool

    def sentence(self) -> str:
        what = "the last COMMIT may have applied" if self.in_doubt else "nothing was committed"
        return (
            f"the connection to {printable(self.path)} was lost: {printable(self.problem)}; "
            f"{what}: run it again, it looks at the history first"
        )


class DatabaseUnusable(DatabaseError):
    """Raised when a path cannot be used as a database; `reason` says why."""

    path: str
    reason: str

    def sentence(self) -> str:
        return f"cannot use database {printable(self.path)}: {self.reason}"


class NeedsRecovery(DatabaseUnusable):
    """Raised by a question: only a connection that may write can read this database."""


class PoolError(WaveError):
    """Raised when the pool is used in a way that cannot work."""


class InvalidPath(PoolError):
    """Raised when a database is named by something that is no path."""

    path: str
    problem: str

    def sentence(self) -> str:
        return f"{quoted(self.path)} is not a path of a database: {self.problem}"


class PoolDeadlock(PoolError):
    """Raised when a task that holds the pool's connection asks for it again."""

    def sentence(self) -> str:
        return (
            "this task already holds the pool's connection (pool.acquire()) and would wait for "
            "itself; leave the block first"
        )
