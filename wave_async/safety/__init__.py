"""Looking before touching: proofs, rehearsals, snapshots.

A module of this room is imported when it is first used, `safety.rehearsal.stage` say: who only asks
for a status, or starts an application, pays for none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wave_async.safety import (
        before,
        effects,
        importing,
        policy,
        precaution,
        proof,
        rehearsal,
        restoration,
        risk,
        snapshots,
        verify,
    )

__all__ = [
    "before",
    "effects",
    "importing",
    "policy",
    "precaution",
    "proof",
    "rehearsal",
    "restoration",
    "risk",
    "snapshots",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(name)
