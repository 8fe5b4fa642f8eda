"""A small version of `tests.kill_gallery`, and several processes at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the extra encrypt")
if not hasattr(os, "fork"):
    pytest.skip("kills forked processes", allow_module_level=True)

from tests import kill_gallery
from tests.people_fakes import start


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where possible: a kill, unlike a power cut, loses nothing that was written."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_kills_leave_every_acknowledged_change_and_no_half_of_another(place: Path) -> None:
    hit = kill_gallery.run(12, 7, place)
    assert sum(hit.values()) == 12


def test_the_check_of_the_kills_finds_a_lost_change(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test: a gallery that acknowledges what it did not do."""
    real = kill_gallery.act

    def forgetful(gallery: object, copy: Path, step: tuple[str, tuple]) -> None:
        if step[0] != "add":
            real(gallery, copy, step)  # type: ignore[arg-type]

    monkeypatch.setattr(kill_gallery, "act", forgetful)
    with pytest.raises(AssertionError):
        kill_gallery.run(3, 7, place)


def test_two_enrol_while_one_recognises(tmp_path: Path) -> None:
    """As two `facecam enroll` and one `facecam run` do: no lock error, nothing lost, the run sees the newcomers."""
    path = tmp_path / "gallery.db"
    enrol = """
import sys
from pathlib import Path
from facecam.people.backup import keep_last_good
from facecam.people.gallery import Gallery
from tests.people_fakes import sample
for i in range(12):
    with Gallery.open(Path(sys.argv[1])) as gallery:
        gallery.add(f"{sys.argv[2]} {i}", [sample(int(sys.argv[3]) + i)])
        keep_last_good(gallery)
print("ok")
"""
    watch = """
import sys
from pathlib import Path
from facecam.people import strangers
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from tests.people_fakes import SPACE, vector
with Gallery.open(Path(sys.argv[1])) as gallery:
    strangers.remember(gallery, True)
    notes = []
    book = UnknownBook(gallery, SPACE, 0.9, note=notes.append)
    version, seen, number = None, 0, 0
    while seen < 24:
        if gallery.version() != version:
            version = gallery.version()
            seen = len(gallery.templates(SPACE).names)
        number += 1
        book.identify(vector(100_000 + number), 1.0, source="door")
    assert not notes, notes
print("ok")
"""
    processes = [start(watch, path), start(enrol, path, "A", 0), start(enrol, path, "B", 500)]
    for process in processes:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0 and output == "ok\n", output
