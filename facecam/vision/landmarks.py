"""Five points for the faces of a detector that gives boxes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from facecam.values import Face, Image
from facecam.zoo.session import Model


class Landmarker:
    """Runs a landmark model over all the faces of a frame at once."""

    def __init__(self, model: Model) -> None:
        if model.card.kind != "landmarks" or model.card.landmarks is None:
            raise ValueError(f"{model.card.name} is a {model.card.kind}, not a landmark model")
        self.model = model
        self.scheme: str = model.card.landmarks

    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """The same faces with landmarks; those that have some already are kept as they are.

        Args:
            image: BGR uint8, H x W x 3, the frame that the boxes belong to.
        """
        bare = [face for face in faces if face.landmarks is None]
        if not bare:
            return list(faces)
        boxes = np.array([face.box for face in bare], np.float32)
        points = self.model.run({"image": np.ascontiguousarray(image), "boxes": boxes})[0]
        found = iter(points)
        return [
            face if face.landmarks is not None else replace(face, landmarks=next(found), scheme=self.scheme)
            for face in faces
        ]
