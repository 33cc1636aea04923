"""Events as lines of JSON, for a program that follows a run; docs/json.md describes them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from wave_async.model.events import Event
from wave_async.model.migration import Direction, Step


def utc(seconds: float) -> str:
    """Return a moment as JSON has it: UTC in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def print_line(event: str, document: dict[str, Any]) -> None:
    """Print one line, at once."""
    print(json.dumps({"event": event, "time": utc(time.time()), **document}), flush=True)


def print_event(event: Event) -> None:
    """Print what a run tells."""
    name = re.sub(r"\B(?=[A-Z])", "_", type(event).__name__).lower()
    print_line(name, {f.name: _plain(getattr(event, f.name)) for f in fields(event)})


def error_document(error: BaseException) -> dict[str, str]:
    """Return an error as JSON has it."""
    return {"error": type(error).__name__, "message": str(error)}


def _plain(value: Any) -> Any:
    match value:
        case Step(direction, version, description):
            return {
                "direction": direction.value,
                "version": version,
                "description": description,
            }
        case Direction():
            return value.value
        case tuple():
            return [_plain(each) for each in value]
        case BaseException():
            return error_document(value)
    return value
