"""The only import of sqlite3: opening, locking, transactions, migrations, erasing, and their faults.

What is promised: a change that `Store.atomic` returned from is on the disk (WAL, synchronous=FULL)
and one that it did not return from leaves nothing; several processes wait for each other instead
of failing; a damaged file is refused and left as it is; what `Store.erase` returned from without a
problem is in no file any more.

A trap: on POSIX, closing any handle of the gallery's file drops all locks that this process has on
it, SQLite's too, and another process may then throw away the log with acknowledged changes. So the
file is never opened but by SQLite (a look at its header by `open` lost people in a test).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from facecam.errors import FacecamError, GalleryDamaged, GalleryError, OutputError
from facecam.people import files
from facecam.people.names import escaped
from facecam.people.schema import BASE, MIGRATIONS, Migration

Connection = sqlite3.Connection
T = TypeVar("T")

#: Seconds to wait for another process. The longest that one holds the lock is rewriting a large
#: gallery after a deletion: measured 1.3 s for 10,000 samples (210 MB).
PATIENCE: Final = 30.0
#: Seconds that erasing waits for readers; a person is waiting for it.
ERASE_PATIENCE: Final = 5.0
#: Marks the file as ours in its header ("fcam"): another program's database is not taken for a gallery.
APPLICATION_ID: Final = 0x6663616D
#: VACUUM builds its copy in memory below this size, so that no face is written outside the home.
_VACUUM_IN_MEMORY: Final = 256 << 20
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_ENCODING: Final = re.compile("decode to UTF-8|same text encoding")
_UNWRITABLE: Final = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing did beyond the rows.

    Attributes:
        backups: automatic copies of the gallery that were deleted, since they held the erased data too.
        problem: why traces may be left in the files; None when there are none. Erasing is then
            done again when the gallery is next opened.
    """

    backups: tuple[Path, ...]
    problem: str | None = None


def utc_now() -> str:
    """The time as it is stored: ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Store:
    """One open gallery file. May be used from several threads; transactions exclude each other."""

    def __init__(self, connection: Connection, path: Path, obstacle: str | None) -> None:
        """Use `Store.open`. ``obstacle`` says why nothing can be written, None if it can."""
        self._connection = connection
        self._lock = threading.RLock()
        self.path = path
        self.obstacle = obstacle

    @classmethod
    def open(cls, path: Path, *, create: bool = True, migrations: tuple[Migration, ...] = MIGRATIONS) -> Store:
        """Open the gallery at ``path``, checked and brought to the newest schema.

        Args:
            create: make an absent gallery. Without it an absent one is an empty one in memory, to
                which nothing can be written.

        Raises:
            GalleryDamaged: not a gallery, or one that fails the integrity check (left untouched).
            GalleryError: written by a newer facecam, or locked for `PATIENCE` seconds.
            OutputError: it cannot be opened, created or migrated (permission, disk full).
        """
        path = path.absolute()
        with _translated(path, files_too=True), contextlib.ExitStack() as undo:
            if not files.gallery_present(path):
                if not create:
                    empty = _connect(":memory:")
                    _migrate(empty, migrations, None)
                    return cls(empty, path, f"{escaped(str(path))}: there is no gallery yet; enrol somebody")
                _create(path, migrations)
            obstacle = files.obstacle_to_writing(path)
            if obstacle is None and _log_size(path):
                # Closing a writing connection moves the log into the file, and damage is to be left as it is.
                with contextlib.closing(_connect(path.as_uri() + "?mode=ro")) as probe:
                    _check(probe, path, migrations)
            db = undo.enter_context(contextlib.closing(_connect(_uri(path, obstacle))))
            _check(db, path, migrations)
            if obstacle is None:
                files.close_to_others(path)
                if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":  # a copy put back by hand
                    _patiently(lambda: db.execute("PRAGMA journal_mode = WAL").fetchone())
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA secure_delete = ON")
                _migrate(db, migrations, path)
            undo.pop_all()
            store = cls(db, path, obstacle)
            if obstacle is None and store.value("erase"):
                store.erase()  # a removal was interrupted between its commit and its erasing
            return store

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A view of one moment over several statements; fetch everything inside."""
        with self._lock, _translated(self.path):
            db = self._connection
            if db.in_transaction:  # a read inside this thread's own change
                yield db
                return

            def begin() -> None:
                db.execute("BEGIN")
                try:
                    db.execute("SELECT 1 FROM meta").fetchall()  # BEGIN alone does not fix the moment
                except sqlite3.Error:
                    db.execute("ROLLBACK")
                    raise

            _patiently(begin)
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextlib.contextmanager
    def atomic(self, *, counted: bool = True) -> Iterator[Connection]:
        """One change: all of it or, after any exception, nothing.

        Args:
            counted: it counts in `changes`; not for what a live run notes by itself every few seconds,
                which must not make others read the gallery anew.

        Raises:
            OutputError: the gallery cannot be written (read-only, disk full).
            GalleryError: another process held the lock for `PATIENCE` seconds.
        """
        if self.obstacle is not None:
            raise OutputError(self.obstacle)
        with self._lock, _translated(self.path):
            db = self._connection
            if db.in_transaction:
                raise RuntimeError("atomic() does not nest")
            before = db.total_changes
            with _transaction(db):
                yield db
                if counted and db.total_changes != before:
                    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'changes'")

    def value(self, key: str) -> Any:
        """An entry of the table of small facts, None if absent."""
        with self.read() as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def changes(self) -> int:
        """A number that differs after every counted change by any process."""
        return int(self.value("changes"))

    def backup_to(self, path: Path) -> None:
        """Copy the gallery, as of one moment, to ``path`` (mode 0600, appears atomically).

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock, _translated(self.path, files_too=True):
            _copy(self._connection, path)

    def erase(self) -> Erased:
        """Make what was deleted vanish from the files: free pages, write-ahead log, automatic copies.

        secure_delete alone is not enough: cells that SQLite moves between pages leave stale copies
        (measured: a deleted row's digest was found in about half of random histories). VACUUM writes
        every page anew. A deletion calls `mark_erase` in its own transaction, so that the erasing
        that a kill prevented is done when the gallery is next opened.
        """
        gone: list[Path] = []
        try:
            with self.atomic():  # under the lock, or another process's migration might lose its copy
                for copy in (*files.backups(self.path), *files.leftovers(self.path)):
                    copy.unlink(missing_ok=True)
                    gone.append(copy)
            with self._lock, _translated(self.path, files_too=True):
                db = self._connection
                small = self.path.stat().st_size < _VACUUM_IN_MEMORY
                db.execute(f"PRAGMA temp_store = {'MEMORY' if small else 'FILE'}")
                _patiently(lambda: db.execute("VACUUM"))
                db.execute(f"PRAGMA busy_timeout = {int(ERASE_PATIENCE * 1000)}")
                busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                db.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
                if busy:
                    return Erased(tuple(gone), "another process is reading the gallery")
            with self.atomic() as db:
                db.execute("DELETE FROM meta WHERE key = 'erase'")
        except (FacecamError, OSError) as error:
            return Erased(tuple(gone), str(error))
        return Erased(tuple(gone))


def mark_erase(db: Connection) -> None:
    """Note, within a deletion's transaction, that `Store.erase` is due."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('erase', 1)")


def _connect(place: str) -> Connection:
    """A connection in autocommit mode: transactions are begun and ended by name."""
    connection = sqlite3.connect(
        place, uri=place.startswith("file:"), timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    # A gallery may come from anywhere: its schema must not call functions behind our back.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _uri(path: Path, obstacle: str | None) -> str:
    if obstacle is None:
        return path.as_uri() + "?mode=rw"
    # Where SQLite cannot make its shared memory the file is read as it stands; not beside a log,
    # which would hold the newest changes.
    return path.as_uri() + ("?mode=ro" if _log_size(path) else "?mode=ro&immutable=1")


def _log_size(path: Path) -> int:
    """Bytes of the write-ahead log, 0 without one."""
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _create(path: Path, migrations: tuple[Migration, ...]) -> None:
    """Make an empty gallery that appears complete or not at all: an empty file is then always damage."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.draft(path) as made:  # its mode passes on to the log and the shared memory
        with contextlib.closing(_connect(made.as_uri() + "?mode=rw")) as db:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(db, migrations, None)
        files.put_if_absent(made, path)


def _check(db: Connection, path: Path, migrations: tuple[Migration, ...]) -> None:
    """Refuse what is not a whole gallery of a known schema (measured: 0.1 s for 10,000 samples, 210 MB)."""
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")
    try:
        _patiently(lambda: db.execute("BEGIN"))  # another process may be changing what is compared here
        try:
            if fault := _patiently(lambda: _fault(db, path)):
                raise _damaged(path, fault)
            applied = _applied(db)
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if _code(error) == sqlite3.SQLITE_ERROR:  # these statements are right, so the file is not
            raise _damaged(path, str(error)) from error
        raise
    if newer := sorted(set(applied) - {m.name for m in migrations}):
        raise GalleryError(
            f"{escaped(str(path))}: the gallery was written by a newer facecam (it has "
            f"{escaped(newer[-1])}); update facecam (pip install --upgrade facecam)"
        )


def _fault(db: Connection, path: Path) -> str | None:
    """What is wrong with the file, None if nothing is."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return "it is no gallery of facecam"
    # SQLite reads a last page that was cut short as if it ended in zeros. (Beside a log it may be short.)
    if not _log_size(path) and path.stat().st_size % db.execute("PRAGMA page_size").fetchone()[0]:
        return "it is cut short"
    # Not quick_check: it takes as long and does not compare the indices with the rows. (On a reading
    # connection SQLite leaves out the CHECKs.)
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        return " ".join(str(verdict).split())
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if row is None or row[0] != _schema_digest(db):
        return "its schema was altered"
    if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        return "it has rows without the rows that they belong to"
    return None


def _schema_digest(db: Connection) -> str:
    """A hash of the schema's own text: damage in it, and a trigger from elsewhere, would go unnoticed else."""
    rows = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE substr(name, 1, 7) <> 'sqlite_' ORDER BY 1, 2"
    )
    return hashlib.sha256(repr(rows.fetchall()).encode()).hexdigest()


def _applied(db: Connection) -> list[str]:
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchone() is None:
        return []
    return [str(row[0]) for row in db.execute("SELECT name FROM migration")]


def _migrate(db: Connection, migrations: tuple[Migration, ...], path: Path | None) -> None:
    """Apply what is missing, each migration in one transaction.

    Args:
        path: an existing gallery's file, copied once before it changes; None for a new one.
    """
    if len(_applied(db)) == len(migrations) > 0:
        return
    db.execute("PRAGMA foreign_keys = OFF")  # or rebuilding a table would delete the rows that point to it
    try:
        with _transaction(db):
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchone() is None:
                for statement in BASE:
                    db.execute(statement)
        copied = path is None
        for migration in migrations:
            with _transaction(db):
                if migration.name in _applied(db):  # asked under the lock: another process may migrate, too
                    continue
                if not copied and path is not None:
                    with contextlib.closing(_connect(path.as_uri() + "?mode=ro")) as source:
                        _copy(source, files.backup_name(path, migration.name))
                    copied = True
                for statement in migration.statements:
                    db.execute(statement)
                if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
                    raise GalleryDamaged(f"{path}: rows without their parents; restore an earlier copy of it")
                db.execute("INSERT INTO migration VALUES (?, ?)", (migration.name, utc_now()))
                db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (_schema_digest(db),))
                db.execute("UPDATE meta SET value = value + 1 WHERE key = 'changes'")
    finally:
        db.execute("PRAGMA foreign_keys = ON")


def _copy(source: Connection, path: Path) -> None:
    with files.draft(path) as made:
        with contextlib.closing(_connect(made.as_uri() + "?mode=rw")) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a log beside it
        files.put_in_place(made, path)


@contextlib.contextmanager
def _transaction(db: Connection) -> Iterator[None]:
    _patiently(lambda: db.execute("BEGIN IMMEDIATE"))
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute("ROLLBACK")
        raise


def _patiently(action: Callable[[], T]) -> T:
    """Repeat while another process holds the lock: SQLite's own wait leaves out a few short moments
    (switching to WAL, recovery after a kill, the last connection's closing)."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where sqlite3's own Python layer raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _damaged(path: Path, detail: str) -> GalleryDamaged:
    copies = files.backups(path)
    back = f"put {escaped(copies[-1].name)} in its place" if copies else "put a copy of it in its place"
    return GalleryDamaged(
        f"{escaped(str(path))}: expected a whole gallery, but {escaped(detail)}; it was left untouched: move "
        f"it away, then {back}, or enrol again (facecam people import takes an earlier export)"
    )


@contextlib.contextmanager
def _translated(path: Path, files_too: bool = False) -> Iterator[None]:
    """Turn the faults of SQLite (and of the file system) into the tree of errors; mistakes stay loud."""
    shown = escaped(str(path))
    try:
        yield
    except UnicodeDecodeError as error:  # names of columns; the text of rows fails as OperationalError
        raise _damaged(path, f"a text is not UTF-8 ({error.reason})") from error
    except sqlite3.Error as error:
        code = _code(error)
        if code in _BUSY:
            raise GalleryError(
                f"{shown}: another process has held the gallery locked for {PATIENCE:.0f} s; "
                "end it (facecam or a database browser) and try again"
            ) from error
        # Flipped bits of the header's encoding pass every check but VACUUM's.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _ENCODING.search(str(error)):
            raise _damaged(path, str(error)) from error
        if code == sqlite3.SQLITE_FULL:
            raise OutputError(
                f"{shown}: the disk is full, nothing was changed; free some space and try again"
            ) from error
        if code in _UNWRITABLE:
            raise OutputError(
                f"{shown}: the gallery cannot be opened or written ({error}), nothing was changed; "
                "check the permissions and the disk"
            ) from error
        raise
    except OSError as error:
        if not files_too:
            raise
        raise OutputError(
            f"{shown}: the gallery cannot be opened or written ({os.strerror(error.errno or 0)}); "
            "check the permissions and the disk, or name another home by FACECAM_HOME"
        ) from error
