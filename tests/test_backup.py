from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from facecam.cli.common import open_gallery
from facecam.errors import FacecamError, GalleryDamaged, GalleryError, OutputError, SourceError, UsageFault
from facecam.people import backup, files, strangers
from facecam.people.database import Database, mark_erase
from facecam.people.gallery import Gallery
from facecam.people.schema import MIGRATIONS
from facecam.people.sqlite import Migration
from tests.people_fakes import open_store, sample, secrets_of, start, state, traces
from tests.test_cli_people import enrolled, run

__all__ = ["enrolled", "run"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "gallery.db"


def filled(path: Path, people: int = 3) -> Path:
    with Gallery.open(path) as gallery:
        for i in range(people):
            gallery.add(f"Person {i}", [sample(10 * i), sample(10 * i + 1)])
    return path


def saved(path: Path) -> dict[str, set[str]]:
    with Gallery.open(path) as gallery:
        return state(gallery)


def test_a_backup_holds_the_moment_and_comes_back(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        before = state(gallery)
        done = backup.back_up(gallery, copy)
        assert (done.people, done.samples, done.bytes) == (3, 6, copy.stat().st_size)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        gallery.rename("Person 1", "Somebody")
        gallery.add("Late", [sample(500)])
    restored = backup.restore(path, copy)
    assert (restored.people, restored.samples, restored.damaged) == (3, 6, False)
    assert saved(path) == before
    assert restored.aside is not None and stat.S_IMODE(restored.aside.stat().st_mode) == 0o600
    assert set(saved(restored.aside)) == {"Person 0", "Somebody", "Person 2", "Late"}


def test_a_backup_that_could_not_be_made_for_want_of_a_folder_is_not_remembered(path: Path, tmp_path: Path) -> None:
    with Gallery.open(filled(path)) as gallery:
        with pytest.raises(OutputError, match="the folder does not exist"):
            backup.back_up(gallery, tmp_path / "absent" / "copy.db")
        assert gallery.remove("Person 0").stale == ()


def test_a_backup_is_refused_where_it_would_harm(path: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    with Gallery.open(filled(path)) as gallery:
        with pytest.raises(OutputError, match="exists already"):
            backup.back_up(gallery, there)
        assert there.read_bytes() == b"mine"
        with pytest.raises(UsageFault, match="the gallery itself"):
            backup.back_up(gallery, path, replace=True)
        with pytest.raises(OutputError):
            backup.back_up(gallery, tmp_path / "nowhere" / "x.db")
        with pytest.raises(OutputError, match="regular"):
            backup.back_up(gallery, tmp_path, replace=True)
        backup.back_up(gallery, there, replace=True)
    assert saved(there) == saved(path)


def test_another_process_sees_what_was_restored(path: Path, tmp_path: Path) -> None:
    """A run that has the gallery open must neither fail nor write into a file that is gone."""
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        gallery.add("Late", [sample(500)])
        version = gallery.version()
        code = "import sys; from pathlib import Path; from facecam.people import backup\n"
        code += "backup.restore(Path(sys.argv[1]), Path(sys.argv[2])); print('done')"
        assert start(code, path, copy).communicate(timeout=60)[0] == "done\n"
        assert gallery.version() != version
        assert "Late" not in [p.name for p in gallery.people()]
        gallery.add("After", [sample(600)])
    assert set(saved(path)) == {"Person 0", "Person 1", "Person 2", "After"}


@pytest.mark.parametrize("harm", ["half", "text", "another program's", "newer", "missing", "folder", "itself"])
def test_what_is_no_backup_is_refused_and_nothing_changes(path: Path, tmp_path: Path, harm: str) -> None:
    filled(path)
    before, copy = saved(path), tmp_path / "copy.db"
    with Gallery.open(path) as gallery:
        backup.back_up(gallery, copy)
    error: type[FacecamError] = GalleryDamaged
    if harm == "half":
        copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    elif harm == "text":
        copy.write_text("hello, I am a text\n" * 500)
    elif harm == "another program's":
        copy.unlink()
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("CREATE TABLE moz_places (url)")
    elif harm == "newer":
        open_store(copy, (*MIGRATIONS, Migration("0099_x", ("ALTER TABLE person ADD COLUMN x",)))).close()
        error = GalleryError
    elif harm == "itself":
        copy, error = path, UsageFault
    else:
        copy.unlink()
        error = SourceError
        if harm == "folder":
            copy.mkdir()
    with pytest.raises(error) as caught:
        backup.restore(path, copy)
    assert "\n" not in str(caught.value)
    assert saved(path) == before and files.leftovers(path) == [] and files.kept_aside(path) == []


@pytest.mark.parametrize("log", [False, True])
def test_a_damaged_gallery_is_kept_aside(path: Path, log: bool) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        backup.keep_last_good(gallery)
    good = saved(path)
    data = path.read_bytes()
    broken = data[:4096] + os.urandom(4096) + data[8192:]
    path.write_bytes(broken)
    if log:
        Path(f"{path}-wal").write_bytes(b"the newest changes")
    with pytest.raises(GalleryDamaged, match=r"facecam people restore brings back gallery\.db\.last-good of 20"):
        Gallery.open(path)
    done = backup.restore(path)
    assert done.damaged and done.aside is not None and done.aside.read_bytes() == broken
    if log:
        assert Path(f"{done.aside}-wal").read_bytes() == b"the newest changes"
    assert not Path(f"{path}-wal").exists() and saved(path) == good


def test_without_a_copy_restoring_says_so(path: Path) -> None:
    with pytest.raises(SourceError, match="keeps no copy"):
        backup.restore(path)


def test_a_backup_of_an_older_schema_is_migrated(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with contextlib.closing(open_store(old, MIGRATIONS[:1])) as store, store.atomic() as db:
        db.execute("INSERT INTO person VALUES (1, 'Old', 't', 't')")
    backup.restore(path, old)
    with Gallery.open(path) as gallery:
        assert gallery.person("Old").consent is None


def test_the_old_schema_s_samples_survive_the_rebuilding_of_their_table(path: Path) -> None:
    """0003 makes `sample` and `stranger_crop` anew: no row, crop or vector may go with the old tables."""
    with contextlib.closing(open_store(path, MIGRATIONS[:2])) as store, store.atomic() as db:
        db.execute("INSERT INTO person VALUES (1, 'Ada', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')")
        db.execute("INSERT INTO sample VALUES (7, 1, 'd', 's', 0.5, zeroblob(40), 'dlib5', '2026-01-01T00:00:00Z')")
        db.execute("INSERT INTO template VALUES (1, 7, 'space', ?)", (b"\0\0\x80?" + bytes(12),))
        db.execute("INSERT INTO crop VALUES (7, x'01')")
        db.execute("INSERT INTO stranger VALUES (3, 'a', 'b', 'c', 1, NULL)")
        db.execute("INSERT INTO stranger_crop VALUES (3, x'02', 0.5, zeroblob(40), 'dlib5')")
    with Gallery.open(path) as gallery:
        (record,) = gallery.samples("Ada", crops=True)
        assert (
            record.crop == b"\1" and record.vectors["space"].tolist() == [1, 0, 0, 0] and record.landmarks is not None
        )
        found = strangers.portrait(gallery, 3)
        assert found is not None and found.image == b"\2"
        gallery.remove("Ada")
        with gallery.store.read() as db:
            for table in ("sample", "template", "crop"):
                assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), "the cascade still works"


# Removing reaches the copies


def test_a_removed_person_is_in_no_copy_any_more(path: Path, tmp_path: Path) -> None:
    copy, moved = tmp_path / "copy.db", tmp_path / "moved.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        backup.back_up(gallery, moved)
        moved.rename(tmp_path / "elsewhere.db")
        backup.keep_last_good(gallery)
    path.write_bytes(path.read_bytes()[:5000])
    done = backup.restore(path)
    secrets = [b"Person 0", *secrets_of(0), *secrets_of(1)]
    with Gallery.open(path) as gallery:
        removed = gallery.remove("Person 0")
        assert removed.problem is None and removed.renewed == (copy,) and removed.stale == ()
        assert removed.backups == (done.aside,)
        backup.keep_last_good(gallery)
    assert traces(path.parent, secrets) == []
    assert [t for t in traces(tmp_path, secrets) if t[0] != "elsewhere.db"] == []
    assert set(saved(copy)) == {"Person 1", "Person 2"} and not moved.exists()


def test_backups_are_known_after_restoring_too(path: Path, tmp_path: Path) -> None:
    """The restored gallery does not know of what was copied after it: neither of itself nor of later backups."""
    early, late = tmp_path / "early.db", tmp_path / "late.db"
    with Gallery.open(filled(path)) as gallery:
        gallery.store.backup_to(early)
        backup.back_up(gallery, late)
    backup.restore(path, early)
    with Gallery.open(path) as gallery:
        assert set(gallery.remove("Person 0").renewed) == {early, late}
    assert traces(tmp_path, [b"Person 0", *secrets_of(0)]) == []


def test_the_last_good_copy_knows_the_backup_made_last(run: Any, enrolled: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "copy.db")[0] == 0
    (enrolled / "gallery.db").write_bytes(b"rubbish" * 1000)
    assert run("restore", "-y")[0] == 0
    code, out, _ = run("remove", "bob", "-y")
    assert code == 0 and "Made anew without bob" in out


@pytest.mark.parametrize("when", ["last good", "backup", "aside"])
def test_a_draft_of_a_killed_copy_goes_with_the_next_removal(path: Path, tmp_path: Path, when: str) -> None:
    code = """
import os, sys
from pathlib import Path
from facecam.people import backup, files
from facecam.people.gallery import Gallery
files.put_in_place = lambda source, path: os.kill(os.getpid(), 9)
path, copy, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with Gallery.open(path) as gallery:
    if when == "last good":
        backup.keep_last_good(gallery)
    elif when == "backup":
        backup.back_up(gallery, copy)
backup.restore(path, copy)
"""
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        if when == "aside":
            gallery.store.backup_to(copy)
    assert start(code, path, copy, when).wait() == -9
    assert [p for p in tmp_path.rglob("*.new-*")]
    copy.unlink(missing_ok=True)
    with Gallery.open(path) as gallery:
        assert gallery.remove("Person 0").problem is None
    assert traces(tmp_path, [b"Person 0", *secrets_of(0)]) == []


@pytest.mark.parametrize("killed", ["before", "within"])
def test_an_erasing_finished_at_the_opening_leaves_a_last_good_copy(path: Path, killed: str) -> None:
    with Gallery.open(filled(path)) as gallery:
        backup.keep_last_good(gallery)
    code = """
import os, sys
from pathlib import Path
from facecam.people import sqlite
from facecam.people.database import Database
from facecam.people.gallery import Gallery
die = lambda *_: os.kill(os.getpid(), 9)
if sys.argv[2] == "before":
    Database.erase = die
else:
    sqlite.vacuum = die
Gallery.open(Path(sys.argv[1])).remove("Person 0")
"""
    assert start(code, path, killed).wait() == -9
    assert files.last_good(path).exists() is (killed == "before")
    Gallery.open(path).close()
    assert traces(path.parent, [b"Person 0", *secrets_of(0)]) == []
    assert set(saved(files.last_good(path))) == {"Person 1", "Person 2"}


def test_a_removal_copies_the_gallery_once(run: Any, enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last good copy is the erasing's; making it again would take as long once more."""
    assert run("rename", "bob", "Bob")[0] == 0
    made: list[Path] = []
    backup_to = Database.backup_to
    monkeypatch.setattr(Database, "backup_to", lambda store, file: (made.append(file), backup_to(store, file))[1])
    assert run("remove", "Bob", "-y")[0] == 0
    assert made == [enrolled / "gallery.db.last-good"]


def test_a_copy_that_became_something_else_is_left_alone(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        copy.write_bytes(b"my thesis")
        removed = gallery.remove("Person 0")
    assert copy.read_bytes() == b"my thesis" and removed.stale == (copy,)


def test_a_copied_home_leaves_the_backups_of_the_original_alone(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        gallery.store.backup_to(tmp_path / "gallery.db")
    with Gallery.open(tmp_path / "gallery.db") as gallery:
        assert gallery.remove("Person 0").renewed == ()
    assert len(saved(copy)) == 3


def test_a_removal_killed_before_the_backups_is_finished_at_the_next_opening(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
    code = """
import os, sys
from pathlib import Path
from facecam.people import copies
from facecam.people.gallery import Gallery
copies.refresh = lambda store: os.kill(os.getpid(), 9)
Gallery.open(Path(sys.argv[1])).remove("Person 0")
"""
    assert start(code, path).wait() == -9
    Gallery.open(path).close()
    assert traces(tmp_path, [b"Person 0", *secrets_of(0)]) == []


# A home that cannot be written, or is not there


@pytest.mark.parametrize("where", ["no folder", "no draft"])
def test_restoring_where_nothing_can_be_written_is_one_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    copy = filled(tmp_path / "copy.db")
    monkeypatch.setenv("FACECAM_HOME", str(tmp_path / "new" / "home"))
    call = "mkdir" if where == "no folder" else "open"
    allowed = getattr(os, call)

    def closed(name: Any, *more: Any, **other: Any) -> Any:
        if call == "mkdir" or more[0] & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return allowed(name, *more, **other)

    monkeypatch.setattr(os, call, closed)
    code, out, err = run("restore", copy, "-y")
    assert code == 1 and out == "" and err.count("\n") == 1 and "home/gallery.db: the gallery cannot be" in err


def test_a_gallery_that_cannot_be_written_is_backed_up(
    run: Any, enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.db"
    monkeypatch.setattr(files, "obstacle_to_writing", lambda path, noun, place: f"{path}: cannot be written")
    code, out, err = run("backup", copy)
    assert code == 0 and "3 people with 4 samples copied" in out
    assert err.count("\n") == 1 and "does not remember this backup" in err and len(Gallery.open(copy).people()) == 3
    assert json.loads(run("backup", copy, "--overwrite", "--json")[1])["remembered"] is False
    code, _, err = run("restore", copy, "-y")
    assert code == 1 and "cannot be written" in err and files.kept_aside(enrolled / "gallery.db") == []


def test_a_link_to_a_gallery_that_is_not_there_is_no_empty_gallery(run: Any, own_home: Path, tmp_path: Path) -> None:
    """Its disk is not mounted: nobody may be told that nobody is enrolled, and nothing may be made in its place."""
    copy = filled(tmp_path / "copy.db")
    far = tmp_path / "disk" / "people.db"
    (own_home / "gallery.db").symlink_to(far)
    far.parent.mkdir()
    for command in (
        ["list"],
        ["show", "Person 0"],
        ["restore", copy, "-y"],
        ["restore"],
        ["unknown", "--remember", "on"],
    ):
        code, out, err = run(*command)
        assert code == 14 and out == "" and err.count("\n") == 1, command
        assert f"a link to {far}, which is not there" in err and not far.exists()
    with pytest.raises(FacecamError, match="which is not there"):
        open_gallery()  # of run and label


# A backup under another name, out of reach, or in another place


SECRETS = [b"Person 0", *secrets_of(0), *secrets_of(1)]


@pytest.mark.parametrize("backed_up", ["plain", "link", "dots"])
@pytest.mark.parametrize("removed", ["plain", "link", "dots"])
def test_a_home_spelled_otherwise_is_the_same(path: Path, tmp_path: Path, backed_up: str, removed: str) -> None:
    filled(path)
    (tmp_path / "link").symlink_to(path.parent)
    homes = {"plain": path.parent, "link": tmp_path / "link", "dots": path.parent / ".." / "link"}
    with Gallery.open(homes[backed_up] / path.name) as gallery:
        backup.back_up(gallery, tmp_path / "link" / ".." / "copy.db")
    with Gallery.open(homes[removed] / path.name) as gallery:
        done = gallery.remove("Person 0")
    assert done.renewed == (tmp_path / "copy.db",) and done.stale == ()
    assert traces(tmp_path, SECRETS) == []


def test_a_backup_noted_by_an_earlier_facecam_is_found_by_its_real_path(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(filled(path).parent)
    with Gallery.open(path) as gallery:
        gallery.store.backup_to(tmp_path / "copy.db")
        with gallery.store.atomic() as db:
            noted = json.dumps([[str(tmp_path / "link" / path.name), str(tmp_path / "link" / ".." / "copy.db")]])
            db.execute("INSERT INTO meta VALUES ('backups', ?)", (noted,))
        assert gallery.remove("Person 0").renewed == (tmp_path / "copy.db",)
    assert traces(tmp_path, SECRETS) == []


def test_a_link_left_in_a_moved_backup_s_place_is_followed(path: Path, tmp_path: Path) -> None:
    copy, real = tmp_path / "copy.db", tmp_path / "disk" / "real.db"
    real.parent.mkdir()
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        copy.rename(real)
        copy.symlink_to(real)
        assert gallery.remove("Person 0").renewed == (real,)
        assert copy.is_symlink() and traces(tmp_path, SECRETS) == []
        gallery.add("Late", [sample(500)])
        assert backup.back_up(gallery, copy, replace=True).path == real
        assert copy.is_symlink() and "Late" in saved(real)


def test_a_backup_out_of_reach_is_named_and_made_anew_when_it_is_back(run: Any, enrolled: Path, tmp_path: Path) -> None:
    """Its disk is unplugged: the folder is gone, not only the file, which would have been moved or deleted."""
    disk, away = tmp_path / "disk", tmp_path / "away"
    disk.mkdir()
    near = tmp_path / "near.db"
    assert run("backup", disk / "copy.db")[0] == 0 and run("backup", near)[0] == 0
    disk.rename(away)
    code, out, err = run("remove", "bob", "-y")
    assert code == 1 and f"Made anew without bob: the backup {near}" in out
    assert f"the backup {disk}/copy.db" in err and "bob" in err and err.count("\n") == 1
    code, _, err = run("remove", "Ada Lovelace", "-y")
    assert code == 1 and "copy.db" in err
    assert run("list")[2] == "", "told once by each removal"
    near_before, good = near.stat().st_mtime_ns, (enrolled / "gallery.db.last-good").exists()
    away.rename(disk)
    code, out, err = run("list", "--json")
    assert code == 0 and json.loads(out) and f"the backup {disk}/copy.db" in err and err.count("\n") == 1
    assert set(saved(disk / "copy.db")) == set(saved(enrolled / "gallery.db"))
    assert near.stat().st_mtime_ns == near_before and good
    assert run("list")[2] == ""


def test_a_folder_that_is_back_without_the_backup_ends_the_waiting(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "disk" / "copy.db"
    copy.parent.mkdir()
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        copy.unlink()
        copy.parent.rmdir()
        assert gallery.remove("Person 0").stale == (copy,)
    copy.parent.mkdir()
    Gallery.open(path).close()
    with Gallery.open(path) as gallery:
        assert gallery.remove("Person 1").stale == () and gallery.store.value("owed") is None


@pytest.mark.parametrize("opens", ["people list", "label"])
def test_what_a_finished_erasing_did_is_told(
    run: Any, enrolled: Path, tmp_path: Path, opens: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, gone = tmp_path / "copy.db", tmp_path / "disk" / "copy.db"
    gone.parent.mkdir()
    assert run("backup", copy)[0] == 0 and run("backup", gone)[0] == 0
    gone.parent.rename(tmp_path / "away")
    with Gallery.open() as gallery, gallery.store.atomic() as db:
        db.execute("DELETE FROM person WHERE name = 'bob'")
        mark_erase(db)
    if opens == "label":
        opened = open_gallery()  # as `run`, `calibrate` and others open it
        assert opened is not None
        opened.close()
        err = capsys.readouterr().err
    else:
        code, out, err = run("list", "--json")
        assert code == 0 and json.loads(out)
    assert f"the backup {copy}\n" in err and f"the backup {gone}" in err


def test_a_linked_gallery_that_was_damaged_goes_with_whom_it_held(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "disk" / "people.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, tmp_path / "copy.db")
    real.parent.mkdir()
    path.rename(real)
    path.symlink_to(real)
    data = real.read_bytes()
    real.write_bytes(data[:4096] + os.urandom(4096) + data[8192:])
    restored = backup.restore(path, tmp_path / "copy.db")
    assert restored.damaged and restored.aside is not None and not restored.aside.is_symlink()
    assert path.is_symlink() and len(saved(real)) == 3
    with Gallery.open(path) as gallery:
        assert gallery.remove("Person 0").backups == (restored.aside,)
    assert traces(tmp_path, SECRETS) == []


def test_copies_beside_a_link_go_too(path: Path, tmp_path: Path) -> None:
    """Where an earlier facecam kept them; now they lie beside the file that the link leads to."""
    real = tmp_path / "disk" / "people.db"
    real.parent.mkdir()
    filled(path).rename(real)
    path.symlink_to(real)
    beside = [files.last_good(path), files.aside_name(path, "20260101T000000Z")]
    with Gallery.open(path) as gallery:
        for copy in beside:
            gallery.store.backup_to(copy)
        gallery.remove("Person 0")
    assert traces(tmp_path, SECRETS) == []


# Commands


def test_the_commands(run: Any, enrolled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    code, out, _ = run("backup", copy)
    assert code == 0 and "3 people with 4 samples copied" in out and "keep it private" in out
    code, out, err = run("backup", copy)
    assert code == 1 and out == "" and "--overwrite" in err and err.count("\n") == 1
    assert json.loads(run("backup", copy, "--overwrite", "--json")[1])["samples"] == 4
    code, out, _ = run("remove", "Ada Lovelace", "-y")
    assert code == 0 and f"Made anew without Ada Lovelace: the backup {copy}" in out
    assert run("rename", "bob", "Bob")[0] == 0
    code, _, err = run("restore", copy, answer="n\n")
    assert code == 1 and "was kept" in err and run("show", "Bob")[0] == 0
    code, out, _ = run("restore", copy, "-y")
    assert code == 0 and "2 people with 2 samples restored" in out and "kept as" in out
    assert run("show", "bob")[0] == 0


def test_the_last_good_copy_follows_each_change_and_comes_back(run: Any, enrolled: Path) -> None:
    last = enrolled / "gallery.db.last-good"
    assert run("list")[0] == 0 and not last.exists()
    assert run("rename", "bob", "Bob")[0] == 0
    assert stat.S_IMODE(last.stat().st_mode) == 0o600
    (enrolled / "gallery.db").write_bytes(b"rubbish" * 1000)
    code, out, err = run("list")
    assert code == 14 and out == "" and err.count("\n") == 1 and "facecam people restore brings back" in err
    code, out, _ = run("restore", "-y", "--json")
    assert code == 0 and json.loads(out)["damaged"] is True
    assert run("show", "Bob")[0] == 0


def test_a_copy_that_cannot_be_made_is_told_and_the_change_stands(
    run: Any, enrolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: object, file: Path) -> None:
        raise OutputError(f"{file}: the disk is full")

    monkeypatch.setattr("facecam.people.database.Database.backup_to", full)
    code, out, err = run("rename", "bob", "Bob")
    assert code == 0 and "now called" in out and "could not be copied" in err and err.count("\n") == 1


def test_consent(run: Any, enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("consent", "bob")[1] == "bob: no consent is noted\n"
    code, out, _ = run("consent", "bob", "--note", "signed\nform 7", "--date", "2026-01-30")
    assert (code, out) == (0, "bob: signed\\nform 7 (2026-01-30)\n")
    assert "consent: signed\\nform 7 (2026-01-30)" in run("show", "bob")[1]
    agreed = {"note": "signed\\nform 7", "date": "2026-01-30"}
    assert json.loads(run("list", "--json")[1])[1]["consent"] == agreed
    assert run("consent", "bob", "--note", "x", "--date", "30.1.2026")[0] == 2
    assert run("consent", "bob", "--note", " ")[0] == 2 and run("consent", "nobody", "--note", "x")[0] == 10
    assert run("consent", "bob", "--date", "2026-01-30")[0] == 2
    file = tmp_path / "people.json"
    assert run("export", "bob", "-o", file)[0] == 0
    monkeypatch.setenv("FACECAM_HOME", str(tmp_path / "other"))
    assert run("import", file)[0] == 0
    assert json.loads(run("show", "bob", "--json")[1])["consent"] == agreed
    assert run("consent", "bob", "--withdrawn")[0] == 0
    assert traces(tmp_path / "other", [b"signed"]) == []
    assert json.loads(run("show", "bob", "--json")[1])["consent"] is None


def test_withdrawing_consent_tells_what_went_with_the_note(run: Any, enrolled: Path, tmp_path: Path) -> None:
    copy, aside = tmp_path / "copy.db", enrolled / "gallery.db.aside-20260101T000000Z"
    assert run("consent", "bob", "--note", "signed form 7")[0] == 0
    assert run("backup", copy)[0] == 0
    aside.write_bytes(copy.read_bytes())
    code, out, err = run("consent", "bob", "--withdrawn")
    assert (
        code == 0
        and err == ""
        and out.splitlines()
        == [
            "bob: no consent is noted",
            f"Deleted as well, since it held the note on bob: {aside}",
            f"Made anew without the note on bob: the backup {copy}",
        ]
    )
    assert traces(tmp_path, [b"signed form 7"]) == []
    assert run("consent", "bob", "--note", "signed form 7")[0] == 0
    done = json.loads(run("consent", "bob", "--withdrawn", "--json")[1])
    assert done["consent"] is None and done["renewed"] == [str(copy)] and done["stale"] == []


def test_without_a_note_there_is_nothing_to_withdraw(run: Any, enrolled: Path, tmp_path: Path) -> None:
    """The user's backup, and what was kept aside, are not to be touched for it."""
    copy, aside = tmp_path / "copy.db", enrolled / "gallery.db.aside-20260101T000000Z"
    assert run("backup", copy)[0] == 0
    aside.write_bytes(copy.read_bytes())
    assert run("rename", "bob", "Bob")[0] == 0
    code, out, err = run("consent", "Bob", "--withdrawn")
    assert (code, out, err) == (0, "Bob: no consent is noted\n", "")
    assert aside.exists() and run("consent", "nobody", "--withdrawn")[0] == 10
    with Gallery.open(copy) as kept:
        assert "bob" in [person.name for person in kept.people()]


def test_a_merge_keeps_the_consent(path: Path) -> None:
    with Gallery.open(filled(path)) as gallery:
        gallery.set_consent("Person 0", "yes", "2026-01-30")
        gallery.merge("Person 0", "Person 1")
        consent = gallery.person("Person 1").consent
        assert consent is not None and consent.note == "yes"


def test_restoring_a_backup_made_anew_keeps_the_present_gallery_aside(path: Path, tmp_path: Path) -> None:
    """Once the backup came with the mark "still to be erased", and its first opening deleted what was aside."""
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        backup.back_up(gallery, copy)
        assert gallery.remove("Person 1").renewed == (copy,)
        gallery.add("Late", [sample(500)])
        before = state(gallery)
        backup.keep_last_good(gallery)
    restored = backup.restore(path, copy)
    assert set(saved(path)) == {"Person 0", "Person 2"}
    assert restored.aside is not None and saved(restored.aside) == before
    assert files.last_good(path).exists()


def test_what_a_backup_had_still_to_erase_does_not_come_back(path: Path, tmp_path: Path) -> None:
    """A copy made while a deletion's traces could not be erased: restored, it holds none of them."""
    copy = tmp_path / "copy.db"
    with Gallery.open(filled(path)) as gallery:
        with gallery.store.atomic() as db:
            db.execute("DELETE FROM person WHERE name = 'Person 1'")
            mark_erase(db)
        gallery.store.backup_to(copy)
    for file in path.parent.iterdir():
        file.unlink()
    backup.restore(path, copy)
    with Gallery.open(path) as gallery:
        assert gallery.store.value("erase") is None
    secrets = [*secrets_of(10), *secrets_of(11), b"Person 1"]
    assert traces(path.parent, secrets) == []


def test_a_backup_that_cannot_be_written_names_itself(path: Path, tmp_path: Path) -> None:
    with Gallery.open(filled(path)) as gallery, pytest.raises(OutputError) as told:
        backup.back_up(gallery, tmp_path / "nowhere" / "x.db")
    assert str(told.value).startswith(f"{tmp_path}/nowhere/x.db: ") and "gallery.db" not in str(told.value)


def test_a_file_that_is_no_backup_is_not_told_to_be_kept(run: Any, enrolled: Path, tmp_path: Path) -> None:
    """The advice is about the file that was named, not about the gallery in use."""
    wrong = tmp_path / "photo.jpg"
    wrong.touch()
    code, _, error = run("restore", wrong, "-y")
    assert code == 14 and "people backup" in error and "keeps it aside" not in error and "untouched" in error
