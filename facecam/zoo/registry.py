"""What facecam knows of models by name: registry.json, read once and checked.

An entry pins the file that a model is made from (size and SHA-256) and says where it comes from, under
which licence, and what was measured with it. Files without a card inside get theirs from here.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from facecam.zoo.card import ModelCard

SCHEMA: Final = "facecam.registry/1"
ROLES: Final = ("detector", "landmarks", "embedder")
#: The pack that needs nothing but pip.
DEFAULT_PACK: Final = "dlib-pairs"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that facecam knows by name.

    Attributes:
        id: its name on the command line.
        role: detector, landmarks or embedder.
        origin: "package" (weights that pip installed), "shipped" (a file beside this one) or "download".
        file: name of the file it is made from.
        licence: SPDX expression.
        source: a page for people to read.
        urls: where to download from, in order: the pinned place, then the fallback.
        bytes, sha256: of the file it is made from.
        lfw: accuracy on LFW as measured by this project, 0 to 1, or None.
        about: one line for people.
        card: for files that carry none inside; of the prepared model.
        impostor: an embedder's impostor curve as people.calibrate reads it, where it was measured.
    """

    id: str
    role: str
    origin: str
    file: str
    licence: str
    source: str
    urls: tuple[str, ...]
    bytes: int
    sha256: str
    lfw: float | None
    about: str
    card: ModelCard | None
    impostor: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES or self.origin not in ("package", "shipped", "download"):
            raise ValueError(f"registry entry {self.id!r}: role {self.role!r}, origin {self.origin!r}")
        if len(self.sha256) != 64 or self.bytes <= 0 or set(self.file) & set("/\\"):
            raise ValueError(f"registry entry {self.id!r}: size, hash or file name is wrong")
        if (self.origin == "download") != bool(self.urls) or (self.origin == "download") != bool(self.card):
            raise ValueError(f"registry entry {self.id!r}: a download has URLs and a card, others have none")


@dataclass(frozen=True, slots=True)
class PackEntry:
    """A detector, a landmark model (None where the detector gives points itself) and an embedder."""

    name: str
    detector: str
    landmarks: str | None
    embedder: str
    summary: str

    def members(self) -> tuple[str, ...]:
        return tuple(m for m in (self.detector, self.landmarks, self.embedder) if m)


@functools.cache
def _read() -> tuple[Mapping[str, ModelEntry], Mapping[str, PackEntry]]:
    text = importlib.resources.files("facecam.zoo").joinpath("registry.json").read_text(encoding="utf-8")
    data = json.loads(text)
    if data["schema"] != SCHEMA:
        raise ValueError(f"registry.json is of schema {data['schema']!r}, not {SCHEMA!r}")
    models = {}
    for name, entry in data["models"].items():
        card = entry.pop("card")
        models[name] = ModelEntry(
            id=name,
            card=ModelCard.from_json(json.dumps(card)) if card else None,
            urls=tuple(entry.pop("urls")),
            **entry,
        )
    packs = {name: PackEntry(name=name, **entry) for name, entry in data["packs"].items()}
    for pack in packs.values():
        for role in ROLES:
            member = getattr(pack, role)
            if (member or role != "landmarks") and models[member].role != role:
                raise ValueError(f"registry pack {pack.name!r}: {member!r} is not a {role} model")
    return MappingProxyType(models), MappingProxyType(packs)


def models() -> Mapping[str, ModelEntry]:
    """The known models by id, in the order of registry.json."""
    return _read()[0]


def packs() -> Mapping[str, PackEntry]:
    """The known packs by name."""
    return _read()[1]


def by_digest(sha256: str) -> ModelEntry | None:
    """The known model that is made from the file with this SHA-256, if any."""
    return next((m for m in models().values() if m.sha256 == sha256), None)
