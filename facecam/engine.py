"""Opens a model pack on a device and hands out the stages that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facecam.errors import ModelInvalid, UsageFault
from facecam.people.calibrate import CEILING, Calibration, ImpostorCurve, threshold_for
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Embeds, LandmarkFinder, Likeness, Matches, Recogniser
from facecam.settings import Settings, home
from facecam.values import Face, Image
from facecam.vision.classify import Classifier, LabelMatcher
from facecam.vision.detect import Detector, MmodDetector
from facecam.vision.embed import Embedder
from facecam.vision.landmarks import Landmarker
from facecam.zoo import registry
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, Model, choose_device, load

#: Two answers of a classifier about one face have at least this in common.
CLASSIFIER_LIKENESS = Likeness(0.3, 0.95)


class _Given:
    """Landmarks that came with the detection."""

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        return list(faces)


@dataclass(frozen=True, slots=True)
class Engine:
    """The loaded models of a pack.

    Attributes:
        pack: its name; device: where the sessions really run; models: role -> name and hash, for headers.
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

    @property
    def enrols(self) -> bool:
        """Whether people are enrolled: not with a classifier, which brings its names along."""
        return not isinstance(self.embedder, Classifier)

    def recogniser(self, matcher: Matches) -> Recogniser:
        """The pipeline for one source."""
        if isinstance(self.embedder, Classifier):
            likeness = CLASSIFIER_LIKENESS
        else:
            likeness = Likeness(self.threshold - 0.08, min(0.99, self.threshold + 0.007))
        return Recogniser(self.detector, self.landmarker, self.embedder, matcher, self.settings, likeness)

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
        return UnknownBook(gallery, self.embedder.space, self.threshold, note=note)


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
    parts = {
        role: load(file.path, device=device, threads=settings.threads, card=file.card)
        for role, file in (
            ("detector", files.detector),
            ("landmarks", files.landmarks),
            ("embedder", files.embedder),
        )
        if file is not None
    }
    detector = _detector(parts["detector"])
    landmarker: LandmarkFinder = Landmarker(parts["landmarks"]) if "landmarks" in parts else _Given()
    recognises = parts["embedder"]
    embedder: Embeds = Classifier(recognises) if recognises.card.kind == "classifier" else Embedder(recognises)
    card = parts["embedder"].card
    if card.threshold is None:
        raise ModelInvalid(f"{card.name} states no threshold; export it again with python -m export")
    entry = registry.models().get(files.embedder.id)
    curve = ImpostorCurve.from_json(entry.impostor) if entry is not None and entry.impostor else None
    models = {
        role: {"name": file.card.name, "sha256": file.sha256}
        for role, file in (
            ("detector", files.detector),
            ("landmarks", files.landmarks),
            ("embedder", files.embedder),
        )
        if file is not None
    }
    return Engine(files.name, device, detector, landmarker, embedder, models, card.threshold.value, curve, settings)


def _detector(model: Model) -> Detector:
    if model.card.decoder == "yunet":
        from facecam.vision.yunet import YuNetDetector

        return YuNetDetector(model)
    return MmodDetector(model)
