"""Opens a model pack on a device and hands out the stages that are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facecam.errors import ModelInvalid
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher
from facecam.pipeline import LandmarkFinder, Recogniser
from facecam.settings import Settings, home
from facecam.values import Face, Image
from facecam.vision.detect import Detector, MmodDetector
from facecam.vision.embed import Embedder
from facecam.vision.landmarks import Landmarker
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, Model, choose_device, load


class _Given:
    """Landmarks that came with the detection."""

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        return list(faces)


@dataclass(frozen=True, slots=True)
class Engine:
    """The loaded models of a pack.

    Attributes:
        pack: its name; device: where the sessions really run; models: role -> name and hash, for headers.
        threshold: cosine similarity from which a face gets a name, of the settings or else of the embedder.
    """

    pack: str
    device: Device
    detector: Detector
    landmarker: LandmarkFinder
    embedder: Embedder
    models: dict[str, dict[str, str | None]]
    threshold: float
    settings: Settings

    def recogniser(self, matcher: Matcher) -> Recogniser:
        """The pipeline for one source."""
        return Recogniser(self.detector, self.landmarker, self.embedder, matcher, self.settings)

    def matcher(self, gallery: Gallery | None) -> Matcher:
        """A matcher over the gallery's people in this engine's vector space.

        Raises:
            GalleryOfAnotherModel: the gallery has people, but none of this embedder's space.
        """
        if gallery is None:
            return nobody(self.embedder.dim, self.threshold)
        gallery.check_space(self.embedder.space)
        templates = gallery.templates(self.embedder.space)
        if not len(templates.vectors):
            return nobody(self.embedder.dim, self.threshold)
        return Matcher(templates.names, templates.owner, templates.vectors, threshold=self.threshold)


def nobody(dim: int, threshold: float) -> Matcher:
    """A matcher that knows no one."""
    import numpy as np

    return Matcher((), np.zeros(0, np.int32), np.zeros((0, dim), np.float32), threshold=threshold)


def open_engine(settings: Settings) -> Engine:
    """Load the pack in use (or the one that the settings name) on the device that the settings allow.

    Raises:
        ModelError: a model is missing or wrong. DeviceUnavailable: ``cuda`` was asked for in vain.
    """
    files = Zoo(home()).ensure(settings.pack)
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
    embedder = Embedder(parts["embedder"])
    card = parts["embedder"].card
    if settings.threshold is not None:
        threshold = settings.threshold
    elif card.threshold is not None:
        threshold = card.threshold.value
    else:
        raise ModelInvalid(f"{card.name} states no threshold; give --threshold")
    models = {
        role: {"name": file.card.name, "sha256": file.sha256}
        for role, file in (
            ("detector", files.detector),
            ("landmarks", files.landmarks),
            ("embedder", files.embedder),
        )
        if file is not None
    }
    return Engine(files.name, device, detector, landmarker, embedder, models, threshold, settings)


def _detector(model: Model) -> Detector:
    if model.card.decoder == "yunet":
        from facecam.vision.yunet import YuNetDetector

        return YuNetDetector(model)
    return MmodDetector(model)
