"""What came of many databases, as values: one for each file, and one for them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

EXAMPLES = 3


class Outcome(StrEnum):
    """How it went with one file."""

    MIGRATED = "migrated"
    """Something was applied, or adopted."""
    CURRENT = "current"
    """There is nothing to do."""
    PENDING = "pending"
    """An `up` would apply something."""
    UNKNOWN = "unknown"
    """Something is applied that this code does not know."""
    VALID = "valid"
    """History and schema are what the migrations say."""
    SKIPPED = "skipped"
    """They were not compared: the configuration says so, or nothing is recorded yet."""
    REHEARSED = "rehearsed"
    """The plan went well on a copy."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What came of one file.

    `before` and `after` are the newest versions that it recorded, None where they could not be
    read. `steps` counts the migrations that were applied, or would be. `error` and `message` are
    the class and the sentence of what failed. `fingerprint` is that of its schema, where asked for.
    """

    path: str
    outcome: Outcome
    before: int | None
    after: int | None
    steps: int
    seconds: float
    error: str | None = None
    message: str | None = None
    fingerprint: str | None = None

    @classmethod
    def lost(cls, path: str, error: Exception) -> FileResult:
        """Return the result of a file for which nobody has answered."""
        name = type(error).__name__
        return cls(path, Outcome.FAILED, None, None, 0, 0.0, error=name, message=str(error))

    @property
    def ok(self) -> bool:
        """Whether it did not fail."""
        return self.outcome is not Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one version and one schema, some of them by path.

    It is `odd` where more files of its version have another schema.
    """

    version: int | None
    fingerprint: str | None
    count: int
    examples: tuple[str, ...]
    odd: bool


class Tally:
    """Counts results as they come; it grows with the number of groups, not of files."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self._counts: Counter[tuple[int | None, str | None]] = Counter()
        self._examples: dict[tuple[int | None, str | None], list[str]] = {}

    def __str__(self) -> str:
        return ", ".join(f"{self.outcomes[o]:,} {o}" for o in Outcome if self.outcomes[o])

    def add(self, result: FileResult) -> None:
        """Count a result."""
        kind = result.after, result.fingerprint
        self.outcomes[result.outcome] += 1
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(result.path)

    @property
    def total(self) -> int:
        """How many files there were."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self.outcomes[Outcome.FAILED]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The files by version and schema: the newest first, the most frequent first."""
        most: dict[int | None, int] = {}
        groups = []
        for kind, count in self._counts.most_common():
            version, fingerprint = kind
            odd = fingerprint is not None and count < most.setdefault(version, count)
            groups.append(Group(version, fingerprint, count, tuple(self._examples[kind]), odd))
        groups.sort(key=lambda g: -1 if g.version is None else g.version, reverse=True)
        return tuple(groups)


@dataclass(frozen=True, slots=True)
class Shard:
    """The part `number`, from 1, of `count` parts of a fleet, whatever else is in the fleet."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(
                f"{self.number}/{self.count}: the first shard is 1, the last the number of them"
            )

    def __contains__(self, path: str) -> bool:
        digest = sha256(path.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.number - 1


def spread(paths: list[str], count: int) -> list[str]:
    """Return so many of them, evenly spread, or all if there are not more."""
    return paths if count >= len(paths) else [paths[i * len(paths) // count] for i in range(count)]
