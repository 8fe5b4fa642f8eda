from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facecam.errors import FacecamError, GalleryDamaged, GalleryError, OutputError
from facecam.people import database, files, sqlite
from facecam.people.gallery import Gallery
from facecam.people.schema import MIGRATIONS
from facecam.people.sqlite import Migration
from tests.people_fakes import in_model, open_store, sample, secrets_of, start, state, steps, traces, try_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "gallery.db"


def filled(path: Path, people: int = 3) -> Path:
    """A gallery of a few people, closed."""
    with Gallery.open(path) as gallery:
        for i in range(people):
            gallery.add(f"Person {i}", [sample(10 * i), sample(10 * i + 1)])
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Files


def test_all_files_are_the_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with Gallery.open(path) as gallery:
            gallery.add("Ada", [sample(1)])
            assert {p.name for p in path.parent.iterdir()} == {"gallery.db", "gallery.db-wal", "gallery.db-shm"}
            assert {mode(p) for p in path.parent.iterdir()} == {0o600}
            assert mode(path.parent) == 0o700
            gallery.store.backup_to(path.parent / "copy.db")
            assert mode(path.parent / "copy.db") == 0o600
    finally:
        os.umask(before)


def test_a_mode_that_was_opened_up_is_closed_again(path: Path) -> None:
    filled(path).chmod(0o644)
    with Gallery.open(path) as gallery:
        gallery.add("Bob", [sample(99)])
        assert mode(path) == mode(Path(f"{path}-wal")) == 0o600


def test_without_create_an_absent_gallery_is_empty_and_nothing_is_written(path: Path) -> None:
    with Gallery.open(path, create=False) as gallery:
        assert gallery.people() == [] and gallery.spaces() == {} and isinstance(gallery.version(), int)
        assert gallery.templates("any").vectors.shape == (0, 0)
        gallery.check_space("any")
        with pytest.raises(OutputError, match="no gallery yet"):
            gallery.add("Ada", [sample(1)])
    assert not path.parent.exists()


def test_settings_of_the_connection(path: Path) -> None:
    with contextlib.closing(open_store(path)) as opened, opened.read() as db:
        got = [db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous", "secure_delete")]
        assert got == ["wal", 2, 1]
        assert db.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_copy_in_another_journal_mode_is_taken_back_to_wal(path: Path) -> None:
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    with Gallery.open(path) as gallery:
        assert len(gallery.people()) == 3
        with gallery.store.read() as db:
            assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_backup_is_a_gallery_of_one_moment(path: Path, tmp_path: Path) -> None:
    filled(path)
    copy = tmp_path / "copy.db"
    with Gallery.open(path) as gallery:
        gallery.store.backup_to(copy)
        before = state(gallery)
        gallery.remove("Person 0")
    with Gallery.open(copy) as gallery:
        assert state(gallery) == before


# Transactions


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, GalleryError])
def test_an_exception_leaves_nothing(path: Path, fault: type[BaseException]) -> None:
    filled(path)
    with contextlib.closing(open_store(path)) as opened:
        before = opened.changes()
        with pytest.raises(fault), opened.atomic() as db:
            db.execute("DELETE FROM person")
            raise fault("stop")
        with opened.read() as db:
            assert db.execute("SELECT count(*) FROM person").fetchone() == (3,)
        assert opened.changes() == before
        with opened.atomic() as db:  # and the next change works
            db.execute("DELETE FROM person")
        assert opened.changes() == before + 1


def test_atomic_does_not_nest(path: Path) -> None:
    with (
        contextlib.closing(open_store(path)) as opened,
        opened.atomic(),
        pytest.raises(RuntimeError),
        opened.atomic(),
    ):
        pass


def test_mistakes_stay_loud(path: Path) -> None:
    with contextlib.closing(open_store(path)) as opened:
        with pytest.raises(sqlite3.OperationalError), opened.read() as db:
            db.execute("SELECT nonsense FROM nowhere")
        with pytest.raises(sqlite3.IntegrityError), opened.atomic() as db:
            db.execute("INSERT INTO sample VALUES (1, 77, 'd', 's', 0, NULL, NULL, 't')")


def test_threads_of_one_process_share_a_store(path: Path) -> None:
    with Gallery.open(path) as gallery:
        faults: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for i in range(10):
                    gallery.add(f"T{number}", [sample(number * 100 + i)])
                    gallery.people()
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        assert [p.samples for p in gallery.people()] == [10] * 4


def test_a_lock_held_too_long_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    monkeypatch.setattr(sqlite, "PATIENCE", 0.2)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Gallery.open(path) as gallery:
            assert len(gallery.people()) == 3  # reading does not wait
            with pytest.raises(GalleryError, match="locked") as error:
                gallery.add("Ada", [sample(1)])
            assert "\n" not in str(error.value)
            other.execute("ROLLBACK")
            gallery.add("Ada", [sample(1)])


# Faults of the file


def not_a_gallery(path: Path, kind: str) -> None:
    """Put something wrong in the place of a good gallery."""
    data = path.read_bytes()
    if kind == "other program":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE moz_places (url)")
            db.commit()
        return
    if kind in ("trigger", "view", "table gone", "row without its person"):
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute(
                {
                    "trigger": "CREATE TRIGGER t AFTER INSERT ON person BEGIN DELETE FROM sample; END",
                    "view": "CREATE VIEW v AS SELECT 1",
                    "table gone": "DROP TABLE crop",
                    "row without its person": "UPDATE sample SET person = 77 WHERE id = 1",
                }[kind]
            )
            db.commit()
        return
    path.write_bytes(
        {
            "empty": b"",
            "text": b"hello, I am a text\n" * 50,
            "random": os.urandom(len(data)),
            "header only": data[:100],
            "one byte less": data[:-1],
            "half": data[: len(data) // 2],
            "random behind the header": data[:100] + os.urandom(len(data) - 100),
            "a page overwritten": data[:4096] + os.urandom(4096) + data[8192:],
        }[kind]
    )


KINDS = (
    "empty",
    "text",
    "random",
    "header only",
    "one byte less",
    "half",
    "random behind the header",
    "a page overwritten",
    "other program",
    "trigger",
    "view",
    "table gone",
    "row without its person",
)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_line_and_left_as_it_is(path: Path, kind: str) -> None:
    not_a_gallery(filled(path), kind)
    data = path.read_bytes()
    with pytest.raises(GalleryDamaged) as error:
        Gallery.open(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message and "untouched" in message and len(message) < 600
    assert error.value.exit_code == 14
    assert path.read_bytes() == data


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_in_its_place(path: Path, create: bool) -> None:
    path.mkdir(parents=True)
    with pytest.raises(GalleryDamaged):
        Gallery.open(path, create=create)


def test_a_pipe_in_its_place_does_not_hang(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(GalleryDamaged):
        Gallery.open(path)


def test_a_log_without_its_gallery(path: Path) -> None:
    path.parent.mkdir()
    log = Path(f"{path}-wal")
    log.write_bytes(b"the newest changes")
    with pytest.raises(GalleryDamaged, match="log"):
        Gallery.open(path)
    assert log.read_bytes() == b"the newest changes"


def test_rubbish_in_the_log_is_not_taken_for_changes(path: Path) -> None:
    filled(path)
    Path(f"{path}-wal").write_bytes(os.urandom(9000))
    with Gallery.open(path) as gallery:
        assert len(state(gallery)) == 3


def test_a_name_that_is_not_text_is_damage(path: Path) -> None:
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE person SET name = CAST(x'ff41' AS TEXT) WHERE id = 1")
        db.commit()
    with Gallery.open(path) as gallery, pytest.raises(GalleryDamaged):
        gallery.people()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bytes_end_in_an_answer_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    good = tmp_path / "good.db"
    if not good.exists():
        filled(good)
        good.rename(tmp_path / "kept.db")
        shutil.copy(tmp_path / "kept.db", good)
    content = bytearray((tmp_path / "kept.db").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.db"
    for path in tmp_path.glob("broken.db*"):
        path.unlink()
    broken.write_bytes(content)
    try:
        with Gallery.open(broken) as gallery:
            for person in gallery.people():
                gallery.samples(person.name, crops=True)
            gallery.templates("space-one")
            gallery.add("New", [sample(77)])
            gallery.remove("New")
    except FacecamError as error:
        assert "\n" not in str(error)


# Permissions and full disks


def as_nobody(path: Path) -> list[str]:
    """Read and change the gallery as a user to whom permissions apply; returns what came of it, in lines."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # a fork, since another user may not be able to start this interpreter
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            lines = try_all(path, 1)
        except BaseException as error:
            lines = [f"escaped: {error!r}"]
        os.write(write_end, "\n".join(lines).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(child, 0)
    return lines


@pytest.fixture
def open_tmp() -> Path:
    """A folder that every user can reach (pytest's own are closed to others)."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="facecam-test-"))
    folder.chmod(0o755)
    yield folder
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_cannot_be_written_can_be_read(open_tmp: Path, closed: str) -> None:
    home = open_tmp / "home"
    path = filled(home / "gallery.db")
    path.chmod(0o666 if closed == "folder" else 0o444)
    home.chmod(0o555 if closed == "folder" else 0o777)
    data = path.read_bytes()
    lines = as_nobody(path)
    assert lines[0] == "people 3 3"
    assert len(lines) == 5 and all(
        line.startswith("OutputError ") and "cannot be written" in line for line in lines[1:]
    )
    assert path.read_bytes() == data


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_read_only_gallery_beside_a_log_shows_the_newest_change(open_tmp: Path) -> None:
    home = open_tmp / "home"
    path = filled(home / "gallery.db")
    with Gallery.open(path) as gallery:
        gallery.add("Newest", [sample(900)])
        for file in home.iterdir():
            file.chmod(0o644)
        home.chmod(0o555)
        assert as_nobody(path)[0] == "people 4 4"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("case", ["no gallery in a closed folder", "unreadable"])
def test_what_can_be_neither_written_nor_read_is_one_line(open_tmp: Path, case: str) -> None:
    home = open_tmp / "home"
    home.mkdir()
    path = home / "gallery.db"
    if case == "unreadable":
        filled(path).chmod(0o000)
        home.chmod(0o777)
    else:
        home.chmod(0o555)
    lines = as_nobody(path)
    assert len(lines) == 1 and lines[0].startswith("open: OutputError ")


def test_a_full_disk_changes_nothing(path: Path) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        before = state(gallery)
        with gallery.store.read() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutputError, match="disk is full"):
            gallery.add("Ada", [sample(i) for i in range(100, 200)])
        assert state(gallery) == before
        with gallery.store.read() as db:
            db.execute("PRAGMA max_page_count = 1000000")
        gallery.add("Ada", [sample(i) for i in range(100, 200)])
    with Gallery.open(path) as gallery:
        assert gallery.person("Ada").samples == 100


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [0, 40_000, 70_000])
def test_a_file_system_that_refuses_to_grow_is_one_line(path: Path, limit: int) -> None:
    """The log or the gallery cannot grow: as on a full disk, the write itself fails."""
    filled(path)
    with Gallery.open(path) as gallery:
        before = state(gallery)
    code = """
import resource, sys
from pathlib import Path
from tests.people_fakes import try_all
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
print(*try_all(Path(sys.argv[1]), 200), sep="\\n")
"""
    output = start(code, path, limit).communicate(timeout=60)[0]
    assert "Traceback" not in output and "OutputError" in output, output
    with Gallery.open(path) as gallery:
        after = state(gallery)  # whole people only
    assert after.get("Ada") is None
    assert before.keys() - after.keys() <= {"Person 0", "Person 1"}


def test_creating_on_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OutputError, match="No space left"):
        Gallery.open(path)
    assert list(path.parent.iterdir()) == []


def test_a_file_system_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    filled(path)
    with Gallery.open(path) as gallery:
        assert len(gallery.people()) == 3


# Migrations


NEXT = Migration(
    "0098_nickname",
    ("ALTER TABLE person ADD COLUMN nickname TEXT", "UPDATE person SET nickname = upper(name)"),
)
REBUILD = Migration(
    "0099_rebuild",
    (
        "CREATE TABLE person_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL,"
        " updated TEXT NOT NULL, consent TEXT, consented TEXT, nickname TEXT)",
        "INSERT INTO person_new SELECT id, name, created, updated, consent, consented, nickname FROM person",
        "DROP TABLE person",
        "ALTER TABLE person_new RENAME TO person",
    ),
)


def test_an_old_gallery_is_copied_and_migrated(path: Path) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        before, version = state(gallery), gallery.version()
    newest = (*MIGRATIONS, NEXT, REBUILD)
    with contextlib.closing(open_store(path, newest)) as opened:
        with opened.read() as db:
            assert db.execute("SELECT nickname FROM person ORDER BY id").fetchone() == ("PERSON 0",)
            assert [row[0] for row in db.execute("SELECT name FROM migration ORDER BY name")] == [
                m.name for m in newest
            ]
        assert opened.changes() > version
        assert state(Gallery(opened)) == before
    copies = files.backups(path)
    assert [copy.name for copy in copies] == ["gallery.db.before-0098_nickname"]
    assert mode(copies[0]) == 0o600
    with Gallery.open(copies[0]) as old:
        assert state(old) == before
    before_again = copies[0].stat().st_mtime_ns
    open_store(path, newest).close()  # nothing left to do
    assert copies[0].stat().st_mtime_ns == before_again


def test_a_new_gallery_gets_all_migrations_without_a_copy(path: Path) -> None:
    with contextlib.closing(open_store(path, (*MIGRATIONS, NEXT))) as opened, opened.read() as db:
        assert db.execute("SELECT count(nickname) FROM person").fetchone() == (0,)
    assert [p.name for p in path.parent.iterdir()] == ["gallery.db"]


def test_a_gallery_of_a_newer_facecam(path: Path) -> None:
    open_store(path, (*MIGRATIONS, NEXT)).close()
    data = path.read_bytes()
    with pytest.raises(GalleryError, match=r"newer facecam .*0098_nickname.*update facecam") as error:
        Gallery.open(path)
    assert not isinstance(error.value, GalleryDamaged)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "bad",
    [
        "INSERT INTO nowhere VALUES (1)",
        "UPDATE sample SET person = 12345",  # rows without their parents
    ],
)
def test_a_failed_migration_changes_nothing(path: Path, bad: str) -> None:
    filled(path)
    broken = Migration("0002_broken", ("ALTER TABLE person ADD COLUMN x", "DELETE FROM crop", bad))
    with pytest.raises((sqlite3.OperationalError, GalleryDamaged)):
        open_store(path, (*MIGRATIONS, broken))
    with Gallery.open(path) as gallery:
        assert len(state(gallery)) == 3
        with gallery.store.read() as db:
            assert "x" not in [row[1] for row in db.execute("PRAGMA table_info(person)")]


def test_no_room_for_the_copy_means_no_migration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "put_in_place", full)
    with pytest.raises(OutputError, match="No space left"):
        open_store(path, (*MIGRATIONS, NEXT))
    with Gallery.open(path) as gallery:
        assert len(state(gallery)) == 3
    assert [p.name for p in path.parent.iterdir()] == ["gallery.db"]


def test_processes_that_migrate_at_once(path: Path) -> None:
    filled(path)
    code = """
import sys
from pathlib import Path
from facecam.people.schema import MIGRATIONS
from facecam.people.sqlite import Migration
from tests.people_fakes import open_store
open_store(Path(sys.argv[1]), (*MIGRATIONS, Migration("0002_n", ("ALTER TABLE person ADD COLUMN n",))))
"""
    processes = [start(code, path) for _ in range(4)]
    for process in processes:
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
    with Gallery.open(files.backup_name(path, "0002_n")) as copy:  # taken before, by whoever came first
        assert len(state(copy)) == 3


# Deletion


def test_a_removal_that_was_killed_before_erasing_is_finished_at_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    code = """
import os, sys
from pathlib import Path
from facecam.people.database import Database
from facecam.people.gallery import Gallery
Database.erase = lambda self: os.kill(os.getpid(), 9)
Gallery.open(Path(sys.argv[1])).remove("Person 0")
"""
    assert start(code, path).wait() == -9
    secrets = [b"Person 0", *secrets_of(0), *secrets_of(1)]
    with Gallery.open(path) as gallery:
        assert [p.name for p in gallery.people()] == ["Person 1", "Person 2"]
        assert traces(path.parent, secrets) == []
        assert gallery.store.value("erase") is None
    assert traces(path.parent, secrets) == []


def test_a_reader_in_the_way_is_told_and_made_good_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ERASE_PATIENCE", 0.1)
    filled(path)
    secret = secrets_of(0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM person").fetchall()
        with Gallery.open(path) as gallery:
            removed = gallery.remove("Person 0")
            assert removed.problem is not None and "reading" in removed.problem
        assert traces(path.parent, secret)  # the reader's view still needs the old pages
        reader.execute("ROLLBACK")
    with Gallery.open(path):
        assert traces(path.parent, secret) == []


# Several processes, and kills

WORKER = """
import sys
from pathlib import Path
from tests.people_fakes import in_gallery, steps
from facecam.people.gallery import Gallery
with Gallery.open(Path(sys.argv[1])) as gallery:
    for number, step in enumerate(steps(int(sys.argv[2]), sys.argv[3])):
        in_gallery(gallery, step)
        print(number, flush=True)
print("end", flush=True)
"""


@pytest.mark.slow
def test_two_processes_write_while_others_read(path: Path) -> None:
    reader = """
import sys
from pathlib import Path
from tests.people_fakes import state
from facecam.people.gallery import Gallery
seen = set()
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    with Gallery.open(Path(sys.argv[1])) as gallery:
        for _ in range(5):
            for person in gallery.people():
                assert person.samples == person.crops > 0
            gallery.templates("space-one")
            seen.add(gallery.version())
print("versions", len(seen))
"""
    done = path.parent.parent / "done"
    readers = [start(reader, path, done) for _ in range(2)]
    for process in readers:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    writers = [start(WORKER, path, seed, prefix) for seed, prefix in ((1, "a"), (2, "b"))]
    for process in writers:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0 and output.endswith("end\n"), output
    done.touch()
    for process in readers:
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and int(output.split()[-1]) > 3, output
    model: dict[str, set[str]] = {}
    for seed, prefix in ((1, "a"), (2, "b")):
        for step in steps(seed, prefix):
            in_model(model, step)
    with Gallery.open(path) as gallery:
        assert state(gallery) == model


def test_processes_that_create_open_and_close_at_once_lose_nothing(path: Path) -> None:
    """Closing is the delicate part: the last one to close throws the log away."""
    code = """
import sys
from pathlib import Path
from tests.people_fakes import sample
from facecam.people.gallery import Gallery
for i in range(8):
    with Gallery.open(Path(sys.argv[1])) as gallery:
        gallery.add("P" + sys.argv[2], [sample(int(sys.argv[2]) * 100 + i)])
"""
    processes = [start(code, path, number) for number in range(5)]
    for process in processes:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    with Gallery.open(path) as gallery:
        assert [(p.name, p.samples) for p in gallery.people()] == [(f"P{n}", 8) for n in range(5)]
    assert [p.name for p in path.parent.iterdir()] == ["gallery.db"]
