"""Packs of models: which are there, which is in use, installing, adding, checking.

A pack is a detector, a landmark model (none where the detector gives points itself) and an embedder.
Known models (registry.json) are made ready in the home's ``models`` folder on first use, from weights that pip
installed or from a downloaded file. Later starts read three small sidecars and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from facecam.errors import ModelInvalid, ModelMissing, UsageFault
from facecam.zoo import dlib, pairs, registry, shelf
from facecam.zoo.card import ModelCard
from facecam.zoo.download import Progress, download
from facecam.zoo.registry import DEFAULT_PACK, ModelEntry

#: Stands in the names of files made from other files. Raise it when zoo.dlib, zoo.graph or a card in
#: registry.json changes what is made: files of another number are made anew.
CONVERTER: Final = 6

ACTIVE_SCHEMA: Final = "facecam.active/1"
#: Known models of which an int8 file can be made, too, for CPUs that gain by it (`zoo.int8`).
INT8: Final = frozenset(("dlib-detector", "dlib-embedder", "dlib-pairs"))
#: Names of added models: what `clean_name` makes.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LANDMARKS: Final = "dlib-landmarks"

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that is ready to load.

    Attributes:
        path: ONNX file with its card inside.
        card: the same card, read from the sidecar.
        sha256: of the file, as it was written.
        id: name in `facecam models`.
    """

    path: Path
    card: ModelCard
    sha256: str | None
    id: str


@dataclass(frozen=True, slots=True)
class PackFiles:
    """A pack that is ready to load; ``landmarks`` is None where the detector gives points itself."""

    name: str
    detector: ModelFile
    landmarks: ModelFile | None
    embedder: ModelFile

    def members(self) -> tuple[ModelFile, ...]:
        return tuple(m for m in (self.detector, self.landmarks, self.embedder) if m)


@dataclass(frozen=True, slots=True)
class Choice:
    """Ids of the models of a pack, known or put together by the user."""

    detector: str
    landmarks: str | None
    embedder: str

    @property
    def name(self) -> str:
        """The known pack's name, else DETECTOR+EMBEDDER; `--pack` takes both."""
        for pack in registry.packs().values():
            if (pack.detector, pack.landmarks, pack.embedder) == (
                self.detector,
                self.landmarks,
                self.embedder,
            ):
                return pack.name
        return f"{self.detector}+{self.embedder}"

    def members(self) -> tuple[str, ...]:
        return tuple(m for m in (self.detector, self.landmarks, self.embedder) if m)


def to_stderr(line: str) -> None:
    """The default way to tell the user of slow or unusual work."""
    print(f"facecam: {line}", file=sys.stderr, flush=True)


class Zoo:
    """The models of one home folder."""

    def __init__(self, home: Path, *, notify: Notify = to_stderr) -> None:
        """
        Args:
            home: facecam's folder (`settings.home`); made when something is written.
            notify: told one line before slow work and about repairs.
        """
        self.home = home
        self.folder = home / "models"
        self._notify = notify
        self._told = False

    # --- which models ---

    def path_of(self, id: str, precision: str = "fp32") -> Path:
        """Where the ready file of a model is, or would be."""
        if id in registry.models():
            mark = "" if precision == "fp32" else f".{precision}"
            return self.folder / f"{id}{mark}.v{CONVERTER}.onnx"
        return self.folder / f"user-{id}.onnx"

    def source_of(self, entry: ModelEntry) -> Path:
        """The file that a known model is made from; raises ModelMissing for weights that pip lacks."""
        if entry.origin == "package":
            return dlib.weights_path(entry.role)
        if entry.origin == "shipped":
            return pairs.FILE
        return self.folder / entry.file

    def added(self) -> list[str]:
        """Names of the models that the user added."""
        names = (path.stem.removeprefix("user-") for path in sorted(self.folder.glob("user-*.onnx")))
        return [name for name in names if _NAME.fullmatch(name)]

    def resolve(self, role: str, name: str) -> str:
        """The id of the model that a user means for a role: a known id, a pack's name, or an added model.

        Raises:
            UsageFault: there is none, or it has another role.
        """
        known = registry.models()
        if name in registry.packs():
            id: str = getattr(registry.packs()[name], role)
            return id
        if name in known:
            kind = known[name].role
        elif name in self.added():
            stored = shelf.get(self.path_of(name))
            kind = stored.card.kind if stored else "damaged model"
        else:
            choices = [m.id for m in known.values() if m.role == role] + self.added()
            raise UsageFault(f"no {role} is called {name!r}; there are {', '.join(choices)}: facecam models")
        if kind != role:
            raise UsageFault(f"{name} has the role {kind}, not {role}; see: facecam models")
        return name

    def choice(self, pack: str | None = None) -> Choice:
        """The models of a pack.

        Args:
            pack: a known pack's name, DETECTOR+EMBEDDER, or None for the pack in use.

        Raises:
            UsageFault: no such pack.
        """
        if pack is None:
            return self.active()
        if pack in registry.packs():
            entry = registry.packs()[pack]
            return Choice(entry.detector, entry.landmarks, entry.embedder)
        detector, plus, embedder = pack.partition("+")
        if not plus:
            raise UsageFault(f"no pack is called {pack!r}; there are {', '.join(registry.packs())}: facecam models")
        return self._combined(self.resolve("detector", detector), self.resolve("embedder", embedder))

    def _combined(self, detector: str, embedder: str) -> Choice:
        if detector in registry.models():
            card = registry.models()[detector].card
        else:
            stored = shelf.get(self.path_of(detector))
            card = stored.card if stored else None
        points = card is not None and card.landmarks is not None
        return Choice(detector, None if points else _LANDMARKS, embedder)

    def active(self) -> Choice:
        """The pack in use; the embedded default until the user chose one.

        Raises:
            ModelInvalid: the file that remembers it is damaged or names models that are gone.
        """
        path = self.folder / "active.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["schema"] != ACTIVE_SCHEMA:
                raise ValueError(f"schema {facts['schema']!r}")
            return self._combined(
                self.resolve("detector", str(facts["detector"])), self.resolve("embedder", str(facts["embedder"]))
            )
        except FileNotFoundError:
            return self.choice(DEFAULT_PACK)
        except (OSError, ValueError, LookupError, TypeError, UsageFault) as error:
            raise ModelInvalid(
                f"{path}: cannot be used ({error}); choose again: facecam models use {DEFAULT_PACK}"
            ) from error

    def use(self, pack: str | None = None, *, detector: str | None = None, embedder: str | None = None) -> Choice:
        """Put a pack in use from now on, or exchange a part of the one in use. All of it must be installed.

        Raises:
            UsageFault: no such pack or model. ModelMissing: not installed. OutputError: cannot be remembered.
        """
        if not (pack or detector or embedder):
            raise UsageFault("name a pack, or --detector or --embedder; see: facecam models")
        base = self.choice(pack) if pack else None
        chosen = self._combined(
            self.resolve("detector", detector) if detector else (base or self.active()).detector,
            self.resolve("embedder", embedder) if embedder else (base or self.active()).embedder,
        )
        self._ensure(chosen)
        facts = {"schema": ACTIVE_SCHEMA, "detector": chosen.detector, "embedder": chosen.embedder}
        self.make_folder()
        shelf.write(self.folder / "active.json", json.dumps(facts, indent=1).encode())
        return chosen

    # --- getting them ready ---

    def ensure(self, pack: str | None = None) -> PackFiles:
        """The files of a pack, made ready if need be (the dlib pack: a few seconds, once).

        Raises:
            ModelMissing: a model is not installed; the message names the command that does it.
            ModelInvalid: a model is damaged and cannot be made again.
        """
        return self._ensure(self.choice(pack))

    def _ensure(self, choice: Choice) -> PackFiles:
        landmarks = self.model(choice.landmarks) if choice.landmarks else None
        return PackFiles(choice.name, self.model(choice.detector), landmarks, self.model(choice.embedder))

    def model(self, id: str, precision: str = "fp32") -> ModelFile:
        """One model's ready file; made if need be.

        Args:
            precision: "fp32", or "int8" for the models in `INT8`.
        """
        if precision != "fp32" and id not in INT8:
            raise ValueError(f"{id} has no {precision} file")
        path = self.path_of(id, precision)
        entry = registry.models().get(id)
        try:
            stored = shelf.get(path)
        except ModelInvalid:
            if entry is None:
                raise
            self._notify(f"{path.name} is damaged; making it anew")
            stored = None
        if stored is None:
            if entry is None:
                raise ModelMissing(
                    f"model {id} is not installed; add it again: facecam models add FILE, "
                    f"or go back: facecam models use {DEFAULT_PACK}"
                )
            stored = self._make(entry, precision)
        return ModelFile(stored.path, stored.card, stored.sha256, id)

    def _make(self, entry: ModelEntry, precision: str) -> shelf.Stored:
        """Make a known model's ready file from its source; two processes may try at once."""
        source = self.source_of(entry)
        if not source.is_file():
            raise ModelMissing(
                f"model {entry.id} is not installed; run: facecam models pull {_pull_name(entry)} "
                f"(or place the file by hand: facecam models add {entry.file})"
            )
        self.make_folder()
        path = self.path_of(entry.id, precision)
        with shelf.locked(self.folder, "make"):
            with contextlib.suppress(ModelInvalid):  # a damaged one is replaced below
                if ready := shelf.get(path):  # another process was quicker
                    return ready
            if not self._told:
                self._notify("preparing the models (a few seconds, once)")
                self._told = True
            data = source.read_bytes()
            if entry.origin != "download":
                from facecam.zoo.session import read_card

                convert = pairs.convert if entry.origin == "shipped" else partial(dlib.convert, entry.role)
                made = convert(data, precision)
                card = read_card(made)
            else:
                from facecam.zoo import graph

                if hashlib.sha256(data).hexdigest() != entry.sha256:
                    raise ModelInvalid(
                        f"{source}: has another SHA-256 than pinned; run: facecam models pull {_pull_name(entry)}"
                    )
                assert entry.card is not None
                made, card = graph.prepare(graph.parse(data, entry.file), entry.card, entry.file)
            stored = shelf.put(path, made, card, made_from=entry.sha256, origin=entry.source)
            for old in self.folder.glob(f"{path.name.rpartition('.v')[0]}.v*.onnx"):
                if old != path:
                    shelf.remove(old)
            return stored

    def pull(self, name: str, progress: Callable[[str], Progress] | None = None) -> list[ModelFile]:
        """Download what a pack (or one model) lacks, and make it ready. Damaged files are replaced.

        Args:
            name: a known pack's or model's name.
            progress: called with a file's name; gives what is told of its bytes.

        Raises:
            UsageFault: no such pack or model. DownloadFailed. OutputError.
        """
        known = registry.models()
        if name in registry.packs():
            entries = [known[id] for id in registry.packs()[name].members()]
        elif name in known:
            entries = [known[name]]
        else:
            raise UsageFault(f"nothing is called {name!r} to pull; there are {', '.join([*registry.packs(), *known])}")
        self.make_folder()
        with shelf.locked(self.folder, "pull"):
            for entry in entries:
                source = self.source_of(entry)
                if entry.origin == "download" and not (source.is_file() and shelf.digest(source) == entry.sha256):
                    told = progress(entry.file) if progress else None
                    download(entry.urls, source, bytes=entry.bytes, sha256=entry.sha256, progress=told)
        for entry in entries:
            self.discard_damaged(entry.id)
        return [self.model(entry.id) for entry in entries]

    def discard_damaged(self, id: str) -> None:
        """Take a known model's ready files away unless their hash is right, so that they are made anew."""
        for path in self.ready_paths(id):
            try:
                stored = shelf.get(path)
            except ModelInvalid:
                stored = None
            if stored is None or not shelf.intact(stored):
                shelf.remove(path)

    def ready_paths(self, id: str) -> list[Path]:
        """The ready files of a model that may be there: float32, and 8-bit integers where such can be made."""
        return [self.path_of(id, precision) for precision in ("fp32", "int8") if precision == "fp32" or id in INT8]

    def make_folder(self) -> None:
        """Make the home and its models folder."""
        shelf.make_folder(self.home)
        shelf.make_folder(self.folder)


def _pull_name(entry: ModelEntry) -> str:
    """What to pull for a model: the first pack that has it, else itself."""
    packs = (pack.name for pack in registry.packs().values() if entry.id in pack.members())
    return next(packs, entry.id)
