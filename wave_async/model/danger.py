"""What a script may destroy, going by its words alone: cheap, and never too hopeful."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wave_async.model.migration import Work, parts

DESTROYS = re.compile(r"\b(?:DROP|DELETE|REPLACE|UPDATE)\b", re.IGNORECASE)


def may_destroy(works: Iterable[Work], triggers: Iterable[str]) -> bool:
    """Whether work may destroy anything where there are these triggers; a function may."""
    found = [part for work in works for part in parts(work)]
    texts = [part for part in found if isinstance(part, str)]
    return any(map(callable, found)) or any(map(DESTROYS.search, [*texts, *triggers]))
