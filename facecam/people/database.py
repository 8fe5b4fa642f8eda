"""A file of ours that SQLite keeps: opening, checking, migrations, transactions, erasing.

What is promised: a change that `Database.atomic` returned from is on the disk (WAL,
synchronous=FULL) and one that it did not return from leaves nothing; several processes wait for
each other instead of failing; a damaged file is refused and left as it is; what `Database.erase`
returned from without a problem is in no file any more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facecam.errors import FacecamError, OutputError
from facecam.people import copies, files, sqlite
from facecam.people.names import escaped
from facecam.people.soundness import check, log_size, migrate
from facecam.people.sqlite import Connection, Kind

#: Seconds that erasing waits for readers; a person is waiting for it.
ERASE_PATIENCE: Final = 5.0
#: Entry of the table of small facts that differs after every `overwrite`.
ORIGIN: Final = "origin"
#: The mark of a deletion (`mark_erase`) whose erasing has deleted the last good copy, and is to make it anew.
_ERASE_WITH_COPY: Final = 2


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing did beyond the rows.

    Attributes:
        backups: automatic copies of the file that were deleted, since they held the erased data too.
        problem: why traces may be left in the files; None when there are none. Erasing is then
            done again when the file is next opened.
        renewed: backups of the user's (`people.copies`) that were made anew without the erased data.
        stale: backups of the user's that could not be, and still hold it.
    """

    backups: tuple[Path, ...]
    problem: str | None = None
    renewed: tuple[Path, ...] = ()
    stale: tuple[Path, ...] = ()


class Database:
    """One open file. May be used from several threads; transactions exclude each other.

    Attributes:
        path: without links. obstacle: why nothing can be written, None if it can.
        resumed: what was erased at the opening, since an earlier erasing was interrupted or could not reach a
            backup; None if nothing was.
        copied: `changes` of the last good copy that `erase` made, None if it made none.
    """

    def __init__(
        self, connection: Connection, path: Path, kind: Kind, obstacle: str | None, links: tuple[Path, ...] = ()
    ) -> None:
        """Use `open_database`.

        Args:
            obstacle: says why nothing can be written, None if it can.
            links: that led to ``path``; beside them an earlier facecam kept its copies.
        """
        self._connection = connection
        self._links = links
        self._lock = threading.RLock()
        self.path = path
        self.kind = kind
        self.obstacle = obstacle
        self.resumed: Erased | None = None
        self.copied: int | None = None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A view of one moment over several statements; fetch everything inside."""
        with self._lock, sqlite.translated(self.path, self.kind):
            db = self._connection
            if db.in_transaction:  # a read inside this thread's own change
                yield db
                return

            def begin() -> None:
                db.execute("BEGIN")
                try:
                    db.read_seal()  # a read: BEGIN alone does not fix the moment
                except sqlite.Fault:
                    db.execute("ROLLBACK")
                    raise

            sqlite.patiently(begin)
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
                which must not make others read the file anew.

        Raises:
            OutputError: the file cannot be written (read-only, disk full).
            FacecamError: of the kind, when another process held the lock for `sqlite.PATIENCE` seconds.
        """
        if self.obstacle is not None:
            raise OutputError(self.obstacle)
        with self._lock, sqlite.translated(self.path, self.kind):
            db = self._connection
            if db.in_transaction:
                raise RuntimeError("atomic() does not nest")
            before = db.total_changes
            with sqlite.transaction(db):
                db.read_seal()
                yield db
                if counted and db.total_changes != before:
                    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'changes'")

    def value(self, key: str) -> Any:
        """An entry of the table of small facts, None if absent."""
        with self.read() as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def unlock(self) -> None:
        """Have the passphrase of an encrypted file asked for now, and not while others wait for a change.

        Raises:
            GalleryLocked: there is none, or a wrong one.
        """
        with self.read() as db:
            _ = db.seal

    def changes(self) -> int:
        """A number that differs after every counted change by any process."""
        return int(self.value("changes"))

    def backup_to(self, path: Path) -> None:
        """Copy the file, as of one moment, to ``path`` (mode 0600, appears atomically).

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock, sqlite.translated(self.path, self.kind, files_too=True):
            sqlite.copy(self._connection, path)

    def erase(self) -> Erased:
        """Make what was deleted vanish from the files: free pages, log, automatic copies, backups.

        secure_delete alone is not enough: cells that SQLite moves between pages leave stale copies
        (measured: a deleted row's digest was found in about half of random histories). VACUUM writes
        every page anew. A deletion calls `mark_erase` in its own transaction, so that the erasing
        that a kill prevented is done when the file is next opened.
        """
        last = files.last_good(self.path)
        gone: list[Path] = []
        renewed: tuple[Path, ...] = ()
        stale: tuple[Path, ...] = ()
        try:
            with self.atomic() as db:  # under the lock, or another process's migration might lose its copy
                if last.exists():  # noted, for an erasing that goes on after a kill
                    db.execute("UPDATE meta SET value = ? WHERE key = 'erase'", (_ERASE_WITH_COPY,))
                for path in (self.path, *self._links):
                    for copy in (*files.backups(path), *files.kept_aside(path), *files.leftovers(path)):
                        copy.unlink(missing_ok=True)
                        if copy != files.last_good(path):  # not told: it is made anew
                            gone.append(copy)
            with self._lock, sqlite.translated(self.path, self.kind, files_too=True):
                db = self._connection
                sqlite.vacuum(db, self.path.stat().st_size)
                db.execute(f"PRAGMA busy_timeout = {int(ERASE_PATIENCE * 1000)}")
                busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                db.execute(f"PRAGMA busy_timeout = {int(sqlite.PATIENCE * 1000)}")
                if busy:
                    return Erased(tuple(gone), f"another process is reading the {self.kind.noun}")
            renewed, stale = copies.refresh(self)
            with self.atomic() as db:
                row = db.execute("SELECT value FROM meta WHERE key = 'erase'").fetchone()
                db.execute("DELETE FROM meta WHERE key = 'erase'")
        except (FacecamError, OSError) as error:
            return Erased(tuple(gone), str(error), renewed, stale)
        if row == (_ERASE_WITH_COPY,):
            with contextlib.suppress(OutputError):  # no trace is left; the next change makes the copy
                before = self.changes()
                self.backup_to(last)
                self.copied = before
        return Erased(tuple(gone), None, renewed, stale)


def overwrite(present: Database, source: Path) -> None:
    """Give an open file the content of another, in one change that other processes see.

    Args:
        source: a copy made for this; it is marked as another origin than any before.

    Raises:
        OutputError: it cannot be written.
    """
    if present.obstacle is not None:
        raise OutputError(present.obstacle)
    with (
        present._lock,
        sqlite.translated(present.path, present.kind, files_too=True),
        contextlib.closing(sqlite.connect(source.as_uri() + "?mode=rw")) as content,
    ):
        # Both counted their changes from the same number on, and may have come to the same one by different ways.
        content.execute("UPDATE meta SET value = abs(random() % 1000000000) WHERE key = 'changes'")
        content.execute("INSERT OR REPLACE INTO meta VALUES (?, abs(random()))", (ORIGIN,))
        sqlite.patiently(lambda: content.backup(present._connection))


def mark_erase(db: Connection) -> None:
    """Note, within a deletion's transaction, that `Database.erase` is due."""
    db.execute("INSERT OR IGNORE INTO meta VALUES ('erase', 1)")


def erase_within(copy: Path) -> None:
    """Erase in a copy, which nobody else uses, what its original had still to erase.

    Opening it in the original's place would do it, too, and delete what was kept aside there a moment before.
    """
    with contextlib.closing(sqlite.connect(copy.as_uri() + "?mode=rw")) as db:
        db.execute("PRAGMA journal_mode = MEMORY").fetchone()  # a journal would hold what is to be erased
        if db.execute("DELETE FROM meta WHERE key = 'erase'").rowcount:
            sqlite.vacuum(db, copy.stat().st_size)


def open_database(path: Path, kind: Kind, *, create: bool = True, ask: Callable[[], str] | None = None) -> Database:
    """Open the file at ``path``, checked and brought to the newest schema.

    Args:
        create: make an absent one. Without it an absent one is an empty one in memory, to which
            nothing can be written.
        ask: gives the passphrase of an encrypted one where the environment does not.

    Raises:
        kind.damaged: not such a file, or one that fails the integrity check (left untouched).
        kind.error: written by a newer facecam, locked for `sqlite.PATIENCE` seconds, or a link that leads nowhere.
        OutputError: it cannot be opened, created or migrated (permission, disk full).
    """
    given = path.absolute()
    path = copies.real(given)  # where SQLite keeps the log
    with sqlite.translated(path, kind, files_too=True), contextlib.ExitStack() as undo:
        files.check_link(given, kind.noun, kind.error)
        if not files.present(path, kind.noun, kind.damaged):
            if not create:
                empty = sqlite.connect(":memory:")
                migrate(empty, kind, None)
                return Database(empty, path, kind, f"{escaped(str(path))}: {kind.absent}")
            _create(path, kind)
        obstacle = files.obstacle_to_writing(path, kind.noun, kind.place) or _no_room(path, kind)
        if obstacle is None and log_size(path):
            # Closing a writing connection moves the log into the file, and damage is to be left as it is.
            with contextlib.closing(sqlite.connect(path.as_uri() + "?mode=ro")) as probe:
                check(probe, path, kind)
        db = undo.enter_context(contextlib.closing(sqlite.connect(_uri(path, obstacle))))
        check(db, path, kind)
        if obstacle is None:
            files.close_to_others(path)
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":  # a copy put back by hand
                sqlite.patiently(lambda: db.execute("PRAGMA journal_mode = WAL").fetchone())
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            migrate(db, kind, path)
        db.ask = ask
        undo.pop_all()
        opened = Database(db, path, kind, obstacle, (given,) if given.is_symlink() else ())
        if obstacle is None and opened.value("erase"):
            opened.resumed = opened.erase()  # a removal was interrupted between its commit and its erasing
        elif obstacle is None and (renewed := copies.make_good(opened)):
            opened.resumed = Erased((), None, renewed)
        return opened


def temporary_database(kind: Kind) -> Database:
    """One of that kind, gone when it is closed: in memory, and what grows large in a nameless file of the system's
    folder for temporary files."""
    db = sqlite.connect("")
    migrate(db, kind, None)
    # What messages call it: where there may be too little room.
    return Database(db, Path(f"the temporary {kind.noun} (in TMPDIR, or else /var/tmp)"), kind, None)


def _no_room(path: Path, kind: Kind) -> str | None:
    """Why the file cannot change on a disk that is full to the last page; None if there is some room.

    SQLite then cannot even read it as a file that may change; as one that nobody changes it can, unless there is a log.
    """
    if log_size(path):  # closing the probe would move the log into the file, which may be damaged
        return None
    try:
        with contextlib.closing(sqlite.connect(path.as_uri() + "?mode=rw")) as probe:
            sqlite.patiently(lambda: probe.execute("SELECT 1 FROM sqlite_schema").fetchone())
    except sqlite.Fault as error:
        if sqlite.no_room(error):
            return f"{escaped(str(path))}: the disk is full, so the {kind.noun} cannot change; free some space"
    return None


def _uri(path: Path, obstacle: str | None) -> str:
    if obstacle is None:
        return path.as_uri() + "?mode=rw"
    # Where SQLite cannot make its shared memory the file is read as it stands; not beside a log,
    # which would hold the newest changes.
    return path.as_uri() + ("?mode=ro" if log_size(path) else "?mode=ro&immutable=1")


def _create(path: Path, kind: Kind) -> None:
    """Make an empty file that appears complete or not at all: an empty one is then always damage."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.draft(path) as made:  # its mode passes on to the log and the shared memory
        with contextlib.closing(sqlite.connect(made.as_uri() + "?mode=rw")) as db:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA application_id = {kind.application_id}")
            migrate(db, kind, None)
        files.put_if_absent(made, path)
