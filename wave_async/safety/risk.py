"""Whether it is worth the while to try a run out before it; asked before every `up`, so cheap."""

from __future__ import annotations

from collections.abc import Iterable

from wave_async.database import history
from wave_async.database.requests import Program, Query
from wave_async.model.danger import may_destroy
from wave_async.model.migration import Work

TRIGGERS = "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger'"


def is_risky(works: Iterable[Work]) -> Program[bool]:
    """Whether work may destroy anything in a database; nothing can in one without tables."""
    ((populated,),) = yield Query(history.POPULATED)
    if not populated:
        return False
    triggers = yield Query(TRIGGERS)
    return may_destroy(works, [sql for (sql,) in triggers])
