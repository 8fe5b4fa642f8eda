"""After a change of the model: everybody's vectors anew, from the crops that the gallery keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from facecam.people import carry
from facecam.people.gallery import Gallery
from facecam.people.images import image_size
from facecam.people.incoming import CROP_SIDE_MAX
from facecam.values import Face, Image
from facecam.vision.embed import Embeds
from facecam.vision.still import embed_stills, still_crops

#: Samples whose vectors are written in one change: what a kill can cost, a second or so of work.
BATCH: Final = 16
#: Weight of a kept picture in an unknown person's template: that of one good look.
_WEIGHT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Carried:
    """What carrying a gallery over did.

    Attributes:
        samples, strangers: how many got a vector in the embedder's space.
        unreadable: samples and unknown people whose crop cannot be decoded.
        left: what still lacks a vector there.
    """

    samples: int
    strangers: int
    unreadable: int
    left: carry.Lack


def reembed(
    gallery: Gallery, embedder: Embeds, progress: Callable[[int, int], None] = lambda done, total: None
) -> Carried:
    """Give everything with a crop a vector in the embedder's space. What was there before stays.

    It can be stopped and started again at any time: each `BATCH` of samples is one change.

    Args:
        progress: told (done, total).

    Raises:
        GalleryError, OutputError: the gallery cannot be read or written.
    """
    todo = carry.lacking(gallery, embedder.space)
    total, done = len(todo.samples) + len(todo.strangers), 0
    samples = strangers = unreadable = 0
    for start in range(0, len(todo.samples), BATCH):
        batch = todo.samples[start : start + BATCH]
        found = [(sample, _views(carry.crop_of(gallery, sample), embedder.template)) for sample in batch]
        usable = [(sample, views) for sample, views in found if views is not None]
        unreadable += len(found) - len(usable)
        vectors = embed_stills(embedder, [views for _, views in usable])
        pairs = [(sample, vector) for (sample, _), vector in zip(usable, vectors, strict=True)]
        samples += carry.add_vectors(gallery, embedder.space, pairs)
        done += len(batch)
        progress(done, total)
    for number in todo.strangers:
        views = _views(carry.crop_of_stranger(gallery, number), embedder.template)
        if views is None:
            unreadable += 1
        else:
            vector = embed_stills(embedder, [views])[0]
            strangers += carry.add_stranger_vector(gallery, embedder.space, number, vector, _WEIGHT)
        done += 1
        progress(done, total)
    return Carried(samples, strangers, unreadable, carry.lacking(gallery, embedder.space))


def _views(crop: carry.Crop | None, template: str) -> list[Image] | None:
    """The crops that the embedder eats, BGR uint8; None when the picture is gone or cannot be decoded."""
    if crop is None:
        return None
    size = image_size(crop.image)
    if size is None or not all(1 <= side <= CROP_SIDE_MAX for side in size):
        return None
    image = cv2.imdecode(np.frombuffer(crop.image, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = image.shape[:2]
    face = Face((0.0, 0.0, float(width), float(height)), 1.0, landmarks=crop.landmarks, scheme=crop.scheme)
    return still_crops(np.asarray(image, np.uint8), face, template)
