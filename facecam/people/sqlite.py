"""The only import of sqlite3: connections, patience with other processes, transactions, copies, and the faults.

A trap: on POSIX, closing any handle of a database's file drops all locks that this process has on
it, SQLite's too, and another process may then throw away the log with acknowledged changes. So the
file is never opened but by SQLite (a look at its header by `open` lost people in a test).
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from facecam.errors import FacecamError, OutputError
from facecam.people import files
from facecam.people.names import escaped
from facecam.people.seal import OVERHEAD, PLAIN, Seal, open_mark

Fault = sqlite3.Error
T = TypeVar("T")

#: Seconds to wait for another process. The longest that one holds the lock is rewriting a large
#: gallery after a deletion: measured 1.3 s for 10,000 samples (210 MB).
PATIENCE: Final = 30.0
#: VACUUM builds its copy in memory below this size, bytes, so that no face is written outside the home.
_VACUUM_IN_MEMORY: Final = 256 << 20
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_ENCODING: Final = re.compile("decode to UTF-8|same text encoding")
_UNWRITABLE: Final = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)


class Connection(sqlite3.Connection):
    """A connection that knows how the file's private values are sealed.

    Attributes:
        ask: gives the passphrase where the environment does not (`people.seal`).
        sealed_by: the mark of the file's seal as last read, None for a plain file.
    """

    ask: Callable[[], str] | None = None
    sealed_by: str | None = None
    _seal: Seal | None = None

    @property
    def seal(self) -> Seal:
        """Seals and opens private values.

        Raises:
            GalleryLocked: it is encrypted, and there is no passphrase, or a wrong one.
        """
        if self._seal is None or self._seal.mark != self.sealed_by:
            self._seal = PLAIN if self.sealed_by is None else open_mark(self.sealed_by, self.ask)
        return self._seal

    @property
    def overhead(self) -> int:
        """Bytes that a private value is longer than it was given; asks for no passphrase."""
        return 0 if self.sealed_by is None else OVERHEAD

    def read_seal(self) -> None:
        """Note, at the start of a transaction, how the file is sealed: another process may have changed it."""
        row = self.execute("SELECT value FROM meta WHERE key = 'seal'").fetchone()
        self.sealed_by = None if row is None else str(row[0])


class Migration(NamedTuple):
    """A named step of a schema. A released step is never changed; new ones come at the end."""

    name: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of database file: its schema, and how its messages speak of it.

    Attributes:
        noun: what it is called ("gallery").
        application_id: marks the file in its header: another program's database is not taken for one.
        migrations: the schema as named, ordered steps.
        absent: what is said of a change to one that is not there ("there is no gallery yet; ...").
        remedy: what to do about a damaged one at that path, in half a sentence.
        error: what is raised for one that is locked or of a newer facecam.
        damaged: what is raised for a damaged one, or something else in its place.
        place: how else to find a place for it, at the end of messages about permissions.
    """

    noun: str
    application_id: int
    migrations: tuple[Migration, ...]
    absent: str
    remedy: Callable[[Path], str]
    error: type[FacecamError]
    damaged: type[FacecamError]
    place: str

    def damage(self, path: Path, detail: str) -> FacecamError:
        """The error for a damaged file."""
        return self.damaged(
            f"{escaped(str(path))}: expected a whole {self.noun}, but {escaped(detail)}; it was left untouched: "
            f"{self.remedy(path)}"
        )


def utc_now() -> str:
    """The time as it is stored: ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def connect(place: str) -> Connection:
    """A connection in autocommit mode: transactions are begun and ended by name."""
    connection = sqlite3.connect(
        place,
        uri=place.startswith("file:"),
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    # A database may come from anywhere: its schema must not call functions behind our back.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def copy(source: Connection, path: Path) -> None:
    """Copy a database, as of one moment, to ``path``: one file of mode 0600 that appears complete or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    shown = escaped(str(path))
    try:
        with files.draft(path) as made:
            with contextlib.closing(connect(made.as_uri() + "?mode=rw")) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a log beside it
            files.put_in_place(made, path)
    except OSError as error:
        raise OutputError(
            f"{shown}: cannot be written ({error.strerror or error}); check the folder, its permissions and the disk"
        ) from error
    except sqlite3.Error as error:
        if _code(error) == sqlite3.SQLITE_FULL:  # of the copy: the source is only read
            raise OutputError(f"{shown}: the disk is full, no copy was made; free some space and try again") from error
        raise


def vacuum(db: Connection, size: int) -> None:
    """Write every page of a database anew, so that nothing deleted is left in free ones.

    Args:
        size: of its file, bytes.
    """
    db.execute(f"PRAGMA temp_store = {'MEMORY' if size < _VACUUM_IN_MEMORY else 'FILE'}")
    patiently(lambda: db.execute("VACUUM"))


@contextlib.contextmanager
def transaction(db: Connection) -> Iterator[None]:
    """Commit at the end, roll back after any exception."""
    patiently(lambda: db.execute("BEGIN IMMEDIATE"))
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute("ROLLBACK")
        raise


def patiently(action: Callable[[], T]) -> T:
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


def of_the_statement(error: Fault) -> bool:
    """Whether SQLite takes a statement for wrong (no such table, say) rather than the file."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_ERROR


def no_room(error: Fault) -> bool:
    """Whether there is no space for the memory that connections share, without which a log cannot be read."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where sqlite3's own Python layer raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextlib.contextmanager
def translated(path: Path, kind: Kind, files_too: bool = False) -> Iterator[None]:
    """Turn the faults of SQLite (and of the file system) into the tree of errors; mistakes stay loud."""
    shown = escaped(str(path))
    try:
        yield
    except UnicodeDecodeError as error:  # names of columns; the text of rows fails as OperationalError
        raise kind.damage(path, f"a text is not UTF-8 ({error.reason})") from error
    except sqlite3.Error as error:
        code = _code(error)
        if code in _BUSY:
            raise kind.error(
                f"{shown}: another process has held the {kind.noun} locked for {PATIENCE:.0f} s; "
                "end it (facecam or a database browser) and try again"
            ) from error
        # Flipped bits of the header's encoding pass every check but VACUUM's.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _ENCODING.search(str(error)):
            raise kind.damage(path, str(error)) from error
        if code == sqlite3.SQLITE_FULL or no_room(error):
            raise OutputError(
                f"{shown}: the disk is full, nothing was changed; free some space and try again"
            ) from error
        if code in _UNWRITABLE:
            raise OutputError(
                f"{shown}: the {kind.noun} cannot be opened or written ({error}), nothing was changed; "
                "check the permissions and the disk"
            ) from error
        raise
    except OSError as error:
        if not files_too:
            raise
        raise OutputError(
            f"{shown}: the {kind.noun} cannot be opened or written ({os.strerror(error.errno or 0)}); "
            f"check the permissions and the disk, or {kind.place}"
        ) from error
