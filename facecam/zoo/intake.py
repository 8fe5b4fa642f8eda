"""Takes in a model file that the user brings, and checks the files that are there.

What a file may be is decided here and in `zoo.graph`: a regular file of a sane size, opened as bytes, standing
alone, with a card inside that a trial run confirms, or one of the pinned files of the registry.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from facecam.errors import ModelError, ModelInvalid, ModelMissing, UsageFault
from facecam.zoo import registry, shelf
from facecam.zoo.card import ModelCard
from facecam.zoo.packs import Zoo
from facecam.zoo.session import MAX_BYTES


@dataclass(frozen=True, slots=True)
class Status:
    """One model as `facecam models` lists it.

    Attributes:
        id, role, licence, source, about: for people; see `registry.ModelEntry`.
        bytes: size of the file it is made from (known) or of the file itself (added).
        state: "installed", "ready" (made on first use from what pip brought), "absent" or "damaged".
        lfw: measured accuracy on LFW, 0 to 1, or None.
        added: True for models that the user brought.
        card: where it is known without work.
        path: of the ready file, if installed.
    """

    id: str
    role: str
    licence: str
    source: str
    about: str
    bytes: int
    state: str
    lfw: float | None
    added: bool
    card: ModelCard | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` says of one file: "ok", "damaged", "missing" (wanted, not there) or "absent"."""

    id: str
    path: Path | None
    state: str
    detail: str

    @property
    def good(self) -> bool:
        return self.state in ("ok", "absent")


def clean_name(text: str) -> str:
    """A model's name as a part of a file name: letters, digits, dot, dash, underscore; "" if none are left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    dashed = re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9._]+|\.\.+", "-", plain))
    return dashed.strip("-._")[:64].rstrip("-._").lower()


def read_model(file: Path) -> bytes:
    """Content of a regular file of a sane size.

    Raises:
        ModelMissing: not there or not readable. ModelInvalid: not a regular file, empty or too large.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelInvalid(f"{file}: not a regular file; name an ONNX file")
            if status.st_size > MAX_BYTES:
                raise ModelInvalid(
                    f"{file}: {status.st_size >> 20} MiB, above the limit of {MAX_BYTES >> 20} MiB for a model"
                )
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelMissing(f"{file}: no such file; name the ONNX file to add") from error
    except IsADirectoryError as error:
        raise ModelInvalid(f"{file}: a folder; name an ONNX file in it") from error
    except OSError as error:
        raise ModelMissing(f"{file}: cannot be read ({error.strerror}); name an ONNX file") from error
    if not data:
        raise ModelInvalid(f"{file}: is empty; export or download it again")
    if len(data) > MAX_BYTES:
        raise ModelInvalid(f"{file}: grows while it is read, above {MAX_BYTES >> 20} MiB; name a finished file")
    return data


def add(zoo: Zoo, file: Path, *, name: str | None = None, replace: bool = False) -> Status:
    """Copy a model into the home, so that it can be used: a pinned file of the registry, or one with a card.

    Args:
        name: what to call it; default: the name in its card. A pinned file keeps its own.
        replace: whether a model added earlier under that name gives way.

    Raises:
        ModelInvalid: not a model that facecam can use. UsageFault: the name is taken.
    """
    data = read_model(file)
    digest = hashlib.sha256(data).hexdigest()
    known = registry.by_digest(digest)
    if known is not None:
        if known.origin == "download":
            zoo.make_folder()
            shelf.write(zoo.source_of(known), data)
            zoo.discard_damaged(known.id)
        zoo.model(known.id)
        return _known_status(zoo, known)
    from facecam.zoo import graph  # imports onnx

    model = graph.parse(data, str(file))
    card = graph.card_of(model)
    if card is None:
        raise ModelInvalid(
            f"{file}: has no model card inside, and its SHA-256 ({digest[:12]}...) is not of a file that facecam "
            "knows; export it with python -m export, or pull a known one: facecam models"
        )
    if card.kind not in ("detector", "embedder", "classifier"):
        raise ModelInvalid(f"{file}: a {card.kind} model cannot be added; a detector, embedder or classifier can")
    graph.trial(data, card, str(file))
    id = clean_name(name if name is not None else card.name)
    if not id:
        if name is not None:
            raise UsageFault(f"--name takes letters, digits, dots, dashes, not {name!r}")
        id = f"model-{digest[:8]}"
    if id in registry.models() or id in registry.packs():
        raise UsageFault(f"{id} is the name of a known model; choose another: facecam models add --name NAME FILE")
    path = zoo.path_of(id)
    if path.exists() and not replace and shelf.digest(path) != digest:
        raise UsageFault(f"another model is called {id}; add --replace, or --name NAME for a new name")
    zoo.make_folder()
    shelf.put(path, data, card, made_from=digest, origin=str(file.name))
    return _added_status(zoo, id)


def statuses(zoo: Zoo) -> list[Status]:
    """Every known and added model."""
    known = [_known_status(zoo, entry) for entry in registry.models().values()]
    return known + [_added_status(zoo, id) for id in zoo.added()]


def _known_status(zoo: Zoo, entry: registry.ModelEntry) -> Status:
    path = zoo.path_of(entry.id)
    card, state = entry.card, "absent"
    try:
        if stored := shelf.get(path):
            card, state = stored.card, "installed"
        elif zoo.source_of(entry).is_file():
            state = "ready"
    except ModelMissing:
        pass  # the weights of the package are not there: absent
    except ModelInvalid:
        state = "damaged"
    return Status(
        entry.id, entry.role, entry.licence, entry.source, entry.about, entry.bytes, state, entry.lfw, False,
        card, path if state == "installed" else None,
    )  # fmt: skip


def _added_status(zoo: Zoo, id: str) -> Status:
    path = zoo.path_of(id)
    size = path.stat().st_size
    try:
        stored = shelf.get(path)
    except ModelInvalid:
        stored = None
    if stored is None:
        return Status(id, "?", "?", "?", "added", size, "damaged", None, True, None, None)
    card = stored.card
    return Status(
        id, card.kind, card.licence, card.source, card.name, size, "installed", None, True, card, path
    )  # fmt: skip


def verify(zoo: Zoo) -> list[Verdict]:
    """Hash every model file that is there, and look that the pack in use is complete."""
    verdicts: list[Verdict] = []
    try:
        wanted = set(zoo.active().members())
    except ModelError as error:
        verdicts.append(Verdict("active", zoo.folder / "active.json", "damaged", str(error)))
        wanted = set()
    for entry in registry.models().values():
        verdicts += _verify_known(zoo, entry, entry.id in wanted)
    again = "add it again: facecam models add FILE"
    return verdicts + [_verify_ready(id, zoo.path_of(id), again) for id in zoo.added()]


def _verify_known(zoo: Zoo, entry: registry.ModelEntry, wanted: bool) -> list[Verdict]:
    again = f"run: facecam models pull {entry.id}"
    try:
        source = zoo.source_of(entry)
    except ModelMissing as error:
        return [Verdict(entry.id, None, "missing" if wanted else "absent", str(error))]
    if not source.is_file() and not zoo.path_of(entry.id).exists():
        return [Verdict(entry.id, None, "missing" if wanted else "absent", f"not installed; {again}")]
    verdicts = []
    if source.is_file():
        if shelf.digest(source) == entry.sha256:
            verdicts.append(Verdict(entry.id, source, "ok", "the pinned file"))
        else:
            package = {"package": "face_recognition_models", "shipped": "facecam"}.get(entry.origin)
            how = f"reinstall {package}" if package else again
            verdicts.append(Verdict(entry.id, source, "damaged", f"another SHA-256 than pinned; {how}"))
    return verdicts + [_verify_ready(entry.id, path, again) for path in zoo.ready_paths(entry.id) if path.exists()]


def _verify_ready(id: str, path: Path, again: str) -> Verdict:
    try:
        stored = shelf.get(path)
    except ModelInvalid as error:
        return Verdict(id, path, "damaged", f"{error}; {again}")
    if stored is None:
        return Verdict(id, path, "damaged", f"its description {shelf.sidecar(path).name} is missing; {again}")
    if not shelf.intact(stored):
        return Verdict(id, path, "damaged", f"has changed since it was installed; {again}")
    return Verdict(id, path, "ok", "as installed")
