"""What is decided about a database: where it stands, what contradicts it, what runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import pytest
from conftest import numbered
from hypothesis import given, settings
from hypothesis import strategies as st

from wave_async.errors import InvalidScript, Irreversible, OutOfOrder, WaveError
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.migration import AppliedMigration, Direction, Migration, Step
from wave_async.model.plan import MigrationStatus, Plan, Rules, State, Status

PROFILE = settings(
    deadline=None, derandomize=True, max_examples=int(os.environ.get("WAVE_EXAMPLES", "100"))
)

FIVE = Catalogue([*numbered(3), Migration(4, "Merge t3", "SELECT 4"), Migration(5, "Add t5", "")])
"""Migrations 1 to 3 can be rolled back, 4 and 5 cannot."""
EMPTY = Catalogue([])
Decision = Callable[[Catalogue, Sequence[AppliedMigration], int, Rules], Iterable[Entry]]
RULES = Rules()
ANY_ORDER = Rules(allow_out_of_order=True)
UNCHECKED = Rules(check_checksums=False)


def record(version: int, checksum: str | None = None) -> AppliedMigration:
    """Return a row of the history; without a checksum it has the one of the code."""
    entry = FIVE.entries.get(version)
    own = entry.checksum if entry else "w1:a:b"
    return AppliedMigration(version, f"Recorded {version}", 1000 + version, checksum or own)


def history(*versions: int) -> list[AppliedMigration]:
    """Return the rows of some versions that were applied and never edited."""
    return [record(version) for version in versions]


def versions(entries: Iterable[Entry]) -> list[int]:
    """Return what is compared of a decision."""
    return [entry.version for entry in entries]


def edited(version: int, *, tokens: bool) -> AppliedMigration:
    """Return a row whose script was edited since: in a token, or in its layout only."""
    algorithm, digest, _ = FIVE.entries[version].checksum.split(":")
    return record(version, f"{algorithm}:{'0' * 64 if tokens else digest}:{'1' * 64}")


GOT = FIVE.entries[2].checksum[3:15]
MISMATCH = f"migration 2 checksum mismatch: expected 000000000000, got {GOT}"
NEWER = (
    "the database is newer than this code: it has {}, this code knows migrations up to {}; "
    "deploy newer code, nothing was changed"
)
UNKNOWN = (
    "migration {0} (Recorded {0}) is applied, but this code does not have it; bring it back, "
    "nothing was changed"
)
ALGORITHM = (
    "migration 2 is recorded with a checksum of an unknown algorithm: {!r}; another tool or a "
    "newer release wrote it"
)
OUT_OF_ORDER = (
    "migration {} is pending below the applied {}; renumber it, or allow it with --out-of-order "
    "(allow_out_of_order=True)"
)
IRREVERSIBLE = "migration {} ({}) cannot be rolled back: it has no down script; nothing was changed"


@pytest.mark.parametrize(
    ("applied", "version"),
    [([], 0), (history(0), 0), (history(1, 2), 2), (history(2, 9), 9)],
)
def test_current_version(applied: Sequence[AppliedMigration], version: int) -> None:
    """The current version is the newest applied one, known or not."""
    assert version == plan.current_version(applied)


def test_status() -> None:
    """A status shows all that the code or the database knows; known ones by the code's words."""
    applied = [*history(0, 1), edited(3, tokens=True), *history(7)]

    assert Status(
        7,
        (
            MigrationStatus(0, "Recorded 0", State.UNKNOWN, 1000),
            MigrationStatus(1, "Add t1", State.APPLIED, 1001),
            MigrationStatus(2, "Add t2", State.PENDING, None),
            MigrationStatus(3, "Add t3", State.APPLIED, 1003),
            MigrationStatus(4, "Merge t3", State.PENDING, None),
            MigrationStatus(5, "Add t5", State.PENDING, None),
            MigrationStatus(7, "Recorded 7", State.UNKNOWN, 1007),
        ),
        limit=4,
    ) == plan.status(FIVE, applied, Rules(limit=4))


@pytest.mark.parametrize(
    ("catalogue", "applied", "limit", "pending", "due"),
    [
        (EMPTY, (), 0, [], []),
        (FIVE, (), 0, [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        (FIVE, (), 2, [1, 2, 3, 4, 5], [1, 2]),
        (FIVE, (1, 2, 3), 2, [4, 5], []),
        (FIVE, (1, 3), 9, [2, 4, 5], [2, 4, 5]),
        (FIVE, (1, 2, 3, 4, 5, 6), 0, [], []),
    ],
)
def test_pending_and_due(
    catalogue: Catalogue, applied: Sequence[int], limit: int, pending: list[int], due: list[int]
) -> None:
    """Pending is what the database lacks, due what of it an `up` would apply."""
    status = plan.status(catalogue, history(*applied), Rules(limit=limit))

    assert pending == [migration.version for migration in status.pending]
    assert due == [migration.version for migration in status.due]


Judged = tuple[Catalogue, list[AppliedMigration], Rules, list[str]]
JUDGED: list[Judged] = [
    (FIVE, [], RULES, []),
    (EMPTY, [], RULES, []),
    (FIVE, history(1, 2, 3, 4, 5), RULES, []),
    (FIVE, history(1, 3), RULES, []),
    (FIVE, history(1, 2, 3), Rules(limit=1), []),
    (FIVE, [edited(2, tokens=False)], RULES, []),
    (FIVE, [edited(2, tokens=True)], RULES, [MISMATCH]),
    (FIVE, [edited(2, tokens=True)], UNCHECKED, []),
    (FIVE, [record(2, f"w1:a:{FIVE.entries[2].text_digest}")], RULES, []),
    (FIVE, [record(2, "w2:a:b")], RULES, [ALGORITHM.format("w2:a:b")]),
    (FIVE, [record(2, "5d41402abc4b")], RULES, [ALGORITHM.format("5d41402abc4b")]),
    (FIVE, [record(2, "w1:5d41402abc4b")], RULES, [ALGORITHM.format("w1:5d41402abc4b")]),
    (FIVE, [record(2, "w2:a:b")], UNCHECKED, []),
    (FIVE, history(1, 6), RULES, [NEWER.format("6", 5)]),
    (FIVE, history(1, 6, 8, 9), UNCHECKED, [NEWER.format("6, 8 and 9", 5)]),
    (FIVE, history(0, 1), UNCHECKED, [UNKNOWN.format(0)]),
    (EMPTY, history(0, 1), RULES, [NEWER.format("1", 0), UNKNOWN.format(0)]),
    (
        FIVE,
        [*history(0), edited(2, tokens=True), *history(6)],
        RULES,
        [NEWER.format("6", 5), UNKNOWN.format(0), MISMATCH],
    ),
]


@pytest.mark.parametrize(("catalogue", "applied", "rules", "sentences"), JUDGED)
def test_problems(
    catalogue: Catalogue, applied: list[AppliedMigration], rules: Rules, sentences: list[str]
) -> None:
    """All contradictions between a history and the code are found, the gravest first."""
    assert sentences == [str(problem) for problem in plan.problems(catalogue, applied, rules)]


@pytest.mark.parametrize("decide", [plan.up, plan.down, plan.unmarked])
@pytest.mark.parametrize(
    ("catalogue", "applied", "rules", "sentences"), [case for case in JUDGED if case[3]]
)
def test_a_contradiction_stops_everything(
    decide: Decision,
    catalogue: Catalogue,
    applied: list[AppliedMigration],
    rules: Rules,
    sentences: list[str],
) -> None:
    """Nothing runs and nothing is marked on a database that contradicts the code."""
    with pytest.raises(WaveError) as refused:
        decide(catalogue, applied, 0, rules)

    assert sentences[0] == str(refused.value)


@pytest.mark.parametrize(
    ("applied", "target", "rules", "expected"),
    [
        ((), None, RULES, [1, 2, 3, 4, 5]),
        ((), 3, RULES, [1, 2, 3]),
        ((), 0, RULES, []),
        ((1, 2), None, RULES, [3, 4, 5]),
        ((1, 2), 2, RULES, []),
        ((1, 2), 1, RULES, []),
        ((1, 2, 3, 4, 5), None, RULES, []),
        ((1, 2, 3, 4, 5), 5, RULES, []),
        ((), None, Rules(limit=2), [1, 2]),
        ((), 1, Rules(limit=2), [1]),
        ((), 2, Rules(limit=2), [1, 2]),
        ((), None, Rules(limit=99), [1, 2, 3, 4, 5]),
        ((1, 2, 3), None, Rules(limit=2), []),
        ((1, 3), None, ANY_ORDER, [2, 4, 5]),
        ((1, 3), 2, ANY_ORDER, [2]),
        ((1, 3), None, Rules(limit=2, allow_out_of_order=True), [2]),
        ((1, 3), 1, RULES, []),
        ((1, 3), None, Rules(limit=1), []),
    ],
)
def test_up(applied: Sequence[int], target: int | None, rules: Rules, expected: list[int]) -> None:
    """An `up` runs what is pending up to the target and the limit, lowest first."""
    assert expected == versions(plan.up(FIVE, history(*applied), target, rules))


@pytest.mark.parametrize(
    ("applied", "target", "rules", "sentence"),
    [
        ((), -1, RULES, "target version -1 is below 0"),
        ((), 6, RULES, "target version 6 is above the newest version, 5"),
        ((1, 6), 6, RULES, "target version 6 is above the newest version, 5"),
        ((), 3, Rules(limit=2), "target version 3 is above WAVE_MAX_MIGRATION_VERSION=2"),
        ((1, 3), None, RULES, OUT_OF_ORDER.format(2, 3)),
        ((1, 3), 2, RULES, OUT_OF_ORDER.format(2, 3)),
        ((5,), 3, RULES, OUT_OF_ORDER.format(1, 5)),
        ((1, 3), None, Rules(limit=2), OUT_OF_ORDER.format(2, 3)),
    ],
)
def test_up_refused(
    applied: Sequence[int], target: int | None, rules: Rules, sentence: str
) -> None:
    """An `up` that cannot be right is refused before anything runs."""
    with pytest.raises(WaveError) as refused:
        plan.up(FIVE, history(*applied), target, rules)

    assert sentence == str(refused.value)


def test_up_to_where_the_database_is() -> None:
    """A target at or below the current version has nothing to do, even above the limit."""
    assert plan.up(FIVE, history(1, 2, 3, 4), 3, Rules(limit=2)) == []


@pytest.mark.parametrize(
    ("applied", "target", "rules", "expected"),
    [
        ((), 0, RULES, []),
        ((1, 2, 3), 0, RULES, [3, 2, 1]),
        ((1, 2, 3), 1, RULES, [3, 2]),
        ((1, 2, 3), 3, RULES, []),
        ((1, 2, 3), 5, RULES, []),
        ((1, 3), 0, RULES, [3, 1]),
        ((1, 2, 3), 0, Rules(limit=2), [3, 2, 1]),
        ((1, 2, 3, 4, 5), 5, RULES, []),
    ],
)
def test_down(applied: Sequence[int], target: int, rules: Rules, expected: list[int]) -> None:
    """A `down` rolls back what is applied above the target, newest first, whatever the limit."""
    assert expected == versions(plan.down(FIVE, history(*applied), target, rules))


@pytest.mark.parametrize(
    ("applied", "target", "sentence"),
    [
        ((1, 2, 3), -1, "target version -1 is below 0"),
        ((1, 2, 3), 6, "target version 6 is above the newest version, 5"),
        ((1, 2, 3, 4), 0, IRREVERSIBLE.format(4, "Merge t3")),
        ((1, 2, 3, 4, 5), 0, IRREVERSIBLE.format(5, "Add t5")),
    ],
)
def test_down_refused(applied: Sequence[int], target: int, sentence: str) -> None:
    """A rollback of which one step is impossible is refused before its first step."""
    with pytest.raises(WaveError) as refused:
        plan.down(FIVE, history(*applied), target, RULES)

    assert sentence == str(refused.value)


@pytest.mark.parametrize(
    ("applied", "version", "rules", "expected"),
    [
        ((), 5, RULES, [1, 2, 3, 4, 5]),
        ((), 2, RULES, [1, 2]),
        ((), 0, RULES, []),
        ((1, 2), 2, RULES, []),
        ((1, 3), 4, RULES, [2, 4]),
        ((1, 2, 3), 1, RULES, []),
        ((), 3, Rules(limit=2), [1, 2, 3]),
    ],
)
def test_unmarked(applied: Sequence[int], version: int, rules: Rules, expected: list[int]) -> None:
    """Marking a version marks all up to it that are not recorded yet."""
    assert expected == versions(plan.unmarked(FIVE, history(*applied), version, rules))


@pytest.mark.parametrize("version", [-1, 6])
def test_unmarked_refused(version: int) -> None:
    """Only versions of the list can be marked."""
    with pytest.raises(WaveError, match=f"target version {version} is "):
        plan.unmarked(FIVE, [], version, RULES)


def test_unreadable_way_down() -> None:
    """A rollback with a step that cannot be read is refused before its first step."""
    catalogue = Catalogue([Migration(1, "Break", "", "/*"), Migration(2, "b", "", "SELECT 1")])
    applied = [recorded(entry) for entry in catalogue.entries.values()]

    assert list(catalogue.entries)[1:] == versions(plan.down(catalogue, applied, 1, RULES))
    with pytest.raises(InvalidScript):
        plan.down(catalogue, applied, 0, RULES)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Plan(Direction.UP), "Nothing to do"),
        (
            Plan(Direction.UP, (Step(Direction.UP, 2, "b"), Step(Direction.UP, 3, "c"))),
            "Applying migration 2: b\nApplying migration 3: c",
        ),
        (
            Plan(Direction.UP, (Step(Direction.UP, 2, "b"),), (Step(Direction.UP, 1, "\x1b"),)),
            "Adopting migration 1: \\x1b\nApplying migration 2: b",
        ),
        (
            Plan(Direction.DOWN, (Step(Direction.DOWN, 2, "b"),)),
            "Rolling back migration 2: b",
        ),
    ],
)
def test_plan_reads_well(made: Plan, text: str) -> None:
    """A plan prints its steps, and is false where there is nothing to do."""
    assert text == str(made)
    assert bool(made) is (text != "Nothing to do")


@st.composite
def databases(draw: st.DrawFn) -> tuple[Catalogue, list[AppliedMigration], int]:
    """Draw a catalogue, numbered or by timestamps, a history of some of it, and a target."""
    first, gaps = draw(st.sampled_from([(0, 0), (1, 0), (7, 0), (10**7, 9)]))
    found, version = [], first
    for _ in range(draw(st.integers(0, 9))):
        found.append(Migration(version, "d", "SELECT 1", draw(st.sampled_from(["SELECT 1", ""]))))
        version += 1 + draw(st.integers(0, gaps))
    catalogue = Catalogue(draw(st.permutations(found)))
    applied = [e for e in catalogue.entries.values() if draw(st.booleans())]
    target = draw(st.sampled_from([0, catalogue.newest, *catalogue.entries]))
    return catalogue, [recorded(entry) for entry in applied], target


def recorded(entry: Entry) -> AppliedMigration:
    """Return the row of a drawn migration."""
    return AppliedMigration(entry.version, "d", 0, entry.checksum)


@PROFILE
@given(databases(), st.integers(0, 12))
def test_up_is_what_is_missing(
    database: tuple[Catalogue, list[AppliedMigration], int], limit: int
) -> None:
    """An `up` never reorders, never repeats, never leaves a hole and never goes too far."""
    catalogue, applied, target = database
    done = {row.version for row in applied}
    highest = min(target, limit or target)

    chosen = versions(plan.up(catalogue, applied, highest, Rules(limit, allow_out_of_order=True)))

    assert sorted({v for v in catalogue.entries if v <= highest} - done) == chosen


@PROFILE
@given(databases())
def test_up_in_order_only_adds_on_top(
    database: tuple[Catalogue, list[AppliedMigration], int],
) -> None:
    """Without leave to fill holes every step is above all that is applied, or nothing runs."""
    catalogue, applied, target = database
    every = plan.up(catalogue, applied, target, ANY_ORDER)
    holes = [e.version for e in every if applied and e.version < plan.current_version(applied)]

    with pytest.raises(OutOfOrder, match=f"migration {holes[0]} ") if holes else nullcontext():
        assert every == plan.up(catalogue, applied, target, RULES)


@PROFILE
@given(databases())
def test_up_then_down_returns(database: tuple[Catalogue, list[AppliedMigration], int]) -> None:
    """The way down from an `up` is the way up reversed, or refused at its first hopeless step."""
    catalogue, applied, target = database
    current = plan.current_version(applied)
    before = [recorded(e) for v, e in catalogue.entries.items() if applied and v <= current]
    steps = plan.up(catalogue, before, target, RULES)
    after = before + [recorded(entry) for entry in steps]
    back = [entry for entry in reversed(steps) if entry.version > current]
    stuck = [entry.version for entry in back if not entry.reversible]

    with pytest.raises(Irreversible, match=f"migration {stuck[0]} ") if stuck else nullcontext():
        assert back == plan.down(catalogue, after, current, RULES)
