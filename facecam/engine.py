"""Opens a model pack on a device and hands out the stages that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from facecam.errors import ModelInvalid, UsageFault
from facecam.evidence import Likeness, Matches
from facecam.people.calibrate import CEILING, Calibration, ImpostorCurve, threshold_for
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Embeds, LandmarkFinder, Recogniser
from facecam.settings import Settings, home
from facecam.values import Face, Image
from facecam.vision.classify import Classifier, LabelMatcher
from facecam.vision.detect import Detector, MmodDetector
from facecam.vision.embed import Embedder
from facecam.vision.landmarks import Landmarker
from facecam.vision.scout import Scout
from facecam.zoo import int8, registry
from facecam.zoo.packs import INT8, Zoo
from facecam.zoo.scout import SHA256 as SCOUT_SHA256
from facecam.zoo.scout import open_scout
from facecam.zoo.session import Device, Model, choose_device, cpu_threads, load, open_later, spread

#: Two answers of a classifier about one face have at least this in common.
CLASSIFIER_LIKENESS = Likeness(0.3, 0.95, 0.3)
#: How far below and above its threshold dlib's embedder doubts and takes back a face (pipeline.Likeness), and the
#: spread of its impostor curve. Another embedder's distances are as many of its own spreads: models/dlib-pairs.onnx
#: then doubts one of 2,410 pairs of photos of one person (nobody trained on; dlib's none), and takes back 0.002 % of
#: the pairs of two people (dlib's 0.026 %).
DOUBT_BELOW, DENIAL_BELOW, RETURN_ABOVE, DLIB_SPREAD = 0.08, 0.028, 0.007, 0.0463


class _Given:
    """Landmarks that came with the detection."""

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        return list(faces)


@dataclass(frozen=True, slots=True)
class Engine:
    """The loaded models of a pack.

    Attributes:
        pack: its name; device: where the sessions really run; models: role -> name and hash, for headers.
        detector, embedder: for stills, always in float32. video_detector, video_embedder: for the frames of videos and
            cameras; in 8-bit integers where that was chosen, else the same two.
        precision: "int8" or "fp32": of these.
        quick: the models of these that are loaded at their first use.
        threshold: cosine similarity that says "the same person" of two pictures: the embedder's own default.
        curve: how often strangers reach a similarity, where that was measured.
    """

    pack: str
    device: Device
    detector: Detector
    landmarker: LandmarkFinder
    embedder: Embeds
    models: dict[str, dict[str, str | None]]
    threshold: float
    curve: ImpostorCurve | None
    settings: Settings
    video_detector: Detector
    video_embedder: Embeds
    precision: str
    quick: tuple[Model, ...] = ()

    def prepare(self) -> None:
        """Load what videos need now, side by side, and not when their first frames wait."""
        spread(lambda model: model.ready(), self.quick, len(self.quick))

    @property
    def enrols(self) -> bool:
        """Whether people are enrolled: not with a classifier, which brings its names along."""
        return not isinstance(self.embedder, Classifier)

    @property
    def likeness(self) -> Likeness:
        """What vectors of one face have in common."""
        if isinstance(self.embedder, Classifier):
            return CLASSIFIER_LIKENESS
        scale = self.curve.spread / DLIB_SPREAD if self.curve is not None and self.curve.spread else 1.0
        return Likeness(
            self.threshold - DOUBT_BELOW * scale,
            min(0.99, self.threshold + RETURN_ABOVE * scale),
            self.threshold - DENIAL_BELOW * scale,
        )

    def recogniser(self, matcher: Matches) -> Recogniser:
        """The pipeline for one source."""
        return Recogniser(
            self.video_detector, self.landmarker, self.video_embedder, matcher, self.settings, self.likeness
        )

    def threshold_for(self, samples: Sequence[int], calibration: Calibration | None = None) -> float:
        """The threshold for a gallery: as set by the user, else by the stated risk, else the embedder's own.

        Args:
            samples: number of samples of each enrolled person.
            calibration: what ``facecam calibrate`` measured with the user's own data.
        """
        if self.settings.threshold is not None:
            return self.settings.threshold
        if self.curve is None:
            return self.threshold
        chosen = threshold_for(self.curve, samples, self.settings.max_false_names)
        return round(min(CEILING, chosen + (calibration.shift if calibration is not None else 0.0)), 4)

    def matcher(self, gallery: Gallery | None) -> Matches:
        """Who can be named: a classifier's labels, else the gallery's people."""
        if isinstance(self.embedder, Classifier):
            chosen = self.settings.threshold
            return LabelMatcher(self.embedder.labels, self.threshold if chosen is None else chosen)
        return self.gallery_matcher(gallery)

    def gallery_matcher(self, gallery: Gallery | None) -> Matcher:
        """A matcher over the gallery's people in this engine's vector space, with the threshold for just these people.

        Raises:
            GalleryOfAnotherModel: somebody has no sample in this embedder's space and would be a stranger.
        """
        if gallery is None:
            return nobody(self.embedder.dim, self.threshold)
        gallery.check_space(self.embedder.space)
        templates = gallery.templates(self.embedder.space)
        if not len(templates.vectors):
            return nobody(self.embedder.dim, self.threshold)
        calibration = Calibration.of(gallery, self.embedder.space)
        counts = np.bincount(templates.owner, minlength=len(templates.names))
        return Matcher(
            templates.names,
            templates.owner,
            templates.vectors,
            threshold=self.threshold_for([int(c) for c in counts if c], calibration),
            offsets=calibration.offsets if calibration is not None and self.settings.threshold is None else None,
            negatives=gallery.negatives(self.embedder.space).indexed(templates.names),
        )

    def book(self, gallery: Gallery | None, note: Callable[[str], None]) -> UnknownBook | None:
        """The book of unknown people for one command; the gallery stays open as long as it is used.

        None for a classifier, whose answers do not tell two strangers apart.

        Args:
            note: told, in a line, when unknown people can no longer be written.
        """
        if isinstance(self.embedder, Classifier):
            return None
        return UnknownBook(
            gallery, self.embedder.space, self.threshold, note=note, forget_after=self.settings.forget_unknown_after
        )


def nobody(dim: int, threshold: float) -> Matcher:
    """A matcher that knows no one."""
    return Matcher((), np.zeros(0, np.int32), np.zeros((0, dim), np.float32), threshold=threshold)


def open_engine(settings: Settings) -> Engine:
    """Load the pack in use (or the one that the settings name) on the device that the settings allow.

    Raises:
        ModelError: a model is missing or wrong. DeviceUnavailable: ``cuda`` was asked for in vain.
    """
    zoo = Zoo(home())
    files = zoo.ensure(settings.pack)
    if settings.model is not None:
        own = zoo.model(settings.model)
        if own.card.kind not in ("embedder", "classifier"):
            raise UsageFault(f"--model takes an embedder or a classifier; {settings.model} is a {own.card.kind}")
        files = replace(files, embedder=own)
    device = choose_device(settings.device)
    quick = {}
    if chosen_precision(settings.precision, device) == "int8":
        quick = {file.id: zoo.model(file.id, "int8") for file in (files.detector, files.embedder) if file.id in INT8}
    parts: dict[str, Model] = {}
    videos: dict[str, Model] = {}
    for role, file in (("detector", files.detector), ("landmarks", files.landmarks), ("embedder", files.embedder)):
        if file is None:
            continue
        # A model with an int8 twin is opened when first used: a video needs the one, photos need the other.
        open_it = open_later if file.id in quick else load
        # The landmark trees are many small steps: a second thread costs more than it brings.
        threads = 1 if role == "landmarks" else settings.threads
        parts[role] = open_it(file.path, device=device, threads=threads, card=file.card)
        if file.id in quick:
            twin = quick[file.id]
            videos[role] = open_later(twin.path, device=device, threads=settings.threads, card=twin.card)
    detector = _detector(parts["detector"])
    landmarker: LandmarkFinder = (
        Landmarker(parts["landmarks"], cpu_threads(settings.threads)) if "landmarks" in parts else _Given()
    )
    recognises = parts["embedder"]
    embedder: Embeds = Classifier(recognises) if recognises.card.kind == "classifier" else Embedder(recognises)
    card = parts["embedder"].card
    if card.threshold is None:
        raise ModelInvalid(f"{card.name} states no threshold; export it again with python -m export")
    entry = registry.models().get(files.embedder.id)
    known = entry.impostor if entry is not None else None
    curve = _curve(known or card.training.get("impostor"), card.name)
    models: dict[str, dict[str, str | None]] = {
        role: {"name": file.card.name, "sha256": file.sha256, **({"precision": "int8"} if file.id in quick else {})}
        for role, file in (
            ("detector", files.detector),
            ("landmarks", files.landmarks),
            ("embedder", files.embedder),
        )
        if file is not None
    }
    scout = open_scout(device) if files.detector.card.decoder == "mmod" else None
    if scout is not None:
        models["scout"] = {"name": scout.card.name, "sha256": SCOUT_SHA256}
    return Engine(
        files.name, device, detector, landmarker, embedder, models, card.threshold.value, curve, settings,
        _detector(videos.get("detector", parts["detector"]), scout),
        Embedder(videos["embedder"]) if "embedder" in videos else embedder,
        "int8" if videos else "fp32",
        tuple(videos.values()),
    )  # fmt: skip


def chosen_precision(wanted: str, device: Device) -> str:
    """What videos are computed in: "int8" or "fp32".

    Raises:
        UsageFault: int8 was asked for on a GPU.
    """
    if wanted == "int8" and device.name != "cpu":
        raise UsageFault("--precision int8 is for CPUs; add --device cpu, or leave it at auto")
    if wanted == "auto":
        return "int8" if device.name == "cpu" and int8.usable() else "fp32"
    return wanted


def _curve(table: Any, name: str) -> ImpostorCurve | None:
    """The impostor curve of a known embedder, or the one that python -m export wrote into an added one's card."""
    if not table:
        return None
    try:
        return ImpostorCurve.from_json(table)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"{name}: the impostor curve in its card is damaged ({error}); export the model again"
        ) from error


def _detector(model: Model, scout: Model | None = None) -> Detector:
    if model.card.decoder == "yunet":
        from facecam.vision.yunet import YuNetDetector

        return YuNetDetector(model)
    return MmodDetector(model, Scout(scout) if scout is not None else None)
