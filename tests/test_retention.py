"""Unknown people are not kept for longer than the user wants."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from facecam.cli import invoke
from facecam.errors import UsageFault
from facecam.people import backup, files, strangers, unknown
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from facecam.settings import seconds_of
from tests.people_fakes import SPACE, traces, vector
from tests.test_cli_people import run

__all__ = ["run"]


@pytest.fixture
def gallery(tmp_path: Path):
    """Three remembered strangers, last seen 10 days, 5 days and no time ago."""
    with Gallery.open(tmp_path / "home" / "gallery.db") as opened:
        fill(opened)
        yield opened


def fill(gallery: Gallery) -> None:
    import time

    strangers.remember(gallery, True)
    book = UnknownBook(gallery, SPACE, 0.9)
    for number in (1, 2, 3):
        book.identify(vector(number), 1.0, source=f"door {number} of the house")
    with gallery.store.atomic() as db:
        for number, days in ((1, 10), (2, 5)):
            seen = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86_400))
            db.execute("UPDATE stranger SET last_seen = ? WHERE id = ?", (seen, number))


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43_200), ("7d", 604_800), (" 4W ", 2_419_200)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "0d", "-1d", "1.5d", "7days", "99999w", "d", "1e3h", "\u0667d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageFault, match="12h, 7d, 4w"):
        seconds_of(text)


def test_a_run_deletes_whom_nobody_saw_for_long_and_no_trace_stays(gallery: Gallery) -> None:
    notes: list[str] = []
    secrets = [vector(1).astype("<f4").tobytes(), b"door 1 of the house"]
    assert traces(gallery.path.parent, secrets)
    book = UnknownBook(gallery, SPACE, 0.9, note=notes.append, forget_after="7d")
    assert [who.number for who in strangers.everyone(gallery)] == [2, 3]
    assert notes == ["unknown people deleted, whom nobody saw for long: 1"]
    assert traces(gallery.path.parent, secrets) == []
    assert len(book) == 2 and book.identify(vector(1), 1.0, source="door") == 4, "the number is not used again"


def test_the_last_good_copy_is_made_anew_without_them(gallery: Gallery) -> None:
    """No command does it when a run deletes."""
    backup.keep_last_good(gallery)
    secrets = [vector(1).astype("<f4").tobytes(), b"door 1 of the house"]
    UnknownBook(gallery, SPACE, 0.9, forget_after="7d")
    assert traces(gallery.path.parent, secrets) == []
    with Gallery.open(files.last_good(gallery.path)) as copy:
        assert [who.number for who in strangers.everyone(copy)] == [2, 3]


def test_copies_that_go_with_them_are_told(gallery: Gallery, tmp_path: Path) -> None:
    copy, aside = tmp_path / "copy.db", files.aside_name(gallery.path, "20260101T000000Z")
    backup.back_up(gallery, copy)
    gallery.store.backup_to(aside)
    gone = [tmp_path / "disk" / "copy.db", tmp_path / "stick" / "copy.db"]
    for far in gone:
        far.parent.mkdir()
        backup.back_up(gallery, far)
        far.unlink()
        far.parent.rmdir()
    notes: list[str] = []
    UnknownBook(gallery, SPACE, 0.9, note=notes.append, forget_after="7d")
    assert notes == [
        "unknown people deleted, whom nobody saw for long: 1",
        f"deleted as well, since it held them: {aside}",
        f"made anew without them: the backup {copy}",
        f"traces of unknown people may be left: {gone[0]} could not be made anew",
        f"traces of unknown people may be left: {gone[1]} could not be made anew",
    ]


def test_a_run_of_days_deletes_while_it_runs(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    book = UnknownBook(gallery, SPACE, 0.9, forget_after="7d")
    with gallery.store.atomic(counted=False) as db:
        db.execute("UPDATE stranger SET last_seen = '2020-01-01T00:00:00Z' WHERE id = 2")
    book.identify(vector(3), 1.0, source="door", track=1)
    book.settle(1, "door")
    assert len(strangers.everyone(gallery)) == 2, "not at every track"
    book.identify(vector(3), 1.0, source="door", track=2)
    monkeypatch.setattr(unknown, "PURGE_EVERY", -1.0)
    book.settle(2, "door")
    assert [who.number for who in strangers.everyone(gallery)] == [3] and len(book) == 1


def test_without_the_setting_nobody_is_deleted(gallery: Gallery) -> None:
    UnknownBook(gallery, SPACE, 0.9)
    assert len(strangers.everyone(gallery)) == 3


def test_the_option(run: Any, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open() as opened:
        fill(opened)
    code, out, _ = run("unknown", "--forget-unknown-after", "7d")
    assert code == 0 and "1 unknown person deleted" in out and "Unknown 2" in out and "Unknown 1 " not in out
    monkeypatch.setenv("FACECAM_FORGET_UNKNOWN_AFTER", "2d")
    assert [who["number"] for who in json.loads(run("unknown", "--json")[1])["unknown"]] == [3]
    monkeypatch.delenv("FACECAM_FORGET_UNKNOWN_AFTER")
    assert run("unknown", "--forget-unknown-after", "soon")[0] == 2


@pytest.mark.parametrize("command", ["run", "label"])
def test_run_and_label_know_the_setting(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sys.modules and invoke([command, "--help"]) == 0
    assert "--forget-unknown-after TIME" in capsys.readouterr().out
