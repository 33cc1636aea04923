"""The notes over HTTP, each test on a database of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from app import create_app
from fastapi.testclient import TestClient


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The application, started on a fresh database."""
    with TestClient(create_app(tmp_path / "notes.db")) as client:
        yield client


def write(client: TestClient, text: str, *tags: str) -> int:
    """Write a note; answers its number."""
    answer = client.post("/notes", json={"text": text, "tags": tags})
    assert answer.status_code == 201
    number: int = answer.json()["id"]
    return number


def test_it_is_ready(client: TestClient) -> None:
    """An application that has started is up to date."""
    answer = client.get("/healthz")

    assert (200, {"version": 3, "pending": 0}) == (answer.status_code, answer.json())


def test_notes_are_found_by_their_tags(client: TestClient) -> None:
    """All notes are listed without a tag, and those of one with it."""
    tea, _ = write(client, "Buy tea", "shop"), write(client, "Call Ada")

    assert ["Buy tea", "Call Ada"] == [note["text"] for note in client.get("/notes").json()]
    assert [{"id": tea, "text": "Buy tea", "done": False, "tags": ["shop"]}] == client.get(
        "/notes", params={"tag": "shop"}
    ).json()


def test_a_note_is_finished_and_deleted(client: TestClient) -> None:
    """A note can be marked as done, and goes with its tags."""
    number = write(client, "Buy tea", "shop")

    assert client.put(f"/notes/{number}/done").status_code == 204
    assert [True] == [note["done"] for note in client.get("/notes").json()]
    assert client.delete(f"/notes/{number}").status_code == 204
    assert [] == client.get("/notes", params={"tag": "shop"}).json()


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    """A number without a note is answered with 404."""
    assert client.delete("/notes/7").status_code == 404


@pytest.mark.parametrize("note", [{"text": ""}, {"text": "x", "tags": ["a,b"]}, {}])
def test_what_is_no_note_is_refused(client: TestClient, note: dict[str, object]) -> None:
    """Nothing is written of what is not valid."""
    assert client.post("/notes", json=note).status_code == 422
    assert [] == client.get("/notes").json()
