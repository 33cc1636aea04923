"""What a script says about its own transaction and foreign keys, taken out for the engine to do.

Inside the engine's transaction `PRAGMA foreign_keys` would silently do nothing, and `BEGIN` fail
(https://sqlite.org/pragma.html#pragma_foreign_keys).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from itertools import takewhile

from wave_async.model.script import Statement

_GAP = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_FIRST_WORD = re.compile("pragma|begin|commit|end|vacuum", re.IGNORECASE)
_LONGEST = 200  # more is not a plain form


class _Kind(Enum):
    KEYS_OFF = auto()
    KEYS_ON = auto()
    WAL = auto()
    BEGIN = auto()
    COMMIT = auto()
    OUTSIDE = auto()


_FORMS = {
    _Kind.KEYS_OFF: r"pragma(main\.)?foreign_keys[=(]'?(off|0|false|no)'?\)?",
    _Kind.KEYS_ON: r"pragma(main\.)?foreign_keys[=(]'?(on|1|true|yes)'?\)?",
    _Kind.WAL: r"pragma(main\.)?journal_mode[=(]'?wal'?\)?",
    _Kind.BEGIN: "begin(deferred|immediate|exclusive)?(transaction)?",
    _Kind.COMMIT: "(commit|end)(transaction)?",
    _Kind.OUTSIDE: r"vacuum(main)?|pragma(main\.)?(journal_mode|page_size|auto_vacuum)[=(].*",
}

_NEEDLESS = frozenset({_Kind.KEYS_ON, _Kind.WAL})
_OPENING = frozenset({_Kind.KEYS_OFF, _Kind.BEGIN})


def lift(statements: Sequence[Statement]) -> tuple[tuple[Statement, ...], bool]:
    """Return the statements that are left to run, and whether the script switches keys off.

    Taken out are `foreign_keys=OFF` before everything else, one plain pair of BEGIN and COMMIT
    around everything, and what asks for what is so anyway: `foreign_keys=ON`, `journal_mode=wal`.
    What is not of this form stays, for the guard to refuse.
    """
    kinds = [_kind(s) for s in statements]
    if not any(kinds):
        return tuple(statements), False
    left = [(k, s) for k, s in zip(kinds, statements, strict=True) if k not in _NEEDLESS]
    head = [k for k, _ in takewhile(lambda row: row[0] in _OPENING, left)]
    rest = [s for _, s in left[len(head) :]]
    if _Kind.BEGIN in head:
        if head.count(_Kind.BEGIN) > 1 or left[-1][0] is not _Kind.COMMIT:
            return tuple(statements), False
        rest.pop()
    return tuple(rest), _Kind.KEYS_OFF in head


def runs_outside(statement: Statement) -> bool:
    """Whether a statement is one of the few that work only outside a transaction."""
    return _kind(statement) in {_Kind.OUTSIDE, _Kind.WAL}


def _kind(statement: Statement) -> _Kind | None:
    if len(statement.sql) > _LONGEST or not _FIRST_WORD.match(statement.sql):
        return None
    plain = _GAP.sub("", statement.sql).lower()
    return next((kind for kind, form in _FORMS.items() if re.fullmatch(form, plain)), None)
