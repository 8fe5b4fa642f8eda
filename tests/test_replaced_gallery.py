"""A gallery whose file is replaced while a live run uses it: restored over, restored after damage, moved away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from facecam.live.watch import Change, GalleryWatch
from facecam.people import strangers
from facecam.people.backup import back_up, restore
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from facecam.values import Sample, Template
from tests.faults import faulty_camera
from tests.support import HOPPER, facecam
from tests.test_delivery import wait_until
from tests.test_service import Running, names_in, posix, small

SPACE = "made-up"


def axis(k: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[k]


def enrol(gallery: Gallery, *names: str) -> None:
    for name in names:
        gallery.add(name, [Sample(Template(axis(len(gallery.people())), SPACE), digest=name, source="t", quality=1.0)])


@posix
@pytest.mark.parametrize("damaged", [False, True], ids=["over a whole one", "after damage"])
def test_a_run_takes_a_restored_gallery_at_once_and_completely(tmp_path: Path, own_home: Path, damaged: bool) -> None:
    """Names within two seconds, and unknown people are remembered in the file that is there now."""
    events, path, backup = tmp_path / "events.jsonl", own_home / "gallery.db", tmp_path / "grace.backup"
    assert facecam("enroll", "--name", "Grace", HOPPER).code == 0
    assert facecam("people", "unknown", "--remember", "on").code == 0
    assert facecam("people", "backup", backup).code == 0
    assert facecam("people", "rename", "Grace", "Ada").code == 0
    with (
        faulty_camera(small("grace_hopper")) as camera,
        Running("--service", "--stall", "1s", "--events", events, "--source", camera.url) as run,
    ):
        assert wait_until(lambda: ("appear", "Ada") in names_in(events), 40)
        if damaged:  # by another process: this one may not touch the file of an open database
            spoil = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY); os.pwrite(f, bytes(4096), 4096)"
            subprocess.run([sys.executable, "-c", spoil, str(path)], check=True)
        done = facecam("people", "restore", "-y", backup)
        assert done.code == 0, done.err
        start = time.monotonic()
        assert wait_until(lambda: ("appear", "Grace") in names_in(events), 15)
        assert time.monotonic() - start < 2.0
        camera.picture = small("astronaut")
        assert wait_until(lambda: ("appear", None) in names_in(events), 15)
        time.sleep(1.0)
        camera.picture = np.full((360, 320, 3), 90, np.uint8)
        assert wait_until(lambda: names_in(events)[-1] == ("leave", None), 15)
        code, error, _ = run.end()
    assert code == 0 and "Traceback" not in error, error
    kept = json.loads(facecam("people", "unknown", "--json").out)["unknown"]
    assert len(kept) == 1, "in the gallery of now, not in the file that was replaced"


def watched(path: Path, said: list[str]) -> GalleryWatch:
    return GalleryWatch(
        path,
        lambda: Gallery.open(path, create=False) if path.exists() else None,
        lambda gallery: tuple(p.name for p in gallery.people()),  # type: ignore[arg-type,return-value]
        lambda gallery: UnknownBook(gallery, SPACE, 0.8),
        said.append,
    )


def next_change(watch: GalleryWatch, limit: float = 5.0) -> Change:
    found: list[Change] = []

    def look() -> bool:
        change = watch.take()
        if change is not None:
            found.append(change)
        return bool(found)

    assert wait_until(look, limit)
    return found[0]


@pytest.mark.parametrize("later", range(5))
def test_a_restored_gallery_is_never_taken_for_the_one_before(tmp_path: Path, later: int) -> None:
    """However many changes were undone: the numbers of both could meet, within the half second between two looks."""
    path, backup = tmp_path / "gallery.db", tmp_path / "b"
    with Gallery.open(path) as gallery:
        enrol(gallery, "Ada")
        back_up(gallery, backup)
        for k in range(later):
            enrol(gallery, f"Later {k}")
        before = gallery.version()
        restore(path, backup)
        assert gallery.version() != before
        assert [p.name for p in gallery.people()] == ["Ada"]


def test_a_change_between_opening_and_watching_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with Gallery.open(path) as gallery:
        enrol(gallery, "Ada")
        watch = watched(path, [])
        try:
            assert watch.gallery is not None
            enrol(gallery, "Bob")
            assert next_change(watch).matcher == ("Ada", "Bob")
            assert next_change_or_none(watch) is None, "once is enough"
        finally:
            watch.close()


def next_change_or_none(watch: GalleryWatch) -> Change | None:
    time.sleep(1.2)
    return watch.take()


def test_another_file_brings_a_book_of_its_own_and_a_change_none(tmp_path: Path) -> None:
    path, other = tmp_path / "gallery.db", tmp_path / "other.db"
    for place, name in ((path, "Ada"), (other, "Bob")):
        with Gallery.open(place) as gallery:
            enrol(gallery, name)
            strangers.remember(gallery, True)
    said: list[str] = []
    watch = watched(path, said)
    try:
        with Gallery.open(path) as gallery:
            enrol(gallery, "Cleo")
        assert next_change(watch).book is None, "the same file"
        for end in ("-wal", "-shm"):  # the log of one file is no log of another
            Path(f"{path}{end}").unlink()
        os.replace(other, path)
        with Gallery.open(path) as gallery:  # a change right after it, before anybody has taken the first
            time.sleep(1.2)
            enrol(gallery, "Dora")
        time.sleep(1.2)
        change = next_change(watch)
        assert change.matcher == ("Bob", "Dora")
        assert change.book is not None and change.book.remembers, "not lost by the second change"
        assert change.book.identify(axis(5), 1.0) == 1
        with Gallery.open(path) as gallery:
            assert strangers.everyone(gallery)
        assert said == []
    finally:
        watch.close()


def test_a_gallery_that_is_gone_is_told_once_and_taken_up_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with Gallery.open(path) as gallery:
        enrol(gallery, "Ada")
    said: list[str] = []
    watch = watched(path, said)
    try:
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").rename(tmp_path / f"away{end}")
        assert wait_until(lambda: bool(said), 5)
        time.sleep(1.2)
        assert len(said) == 1 and "gone" in said[0]
        with Gallery.open(path) as gallery:
            enrol(gallery, "Bob")
        change = next_change(watch)
        while change.matcher != ("Bob",):
            change = next_change(watch)
        assert len(said) == 1
    finally:
        watch.close()


def test_numbers_of_this_run_are_not_given_again_after_a_restore(tmp_path: Path) -> None:
    """Number 2 of the gallery as it was stands in the events; nobody else becomes number 2."""
    path, backup = tmp_path / "gallery.db", tmp_path / "b"
    with Gallery.open(path) as gallery:
        strangers.remember(gallery, True)
        book = UnknownBook(gallery, SPACE, 0.8)
        assert book.identify(axis(0), 1.0) == 1
        back_up(gallery, backup)
        assert book.identify(axis(1), 1.0) == 2
        restore(path, backup)
        new = UnknownBook(gallery, SPACE, 0.8)
        new.follow(book)
        assert new.identify(axis(0), 1.0) == 1, "known before the backup, and known again"
        assert new.identify(axis(3), 1.0) == 3
        assert new.identify(axis(4), 1.0) == 4
    unremembered = UnknownBook(None, SPACE, 0.8)
    unremembered.follow(new)
    assert unremembered.identify(axis(5), 1.0) == 5


def test_taking_and_looking_at_once_lose_nothing(tmp_path: Path) -> None:
    """Whatever is enrolled last is what was taken last."""
    path = tmp_path / "gallery.db"
    with Gallery.open(path) as gallery:
        enrol(gallery, "P0")
        watch = watched(path, [])
        taken: list[Change] = []
        stop = threading.Event()

        def take() -> None:
            while not stop.is_set():
                change = watch.take()
                if change is not None:
                    taken.append(change)

        taker = threading.Thread(target=take)
        taker.start()
        try:
            for k in range(1, 6):
                enrol(gallery, f"P{k}")
                watch.reload()
                time.sleep(0.02)
            assert wait_until(lambda: bool(taken) and len(taken[-1].matcher) == 6, 5)
        finally:
            stop.set()
            taker.join()
            watch.close()
