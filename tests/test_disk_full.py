"""Every command that writes, with the disk full: one line, exit code 1, and what was there before is as it was."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facecam.cli import common, invoke
from facecam.demo import HOPPER, package_file
from facecam.engine import Engine
from facecam.people import backup, seal, strangers
from facecam.people.exchange import export_people
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from tests.fakes import small_disk
from tests.people_fakes import SPACE, sample, vector
from tests.test_cli_people import run

__all__ = ["run"]

SIZE = "1m"


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a gallery on a disk of 1 MiB, and things to import and restore elsewhere."""
    place = tmp_path / "small"
    place.mkdir()
    with small_disk(place, SIZE):
        monkeypatch.setenv("FACECAM_HOME", str(place / "home"))
        monkeypatch.setattr(seal, "COST", 16)
        monkeypatch.setenv("FACECAM_NEW_PASSPHRASE", "correct horse battery")
        with Gallery.open() as gallery:
            for i in range(4):
                gallery.add(f"Person {i}", [sample(10 * i + k) for k in range(8)])
            gallery.reject("Person 0", [sample(90)])
            strangers.remember(gallery, True)
            UnknownBook(gallery, SPACE, 0.5).identify(vector(99), 1.0, source="door")
            export_people(gallery, None, tmp_path / "people.json")
            gallery.store.backup_to(tmp_path / "copy.db")
            backup.keep_last_good(gallery)
        yield place


def fill(place: Path, left: int = 0) -> None:
    """Leave so many bytes of the disk."""
    with open(place / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
        filler.truncate(max(0, os.fstat(filler.fileno()).st_size - left))


def content() -> Any:
    """All that the gallery gives, and its backups."""
    with Gallery.open() as gallery:
        people = [
            (p.name, p.consent, [(r.digest, r.crop, list(r.vectors)) for r in gallery.samples(p.name, crops=True)])
            for p in gallery.people()
        ]
        return people, gallery.negatives_of(people[0][0]), strangers.everyone(gallery)


COMMANDS: dict[str, list[str]] = {
    "rename": ["rename", "Person 1", "Somebody"],
    "merge": ["merge", "Person 1", "Person 2"],
    "remove": ["remove", "Person 1", "-y"],
    "consent": ["consent", "Person 1", "--note", "x" * 400],
    "import": ["import", "{outside}/people.json", "--on-conflict", "rename"],
    "export": ["export", "-o", "{inside}/people.json"],
    "backup": ["backup", "{inside}/copy.db"],
    "restore": ["restore", "{outside}/copy.db", "-y"],
    "encrypt": ["encrypt"],
    "name": ["name", "Unknown 1", "Newly Named"],
    "forget": ["forget", "--all", "-y"],
    "undo reject": ["reject", "--name", "Person 0", "--undo", "photo90.jpg"],
    "remember": ["unknown", "--remember", "off"],
}


@pytest.mark.parametrize("left", [0, 24_576, 90_000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_changes_nothing(
    run: Any, disk: Path, tmp_path: Path, command: str, left: int
) -> None:
    """With some bytes left the disk gets full in the middle: a command has then done all or nothing."""
    if command == "encrypt":
        pytest.importorskip("cryptography", reason="needs the extra encrypt")
    before = content()
    there = {path.name for path in (disk / "home").iterdir()}
    fill(disk, left)
    code, out, err = run(*(word.format(outside=tmp_path, inside=disk) for word in COMMANDS[command]))
    lines = [line for line in err.splitlines() if "could not be copied" not in line]
    (disk / "filler").unlink()
    if code == 0:
        assert left and lines == []
        return
    assert code == 1 and len(lines) == 1 and lines[0].startswith("facecam: "), (code, out, err)
    if "traces of" in err:  # deleted, and what the full disk hindered is done at the next opening
        with Gallery.open() as gallery:
            assert gallery.store.value("erase") is None
        return
    assert "disk is full" in err or "No space left" in err, err
    assert content() == before
    now = {path.name for path in (disk / "home").iterdir()}
    assert now <= there and not (disk / "people.json").exists() and not (disk / "copy.db").exists(), now
    with Gallery.open() as gallery:
        gallery.add("After", [sample(500)])


@pytest.mark.parametrize("command", ["enroll", "reject", "crop", "sheet"])
def test_commands_with_models_on_a_full_disk(
    run: Any, disk: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr(common, "open_engine", lambda given: dataclasses.replace(engine, settings=given))
    photo = str(package_file(*HOPPER[:2]))
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos" / "grace.jpg")
    with Gallery.open() as gallery:
        for person in gallery.people():  # of another model than the engine's
            gallery.remove(person.name)
        gallery.add("Ada", [sample(1, engine.embedder.space, dim=engine.embedder.dim)])
        before = gallery.samples("Ada", crops=True)[0].crop
    fill(disk)
    asked = {
        "enroll": ["enroll", "--name", "Grace", photo],
        "reject": ["people", "reject", photo, "--name", "Ada"],
        "crop": ["crop", str(tmp_path / "photos"), str(disk / "crops")],
        "sheet": ["people", "unknown", "--sheet", str(disk / "sheet.png")],
    }[command]
    code = invoke(asked)
    out, err = capsys.readouterr()
    assert (
        code == 1
        and err.count("\n") == 1
        and "Traceback" not in err
        and ("disk is full" in err or "No space left" in err)
    ), (
        out,
        err,
    )
    (disk / "filler").unlink()
    with Gallery.open() as gallery:
        assert [p.name for p in gallery.people()] == ["Ada"] and gallery.negatives_of("Ada") == []
        assert gallery.samples("Ada", crops=True)[0].crop == before
    assert not (disk / "sheet.png").exists() and not list(disk.glob("crops/**/*.*"))
