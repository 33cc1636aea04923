"""What an extra of this package brings, and what is said where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wave_async.errors import MissingExtra


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import inside of it what an extra brings; raises `MissingExtra` where that fails."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(extra, str(error)) from error
