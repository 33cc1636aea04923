"""When the database is copied before it is changed: a value, and cheap to import."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When snapshots are taken, where they are, and how many are kept.

    One is taken before a rollback and before an up that destroys something; `always` takes one
    before any other up, too. `directory` is `.wave/snapshots` beside the database if not given. Of
    each database the newest `keep` stay.
    """

    always: bool = False
    directory: str | os.PathLike[str] | None = None
    keep: int = 5

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(self.keep)
