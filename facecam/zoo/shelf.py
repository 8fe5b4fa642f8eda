"""Model files on disk: written at once, each with a small sidecar that makes later starts quick.

``NAME.onnx`` has ``NAME.json`` beside it: the file's size, time of change and SHA-256, what it was made
from, and its card. While size and time agree, the file is neither hashed nor parsed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from facecam.errors import ModelInvalid, OutputError
from facecam.video.atomic import atomic_bytes, output_error
from facecam.zoo.card import ModelCard

SCHEMA: Final = "facecam.model/1"


@dataclass(frozen=True, slots=True)
class Stored:
    """A model file on the shelf, as its sidecar describes it.

    Attributes:
        path: the ONNX file.
        bytes, mtime_ns, sha256: of that file when it was written.
        made_from: SHA-256 of the file that it was made from (its own where it was copied).
        card: what it eats and gives.
        origin: where it came from, for people.
    """

    path: Path
    bytes: int
    mtime_ns: int
    sha256: str
    made_from: str
    card: ModelCard
    origin: str


def sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def put(path: Path, data: bytes, card: ModelCard, *, made_from: str, origin: str) -> Stored:
    """Write a model and its sidecar, each at once: a reader sees the old or the new, never a part.

    Raises:
        OutputError: the folder cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    sidecar(path).unlink(missing_ok=True)  # an old description must not meet the new file
    mtime_ns = write(path, data)
    stored = Stored(path, len(data), mtime_ns, digest, made_from, card, origin)
    _describe(stored)
    return stored


def _describe(stored: Stored) -> None:
    facts = asdict(stored)
    del facts["path"]
    facts["card"] = json.loads(stored.card.to_json())
    write(sidecar(stored.path), json.dumps({"schema": SCHEMA, **facts}, ensure_ascii=False, indent=1).encode())


def get(path: Path) -> Stored | None:
    """The stored model, checked as far as it is cheap; None if it (or its description) is not there.

    Raises:
        ModelInvalid: the file has changed since it was written, or its sidecar is damaged.
    """
    try:
        text = sidecar(path).read_text(encoding="utf-8")
        status = path.stat()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelInvalid(f"{path}: cannot be read ({error}); see: facecam models verify") from error
    stored = _read_sidecar(path, text)
    if status.st_size == stored.bytes and status.st_mtime_ns == stored.mtime_ns:
        return stored
    if status.st_size != stored.bytes or digest(path) != stored.sha256:
        raise ModelInvalid(f"{path}: has changed since it was installed; see: facecam models verify")
    touched = Stored(
        path, stored.bytes, status.st_mtime_ns, stored.sha256, stored.made_from, stored.card, stored.origin
    )
    with contextlib.suppress(OutputError):  # copied or touched only; a folder that is read-only stays usable
        _describe(touched)
    return touched


def _read_sidecar(path: Path, text: str) -> Stored:
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts.pop("schema", None) != SCHEMA:
            raise ValueError("its schema is another")
        card = ModelCard.from_json(json.dumps(facts.pop("card", None)))
        stored = Stored(path=path, card=card, **facts)
        if not isinstance(stored.bytes, int) or not isinstance(stored.sha256, str):
            raise TypeError("its size or hash has a wrong type")
        return stored
    except (ValueError, TypeError, AttributeError, RecursionError, ModelInvalid) as error:
        raise ModelInvalid(
            f"{sidecar(path)}: is damaged ({error}); remove it and run: facecam models verify"
        ) from error


def intact(stored: Stored) -> bool:
    """Whether the file still has the hash with which it was written (reads all of it)."""
    return stored.path.is_file() and digest(stored.path) == stored.sha256


def remove(path: Path) -> None:
    """Take a model and its sidecar away; fine if they are not there."""
    sidecar(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> int:
    """Write a file at once, in place of one that may be there.

    Returns:
        its time of change in nanoseconds.

    Raises:
        OutputError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    atomic_bytes(path, data, overwrite=True)
    return path.stat().st_mtime_ns


def make_folder(path: Path) -> None:
    """Make a folder that its owner alone can read.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise output_error(path, error) from error


def digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from doing the same work at once.

    Only a courtesy: writes are atomic anyway, so a system without file locks may do without.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        file = open(folder / f".{name}.lock", "wb")  # noqa: SIM115  closed below, with the lock
    except OSError as error:
        raise output_error(folder, error) from error
    with file:
        with contextlib.suppress(OSError):
            _lock(file.fileno())
        yield  # closing the file releases the lock


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
