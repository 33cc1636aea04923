"""What a plan would do to a database, and what it would destroy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wave_async.errors import printable
from wave_async.model.danger import DESTROYS
from wave_async.model.migration import Step


class LossKind(StrEnum):
    """What is lost."""

    TABLE = "table"
    COLUMN = "column"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Loss:
    """A table or a column that a step drops, or a table whose rows it deletes.

    `rows` is how many rows are in the table, or have a value in the column; None: not counted.
    """

    kind: LossKind
    table: str
    column: str = ""
    rows: int | None = None

    def __str__(self) -> str:
        name = printable(f"{self.table}.{self.column}" if self.column else self.table)
        rows = "" if self.rows is None else f" ({self.rows:,} row{'' if self.rows == 1 else 's'})"
        if self.kind is LossKind.ROWS:
            return f"deletes rows of table {name}{rows}"
        return f"drops {self.kind} {name}{rows}"


@dataclass(frozen=True, slots=True)
class Effect:
    """What one step does: its statements counted, the tables it touches, what it destroys.

    `unknown` says why that could not be tried out; then `touches` and `losses` are empty.
    """

    step: Step
    statements: int
    reversible: bool
    script: str
    touches: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    unknown: str = ""

    @property
    def may_destroy(self) -> bool:
        """Whether it destroys something, or might where that could not be tried out."""
        return bool(self.losses or (self.unknown and DESTROYS.search(self.script)))


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, in order; with nothing to do it is empty and false."""

    effects: tuple[Effect, ...] = ()
    adopted: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.effects or self.adopted)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Everything that it would destroy, in order."""
        return tuple(loss for effect in self.effects for loss in effect.losses)

    @property
    def unknown(self) -> tuple[Effect, ...]:
        """The steps of which it is not known what they would destroy."""
        return tuple(effect for effect in self.effects if effect.unknown)
