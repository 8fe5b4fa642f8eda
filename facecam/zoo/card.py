"""ModelCard: what a model eats and gives. The contract between facecam, train/ and export/.

The card is JSON in the ONNX file's own metadata, so that a model is one file. What can change
without changing the vectors (the file's hash, measured figures) is not here but in the pack's entry.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from facecam.errors import ModelInvalid
from facecam.values import LANDMARK_SCHEMES

#: Key of the card in ``ModelProto.metadata_props``.
METADATA_KEY: Final = "facecam.card"
SCHEMA: Final = "facecam.card/1"
#: How deep the free facts of a card may be nested: real ones reach 3, and Python's own recursion ends near 300.
MAX_DEPTH: Final = 32
KINDS: Final = ("detector", "scout", "landmarks", "embedder", "classifier")

#: Canonical crops that a model can ask for, by name: side of the square crop in pixels.
#: The points they are built on stand in vision.align.
TEMPLATES: Final[Mapping[str, int]] = {"dlib-150": 150, "arcface-112": 112}

#: How a detector's outputs are decoded (vision.detect): dlib's max-margin map, or YuNet's heads.
DECODERS: Final = ("mmod", "yunet")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a name begins.

    Attributes:
        value: higher is stricter.
        kind: "cosine" (embedder) or "probability" (classifier).
        calibration: one sentence: which data, which risk.
    """

    value: float
    kind: str
    calibration: str

    def __post_init__(self) -> None:
        if not isinstance(self.calibration, str):
            raise TypeError("calibration is a text")
        if self.kind not in ("cosine", "probability"):
            raise ValueError(f"a threshold is a cosine or a probability, not {self.kind!r}")
        if not -1.0 <= self.value <= 1.0:
            raise ValueError(f"a threshold lies between -1 and 1, not {self.value}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model eats and gives.

    Attributes:
        name: what people call it.
        kind: detector, landmarks, embedder or classifier.
        input: name of the graph's input. Layout is NCHW float32 (landmarks: see zoo.dlib).
        size: (height, width) of the input in pixels; (0, 0) where both are free.
        colour: "RGB" or "BGR".
        mean, std: per channel, in the colour order above, on the scale 0 to 255:
            fed = (pixel - mean) / std.
        outputs: names of the graph's outputs.
        licence, source: SPDX expression; where the weights came from.
        dim: embedding dimension (embedder), 0 otherwise. Vectors leave the graph with norm 1.
        template: canonical crop that it is fed (embedder, classifier), a key of `TEMPLATES`, or
            "image" for a classifier of whole pictures.
        landmarks: scheme of the points that it gives (detector, landmarks), or None.
        decoder: how a detector's outputs are read (`DECODERS`), or None.
        labels: class names of a classifier, in the order of its outputs.
        threshold: of an embedder or classifier.
        space: name of the vector space (`vector_space`); embedders only.
        mirror: the graph averages each crop's vector with its mirror image's; embedders only.
        training: free facts about the training run and its data.
    """

    name: str
    kind: str
    input: str
    size: tuple[int, int]
    colour: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    outputs: tuple[str, ...]
    licence: str
    source: str
    dim: int = 0
    template: str | None = None
    landmarks: str | None = None
    decoder: str | None = None
    labels: tuple[str, ...] = ()
    threshold: Threshold | None = None
    space: str | None = None
    mirror: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def need(condition: bool, what: str) -> None:
            if not condition:
                raise ValueError(f"model card {self.name!r}: {what}")

        need(self.kind in KINDS, f"kind is one of {KINDS}, not {self.kind!r}")
        need(self.colour in ("RGB", "BGR"), f"colour is RGB or BGR, not {self.colour!r}")
        need(
            len(self.mean) == 3
            and len(self.std) == 3
            and all(s > 0 for s in self.std)
            and all(math.isfinite(value) for value in (*self.mean, *self.std)),
            "mean and std have three finite values, std above zero",
        )
        need(len(self.size) == 2 and all(0 <= s <= 8192 for s in self.size), f"size {self.size} is absurd")
        need(bool(self.input) and bool(self.outputs), "input and outputs are named")
        need(
            self.landmarks is None or self.landmarks in LANDMARK_SCHEMES,
            f"landmarks are one of {LANDMARK_SCHEMES}, not {self.landmarks!r}",
        )
        need(not self.mirror or self.kind == "embedder", "mirror is an embedder's")
        side = TEMPLATES.get(self.template or "")
        if side:
            need(self.size == (side, side), f"a crop of {self.template} has {side} px a side, size is {self.size}")
        if self.kind == "embedder":
            need(0 < self.dim <= 65536, "an embedder states its dimension")
            need(self.template in TEMPLATES, f"template is one of {tuple(TEMPLATES)}, not {self.template!r}")
            need(bool(self.space), "an embedder names its vector space")
            need(
                self.threshold is not None and self.threshold.kind == "cosine",
                "an embedder has a cosine threshold",
            )
        if self.kind == "classifier":
            need(len(self.labels) >= 2, "a classifier names at least two labels")
            need(
                self.template in TEMPLATES or self.template == "image",
                f"template is one of {tuple(TEMPLATES)} or 'image', not {self.template!r}",
            )
            need(
                self.threshold is not None and self.threshold.kind == "probability",
                "a classifier has a probability threshold",
            )
        if self.kind == "detector":
            need(self.decoder in DECODERS, f"decoder is one of {DECODERS}, not {self.decoder!r}")

    def to_json(self) -> str:
        facts = asdict(self)
        if not self.mirror:  # a card that says nothing new stays the same text, and its file the same hash
            del facts["mirror"]
        return json.dumps({"schema": SCHEMA, **facts}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises:
            ModelInvalid: not a card, or a card whose statements contradict each other.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
            raise ModelInvalid(f"the model card is not JSON ({_short(error)}); export the model again") from error
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise ModelInvalid(f"the model card is not of schema {SCHEMA}; export the model again")
        known = {f.name for f in fields(cls)}
        if unknown := set(data) - known:
            raise ModelInvalid(f"the model card has unknown entries {_short(sorted(unknown))}; update facecam")
        try:
            for key in ("size", "mean", "std", "outputs", "labels"):
                if key in data:
                    data[key] = tuple(data[key])
            if data.get("threshold") is not None:
                data["threshold"] = Threshold(**data["threshold"])
            _check_types(data)
            return cls(**data)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelInvalid(f"the model card is wrong: {_short(error)}; export the model again") from error


def _short(what: object) -> str:
    """For a message: a card is untrusted input, and may hold megabytes and control characters."""
    text = ascii(str(what))[1:-1]
    return text if len(text) <= 300 else text[:297] + "..."


def _check_types(data: Mapping[str, Any]) -> None:
    """Refuse values of a wrong type before they reach arithmetic (a card is untrusted input)."""
    for key in ("name", "kind", "input", "colour", "licence", "source"):
        if not isinstance(data.get(key), str):
            raise TypeError(f"{key} is a text, not {data.get(key)!r}")
    for key in ("template", "landmarks", "decoder", "space"):
        if not isinstance(data.get(key), str | None):
            raise TypeError(f"{key} is a text or null")
    for key, kind in (
        ("size", int),
        ("mean", int | float),
        ("std", int | float),
        ("outputs", str),
        ("labels", str),
    ):
        if not all(isinstance(v, kind) and not isinstance(v, bool) for v in data.get(key, ())):
            raise TypeError(f"{key} holds a value of a wrong type")
    if not isinstance(data.get("dim", 0), int):
        raise TypeError("dim is a whole number")
    if not isinstance(data.get("mirror", False), bool):
        raise TypeError("mirror is true or false")
    if not isinstance(data.get("training", {}), dict):
        raise TypeError("training is a table")
    level = [data.get("training", {})]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise TypeError(f"training is nested more than {MAX_DEPTH} deep")


def vector_space(
    weights: bytes,
    *,
    colour: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    template: str,
    mirror: bool,
) -> str:
    """Name a vector space: a hash of the fp32 source weights, preprocessing, template and mirror policy.

    Args:
        weights: the source weights' bytes (the file that everything else is derived from).
        mirror: whether a vector is the mean of the crop and its mirror image.

    Returns:
        16 hex digits. An int8 or fp16 file inherits the name after passing parity.
    """
    facts = json.dumps([colour, list(mean), list(std), template, mirror])
    return hashlib.sha256(hashlib.sha256(weights).digest() + facts.encode()).hexdigest()[:16]
