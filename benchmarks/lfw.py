"""Vectors of the people of lfw_dev, made once by the pack in use and kept in .cache/."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from facecam.cli.progress import bar
from facecam.engine import Engine, open_engine
from facecam.settings import Settings
from facecam.video.cv import import_cv2

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """``FACECAM_TEST_DATA``, or shared/data beside the checkout."""
    return Path(os.environ.get("FACECAM_TEST_DATA", ROOT.parent / "shared" / "data"))


def half(name: str) -> int:
    """0: people that curves are measured on; 1: people that promises are tested on. By name, for good."""
    return hashlib.sha256(name.encode()).digest()[-1] % 2


def trained_on(engine: Engine) -> set[str]:
    """People of lfw_dev whom the embedder was trained on: no figure may be of them."""
    split = engine.embedder.model.card.training.get("split")  # type: ignore[attr-defined]
    return set(json.loads((ROOT / "train" / "splits" / f"{split}.json").read_text())["train"]) if split else set()


def vectors(engine: Engine | None = None) -> dict[str, np.ndarray]:
    """Person -> float32, photos x dim: one vector (vision.still) of the central face of each photo.

    Without the people whom the embedder in use was trained on.
    """
    engine = engine or open_engine(Settings(device="cpu"))
    left_out = trained_on(engine)
    return {name: rows for name, rows in _everybody(engine).items() if name not in left_out}


def _everybody(engine: Engine) -> dict[str, np.ndarray]:
    from facecam.video.photos import read_photo
    from facecam.vision.landmarks import locate_steadily
    from facecam.vision.still import embed_stills, still_crops

    import_cv2()
    cache = ROOT / ".cache" / f"lfw-stills-{engine.embedder.space}-{engine.pack}.npz"
    if cache.exists():
        with np.load(cache) as stored:
            return {name: stored[name] for name in stored.files}
    files = sorted((data_folder() / "lfw_dev" / "images").glob("*/*.jpg"))
    people: dict[str, list[np.ndarray]] = defaultdict(list)
    waiting: list[tuple[str, list[np.ndarray]]] = []

    def flush() -> None:
        if waiting:
            for (name, _), vector in zip(waiting, embed_stills(engine.embedder, [c for _, c in waiting])):
                people[name].append(vector)
            waiting.clear()

    with bar("lfw_dev", "photos") as progress:
        for number, path in enumerate(files, 1):
            image = read_photo(path)
            faces = engine.detector.detect(image, 40)
            if faces:
                middle = np.array([image.shape[1], image.shape[0]]) / 2
                face = min(faces, key=lambda f: float(np.linalg.norm(np.array(f.centre) - middle)) - f.size / 2)
                face = locate_steadily(engine.landmarker, image, [face])[0]
                waiting.append((path.parent.name, still_crops(image, face, engine.embedder.template)))
            if len(waiting) == 16:
                flush()
            progress(number, len(files))
        flush()
    result = {name: np.stack(rows) for name, rows in people.items()}
    cache.parent.mkdir(exist_ok=True)
    np.savez(cache, **result)
    return result
